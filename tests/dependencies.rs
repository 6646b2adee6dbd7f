//! Rules for the dependencies: one TLS provider, and licences that may be shipped.

use std::collections::BTreeMap;
use std::process::Command;

/// The crates in the operator's binary, and those that build it, with their licences. (By `cargo
/// tree`, for `cargo metadata` lists optional dependencies that are not built, too.)
fn dependencies() -> BTreeMap<String, String> {
    let arguments = "tree --locked --offline --package registry-grants --edges normal,build --prefix none --no-dedupe --format {p}\t{l}";
    let output = Command::new(env!("CARGO"))
        .args(arguments.split(' '))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let line = |line: &str| {
        let (package, licence) = line.split_once('\t')?;
        Some((
            package.split(' ').next()?.to_owned(),
            licence.trim_end_matches(" (*)").to_owned(),
        ))
    };
    let found: BTreeMap<String, String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(line)
        .collect();
    assert!(
        found.len() > 100 && found.contains_key("kube"),
        "that is not the whole tree: {found:?}"
    );
    found
}

#[test]
fn dependencies_have_one_tls_provider() {
    let found = dependencies();
    for other in [
        "ring",
        "openssl",
        "openssl-sys",
        "native-tls",
        "schannel",
        "s2n-tls",
        "boring",
    ] {
        assert!(
            !found.contains_key(other),
            "{other} is in the tree: `cargo tree -i {other}` shows what depends on it"
        );
    }
    assert!(found.contains_key("rustls") && found.contains_key("aws-lc-rs"));
}

const LICENCES: [&str; 10] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CC0-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

#[test]
fn every_dependency_has_an_accepted_licence() {
    let refused: Vec<_> = dependencies()
        .into_iter()
        .filter(|(_, licence)| !acceptable(licence))
        .collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

/// Returns whether an SPDX expression offers an accepted licence. Older crates write OR as `/`.
fn acceptable(expression: &str) -> bool {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let (accepted, rest) = any_of(&tokens);
    assert!(rest.is_empty(), "{expression} is not understood");
    accepted
}

fn any_of<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut accepted, mut rest) = all_of(tokens);
    while let ["OR", more @ ..] = rest {
        let (also, after) = all_of(more);
        (accepted, rest) = (accepted || also, after);
    }
    (accepted, rest)
}

fn all_of<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    let (mut accepted, mut rest) = one_of(tokens);
    while let ["AND", more @ ..] = rest {
        let (also, after) = one_of(more);
        (accepted, rest) = (accepted && also, after);
    }
    (accepted, rest)
}

fn one_of<'a>(tokens: &'a [&'a str]) -> (bool, &'a [&'a str]) {
    match tokens {
        ["(", inner @ ..] => {
            let (accepted, rest) = any_of(inner);
            (
                accepted,
                rest.strip_prefix(&[")"]).expect("a bracket that closes"),
            )
        }
        [licence, "WITH", exception, rest @ ..] => (
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str()),
            rest,
        ),
        [licence, rest @ ..] => (LICENCES.contains(licence), rest),
        [] => (false, tokens),
    }
}

#[test]
fn licence_expressions_are_read_as_in_spdx() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "GPL-3.0 OR MIT",
        "ISC AND (Apache-2.0 OR GPL-3.0)",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(acceptable(good), "{good}");
    }
    for bad in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "(MIT OR ISC) AND GPL-3.0",
        "",
        "Apache-2.0 WITH Something",
    ] {
        assert!(!acceptable(bad), "{bad}");
    }
}
