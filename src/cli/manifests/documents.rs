//! Reads files and splits them into documents and objects, each with its place.

use crate::cli::io::{is_stdin, name as name_of, read};
use crate::cli::terminal::plain;
use serde_json::{Map, Value};
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum size of all inputs together, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// The content of a file or of standard input.
pub struct Input {
    /// For people: without control characters.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// One object of a document.
pub struct Object {
    pub api_version: String,
    pub kind: String,
    pub value: Value,
    /// File, document and name, for people: without control characters.
    pub place: String,
}

/// Reads the files that the paths name, in this order; the files of a folder by their names.
///
/// # Errors
/// When a file cannot be read, or when the files exceed the limit together.
pub fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, String> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err("standard input can be read only once".into());
    }
    let mut left = MAX_BYTES;
    let mut inputs = Vec::new();
    for path in paths {
        let files = if !is_stdin(path) && path.is_dir() {
            manifests_in(path)?
        } else {
            vec![path.clone()]
        };
        for file in files {
            let name = name_of(&file);
            let bytes = read(&file, left).map_err(|error| format!("{name}: {error}"))?;
            // `read` returns one byte more than the rest if the limit is exceeded.
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                format!(
                    "{name}: the manifests exceed {} MiB; give fewer files",
                    MAX_BYTES >> 20
                )
            })?;
            inputs.push(Input { name, bytes });
        }
    }
    Ok(inputs)
}

fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| in_folder(folder, error))?;
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(|path| is_manifest(path))
        .collect();
    if files.is_empty() {
        return Err(in_folder(
            folder,
            "no .yaml, .yml or .json file is in this folder",
        ));
    }
    files.sort();
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    let has_extension = path
        .extension()
        .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
    has_extension && !path.is_dir()
}

fn in_folder(folder: &Path, why: impl Display) -> String {
    format!("{}: {why}", plain(&folder.display().to_string()))
}

/// The objects of an input, and the problems of what is not an object.
#[derive(Default)]
pub struct ParsedInput {
    pub objects: Vec<Object>,
    pub wrong: Vec<String>,
}

impl ParsedInput {
    /// Parses the documents of a text. JSON is YAML, too.
    pub fn of(name: &str, bytes: &[u8]) -> Self {
        let mut parsed = Self::default();
        match std::str::from_utf8(bytes)
            .map_err(|error| error.to_string())
            .and_then(values)
        {
            Ok(documents) => {
                for (at, document) in documents.into_iter().enumerate() {
                    let place = format!("{name}, document {}", at + 1);
                    parsed.add(document, &place, &Inherited::default());
                }
            }
            Err(why) => parsed
                .wrong
                .push(format!("{name}: not YAML: {}", plain(&why))),
        }
        parsed
    }

    /// Adds an object, or the items of a list.
    fn add(&mut self, value: Value, place: &str, inherited: &Inherited) {
        let Value::Object(mut fields) = value else {
            return self.wrong.push(format!(
                "{place}: not an object: a manifest begins with apiVersion and kind"
            ));
        };
        let Some((api_version, kind)) = inherited.or_own(&fields) else {
            return self.wrong.push(format!(
                "{place}: apiVersion and kind are required: this is not a manifest"
            ));
        };
        // A `List` has items of any kind, an `AWSAccountList` only of that kind.
        let of_items = kind
            .strip_suffix("List")
            .filter(|_| fields.get("items").is_some_and(Value::is_array));
        if let Some(of) = of_items
            && let Some(Value::Array(items)) = fields.remove("items")
        {
            let inherited = if of.is_empty() {
                Inherited::default()
            } else {
                Inherited {
                    api_version: Some(api_version),
                    kind: Some(of.to_owned()),
                }
            };
            for (at, item) in items.into_iter().enumerate() {
                self.add(item, &format!("{place}, item {}", at + 1), &inherited);
            }
            return;
        }
        let place = format!(
            "{place} ({})",
            plain(format!("{kind} {}", full_name(&fields)).trim_end())
        );
        self.objects.push(Object {
            api_version,
            kind,
            value: Value::Object(fields),
            place,
        });
    }
}

/// Parses the documents. Empty documents do not count.
fn values(text: &str) -> Result<Vec<Value>, String> {
    // Enough for 64 MiB of grants. The budget limits what a few bytes of aliases can expand to.
    let options = serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_documents: 100_000,
            max_nodes: 4_000_000,
            max_events: 8_000_000,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| error.to_string())
}

/// The version and kind that a list gives to its items, which then need none of their own.
#[derive(Default)]
struct Inherited {
    api_version: Option<String>,
    kind: Option<String>,
}

impl Inherited {
    /// Returns version and kind of an object: its own, or else those inherited.
    fn or_own(&self, fields: &Map<String, Value>) -> Option<(String, String)> {
        let api_version = text(fields, "apiVersion").or_else(|| self.api_version.clone())?;
        let kind = text(fields, "kind").or_else(|| self.kind.clone())?;
        Some((api_version, kind))
    }
}

/// Returns the namespace and name of an object, as far as it has them.
fn full_name(fields: &Map<String, Value>) -> String {
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let name = metadata
        .and_then(|metadata| text(metadata, "name"))
        .unwrap_or_default();
    match metadata.and_then(|metadata| text(metadata, "namespace")) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    }
}

fn text(fields: &Map<String, Value>, key: &str) -> Option<String> {
    fields.get(key).and_then(Value::as_str).map(String::from)
}
