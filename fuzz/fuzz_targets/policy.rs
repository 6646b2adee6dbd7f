//! Parses any bytes as a document. Parsing does not panic, and a parsed document is printed and
//! compared without loss.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_grants_fuzz::policy::Document;
use registry_grants_fuzz::policy::diff::Difference;

fuzz_target!(|bytes: &[u8]| {
    let Ok(document) = Document::parse_bytes(bytes) else {
        return;
    };
    let printed = document.to_string();
    let again = Document::parse(&printed).expect("what was printed can be read");
    assert_eq!(again, document);
    assert_eq!(again.to_string(), printed);
    assert!(document.characters() <= printed.len());

    let canonical = document.canonical();
    assert!(canonical.same_meaning(&document));
    assert_eq!(canonical.canonical().to_string(), canonical.to_string());
    let read = Document::parse(&canonical.to_string()).expect("the canonical form can be read");
    assert_eq!(read, canonical);

    assert!(document.same_meaning(&again));
    assert!(Difference::between(&document, &canonical).is_empty());
});
