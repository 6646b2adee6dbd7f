//! Warnings about account settings that allow more than the admin may have meant. They appear in
//! the `AWSAccount`'s status and are never a reason to refuse anything.

use super::names::AccountId;
use crate::api::AWSAccountSpec;
use crate::api::account::Namespaces;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

/// The label that the API server gives every namespace.
const EVERY_NAMESPACE_HAS: &str = "kubernetes.io/metadata.name";

/// Returns the warnings about an account, in order. Each names the place and the remedy.
pub fn of_account(id: &AccountId, spec: &AWSAccountSpec) -> Vec<String> {
    let AWSAccountSpec {
        alias: _,
        partition: _,
        credentials: _,
        registry,
        consumer,
        roles,
    } = spec;
    let registry = registry
        .iter()
        .flat_map(|side| &side.rules)
        .map(|rule| &rule.namespaces);
    let consumer = consumer
        .iter()
        .flat_map(|side| &side.rules)
        .map(|rule| &rule.namespaces);
    let rules: Vec<(String, &Namespaces)> = registry
        .enumerate()
        .map(|(at, namespaces)| (format!("spec.registry.rules[{at}]"), namespaces))
        .chain(
            consumer
                .enumerate()
                .map(|(at, namespaces)| (format!("spec.consumer.rules[{at}]"), namespaces)),
        )
        .collect();
    let unbounded = (!rules.is_empty() && roles.permissions_boundary.is_none()).then(|| {
        format!(
            "spec.roles.permissionsBoundary is not set, so only their own policies limit the roles that the operator creates in account {id}. \
             Set it to a managed policy with the output of `registry-grants iam-policy --document boundary`"
        )
    });
    let wide = rules.iter().filter_map(|(rule, namespaces)| {
        let why = nearly_everything(namespaces.selector.as_ref()?)?;
        Some(format!(
            "{rule}.namespaces.selector matches nearly every namespace: {why}. Select a label that only the intended namespaces have, or list them in names"
        ))
    });
    unbounded.into_iter().chain(wide).collect()
}

/// Returns why a selector matches nearly every namespace; `None` if it does not. Such a selector
/// requires no label that somebody must first give to a namespace.
fn nearly_everything(selector: &LabelSelector) -> Option<String> {
    let LabelSelector {
        match_labels,
        match_expressions,
    } = selector;
    let expressions = match_expressions.as_deref().unwrap_or_default();
    let narrowed = match_labels
        .as_ref()
        .is_some_and(|labels| !labels.is_empty())
        || expressions.iter().any(narrows);
    if narrowed || expressions.is_empty() {
        return None;
    }
    let said = expressions.iter().map(
        |LabelSelectorRequirement {
             key,
             operator,
             values: _,
         }| match operator.as_str() {
            "Exists" => format!("each has the label {key}"),
            _ => format!("it only excludes namespaces ({operator} {key})"),
        },
    );
    Some(said.collect::<Vec<_>>().join(", "))
}

/// Returns whether only namespaces that were labelled for a requirement meet it. A requirement with
/// an unknown operator matches nothing.
fn narrows(requirement: &LabelSelectorRequirement) -> bool {
    let LabelSelectorRequirement {
        key,
        operator,
        values: _,
    } = requirement;
    match operator.as_str() {
        "NotIn" | "DoesNotExist" => false,
        "Exists" => key != EVERY_NAMESPACE_HAS,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    fn warnings(spec: Value) -> Vec<String> {
        of_account(
            &"111111111111".parse().unwrap(),
            &serde_json::from_value(spec).unwrap(),
        )
    }

    fn selecting(selector: &Value) -> Value {
        json!({
            "registry": {"rules": [
                {"namespaces": {"names": ["team-b"]}, "maxAccess": "Pull"},
                {"namespaces": {"selector": selector}, "maxAccess": "Pull"},
            ]},
            "roles": {"permissionsBoundary": "arn:aws:iam::111111111111:policy/b"},
        })
    }

    #[test]
    fn account_with_rules_but_no_boundary_gives_a_warning() {
        let rule = json!({"namespaces": {"names": ["team-b"]}, "maxAccess": "Pull"});
        let reported = warnings(json!({"registry": {"rules": [rule]}}));
        assert!(
            reported.len() == 1
                && reported[0].starts_with("spec.roles.permissionsBoundary is not set"),
            "{reported:?}"
        );
        let reported =
            warnings(json!({"consumer": {"rules": [{"namespaces": {"names": ["team-b"]}}]}}));
        assert_eq!(reported.len(), 1, "{reported:?}");
        // Without a rule the operator creates no role.
        assert_eq!(warnings(json!({})), Vec::<String>::new());
        assert_eq!(
            warnings(json!({"registry": {"rules": []}})),
            Vec::<String>::new()
        );
    }

    #[rstest]
    #[case::all_but_some(json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"]}]}), true)]
    #[case::without_a_label(json!({"matchExpressions": [{"key": "restricted", "operator": "DoesNotExist"}]}), true)]
    #[case::every_name(json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "Exists"}]}), true)]
    #[case::some_names(json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a"]}]}), false)]
    #[case::a_label(json!({"matchLabels": {"team": "b"}}), false)]
    #[case::a_label_of_any_value(json!({"matchExpressions": [{"key": "team", "operator": "Exists"}]}), false)]
    #[case::a_label_but_for_some(json!({"matchLabels": {"team": "b"}, "matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}), false)]
    #[case::empty(json!({}), false)]
    fn selector_of_nearly_every_namespace_gives_a_warning(
        #[case] selector: Value,
        #[case] wide: bool,
    ) {
        let reported = warnings(selecting(&selector));
        assert_eq!(reported.len(), usize::from(wide), "{reported:?}");
        assert!(
            reported.iter().all(|reported| reported
                .starts_with("spec.registry.rules[1].namespaces.selector matches nearly")),
            "{reported:?}"
        );
    }
}
