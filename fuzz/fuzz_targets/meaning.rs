//! Compares two documents, which a zero byte separates. Equality and difference are symmetric.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_grants_fuzz::policy::Document;
use registry_grants_fuzz::policy::diff::Difference;

fuzz_target!(|bytes: &[u8]| {
    let Some(at) = bytes.iter().position(|byte| *byte == 0) else {
        return;
    };
    let (Ok(one), Ok(other)) = (
        Document::parse_bytes(&bytes[..at]),
        Document::parse_bytes(&bytes[at + 1..]),
    ) else {
        return;
    };
    let same = one.same_meaning(&other);
    assert_eq!(other.same_meaning(&one), same);
    assert_eq!(one.canonical().same_meaning(&other.canonical()), same);
    let difference = Difference::between(&one, &other);
    let back = Difference::between(&other, &one);
    assert_eq!(difference.is_empty(), same);
    assert_eq!(back.is_empty(), same);
    assert_eq!(difference.changed.len(), back.changed.len());
    assert_eq!(difference.only_left.len(), back.only_right.len());
    assert!(
        difference
            .changed
            .iter()
            .all(|changed| !changed.parts.is_empty())
    );
});
