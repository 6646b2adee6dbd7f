//! Tests of the architecture: imports point one way, the core is pure, and names are unique.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "architecture/imports.rs"]
mod imports;

/// The parts of the crate that each part may use: `main → cli → controller → aws → grant → policy`,
/// with `api`, `telemetry`, `clock` and `text` below all of them.
const MAY_USE: [(&str, &str); 9] = [
    ("api", ""),
    ("clock", ""),
    ("text", ""),
    ("policy", "text"),
    ("telemetry", ""),
    ("grant", "api text policy"),
    ("aws", "api clock text policy telemetry grant"),
    ("controller", "api clock text policy telemetry grant aws"),
    (
        "cli",
        "api clock text policy telemetry grant aws controller",
    ),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| match path.is_dir() {
            true => rust_files(&path),
            false => vec![path],
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

/// The files of one part of the crate, by their place in the repository.
fn texts(part: &str) -> Vec<(String, String)> {
    let folder = root().join("src").join(part);
    let files = if folder.is_dir() {
        rust_files(&folder)
    } else {
        vec![folder.with_extension("rs")]
    };
    let named = |file: PathBuf| {
        let place = file.strip_prefix(root()).unwrap().display().to_string();
        (place, fs::read_to_string(&file).unwrap())
    };
    files.into_iter().map(named).collect()
}

/// Returns the files of one part of the crate, by their paths in the repository, without comments.
fn sources(part: &str) -> Vec<(String, String)> {
    let without_comments = |(file, text): (String, String)| {
        let code = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        (file, code.collect::<Vec<_>>().join("\n"))
    };
    texts(part).into_iter().map(without_comments).collect()
}

/// Returns every path in the code that begins with `first`, with braces expanded: `kube::{Api,
/// core::Rule}` is two.
fn paths_from(code: &str, first: &str) -> BTreeSet<String> {
    let begins =
        |at: usize| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
    let start = format!("{first}::");
    code.match_indices(&start)
        .filter(|(at, _)| begins(*at))
        .flat_map(|(at, _)| written_out(first, &code[at + start.len()..]).0)
        .collect()
}

/// Returns the paths after a `::`, and the length of their text.
fn written_out(before: &str, text: &str) -> (Vec<String>, usize) {
    if !text.starts_with('{') {
        let end = text
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        let path = format!("{before}::{}", &text[..end]);
        return match text[end..].strip_prefix("::") {
            Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '{') => {
                let (paths, length) = written_out(&path, rest);
                (paths, end + 2 + length)
            }
            _ => (vec![path], end),
        };
    }
    let (mut paths, mut at) = (Vec::new(), 1);
    loop {
        at += text[at..]
            .find(|c: char| !c.is_whitespace() && c != ',')
            .expect("a brace that closes");
        if text[at..].starts_with('}') {
            return (paths, at + 1);
        }
        let (more, length) = written_out(before, &text[at..]);
        paths.extend(more);
        at += length;
        // A name after `as` is not part of the path.
        at += text[at..].find([',', '}']).expect("a brace that closes");
    }
}

#[test]
fn paths_are_found_in_every_notation() {
    let code = "use kube::{Api, core::{Rule, cel::Validator},\n  ResourceExt as _};\nlet x = kube::runtime::watcher(); mykube::No";
    let paths: Vec<String> = paths_from(code, "kube").into_iter().collect();
    let expected = [
        "Api",
        "ResourceExt",
        "core::Rule",
        "core::cel::Validator",
        "runtime::watcher",
    ];
    assert_eq!(paths, expected.map(|path| format!("kube::{path}")));
}

#[test]
fn every_module_has_a_place_in_the_layering() {
    let declared = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let declared: BTreeSet<&str> = declared
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, MAY_USE.iter().map(|(part, _)| *part).collect());
}

#[test]
fn imports_point_one_way() {
    let mut wrong = Vec::new();
    for (part, may_use) in MAY_USE {
        for (file, code) in sources(part) {
            let used = paths_from(&code, "crate")
                .into_iter()
                .chain(paths_from(&code, "registry_grants"));
            let used = used.filter_map(|path| path.split("::").nth(1).map(String::from));
            let others = used
                .filter(|other| *other != part && !may_use.split(' ').any(|name| name == other));
            wrong.extend(others.map(|other| format!("{file} uses {other}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Names of types that several commands, formats or modules have.
const MAY_BE_REPEATED: [&str; 4] = ["Arguments", "Error", "Format", "Output"];

#[test]
fn public_types_have_unique_names() {
    let mut places: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (part, _) in MAY_USE {
        for (file, code) in sources(part) {
            if file.contains("/tests/") || file.ends_with("/tests.rs") {
                continue;
            }
            for name in code.lines().filter_map(public_type) {
                places.entry(name).or_default().insert(file.clone());
            }
        }
    }
    places.retain(|name, files| files.len() > 1 && !MAY_BE_REPEATED.contains(&name.as_str()));
    assert!(places.is_empty(), "{places:#?}");
}

/// Returns the type that a line declares, if it is visible outside of its module.
fn public_type(line: &str) -> Option<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = words
        .iter()
        .position(|word| ["struct", "enum", "trait", "type"].contains(word))?;
    let is_public = words[..kind].first()?.starts_with("pub");
    let name: String = words
        .get(kind + 1)?
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    is_public.then_some(name)
}

#[test]
fn main_only_calls_the_command_line() {
    let main = fs::read_to_string(root().join("src/main.rs")).unwrap();
    assert_eq!(
        paths_from(&main, "registry_grants"),
        ["registry_grants::cli::main".to_owned()].into()
    );
}

/// Every write of a repository's policy passes one check, so there is one place that writes.
#[test]
fn repository_policy_is_written_in_one_place() {
    let writes = |code: &str| {
        [".set_repository_policy(", ".delete_repository_policy("]
            .iter()
            .any(|w| code.contains(w))
    };
    let all = ["grant", "controller", "cli"].into_iter().flat_map(sources);
    let writing: Vec<String> = all
        .filter(|(_, code)| writes(code))
        .map(|(file, _)| file)
        .collect();
    assert_eq!(writing, ["src/controller/repository_policy/sync.rs"]);
}

/// Decisions are made without a client, a clock, an environment or a runtime.
#[test]
fn core_modules_are_pure() {
    let of_kube: BTreeMap<&str, &[&str]> = [
        ("policy", &[][..]),
        (
            "grant",
            &[
                "kube::ResourceExt",
                "kube::core::Selector",
                "kube::core::SelectorExt",
            ][..],
        ),
    ]
    .into();
    let never = [
        "tokio",
        "futures",
        "fastrand",
        "axum",
        "tracing",
        "aws_config",
        "aws_credential_types",
    ];
    let words = [
        "async ",
        ".await",
        "aws_sdk_",
        "aws_smithy",
        "SystemTime",
        "Instant::",
        "Timestamp::now",
        "std::env",
        "std::fs",
        "std::net",
        "std::process",
    ];
    let mut wrong = Vec::new();
    for (part, of_kube) in of_kube {
        for (file, code) in sources(part) {
            let allowed = |path: &String| {
                of_kube
                    .iter()
                    .any(|of| path == of || path.starts_with(&format!("{of}::")))
            };
            let kube = paths_from(&code, "kube")
                .into_iter()
                .filter(|path| !allowed(path));
            let others = never.into_iter().flat_map(|name| paths_from(&code, name));
            let words = words
                .into_iter()
                .filter(|word| code.contains(word))
                .map(String::from);
            wrong.extend(
                kube.chain(others)
                    .chain(words)
                    .map(|what| format!("{file}: {what}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A test passes these parts their time, randomness, connections and signals, and ends what they
/// start by dropping it. Only a long computation may have a thread of its own, and only where the
/// test allows it.
#[test]
fn everything_below_the_cli_gets_its_edges_from_outside() {
    let words = "SystemTime Timestamp::now fastrand env::var spawn_blocking tokio::spawn \
                 Handle::current tokio::signal Recorder aws_config::defaults Config::infer \
                 Kubeconfig block_in_place";
    let starts_threads = "src/controller/compute_pool.rs";
    for (file, code) in ["aws", "controller", "telemetry"]
        .into_iter()
        .flat_map(sources)
    {
        if file.ends_with("/tests.rs") {
            continue;
        }
        let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
        let found: Vec<&str> = words
            .split(' ')
            .filter(|word| code.contains(word))
            .filter(|word| !(*word == "spawn_blocking" && file == starts_threads))
            .collect();
        assert!(found.is_empty(), "{file}: {found:?}");
        let has_instant = paths_from(code, "std").contains("std::time::Instant");
        assert!(!has_instant, "{file}: std::time::Instant");
    }
}

/// The fuzz targets include these sources by their paths, in a workspace that nothing else builds.
#[test]
fn fuzz_crate_includes_every_module_that_its_sources_use() {
    let library = fs::read_to_string(root().join("fuzz/src/lib.rs")).unwrap();
    let paths: Vec<PathBuf> = library
        .lines()
        .filter_map(|line| line.strip_prefix("#[path = \"../../")?.strip_suffix("\"]"))
        .map(|path| root().join(path))
        .collect();
    let modules: BTreeSet<&str> = library
        .lines()
        .filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(paths.len(), modules.len());
    for path in paths {
        let files = if path.ends_with("mod.rs") {
            rust_files(path.parent().unwrap())
        } else {
            vec![path]
        };
        for file in files {
            let code = fs::read_to_string(&file).unwrap();
            let code = code.split("#[cfg(test)]").next().unwrap();
            let is_test = file.components().any(|part| part.as_os_str() == "tests");
            let missing = paths_from(code, "crate")
                .into_iter()
                .find(|path| !modules.contains(path.split("::").nth(1).unwrap_or_default()));
            assert!(
                is_test || missing.is_none(),
                "{}: {missing:?}",
                file.display()
            );
        }
    }
}

#[test]
fn resource_types_use_no_client() {
    for (file, code) in sources("api") {
        let client = paths_from(&code, "kube").into_iter().find(|path| {
            [
                "kube::Api",
                "kube::Client",
                "kube::api",
                "kube::client",
                "kube::runtime",
            ]
            .iter()
            .any(|p| path.starts_with(p))
        });
        assert_eq!(client, None, "{file}");
    }
}

/// The current maximum. It may only decrease.
const MOST_LINES: usize = 570;

#[test]
fn files_stay_within_the_line_limit() {
    let folders = ["src", "tests"].map(|folder| rust_files(&root().join(folder)));
    let is_long = |file: &PathBuf| fs::read_to_string(file).unwrap().lines().count() > MOST_LINES;
    let long: Vec<PathBuf> = folders.concat().into_iter().filter(is_long).collect();
    assert_eq!(long, Vec::<PathBuf>::new());
}

/// Returns every SDK call in `src/aws` by the operation's name: `client.get_role()` is `GetRole`.
fn called_operations() -> BTreeSet<String> {
    let clients = ["iam.", ".ecr_in(region).", ".sts(config)."];
    let name = |snake: &str| -> String {
        let capitalized = |word: &str| word[..1].to_uppercase() + &word[1..];
        snake
            .split('_')
            .filter(|word| !word.is_empty())
            .map(capitalized)
            .collect()
    };
    let mut called = BTreeSet::new();
    for (file, code) in sources("aws")
        .into_iter()
        .filter(|(file, _)| !file.ends_with("tests.rs"))
    {
        let code: String = code.split_whitespace().collect();
        for client in clients {
            for (at, _) in code.match_indices(client) {
                let rest = &code[at + client.len()..];
                let method = rest.split_once("()").map_or("", |(method, _)| method);
                let is_call = !method.is_empty()
                    && method.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                if is_call && method.contains('_') {
                    called.insert(format!("{} in {file}", name(method)));
                }
            }
        }
    }
    called
}

/// Without an entry in the table, an incomplete answer could not be detected.
#[test]
fn every_called_operation_is_in_the_table_of_answers() {
    let table: BTreeSet<&str> = registry_grants::aws::answer::table::ANSWERS
        .iter()
        .map(|answer| answer.operation)
        .collect();
    let called = called_operations();
    let operation = |called: &String| called.split(' ').next().unwrap_or_default().to_owned();
    assert!(
        called
            .iter()
            .any(|called| operation(called) == "GetRepositoryPolicy"),
        "{called:#?}"
    );
    let unlisted: Vec<_> = called
        .iter()
        .filter(|called| !table.contains(operation(called).as_str()))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:#?}");
    let used: BTreeSet<String> = called.iter().map(operation).collect();
    let unused: Vec<_> = table
        .iter()
        .filter(|listed| !used.contains(**listed))
        .collect();
    assert!(unused.is_empty(), "{unused:#?}");
}

/// The watch caches keep no other annotations, so one that is read and not listed would always look
/// absent.
#[test]
fn every_annotation_read_is_kept_in_the_watch_caches() {
    let api = fs::read_to_string(root().join("src/api/mod.rs")).unwrap();
    let kept = api
        .split_once("pub const ANNOTATIONS")
        .and_then(|(_, rest)| rest.split_once("];"));
    let (kept, _) = kept.unwrap_or_else(|| panic!("no list of annotations in src/api/mod.rs"));
    for (file, code) in sources("controller").into_iter().chain(sources("grant")) {
        for (at, read) in code.match_indices("annotations().get(") {
            let name: String = code[at + read.len()..]
                .chars()
                .take_while(|c| c.is_ascii_uppercase() || *c == '_')
                .collect();
            assert!(
                kept.contains(&name),
                "{file} reads {name}, which is not in ANNOTATIONS"
            );
        }
    }
}

/// `docs/architecture.md` names files, and tests as `file::function`, in backticks.
#[test]
fn architecture_page_names_existing_files_and_tests() {
    let page = fs::read_to_string(root().join("docs/architecture.md")).unwrap();
    let folders = ["src/", "tests/", "docs/", "charts/", "tools/"];
    let named: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| folders.iter().any(|folder| name.starts_with(folder)))
        .collect();
    assert!(named.len() > 100, "only {} were found", named.len());
    let missing: Vec<&str> = named.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn tests_readme_lists_every_integration_file() {
    let readme = fs::read_to_string(root().join("tests/README.md")).unwrap();
    let folder = fs::read_dir(root().join("tests/integration")).unwrap();
    let unlisted: Vec<String> = folder
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".rs") && name != "main.rs")
        .filter(|name| !readme.contains(&format!("| `{name}` |")))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}

fn exists(name: &str) -> bool {
    let Some((file, function)) = name.split_once("::") else {
        return root().join(name).exists();
    };
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    text.contains(&format!("fn {function}("))
}
