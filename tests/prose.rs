//! Counts what makes comments and messages in `src/` hard to read: phrases that say little, and lines
//! that are too long. No count may rise. If a change lowers a count, lower its limit here.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases with the number of times that comments in `src/` may contain them. The glossary in
/// `docs/architecture.md` has the words to use instead.
const PHRASES: [(&str, usize); 13] = [
    ("whoever", 0),
    ("whom", 0),
    ("anew", 0),
    ("is told", 0),
    ("are told", 0),
    ("look at", 0),
    ("looks at", 0),
    ("hang on", 0),
    ("hangs on", 0),
    ("nobody's", 0),
    ("he", 0),
    ("his", 0),
    ("himself", 0),
];

/// Phrases that `src/` must not contain at all, neither in comments nor in messages.
const BANNED: [&str; 28] = [
    "at work on",
    "cannot be told",
    "ever more rarely",
    "exclude each other",
    "gives back",
    "is asked for",
    "left alone",
    "lets in",
    "lets it in",
    "lets others in",
    "looked at",
    "looked for",
    "made anew",
    "put back",
    "putting back",
    "puts back",
    "rule whole",
    "said of",
    "spelt",
    "stands twice",
    "take back",
    "take off",
    "taken back",
    "taken off",
    "tried again",
    "trying again",
    "was asked for",
    "was made by",
];

/// How many comment lines in `src/` may be longer than 100 characters.
const LONG_LINES: usize = 18;

/// The comments in `src/`, line by line: the file, the whole line, and the comment in lower case.
fn comments() -> Vec<(PathBuf, String, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut comments = Vec::new();
    for file in rust_files(&source) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            if let Some((_, comment)) = line.split_once("//") {
                comments.push((file.clone(), line.to_owned(), comment.to_lowercase()));
            }
        }
    }
    comments
}

/// Every line of the code in lower case, with its file.
fn lines() -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut lines = Vec::new();
    for file in rust_files(&source) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            lines.push((file.clone(), line.to_lowercase()));
        }
    }
    lines
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                rust_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

/// How often a phrase occurs as words of its own.
fn count(comment: &str, phrase: &str) -> usize {
    let is_boundary = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    comment
        .match_indices(phrase)
        .filter(|(at, _)| {
            is_boundary(comment[..*at].chars().next_back())
                && is_boundary(comment[at + phrase.len()..].chars().next())
        })
        .count()
}

#[test]
fn hard_phrases_in_comments_do_not_rise() {
    let comments = comments();
    for (phrase, limit) in PHRASES {
        let places: Vec<String> = comments
            .iter()
            .filter(|(_, _, comment)| count(comment, phrase) > 0)
            .map(|(file, _, comment)| format!("{}: {comment}", file.display()))
            .collect();
        let found: usize = comments
            .iter()
            .map(|(_, _, comment)| count(comment, phrase))
            .sum();
        assert_eq!(
            found,
            limit,
            "comments say {phrase:?} {found} times, the limit is {limit}; lower it where it can be:\n{}",
            places.join("\n")
        );
    }
}

#[test]
fn banned_phrases_do_not_return() {
    let mut found = Vec::new();
    for (file, line) in lines() {
        for phrase in BANNED.iter().filter(|phrase| count(&line, phrase) > 0) {
            found.push(format!("{}: {phrase:?}: {}", file.display(), line.trim()));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn long_comment_lines_do_not_rise() {
    let long = comments()
        .iter()
        .filter(|(_, line, _)| line.trim_start().starts_with("//"))
        .filter(|(_, line, _)| line.chars().count() > 100)
        .count();
    assert!(long <= LONG_LINES, "{long} lines, more than {LONG_LINES}");
}

#[test]
fn phrases_are_counted_as_words() {
    assert_eq!(count("he told them, and he left", "he"), 2);
    assert_eq!(count("the other", "he"), 0);
    assert_eq!(count("it is told", "is told"), 1);
}
