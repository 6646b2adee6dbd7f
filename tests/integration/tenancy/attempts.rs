//! Attempts of tenants: access, policies, roles, namespaces, and misleading names.

use super::table::{Granted, Malformed, NOT_ADMITTED, Outcome, Refused, Row, nodes, row};
use crate::support::case::Case;
use serde_json::{Value, json};

const POWER_USER: &str = "AmazonEC2ContainerRegistryPowerUser";

/// Access, and other requests.
pub fn access() -> Vec<fn(&Case<'_>) -> Row> {
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
                Refused(
                    NOT_ADMITTED,
                    "managed policy AmazonEC2ContainerRegistryPowerUser",
                ),
            )
        },
        |c| {
            let asked = json!({"registry": {"role": {"managedPolicies": [POWER_USER]}}});
            row(
                c,
                "a-managed-policy-that-is-admitted",
                json!({"managedPolicies": [POWER_USER]}),
                asked,
                Granted,
            )
        },
        |c| {
            let asked = json!({"registry": {"role": {"managedPolicies": ["AdministratorAccess"]}}});
            row(
                c,
                "a-managed-policy-that-is-none-of-ecr",
                json!({}),
                asked,
                Malformed("managedPolicies"),
            )
        },
        |c| {
            let asked =
                json!({"access": "Pull", "registry": {"role": {"managedPolicies": [POWER_USER]}}});
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
            let asked =
                json!({"registry": {"replaceSids": ["RegistryGrants0123456789ab01234567"]}});
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
            registry: vec![
                c.rule(json!({"maxAccess": "Pull"})),
                c.rule(json!({"repositories": ["team/*"]})),
            ],
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
            ..row(
                c,
                "no-rules",
                json!({}),
                json!({}),
                Refused(NOT_ADMITTED, "no rule is for this namespace"),
            )
        },
    ]
}

/// Roles.
pub fn roles() -> Vec<fn(&Case<'_>) -> Row> {
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
                Refused(
                    NOT_ADMITTED,
                    "instance role registry-grants with management Extend",
                ),
            )
        },
        |c| Row {
            consumer: vec![nodes(
                c,
                json!({"management": ["Extend"], "roles": ["registry-grants"]}),
            )],
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
                Refused("Conflict", "was not created by this operator"),
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
        |c| {
            row(
                c,
                "all-roles-by-a-star",
                json!({}),
                roles_of(json!(["*"])),
                Malformed("spec.consumer.roles"),
            )
        },
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

/// Namespaces.
pub fn namespaces() -> Vec<fn(&Case<'_>) -> Row> {
    const ELSEWHERE: Outcome = Refused(NOT_ADMITTED, "no rule is for this namespace");
    vec![
        |c| {
            row(
                c,
                "another-namespaces-rule",
                json!({"namespaces": {"names": ["another"]}}),
                json!({}),
                ELSEWHERE,
            )
        },
        |c| {
            row(
                c,
                "a-rule-for-no-namespace",
                json!({"namespaces": {"names": []}}),
                json!({}),
                ELSEWHERE,
            )
        },
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

/// Misleading names.
pub fn names() -> Vec<fn(&Case<'_>) -> Row> {
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
