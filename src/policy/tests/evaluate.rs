//! Which policies must allow, and the report if an allow is missing. Pages named in comments are
//! under
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/>.

use crate::policy::Document;
use crate::policy::evaluate::*;
use rstest::rstest;
use std::sync::Arc;

pub const REPOSITORY: &str = "arn:aws:ecr:eu-west-1:111111111111:repository/web";
pub const TARGET: &str = "arn:aws:iam::111111111111:role/target";

/// The kind of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Is {
    Allowed,
    Denied,
    Depends,
    Unknown,
}

pub fn kind(verdict: &Verdict) -> Is {
    match verdict {
        Verdict::Allowed => Is::Allowed,
        Verdict::Denied(_) => Is::Denied,
        Verdict::Depends(_) => Is::Depends,
        Verdict::Unknown(_) => Is::Unknown,
    }
}

/// Creates a principal from a short text: `role 1`, `user 2`, `root 2`, or a service's name.
pub fn principal(text: &str) -> Principal {
    let Some((kind, account)) = text.split_once(' ') else {
        return Principal::service(text);
    };
    let account = account.repeat(12);
    let (kind, name, id) = match kind {
        "role" => (
            PrincipalKind::Role,
            "role/team/ci",
            Some("AROAEXAMPLEEXAMPLE00".to_owned()),
        ),
        "user" => (
            PrincipalKind::User,
            "user/alice",
            Some("AIDAEXAMPLEEXAMPLE00".to_owned()),
        ),
        _ => (PrincipalKind::Root, "root", None),
    };
    Principal {
        arn: format!("arn:aws:iam::{account}:{name}"),
        kind,
        account: Some(account),
        unique_id: id,
    }
}

pub fn request(asks: &str, action: &str, resource: &str) -> Request {
    Request {
        principal: principal(asks),
        action: action.into(),
        resource: resource.into(),
        resource_account: "1".repeat(12),
        context: RequestContext::default().closed(),
    }
}

pub fn named(name: &str, text: &str) -> Named {
    Named {
        name: name.into(),
        document: Document::parse(text)
            .map(Arc::new)
            .map_err(|error| error.to_string()),
    }
}

/// Creates a policy from statements without their braces; no policy if all of them are empty.
pub fn policy(name: &str, statements: &[&str]) -> Vec<Named> {
    let statements: Vec<String> = statements
        .iter()
        .filter(|s| !s.is_empty())
        .map(|s| format!("{{{s}}}"))
        .collect();
    match statements.is_empty() {
        true => Vec::new(),
        false => {
            vec![named(
                name,
                &format!(
                    r#"{{"Version":"2012-10-17","Statement":[{}]}}"#,
                    statements.join(",")
                ),
            )]
        }
    }
}

const ALLOW: &str = r#""Effect":"Allow","Action":"*","Resource":"*""#;
const DENY: &str = r#""Effect":"Deny","Action":"*","Resource":"*""#;
const OTHER: &str = r#""Effect":"Allow","Action":"s3:*","Resource":"*""#;
const TO_ALL: &str = r#""Effect":"Allow","Action":"*","Principal":"*""#;
const TO_ROLE_1: &str =
    r#""Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::111111111111:role/team/ci"}"#;
const TO_USER_1: &str =
    r#""Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::111111111111:user/alice"}"#;
const TO_1: &str = r#""Effect":"Allow","Action":"*","Principal":{"AWS":"111111111111"}"#;
const TO_ROLE_2: &str =
    r#""Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::222222222222:role/team/ci"}"#;
const TO_2: &str =
    r#""Effect":"Allow","Action":"*","Principal":{"AWS":"arn:aws:iam::222222222222:root"}"#;
const DENY_2: &str = r#""Effect":"Deny","Action":"*","Principal":{"AWS":"222222222222"}"#;
const TO_LAMBDA: &str =
    r#""Effect":"Allow","Action":"*","Principal":{"Service":"lambda.amazonaws.com"}"#;

// The identity's policy, the boundary, and the resource's policy, each with one statement or none.
#[rstest]
#[case::nothing_allows("role 1", "", "", "", Is::Denied)] // reference_policies_evaluation-logic.html
#[case::one_account_by_identity("role 1", ALLOW, "", "", Is::Allowed)] // reference_policies_evaluation-logic_policy-eval-basics.html
#[case::one_account_by_resource("role 1", "", "", TO_ROLE_1, Is::Allowed)] // reference_policies_evaluation-logic_policy-eval-basics.html
#[case::users_likewise("user 1", "", "", TO_USER_1, Is::Allowed)] // reference_policies_evaluation-logic_policy-eval-basics.html
#[case::the_account_delegates_only("role 1", "", "", TO_1, Is::Denied)] // reference_policies_elements_principal.html
#[case::what_is_delegated_the_identity_allows("role 1", ALLOW, "", TO_1, Is::Allowed)] // reference_policies_elements_principal.html
#[case::everybody_is_named_directly("role 1", "", "", TO_ALL, Is::Allowed)] // reference_policies_elements_principal.html#principal-anonymous
#[case::another_account_by_identity_alone("role 2", ALLOW, "", "", Is::Denied)] // reference_policies_evaluation-logic-cross-account.html
#[case::another_account_by_resource_alone("role 2", "", "", TO_ROLE_2, Is::Denied)] // reference_policies_evaluation-logic-cross-account.html
#[case::another_account_by_both("role 2", ALLOW, "", TO_ROLE_2, Is::Allowed)] // reference_policies_evaluation-logic-cross-account.html
#[case::another_account_delegated("role 2", ALLOW, "", TO_2, Is::Allowed)] // reference_policies_evaluation-logic-cross-account.html
#[case::a_third_account("role 3", ALLOW, "", TO_2, Is::Denied)] // reference_policies_evaluation-logic-cross-account.html
#[case::everybody_elsewhere_needs_their_own("role 2", "", "", TO_ALL, Is::Denied)] // reference_policies_evaluation-logic-cross-account.html
#[case::a_deny_in_the_identity_wins("role 1", DENY, "", TO_ROLE_1, Is::Denied)] // reference_policies_evaluation-logic_policy-eval-denyallow.html
#[case::a_deny_in_the_boundary_wins("user 1", "", DENY, TO_USER_1, Is::Denied)] // access_policies_boundaries.html
#[case::a_deny_in_the_resource_wins("role 2", ALLOW, "", DENY_2, Is::Denied)] // reference_policies_evaluation-logic_policy-eval-denyallow.html
#[case::a_boundary_allows_nothing("role 1", "", ALLOW, "", Is::Denied)] // access_policies_boundaries.html
#[case::within_the_boundary("role 1", ALLOW, ALLOW, "", Is::Allowed)] // access_policies_boundaries.html
#[case::beyond_the_boundary("role 1", ALLOW, OTHER, "", Is::Denied)] // access_policies_boundaries.html
#[case::the_boundary_limits_a_role_that_is_named("role 1", "", OTHER, TO_ROLE_1, Is::Denied)] // access_policies_boundaries.html#access_policies_boundaries-eval-logic
#[case::the_boundary_limits_no_user_that_is_named("user 1", "", OTHER, TO_USER_1, Is::Allowed)] // access_policies_boundaries.html#access_policies_boundaries-eval-logic
#[case::the_boundary_limits_nobody_among_everybody("role 1", "", OTHER, TO_ALL, Is::Allowed)] // reference_policies_elements_principal.html#principal-roles
#[case::the_boundary_limits_elsewhere("user 2", ALLOW, OTHER, TO_2, Is::Denied)] // access_policies_boundaries.html
#[case::a_role_within_its_boundary("role 1", "", ALLOW, TO_ROLE_1, Is::Allowed)] // access_policies_boundaries.html
#[case::an_accounts_root("root 1", "", "", "", Is::Allowed)] // id_root-user.html
#[case::a_root_is_denied_by_the_resource("root 2", "", "", DENY_2, Is::Denied)] // id_root-user.html
#[case::a_root_elsewhere("root 2", "", "", TO_2, Is::Allowed)] // reference_policies_elements_principal.html#principal-accounts
#[case::a_root_elsewhere_that_is_not_named("root 2", "", "", "", Is::Denied)] // reference_policies_evaluation-logic-cross-account.html
#[case::a_root_is_not_one_of_its_roles("root 2", "", "", TO_ROLE_2, Is::Denied)] // reference_policies_elements_principal.html
#[case::a_service_by_the_resource("lambda.amazonaws.com", "", "", TO_LAMBDA, Is::Allowed)] // reference_policies_elements_principal.html#principal-services
#[case::another_service("ec2.amazonaws.com", "", "", TO_LAMBDA, Is::Denied)] // reference_policies_elements_principal.html#principal-services
#[case::a_service_is_of_no_account("lambda.amazonaws.com", "", "", TO_1, Is::Denied)] // reference_policies_elements_principal.html#principal-services
fn request_needs_the_allows_that_iam_requires(
    #[case] asks: &str,
    #[case] identity: &str,
    #[case] boundary: &str,
    #[case] resource: &str,
    #[case] expected: Is,
) {
    let policies = Policies {
        identity: policy("identity", &[identity]),
        boundary: policy("boundary", &[boundary]).pop(),
        resource: policy("repository policy", &[resource]),
    };
    let verdict = evaluate(&request(asks, "ecr:BatchGetImage", REPOSITORY), &policies);
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

#[rstest]
#[case::the_trust_policy_must_allow("role 1", ALLOW, "", "", Is::Denied)] // id_roles_update-role-trust-policy.html
#[case::one_that_is_named_needs_nothing_else("role 1", "", "", TO_ROLE_1, Is::Allowed)] // id_roles_terms-and-concepts.html
#[case::the_account_delegates("role 1", ALLOW, "", TO_1, Is::Allowed)] // reference_policies_elements_principal.html#principal-accounts
#[case::delegation_alone_is_not_enough("role 1", "", "", TO_1, Is::Denied)] // reference_policies_elements_principal.html#principal-accounts
#[case::what_is_delegated_the_boundary_limits("role 1", ALLOW, OTHER, TO_1, Is::Denied)] // access_policies_boundaries.html
#[case::who_is_named_the_boundary_limits("role 1", ALLOW, OTHER, TO_ROLE_1, Is::Denied)] // access_policies_boundaries.html
#[case::another_account_needs_both("role 2", "", "", TO_ROLE_2, Is::Denied)] // tutorial_cross-account-with-roles.html
#[case::another_account_with_both("role 2", ALLOW, "", TO_ROLE_2, Is::Allowed)] // tutorial_cross-account-with-roles.html
#[case::a_deny_for_the_account("role 2", ALLOW, "", DENY_2, Is::Denied)] // reference_policies_evaluation-logic_policy-eval-denyallow.html
#[case::a_service_assumes("lambda.amazonaws.com", "", "", TO_LAMBDA, Is::Allowed)] // id_roles_create_for-service.html
fn role_is_assumable_by_the_principals_that_it_trusts(
    #[case] asks: &str,
    #[case] identity: &str,
    #[case] boundary: &str,
    #[case] trust: &str,
    #[case] expected: Is,
) {
    let policies = Policies {
        identity: policy("identity", &[identity]),
        boundary: policy("boundary", &[boundary]).pop(),
        resource: policy("trust policy", &[trust]),
    };
    let verdict = evaluate(&request(asks, "sts:AssumeRole", TARGET), &policies);
    assert_eq!(kind(&verdict), expected, "{verdict}");
}

#[test]
fn registry_token_needs_only_the_identity_policy() {
    let mut request = request("role 2", "ecr:GetAuthorizationToken", "*");
    request.resource_account = "2".repeat(12);
    let by = |statement| Policies {
        identity: policy("pull", &[statement]),
        ..Policies::default()
    };
    let token = r#""Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*""#;
    assert_eq!(evaluate(&request, &by(token)), Verdict::Allowed);
    let on_a_repository = token.replace("\"*\"", "\"arn:aws:ecr:*:*:repository/*\"");
    assert_eq!(kind(&evaluate(&request, &by(&on_a_repository))), Is::Denied);
}

#[test]
fn verdict_lists_missing_allows_and_denying_statements() {
    let asked = request("role 2", "ecr:BatchGetImage", REPOSITORY);
    let verdict = evaluate(&asked, &Policies::default());
    let (no_identity, no_resource) = (
        Link::NoIdentityAllow { near: vec![] },
        Link::NoResourceAllow { near: vec![] },
    );
    assert_eq!(
        verdict,
        Verdict::Denied(vec![no_identity.clone(), no_resource])
    );
    let policies = Policies {
        resource: policy(
            "repository policy",
            &[TO_2, &format!(r#""Sid":"Stop",{DENY_2}"#)],
        ),
        ..Policies::default()
    };
    let verdict = evaluate(&asked, &policies);
    let denies = Link::ExplicitDeny {
        policy: "repository policy".into(),
        statement: "Stop".into(),
    };
    assert_eq!(verdict, Verdict::Denied(vec![denies, no_identity]));
    assert_eq!(
        verdict.to_string(),
        "denied: statement Stop of repository policy denies it; no policy of the principal allows it"
    );
}

#[rstest]
#[case::one_condition(
    r#""Principal":{"AWS":"222222222222"},"Condition":{"StringEquals":{"aws:PrincipalOrgID":["o-1","o-2"]},"Bool":{"aws:SecureTransport":"true"}}"#,
    Some("would allow it except for StringEquals aws:PrincipalOrgID: it requires o-1, o-2, and the request has o-9")
)]
#[case::a_key_that_is_not_there(
    r#""Principal":{"AWS":"222222222222"},"Condition":{"StringEquals":{"sts:ExternalId":"x"}}"#,
    Some(
        "would allow it except for StringEquals sts:ExternalId: it requires x, and the request has none"
    )
)]
#[case::two_conditions(
    r#""Principal":{"AWS":"222222222222"},"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1","sts:ExternalId":"x"}}"#,
    None
)]
#[case::a_deleted_role(
    r#""Principal":{"AWS":"AROADELETEDDELETED00"}"#,
    Some("names AROADELETEDDELETED00, another or a deleted principal's unique ID")
)]
#[case::a_role_without_its_path(
    r#""Principal":{"AWS":"arn:aws:iam::222222222222:role/ci"}"#,
    Some("names arn:aws:iam::222222222222:role/ci, which has another path")
)]
#[case::another_repository(
    r#""Principal":{"AWS":"222222222222"},"Resource":"arn:aws:ecr:eu-west-1:111111111111:repository/api""#,
    Some("applies to other resources: arn:aws:ecr:eu-west-1:111111111111:repository/api")
)]
#[case::somebody_else(r#""Principal":{"AWS":"333333333333"}"#, None)]
fn near_miss_is_reported(#[case] statement: &str, #[case] expected: Option<&str>) {
    let mut request = request("role 2", "ecr:BatchGetImage", REPOSITORY);
    request.context = request
        .context
        .with("aws:PrincipalOrgID", ["o-9"])
        .with("aws:SecureTransport", ["true"]);
    let statement = format!(r#""Sid":"Pull","Effect":"Allow","Action":"*",{statement}"#);
    let policies = Policies {
        identity: policy("identity", &[ALLOW]),
        boundary: None,
        resource: policy("repository policy", &[&statement]),
    };
    let Verdict::Denied(links) = evaluate(&request, &policies) else {
        panic!("it is not denied")
    };
    let near = expected.map(|but_for| format!(" (statement Pull of repository policy {but_for})"));
    let whole = format!(
        "the resource's policy does not allow it{}",
        near.unwrap_or_default()
    );
    assert_eq!(
        links.iter().map(Link::to_string).collect::<Vec<_>>(),
        [whole]
    );
}

#[test]
fn unread_policy_leaves_only_dependent_verdicts_open() {
    let unread = || Named::unreadable("inline policy x", "AccessDenied");
    let asked = request("role 2", "ecr:BatchGetImage", REPOSITORY);
    let with = |statement| Policies {
        identity: vec![unread()],
        boundary: None,
        resource: policy("repository policy", &[statement]),
    };
    assert_eq!(
        evaluate(&asked, &with(TO_2)),
        Verdict::Unknown(vec!["inline policy x: AccessDenied".into()])
    );
    assert_eq!(kind(&evaluate(&asked, &with(""))), Is::Denied);
    assert_eq!(kind(&evaluate(&asked, &with(DENY_2))), Is::Denied);
}
