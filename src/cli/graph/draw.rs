//! The graph as a picture: consumers, registry roles and repositories, in the language of Graphviz
//! or Mermaid.

use super::edges::{Edge, Path, Ready};
use crate::cli::terminal::plain;
use std::collections::BTreeMap;

/// Nodes and the arrows between them.
struct Picture {
    /// The nodes with their numbers, which follow the order of the nodes.
    nodes: BTreeMap<Node, usize>,
    arrows: Vec<Arrow>,
}

/// A node with its lines of text. Its kind determines its shape.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Node {
    Consumer(Vec<String>),
    Role(Vec<String>),
    Repositories(Vec<String>),
}

struct Arrow {
    from: usize,
    to: usize,
    /// Lines of text. Of a route with two arrows, only the first has them.
    says: Vec<String>,
    ready: Ready,
}

/// A path of a grant: the nodes from the consumer to the repositories.
struct Route<'a> {
    edge: &'a Edge,
    nodes: Vec<Node>,
}

impl Picture {
    fn of(edges: &[Edge]) -> Self {
        let routes: Vec<Route> = edges.iter().flat_map(routes).collect();
        let mut nodes: BTreeMap<Node, usize> = routes
            .iter()
            .flat_map(|route| route.nodes.iter().cloned())
            .map(|node| (node, 0))
            .collect();
        for (at, number) in nodes.values_mut().enumerate() {
            *number = at + 1;
        }
        let mut arrows = Vec::new();
        for Route { edge, nodes: route } in &routes {
            let mut says = caption(edge);
            for ends in route.windows(2) {
                arrows.push(Arrow {
                    from: nodes[&ends[0]],
                    to: nodes[&ends[1]],
                    says: std::mem::take(&mut says),
                    ready: edge.ready,
                });
            }
        }
        Self { nodes, arrows }
    }

    fn in_order(&self) -> impl Iterator<Item = (&Node, usize)> {
        self.nodes.iter().map(|(node, number)| (node, *number))
    }
}

/// Returns the lines of text of a grant's arrow.
fn caption(edge: &Edge) -> Vec<String> {
    let Edge {
        grant,
        access,
        ready,
        reason,
        ..
    } = edge;
    let mut lines = vec![grant.clone(), access.clone()];
    match ready {
        Ready::True => {}
        Ready::False => lines.push(format!("not ready: {reason}")),
        Ready::Unknown => lines.push(format!("not known: {reason}")),
    }
    lines
}

/// Returns a route for each path of a grant.
fn routes(edge: &Edge) -> Vec<Route<'_>> {
    let Edge {
        consumer,
        who,
        registry,
        regions,
        repositories,
        paths,
        ..
    } = edge;
    let mut from = vec![consumer.clone()];
    from.extend(who.iter().cloned());
    let mut to = vec![format!("{registry} {}", regions.join(" "))];
    to.extend(repositories.iter().cloned());
    let mut routes = Vec::new();
    for path in paths {
        let mut nodes = vec![Node::Consumer(from.clone())];
        match path {
            Path::Direct => {}
            Path::AssumeRole(role) => nodes.push(Node::Role(vec![registry.clone(), role.clone()])),
        }
        nodes.push(Node::Repositories(to.clone()));
        routes.push(Route { edge, nodes });
    }
    routes
}

/// Draws the graph in Graphviz's language.
pub fn dot(edges: &[Edge]) -> String {
    let picture = Picture::of(edges);
    let mut out =
        String::from("digraph grants {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for (node, number) in picture.in_order() {
        let (shape, lines) = match node {
            Node::Consumer(lines) => ("box", lines),
            Node::Role(lines) => ("ellipse", lines),
            Node::Repositories(lines) => ("folder", lines),
        };
        let label = dot_label(lines);
        out += &format!("  n{number} [shape={shape}, label=\"{label}\"];\n");
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
        let label = dot_label(says);
        out += &format!("  n{from} -> n{to} [label=\"{label}\"{style}];\n");
    }
    out + "}\n"
}

/// Joins lines to a text for quotation marks of DOT, where `\` begins an escape.
fn dot_label(lines: &[String]) -> String {
    let lines: Vec<String> = lines
        .iter()
        .map(|line| plain(line).replace('\\', "\\\\").replace('"', "\\\""))
        .collect();
    lines.join("\\n")
}

/// Draws the graph in Mermaid's language.
pub fn mermaid(edges: &[Edge]) -> String {
    let picture = Picture::of(edges);
    let mut out = String::from("flowchart LR\n");
    for (node, number) in picture.in_order() {
        out += &match node {
            Node::Consumer(lines) => format!("  n{number}[\"{}\"]\n", mermaid_label(lines)),
            Node::Role(lines) => format!("  n{number}([\"{}\"])\n", mermaid_label(lines)),
            Node::Repositories(lines) => format!("  n{number}[(\"{}\")]\n", mermaid_label(lines)),
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
        let label = if says.is_empty() {
            String::new()
        } else {
            format!("|\"{}\"|", mermaid_label(says))
        };
        out += &format!("  n{from} {line}{label} n{to}\n");
    }
    out
}

/// Joins lines to a text for Mermaid, which reads texts as Markdown and HTML. Every character that
/// could be markup is written as its number.
fn mermaid_label(lines: &[String]) -> String {
    let mut lines_out = Vec::new();
    for line in lines {
        let mut out = String::new();
        for c in plain(line).chars() {
            if c.is_alphanumeric() || " ./:,-".contains(c) {
                out.push(c);
            } else {
                out += &format!("#{};", u32::from(c));
            }
        }
        lines_out.push(out);
    }
    lines_out.join("<br/>")
}
