//! Decides whether our statements allow at least as much as a foreign one, so that it can be
//! removed. If this is not certain, the answer is no: a superfluous statement costs a few
//! characters, but a missing one costs access.

use super::contribution::Contribution;
use crate::policy::document::Statement;
use crate::policy::principals::{PrincipalSet, PrincipalSetKind, like};
use crate::text::{list_some, truncate};
use serde_json::Value;
use std::collections::BTreeSet;

/// Maximum number of actions per principal, and of principals, that a reason lists.
const LISTED: usize = 3;
/// Maximum length of a reason, in characters: foreign statements can be long.
const LONGEST: usize = 300;

/// Returns the reason why our statements cannot replace this statement, for people. Returns `None`
/// if ours allow at least as much.
pub fn reason_to_keep(statement: &Statement, ours: &[Contribution]) -> Option<String> {
    match Understood::of(statement) {
        Ok(understood) => understood.missing_in(ours),
        Err(why) => Some(truncate(why, LONGEST)),
    }
}

/// The access that a statement allows. Exists only if every key of the statement is understood.
struct Understood<'a> {
    actions: Vec<&'a str>,
    principals: Vec<Principal<'a>>,
    /// The condition, which can only restrict the access. It matters where it limits `*`, an
    /// account's root or a service.
    condition: Vec<Limit<'a>>,
}

/// One operator and key of a condition, in lower case, and its values.
struct Limit<'a> {
    operator: String,
    key: String,
    values: BTreeSet<&'a str>,
}

enum Principal<'a> {
    Aws(&'a str),
    Service(&'a str),
}

impl<'a> Understood<'a> {
    fn of(statement: &'a Statement) -> Result<Self, String> {
        let Statement(keys) = statement;
        if keys.get("Effect").and_then(Value::as_str) != Some("Allow") {
            return Err("it is not an Allow".into());
        }
        let known = ["Sid", "Effect", "Principal", "Action", "Condition"];
        if let Some(key) = keys.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(format!("it has {key}, whose effect is unknown"));
        }
        let actions = keys
            .get("Action")
            .and_then(texts)
            .ok_or("its Action cannot be read")?;
        if let Some(pattern) = actions.iter().find(|action| action.contains(['*', '?'])) {
            return Err(format!(
                "it allows {pattern}, and grants allow single actions"
            ));
        }
        let principals = principals(keys.get("Principal"))?;
        let condition = match keys.get("Condition") {
            Some(condition) => conditions(condition).ok_or("its Condition cannot be read")?,
            None => Vec::new(),
        };
        Ok(Self {
            actions,
            principals,
            condition,
        })
    }

    /// Returns the access that is not in these contributions, for people; `None` if all of it is.
    fn missing_in(&self, ours: &[Contribution]) -> Option<String> {
        let mut missing: Vec<String> = self
            .principals
            .iter()
            .filter_map(|principal| self.missing_for(principal, ours))
            .collect();
        // AWS returns lists in another order than they were sent. The reason must not change with
        // it.
        missing.sort_unstable();
        missing.dedup();
        if missing.is_empty() {
            return None;
        }
        let listed = list_some(missing, LISTED, "; ", |more| {
            format!("; and the same for {more} more")
        });
        let under = if self.condition.is_empty() {
            ""
        } else {
            ", under its condition"
        };
        let reason = format!("{listed}{under}, which no grant on this repository does");
        Some(truncate(reason, LONGEST))
    }

    /// Returns the actions that are not in these contributions for one principal, for people.
    fn missing_for(&self, principal: &Principal, ours: &[Contribution]) -> Option<String> {
        let mut actions: Vec<&str> = self
            .actions
            .iter()
            .copied()
            .filter(|action| !self.is_in(ours, action, principal))
            .collect();
        actions.sort_unstable();
        actions.dedup();
        if actions.is_empty() {
            return None;
        }
        let listed = list_some(actions, LISTED, ", ", |more| format!(" and {more} more"));
        Some(format!("it allows {listed} to {}", principal.name()))
    }

    fn is_in(&self, ours: &[Contribution], action: &str, principal: &Principal) -> bool {
        ours.iter().any(|Contribution { actions, callers }| {
            actions.iter().any(|own| own.eq_ignore_ascii_case(action))
                && principal.is_among(callers, &self.condition)
        })
    }
}

fn principals(value: Option<&Value>) -> Result<Vec<Principal<'_>>, String> {
    match value {
        Some(Value::String(all)) if all == "*" => Ok(vec![Principal::Aws("*")]),
        Some(Value::Object(kinds)) => {
            let mut principals = Vec::new();
            for (kind, values) in kinds {
                let names = texts(values).ok_or("its Principal cannot be read")?;
                match kind.as_str() {
                    "AWS" => principals.extend(names.into_iter().map(Principal::Aws)),
                    "Service" => principals.extend(names.into_iter().map(Principal::Service)),
                    other => return Err(format!("it names a principal of kind {other}")),
                }
            }
            Ok(principals)
        }
        _ => Err("its Principal cannot be read".into()),
    }
}

impl Principal<'_> {
    fn name(&self) -> &str {
        match self {
            Self::Aws("*") => "everybody",
            Self::Aws(name) | Self::Service(name) => name,
        }
    }

    /// Returns whether our callers comprise this principal, as far as the condition allows it.
    fn is_among(&self, callers: &PrincipalSet, condition: &[Limit<'_>]) -> bool {
        match (self, callers.kind()) {
            (Self::Aws("*"), PrincipalSetKind::InOrganization) => {
                let ids = limited_to(condition, &["stringequals"], "aws:principalorgid");
                excludes_owner(callers, condition)
                    && ids.is_some_and(|ids| {
                        ids.iter()
                            .all(|id| callers.condition_values().contains(*id))
                    })
            }
            (Self::Aws("*"), PrincipalSetKind::InUnit) => {
                let operators = ["foranyvalue:stringlike", "foranyvalue:stringequals"];
                let paths = limited_to(condition, &operators, "aws:principalorgpaths");
                excludes_owner(callers, condition) && all_among(callers, paths)
            }
            // A consumer's root covers every identity of that account: across accounts, both sides
            // have to allow access anyway.
            (Self::Aws(arn), PrincipalSetKind::Named) => {
                callers.principals().contains(*arn) || callers.has_root_of(arn)
            }
            (Self::Aws(arn), PrincipalSetKind::NamedLike)
                if arn.ends_with(":root") || !arn.contains(':') =>
            {
                let operators = ["arnlike", "arnequals", "stringequals"];
                let arns = limited_to(condition, &operators, "aws:principalarn");
                callers.has_root_of(arn) && all_among(callers, arns)
            }
            (Self::Aws(arn), PrincipalSetKind::NamedLike) => {
                callers.has_root_of(arn)
                    && arn.contains(":role/")
                    && callers
                        .condition_values()
                        .iter()
                        .any(|pattern| like(pattern, arn))
            }
            (Self::Service(name), PrincipalSetKind::ServiceFor) => {
                let operators = ["stringlike", "stringequals", "arnlike", "arnequals"];
                let sources = limited_to(condition, &operators, "aws:sourcearn");
                callers.principals().contains(*name) && all_among(callers, sources)
            }
            (
                Self::Service(_),
                PrincipalSetKind::Named
                | PrincipalSetKind::NamedLike
                | PrincipalSetKind::InOrganization
                | PrincipalSetKind::InUnit,
            )
            | (
                Self::Aws(_),
                PrincipalSetKind::InOrganization
                | PrincipalSetKind::InUnit
                | PrincipalSetKind::ServiceFor,
            ) => false,
        }
    }
}

/// Returns the values to which a condition limits a key; `None` if it does not.
fn limited_to<'a>(
    condition: &'a [Limit<'_>],
    operators: &[&str],
    key: &str,
) -> Option<&'a BTreeSet<&'a str>> {
    condition
        .iter()
        .find(|limit| operators.contains(&limit.operator.as_str()) && limit.key == key)
        .map(|limit| &limit.values)
}

/// Returns whether each value matches one of the patterns of our callers' condition.
fn all_among(callers: &PrincipalSet, values: Option<&BTreeSet<&str>>) -> bool {
    values.is_some_and(|values| {
        values.iter().all(|value| {
            callers
                .condition_values()
                .iter()
                .any(|pattern| like(pattern, value))
        })
    })
}

/// Returns whether the condition excludes the registry's own account, if our statement does. Only
/// such a statement allows no more than ours.
fn excludes_owner(callers: &PrincipalSet, condition: &[Limit<'_>]) -> bool {
    let excluded = limited_to(condition, &["stringnotequals"], "aws:principalaccount");
    callers
        .excluded_account()
        .is_none_or(|account| excluded.is_some_and(|accounts| accounts.contains(account)))
}

fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        one => Some(vec![one.as_str()?]),
    }
}

fn conditions(value: &Value) -> Option<Vec<Limit<'_>>> {
    let mut conditions = Vec::new();
    for (operator, keys) in value.as_object()? {
        for (key, values) in keys.as_object()? {
            // Values that are not strings only restrict the statement; nothing is concluded from
            // them.
            let limits: BTreeSet<&str> = texts(values).unwrap_or_default().into_iter().collect();
            if !limits.is_empty() {
                conditions.push(Limit {
                    operator: operator.to_lowercase(),
                    key: key.to_lowercase(),
                    values: limits,
                });
            }
        }
    }
    Some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Document;
    use rstest::rstest;

    const B: &str = "arn:aws:iam::222222222222:root";

    /// Creates contributions: pull and push for account B, and pull for the roles `ci/*` of C, for
    /// an organization, for a unit, and for Lambda of B.
    fn ours() -> Vec<Contribution> {
        let pull = || ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"].map(String::from);
        let with = |callers| Contribution {
            actions: pull().into(),
            callers,
        };
        let push = pull().into_iter().chain(["ecr:PutImage".into()]).collect();
        let c = "arn:aws:iam::333333333333:root".to_owned();
        vec![
            Contribution {
                actions: push,
                callers: PrincipalSet::named([B.into(), "arn:aws:iam::111111111111:role/a".into()]),
            },
            with(PrincipalSet::named_like(
                c,
                ["arn:aws:iam::333333333333:role/ci/*".into()],
            )),
            with(PrincipalSet::in_organizations(
                ["o-a1b2c3d4e5".into()],
                "111111111111",
            )),
            with(PrincipalSet::in_units(
                ["o-b1b2c3d4e5/r-ab12/*".into()],
                "111111111111",
            )),
            with(PrincipalSet::service_for(
                "lambda.amazonaws.com",
                ["arn:aws:lambda:us-east-1:222222222222:function:*".into()],
            )),
        ]
    }

    /// Returns the reason why an `Allow` to pull with these keys is still needed.
    fn needed(keys: &str) -> Option<String> {
        let keys = if keys.contains("Action") {
            keys.to_owned()
        } else {
            format!(r#"{keys},"Action":"ecr:BatchGetImage""#)
        };
        let keys = if keys.contains("Effect") {
            keys
        } else {
            format!(r#"{keys},"Effect":"Allow""#)
        };
        let document =
            Document::parse(&format!(r#"{{"Statement":{{"Sid":"x",{keys}}}}}"#)).unwrap();
        reason_to_keep(&document.statements[0], &ours())
    }

    #[rstest]
    #[case::the_account(r#""Principal":{"AWS":"arn:aws:iam::222222222222:root"}"#)]
    #[case::its_number(r#""Principal":{"AWS":["222222222222"]}"#)]
    #[case::a_role_of_it(r#""Principal":{"AWS":"arn:aws:iam::222222222222:role/x"}"#)]
    #[case::a_user_of_it(r#""Principal":{"AWS":"arn:aws:iam::222222222222:user/x"}"#)]
    #[case::a_session_of_it(r#""Principal":{"AWS":"arn:aws:sts::222222222222:assumed-role/x/y"}"#)]
    #[case::the_registrys_role(r#""Principal":{"AWS":"arn:aws:iam::111111111111:role/a"}"#)]
    #[case::a_role_that_is_named_by_pattern(
        r#""Principal":{"AWS":"arn:aws:iam::333333333333:role/ci/deployer"}"#
    )]
    #[case::less_by_a_condition(
        r#""Principal":{"AWS":"222222222222"},"Condition":{"Bool":{"aws:SecureTransport":true}}"#
    )]
    #[case::case_of_actions(
        r#""Principal":{"AWS":"222222222222"},"Action":["ECR:batchgetimage","ecr:putImage"]"#
    )]
    #[case::the_organization(r#""Principal":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-a1b2c3d4e5"},"StringNotEquals":{"aws:PrincipalAccount":"111111111111"}}"#)]
    #[case::roles_by_condition(r#""Principal":{"AWS":"arn:aws:iam::333333333333:root"},"Condition":{"ArnLike":{"aws:PrincipalArn":["arn:aws:iam::333333333333:role/ci/*"]}}"#)]
    #[case::a_unit(r#""Principal":{"AWS":"*"},"Condition":{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":["o-b1b2c3d4e5/r-ab12/ou-x/*"]},"StringNotEquals":{"aws:PrincipalAccount":["111111111111"]}}"#)]
    #[case::lambda(r#""Principal":{"Service":"lambda.amazonaws.com"},"Condition":{"StringLike":{"aws:sourceArn":"arn:aws:lambda:us-east-1:222222222222:function:*"}}"#)]
    #[case::one_function(r#""Principal":{"Service":"lambda.amazonaws.com"},"Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:lambda:us-east-1:222222222222:function:x"}}"#)]
    #[case::nobody(r#""Principal":{"AWS":[]}"#)]
    fn statement_that_ours_cover_is_not_needed(#[case] keys: &str) {
        assert_eq!(needed(keys), None);
    }

    #[rstest]
    #[case::deny(
        r#""Effect":"Deny","Principal":{"AWS":"222222222222"}"#,
        "not an Allow"
    )]
    #[case::another_account(r#""Principal":{"AWS":"444444444444"}"#, "to 444444444444")]
    #[case::one_account_too_many(
        r#""Principal":{"AWS":["222222222222","444444444444"]}"#,
        "to 444444444444"
    )]
    #[case::an_action_too_many(
        r#""Principal":{"AWS":"222222222222"},"Action":["ecr:PutImage","ecr:DescribeImages"]"#,
        "it allows ecr:DescribeImages to"
    )]
    #[case::all_actions(
        r#""Principal":{"AWS":"222222222222"},"Action":"ecr:*""#,
        "it allows ecr:*"
    )]
    #[case::everything_but(
        r#""Principal":{"AWS":"222222222222"},"NotAction":"ecr:x""#,
        "NotAction"
    )]
    #[case::everybody_but(r#""NotPrincipal":{"AWS":"222222222222"}"#, "NotPrincipal")]
    #[case::everybody(r#""Principal":"*""#, "to everybody")]
    #[case::everybody_under_another_condition(
        r#""Principal":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"222222222222"}}"#,
        "to everybody"
    )]
    #[case::the_whole_account_where_roles_are_named(
        r#""Principal":{"AWS":"333333333333"}"#,
        "to 333333333333"
    )]
    #[case::another_role_there(
        r#""Principal":{"AWS":"arn:aws:iam::333333333333:role/cd/x"}"#,
        "role/cd/x"
    )]
    #[case::a_user_where_roles_are_named(
        r#""Principal":{"AWS":"arn:aws:iam::333333333333:user/ci/x"}"#,
        "user/ci/x"
    )]
    #[case::another_role_of_the_registry(
        r#""Principal":{"AWS":"arn:aws:iam::111111111111:role/b"}"#,
        "role/b"
    )]
    #[case::push_where_only_pulling_is_granted(
        r#""Principal":{"AWS":"arn:aws:iam::333333333333:role/ci/x"},"Action":"ecr:PutImage""#,
        "ecr:PutImage"
    )]
    #[case::another_organization(
        r#""Principal":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":["o-a1b2c3d4e5","o-x"]}}"#,
        "to everybody"
    )]
    #[case::not_that_organization(
        r#""Principal":"*","Condition":{"StringNotEquals":{"aws:PrincipalOrgID":"o-a1b2c3d4e5"}}"#,
        "to everybody"
    )]
    #[case::if_there_is_one(
        r#""Principal":"*","Condition":{"StringEqualsIfExists":{"aws:PrincipalOrgID":"o-a1b2c3d4e5"}}"#,
        "to everybody"
    )]
    #[case::a_wider_unit(
        r#""Principal":"*","Condition":{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-b1b2c3d4e5/*"}}"#,
        "to everybody"
    )]
    #[case::for_all_values_holds_where_there_are_none(
        r#""Principal":"*","Condition":{"ForAllValues:StringLike":{"aws:PrincipalOrgPaths":"o-b1b2c3d4e5/r-ab12/x"}}"#,
        "to everybody"
    )]
    #[case::lambda_of_everybody(
        r#""Principal":{"Service":"lambda.amazonaws.com"}"#,
        "to lambda.amazonaws.com"
    )]
    #[case::lambda_of_another(r#""Principal":{"Service":"lambda.amazonaws.com"},"Condition":{"StringLike":{"aws:SourceArn":"arn:aws:lambda:us-east-1:444444444444:function:*"}}"#, "lambda")]
    #[case::another_service(
        r#""Principal":{"Service":"ecs.amazonaws.com"}"#,
        "to ecs.amazonaws.com"
    )]
    #[case::federated(r#""Principal":{"Federated":"x"}"#, "kind Federated")]
    #[case::a_resource(r#""Principal":{"AWS":"222222222222"},"Resource":"*""#, "Resource")]
    #[case::a_principal_that_is_gone(
        r#""Principal":{"AWS":"AROAEXAMPLEEXAMPLE12"}"#,
        "AROAEXAMPLE"
    )]
    #[case::another_partition(
        r#""Principal":{"AWS":"arn:aws-cn:iam::222222222222:root"}"#,
        "aws-cn"
    )]
    fn statement_beyond_ours_is_needed_with_a_reason(#[case] keys: &str, #[case] reason: &str) {
        let why = needed(keys).expect("it is needed");
        assert!(why.contains(reason), "{why}");
    }

    #[test]
    fn reason_lists_only_a_few_missing_principals() {
        let accounts: Vec<String> = (0..50).map(|n| format!(r#""4444444444{n:02}""#)).collect();
        let why = needed(&format!(
            r#""Principal":{{"AWS":[{}]}}"#,
            accounts.join(",")
        ))
        .unwrap();
        assert!(
            why.contains("the same for 47 more") && why.len() < 400,
            "{why}"
        );
    }
}
