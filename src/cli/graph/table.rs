//! The graph as a table: one grant per line, and below it why some are not ready.

use super::edges::{Edge, Path, Ready};
use crate::cli::terminal::plain;

const HEAD: [&str; 9] = [
    "CONSUMER",
    "WHO",
    "ACCESS",
    "PATHS",
    "REGISTRY",
    "REGIONS",
    "REPOSITORIES",
    "READY",
    "GRANT",
];

/// Prints the table.
pub fn table(edges: &[Edge]) -> String {
    if edges.is_empty() {
        return "There are no grants.\n".into();
    }
    let rows: Vec<[String; 9]> = [HEAD.map(String::from)]
        .into_iter()
        .chain(edges.iter().map(row))
        .collect();
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut out = String::new();
    for row in &rows {
        out += &line(row, &widths);
    }
    let reasons: String = edges
        .iter()
        .filter(|edge| edge.ready != Ready::True)
        .map(|edge| edge.explanation() + "\n")
        .collect();
    if !reasons.is_empty() {
        out += "\n";
        out += &reasons;
    }
    out
}

fn line(row: &[String], widths: &[usize]) -> String {
    let cells: Vec<String> = row
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:width$}"))
        .collect();
    cells.join("  ").trim_end().to_owned() + "\n"
}

fn row(edge: &Edge) -> [String; 9] {
    let Edge {
        consumer,
        who,
        registry,
        regions,
        repositories,
        paths,
        access,
        grant,
        ready,
        reason: _,
        message: _,
    } = edge;
    let paths: Vec<&str> = paths
        .iter()
        .map(|path| match path {
            Path::Direct => "Direct",
            Path::AssumeRole(_) => "AssumeRole",
        })
        .collect();
    [
        plain(consumer),
        plain(&who.join(",")),
        plain(access),
        paths.join(","),
        plain(registry),
        plain(&regions.join(",")),
        plain(&repositories.join(",")),
        ready.word().into(),
        plain(grant),
    ]
}
