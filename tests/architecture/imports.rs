//! No module imports itself over others: there are no import cycles.
//!
//! A module is a file of `src`. It imports another module if its code has a path to it: in a `use`
//! declaration or elsewhere, from `crate`, `self`, `super` or one of its own children. Comments,
//! texts and tests are no code, and the `in` of a visibility is no path. A path that leads through
//! another module's `use` leads to the module that it names (a name given by `as` is not followed).
//! A module that only re-exports a name of its children does not import it. If it uses the name as
//! well, it does.

use std::collections::{BTreeMap, BTreeSet};

type Path = Vec<String>;

/// A module's code: its `use` declarations, and the rest.
struct Module {
    /// The paths of its `use` declarations, and whether they are visible to others.
    uses: Vec<(Path, bool)>,
    rest: String,
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Returns the first word of a line after the visibility.
fn code_begins(line: &str) -> Option<&str> {
    words(line).find(|word| !["pub", "crate", "super", "in", "self", ""].contains(word))
}

/// Removes comments and the content of texts.
fn code_of(text: &str) -> String {
    let (mut code, mut rest) = (String::new(), text);
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if next == '"' {
            text_length(rest)
        } else if let Some(hashes) = raw_text_begins(rest).filter(|_| !code.ends_with(is_of_word)) {
            let end = format!("\"{}", "#".repeat(hashes));
            let begin = hashes + 2;
            begin + rest[begin..].find(&end).expect("an end of the text") + end.len()
        } else if rest.starts_with("'\"'") {
            3
        } else if rest.starts_with("'\\") {
            2 + rest[3..].find('\'').expect("an end of the character") + 2
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Returns the length of the text that begins here, with its quotes.
fn text_length(text: &str) -> usize {
    let mut at = 1;
    while !text[at..].starts_with('"') {
        let escaped = text[at..].starts_with('\\');
        at += usize::from(escaped);
        at += text[at..]
            .chars()
            .next()
            .expect("an end of the text")
            .len_utf8();
    }
    at + 1
}

/// Returns the number of hashes of the raw text that begins here.
fn raw_text_begins(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.bytes().take_while(|byte| *byte == b'#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

/// Removes the tests at the end of a file.
fn without_tests(code: &str) -> &str {
    let is_inline = |after: &str| {
        let line = after.lines().next().unwrap_or_default();
        words(line).any(|word| word == "mod") && line.ends_with('{')
    };
    let attribute = "#[cfg(test)]\n";
    let tests = code
        .match_indices(attribute)
        .find(|(at, _)| is_inline(&code[at + attribute.len()..]));
    tests.map_or(code, |(at, _)| &code[..at])
}

/// Returns the module of a file: `src/a/mod.rs` and `src/a.rs` are `a`.
fn module_of(file: &str) -> Path {
    let name = file.trim_start_matches("src/").trim_end_matches(".rs");
    let name = name.strip_suffix("/mod").unwrap_or(name);
    name.split('/').map(String::from).collect()
}

fn is_test(file: &str) -> bool {
    file.contains("/tests/") || file.ends_with("/tests.rs")
}

/// Returns the paths in some code of a module, from the root of the crate.
fn paths_in(code: &str, of: &Path, children: &BTreeSet<String>) -> BTreeSet<Path> {
    let firsts = ["crate", "self", "super"].into_iter().map(String::from);
    let firsts = firsts.chain(children.iter().cloned());
    firsts
        .flat_map(|first| super::paths_from(code, &first))
        .map(|path| absolute(&path, of))
        .collect()
}

fn absolute(path: &str, of: &Path) -> Path {
    let mut names: Vec<&str> = path.split("::").filter(|name| !name.is_empty()).collect();
    if names.last() == Some(&"self") {
        names.pop();
    }
    let mut whole = of.clone();
    match names[0] {
        "crate" => whole.clear(),
        "self" => {}
        "super" => {
            let up = names.iter().take_while(|name| **name == "super").count();
            whole.truncate(of.len().saturating_sub(up));
        }
        _ => names.insert(0, "self"),
    }
    let below = names
        .into_iter()
        .skip_while(|name| ["crate", "self", "super"].contains(name));
    whole.extend(below.map(String::from));
    whole
}

impl Module {
    fn of(path: &Path, code: &str, children: &BTreeSet<String>) -> Self {
        let (mut uses, mut rest) = (Vec::new(), String::new());
        let mut declaration: Option<String> = None;
        for line in code.lines() {
            let begins = code_begins(line) == Some("use");
            let declares_child = code_begins(line) == Some("mod") && line.trim_end().ends_with(';');
            if declares_child {
                continue;
            }
            if declaration.is_none() && !begins {
                rest += &format!("{line}\n");
                continue;
            }
            let declared = declaration.get_or_insert_default();
            declared.push_str(&format!("{line}\n"));
            if line.trim_end().ends_with(';') {
                let declared = declaration.take().expect("it was just made");
                let is_visible = declared.trim_start().starts_with("pub");
                let paths = declared.split_once("use ").expect("a declaration").1;
                let paths = paths_in(paths, path, children);
                uses.extend(paths.into_iter().map(|path| (path, is_visible)));
            }
        }
        // The names of children, and of the modules that may see an item, are no imports.
        let rest = rest.replace("pub(in crate::", "pub(in ");
        Self { uses, rest }
    }

    /// Returns the paths that the module uses itself.
    fn paths(&self, path: &Path, children: &BTreeSet<String>) -> BTreeSet<Path> {
        let is_used = |name: &str| words(&self.rest).any(|word| word == name);
        let declared = self.uses.iter().filter(|(used, is_visible)| {
            let name = used.last().expect("a name");
            !(*is_visible && used.starts_with(path)) || is_used(name)
        });
        let mut paths: BTreeSet<Path> = declared.map(|(used, _)| used.clone()).collect();
        paths.extend(paths_in(&self.rest, path, children));
        paths
    }
}

/// Returns the module that a path leads to, over the `use` declarations of others.
fn target(modules: &BTreeMap<Path, Module>, mut path: Path) -> Option<Path> {
    for _ in 0..10 {
        let length = (1..=path.len())
            .rev()
            .find(|n| modules.contains_key(&path[..*n]))?;
        let (module, names) = path.split_at(length);
        let uses = &modules[module].uses;
        let next = names.first().and_then(|name| {
            let (used, _) = uses.iter().find(|(used, _)| used.last() == Some(name))?;
            Some([used, &names[1..]].concat())
        });
        match next {
            Some(next) if next != path => path = next,
            _ => return Some(module.to_vec()),
        }
    }
    None
}

/// Returns the imports between these files that are part of a cycle, in words.
fn cycles(files: &[(String, String)]) -> Vec<String> {
    let files: Vec<(Path, String)> = files
        .iter()
        .filter(|(file, _)| !is_test(file))
        .map(|(file, text)| (module_of(file), without_tests(&code_of(text)).to_owned()))
        .collect();
    let children = |path: &Path| -> BTreeSet<String> {
        let below = files.iter().map(|(module, _)| module);
        let below =
            below.filter(|module| module.len() == path.len() + 1 && module.starts_with(path));
        below.filter_map(|module| module.last().cloned()).collect()
    };
    let modules: BTreeMap<Path, Module> = files
        .iter()
        .map(|(path, code)| (path.clone(), Module::of(path, code, &children(path))))
        .collect();
    let imports: BTreeMap<&Path, BTreeSet<Path>> = modules
        .iter()
        .map(|(path, module)| {
            let paths = module.paths(path, &children(path)).into_iter();
            let targets = paths.filter_map(|used| target(&modules, used));
            (path, targets.filter(|target| target != path).collect())
        })
        .collect();
    let reaches = |from: &Path, to: &Path| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(module) = next.pop() {
            if module == to {
                return true;
            }
            if seen.insert(module) {
                next.extend(&imports[module]);
            }
        }
        false
    };
    let edges = imports
        .iter()
        .flat_map(|(from, to)| to.iter().map(move |to| (*from, to)));
    edges
        .filter(|(from, to)| reaches(to, from))
        .map(|(from, to)| format!("{} uses {}", from.join("::"), to.join("::")))
        .collect()
}

fn cycles_of(files: &[(&str, &str)]) -> Vec<String> {
    let files: Vec<(String, String)> = files
        .iter()
        .map(|(file, text)| ((*file).to_owned(), (*text).to_owned()))
        .collect();
    cycles(&files)
}

#[test]
fn cycle_is_found_over_a_re_export() {
    let found = cycles_of(&[
        ("src/a/mod.rs", "mod b;\npub use b::B;\n"),
        ("src/a/b.rs", "use crate::c::C;\npub struct B(C);\n"),
        ("src/c.rs", "pub fn c() -> crate::a::B {}\n"),
    ]);
    assert_eq!(found, ["a::b uses c", "c uses a::b"]);
}

#[test]
fn parent_may_re_export_what_it_does_not_use() {
    let child = ("src/a/b.rs", "use super::Helper;\npub struct B;\n");
    let parent = "mod b;\npub use b::B;\npub struct Helper;\n// B\nconst T: &str = \"B\\\" B\";\n";
    assert!(cycles_of(&[("src/a/mod.rs", parent), child]).is_empty());
    let user = format!("{parent}fn of(b: B) {{}}\n");
    let found = cycles_of(&[("src/a/mod.rs", &user), child]);
    assert_eq!(found, ["a uses a::b", "a::b uses a"]);
}

#[test]
fn tests_and_visibilities_import_nothing() {
    let tests = "pub(in crate::b) struct A;\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}\n";
    let files = [
        ("src/a.rs", tests),
        ("src/b.rs", "pub struct B(crate::a::A);\n"),
        ("src/a/tests.rs", "use crate::b::B;\n"),
    ];
    assert!(cycles_of(&files).is_empty());
}

#[test]
fn no_modules_import_each_other() {
    let files: Vec<(String, String)> = super::MAY_USE
        .into_iter()
        .flat_map(|(part, _)| super::texts(part))
        .collect();
    assert!(files.len() > 200, "only {} files", files.len());
    let found = cycles(&files);
    assert!(found.is_empty(), "{found:#?}");
}
