//! Laws that hold for all documents.

use super::documents::{document, parsed, requests, statement};
use super::evaluator::evaluate;
use super::rewording::{Dice, mutate, reworded, slip};
use crate::policy::diff::{DiffPart, Difference};
use crate::policy::{Document, Installation, Statement};
use proptest::prelude::*;
use serde_json::Value;

/// Generates a document, and a rewording of it.
fn in_other_words() -> impl Strategy<Value = (Document, Document)> {
    document().prop_perturb(|value, rng| {
        let text = reworded(&value, &mut Dice(rng));
        (
            parsed(&value),
            Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}")),
        )
    })
}

/// Generates a document, and a rewording of it after one or two slips.
fn changed() -> impl Strategy<Value = (Document, Document)> {
    document().prop_perturb(|value, rng| {
        let mut dice = Dice(rng);
        let mut changed = value.clone();
        for _ in 0..=dice.0.random_range(0..2) {
            slip(&mut changed, &mut dice);
        }
        let mut changed = reworded(&changed, &mut dice);
        if dice.0.random_range(0..3) == 0 {
            let mut rough: Value = serde_json::from_str(&changed).unwrap();
            mutate(&mut rough, &mut dice);
            changed = rough.to_string();
        }
        (
            parsed(&value),
            Document::parse(&changed).unwrap_or_else(|_| parsed(&value)),
        )
    })
}

/// Returns the canonical form without the parts that have no meaning.
fn stripped(document: &Document) -> Document {
    let mut canonical = document.canonical();
    canonical.fields.remove("Id");
    canonical
        .statements
        .iter_mut()
        .for_each(|statement| drop(statement.0.remove("Sid")));
    canonical.statements.dedup();
    canonical
}

proptest! {
    #[test]
    fn rewording_keeps_the_meaning((one, other) in in_other_words()) {
        prop_assert!(one.same_meaning(&other) && other.same_meaning(&one), "{one}\n{other}");
        prop_assert!(Difference::between(&one, &other).is_empty());
    }

    #[test]
    fn rewording_grants_the_same_access((one, other) in in_other_words()) {
        for request in requests() {
            prop_assert_eq!(evaluate(&one, &request), evaluate(&other, &request), "{} {} {:?}", one, other, request);
        }
    }

    #[test]
    fn meaning_is_the_canonical_form_without_sids((one, other) in changed()) {
        prop_assert_eq!(one.same_meaning(&other), stripped(&one) == stripped(&other));
        prop_assert_eq!(one.same_meaning(&other), other.same_meaning(&one));
    }

    #[test]
    fn canonical_form_is_stable_and_keeps_the_meaning((document, other) in changed()) {
        for document in [document, other] {
            let canonical = document.canonical();
            prop_assert!(canonical.same_meaning(&document));
            prop_assert_eq!(canonical.canonical().to_string(), canonical.to_string());
        }
    }

    #[test]
    fn difference_is_empty_exactly_for_equal_meanings((one, other) in changed()) {
        let difference = Difference::between(&one, &other);
        prop_assert_eq!(difference.is_empty(), one.same_meaning(&other));
        for changed in &difference.changed {
            prop_assert!(!changed.parts.is_empty());
        }
    }

    #[test]
    fn difference_is_symmetric((one, other) in changed()) {
        let there = Difference::between(&one, &other);
        let back = Difference::between(&other, &one);
        prop_assert_eq!(there.only_left.len(), back.only_right.len());
        prop_assert_eq!(there.changed.len(), back.changed.len());
        let sides = |parts: Vec<DiffPart>| parts.into_iter().map(|part| (part.place, part.removed, part.added)).collect::<Vec<_>>();
        let other_sides = |parts: Vec<DiffPart>| parts.into_iter().map(|part| (part.place, part.added, part.removed)).collect::<Vec<_>>();
        prop_assert_eq!(other_sides(back.document), sides(there.document));
    }

    #[test]
    fn printed_document_is_read_as_the_same((document, other) in changed()) {
        for document in [document, other] {
            let printed = document.to_string();
            let read = Document::parse(&printed).unwrap();
            prop_assert_eq!(&read, &document);
            prop_assert_eq!(read.to_string(), printed);
        }
    }

    #[test]
    fn merging_and_removing_ours_restores_the_foreign_document(
        foreign in document(),
        ours in prop::collection::vec(statement(), 0..4),
    ) {
        let installation: Installation = "0123456789ab".parse().unwrap();
        let foreign = parsed(&foreign);
        let ours = ours.iter().enumerate().map(|(at, statement)| {
            Statement(statement.as_object().unwrap().clone()).sid(installation.sid(&at.to_string()))
        });
        let merged = foreign.clone().with(ours);
        let back = Document::parse(&merged.to_string()).unwrap().without_ours(&installation);
        prop_assert!(back.same_meaning(&foreign));
        prop_assert_eq!(back, foreign);
    }

    #[test]
    fn parsing_never_panics(text in any::<String>(), bytes in any::<Vec<u8>>()) {
        let _ = (Document::parse(&text), Document::parse_bytes(&bytes), Document::parse(&format!("%{text}")));
    }

    #[test]
    fn truncated_document_is_never_read(value in document(), at in any::<prop::sample::Index>()) {
        let text = value.to_string();
        let cut = at.index(text.len());
        prop_assert!(Document::parse_bytes(&text.as_bytes()[..cut]).is_err());
    }

    #[test]
    fn slip_in_the_text_causes_no_panic(value in document(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = value.to_string().into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(document) = Document::parse_bytes(&bytes) {
            prop_assert_eq!(&Document::parse(&document.to_string()).unwrap(), &document);
            prop_assert!(Difference::between(&document, &document).is_empty());
        }
    }
}

// Many cases, because only a pair of similar documents that one request in a thousand distinguishes
// reveals an error.
proptest! {
    #![proptest_config(crate::policy::tests::cases(2_000))]
    #[test]
    fn documents_with_different_access_are_never_equal((one, other) in changed()) {
        if one.same_meaning(&other) {
            for request in requests() {
                prop_assert_eq!(evaluate(&one, &request), evaluate(&other, &request), "{} {} {:?}", one, other, request);
            }
        }
    }
}
