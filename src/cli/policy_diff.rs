//! Differences between policy documents as text.

use super::terminal::plain;
use crate::policy::diff::{DiffPart, Name, Term};
use std::fmt;

/// What changed in a statement, or all of it.
pub fn parts(f: &mut fmt::Formatter<'_>, parts: &[DiffPart]) -> fmt::Result {
    for DiffPart {
        place,
        removed,
        added,
    } in parts
    {
        let place = place.join(" ");
        // Why the version is told at all: statements that stand in both documents do not mean the
        // same then.
        let note = if place == "Version" {
            " (only in 2012-10-17 are there variables, `${`)"
        } else {
            ""
        };
        writeln!(f, "  {}{note}", plain(&place))?;
        for (sign, terms) in [('-', removed), ('+', added)] {
            terms
                .iter()
                .try_for_each(|term| writeln!(f, "    {sign} {}", value(term)))?;
        }
    }
    writeln!(f)
}

/// A statement by its place, and by its Sid.
pub fn titled(name: &Name) -> String {
    let Name { position, sid } = name;
    match sid {
        Some(sid) => format!("{position} \"{}\"", plain(sid)),
        None => position.to_string(),
    }
}

/// Several of them.
pub fn list(names: &[Name]) -> String {
    names.iter().map(titled).collect::<Vec<_>>().join(", ")
}

fn value(term: &Term) -> String {
    match term {
        Term::Text(text) if text.is_empty() => "(an empty string)".into(),
        Term::Text(text) => plain(text),
        Term::Json(json) => format!("{} (as JSON)", plain(json)),
    }
}
