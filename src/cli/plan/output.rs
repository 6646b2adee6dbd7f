//! A plan as text, and as JSON.

use crate::api::grant::AccessVerdict;
use crate::cli::policy_diff::{parts, titled};
use crate::cli::terminal::plain;
use crate::controller::plan::GrantPlan;
use crate::grant::change::{Change, PolicyChange};
use crate::grant::diff::ChangeEffect;
use crate::policy::Document;
use crate::policy::diff::{Alone, Changed, DiffPart, Difference};
use serde_json::{Value, json};
use std::fmt::{self, Display, Write as _};

/// For people: by grant and account, with what becomes of policies statement by statement.
pub fn text(plans: &[GrantPlan], color: bool) -> String {
    let mut out = String::new();
    for GrantPlan {
        grant,
        problems,
        changes,
        access,
        suspended,
    } in plans
    {
        let _ = writeln!(out, "{grant}");
        if *suspended {
            out += "  suspended: nothing is done for it\n";
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
        let mut place = None;
        for change in changes {
            if place != Some((&change.account, &change.region)) {
                let region = change
                    .region
                    .iter()
                    .map(|region| format!(", {region}"))
                    .collect::<String>();
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
        if changes.is_empty() && problems.is_empty() && !suspended {
            out += "  nothing to do\n";
        }
        for told in access
            .iter()
            .filter(|told| told.verdict == AccessVerdict::Denied && changes.is_empty())
        {
            let message = told.message.as_deref().unwrap_or_default();
            let _ = writeln!(
                out,
                "  path {:?}, {:?}: denied: {}",
                told.path,
                told.action,
                plain(message)
            );
        }
    }
    let count = |effect: ChangeEffect| {
        changes(plans)
            .filter(|change| change.effect == effect)
            .count()
    };
    let problems: usize = plans.iter().map(|plan| plan.problems.len()).sum();
    let (create, change, remove) = (
        count(ChangeEffect::Create),
        count(ChangeEffect::Change),
        count(ChangeEffect::Remove),
    );
    let _ = write!(
        out,
        "Plan: {create} to create, {change} to change, {remove} to remove"
    );
    out + &if problems == 0 {
        ".\n".to_owned()
    } else {
        format!("; problems: {problems}.\n")
    }
}

/// Grants on one repository change one document: each change counts once.
fn changes(plans: &[GrantPlan]) -> impl Iterator<Item = &Change> {
    let mut seen: Vec<&Change> = Vec::new();
    for change in plans.iter().flat_map(|plan| &plan.changes) {
        if !seen.contains(&change) {
            seen.push(change);
        }
    }
    seen.into_iter()
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
    let line = |line: &str| match line.trim_start().chars().next() {
        None => String::new(),
        Some('+') => format!("        {}\n", painted(line, GREEN, color)),
        Some('-') => format!("        {}\n", painted(line, RED, color)),
        Some(_) => format!("        {line}\n"),
    };
    text.lines().map(line).collect()
}

/// What becomes of a policy's statements.
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
            writeln!(f, "beside the statements")?;
            parts(f, &beside)?;
        }
        for Changed {
            left,
            right: _,
            parts: changed,
        } in changed
        {
            writeln!(f, "statement {} changes", titled(left))?;
            parts(f, changed)?;
        }
        for (alone, what) in [(only_left, "goes"), (only_right, "comes")] {
            for Alone { name, parts: all } in alone {
                writeln!(f, "statement {} {what}", titled(name))?;
                parts(f, all)?;
            }
        }
        Ok(())
    }
}

/// For programs.
pub fn json(plans: &[GrantPlan]) -> String {
    let document = |document: &Option<Document>| -> Value {
        document.as_ref().map_or(Value::Null, |document| {
            document.to_string().parse().unwrap_or_default()
        })
    };
    let policy = |PolicyChange { before, after }: &PolicyChange| json!({"before": document(before), "after": document(after)});
    let change = |change: &Change| {
        let Change {
            account,
            region,
            effect,
            what,
            found,
            policy: changed,
        } = change;
        json!({
            "account": account.as_str(),
            "region": region,
            "effect": format!("{effect:?}"),
            "what": what,
            "found": found,
            "policy": changed.as_ref().map(policy),
        })
    };
    let grants: Vec<Value> = plans
        .iter()
        .map(|GrantPlan { grant, problems, changes, access, suspended }| {
            json!({
                "namespace": grant.namespace,
                "name": grant.name,
                "suspended": suspended,
                "problems": problems.iter().map(|p| json!({"reason": p.reason.to_string(), "message": p.message})).collect::<Vec<_>>(),
                "changes": changes.iter().map(change).collect::<Vec<_>>(),
                "access": access,
            })
        })
        .collect();
    let count = |effect: ChangeEffect| {
        changes(plans)
            .filter(|change| change.effect == effect)
            .count()
    };
    let summary = json!({"create": count(ChangeEffect::Create), "change": count(ChangeEffect::Change), "remove": count(ChangeEffect::Remove)});
    format!("{:#}\n", json!({"grants": grants, "summary": summary}))
}
