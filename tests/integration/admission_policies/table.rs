//! Grants with rules that admit them or not.

use crate::support::case::merged;
use anyhow::{Context, Result};
use local_stack::REGION;
use registry_grants::api::account::{AWSAccount, AWSAccountSpec};
use registry_grants::api::grant::CrossAccountRegistryGrantSpec;
use registry_grants::grant::{AccountId, AccountLookup, GrantName, Problem, validate};
use registry_grants::policy::Installation;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A grant, the rules that it is checked against, and the expected message; empty if it is
/// admitted.
pub struct Row {
    pub registry_rules: Value,
    pub consumer_rules: Value,
    pub grant: Value,
    pub refused: &'static [&'static str],
}

pub const NAMESPACE: &str = "judged";
const ORGANIZATION: &str = "o-a1b2c3d4e5";

fn labels() -> BTreeMap<String, String> {
    [("team", "b"), ("kubernetes.io/metadata.name", NAMESPACE)]
        .map(|(k, v)| (k.into(), v.into()))
        .into()
}

/// Returns two accounts that no other row has.
pub fn accounts(row: usize) -> (String, String) {
    (format!("7100000{row:05}"), format!("7200000{row:05}"))
}

fn rule(row: usize, changes: Value) -> Value {
    let rule = json!({
        "namespaces": {"names": [NAMESPACE]},
        "repositories": ["app", "team/*"],
        "maxAccess": "PullPush",
        "consumers": [accounts(row).1],
    });
    merged(rule, changes)
}

pub fn grant(row: usize, changes: Value) -> Value {
    let (registry, consumer) = accounts(row);
    let spec = json!({
        "access": "PullPush",
        "registry": {"accountID": registry, "regions": [REGION], "repositories": ["app"]},
        "consumer": {"accountID": consumer, "wholeAccount": true},
    });
    resource(
        "CrossAccountRegistryGrant",
        &format!("row-{row}"),
        merged(spec, changes),
    )
}

pub fn resource(kind: &str, name: &str, spec: Value) -> Value {
    let metadata = match kind {
        "AWSAccount" => json!({"name": name}),
        _ => json!({"name": name, "namespace": NAMESPACE}),
    };
    json!({"apiVersion": "registrygrants.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec})
}

/// Changes of the rule, changes of the grant, and the expected message.
fn table() -> Vec<(Value, Value, &'static [&'static str])> {
    let asks = |repositories: Value| json!({"registry": {"repositories": repositories}});
    let in_organization = |paths: Value| json!({"consumer": {"accountID": null, "wholeAccount": null, "organization": {"id": ORGANIZATION, "paths": paths}}});
    let units = |units: Value| json!({"organizations": units});
    let selected =
        |selector: Value| json!({"namespaces": {"names": ["another"], "selector": selector}});
    let expression = |operator: &str, key: &str, values: Value| json!({"namespaces": {"names": [], "selector": {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}}});
    let managed = |name: &str| json!({"registry": {"role": {"managedPolicies": [name]}}});
    let power_user = "AmazonEC2ContainerRegistryPowerUser";
    let elsewhere: &[&str] = &["no rule is for this namespace"];
    let unit = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/";
    let all = "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*";
    vec![
        (json!({}), json!({}), &[]),
        // Repositories.
        (
            json!({}),
            asks(json!(["team/web", "team/*", "team/x-*", "app"])),
            &[],
        ),
        (
            json!({"repositories": ["*"]}),
            asks(json!(["anything/at-all", "any*"])),
            &[],
        ),
        (
            json!({}),
            asks(json!(["secret/x"])),
            &["no rule admits repository secret/x."],
        ),
        (json!({}), asks(json!(["team*"])), &["repository team*"]),
        (json!({}), asks(json!(["app*"])), &["repository app*"]),
        (json!({}), asks(json!(["team"])), &["repository team."]),
        (
            json!({}),
            asks(json!(["app", "other", "team/web", "tea*"])),
            &["repository other, repository tea*."],
        ),
        (json!({"repositories": []}), json!({}), &["repository app"]),
        // Access.
        (
            json!({"maxAccess": "Pull"}),
            json!({}),
            &["no rule admits access PullPush."],
        ),
        (json!({"maxAccess": "Pull"}), json!({"access": "Pull"}), &[]),
        // Consumers.
        (
            json!({"consumers": []}),
            json!({}),
            &["no rule admits consumer 72"],
        ),
        (
            json!({"consumers": [], "organizations": [ORGANIZATION]}),
            json!({}),
            &["no rule admits consumer 72"],
        ),
        (
            json!({}),
            in_organization(json!(null)),
            &["organization o-a1b2c3d4e5."],
        ),
        (
            units(json!([ORGANIZATION])),
            in_organization(json!(null)),
            &[],
        ),
        (
            units(json!([ORGANIZATION])),
            in_organization(json!([all, unit])),
            &[],
        ),
        (
            units(json!(["o-a1b2c3d4e5f"])),
            in_organization(json!([all])),
            &["organization o-a1b2c3d4e5/r-ab12"],
        ),
        (
            units(json!([all])),
            in_organization(json!(null)),
            &["organization o-a1b2c3d4e5."],
        ),
        (
            units(json!([all])),
            in_organization(json!([unit, all])),
            &[],
        ),
        (
            units(json!([unit])),
            in_organization(json!([all])),
            &["organization o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*."],
        ),
        (units(json!([unit])), in_organization(json!([unit])), &[]),
        (
            units(json!([all])),
            in_organization(json!(["o-a1b2c3d4e5/r-ab12/*"])),
            &["organization o-a1b2c3d4e5/r-ab12/*."],
        ),
        // Other requests of a grant.
        (
            json!({}),
            json!({"registry": {"replaceSids": ["theirs"]}}),
            &["no rule admits replaceSids."],
        ),
        (
            json!({"allowReplace": true}),
            json!({"registry": {"replaceSids": ["theirs"]}}),
            &[],
        ),
        (
            json!({}),
            managed(power_user),
            &["managed policy AmazonEC2ContainerRegistryPowerUser."],
        ),
        (
            json!({}),
            json!({"deletionPolicy": "Retain"}),
            &["no rule admits deletionPolicy Retain."],
        ),
        (
            json!({"allowRetain": true}),
            json!({"deletionPolicy": "Retain"}),
            &[],
        ),
        (
            json!({"managedPolicies": [power_user]}),
            managed(power_user),
            &[],
        ),
        (
            json!({}),
            merged(managed(power_user), json!({"paths": ["Direct"]})),
            &[],
        ),
        // Namespaces.
        (
            json!({"namespaces": {"names": ["judge"]}}),
            json!({}),
            elsewhere,
        ),
        (json!({"namespaces": {"names": []}}), json!({}), elsewhere),
        (
            selected(json!({"matchLabels": {"team": "b"}})),
            json!({}),
            &[],
        ),
        (
            selected(json!({"matchLabels": {"team": "a"}})),
            json!({}),
            elsewhere,
        ),
        (
            selected(json!({"matchLabels": {"team": "b", "stage": "x"}})),
            json!({}),
            elsewhere,
        ),
        (expression("In", "team", json!(["a", "b"])), json!({}), &[]),
        (expression("In", "team", json!(["a"])), json!({}), elsewhere),
        (expression("In", "team", json!([])), json!({}), elsewhere),
        (expression("In", "team", json!(null)), json!({}), elsewhere),
        (expression("NotIn", "team", json!(["a"])), json!({}), &[]),
        (expression("NotIn", "stage", json!(["a"])), json!({}), &[]),
        (
            expression("NotIn", "team", json!(["b"])),
            json!({}),
            elsewhere,
        ),
        (
            expression("NotIn", "team", json!(null)),
            json!({}),
            elsewhere,
        ),
        (expression("Exists", "team", json!(null)), json!({}), &[]),
        (
            expression("Exists", "stage", json!(null)),
            json!({}),
            elsewhere,
        ),
        (
            expression("DoesNotExist", "stage", json!(null)),
            json!({}),
            &[],
        ),
        (
            expression("DoesNotExist", "team", json!(null)),
            json!({}),
            elsewhere,
        ),
        (
            expression("Like", "team", json!(["b"])),
            json!({}),
            elsewhere,
        ),
        // The message names what the closest rule does not admit, and never the content of other
        // rules.
        (
            json!({"maxAccess": "Pull"}),
            asks(json!(["other"])),
            &["repository other, access PullPush."],
        ),
    ]
}

/// The same for roles that others created, in the consumer's rule.
fn roles_of_others() -> Vec<(Value, Value, &'static [&'static str])> {
    let retain = || json!({"deletionPolicy": "Retain"});
    let role = |changes: Value| json!({"consumer": {"instanceRole": changes}});
    vec![
        (json!({"management": ["Extend"]}), json!({}), &[]),
        (
            json!({"management": ["Create", "Extend"], "allowRetain": true}),
            retain(),
            &[],
        ),
        (
            json!({}),
            json!({}),
            &["instance role nodes/node with management Extend for namespace judged"],
        ),
        (
            json!({"management": []}),
            json!({}),
            &["nodes/node with management Extend"],
        ),
        (
            json!({"management": ["Extend"]}),
            retain(),
            &["with management Extend and deletionPolicy Retain for"],
        ),
        (
            json!({"management": ["Extend"]}),
            role(json!({"path": null})),
            &["instance role node with management Extend"],
        ),
        (
            json!({"management": ["Extend"], "roles": ["node"]}),
            role(json!({"path": null})),
            &[],
        ),
        (
            json!({"management": ["Extend"], "roles": ["registry-grants/*"]}),
            role(json!({"management": null, "path": null})),
            &["instance role registry-grants/node for namespace"],
        ),
        (
            json!({"roles": ["registry-grants/*"]}),
            merged(role(json!({"management": null, "path": null})), retain()),
            &["registry-grants/node with deletionPolicy Retain for"],
        ),
    ]
}

pub fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (of_rule, of_grant, refused) in table() {
        let row = rows.len();
        rows.push(Row {
            registry_rules: json!([rule(row, without_nulls(of_rule))]),
            consumer_rules: json!([]),
            grant: grant(row, of_grant),
            refused,
        });
    }
    let row = rows.len();
    let only_together = json!([
        rule(row, json!({"maxAccess": "Pull"})),
        rule(row, json!({"repositories": ["team/*"]}))
    ]);
    let node = |row| grant(row, json!({"consumer": {"instanceRole": {"name": "node"}}}));
    let roles = |roles: Value, namespace: &str| json!([{"namespaces": {"names": [namespace]}, "roles": roles}]);
    rows.push(Row {
        registry_rules: only_together,
        consumer_rules: json!([]),
        grant: grant(row, json!({})),
        refused: &["no rule admits access PullPush."],
    });
    rows.push(Row {
        registry_rules: json!([]),
        consumer_rules: json!([]),
        grant: grant(row + 1, json!({})),
        refused: &["no rule is for this namespace"],
    });
    rows.push(Row {
        registry_rules: json!(null),
        consumer_rules: json!(null),
        grant: grant(row + 2, json!({})),
        refused: &["no rule is for this namespace"],
    });
    let of_roles: [(Value, &'static [&'static str]); 7] = [
        (roles(json!(["registry-grants/node"]), NAMESPACE), &[]),
        (roles(json!(["x", "registry-grants/n*"]), NAMESPACE), &[]),
        (
            roles(json!(["registry-grants/*"]), "another"),
            &["instance role registry-grants/node for namespace judged"],
        ),
        (
            roles(json!(["node"]), NAMESPACE),
            &["instance role registry-grants/node"],
        ),
        (
            roles(json!([]), NAMESPACE),
            &["instance role registry-grants/node"],
        ),
        (json!([]), &["instance role registry-grants/node"]),
        (json!(null), &["instance role registry-grants/node"]),
    ];
    for (consumer_rules, refused) in of_roles {
        let row = rows.len();
        rows.push(Row {
            registry_rules: json!([rule(row, json!({}))]),
            consumer_rules,
            grant: node(row),
            refused,
        });
    }
    for (of_rule, of_grant, refused) in roles_of_others() {
        let row = rows.len();
        let consumer_rule = merged(
            json!({"namespaces": {"names": [NAMESPACE]}, "roles": ["nodes/*"]}),
            of_rule,
        );
        let registry_rule = rule(row, json!({"allowRetain": true}));
        let extends = json!({"consumer": {"instanceRole": {"name": "node", "management": "Extend", "path": "/nodes/"}}});
        rows.push(Row {
            registry_rules: json!([registry_rule]),
            consumer_rules: json!([consumer_rule]),
            grant: grant(row, merged(extends, of_grant)),
            refused,
        });
    }
    rows
}

/// As in a manifest: null fields are omitted.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, v)| !v.is_null())
            .map(|(k, v)| (k, without_nulls(v)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        plain => plain,
    }
}

impl Row {
    pub fn accounts(&self, row: usize) -> [Value; 2] {
        let (registry, consumer) = accounts(row);
        let side = |field: &str, rules: &Value| match rules {
            Value::Null => json!({}),
            rules => json!({field: {"rules": rules}}),
        };
        [
            resource(
                "AWSAccount",
                &registry,
                side("registry", &self.registry_rules),
            ),
            resource(
                "AWSAccount",
                &consumer,
                side("consumer", &self.consumer_rules),
            ),
        ]
    }

    /// Returns the operator's message about the grant.
    pub fn judged_by_the_operator(&self, row: usize) -> Result<Vec<Problem>> {
        let mut known = Known(BTreeMap::new());
        for account in self.accounts(row) {
            let spec: AWSAccountSpec = serde_json::from_value(account["spec"].clone())?;
            let name = account["metadata"]["name"]
                .as_str()
                .context("no name")?
                .to_owned();
            known
                .0
                .insert(name.clone(), Arc::new(AWSAccount::new(&name, spec)));
        }
        let spec: CrossAccountRegistryGrantSpec =
            serde_json::from_value(self.grant["spec"].clone())?;
        let name = GrantName {
            namespace: NAMESPACE.into(),
            name: format!("row-{row}"),
        };
        Ok(
            validate(&name, &spec, &known, &Installation::of_cluster("x"))
                .err()
                .unwrap_or_default(),
        )
    }
}

struct Known(BTreeMap<String, Arc<AWSAccount>>);

impl AccountLookup for Known {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.0.get(id.as_str()).cloned()
    }

    fn namespace_labels(&self, _: &str) -> Option<BTreeMap<String, String>> {
        Some(labels())
    }
}
