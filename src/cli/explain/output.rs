//! The answer as text, and as JSON.

use super::answer::{AccessInputs, Call, Whole};
use super::arguments::{AccessQuestion, Action};
use crate::api::grant::AccessAction;
use crate::cli::terminal::plain;
use crate::policy::evaluate::{Named, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;

const NOT_SEEN: &str =
    "organization policies (SCPs, RCPs), VPC endpoint policies, session policies";

/// Prints the answer for people.
pub fn text(
    question: &AccessQuestion,
    whole: Whole,
    calls: &[Call],
    read: &AccessInputs,
) -> String {
    let by = question
        .assume
        .iter()
        .map(|role| format!(", by role {}", role.arn))
        .collect::<String>();
    let mut out = format!(
        "{whole:?}: {} — {} on {}{}\n\n",
        plain(&question.principal.arn),
        action(&question.action),
        plain(&question.repository.arn),
        plain(&by)
    );
    for Call {
        who,
        action,
        resource,
        verdict,
    } in calls
    {
        let _ = writeln!(
            out,
            "{:7} {action} on {} as {}",
            short(verdict),
            plain(resource),
            plain(who)
        );
        match verdict {
            Verdict::Allowed => {}
            Verdict::Denied(links) => {
                out.extend(links.iter().map(|link| reason(&link.to_string())))
            }
            other => out += &reason(&other.to_string()),
        }
    }
    out += "\nPolicies read:\n";
    for Named { name, document } in policies(read) {
        let what = match document {
            Ok(document) => format!("{} statements", document.statements.len()),
            Err(why) => format!("not read: {why}"),
        };
        let _ = writeln!(out, "  {}: {}", plain(name), plain(&what));
    }
    let _ = writeln!(out, "Not considered: {NOT_SEEN}.");
    out
}

fn reason(text: &str) -> String {
    format!("        {}\n", plain(text))
}

fn action(action: &Action) -> &str {
    match action {
        Action::Images(AccessAction::Pull) => "pull",
        Action::Images(AccessAction::Push) => "push",
        Action::Single(action) => action,
    }
}

fn short(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied(_) => "denied",
        Verdict::Depends(_) => "depends",
        Verdict::Unknown(_) => "unknown",
    }
}

/// Returns every policy that the verdict depends on.
fn policies(read: &AccessInputs) -> Vec<&Named> {
    let AccessInputs {
        principal,
        role,
        registry,
    } = read;
    let mut all: Vec<&Named> = principal
        .identity
        .iter()
        .chain(&principal.boundary)
        .collect();
    if let Some(role) = role {
        all.extend(
            [&role.trust]
                .into_iter()
                .chain(&role.identity)
                .chain(&role.boundary),
        );
    }
    all.extend(registry);
    all
}

/// Prints the answer for programs.
pub fn json(
    question: &AccessQuestion,
    whole: Whole,
    calls: &[Call],
    read: &AccessInputs,
) -> String {
    let answer: Value = json!({
        "principal": question.principal.arn,
        "assume": question.assume.as_ref().map(|role| &role.arn),
        "action": action(&question.action),
        "repository": question.repository.arn,
        "verdict": format!("{whole:?}").to_lowercase(),
        "calls": calls.iter().map(call).collect::<Value>(),
        "policies": policies(read).into_iter().map(policy).collect::<Value>(),
        "notSeen": NOT_SEEN,
    });
    format!("{answer:#}\n")
}

fn call(call: &Call) -> Value {
    let Call {
        who,
        action,
        resource,
        verdict,
    } = call;
    let why: Vec<String> = match verdict {
        Verdict::Allowed => Vec::new(),
        Verdict::Denied(links) => links.iter().map(ToString::to_string).collect(),
        Verdict::Depends(keys) => keys.iter().cloned().collect(),
        Verdict::Unknown(why) => why.clone(),
    };
    json!({
        "principal": who,
        "action": action,
        "resource": resource,
        "verdict": short(verdict),
        "why": why,
    })
}

fn policy(policy: &Named) -> Value {
    let Named { name, document } = policy;
    match document {
        Ok(document) => json!({"name": name, "statements": document.statements.len()}),
        Err(why) => json!({"name": name, "unreadable": why}),
    }
}
