//! From paths to objects: bytes, documents, and the items of lists, each with its place.

use crate::cli::terminal::plain;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most that is read, from all inputs together, in bytes.
pub const MAX_BYTES: u64 = 64 << 20;

/// A file's bytes, or standard input's.
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

/// Reads what the paths name, in their order; a folder's files by their names.
///
/// # Errors
/// When a file cannot be read, or all of them are too much.
pub fn inputs(paths: &[PathBuf]) -> Result<Vec<Input>, String> {
    if paths.iter().filter(|path| is_stdin(path)).count() > 1 {
        return Err("standard input can be read only once".into());
    }
    let mut left = MAX_BYTES;
    let mut inputs = Vec::new();
    for path in paths {
        let files = match is_stdin(path) || !path.is_dir() {
            true => vec![path.clone()],
            false => manifests_in(path)?,
        };
        for file in files {
            let name = if is_stdin(&file) {
                "standard input".into()
            } else {
                plain(&file.display().to_string())
            };
            let bytes = read(&file, left).map_err(|error| format!("{name}: {error}"))?;
            // One byte more than is left was asked for.
            left = left.checked_sub(bytes.len() as u64).ok_or_else(|| {
                format!(
                    "{name}: more than {} MiB of manifests are not read; give fewer files",
                    MAX_BYTES >> 20
                )
            })?;
            inputs.push(Input { name, bytes });
        }
    }
    Ok(inputs)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

fn read(path: &Path, left: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match is_stdin(path) {
        true => io::stdin().lock().take(left + 1).read_to_end(&mut bytes)?,
        false => File::open(path)?.take(left + 1).read_to_end(&mut bytes)?,
    };
    Ok(bytes)
}

fn manifests_in(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let named = |error: io::Error| format!("{}: {error}", plain(&folder.display().to_string()));
    let entries = fs::read_dir(folder)
        .map_err(named)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(named)?;
    let is_manifest = |path: &PathBuf| {
        let extension = path
            .extension()
            .is_some_and(|e| ["yaml", "yml", "json"].iter().any(|known| e == *known));
        extension && !path.is_dir()
    };
    let mut files: Vec<PathBuf> = entries
        .into_iter()
        .map(|entry| entry.path())
        .filter(is_manifest)
        .collect();
    files.sort();
    match files.is_empty() {
        true => Err(named(io::Error::other(
            "no .yaml, .yml or .json file is in this folder",
        ))),
        false => Ok(files),
    }
}

/// The objects of a text, and what in it is none. JSON is YAML, too.
pub fn objects(name: &str, bytes: &[u8]) -> (Vec<Object>, Vec<String>) {
    let documents = match std::str::from_utf8(bytes)
        .map_err(|error| error.to_string())
        .and_then(parsed)
    {
        Ok(documents) => documents,
        Err(why) => {
            return (
                Vec::new(),
                vec![format!("{name}: not YAML: {}", plain(&why))],
            );
        }
    };
    let (mut objects, mut wrong) = (Vec::new(), Vec::new());
    for (at, document) in documents.into_iter().enumerate() {
        taken_apart(
            document,
            format!("{name}, document {}", at + 1),
            &Inherited::default(),
            &mut objects,
            &mut wrong,
        );
    }
    (objects, wrong)
}

/// Empty documents do not count.
fn parsed(text: &str) -> Result<Vec<Value>, String> {
    // Enough for 64 MiB of grants, and an end to what a few bytes of aliases could grow to.
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

/// What a list says of its items, which need not say it themselves.
#[derive(Default)]
struct Inherited {
    api_version: Option<String>,
    kind: Option<String>,
}

fn taken_apart(
    value: Value,
    place: String,
    inherited: &Inherited,
    objects: &mut Vec<Object>,
    wrong: &mut Vec<String>,
) {
    let Value::Object(mut fields) = value else {
        return wrong.push(format!(
            "{place}: not an object: a manifest begins with apiVersion and kind"
        ));
    };
    let api_version = text(&fields, "apiVersion").or(inherited.api_version.clone());
    let (Some(kind), Some(api_version)) = (
        text(&fields, "kind").or(inherited.kind.clone()),
        api_version,
    ) else {
        return wrong.push(format!(
            "{place}: apiVersion and kind are needed: this is no manifest"
        ));
    };
    // `List` is of items of any kind, `AWSAccountList` of those alone.
    let of_items = kind
        .strip_suffix("List")
        .filter(|_| fields.get("items").is_some_and(Value::is_array));
    if let (Some(of), Some(Value::Array(items))) = (of_items, fields.remove("items")) {
        let inherited = match of {
            "" => Inherited::default(),
            of => Inherited {
                api_version: Some(api_version),
                kind: Some(of.to_owned()),
            },
        };
        for (at, item) in items.into_iter().enumerate() {
            taken_apart(
                item,
                format!("{place}, item {}", at + 1),
                &inherited,
                objects,
                wrong,
            );
        }
        return;
    }
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let own = |key: &str| metadata.and_then(|metadata| text(metadata, key));
    let name = own("name").unwrap_or_default();
    let full_name = own("namespace")
        .map(|namespace| format!("{namespace}/{name}"))
        .unwrap_or_else(|| name.clone());
    let place = format!(
        "{place} ({})",
        plain(format!("{kind} {full_name}").trim_end())
    );
    objects.push(Object {
        api_version,
        kind,
        value: Value::Object(fields),
        place,
    });
}

fn text(fields: &Map<String, Value>, key: &str) -> Option<String> {
    fields.get(key).and_then(Value::as_str).map(String::from)
}
