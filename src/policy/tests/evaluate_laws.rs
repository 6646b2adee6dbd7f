//! Laws that hold for every evaluation.

use super::documents::{document, parsed, requests, statement};
use super::evaluate::{Is, kind};
use super::evaluator::{self, Caller};
use super::rewording::{Dice, mutate};
use crate::policy::evaluate::*;
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// Removes the principals, as in a policy of an identity.
fn of_identity(value: &Value) -> Document {
    let mut value = value.clone();
    for statement in value["Statement"].as_array_mut().unwrap() {
        let keys = statement.as_object_mut().unwrap();
        keys.remove("Principal");
        keys.remove("NotPrincipal");
        if !keys.contains_key("NotResource") {
            keys.entry("Resource").or_insert(json!("*"));
        }
    }
    parsed(&value)
}

/// Gives every statement a principal.
fn with_principals(value: &Value) -> Document {
    let mut value = value.clone();
    for statement in value["Statement"].as_array_mut().unwrap() {
        let keys = statement.as_object_mut().unwrap();
        let not = keys.remove("NotPrincipal");
        keys.entry("Principal").or_insert(not.unwrap_or(json!("*")));
    }
    parsed(&value)
}

fn policies() -> impl Strategy<Value = Policies> {
    let identity = prop::collection::vec(document(), 0..3);
    (
        identity,
        prop::option::of(document()),
        prop::collection::vec(document(), 0..3),
    )
        .prop_map(|(identity, boundary, resource)| Policies {
            identity: identity
                .iter()
                .map(|value| Named::new("identity", of_identity(value)))
                .collect(),
            boundary: boundary.map(|value| Named::new("boundary", of_identity(&value))),
            resource: resource
                .iter()
                .map(|value| Named::new("resource", parsed(value)))
                .collect(),
        })
}

/// Converts a request of [`requests`] to ours. The context is fully known in only one of eight.
fn asked(at: prop::sample::Index) -> Request {
    let all = requests();
    let theirs = at.get(&all);
    let principal = match &theirs.caller {
        Caller::Service(name) => Principal::service(*name),
        Caller::Aws(arn, account) => Principal {
            arn: (*arn).into(),
            kind: match arn.rsplit(':').next() {
                Some("root") => PrincipalKind::Root,
                Some(name) if name.starts_with("user/") => PrincipalKind::User,
                _ => PrincipalKind::Role,
            },
            account: Some((*account).into()),
            unique_id: Some("AROAOTHEROTHEROTHER0".into()),
        },
    };
    let context = theirs
        .context
        .iter()
        .fold(RequestContext::default(), |context, (key, values)| {
            context.with(key, values.iter().copied())
        });
    Request {
        principal,
        action: theirs.action.into(),
        resource: theirs.resource.unwrap_or("*").into(),
        resource_account: "1".repeat(12),
        context: if at.index(8) == 0 {
            context.closed()
        } else {
            context
        },
    }
}

fn one(statement: &Value, effect: &str) -> Statement {
    let mut keys = statement.as_object().unwrap().clone();
    keys.insert("Effect".into(), json!(effect));
    Statement(keys)
}

/// Adds a statement to one of the policies.
fn with(mut policies: Policies, statement: Statement, at: prop::sample::Index) -> Policies {
    let mut all: Vec<&mut Named> = policies
        .identity
        .iter_mut()
        .chain(&mut policies.boundary)
        .chain(&mut policies.resource)
        .collect();
    if !all.is_empty() {
        let named = at.index(all.len());
        Arc::make_mut(all[named].document.as_mut().unwrap())
            .statements
            .push(statement);
    }
    policies
}

proptest! {
    #![proptest_config(crate::policy::tests::cases(1_000))]

    #[test]
    fn added_deny_never_allows(
        policies in policies(), statement in statement(), at in any::<prop::sample::Index>(), asked_at in any::<prop::sample::Index>(),
    ) {
        let request = asked(asked_at);
        let before = kind(&evaluate(&request, &policies));
        let after = kind(&evaluate(&request, &with(policies, one(&statement, "Deny"), at)));
        prop_assert!(after != Is::Allowed || before == Is::Allowed);
        prop_assert!(before != Is::Denied || after == Is::Denied);
    }

    #[test]
    fn added_allow_never_denies(
        policies in policies(), statement in statement(), at in any::<prop::sample::Index>(), asked_at in any::<prop::sample::Index>(),
    ) {
        let request = asked(asked_at);
        let before = kind(&evaluate(&request, &policies));
        let after = kind(&evaluate(&request, &with(policies, one(&statement, "Allow"), at)));
        prop_assert!(before != Is::Allowed || after == Is::Allowed);
        prop_assert!(after != Is::Denied || before == Is::Denied);
    }

    #[test]
    fn statement_order_does_not_change_the_verdict(policies in policies(), at in any::<prop::sample::Index>()) {
        let request = asked(at);
        let mut turned = policies.clone();
        turned.identity.reverse();
        turned.resource.reverse();
        for named in turned.identity.iter_mut().chain(&mut turned.boundary).chain(&mut turned.resource) {
            Arc::make_mut(named.document.as_mut().unwrap()).statements.reverse();
        }
        match (evaluate(&request, &policies), evaluate(&request, &turned)) {
            (Verdict::Depends(one), Verdict::Depends(other)) => prop_assert_eq!(one, other),
            (Verdict::Denied(one), Verdict::Denied(other)) => prop_assert_eq!(one.len(), other.len()),
            (one, other) => prop_assert_eq!(kind(&one), kind(&other)),
        }
    }

    #[test]
    fn more_context_never_changes_a_decided_verdict(policies in policies(), at in any::<prop::sample::Index>()) {
        let known = asked(at);
        let unknown = ["aws:username", "aws:SecureTransport", "ecr:age", "aws:PrincipalTag/Team", "aws:SourceArn", "aws:PrincipalArn"];
        let unknown = Request { context: unknown.into_iter().fold(known.context.clone(), RequestContext::unknown), ..known.clone() };
        match kind(&evaluate(&unknown, &policies)) {
            Is::Depends | Is::Unknown => {}
            decided => prop_assert_eq!(kind(&evaluate(&known, &policies)), decided),
        }
    }

    #[test]
    fn evaluation_never_panics(
        (mutated, policies) in (document(), policies()).prop_perturb(|(mut value, policies), rng| {
            let mut dice = Dice(rng);
            (0..3).for_each(|_| mutate(&mut value, &mut dice));
            (value, policies)
        }),
        text in any::<String>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut policies = policies;
        let Ok(document) = Document::parse(&mutated.to_string()) else { return Ok(()) };
        policies.identity.push(Named::new("rough", document.clone()));
        policies.resource.push(Named::new("rough", document));
        let mut request = asked(at);
        let _ = evaluate(&request, &policies).to_string();
        request.action = text.clone();
        request.resource = text.clone();
        request.principal.arn = text;
        let _ = evaluate(&request, &policies).to_string();
    }

    /// The small evaluator of the other laws knows only one document, no segments of ARNs, and no
    /// details of `NotPrincipal`. Uncertain results are not compared.
    #[test]
    fn both_evaluators_agree_on_single_documents(value in document(), at in any::<prop::sample::Index>()) {
        let document = with_principals(&value);
        let all = requests();
        let theirs = at.get(&all);
        if theirs.resource.is_none() {
            return Ok(());
        }
        let mut request = asked(at);
        // The small evaluator does not derive keys from the principal.
        let derived = ["aws:username", "aws:PrincipalArn", "aws:SourceArn"].into_iter().filter(|key| !theirs.context.contains_key(&*key.to_lowercase()));
        request.context = derived.fold(request.context, RequestContext::without).closed();
        request.resource_account = "999999999999".into();
        let all = Statement::allow(["*"]).on(["*"]);
        let policies = Policies {
            identity: vec![Named::new("identity", Document::of([all]))],
            boundary: None,
            resource: vec![Named::new("resource", document.clone())],
        };
        let ours = match kind(&evaluate(&request, &policies)) {
            Is::Allowed => true,
            Is::Denied => false,
            Is::Depends | Is::Unknown => return Ok(()),
        };
        let theirs = evaluator::evaluate(&document, theirs) == evaluator::Verdict::Allow;
        prop_assert_eq!(ours, theirs, "{} {:?}", document, request);
    }
}
