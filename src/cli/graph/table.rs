//! The graph as a table, a grant a line, and below it why some are not ready.

use super::super::terminal::plain;
use super::edges::{Edge, Path, Ready};

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

pub fn table(edges: &[Edge]) -> String {
    if edges.is_empty() {
        return "There are no grants.\n".into();
    }
    let rows: Vec<[String; 9]> = [HEAD.map(String::from)]
        .into_iter()
        .chain(edges.iter().map(row))
        .collect();
    let widths: Vec<usize> = (0..HEAD.len())
        .map(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; 9]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    let lines: String = rows.iter().map(line).collect();
    let why = |edge: &Edge| {
        let Edge {
            grant,
            reason,
            message,
            ..
        } = edge;
        format!("{}: {}: {}\n", plain(grant), plain(reason), plain(message))
    };
    let reasons: String = edges
        .iter()
        .filter(|edge| edge.ready != Ready::True)
        .map(why)
        .collect();
    if reasons.is_empty() {
        lines
    } else {
        format!("{lines}\n{reasons}")
    }
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
    let list = |texts: &[String]| plain(&texts.join(","));
    let paths: Vec<&str> = paths
        .iter()
        .map(|path| match path {
            Path::Direct => "Direct",
            Path::AssumeRole(_) => "AssumeRole",
        })
        .collect();
    [
        plain(consumer),
        list(who),
        plain(access),
        paths.join(","),
        plain(registry),
        list(regions),
        list(repositories),
        ready.word().into(),
        plain(grant),
    ]
}
