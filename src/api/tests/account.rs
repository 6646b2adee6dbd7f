//! Admission of `AWSAccount`.

use super::{refusals, with};
use crate::api::AWSAccount;
use rstest::rstest;
use serde_json::{Value, json};

/// Returns an account with every field set.
fn account() -> Value {
    json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "AWSAccount",
        "metadata": { "name": "111111111111" },
        "spec": {
            "alias": "registry",
            "partition": "aws",
            "credentials": {
                "assumeRole": { "roleARN": "arn:aws:iam::111111111111:role/registry-grants", "externalID": "ticket-7" }
            },
            "registry": { "rules": [{
                "namespaces": { "names": ["team-b"], "selector": { "matchLabels": { "team": "b" } } },
                "repositories": ["miqp-devops", "team-b/*"],
                "maxAccess": "PullPush",
                "consumers": ["222222222222"],
                "managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"]
            }] },
            "consumer": { "rules": [{ "namespaces": { "names": ["team-b"] }, "roles": ["registry-grants/*"] }] },
            "roles": {
                "path": "/registry-grants/",
                "permissionsBoundary": "arn:aws:iam::111111111111:policy/boundary",
                "maxTrustPolicyCharacters": 2048
            }
        }
    })
}

const RULE: &str = "/spec/registry/rules/0";
const CONSUMER_RULE: &str = "/spec/consumer/rules/0";

fn why_not(object: &Value) -> Vec<String> {
    refusals::<AWSAccount>(object, None)
}

#[rstest]
#[case::whole(account())]
#[case::least(json!({ "metadata": { "name": "111111111111" }, "spec": {} }))]
#[case::ambient_credentials(with(account(), "/spec/credentials", Value::Null))]
#[case::without_external_id(with(
    account(),
    "/spec/credentials/assumeRole/externalID",
    Value::Null
))]
#[case::root_path(with(account(), "/spec/roles/path", json!("/")))]
#[case::boundary_of_aws(with(account(), "/spec/roles/permissionsBoundary", json!("arn:aws:iam::aws:policy/PowerUserAccess")))]
#[case::every_repository(with(account(), "/spec/registry/rules/0/repositories", json!(["*"])))]
#[case::management_role_with_a_path(with(account(), "/spec/credentials/assumeRole/roleARN", json!("arn:aws:iam::111111111111:role/ops/registry-grants")))]
#[case::expression(with(account(), "/spec/registry/rules/0/namespaces", json!({ "selector": { "matchExpressions": [{ "key": "team", "operator": "Exists" }] } })))]
fn valid_account_is_admitted(#[case] object: Value) {
    assert_eq!(why_not(&object), Vec::<String>::new());
    serde_json::from_value::<AWSAccount>(object).unwrap();
}

#[rstest]
#[case("registry-prod")]
#[case("11111111111")]
#[case("1111111111111")]
fn account_name_must_be_its_number(#[case] name: &str) {
    let refusals = why_not(&with(account(), "/metadata/name", json!(name)));
    assert!(
        refusals
            .iter()
            .any(|why| why.contains("metadata.name must be the AWS account's number")),
        "{refusals:?}"
    );
}

#[rstest]
#[case::alias("/spec/alias", json!("a".repeat(64)), "spec.alias")]
#[case::partition("/spec/partition", json!("aws-iso"), "spec.partition")]
#[case::role_of_another_account(
    "/spec/credentials/assumeRole/roleARN",
    json!("arn:aws:iam::222222222222:role/registry-grants"),
    "spec.credentials.assumeRole.roleARN must be a role of this account"
)]
#[case::role_name("/spec/credentials/assumeRole/roleARN", json!("registry-grants"), "spec.credentials.assumeRole.roleARN")]
#[case::user("/spec/credentials/assumeRole/roleARN", json!("arn:aws:iam::111111111111:user/x"), "spec.credentials.assumeRole.roleARN")]
#[case::no_role(
    "/spec/credentials/assumeRole/roleARN",
    Value::Null,
    "spec.credentials.assumeRole.roleARN"
)]
#[case::external_id("/spec/credentials/assumeRole/externalID", json!("a b"), "spec.credentials.assumeRole.externalID")]
#[case::path_without_slashes("/spec/roles/path", json!("registry-grants"), "spec.roles.path")]
#[case::path_without_end("/spec/roles/path", json!("/registry-grants"), "spec.roles.path")]
#[case::path_with_empty_part("/spec/roles/path", json!("/a//b/"), "spec.roles.path")]
#[case::path_with_star("/spec/roles/path", json!("/*/"), "spec.roles.path")]
#[case::path_empty("/spec/roles/path", json!(""), "spec.roles.path")]
#[case::boundary_of_another_account(
    "/spec/roles/permissionsBoundary",
    json!("arn:aws:iam::222222222222:policy/boundary"),
    "spec.roles.permissionsBoundary must be a managed policy of this account"
)]
#[case::boundary_that_is_a_role("/spec/roles/permissionsBoundary", json!("arn:aws:iam::111111111111:role/x"), "spec.roles.permissionsBoundary")]
#[case::trust_limit_low("/spec/roles/maxTrustPolicyCharacters", json!(2047), "spec.roles.maxTrustPolicyCharacters")]
#[case::trust_limit_high("/spec/roles/maxTrustPolicyCharacters", json!(4097), "spec.roles.maxTrustPolicyCharacters")]
#[case::unknown_field("/spec/credential", json!({}), "spec.credential: unknown")]
#[case::unknown_field_in_a_rule("/spec/registry/rules/0/allowAll", json!(true), "allowAll: unknown")]
fn invalid_field_is_refused_and_named(
    #[case] place: &str,
    #[case] value: Value,
    #[case] named: &str,
) {
    let refusals = why_not(&with(account(), place, value));
    assert!(
        refusals.iter().any(|why| why.contains(named)),
        "{refusals:?}"
    );
}

#[rstest]
#[case::no_namespaces("namespaces", Value::Null)]
#[case::no_access("maxAccess", Value::Null)]
#[case::access("maxAccess", json!("Push"))]
#[case::consumer("consumers", json!(["22222222222"]))]
#[case::consumer_star("consumers", json!(["*"]))]
#[case::consumer_number("consumers", json!([222_222_222_222_i64]))]
#[case::consumer_twice("consumers", json!(["222222222222", "222222222222"]))]
#[case::repository_upper_case("repositories", json!(["Team-b/*"]))]
#[case::repository_star_inside("repositories", json!(["team-*/web"]))]
#[case::repository_empty("repositories", json!([""]))]
#[case::managed_policy("managedPolicies", json!(["AdministratorAccess"]))]
fn invalid_registry_rule_is_refused_at_its_field(#[case] key: &str, #[case] value: Value) {
    let refusals = why_not(&with(account(), &format!("{RULE}/{key}"), value));
    let field = format!("spec.registry.rules[0].{key}");
    assert!(
        refusals.iter().any(|why| why.starts_with(&field)),
        "{refusals:?}"
    );
}

#[rstest]
#[case::lone_star(json!(["*"]))]
#[case::star_inside(json!(["a*b"]))]
#[case::empty(json!([""]))]
#[case::arn(json!(["arn:aws:iam::222222222222:role/x"]))]
fn invalid_consumer_rule_is_refused_at_its_field(#[case] roles: Value) {
    let refusals = why_not(&with(account(), &format!("{CONSUMER_RULE}/roles"), roles));
    assert!(
        refusals
            .iter()
            .any(|why| why.starts_with("spec.consumer.rules[0].roles")),
        "{refusals:?}"
    );
}

#[rstest]
#[case(json!({}))]
#[case(json!({ "matchLabels": {} }))]
#[case(json!({ "matchExpressions": [] }))]
#[case(json!({ "matchLabels": {}, "matchExpressions": [] }))]
fn empty_selector_is_refused(#[case] selector: Value) {
    for rule in [RULE, CONSUMER_RULE] {
        let refusals = why_not(&with(
            account(),
            &format!("{rule}/namespaces"),
            json!({ "selector": selector }),
        ));
        assert!(
            refusals
                .iter()
                .any(|why| why.contains("namespaces.selector must not be empty")),
            "{refusals:?}"
        );
    }
}

#[test]
fn account_partition_cannot_be_changed() {
    let old = account();
    let refusals = refusals::<AWSAccount>(
        &with(old.clone(), "/spec/partition", json!("aws-cn")),
        Some(&old),
    );
    assert!(
        refusals
            .iter()
            .any(|why| why.contains("spec.partition cannot be changed")),
        "{refusals:?}"
    );
}

#[test]
fn account_role_path_cannot_be_changed() {
    let (one, other) = (
        account(),
        with(account(), "/spec/roles/path", json!("/other/")),
    );
    for (new, old) in [(&other, &one), (&one, &other)] {
        let refusals = refusals::<AWSAccount>(new, Some(old));
        assert!(
            refusals
                .iter()
                .any(|why| why.contains("spec.roles.path cannot be changed")),
            "{refusals:?}"
        );
    }
}

#[test]
fn default_partition_can_be_set_explicitly_later() {
    let old = with(account(), "/spec/partition", Value::Null);
    assert_eq!(
        refusals::<AWSAccount>(&account(), Some(&old)),
        Vec::<String>::new()
    );
}

/// Finds every `default` below an item of a list.
fn defaults_inside_lists(schema: &Value, inside: bool, place: &str, found: &mut Vec<String>) {
    let Some(fields) = schema.as_object() else {
        return;
    };
    if inside && fields.contains_key("default") {
        found.push(place.to_owned());
    }
    for (name, value) in fields
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        defaults_inside_lists(value, inside, &format!("{place}.{name}"), found);
    }
    if let Some(items) = fields.get("items") {
        defaults_inside_lists(items, true, &format!("{place}[]"), found);
    }
}

#[test]
fn list_items_get_no_defaults() {
    use kube::CustomResourceExt as _;
    for definition in [
        AWSAccount::crd(),
        crate::api::CrossAccountRegistryGrant::crd(),
    ] {
        let definition = serde_json::to_value(definition).unwrap();
        let spec =
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        defaults_inside_lists(spec, false, "spec", &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn unset_rule_fields_admit_nothing() {
    let mut object = account();
    object["spec"]["registry"]["rules"] = json!([{ "namespaces": {}, "maxAccess": "Pull" }]);
    object["spec"]["consumer"]["rules"] = json!([{ "namespaces": {} }]);
    assert_eq!(why_not(&object), Vec::<String>::new());
    let account: AWSAccount = serde_json::from_value(object).unwrap();
    let rule = &account.spec.registry.unwrap().rules[0];
    assert!(
        rule.repositories.is_empty()
            && rule.consumers.is_empty()
            && !rule.allow_replace
            && !rule.allow_retain
    );
    let rule = &account.spec.consumer.unwrap().rules[0];
    assert!(rule.roles.is_empty() && rule.namespaces.names.is_empty());
    assert_eq!(rule.management, [crate::api::grant::Management::Create]);
}
