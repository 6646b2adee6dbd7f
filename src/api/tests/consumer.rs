//! Admission of organizations as consumers, and of fields that need path `Direct`.

use super::{refusals, with};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use rstest::rstest;
use serde_json::{Value, json};

const ID: &str = "o-a1b2c3d4e5";

fn of_organization(consumer: Value) -> Value {
    json!({
        "metadata": { "name": "x" },
        "spec": {
            "access": "Pull",
            "paths": ["Direct"],
            "registry": { "accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["web"] },
            "consumer": consumer,
        }
    })
}

fn of_account() -> Value {
    of_organization(json!({ "accountID": "222222222222", "wholeAccount": true }))
}

fn why_not(object: &Value) -> Vec<String> {
    refusals::<CrossAccountRegistryGrant>(object, None)
}

#[rstest]
#[case::organization(of_organization(json!({ "organization": { "id": ID } })))]
#[case::unit(of_organization(json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*"] } })))]
#[case::accounts_of_a_unit(of_organization(json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/"] } })))]
#[case::root(of_organization(json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/r-ab12/*"] } })))]
#[case::lambda(with(of_account(), "/spec/consumer/lambda", json!(true)))]
#[case::no_lambda(with(of_account(), "/spec/consumer/lambda", json!(false)))]
#[case::sid_with_a_space(with(of_account(), "/spec/registry/replaceSids", json!(["new statement"])))]
fn valid_consumers_are_admitted(#[case] object: Value) {
    assert_eq!(why_not(&object), Vec::<String>::new());
    serde_json::from_value::<CrossAccountRegistryGrant>(object).unwrap();
}

#[rstest]
#[case::neither("/spec/consumer", json!({ "wholeAccount": true }), "spec.consumer.accountID or spec.consumer.organization is needed")]
#[case::both("/spec/consumer/organization", json!({ "id": ID }), "spec.consumer.accountID or spec.consumer.organization is needed")]
#[case::whole_account("/spec/consumer", json!({ "organization": { "id": ID }, "wholeAccount": true }), "not to an organization")]
#[case::roles("/spec/consumer", json!({ "organization": { "id": ID }, "roles": ["ci/*"] }), "not to an organization")]
#[case::lambda("/spec/consumer", json!({ "organization": { "id": ID }, "lambda": true }), "not to an organization")]
#[case::instance_role("/spec/consumer", json!({ "organization": { "id": ID }, "instanceRole": { "name": "x" } }), "not to an organization")]
#[case::id("/spec/consumer", json!({ "organization": { "id": "o-*" } }), "spec.consumer.organization.id")]
#[case::no_id("/spec/consumer", json!({ "organization": {} }), "spec.consumer.organization.id")]
#[case::path_of_another("/spec/consumer", json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e6/r-ab12/*"] } }), "spec.consumer.organization.paths")]
#[case::path_that_is_all("/spec/consumer", json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/*"] } }), "spec.consumer.organization.paths")]
#[case::no_path("/spec/consumer", json!({ "organization": { "id": ID, "paths": [] } }), "spec.consumer.organization.paths")]
#[case::path_twice("/spec/consumer", json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5/r-ab12/*"] } }), "spec.consumer.organization.paths")]
#[case::sid_of_an_installation("/spec/registry/replaceSids", json!(["RegistryGrantsfedcba98765401234567"]), "spec.registry.replaceSids")]
#[case::sid_empty("/spec/registry/replaceSids", json!([""]), "spec.registry.replaceSids")]
#[case::sid_twice("/spec/registry/replaceSids", json!(["a", "a"]), "spec.registry.replaceSids")]
fn invalid_consumers_are_refused_at_their_field(
    #[case] place: &str,
    #[case] value: Value,
    #[case] named: &str,
) {
    let refusals = why_not(&with(of_account(), place, value));
    assert!(
        refusals.iter().any(|why| why.contains(named)),
        "{refusals:?}"
    );
}

#[test]
fn lambda_and_replace_sids_need_path_direct() {
    let by_role = with(of_account(), "/spec/paths", json!(["AssumeRole"]));
    for (place, value) in [
        ("/spec/consumer/lambda", json!(true)),
        ("/spec/registry/replaceSids", json!(["a"])),
    ] {
        let refusals = why_not(&with(by_role.clone(), place, value));
        assert!(
            refusals.iter().any(|why| why.contains("needs path Direct")),
            "{refusals:?}"
        );
    }
}

#[test]
fn consumer_kind_and_organization_cannot_be_changed() {
    let organization = |id: &str| of_organization(json!({ "organization": { "id": id } }));
    for (one, other) in [
        (of_account(), organization(ID)),
        (organization(ID), organization("o-a1b2c3d4e6")),
    ] {
        for (new, old) in [(&other, &one), (&one, &other)] {
            let refusals = refusals::<CrossAccountRegistryGrant>(new, Some(old));
            assert!(
                refusals
                    .iter()
                    .any(|why| why.contains("cannot be set, changed or removed")),
                "{refusals:?}"
            );
        }
    }
    let unit = of_organization(
        json!({ "organization": { "id": ID, "paths": ["o-a1b2c3d4e5/r-ab12/*"] } }),
    );
    assert_eq!(
        refusals::<CrossAccountRegistryGrant>(&unit, Some(&organization(ID))),
        Vec::<String>::new()
    );
}

#[rstest]
#[case(json!(["o-a1b2c3d4e5"]), true)]
#[case(json!(["o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/"]), true)]
#[case(json!(["*"]), false)]
#[case(json!(["o-*"]), false)]
#[case(json!(["o-a1b2c3d4e5/*"]), false)]
#[case(json!(["o-a1b2c3d4e5", "o-a1b2c3d4e5"]), false)]
fn rule_organizations_must_be_ids_or_paths(#[case] organizations: Value, #[case] admitted: bool) {
    let account = json!({
        "metadata": { "name": "111111111111" },
        "spec": { "registry": { "rules": [{
            "namespaces": { "names": ["team-b"] }, "maxAccess": "Pull", "organizations": organizations, "allowReplace": true,
        }] } },
    });
    let refusals = refusals::<AWSAccount>(&account, None);
    assert_eq!(refusals.is_empty(), admitted, "{refusals:?}");
}
