//! `registry-grants policy`: what the operator makes of policy documents, for people with the
//! documents in files.

use super::policy_diff::{list, parts, titled};
use super::terminal::{plain, print};
use crate::policy::Document;
use crate::policy::diff::{Alone, Changed, Difference, Same};
use crate::policy::document::MAX_BYTES;
use serde_json::Value;
use std::error::Error;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Subcommand)]
pub enum Command {
    /// Show where two policy documents differ in meaning, statement by statement.
    ///
    /// Documents are read as IAM and ECR return them, percent-encoded or not, alone or in the whole
    /// answer of the AWS CLI. Order, repetition, a string or a list of one, the case of actions and
    /// condition keys, numbers and truths or their strings, ArnEquals or ArnLike, a bare account
    /// number or its root's ARN, and Sids are no difference.
    #[command(after_help = EXAMPLE)]
    Diff(Documents),
}

const EXAMPLE: &str = "\
Exit status: 0 the same meaning, 2 different, 1 a document that cannot be read
(or wrong arguments).

Example, what is on a repository against what should be:
  aws ecr get-repository-policy --repository-name web |
    registry-grants policy diff - wanted.json";

#[derive(clap::Args)]
pub struct Documents {
    /// A file with a policy document; `-` is standard input.
    left: PathBuf,
    /// The file to compare it with; `-` is standard input.
    right: PathBuf,
}

const DIFFERENT: u8 = 2;

pub fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    let Command::Diff(Documents { left, right }) = command;
    if is_stdin(left) && is_stdin(right) {
        return Err("standard input can be only one of the two documents".into());
    }
    let difference = Difference::between(&read(left)?, &read(right)?);
    let shown = Shown {
        difference: &difference,
        left: &name(left),
        right: &name(right),
    }
    .to_string();
    // Who stopped reading still gets the answer.
    print(&shown)?;
    Ok(if difference.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(DIFFERENT)
    })
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn name(path: &Path) -> String {
    if is_stdin(path) {
        "standard input".into()
    } else {
        plain(&path.display().to_string())
    }
}

/// Reads a policy document; `-` is standard input.
pub fn read(path: &Path) -> Result<Document, Box<dyn Error>> {
    let mut bytes = Vec::new();
    // One more than is allowed, for the parser to say that it is too much, and no more, for it may
    // be endless.
    let limit = MAX_BYTES as u64 + 1;
    let read = match is_stdin(path) {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("{}: {error}", name(path)))?;
    let json: Option<Value> = serde_json::from_slice(&bytes).ok();
    let place = name(path);
    Ok(match json.as_ref().map_or(Whole::Document, Whole::of) {
        Whole::Document => {
            Document::parse_bytes(&bytes).map_err(|why| format!("{place}: {why}"))?
        }
        Whole::Answer(field, text) => {
            Document::parse(&text).map_err(|why| format!("{place}: in {field}: {why}"))?
        }
        Whole::Other => {
            return Err(format!(
                "{place}: there is no Statement, so this is no policy document. Of an answer of the AWS CLI, give the document alone, for \
                 instance by --query policyText --output text"
            )
            .into());
        }
    })
}

/// Where answers of the AWS CLI have a policy document: `ecr get-repository-policy` and
/// `get-registry-policy`, `iam get-role-policy`, `get-role`, `get-policy-version`.
const ANSWERS: [&str; 4] = [
    "/policyText",
    "/PolicyDocument",
    "/Role/AssumeRolePolicyDocument",
    "/PolicyVersion/Document",
];

/// What a file holds.
enum Whole {
    /// A policy document, or what its reader refuses.
    Document,
    /// The document in a complete answer of the AWS CLI, with the field that it is in; or one that
    /// is a JSON string, as `--query` prints it.
    Answer(&'static str, String),
    /// JSON of something else.
    Other,
}

impl Whole {
    fn of(json: &Value) -> Self {
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            object => object.to_string(),
        };
        match json {
            Value::String(document) => Self::Answer("the text", document.clone()),
            Value::Object(fields) if !fields.contains_key("Statement") => {
                let found = ANSWERS
                    .into_iter()
                    .find_map(|field| Some((field, json.pointer(field)?)));
                found.map_or(Self::Other, |(field, value)| {
                    Self::Answer(field.trim_start_matches('/'), text(value))
                })
            }
            _ => Self::Document,
        }
    }
}

/// A difference as text, with the documents' names.
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
            writeln!(f, "Beside the statements")?;
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
