//! Finds what makes comments and messages in `src/` hard to read: phrases that say little, and lines
//! that are too long.

use std::fs;
use std::path::{Path, PathBuf};

/// Phrases that comments in `src/` must not contain. The glossary in `docs/architecture.md` has the
/// words to use instead.
const BANNED_IN_COMMENTS: [&str; 13] = [
    "whoever", "whom", "anew", "is told", "are told", "look at", "looks at", "hang on", "hangs on",
    "nobody's", "he", "his", "himself",
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

/// Every line of the code, with its file.
fn lines() -> Vec<(PathBuf, String)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut lines = Vec::new();
    for file in rust_files(&source) {
        for line in fs::read_to_string(&file).unwrap().lines() {
            lines.push((file.clone(), line.to_owned()));
        }
    }
    lines
}

/// Returns every line in whose `part` one of the phrases occurs.
fn lines_with(phrases: &[&str], part: fn(&str) -> &str) -> Vec<String> {
    let mut found = Vec::new();
    for (file, line) in lines() {
        let text = part(&line).to_lowercase();
        for phrase in phrases.iter().filter(|phrase| count(&text, phrase) > 0) {
            found.push(format!("{}: {phrase:?}: {}", file.display(), line.trim()));
        }
    }
    found
}

fn comment(line: &str) -> &str {
    line.split_once("//").map_or("", |(_, comment)| comment)
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
fn banned_phrases_in_comments_do_not_return() {
    let found = lines_with(&BANNED_IN_COMMENTS, comment);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn banned_phrases_do_not_return() {
    let found = lines_with(&BANNED, |line| line);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn long_comment_lines_do_not_rise() {
    let long = lines()
        .iter()
        .filter(|(_, line)| line.trim_start().starts_with("//"))
        .filter(|(_, line)| line.chars().count() > 100)
        .count();
    assert!(long <= LONG_LINES, "{long} lines, more than {LONG_LINES}");
}

#[test]
fn phrases_are_counted_as_words() {
    assert_eq!(count("he told them, and he left", "he"), 2);
    assert_eq!(count("the other", "he"), 0);
    assert_eq!(count("it is told", "is told"), 1);
}
