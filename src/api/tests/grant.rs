//! Admission of `CrossAccountRegistryGrant`.

use super::{refusals, with};
use crate::api::CrossAccountRegistryGrant;
use rstest::rstest;
use serde_json::{Value, json};

/// Returns the article's grant with every field set.
fn article() -> Value {
    json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "CrossAccountRegistryGrant",
        "metadata": { "name": "miq-devops", "namespace": "team-b" },
        "spec": {
            "access": "PullPush",
            "paths": ["Direct", "AssumeRole"],
            "registry": {
                "accountID": "111111111111",
                "regions": ["us-east-1"],
                "repositories": ["miqp-devops", "team-b/*"],
                "role": {
                    "name": "ECS-AssumeRole-MIQDevOps",
                    "managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"],
                    "nameInRepositoryPolicy": true,
                    "maxSessionSeconds": 3600,
                    "externalID": "ticket-7"
                }
            },
            "consumer": {
                "accountID": "222222222222",
                "wholeAccount": true,
                "instanceRole": { "name": "miq-instance", "instanceProfile": "miq-instance" }
            }
        }
    })
}

/// Returns the same grant with roles instead of the whole account.
fn narrowed() -> Value {
    with(
        with(article(), "/spec/consumer/wholeAccount", Value::Null),
        "/spec/consumer/roles",
        json!(["ci/*"]),
    )
}

fn why_not(object: &Value) -> Vec<String> {
    refusals::<CrossAccountRegistryGrant>(object, None)
}

#[rstest]
#[case::whole(article())]
#[case::narrowed(narrowed())]
#[case::least(json!({
    "metadata": { "name": "x" },
    "spec": {
        "access": "Pull",
        "registry": { "accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["web"] },
        "consumer": { "accountID": "222222222222", "wholeAccount": true }
    }
}))]
#[case::instance_role_alone(with(article(), "/spec/consumer/wholeAccount", Value::Null))]
#[case::not_the_whole_account_but_an_instance_role(with(article(), "/spec/consumer/wholeAccount", json!(false)))]
#[case::role_of_default_name(with(article(), "/spec/registry/role/name", Value::Null))]
#[case::longest_name(with(article(), "/metadata/name", json!("x".repeat(190))))]
fn valid_grant_is_admitted(#[case] object: Value) {
    assert_eq!(why_not(&object), Vec::<String>::new());
    serde_json::from_value::<CrossAccountRegistryGrant>(object).unwrap();
}

#[rstest]
#[case("us-east-1")]
#[case("ap-southeast-4")]
#[case("us-gov-west-1")]
#[case("cn-northwest-1")]
#[case("eusc-de-east-1")]
#[case("mx-central-1")]
fn every_aws_region_is_admitted(#[case] region: &str) {
    assert_eq!(
        why_not(&with(article(), "/spec/registry/regions", json!([region]))),
        Vec::<String>::new()
    );
}

#[rstest]
#[case("web")]
#[case("ab")]
#[case("team-b/web.app_1/x-y")]
#[case("a/b/c/d")]
#[case("team-b/*")]
#[case("team-*")]
#[case("team*")]
#[case("team-b/w*")]
#[case("0/1")]
fn every_valid_repository_name_or_prefix_is_admitted(#[case] repository: &str) {
    assert_eq!(
        why_not(&with(
            article(),
            "/spec/registry/repositories",
            json!([repository])
        )),
        Vec::<String>::new()
    );
}

const NUMBERS: [&str; 8] = [
    "11111111111",
    "1111111111111",
    "1111-1111-111",
    "11111111111a",
    "",
    " 11111111111",
    "１１１１１１１１１１１１",
    "111111111111\n",
];

#[test]
fn malformed_account_number_is_refused_at_its_field() {
    for number in NUMBERS {
        for side in ["registry", "consumer"] {
            let refusals = why_not(&with(
                article(),
                &format!("/spec/{side}/accountID"),
                json!(number),
            ));
            let field = format!("spec.{side}.accountID: ");
            assert!(
                refusals.iter().any(|why| why.starts_with(&field)),
                "{number:?}: {refusals:?}"
            );
        }
    }
}

#[rstest]
#[case::access("/spec/access", json!("Push"), "spec.access")]
#[case::no_access("/spec/access", Value::Null, "spec.access")]
#[case::path("/spec/paths", json!(["direct"]), "spec.paths")]
#[case::no_paths("/spec/paths", json!([]), "spec.paths")]
#[case::path_twice("/spec/paths", json!(["Direct", "Direct"]), "spec.paths")]
#[case::number_without_quotes("/spec/registry/accountID", json!(111_111_111_111_i64), "spec.registry.accountID")]
#[case::no_registry_account("/spec/registry/accountID", Value::Null, "spec.registry.accountID")]
#[case::no_consumer_account("/spec/consumer/accountID", Value::Null, "spec.consumer.accountID")]
#[case::same_account("/spec/consumer/accountID", json!("111111111111"), "spec.consumer.accountID")]
#[case::no_regions("/spec/registry/regions", json!([]), "spec.registry.regions")]
#[case::region_upper_case("/spec/registry/regions", json!(["US-EAST-1"]), "spec.registry.regions")]
#[case::region_star("/spec/registry/regions", json!(["us-*"]), "spec.registry.regions")]
#[case::region_with_host("/spec/registry/regions", json!(["us-east-1.example.org"]), "spec.registry.regions")]
#[case::region_zone("/spec/registry/regions", json!(["us-east-1a"]), "spec.registry.regions")]
#[case::region_twice("/spec/registry/regions", json!(["us-east-1", "us-east-1"]), "spec.registry.regions")]
#[case::too_many_regions(
    "/spec/registry/regions",
    numbered("us-east-", 33),
    "spec.registry.regions"
)]
#[case::no_repositories("/spec/registry/repositories", json!([]), "spec.registry.repositories")]
#[case::repository_twice("/spec/registry/repositories", json!(["web", "web"]), "spec.registry.repositories")]
#[case::too_many_repositories(
    "/spec/registry/repositories",
    numbered("r", 101),
    "spec.registry.repositories"
)]
#[case::role_with_path("/spec/registry/role/name", json!("ops/role"), "spec.registry.role.name")]
#[case::role_empty("/spec/registry/role/name", json!(""), "spec.registry.role.name")]
#[case::role_too_long("/spec/registry/role/name", json!("r".repeat(65)), "spec.registry.role.name")]
#[case::role_arn("/spec/registry/role/name", json!("arn:aws:iam::1:role/x"), "spec.registry.role.name")]
#[case::managed_policy("/spec/registry/role/managedPolicies", json!(["AdministratorAccess"]), "spec.registry.role.managedPolicies")]
#[case::short_session("/spec/registry/role/maxSessionSeconds", json!(3599), "spec.registry.role.maxSessionSeconds")]
#[case::long_session("/spec/registry/role/maxSessionSeconds", json!(43201), "spec.registry.role.maxSessionSeconds")]
#[case::session_as_text("/spec/registry/role/maxSessionSeconds", json!("3600"), "spec.registry.role.maxSessionSeconds")]
#[case::external_id_short("/spec/registry/role/externalID", json!("x"), "spec.registry.role.externalID")]
#[case::external_id_variable("/spec/registry/role/externalID", json!("${aws:x}"), "spec.registry.role.externalID")]
#[case::instance_role_with_path("/spec/consumer/instanceRole/name", json!("a/b"), "spec.consumer.instanceRole.name")]
#[case::instance_role_without_name(
    "/spec/consumer/instanceRole/name",
    Value::Null,
    "spec.consumer.instanceRole.name"
)]
#[case::profile("/spec/consumer/instanceRole/instanceProfile", json!("a b"), "spec.consumer.instanceRole.instanceProfile")]
#[case::whole_account_and_roles("/spec/consumer/roles", json!(["ci/x"]), "spec.consumer: wholeAccount and roles are mutually exclusive")]
#[case::name_too_long("/metadata/name", json!("x".repeat(191)), "metadata.name")]
#[case::unknown_field("/spec/acces", json!("Pull"), "spec.acces: unknown")]
#[case::unknown_field_deep_down("/spec/registry/role/arn", json!("x"), "spec.registry.role.arn: unknown")]
#[case::field_that_does_not_work_yet("/spec/dryRun", json!(true), "spec.dryRun: unknown")]
#[case::role_path_without_adoption("/spec/registry/role/path", json!("/x/"), "spec.registry.role.path")]
#[case::instance_path_of_a_created_role("/spec/consumer/instanceRole/path", json!("/x/"), "spec.consumer.instanceRole.path")]
#[case::management("/spec/consumer/instanceRole/management", json!("Own"), "spec.consumer.instanceRole.management")]
#[case::on_delete("/spec/consumer/instanceRole/onDelete", json!("Keep"), "spec.consumer.instanceRole.onDelete")]
#[case::deletion_policy("/spec/deletionPolicy", json!("Orphan"), "spec.deletionPolicy")]
fn invalid_field_is_refused_and_named(
    #[case] place: &str,
    #[case] value: Value,
    #[case] named: &str,
) {
    let refusals = why_not(&with(article(), place, value));
    assert!(
        refusals.iter().any(|why| why.contains(named)),
        "{refusals:?}"
    );
}

fn numbered(text: &str, count: usize) -> Value {
    (0..count).map(|n| format!("{text}{n}")).collect()
}

#[rstest]
#[case("Team-b/web")]
#[case("a")]
#[case("")]
#[case("*")]
#[case("**")]
#[case("*-web")]
#[case("team-*/web")]
#[case("team-b/**")]
#[case("team-b//web")]
#[case("/team-b/web")]
#[case("team-b/web/")]
#[case("team-b/-web")]
#[case("team--b")]
#[case("team b")]
#[case("web:latest")]
#[case("we?")]
#[case("web\n")]
#[case("${aws:username}")]
fn malformed_repository_is_refused(#[case] repository: &str) {
    let refusals = why_not(&with(
        article(),
        "/spec/registry/repositories",
        json!(["good", repository]),
    ));
    assert!(
        refusals
            .iter()
            .any(|why| why.starts_with("spec.registry.repositories: ")),
        "{refusals:?}"
    );
}

#[rstest]
#[case("*")]
#[case("*/x")]
#[case("/ci/x")]
#[case("ci/")]
#[case("ci//x")]
#[case("ci/x?")]
#[case("")]
#[case("arn:aws:iam::222222222222:role/ci")]
fn malformed_consumer_role_is_refused(#[case] role: &str) {
    let refusals = why_not(&with(narrowed(), "/spec/consumer/roles", json!([role])));
    assert!(
        refusals
            .iter()
            .any(|why| why.starts_with("spec.consumer.roles: ")),
        "{refusals:?}"
    );
}

#[test]
fn grant_without_identities_is_refused() {
    let nobody = with(
        with(article(), "/spec/consumer/wholeAccount", Value::Null),
        "/spec/consumer/instanceRole",
        Value::Null,
    );
    for object in [
        nobody.clone(),
        with(nobody, "/spec/consumer/wholeAccount", json!(false)),
    ] {
        let refusals = why_not(&object);
        assert!(
            refusals
                .iter()
                .any(|why| why.contains("spec.consumer must say who gets access")),
            "{refusals:?}"
        );
    }
    assert!(!why_not(&with(narrowed(), "/spec/consumer/roles", json!([]))).is_empty());
}

#[test]
fn managed_policy_that_pushes_is_refused_with_access_pull() {
    let pull = |policies| {
        why_not(&with(
            with(article(), "/spec/access", json!("Pull")),
            "/spec/registry/role/managedPolicies",
            policies,
        ))
    };
    let both = pull(json!([
        "AmazonEC2ContainerRegistryReadOnly",
        "AmazonEC2ContainerRegistryPowerUser"
    ]));
    assert!(
        both.iter()
            .any(|why| why.contains("spec.registry.role.managedPolicies: with access Pull")),
        "{both:?}"
    );
    let reading = json!([
        "AmazonEC2ContainerRegistryReadOnly",
        "AmazonEC2ContainerRegistryPullOnly"
    ]);
    assert_eq!(pull(reading), Vec::<String>::new());
    assert_eq!(pull(Value::Null), Vec::<String>::new());
}

#[rstest]
#[case::registry_account("/spec/registry/accountID", json!("333333333333"), "spec.registry.accountID")]
#[case::consumer_account("/spec/consumer/accountID", json!("333333333333"), "spec.consumer.accountID")]
#[case::role_name("/spec/registry/role/name", json!("other"), "spec.registry.role.name")]
#[case::role_name_removed("/spec/registry/role/name", Value::Null, "spec.registry.role.name")]
#[case::role_removed("/spec/registry/role", Value::Null, "spec.registry.role.name")]
#[case::instance_role("/spec/consumer/instanceRole/name", json!("other"), "spec.consumer.instanceRole")]
#[case::instance_profile("/spec/consumer/instanceRole/instanceProfile", json!("other"), "spec.consumer.instanceRole")]
#[case::instance_profile_removed(
    "/spec/consumer/instanceRole/instanceProfile",
    Value::Null,
    "spec.consumer.instanceRole"
)]
#[case::instance_role_removed(
    "/spec/consumer/instanceRole",
    Value::Null,
    "spec.consumer.instanceRole"
)]
fn immutable_fields_cannot_be_changed_in_either_direction(
    #[case] place: &str,
    #[case] value: Value,
    #[case] named: &str,
) {
    let (one, other) = (article(), with(article(), place, value));
    for (new, old) in [(&other, &one), (&one, &other)] {
        let refusals = refusals::<CrossAccountRegistryGrant>(new, Some(old));
        assert!(
            refusals
                .iter()
                .any(|why| why.contains(named) && why.contains("cannot be")),
            "{refusals:?}"
        );
    }
}

#[test]
fn adopted_role_path_cannot_be_changed_in_either_direction() {
    let adopting = with(article(), "/spec/registry/role/adopt", json!(true));
    let at_root = with(adopting.clone(), "/spec/registry/role/path", json!("/"));
    let elsewhere = with(adopting.clone(), "/spec/registry/role/path", json!("/ci/"));
    let without_role = with(article(), "/spec/registry/role", Value::Null);
    for (one, other) in [
        (&adopting, &at_root),
        (&at_root, &elsewhere),
        (&without_role, &at_root),
    ] {
        for (new, old) in [(one, other), (other, one)] {
            let refusals = refusals::<CrossAccountRegistryGrant>(new, Some(old));
            let reported = |why: &String| {
                why.contains("spec.registry.role.path cannot be set, changed or removed later")
            };
            assert!(refusals.iter().any(reported), "{refusals:?}");
        }
    }
    // Adopting a role, or no longer adopting it, does not move it.
    assert_eq!(
        refusals::<CrossAccountRegistryGrant>(&adopting, Some(&article())),
        Vec::<String>::new()
    );
}

#[rstest]
#[case("/spec/access", json!("Pull"))]
#[case("/spec/paths", json!(["Direct"]))]
#[case("/spec/registry/regions", json!(["eu-central-1"]))]
#[case("/spec/registry/repositories", json!(["other"]))]
#[case("/spec/registry/role/nameInRepositoryPolicy", Value::Null)]
#[case("/spec/registry/role/externalID", Value::Null)]
#[case("/spec/registry/role/maxSessionSeconds", json!(7200))]
#[case("/spec/registry/role/managedPolicies", Value::Null)]
fn other_fields_can_be_changed(#[case] place: &str, #[case] value: Value) {
    let old = with(
        article(),
        "/spec/registry/role/managedPolicies",
        json!(["AmazonEC2ContainerRegistryReadOnly"]),
    );
    let new = with(old.clone(), place, value);
    assert_eq!(
        refusals::<CrossAccountRegistryGrant>(&new, Some(&old)),
        Vec::<String>::new()
    );
}

#[test]
fn grant_can_be_narrowed_and_widened_again() {
    for (new, old) in [(narrowed(), article()), (article(), narrowed())] {
        assert_eq!(
            refusals::<CrossAccountRegistryGrant>(&new, Some(&old)),
            Vec::<String>::new()
        );
    }
}

#[rstest]
#[case("/spec/consumer/instanceRole", true)]
#[case("/spec/consumer/wholeAccount", true)]
#[case("/spec/registry/role", true)]
#[case("/spec/registry/regions", false)]
#[case("/spec/access", false)]
fn null_field_counts_as_absent(#[case] place: &str, #[case] may_be_left_out: bool) {
    let mut object = article();
    *object.pointer_mut(place).unwrap() = Value::Null;
    assert_eq!(
        why_not(&object).is_empty(),
        may_be_left_out,
        "{:?}",
        why_not(&object)
    );
}
