//! The principals to which a statement applies. Pages named in comments are under
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/>.

use super::evaluate::{Is, REPOSITORY, kind, policy, request};
use crate::policy::evaluate::{Policies, Verdict, evaluate};
use rstest::rstest;

const ALLOW: &str = r#""Effect":"Allow","Action":"*","Resource":"*""#;

fn decide(asks: &str, statements: &[&str], forget_id: bool) -> Verdict {
    let policies = Policies {
        identity: policy("identity", &[ALLOW]),
        boundary: None,
        resource: policy("repository", statements),
    };
    let mut request = request(asks, "ecr:BatchGetImage", REPOSITORY);
    request.principal.unique_id = request.principal.unique_id.filter(|_| !forget_id);
    evaluate(&request, &policies)
}

#[rstest]
#[case::everybody("role 2", r#""*""#, Is::Allowed)] // reference_policies_elements_principal.html#principal-anonymous
#[case::everybody_of_aws("role 2", r#"{"AWS":"*"}"#, Is::Allowed)] // reference_policies_elements_principal.html#principal-anonymous
#[case::everybody_in_a_list("user 3", r#"{"AWS":["111111111111","*"]}"#, Is::Allowed)] // reference_policies_elements_principal.html
#[case::an_account_by_number("role 2", r#"{"AWS":"222222222222"}"#, Is::Allowed)] // reference_policies_elements_principal.html#principal-accounts
#[case::an_account_by_root("user 2", r#"{"AWS":"arn:aws:iam::222222222222:root"}"#, Is::Allowed)] // reference_policies_elements_principal.html#principal-accounts
#[case::an_account_of_another_partition(
    "role 2",
    r#"{"AWS":"arn:aws-cn:iam::222222222222:root"}"#,
    Is::Denied
)] // reference-arns.html
#[case::a_role(
    "role 2",
    r#"{"AWS":"arn:aws:iam::222222222222:role/team/ci"}"#,
    Is::Allowed
)] // reference_policies_elements_principal.html#principal-roles
#[case::a_role_in_other_letters(
    "role 2",
    r#"{"AWS":"arn:aws:iam::222222222222:role/team/CI"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html#principal-roles
#[case::no_part_of_a_name_is_any(
    "role 2",
    r#"{"AWS":"arn:aws:iam::222222222222:role/*"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html
#[case::a_user(
    "user 2",
    r#"{"AWS":"arn:aws:iam::222222222222:user/alice"}"#,
    Is::Allowed
)] // reference_policies_elements_principal.html#principal-users
#[case::a_users_name_is_no_roles(
    "role 2",
    r#"{"AWS":"arn:aws:iam::222222222222:user/team/ci"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html#principal-users
#[case::a_roles_id("role 2", r#"{"AWS":"AROAEXAMPLEEXAMPLE00"}"#, Is::Allowed)] // reference_identifiers.html#identifiers-unique-ids
#[case::a_deleted_roles_id("role 2", r#"{"AWS":"AROADELETEDDELETED00"}"#, Is::Denied)] // reference_policies_elements_principal.html#principal-roles
#[case::a_users_id_is_no_roles("role 2", r#"{"AWS":"AIDAEXAMPLEEXAMPLE00"}"#, Is::Denied)] // reference_identifiers.html#identifiers-unique-ids
#[case::a_users_id("user 2", r#"{"AWS":"AIDAEXAMPLEEXAMPLE00"}"#, Is::Allowed)] // reference_identifiers.html#identifiers-unique-ids
#[case::a_session(
    "role 2",
    r#"{"AWS":"arn:aws:sts::222222222222:assumed-role/ci/monday"}"#,
    Is::Depends
)] // reference_policies_elements_principal.html#principal-role-session
#[case::another_roles_session(
    "role 2",
    r#"{"AWS":"arn:aws:sts::222222222222:assumed-role/cd/monday"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html#principal-role-session
#[case::users_have_no_sessions(
    "user 2",
    r#"{"AWS":"arn:aws:sts::222222222222:assumed-role/alice/x"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html#principal-role-session
#[case::who_is_federated(
    "role 2",
    r#"{"Federated":"cognito-identity.amazonaws.com"}"#,
    Is::Denied
)] // reference_policies_elements_principal.html#principal-federated-web-identity
#[case::a_canonical_user("user 2", r#"{"CanonicalUser":"79a59df900b949e5"}"#, Is::Denied)] // reference_policies_elements_principal.html#principal-accounts
#[case::a_service_beside_an_account(
    "role 2",
    r#"{"Service":"ec2.amazonaws.com","AWS":"222222222222"}"#,
    Is::Allowed
)] // reference_policies_elements_principal.html
#[case::a_role_is_no_service("role 2", r#"{"Service":"ec2.amazonaws.com"}"#, Is::Denied)] // reference_policies_elements_principal.html#principal-services
#[case::services_in_a_list(
    "ec2.amazonaws.com",
    r#"{"Service":["ecs.amazonaws.com","ec2.amazonaws.com"]}"#,
    Is::Allowed
)] // reference_policies_elements_principal.html#principal-services
#[case::of_no_documented_shape("role 2", r#""222222222222""#, Is::Unknown)] // reference_policies_elements_principal.html
#[case::of_an_unknown_kind("role 2", r#"{"Robot":"r2"}"#, Is::Unknown)] // reference_policies_elements_principal.html
fn principal_is_named_as_documented(#[case] asks: &str, #[case] names: &str, #[case] expected: Is) {
    let verdict = decide(
        asks,
        &[&format!(
            r#""Effect":"Allow","Action":"*","Principal":{names}"#
        )],
        false,
    );
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

// AWS stores none of these. They are read as leniently as ever.
#[rstest]
#[case::empty("", Is::Denied)]
#[case::five_components("arn:aws:iam::222222222222", Is::Denied)]
#[case::no_account("arn:aws:iam:::root", Is::Denied)]
#[case::with_a_region("arn:aws:iam:us-east-1:222222222222:root", Is::Allowed)]
#[case::another_first_component("ARN:aws:iam::222222222222:root", Is::Allowed)]
#[case::seven_components("arn:aws:iam::222222222222:root:x", Is::Denied)]
#[case::root_of_sts("arn:aws:sts::222222222222:root", Is::Denied)]
#[case::a_longer_number("2222222222220", Is::Denied)]
#[case::spaces(" 222222222222", Is::Denied)]
fn principal_malformed_is_matched_leniently(#[case] name: &str, #[case] expected: Is) {
    let statement = format!(r#""Effect":"Allow","Action":"*","Principal":{{"AWS":"{name}"}}"#);
    let verdict = decide("role 2", &[&statement], false);
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

// reference_identifiers.html#identifiers-unique-ids
#[test]
fn verdict_depends_on_the_unique_id_where_it_is_unknown() {
    let verdict = decide(
        "role 2",
        &[r#""Effect":"Allow","Action":"*","Principal":{"AWS":"AROAEXAMPLEEXAMPLE00"}"#],
        true,
    );
    assert_eq!(
        verdict,
        Verdict::Depends(["the principal's unique ID".to_owned()].into())
    );
}

#[rstest]
#[case::who_is_not_listed("role 2", r#"{"AWS":"arn:aws:iam::333333333333:root"}"#, Is::Denied)]
#[case::a_user_with_the_account(
    "user 2",
    r#"{"AWS":["arn:aws:iam::222222222222:user/alice","arn:aws:iam::222222222222:root"]}"#,
    Is::Allowed
)]
#[case::a_user_without_the_account(
    "user 2",
    r#"{"AWS":"arn:aws:iam::222222222222:user/alice"}"#,
    Is::Unknown
)]
#[case::a_users_account_alone("user 2", r#"{"AWS":"222222222222"}"#, Is::Denied)]
#[case::a_role_with_its_session(
    "role 2",
    r#"{"AWS":["222222222222","arn:aws:iam::222222222222:role/team/ci","arn:aws:sts::222222222222:assumed-role/ci/s"]}"#,
    Is::Unknown
)]
#[case::a_service("ec2.amazonaws.com", r#"{"Service":"ec2.amazonaws.com"}"#, Is::Allowed)]
#[case::another_service("ec2.amazonaws.com", r#"{"Service":"ecs.amazonaws.com"}"#, Is::Denied)]
fn not_principal_deny_applies_to_all_others(
    #[case] asks: &str,
    #[case] names: &str,
    #[case] expected: Is,
) {
    // reference_policies_elements_notprincipal.html
    let allow = r#""Effect":"Allow","Action":"*","Principal":"*""#;
    let deny = format!(r#""Effect":"Deny","Action":"*","NotPrincipal":{names}"#);
    let verdict = decide(asks, &[allow, &deny], false);
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

// reference_policies_elements_notprincipal.html
#[test]
fn not_principal_deny_applies_to_principals_with_a_boundary() {
    let names = r#"{"AWS":["arn:aws:iam::222222222222:user/alice","222222222222"]}"#;
    let policies = Policies {
        identity: policy("identity", &[ALLOW]),
        boundary: policy("boundary", &[ALLOW]).pop(),
        resource: policy(
            "repository",
            &[
                r#""Effect":"Allow","Action":"*","Principal":"*""#,
                &format!(r#""Effect":"Deny","Action":"*","NotPrincipal":{names}"#),
            ],
        ),
    };
    assert_eq!(
        kind(&evaluate(
            &request("user 2", "ecr:BatchGetImage", REPOSITORY),
            &policies
        )),
        Is::Denied
    );
}
