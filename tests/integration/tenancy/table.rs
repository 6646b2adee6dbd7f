//! What tenants try, and what comes of it.

use crate::case::Case;
use serde_json::{Value, json};

/// A grant in a cluster whose accounts have these rules.
pub struct Row {
    /// What is tried, in words that a resource's name can hold.
    pub tried: &'static str,
    /// The registry's rules. Beside them there is always one for somebody else.
    pub registry: Vec<Value>,
    /// The consumer's rules, likewise.
    pub consumer: Vec<Value>,
    /// Merged into the spec of [`Case::grant`].
    pub asked: Value,
    pub comes_of_it: Outcome,
}

pub enum Outcome {
    Granted,
    /// The definition refuses it, and names this.
    Malformed(&'static str),
    /// The operator refuses it for this reason, and names this.
    Refused(&'static str, &'static str),
}

use Outcome::{Granted, Malformed, Refused};

/// In the rules for somebody else, and never to be told.
pub const SECRETS: [&str; 4] = ["secret-namespace", "secret-repository", "999999999999", "o-secretsecret"];

/// The rules for somebody else: for the registry and for the consumer.
pub fn for_somebody_else() -> (Value, Value) {
    let namespaces = json!({"names": ["secret-namespace"]});
    let registry = json!({
        "namespaces": namespaces, "repositories": ["secret-repository/*"], "maxAccess": "PullPush",
        "consumers": ["999999999999"], "organizations": ["o-secretsecret"], "allowReplace": true, "allowRetain": true,
    });
    (registry, json!({"namespaces": namespaces, "roles": ["secret-repository/*"], "management": ["Create", "Extend"]}))
}

const NOT_ADMITTED: &str = "NotAdmitted";
const POWER_USER: &str = "AmazonEC2ContainerRegistryPowerUser";

/// Every row, for the accounts and the namespace of its case.
pub fn rows() -> Vec<fn(&Case<'_>) -> Row> {
    [repositories(), whom(), how(), roles(), namespaces(), names()].concat()
}

fn row(case: &Case<'_>, tried: &'static str, of_rule: Value, asked: Value, comes_of_it: Outcome) -> Row {
    Row { tried, registry: vec![case.rule(of_rule)], consumer: vec![nodes(case, json!({}))], asked, comes_of_it }
}

fn nodes(case: &Case<'_>, changes: Value) -> Value {
    crate::case::merged(json!({"namespaces": {"names": [case.namespace]}, "roles": ["registry-grants/*"]}), changes)
}

fn asks(repositories: Value) -> Value {
    json!({"registry": {"repositories": repositories}})
}

fn repositories() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| row(c, "what-is-admitted", json!({}), json!({}), Granted),
        |c| row(c, "a-repository-below-the-prefix", json!({}), asks(json!(["team/web"])), Granted),
        |c| row(c, "the-prefix-itself", json!({}), asks(json!(["team/*"])), Granted),
        |c| row(c, "a-narrower-prefix", json!({}), asks(json!(["team/x*"])), Granted),
        |c| row(c, "another-repository", json!({}), asks(json!(["other"])), Refused(NOT_ADMITTED, "repository other")),
        |c| {
            row(
                c,
                "somebody-elses-repository",
                json!({}),
                asks(json!(["app", "theirs/app"])),
                Refused(NOT_ADMITTED, "repository theirs/app"),
            )
        },
        |c| row(c, "a-wider-prefix", json!({}), asks(json!(["tea*"])), Refused(NOT_ADMITTED, "repository tea*")),
        |c| {
            row(
                c,
                "a-prefix-without-its-slash",
                json!({}),
                asks(json!(["team*"])),
                Refused(NOT_ADMITTED, "repository team*"),
            )
        },
        |c| {
            row(c, "the-name-of-the-prefix", json!({}), asks(json!(["team"])), Refused(NOT_ADMITTED, "repository team"))
        },
        |c| row(c, "a-name-made-a-prefix", json!({}), asks(json!(["app*"])), Refused(NOT_ADMITTED, "repository app*")),
        |c| {
            row(
                c,
                "a-name-that-begins-like-one",
                json!({}),
                asks(json!(["application"])),
                Refused(NOT_ADMITTED, "repository application"),
            )
        },
        |c| {
            row(
                c,
                "a-prefix-where-a-narrower-one-is-admitted",
                json!({"repositories": ["team/a*"]}),
                asks(json!(["team/*"])),
                Refused(NOT_ADMITTED, "repository team/*"),
            )
        },
        |c| row(c, "everything", json!({}), asks(json!(["*"])), Malformed("spec.registry.repositories")),
        |c| {
            row(
                c,
                "a-star-in-the-middle",
                json!({}),
                asks(json!(["team/*/web"])),
                Malformed("spec.registry.repositories"),
            )
        },
        |c| row(c, "a-way-up", json!({}), asks(json!(["team/../theirs"])), Malformed("spec.registry.repositories")),
        |c| {
            row(
                c,
                "a-variable-in-a-repository",
                json!({}),
                asks(json!(["team/${aws:username}"])),
                Malformed("spec.registry.repositories"),
            )
        },
        |c| {
            row(
                c,
                "an-arn-as-a-repository",
                json!({}),
                asks(json!(["arn:aws:ecr:us-east-1:999:repository/x"])),
                Malformed("spec.registry.repositories"),
            )
        },
        |c| row(c, "upper-case", json!({}), asks(json!(["Team/web"])), Malformed("spec.registry.repositories")),
        |c| {
            row(
                c,
                "a-rule-without-repositories",
                json!({"repositories": []}),
                json!({}),
                Refused(NOT_ADMITTED, "repository app"),
            )
        },
    ]
}

fn whom() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| {
            let asked = json!({"consumer": {"accountID": "444444444444", "instanceRole": null}});
            row(c, "another-consumer", json!({}), asked, Refused(NOT_ADMITTED, "consumer 444444444444"))
        },
        |c| {
            let asked = json!({"registry": {"accountID": "555555555555"}});
            row(
                c,
                "a-registry-that-nobody-opened",
                json!({}),
                asked,
                Refused("AccountNotFound", "AWSAccount 555555555555"),
            )
        },
        |c| {
            let asked = json!({"registry": {"accountID": c.pair.consumer}, "consumer": {"accountID": c.pair.registry, "instanceRole": null}});
            row(
                c,
                "the-accounts-the-other-way-round",
                json!({}),
                asked,
                Refused(NOT_ADMITTED, "no rule is for this namespace"),
            )
        },
        |c| {
            let asked = json!({"consumer": {"accountID": c.pair.registry, "instanceRole": null}});
            row(
                c,
                "the-registry-as-its-own-consumer",
                json!({}),
                asked,
                Malformed("spec.consumer.accountID must differ"),
            )
        },
        |c| {
            let asked = json!({"consumer": {"accountID": "*", "instanceRole": null}});
            row(c, "any-account", json!({}), asked, Malformed("spec.consumer.accountID"))
        },
        |c| {
            let asked = json!({"consumer": {"accountID": "١١١١١١١١١١١١", "instanceRole": null}});
            row(c, "digits-of-another-script", json!({}), asked, Malformed("spec.consumer.accountID"))
        },
        |c| {
            row(
                c,
                "an-organization",
                json!({}),
                organization(json!(null)),
                Refused(NOT_ADMITTED, "organization o-a1b2c3d4e5"),
            )
        },
        |c| {
            let of_rule = json!({"organizations": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*"]});
            row(
                c,
                "an-organization-where-a-unit-is-admitted",
                of_rule,
                organization(json!(null)),
                Refused(NOT_ADMITTED, "organization o-a1b2c3d4e5"),
            )
        },
        |c| {
            let of_rule = json!({"organizations": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*"]});
            let asked = organization(json!(["o-a1b2c3d4e5/r-ab12/ou-ab12-22222222/*"]));
            row(c, "another-unit", of_rule, asked, Refused(NOT_ADMITTED, "ou-ab12-22222222"))
        },
        |c| {
            let of_rule = json!({"organizations": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*"]});
            let asked = organization(json!(["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-33333333/"]));
            row(c, "a-unit-below-the-admitted-one", of_rule, asked, Granted)
        },
        |c| {
            row(
                c,
                "a-unit-of-another-organization",
                json!({}),
                organization(json!(["o-ffffffffff/r-ab12/*"])),
                Malformed("spec.consumer.organization.paths"),
            )
        },
        |c| {
            row(
                c,
                "the-rule-of-somebody-else",
                json!({"consumers": []}),
                json!({}),
                Refused(NOT_ADMITTED, "consumer 2"),
            )
        },
    ]
}

fn organization(paths: Value) -> Value {
    json!({"consumer": {"accountID": null, "wholeAccount": null, "instanceRole": null, "organization": {"id": "o-a1b2c3d4e5", "paths": paths}}})
}

fn how() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| {
            row(
                c,
                "to-push-where-pulling-is-admitted",
                json!({"maxAccess": "Pull"}),
                json!({}),
                Refused(NOT_ADMITTED, "access PullPush"),
            )
        },
        |c| {
            row(
                c,
                "to-pull-where-pulling-is-admitted",
                json!({"maxAccess": "Pull"}),
                json!({"access": "Pull"}),
                Granted,
            )
        },
        |c| {
            let asked = json!({"registry": {"role": {"managedPolicies": [POWER_USER]}}});
            row(
                c,
                "a-managed-policy",
                json!({}),
                asked,
                Refused(NOT_ADMITTED, "managed policy AmazonEC2ContainerRegistryPowerUser"),
            )
        },
        |c| {
            let asked = json!({"registry": {"role": {"managedPolicies": [POWER_USER]}}});
            row(c, "a-managed-policy-that-is-admitted", json!({"managedPolicies": [POWER_USER]}), asked, Granted)
        },
        |c| {
            let asked = json!({"registry": {"role": {"managedPolicies": ["AdministratorAccess"]}}});
            row(c, "a-managed-policy-that-is-none-of-ecr", json!({}), asked, Malformed("managedPolicies"))
        },
        |c| {
            let asked = json!({"access": "Pull", "registry": {"role": {"managedPolicies": [POWER_USER]}}});
            row(
                c,
                "to-push-by-a-managed-policy",
                json!({"maxAccess": "Pull", "managedPolicies": [POWER_USER]}),
                asked,
                Malformed("would allow pushing"),
            )
        },
        |c| {
            row(
                c,
                "to-replace-statements",
                json!({}),
                json!({"registry": {"replaceSids": ["theirs"]}}),
                Refused(NOT_ADMITTED, "replaceSids"),
            )
        },
        |c| {
            let asked = json!({"registry": {"replaceSids": ["RegistryGrants0123456789ab01234567"]}});
            row(
                c,
                "to-replace-another-installations-statements",
                json!({"allowReplace": true}),
                asked,
                Malformed("spec.registry.replaceSids"),
            )
        },
        |c| {
            row(
                c,
                "to-retain",
                json!({}),
                json!({"deletionPolicy": "Retain"}),
                Refused(NOT_ADMITTED, "deletionPolicy Retain"),
            )
        },
        |c| {
            row(
                c,
                "a-region-of-another-partition",
                json!({}),
                json!({"registry": {"regions": ["cn-north-1"]}}),
                Refused("Invalid", "cn-north-1 is not a region of partition aws"),
            )
        },
        |c| Row {
            registry: vec![c.rule(json!({"maxAccess": "Pull"})), c.rule(json!({"repositories": ["team/*"]}))],
            ..row(
                c,
                "what-two-rules-admit-only-together",
                json!({}),
                json!({}),
                Refused(NOT_ADMITTED, "access PullPush"),
            )
        },
        |c| Row {
            registry: Vec::new(),
            ..row(c, "no-rules", json!({}), json!({}), Refused(NOT_ADMITTED, "no rule is for this namespace"))
        },
    ]
}

fn roles() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| Row {
            consumer: Vec::new(),
            ..row(
                c,
                "an-instance-role-without-rules",
                json!({}),
                json!({}),
                Refused(NOT_ADMITTED, "instance role registry-grants/node"),
            )
        },
        |c| Row {
            consumer: vec![nodes(c, json!({"roles": ["registry-grants/other"]}))],
            ..row(
                c,
                "another-instance-role",
                json!({}),
                json!({}),
                Refused(NOT_ADMITTED, "instance role registry-grants/node"),
            )
        },
        |c| Row {
            consumer: vec![nodes(c, json!({"roles": ["node"]}))],
            ..row(
                c,
                "an-instance-role-under-another-path",
                json!({}),
                json!({}),
                Refused(NOT_ADMITTED, "instance role registry-grants/node"),
            )
        },
        |c| {
            row(
                c,
                "to-extend-an-instance-role",
                json!({}),
                json!({"consumer": {"instanceRole": {"management": "Extend", "path": "/registry-grants/"}}}),
                Refused(NOT_ADMITTED, "registry-grants/node with management Extend"),
            )
        },
        |c| {
            row(
                c,
                "to-extend-the-operators-own-role",
                json!({}),
                json!({"consumer": {"instanceRole": {"name": "registry-grants", "management": "Extend"}}}),
                Refused(NOT_ADMITTED, "instance role registry-grants with management Extend"),
            )
        },
        |c| Row {
            consumer: vec![nodes(c, json!({"management": ["Extend"], "roles": ["registry-grants"]}))],
            ..row(
                c,
                "to-extend-the-operators-own-role-where-a-rule-admits-it",
                json!({}),
                json!({"consumer": {"instanceRole": {"name": "registry-grants", "management": "Extend"}}}),
                Refused("ConsentMissing", "registrygrants.dev/allow-extend"),
            )
        },
        |c| {
            row(
                c,
                "a-path-in-a-role-name",
                json!({}),
                json!({"registry": {"role": {"name": "../admin"}}}),
                Malformed("spec.registry.role.name"),
            )
        },
        |c| {
            row(
                c,
                "an-arn-as-a-role-name",
                json!({}),
                json!({"registry": {"role": {"name": "arn:aws:iam::1:role/x"}}}),
                Malformed("spec.registry.role.name"),
            )
        },
        |c| {
            row(
                c,
                "the-operators-own-role-as-the-registrys",
                json!({}),
                json!({"registry": {"role": {"name": "registry-grants"}}}),
                Refused("Conflict", "was not made by this operator"),
            )
        },
        |c| {
            row(
                c,
                "to-adopt-the-operators-own-role",
                json!({}),
                json!({"registry": {"role": {"name": "registry-grants", "adopt": true, "path": "/"}}}),
                Refused("Conflict", "registrygrants.dev/allow-adopt"),
            )
        },
        |c| {
            row(
                c,
                "a-path-in-an-instance-roles-name",
                json!({}),
                json!({"consumer": {"instanceRole": {"name": "a/node"}}}),
                Malformed("spec.consumer.instanceRole.name"),
            )
        },
        |c| row(c, "all-roles-by-a-star", json!({}), roles_of(json!(["*"])), Malformed("spec.consumer.roles")),
        |c| {
            row(
                c,
                "a-variable-in-a-role",
                json!({}),
                roles_of(json!(["ci/${aws:username}"])),
                Malformed("spec.consumer.roles"),
            )
        },
        |c| {
            row(
                c,
                "a-role-of-another-account",
                json!({}),
                roles_of(json!(["arn:aws:iam::999999999999:role/x"])),
                Malformed("spec.consumer.roles"),
            )
        },
    ]
}

fn roles_of(roles: Value) -> Value {
    json!({"consumer": {"wholeAccount": null, "instanceRole": null, "roles": roles}})
}

fn namespaces() -> Vec<fn(&Case<'_>) -> Row> {
    const ELSEWHERE: Outcome = Refused(NOT_ADMITTED, "no rule is for this namespace");
    vec![
        |c| row(c, "another-namespaces-rule", json!({"namespaces": {"names": ["another"]}}), json!({}), ELSEWHERE),
        |c| row(c, "a-rule-for-no-namespace", json!({"namespaces": {"names": []}}), json!({}), ELSEWHERE),
        |c| {
            row(
                c,
                "a-namespace-that-begins-like-one",
                json!({"namespaces": {"names": [format!("{}-x", c.namespace)]}}),
                json!({}),
                ELSEWHERE,
            )
        },
        |c| {
            row(
                c,
                "a-label-that-the-namespace-lacks",
                labelled(json!({"matchLabels": {"registry": "open"}})),
                json!({}),
                ELSEWHERE,
            )
        },
        |c| {
            row(
                c,
                "a-label-that-every-namespace-has",
                labelled(json!({"matchLabels": {"kubernetes.io/metadata.name": c.namespace}})),
                json!({}),
                Granted,
            )
        },
        |c| {
            row(
                c,
                "a-label-that-must-not-be-there",
                labelled(
                    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "DoesNotExist"}]}),
                ),
                json!({}),
                ELSEWHERE,
            )
        },
        |c| {
            row(
                c,
                "one-of-several-values",
                labelled(
                    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["x", c.namespace]}]}),
                ),
                json!({}),
                Granted,
            )
        },
        |c| {
            row(
                c,
                "none-of-several-values",
                labelled(
                    json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["x", c.namespace]}]}),
                ),
                json!({}),
                ELSEWHERE,
            )
        },
    ]
}

fn labelled(selector: Value) -> Value {
    json!({"namespaces": {"names": null, "selector": selector}})
}

/// Names that try to be something else.
fn names() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| {
            row(
                c,
                "a-region-with-a-host",
                json!({}),
                json!({"registry": {"regions": ["us-east-1.evil.example"]}}),
                Malformed("spec.registry.regions"),
            )
        },
        |c| {
            row(
                c,
                "an-external-id-with-a-variable",
                json!({}),
                json!({"registry": {"role": {"externalID": "${aws:x}"}}}),
                Malformed("externalID"),
            )
        },
        |c| {
            row(
                c,
                "a-sid-with-a-quote",
                json!({"allowReplace": true}),
                json!({"registry": {"replaceSids": ["\"},{"]}}),
                Granted,
            )
        },
    ]
}
