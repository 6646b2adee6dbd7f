//! `registry-grants policy`: compares policy documents in files, by their meaning as the operator
//! reads it.

use super::io::{self, is_stdin, name};
use super::policy_diff::{list, parts, titled};
use super::terminal::print;
use crate::policy::Document;
use crate::policy::diff::{Alone, Changed, Difference, Same};
use crate::policy::document::MAX_BYTES;
use serde_json::Value;
use std::error::Error;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show where two policy documents differ in meaning, statement by statement.
    ///
    /// Documents are read as IAM and ECR return them, percent-encoded or not, alone or in the
    /// complete response of the AWS CLI. These are no differences: order, repetition, a string
    /// instead of a list of one, the case of actions and condition keys, numbers and booleans
    /// instead of strings, ArnEquals instead of ArnLike, a bare account number instead of the ARN
    /// of its root, and Sids.
    #[command(after_help = EXAMPLE)]
    Diff(Documents),
}

const EXAMPLE: &str = "\
Exit status: 0 the same meaning, 2 different, 1 a document that cannot be read
(or wrong arguments).

Example, the policy of a repository compared with the desired one:
  aws ecr get-repository-policy --repository-name web |
    registry-grants policy diff - wanted.json";

#[derive(clap::Args)]
pub struct Documents {
    /// A file with a policy document. `-` is standard input.
    left: PathBuf,
    /// The file to compare it with. `-` is standard input.
    right: PathBuf,
}

const DIFFERENT: u8 = 2;

pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    let Command::Diff(Documents { left, right }) = command;
    if is_stdin(left) && is_stdin(right) {
        return Err("only one of the two documents can be standard input".into());
    }
    let difference = Difference::between(&read(left)?, &read(right)?);
    let shown = Shown {
        difference: &difference,
        left: &name(left),
        right: &name(right),
    }
    .to_string();
    // The exit status is the answer even if the reader closed the pipe.
    print(&shown)?;
    Ok(if difference.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

/// Reads a policy document. `-` is standard input.
pub fn read(path: &Path) -> Result<Document, Box<dyn Error>> {
    let place = name(path);
    // The parser reports that the document is too long.
    let bytes = io::read(path, MAX_BYTES as u64).map_err(|error| format!("{place}: {error}"))?;
    let json: Option<Value> = serde_json::from_slice(&bytes).ok();
    let document = match json.as_ref().map_or(FileContent::Document, FileContent::of) {
        FileContent::Document => {
            Document::parse_bytes(&bytes).map_err(|why| format!("{place}: {why}"))
        }
        FileContent::Answer(field, text) => {
            Document::parse(&text).map_err(|why| format!("{place}: in {field}: {why}"))
        }
        FileContent::Other => Err(format!(
            "{place}: there is no Statement, so this is not a policy document. If it is a response of the AWS CLI, extract the document, for \
             instance with --query policyText --output text"
        )),
    };
    Ok(document?)
}

/// The fields of the AWS CLI's answers that have a policy document: `ecr get-repository-policy` and
/// `get-registry-policy`, `iam get-role-policy`, `get-role`, `get-policy-version`.
const ANSWERS: [&str; 4] = [
    "/policyText",
    "/PolicyDocument",
    "/Role/AssumeRolePolicyDocument",
    "/PolicyVersion/Document",
];

/// The content of a file.
enum FileContent {
    /// A policy document, or text that the parser refuses.
    Document,
    /// The document in a complete answer of the AWS CLI, with the field that it is in; or a
    /// document in a JSON string, as `--query` prints it.
    Answer(&'static str, String),
    /// Other JSON.
    Other,
}

impl FileContent {
    fn of(json: &Value) -> Self {
        match json {
            Value::String(document) => Self::Answer("the text", document.clone()),
            Value::Object(fields) if !fields.contains_key("Statement") => {
                let found = ANSWERS
                    .into_iter()
                    .find_map(|field| Some((field, json.pointer(field)?)));
                found.map_or(Self::Other, |(field, value)| {
                    let text = value
                        .as_str()
                        .map_or_else(|| value.to_string(), String::from);
                    Self::Answer(field.trim_start_matches('/'), text)
                })
            }
            _ => Self::Document,
        }
    }
}

/// Prints a difference with the documents' names.
struct Shown<'a> {
    difference: &'a Difference,
    left: &'a str,
    right: &'a str,
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference {
            document,
            changed,
            only_left,
            only_right,
            same,
        } = self.difference;
        if !self.difference.is_empty() {
            writeln!(f, "- {}\n+ {}\n", self.left, self.right)?;
        }
        if !document.is_empty() {
            writeln!(f, "Outside the statements")?;
            parts(f, document)?;
        }
        for Changed {
            left,
            right,
            parts: changed,
        } in changed
        {
            let moved = if left.position == right.position {
                String::new()
            } else {
                format!(", now {}", right.position)
            };
            writeln!(f, "Statement {}{moved}: changed", titled(left))?;
            parts(f, changed)?;
        }
        for (alone, document) in [(only_left, self.left), (only_right, self.right)] {
            for Alone { name, parts: all } in alone {
                writeln!(f, "Statement {}: only in {document}", titled(name))?;
                parts(f, all)?;
            }
        }
        for Same { left, right } in same.iter().filter(|same| same.is_renamed()) {
            writeln!(
                f,
                "The same under another Sid: {} is {} in {}",
                list(left),
                list(right),
                self.right
            )?;
        }
        let verdict = if self.difference.is_empty() {
            "The documents mean the same"
        } else {
            "The documents differ"
        };
        writeln!(f, "{verdict}; statements in both: {}.", same.len())
    }
}
