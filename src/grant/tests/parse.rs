//! Violations for which the operator refuses the resource itself. Admission refuses them first if
//! it can; the operator is the authority.

use super::resources::{CONSUMER, Cluster, REGISTRY, grant, instance_role, organization, strings};
use crate::api::account::Partition;
use crate::api::conditions::Reason;
use crate::api::grant::{
    Access, AccessPath, ConsumerSpec, CrossAccountRegistryGrantSpec as Spec, RegistryRoleSpec,
};
use crate::grant::Problem;
use rstest::rstest;

fn refusals(change: impl FnOnce(&mut Spec)) -> Vec<Problem> {
    Cluster::of_the_article()
        .validate(&grant(change))
        .expect_err("the grant should have been refused")
}

/// Asserts that a change makes the resource invalid, with one message that begins with the field.
#[track_caller]
fn refused_naming(field: &str, change: impl FnOnce(&mut Spec)) {
    let problems = refusals(change);
    let named = problems
        .iter()
        .filter(|problem| problem.message.starts_with(&format!("{field}: ")));
    assert_eq!(named.count(), 1, "{problems:#?}");
    assert!(
        problems
            .iter()
            .any(|problem| problem.reason == Reason::Invalid),
        "{problems:#?}"
    );
}

#[test]
fn valid_grant_is_admitted() {
    Cluster::of_the_article().admitted(&grant(|_| {}));
}

#[rstest]
#[case::too_short("11111111111")]
#[case::too_long("1111111111111")]
#[case::dashes("1111-1111-1111")]
#[case::letters("11111111111a")]
#[case::spaces(" 11111111111")]
#[case::empty("")]
#[case::other_digits("١١١١١١١١١١١١")]
#[case::an_arn_inside("1:role/x111")]
fn account_id_without_twelve_digits_is_refused(#[case] number: &str) {
    refused_naming("spec.registry.accountID", |spec| {
        spec.registry.account_id = number.into()
    });
    refused_naming("spec.consumer.accountID", |spec| {
        spec.consumer.account_id = Some(number.into())
    });
}

#[test]
fn consumer_equal_to_the_registry_is_refused() {
    refused_naming("spec.consumer.accountID", |spec| {
        spec.consumer.account_id = Some(REGISTRY.into())
    });
}

#[rstest]
#[case::upper_case("Team-b/web")]
#[case::space("team b")]
#[case::star_in_the_middle("team-*/web")]
#[case::star_at_the_beginning("*-web")]
#[case::two_stars("team-b/**")]
#[case::question_mark("team-b/we?")]
#[case::one_letter("a")]
#[case::empty("")]
#[case::a_tag("team-b/web:latest")]
#[case::an_arn("arn:aws:ecr:us-east-1:111111111111:repository/web")]
#[case::a_policy_variable("team-${aws:username}")]
#[case::other_alphabet("teаm-b/web")]
#[case::line_break("team-b/web\n")]
#[case::zero_byte("team-b/web\0")]
#[case::a_lone_star("*")]
fn malformed_repository_is_refused(#[case] repository: &str) {
    refused_naming("spec.registry.repositories", |spec| {
        spec.registry.repositories = strings([repository])
    });
}

#[test]
fn repository_name_over_256_characters_is_refused() {
    refused_naming("spec.registry.repositories", |spec| {
        spec.registry.repositories = vec!["a".repeat(257)]
    });
}

#[test]
fn grant_of_nothing_is_refused() {
    refused_naming("spec.registry.repositories", |spec| {
        spec.registry.repositories.clear()
    });
    refused_naming("spec.registry.regions", |spec| {
        spec.registry.regions.clear()
    });
    refused_naming("spec.paths", |spec| spec.paths.clear());
}

#[rstest]
#[case::space("my role")]
#[case::path("ops/role")]
#[case::star("role*")]
#[case::empty("")]
#[case::colon("role:x")]
#[case::umlaut("rôle")]
fn role_name_that_iam_refuses_is_refused(#[case] name: &str) {
    refused_naming("spec.registry.role.name", |spec| {
        spec.registry.role = Some(RegistryRoleSpec {
            name: Some(name.into()),
            ..RegistryRoleSpec::default()
        });
    });
    refused_naming("spec.consumer.instanceRole.name", |spec| {
        spec.consumer.instance_role = Some(instance_role(name));
    });
}

#[test]
fn role_name_over_64_characters_is_refused() {
    refused_naming("spec.registry.role.name", |spec| {
        spec.registry.role.as_mut().unwrap().name = Some("r".repeat(65));
    });
}

#[rstest]
#[case::a_lone_star("*")]
#[case::begins_with_a_star("*/deployer")]
#[case::begins_with_a_slash("/ci/deployer")]
#[case::ends_with_a_slash("ci/")]
#[case::empty_part("ci//deployer")]
#[case::question_mark("ci/deploye?")]
#[case::empty("")]
#[case::whole_arn("arn:aws:iam::222222222222:role/ci")]
#[case::other_account("x:role/y")]
#[case::policy_variable("${aws:PrincipalTag/team}")]
fn malformed_consumer_role_is_refused(#[case] role: &str) {
    refused_naming("spec.consumer.roles", |spec| {
        spec.consumer.whole_account = None;
        spec.consumer.roles = Some(strings([role]));
    });
}

#[test]
fn grant_without_a_consumer_is_refused() {
    refused_naming("spec.consumer", |spec| {
        spec.consumer.whole_account = None;
        spec.consumer.instance_role = None;
    });
    refused_naming("spec.consumer", |spec| {
        spec.consumer.whole_account = Some(false);
        spec.consumer.instance_role = None;
    });
}

#[test]
fn empty_list_of_roles_never_means_the_whole_account() {
    refused_naming("spec.consumer.roles", |spec| {
        spec.consumer.whole_account = None;
        spec.consumer.roles = Some(Vec::new());
    });
}

#[test]
fn whole_account_together_with_roles_is_refused() {
    refused_naming("spec.consumer", |spec| {
        spec.consumer.roles = Some(strings(["registry-grants/*"]))
    });
}

#[test]
fn region_of_another_partition_is_refused() {
    refused_naming("spec.registry.regions", |spec| {
        spec.registry.regions = strings(["us-east-1", "cn-north-1"])
    });
}

#[rstest]
#[case::china(Partition::AwsCn, "cn-north-1")]
#[case::gov_cloud(Partition::AwsUsGov, "us-gov-west-1")]
#[case::europe(Partition::AwsEusc, "eusc-de-east-1")]
fn accounts_of_two_partitions_are_refused(#[case] partition: Partition, #[case] region: &str) {
    let cluster = Cluster::of_the_article().account(REGISTRY, |spec| spec.partition = partition);
    let refusals = cluster.refusals(&grant(|spec| spec.registry.regions = strings([region])));
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(
        refusals[0].starts_with("Invalid: spec.consumer.accountID: "),
        "{refusals:#?}"
    );
    let both = cluster.account(CONSUMER, |spec| spec.partition = partition);
    both.admitted(&grant(|spec| spec.registry.regions = strings([region])));
}

#[test]
fn all_violations_are_reported_together() {
    let problems = refusals(|spec| {
        spec.paths.clear();
        spec.registry.regions = strings(["us-east-1", "here"]);
        spec.registry.account_id = "1".into();
        spec.consumer.account_id = Some("2".into());
        spec.registry.repositories = strings(["UPPER", "a*b", "good"]);
        spec.registry.role.as_mut().unwrap().name = Some("a/b".into());
        spec.consumer.instance_role.as_mut().unwrap().name = "c d".into();
        spec.consumer.roles = Some(Vec::new());
    });
    let reported: Vec<String> = problems
        .into_iter()
        .map(|problem| problem.message)
        .collect();
    insta::assert_snapshot!(reported.join("\n"), @r"
    spec.paths: at least one path is needed
    spec.registry.accountID: `1` is not an AWS account number (12 digits)
    spec.registry.repositories: `UPPER` is neither a repository name nor a prefix of one that ends in *
    spec.registry.repositories: `a*b` is neither a repository name nor a prefix of one that ends in *
    spec.registry.regions: `here` is not a region
    spec.registry.role.name: not a role name: 1 to 64 letters, digits and + = , . @ - _
    spec.consumer.accountID: `2` is not an AWS account number (12 digits)
    spec.consumer: wholeAccount and roles are mutually exclusive
    spec.consumer.roles: at least one is needed
    spec.consumer.instanceRole.name: not a role name: 1 to 64 letters, digits and + = , . @ - _
    ");
}

#[test]
fn joined_problem_has_the_first_reason() {
    let problems = [
        Problem::new(Reason::Invalid, "one"),
        Problem::new(Reason::NotAdmitted, "two"),
    ];
    assert_eq!(
        Problem::join(&problems),
        Some(Problem::new(Reason::Invalid, "one; two"))
    );
    assert_eq!(Problem::join(&[]), None);
}

#[test]
fn pull_with_a_managed_policy_that_pushes_is_refused() {
    refused_naming("spec.registry.role.managedPolicies", |spec| {
        spec.access = Access::Pull
    });
}

#[rstest]
#[case::every_region("*")]
#[case::an_arn_inside("us-east-1:999999999999:repository/x")]
#[case::another_host("us-east-1.example.org/")]
#[case::upper_case("US-EAST-1")]
#[case::one_word("us-1")]
#[case::no_number("us-east")]
#[case::empty_word("us--1")]
#[case::empty("")]
fn invalid_region_is_refused(#[case] region: &str) {
    let problems = refusals(|spec| spec.registry.regions = strings([region]));
    assert_eq!(
        problems,
        [Problem::new(
            Reason::Invalid,
            format!("spec.registry.regions: `{region}` is not a region")
        )]
    );
}

#[test]
fn profile_name_that_iam_refuses_is_refused() {
    for name in ["a/b", "", "a b", &"p".repeat(129)] {
        refused_naming("spec.consumer.instanceRole.instanceProfile", |spec| {
            spec.consumer
                .instance_role
                .as_mut()
                .unwrap()
                .instance_profile = Some(name.into());
        });
    }
}

#[rstest]
#[case::too_short("x")]
#[case::too_long(&"x".repeat(1225))]
#[case::policy_variable("${aws:username}")]
#[case::space("my id")]
fn external_id_that_sts_refuses_is_refused(#[case] external_id: &str) {
    refused_naming("spec.registry.role.externalID", |spec| {
        spec.registry.role.as_mut().unwrap().external_id = Some(external_id.into());
    });
}

#[rstest]
#[case(3599)]
#[case(43201)]
#[case(-1)]
fn session_duration_that_iam_refuses_is_refused(#[case] seconds: i32) {
    refused_naming("spec.registry.role.maxSessionSeconds", |spec| {
        spec.registry.role.as_mut().unwrap().max_session_seconds = seconds;
    });
}

#[test]
fn instance_role_outside_the_listed_roles_is_refused() {
    let narrowed = |role: &str| {
        let role = role.to_owned();
        grant(|spec| {
            spec.consumer.whole_account = None;
            spec.consumer.roles = Some(vec!["ci/*".into(), role]);
        })
    };
    let refusals = Cluster::of_the_article().refusals(&narrowed("nodes/*"));
    insta::assert_snapshot!(refusals.join("\n"), @"Invalid: spec.consumer.roles: the instance role would get no access; add registry-grants/miq-instance to the list");
    Cluster::of_the_article().admitted(&narrowed("registry-grants/miq-*"));
    Cluster::of_the_article().admitted(&narrowed("registry-grants/miq-instance"));
}

/// Asserts the same for a change to a spec that is otherwise right and has an organization as the
/// consumer.
fn organization_refused(field: &str, change: impl FnOnce(&mut Spec)) {
    refused_naming(field, |spec| {
        spec.consumer = organization("o-a1b2c3d4e5", &[]);
        change(spec);
    });
}

#[test]
fn malformed_organizations_and_units_are_refused() {
    let field = "spec.consumer.organization.id";
    for id in ["", "o-*", "*", "222222222222", "o-a1b2c3d4e5/r-ab12/*"] {
        organization_refused(field, |spec| spec.consumer = organization(id, &[]));
    }
    let field = "spec.consumer.organization.paths";
    for path in [
        "o-a1b2c3d4e5",
        "o-a1b2c3d4e6/r-ab12/*",
        "o-a1b2c3d4e5/*",
        "*",
        "o-a1b2c3d4e5/r-ab12/${x}/",
    ] {
        organization_refused(field, |spec| {
            spec.consumer = organization("o-a1b2c3d4e5", &[path])
        });
    }
}

#[test]
fn account_settings_for_an_organization_are_refused() {
    organization_refused("spec.consumer", |spec| {
        spec.consumer.account_id = Some("222222222222".into())
    });
    organization_refused("spec.consumer", |spec| {
        spec.consumer.whole_account = Some(true)
    });
    organization_refused("spec.consumer", |spec| {
        spec.consumer.roles = Some(strings(["ci/*"]))
    });
    organization_refused("spec.consumer", |spec| spec.consumer.lambda = Some(true));
    refused_naming("spec.consumer", |spec| {
        spec.consumer = ConsumerSpec::default()
    });
}

#[test]
fn lambda_and_replacement_without_path_direct_are_refused() {
    refused_naming("spec.consumer.lambda", |spec| {
        (spec.consumer.lambda, spec.paths) = (Some(true), vec![AccessPath::AssumeRole]);
    });
    refused_naming("spec.registry.replaceSids", |spec| {
        (spec.registry.replace_sids, spec.paths) =
            (strings(["new statement"]), vec![AccessPath::AssumeRole]);
    });
}

#[test]
fn replacing_an_installations_statement_is_refused() {
    for sid in ["", "RegistryGrantsfedcba98765401234567", "RegistryGrants"] {
        refused_naming("spec.registry.replaceSids", |spec| {
            spec.registry.replace_sids = strings([sid])
        });
    }
}
