//! A plan as text, and as JSON.

use crate::api::grant::AccessVerdict;
use crate::cli::json::document;
use crate::cli::policy_diff::{parts, titled};
use crate::cli::terminal::plain;
use crate::controller::plan::GrantPlan;
use crate::grant::change::{Change, PolicyChange};
use crate::grant::diff::ChangeEffect;
use crate::policy::diff::{Alone, Changed, DiffPart, Difference};
use serde_json::{Value, json};
use std::fmt::{self, Display, Write as _};

/// Prints the plan for people: by grant and account, with the changes of policies statement by
/// statement.
pub fn text(plans: &[GrantPlan], color: bool) -> String {
    let mut out = String::new();
    for plan in plans {
        out += &of_grant(plan, color);
    }
    let Summary {
        create,
        change,
        remove,
    } = Summary::of(plans);
    let problems: usize = plans.iter().map(|plan| plan.problems.len()).sum();
    let _ = write!(
        out,
        "Plan: {create} to create, {change} to change, {remove} to remove"
    );
    if problems > 0 {
        let _ = write!(out, "; problems: {problems}");
    }
    out + ".\n"
}

fn of_grant(plan: &GrantPlan, color: bool) -> String {
    let GrantPlan {
        grant,
        problems,
        changes,
        access,
        suspended,
    } = plan;
    let mut out = format!("{grant}\n");
    if *suspended {
        out += "  suspended: nothing is changed\n";
    }
    for problem in problems {
        let _ = writeln!(
            out,
            "  {} {}: {}",
            painted("!", RED, color),
            problem.reason,
            plain(&problem.message)
        );
    }
    out += &of_changes(changes, color);
    if changes.is_empty() && problems.is_empty() && !suspended {
        out += "  nothing to do\n";
    }
    if changes.is_empty() {
        for denied in access
            .iter()
            .filter(|access| access.verdict == AccessVerdict::Denied)
        {
            let _ = writeln!(
                out,
                "  path {:?}, {:?}: denied: {}",
                denied.path,
                denied.action,
                plain(denied.message.as_deref().unwrap_or_default())
            );
        }
    }
    out
}

fn of_changes(changes: &[Change], color: bool) -> String {
    let mut out = String::new();
    let mut place = None;
    for change in changes {
        if place != Some((&change.account, &change.region)) {
            let region = change
                .region
                .as_ref()
                .map(|region| format!(", {region}"))
                .unwrap_or_default();
            let _ = writeln!(out, "  account {}{region}", change.account);
            place = Some((&change.account, &change.region));
        }
        let (sign, paint) = sign(change.effect);
        let _ = writeln!(
            out,
            "    {} {}",
            painted(sign, paint, color),
            plain(&change.what)
        );
        if let Some(policy) = &change.policy {
            out += &indented(&Statements(&policy.difference()).to_string(), color);
        }
    }
    out
}

/// The number of changes, by their effect.
#[derive(Default)]
struct Summary {
    create: usize,
    change: usize,
    remove: usize,
}

impl Summary {
    fn of(plans: &[GrantPlan]) -> Self {
        let mut summary = Self::default();
        for change in distinct_changes(plans) {
            match change.effect {
                ChangeEffect::Create => summary.create += 1,
                ChangeEffect::Change => summary.change += 1,
                ChangeEffect::Remove => summary.remove += 1,
            }
        }
        summary
    }
}

/// Returns each change once. Several grants on one repository share a change of its policy.
fn distinct_changes(plans: &[GrantPlan]) -> Vec<&Change> {
    let mut distinct: Vec<&Change> = Vec::new();
    for change in plans.iter().flat_map(|plan| &plan.changes) {
        if !distinct.contains(&change) {
            distinct.push(change);
        }
    }
    distinct
}

const GREEN: &str = "\u{1b}[32m";
const YELLOW: &str = "\u{1b}[33m";
const RED: &str = "\u{1b}[31m";

fn sign(effect: ChangeEffect) -> (&'static str, &'static str) {
    match effect {
        ChangeEffect::Create => ("+", GREEN),
        ChangeEffect::Change => ("~", YELLOW),
        ChangeEffect::Remove => ("-", RED),
    }
}

fn painted(text: &str, paint: &str, color: bool) -> String {
    if color {
        format!("{paint}{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

fn indented(text: &str, color: bool) -> String {
    let mut out = String::new();
    for line in text.lines() {
        match line.trim_start().chars().next() {
            None => {}
            Some('+') => out += &format!("        {}\n", painted(line, GREEN, color)),
            Some('-') => out += &format!("        {}\n", painted(line, RED, color)),
            Some(_) => out += &format!("        {line}\n"),
        }
    }
    out
}

/// Prints the changes of a policy's statements.
struct Statements<'a>(&'a Difference);

impl Display for Statements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            document,
            changed,
            only_left,
            only_right,
            same: _,
        } = self.0;
        let beside: Vec<DiffPart> = document
            .iter()
            .filter(|part| part.place != ["Version"])
            .cloned()
            .collect();
        if !beside.is_empty() {
            writeln!(f, "outside the statements")?;
            parts(f, &beside)?;
        }
        for Changed {
            left,
            right: _,
            parts: changed,
        } in changed
        {
            writeln!(f, "statement {} is changed", titled(left))?;
            parts(f, changed)?;
        }
        for (alone, what) in [(only_left, "is removed"), (only_right, "is added")] {
            for Alone { name, parts: all } in alone {
                writeln!(f, "statement {} {what}", titled(name))?;
                parts(f, all)?;
            }
        }
        Ok(())
    }
}

/// Prints the plan for programs.
pub fn json(plans: &[GrantPlan]) -> String {
    let grants: Vec<Value> = plans.iter().map(json_of_grant).collect();
    let Summary {
        create,
        change,
        remove,
    } = Summary::of(plans);
    let summary = json!({"create": create, "change": change, "remove": remove});
    format!("{:#}\n", json!({"grants": grants, "summary": summary}))
}

fn json_of_grant(plan: &GrantPlan) -> Value {
    let GrantPlan {
        grant,
        problems,
        changes,
        access,
        suspended,
    } = plan;
    let problems: Vec<Value> = problems
        .iter()
        .map(|problem| json!({"reason": problem.reason.to_string(), "message": problem.message}))
        .collect();
    let changes: Vec<Value> = changes.iter().map(json_of_change).collect();
    json!({
        "namespace": grant.namespace,
        "name": grant.name,
        "suspended": suspended,
        "problems": problems,
        "changes": changes,
        "access": access,
    })
}

fn json_of_change(change: &Change) -> Value {
    let Change {
        account,
        region,
        effect,
        what,
        found,
        policy,
    } = change;
    let policy = policy.as_ref().map(|PolicyChange { before, after }| {
        json!({
            "before": before.as_ref().map(document),
            "after": after.as_ref().map(document),
        })
    });
    json!({
        "account": account.as_str(),
        "region": region,
        "effect": format!("{effect:?}"),
        "what": what,
        "found": found,
        "policy": policy,
    })
}
