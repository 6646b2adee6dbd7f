use super::edges::{Edge, Path, Ready};
use super::{draw, table};
use proptest::prelude::*;

fn edge(text: &str) -> Edge {
    let text = text.to_owned();
    Edge {
        consumer: text.clone(),
        who: vec![text.clone()],
        registry: text.clone(),
        regions: vec![text.clone()],
        repositories: vec![text.clone()],
        paths: vec![Path::Direct, Path::AssumeRole(text.clone())],
        access: "Pull".into(),
        grant: text.clone(),
        ready: Ready::False,
        reason: text.clone(),
        message: text,
    }
}

#[test]
fn hostile_name_stays_inside_its_quotation_marks() {
    let hostile = [edge(
        "a\"]; evil [label=\"\\\n<script>`#quot;` --> b\u{1b}[31m\u{202e}",
    )];
    let dot = draw::dot(&hostile);
    assert!(
        dot.contains(r#"label="a\"]; evil [label=\"\\\\n<script>"#),
        "{dot}"
    );
    let mermaid = draw::mermaid(&hostile);
    assert!(
        mermaid.contains("a#34;#93;; evil") || mermaid.contains("a#34;#93;#59; evil"),
        "{mermaid}"
    );
    assert!(
        !mermaid.contains("<script>") && !mermaid.contains('`'),
        "{mermaid}"
    );
    assert_eq!(table::table(&hostile).lines().count(), 4);
}

proptest! {
    #[test]
    fn any_text_keeps_the_format_and_is_safe_for_a_terminal(text in "\\PC*|.{0,20}|[\\x00-\\x7f]{0,20}") {
        for drawn in [draw::dot(&[edge(&text)]), draw::mermaid(&[edge(&text)]), table::table(&[edge(&text)])] {
            prop_assert!(!drawn.chars().any(|c| c.is_control() && c != '\n'), "{drawn:?}");
        }
        prop_assert_eq!(draw::dot(&[edge(&text)]).lines().count(), draw::dot(&[edge("x")]).lines().count());
        for line in draw::mermaid(&[edge(&text)]).lines() {
            prop_assert!(matches!(line.matches('"').count(), 0 | 2), "{line}");
        }
        for line in draw::dot(&[edge(&text)]).lines() {
            prop_assert_eq!(line.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2, 0);
        }
    }
}
