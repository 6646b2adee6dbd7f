//! The graph as a picture: consumers, the registry's roles, and repositories, in Graphviz's
//! language or Mermaid's.

use super::super::terminal::plain;
use super::edges::{Edge, Path, Ready};
use std::collections::BTreeMap;

/// What is drawn: nodes by what they show, arrows between them.
struct Picture {
    /// Lines of text, and the shape; by their order they are numbered.
    nodes: BTreeMap<Node, usize>,
    arrows: Vec<Arrow>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Consumer(Vec<String>),
    Role(Vec<String>),
    Repositories(Vec<String>),
}

struct Arrow {
    from: usize,
    to: usize,
    /// Nothing is said of the second half of a way.
    says: Vec<String>,
    ready: Ready,
}

impl Picture {
    fn of(edges: &[Edge]) -> Self {
        let ways: Vec<(&Edge, Vec<Node>)> = edges.iter().flat_map(ways).collect();
        let mut nodes: BTreeMap<Node, usize> = ways
            .iter()
            .flat_map(|(_, nodes)| nodes.iter().cloned())
            .map(|node| (node, 0))
            .collect();
        nodes
            .values_mut()
            .enumerate()
            .for_each(|(at, number)| *number = at + 1);
        let arrow = |(edge, way): &(&Edge, Vec<Node>)| {
            let numbers: Vec<usize> = way.iter().map(|node| nodes[node]).collect();
            let Edge {
                grant,
                access,
                ready,
                reason,
                ..
            } = edge;
            let held = if *ready == Ready::True {
                None
            } else {
                Some(format!("{}: {reason}", not(*ready)))
            };
            let says: Vec<String> = [grant.clone(), access.clone()]
                .into_iter()
                .chain(held)
                .collect();
            let halves = numbers.windows(2).enumerate().map(move |(at, ends)| Arrow {
                from: ends[0],
                to: ends[1],
                says: if at == 0 { says.clone() } else { Vec::new() },
                ready: edge.ready,
            });
            halves.collect::<Vec<_>>()
        };
        let arrows = ways.iter().flat_map(arrow).collect();
        Self { nodes, arrows }
    }

    fn in_order(&self) -> impl Iterator<Item = (&Node, usize)> {
        self.nodes.iter().map(|(node, number)| (node, *number))
    }
}

fn not(ready: Ready) -> &'static str {
    match ready {
        Ready::True => "ready",
        Ready::False => "not ready",
        Ready::Unknown => "not known",
    }
}

/// A way for each path.
fn ways(edge: &Edge) -> Vec<(&Edge, Vec<Node>)> {
    let Edge {
        consumer,
        who,
        registry,
        regions,
        repositories,
        paths,
        ..
    } = edge;
    let consumer = Node::Consumer(
        [consumer.clone()]
            .into_iter()
            .chain(who.iter().cloned())
            .collect(),
    );
    let registry_line = format!("{registry} {}", regions.join(" "));
    let to = Node::Repositories(
        [registry_line]
            .into_iter()
            .chain(repositories.iter().cloned())
            .collect(),
    );
    let way = |path: &Path| match path {
        Path::Direct => (edge, vec![consumer.clone(), to.clone()]),
        Path::AssumeRole(role) => (
            edge,
            vec![
                consumer.clone(),
                Node::Role(vec![registry.clone(), role.clone()]),
                to.clone(),
            ],
        ),
    };
    paths.iter().map(way).collect()
}

pub fn dot(edges: &[Edge]) -> String {
    let picture = Picture::of(edges);
    let label = |lines: &[String]| {
        lines
            .iter()
            .map(|line| of_dot(line))
            .collect::<Vec<_>>()
            .join("\\n")
    };
    let mut out =
        String::from("digraph grants {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for (node, number) in picture.in_order() {
        let (shape, lines) = match node {
            Node::Consumer(lines) => ("box", lines),
            Node::Role(lines) => ("ellipse", lines),
            Node::Repositories(lines) => ("folder", lines),
        };
        out += &format!("  n{number} [shape={shape}, label=\"{}\"];\n", label(lines));
    }
    for Arrow {
        from,
        to,
        says,
        ready,
    } in &picture.arrows
    {
        let style = match ready {
            Ready::True => "",
            Ready::False => ", style=dashed, color=red",
            Ready::Unknown => ", style=dashed",
        };
        out += &format!("  n{from} -> n{to} [label=\"{}\"{style}];\n", label(says));
    }
    out + "}\n"
}

/// Inside quotation marks of DOT, `\` begins an escape.
fn of_dot(text: &str) -> String {
    plain(text).replace('\\', "\\\\").replace('"', "\\\"")
}

pub fn mermaid(edges: &[Edge]) -> String {
    let picture = Picture::of(edges);
    let label = |lines: &[String]| {
        lines
            .iter()
            .map(|line| of_mermaid(line))
            .collect::<Vec<_>>()
            .join("<br/>")
    };
    let mut out = String::from("flowchart LR\n");
    for (node, number) in picture.in_order() {
        out += &match node {
            Node::Consumer(lines) => format!("  n{number}[\"{}\"]\n", label(lines)),
            Node::Role(lines) => format!("  n{number}([\"{}\"])\n", label(lines)),
            Node::Repositories(lines) => format!("  n{number}[(\"{}\")]\n", label(lines)),
        };
    }
    for Arrow {
        from,
        to,
        says,
        ready,
    } in &picture.arrows
    {
        let line = if *ready == Ready::True { "-->" } else { "-.->" };
        let says = if says.is_empty() {
            String::new()
        } else {
            format!("|\"{}\"|", label(says))
        };
        out += &format!("  n{from} {line}{says} n{to}\n");
    }
    out
}

/// Mermaid reads its texts as Markdown and HTML: all that could mean something there is told by its
/// number.
fn of_mermaid(text: &str) -> String {
    let mut out = String::new();
    for c in plain(text).chars() {
        match c {
            c if c.is_alphanumeric() || " ./:,-".contains(c) => out.push(c),
            c => out += &format!("#{};", u32::from(c)),
        }
    }
    out
}
