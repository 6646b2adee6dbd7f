//! Differences between policy documents as text.

use super::terminal::plain;
use crate::policy::diff::{DiffPart, Name, Term};
use std::fmt;

/// Prints the changed parts of a statement, or all of its parts.
pub fn parts(f: &mut fmt::Formatter<'_>, parts: &[DiffPart]) -> fmt::Result {
    for DiffPart {
        place,
        removed,
        added,
    } in parts
    {
        let place = place.join(" ");
        // The version matters because statements that are in both documents then differ in
        // meaning.
        let note = if place == "Version" {
            " (variables, `${`, exist only in 2012-10-17)"
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

/// Names a statement by its position, and by its Sid.
pub fn titled(name: &Name) -> String {
    let Name { position, sid } = name;
    match sid {
        Some(sid) => format!("{position} \"{}\"", plain(sid)),
        None => position.to_string(),
    }
}

/// Names several statements.
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
