//! Checks the answer of any operation for its request. The input is a byte for the operation, the
//! request, a zero byte and the answer. The check does not panic, and an accepted answer has the
//! fields that the table lists.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry_grants_fuzz::answer::check;
use registry_grants_fuzz::answer::table::{ANSWERS, Presence, Protocol};
use registry_grants_fuzz::answer::tree::Tree;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, rest)) = bytes.split_first() else {
        return;
    };
    let Some(known) = ANSWERS.get(usize::from(*which) % ANSWERS.len()) else {
        return;
    };
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let (request, answer) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    if check(known.operation, request, answer).is_err() {
        return;
    }
    let data = match known.protocol {
        Protocol::Json => Tree::of_json(answer),
        Protocol::Query => Tree::of_xml(answer).map(|(_, whole)| whole),
    };
    let data = data.expect("what was accepted can be read");
    let result = data
        .field(&format!("{}Result", known.operation))
        .unwrap_or(&data);
    for (path, presence) in known.fields.iter().filter(|(path, _)| !path.contains("[]")) {
        let found = path
            .split('.')
            .try_fold(result, |tree, name| tree.field(name));
        assert!(
            found.is_some() || matches!(presence, Presence::MayBeAbsent(_)),
            "{path} was not missed"
        );
    }
});
