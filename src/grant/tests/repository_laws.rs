//! Laws of policy documents: the meaning of a document, and how our statements are added to foreign
//! ones and removed from them.

use super::iam::reworded;
use super::resources::installation;
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::{
    self, Contribution, GrantContribution, MAX_CHARACTERS, PolicyUpdate,
};
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Generates a list or a single string, some of them similar to ours.
fn texts(of: &'static str) -> impl Strategy<Value = Value> {
    prop_oneof![
        of.prop_map(Value::from),
        prop::collection::btree_set(of, 1..4)
            .prop_map(|set| Value::from(set.into_iter().collect::<Vec<_>>())),
    ]
}

fn optional(
    key: &'static str,
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Option<(String, Value)>> {
    prop::option::of(value.prop_map(move |value| (key.to_owned(), value)))
}

/// Generates a statement as people and tools write it; its Sid is never ours.
fn foreign_statement() -> impl Strategy<Value = Value> {
    let principal = prop_oneof![
        Just(json!("*")),
        texts("arn:aws:iam::[1-3]{12}:(root|role/[xy])").prop_map(|aws| json!({ "AWS": aws })),
        texts("(lambda|ecs)\\.amazonaws\\.com").prop_map(|service| json!({ "Service": service })),
    ];
    let condition = (
        "(StringEquals|ArnLike|Bool)",
        "aws:(PrincipalArn|SourceArn)",
        texts("[a-c*]{1,3}"),
    )
        .prop_map(|(operator, key, values)| json!({ operator: { key: values } }));
    (
        optional(
            "Sid",
            "(Lambda|RegistryGrants|RegistryGrantsffffffffffff01234567|new statement)"
                .prop_map(Value::from),
        ),
        optional("Principal", principal),
        optional("NotAction", texts("ecr:[A-C]")),
        optional("Action", texts("(ecr|sts):[A-C]{1,2}")),
        optional("Resource", texts("(\\*|arn:[a-c]{1,3})")),
        optional("Condition", condition),
        optional("Odd", Just(json!({ "kept": [1, null] }))),
        any::<bool>(),
    )
        .prop_map(
            |(sid, principal, not_action, action, resource, condition, odd, allow)| {
                let effect = Some((
                    "Effect".to_owned(),
                    json!(if allow { "Allow" } else { "Deny" }),
                ));
                let keys = [
                    effect, sid, principal, not_action, action, resource, condition, odd,
                ];
                Value::Object(keys.into_iter().flatten().collect::<Map<_, _>>())
            },
        )
}

prop_compose! {
    fn foreign_document()(
        statements in prop::collection::vec(foreign_statement(), 0..5),
        version in prop::sample::select(vec![None, Some("2008-10-17"), Some("2012-10-17")]),
        id in prop::option::of("[a-c]{1,3}"),
    ) -> Document {
        let mut whole = json!({ "Statement": statements });
        for (key, value) in [("Version", version.map(String::from)), ("Id", id)] {
            if let Some(value) = value {
                whole[key] = value.into();
            }
        }
        Document::parse(&whole.to_string()).unwrap()
    }
}

/// Generates the contributions of one grant: its consumer, as an account or by roles, and
/// optionally the registry's own role.
fn contributions() -> impl Strategy<Value = Vec<Contribution>> {
    let consumer = (0..5u64).prop_map(|n| 222_222_222_220 + n);
    let roles = prop::collection::btree_set("(ci|nodes)/[a-c*]", 0..3);
    let named = prop::option::of("[pq]");
    (consumer, roles, named, any::<bool>()).prop_map(|(consumer, roles, named, push)| {
        let root = format!("arn:aws:iam::{consumer}:root");
        let arns: Vec<String> = roles
            .iter()
            .map(|role| format!("arn:aws:iam::{consumer}:role/{role}"))
            .collect();
        let consumer = if arns.is_empty() {
            PrincipalSet::named([root])
        } else {
            PrincipalSet::named_like(root, arns)
        };
        let named = named.map(|role| {
            PrincipalSet::named([format!(
                "arn:aws:iam::111111111111:role/registry-grants/{role}"
            )])
        });
        let actions: &[&str] = if push {
            &["ecr:BatchGetImage", "ecr:PutImage"]
        } else {
            &["ecr:BatchGetImage"]
        };
        let actions: BTreeSet<String> = actions.iter().map(ToString::to_string).collect();
        let all = [Some(consumer), named].into_iter().flatten();
        all.map(|callers| Contribution {
            actions: actions.clone(),
            callers,
        })
        .collect()
    })
}

fn of(id: usize, contributions: Vec<Contribution>) -> GrantContribution<usize> {
    GrantContribution {
        id,
        contributions,
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }
}

fn grants() -> impl Strategy<Value = Vec<GrantContribution<usize>>> {
    let numbered = |all: Vec<_>| {
        all.into_iter()
            .enumerate()
            .map(|(id, asked)| of(id, asked))
            .collect()
    };
    prop::collection::vec(contributions(), 0..12).prop_map(numbered)
}

/// Generates some grants, and the same grants in another order.
fn grants_in_two_orders()
-> impl Strategy<Value = (Vec<GrantContribution<usize>>, Vec<GrantContribution<usize>>)> {
    grants().prop_flat_map(|grants| (Just(grants.clone()), Just(grants).prop_shuffle()))
}

fn change(current: Option<&Document>, grants: &[GrantContribution<usize>]) -> PolicyUpdate {
    let text = current.map(ToString::to_string);
    let plan = repository::plan(text.as_deref(), grants, &installation()).unwrap();
    assert!(plan.left_out.is_empty(), "these few always fit");
    plan.change
}

/// Returns the policy after the change; `None` if there is none.
fn after(current: Option<&Document>, grants: &[GrantContribution<usize>]) -> Option<Document> {
    match change(current, grants) {
        PolicyUpdate::None => current.cloned(),
        PolicyUpdate::Set(document) => Some(document),
        PolicyUpdate::Delete => None,
    }
}

/// Returns whether `pattern`, in which `*` matches anything, matches the text.
fn like(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.is_char_boundary(at) && like(rest, &tail[at..]))
        }),
    }
}

/// Returns whether a caller is one of the principals: by its own ARN, or by its account's root.
fn is_one_of<'a>(caller: &str, principals: impl IntoIterator<Item = &'a str>) -> bool {
    let root = format!("{}:root", caller.split(":role/").next().unwrap());
    principals
        .into_iter()
        .any(|principal| principal == caller || principal == root)
}

fn listed(value: &Value) -> Vec<&str> {
    match value {
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    }
}

/// Returns whether the document's Allow statements allow the caller's action, for the forms that we
/// write.
fn allows(document: &Document, caller: &str, action: &str) -> bool {
    let whole: Value = serde_json::from_str(&document.to_string()).unwrap();
    whole["Statement"]
        .as_array()
        .unwrap()
        .iter()
        .any(|statement| {
            let narrowed = statement
                .get("Condition")
                .map(|condition| listed(&condition["ArnLike"]["aws:PrincipalArn"]));
            listed(&statement["Action"]).contains(&action)
                && is_one_of(caller, listed(&statement["Principal"]["AWS"]))
                && narrowed.is_none_or(|arns| arns.iter().any(|arn| like(arn, caller)))
        })
}

fn asks(grant: &GrantContribution<usize>, caller: &str, action: &str) -> bool {
    grant
        .contributions
        .iter()
        .any(|Contribution { actions, callers }| {
            actions.contains(action)
                && is_one_of(caller, callers.principals().iter().map(String::as_str))
                && (callers.condition_values().is_empty()
                    || callers
                        .condition_values()
                        .iter()
                        .any(|arn| like(arn, caller)))
        })
}

/// Generates an `Allow` for consumers as people write it by hand.
fn consumer_statement() -> impl Strategy<Value = Statement> {
    let principals = prop::collection::vec(
        "arn:aws:iam::22222222222[0-4]:(root|role/(ci|nodes)/[a-c])",
        1..3,
    );
    let actions =
        prop::sample::subsequence(vec!["ecr:BatchGetImage", "ecr:PutImage", "ecr:*"], 1..=3);
    let narrowed = prop::option::of("arn:aws:iam::22222222222[0-4]:role/(ci|nodes)/[a-c*]");
    (principals, actions, narrowed).prop_map(|(principals, actions, narrowed)| {
        let statement = Statement::allow(actions).to_principals(principals);
        match narrowed {
            Some(arn) => statement.only_if("ArnLike", "aws:PrincipalArn", [arn]),
            None => statement,
        }
    })
}

fn caller() -> impl Strategy<Value = String> {
    prop_oneof![
        "arn:aws:iam::22222222222[0-5]:role/(ci|nodes|other)/[a-d]",
        "arn:aws:iam::111111111111:role/registry-grants/[p-r]",
    ]
}

proptest! {
    /// The text is the same, not only the meaning: in the document, or in a diff of it, everything
    /// is where it was.
    #[test]
    fn order_of_grants_does_not_change_the_text((one, other) in grants_in_two_orders()) {
        let text = |grants| after(None, grants).map(|document| document.to_string());
        prop_assert_eq!(text(&one), text(&other));
    }

    #[test]
    fn order_and_form_of_lists_do_not_change_the_meaning(document in foreign_document()) {
        prop_assert!(document.same_meaning(&reworded(&document)));
        let mut turned = document.clone();
        turned.statements.reverse();
        turned.statements.extend(document.statements.first().cloned());
        prop_assert!(document.same_meaning(&turned));
    }

    #[test]
    fn document_is_parsed_as_it_was_written(document in foreign_document()) {
        prop_assert_eq!(Document::parse(&document.to_string()).unwrap(), document);
    }

    #[test]
    fn additional_statement_changes_the_meaning(document in foreign_document(), at in 0..5usize) {
        let mut more = document.clone();
        let at = at.min(more.statements.len());
        more.statements.insert(at, Statement::allow(["s3:GetObject"]).on(["*"]));
        prop_assert!(!document.same_meaning(&more));
    }

    #[test]
    fn adding_and_removing_ours_keeps_foreign_statements(
        foreign in foreign_document(),
        grants in grants(),
        later in grants(),
    ) {
        let with = after(Some(&foreign), &grants).map(|document| reworded(&document));
        let with_others = after(with.as_ref(), &later).map(|document| reworded(&document));
        let back = after(with_others.as_ref(), &[]);
        if foreign.statements.is_empty() && !(grants.is_empty() && later.is_empty()) {
            prop_assert_eq!(back, None);
        } else {
            prop_assert!(back.unwrap().same_meaning(&foreign));
        }
    }

    #[test]
    fn written_policy_needs_no_further_write(foreign in prop::option::of(foreign_document()), grants in grants()) {
        let written = after(foreign.as_ref(), &grants).map(|document| reworded(&document));
        let mut turned = grants;
        turned.reverse();
        prop_assert_eq!(change(written.as_ref(), &turned), PolicyUpdate::None);
    }

    /// Packing many grants into one statement must give no consumer more than its own grant gives.
    #[test]
    fn policy_allows_exactly_the_contributions(
        grants in grants(),
        caller in caller(),
        action in "ecr:(BatchGetImage|PutImage|DeleteRepository)",
    ) {
        let asked = grants.iter().any(|grant| asks(grant, &caller, &action));
        let allowed = after(None, &grants).is_some_and(|document| allows(&document, &caller, &action));
        prop_assert_eq!(allowed, asked);
    }

    #[test]
    fn revoked_grant_leaves_only_what_others_contribute(
        grants in grants().prop_filter("at least one", |grants| !grants.is_empty()),
        gone in any::<prop::sample::Index>(),
        caller in caller(),
    ) {
        let written = after(None, &grants);
        let mut rest = grants;
        rest.remove(gone.index(rest.len()));
        let allowed = after(written.as_ref(), &rest).is_some_and(|document| allows(&document, &caller, "ecr:PutImage"));
        prop_assert_eq!(allowed, rest.iter().any(|grant| asks(grant, &caller, "ecr:PutImage")));
    }

    /// A principal that had access through a replaced statement keeps it, and no statement that
    /// denies is replaced.
    #[test]
    fn replacing_foreign_statements_revokes_no_access(
        foreign in foreign_document(),
        similar in prop::collection::vec((consumer_statement(), any::<bool>()), 0..4),
        mut grants in grants(),
        caller in caller(),
        action in "ecr:(BatchGetImage|PutImage)",
    ) {
        let mut foreign = foreign;
        for (statement, unnamed) in similar {
            let statement = statement.sid(if unnamed { "stays" } else { "new statement" });
            foreign.statements.push(statement);
        }
        for grant in &mut grants {
            grant.replaces = ["new statement".to_owned(), "Lambda".to_owned()].into();
        }
        let Some(after) = after(Some(&foreign), &grants) else { return Ok(()) };
        if allows(&foreign, &caller, &action) {
            prop_assert!(allows(&after, &caller, &action), "{foreign}\n{after}");
        }
        for statement in &foreign.statements {
            let asked = statement.sid_text().is_some_and(|sid| sid == "new statement" || sid == "Lambda");
            let denies = Document::of([statement.clone()]).to_string().contains("Deny");
            prop_assert!((asked && !denies) || after.statements.contains(statement), "{foreign}\n{after}");
        }
    }
}

proptest! {
    // Each case packs hundreds of grants hundreds of times.
    #![proptest_config(crate::policy::tests::cases(8))]

    #[test]
    fn policy_never_exceeds_the_limit_of_ecr(
        count in 1..400usize,
        narrowed in any::<bool>(),
        foreign in foreign_document(),
    ) {
        let grant = |n: usize| {
            let root = format!("arn:aws:iam::{}:root", 100_000_000_000 + n);
            let role = format!("arn:aws:iam::{}:role/registry-grants/a-role-of-some-length", 100_000_000_000 + n);
            let callers = if narrowed { PrincipalSet::named_like(root, [role]) } else { PrincipalSet::named([root]) };
            of(n, vec![Contribution { actions: BTreeSet::from(["ecr:BatchGetImage".into()]), callers }])
        };
        let grants: Vec<_> = (0..count).map(grant).collect();
        let plan = repository::plan(Some(&foreign.to_string()), &grants, &installation()).unwrap();
        let PolicyUpdate::Set(document) = plan.change else { panic!("grants on it must change it") };
        prop_assert!(document.characters() <= MAX_CHARACTERS);
        prop_assert_eq!(document.characters(), plan.characters);
        for grant in &grants {
            let principals = grant.contributions[0].callers.principals();
            let in_it = principals.iter().all(|principal| document.to_string().contains(principal.as_str()));
            prop_assert_eq!(in_it, !plan.left_out.contains(&grant.id));
        }
    }
}

#[test]
fn policy_has_room_for_250_accounts_or_100_narrowed_ones() {
    let fit = |count: usize, narrowed: bool| {
        let grant = |n: usize| {
            let root = format!("arn:aws:iam::{}:root", 100_000_000_000 + n);
            let role = format!(
                "arn:aws:iam::{}:role/registry-grants/node",
                100_000_000_000 + n
            );
            let callers = if narrowed {
                PrincipalSet::named_like(root, [role])
            } else {
                PrincipalSet::named([root])
            };
            let actions = crate::grant::actions::of(crate::api::grant::Access::PullPush);
            of(n, vec![Contribution { actions, callers }])
        };
        let grants: Vec<_> = (0..count).map(grant).collect();
        repository::plan(None, &grants, &installation())
            .unwrap()
            .left_out
            .is_empty()
    };
    assert!(fit(250, false));
    assert!(fit(100, true));
}
