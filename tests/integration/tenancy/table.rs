//! Attempts of tenants, with the expected results.

use super::attempts;
use crate::support::case::Case;
use serde_json::{Value, json};

/// A grant, and the rules of the accounts.
pub struct Row {
    /// The attempt, in words that a resource's name may contain.
    pub tried: &'static str,
    /// The registry's rules. There is always an additional one for another tenant.
    pub registry: Vec<Value>,
    /// The consumer's rules, likewise.
    pub consumer: Vec<Value>,
    /// Merged into the spec of [`Case::grant`].
    pub asked: Value,
    pub expected: Outcome,
}

pub enum Outcome {
    Granted,
    /// The CRD schema refuses it, and the message contains this.
    Malformed(&'static str),
    /// The operator refuses it for this reason, and the message contains this.
    Refused(&'static str, &'static str),
}

pub use Outcome::{Granted, Malformed, Refused};

/// A text in the rules for the other tenant, which must never be disclosed.
pub const SECRETS: [&str; 4] = [
    "secret-namespace",
    "secret-repository",
    "999999999999",
    "o-secretsecret",
];

/// Returns the rules for the other tenant: of the registry and of the consumer.
pub fn for_somebody_else() -> (Value, Value) {
    let namespaces = json!({"names": ["secret-namespace"]});
    let registry = json!({
        "namespaces": namespaces, "repositories": ["secret-repository/*"], "maxAccess": "PullPush",
        "consumers": ["999999999999"], "organizations": ["o-secretsecret"], "allowReplace": true, "allowRetain": true,
    });
    (
        registry,
        json!({"namespaces": namespaces, "roles": ["secret-repository/*"], "management": ["Create", "Extend"]}),
    )
}

pub const NOT_ADMITTED: &str = "NotAdmitted";

/// Returns every row, for the accounts and the namespace of its case.
pub fn rows() -> Vec<fn(&Case<'_>) -> Row> {
    [
        repositories(),
        consumers(),
        attempts::access(),
        attempts::roles(),
        attempts::namespaces(),
        attempts::names(),
    ]
    .concat()
}

pub fn row(
    case: &Case<'_>,
    tried: &'static str,
    of_rule: Value,
    asked: Value,
    expected: Outcome,
) -> Row {
    Row {
        tried,
        registry: vec![case.rule(of_rule)],
        consumer: vec![nodes(case, json!({}))],
        asked,
        expected,
    }
}

pub fn nodes(case: &Case<'_>, changes: Value) -> Value {
    crate::support::case::merged(
        json!({"namespaces": {"names": [case.namespace]}, "roles": ["registry-grants/*"]}),
        changes,
    )
}

fn asks(repositories: Value) -> Value {
    json!({"registry": {"repositories": repositories}})
}

fn repositories() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| row(c, "what-is-admitted", json!({}), json!({}), Granted),
        |c| {
            row(
                c,
                "a-repository-below-the-prefix",
                json!({}),
                asks(json!(["team/web"])),
                Granted,
            )
        },
        |c| {
            row(
                c,
                "the-prefix-itself",
                json!({}),
                asks(json!(["team/*"])),
                Granted,
            )
        },
        |c| {
            row(
                c,
                "a-narrower-prefix",
                json!({}),
                asks(json!(["team/x*"])),
                Granted,
            )
        },
        |c| {
            row(
                c,
                "another-repository",
                json!({}),
                asks(json!(["other"])),
                Refused(NOT_ADMITTED, "repository other"),
            )
        },
        |c| {
            row(
                c,
                "somebody-elses-repository",
                json!({}),
                asks(json!(["app", "theirs/app"])),
                Refused(NOT_ADMITTED, "repository theirs/app"),
            )
        },
        |c| {
            row(
                c,
                "a-wider-prefix",
                json!({}),
                asks(json!(["tea*"])),
                Refused(NOT_ADMITTED, "repository tea*"),
            )
        },
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
            row(
                c,
                "the-name-of-the-prefix",
                json!({}),
                asks(json!(["team"])),
                Refused(NOT_ADMITTED, "repository team"),
            )
        },
        |c| {
            row(
                c,
                "a-name-made-a-prefix",
                json!({}),
                asks(json!(["app*"])),
                Refused(NOT_ADMITTED, "repository app*"),
            )
        },
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
        |c| {
            row(
                c,
                "everything",
                json!({}),
                asks(json!(["*"])),
                Malformed("spec.registry.repositories"),
            )
        },
        |c| {
            row(
                c,
                "a-star-in-the-middle",
                json!({}),
                asks(json!(["team/*/web"])),
                Malformed("spec.registry.repositories"),
            )
        },
        |c| {
            row(
                c,
                "a-way-up",
                json!({}),
                asks(json!(["team/../theirs"])),
                Malformed("spec.registry.repositories"),
            )
        },
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
        |c| {
            row(
                c,
                "upper-case",
                json!({}),
                asks(json!(["Team/web"])),
                Malformed("spec.registry.repositories"),
            )
        },
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

fn consumers() -> Vec<fn(&Case<'_>) -> Row> {
    vec![
        |c| {
            let asked = json!({"consumer": {"accountID": "444444444444", "instanceRole": null}});
            row(
                c,
                "another-consumer",
                json!({}),
                asked,
                Refused(NOT_ADMITTED, "consumer 444444444444"),
            )
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
            row(
                c,
                "any-account",
                json!({}),
                asked,
                Malformed("spec.consumer.accountID"),
            )
        },
        |c| {
            let asked = json!({"consumer": {"accountID": "١١١١١١١١١١١١", "instanceRole": null}});
            row(
                c,
                "digits-of-another-script",
                json!({}),
                asked,
                Malformed("spec.consumer.accountID"),
            )
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
            row(
                c,
                "another-unit",
                of_rule,
                asked,
                Refused(NOT_ADMITTED, "ou-ab12-22222222"),
            )
        },
        |c| {
            let of_rule = json!({"organizations": ["o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*"]});
            let asked = organization(json!([
                "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-33333333/"
            ]));
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
