//! Reads: single objects, lists and their pages.

use super::core::Core;
use super::kinds::Kind;
use super::request::Parsed;
use super::status::Failure;
use super::store::{Key, Stored};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

const TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Returns the text of an object, or of its metadata.
pub(super) fn text_of(stored: &Stored, is_metadata_only: bool) -> Bytes {
    if is_metadata_only {
        Bytes::from(metadata_only(stored.value()).to_string())
    } else {
        stored.text().clone()
    }
}

fn metadata_only(object: &Value) -> Value {
    json!({
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": object["metadata"],
    })
}

/// Returns an object.
pub(super) fn get(core: &Core, request: &Parsed) -> Result<Arc<Stored>, Failure> {
    let stored = core.store.get(&request.key()).cloned();
    stored.ok_or_else(|| Failure::not_found(request.kind.resource(), &request.name))
}

/// Selection of a list or a watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    namespace: String,
    name: String,
}

impl Selection {
    /// Reads the selection of a request.
    ///
    /// # Errors
    /// When it has a selector that this server does not know.
    pub(super) fn of(request: &Parsed) -> Result<Self, Failure> {
        let labels = request.parameter("labelSelector");
        if !labels.is_empty() {
            let why = format!("this simulation has no label selectors: {labels}");
            return Err(Failure::bad_request(why));
        }
        let mut selection = Self {
            namespace: request.namespace.clone(),
            name: String::new(),
        };
        let selectors = request.parameter("fieldSelector").split(',');
        for selector in selectors.filter(|selector| !selector.is_empty()) {
            match selector.split_once('=') {
                Some(("metadata.name", name)) => name.clone_into(&mut selection.name),
                Some(("metadata.namespace", name)) => name.clone_into(&mut selection.namespace),
                _ => {
                    let why = format!("field label not supported: {selector}");
                    return Err(Failure::bad_request(why));
                }
            }
        }
        Ok(selection)
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        let fits = |wanted: &str, given: &str| wanted.is_empty() || wanted == given;
        fits(&self.namespace, &key.namespace) && fits(&self.name, &key.name)
    }
}

/// Position in a list that is read in pages.
struct Continuation {
    /// The revision of the list. `None`: the present one, since the first one is gone.
    revision: Option<u64>,
    after: (String, String),
}

impl Continuation {
    fn encode(&self) -> String {
        let revision = self.revision.map_or(json!(-1), |revision| json!(revision));
        let start = format!("{}/{}", self.after.0, self.after.1);
        let token = json!({"v": "meta.k8s.io/v1", "rv": revision, "start": start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    fn decode(token: &str) -> Result<Self, Failure> {
        let invalid = || Failure::bad_request("continue key is not valid");
        let decoded = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
        let token: Value = serde_json::from_slice(&decoded).map_err(|_| invalid())?;
        let start = token["start"].as_str().ok_or_else(invalid)?;
        let (namespace, name) = start.split_once('/').ok_or_else(invalid)?;
        Ok(Self {
            revision: token["rv"].as_u64(),
            after: (namespace.to_owned(), name.to_owned()),
        })
    }
}

/// Revision that a list shows, and whether it is read in pages.
struct View {
    revision: u64,
    limit: usize,
    after: Option<(String, String)>,
}

fn number(request: &Parsed, name: &str) -> Result<Option<u64>, Failure> {
    match request.parameter(name) {
        "" => Ok(None),
        text => {
            let why = || Failure::bad_request(format!("invalid {name}: {text:?}"));
            text.parse().map(Some).map_err(|_| why())
        }
    }
}

fn view(core: &Core, request: &Parsed, stale: Option<u64>) -> Result<View, Failure> {
    let current = core.store.revision();
    let limit = number(request, "limit")?.unwrap_or_default();
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let token = request.parameter("continue");
    if !token.is_empty() {
        let continuation = Continuation::decode(token)?;
        let revision = continuation.revision.unwrap_or(current);
        if revision < core.store.compacted() {
            let rest = Continuation {
                revision: None,
                after: continuation.after,
            };
            let mut failure = Failure::expired(TOO_OLD);
            failure.continuation = Some(rest.encode());
            return Err(failure);
        }
        return Ok(View {
            revision,
            limit,
            after: Some(continuation.after),
        });
    }
    let wanted = number(request, "resourceVersion")?;
    let is_exact = match request.parameter("resourceVersionMatch") {
        "Exact" => true,
        "NotOlderThan" => false,
        _ => limit > 0,
    };
    match wanted {
        Some(wanted) if wanted > current => Err(Failure::too_new(
            wanted,
            current,
            request.kind != Kind::Event,
        )),
        Some(wanted) if wanted > 0 && is_exact => {
            if wanted < core.store.compacted() {
                let why = "The resourceVersion for the provided list is too old.".to_owned();
                return Err(Failure::expired(why));
            }
            Ok(View {
                revision: wanted,
                limit,
                after: None,
            })
        }
        // From the watch cache, which may lag behind, and which ignores limits.
        Some(wanted) => Ok(View {
            revision: stale.unwrap_or(current).max(wanted),
            limit: if wanted == 0 { 0 } else { limit },
            after: None,
        }),
        None => Ok(View {
            revision: current,
            limit,
            after: None,
        }),
    }
}

/// Returns the text of a list.
pub(super) fn list(core: &Core, request: &Parsed, stale: Option<u64>) -> Result<Bytes, Failure> {
    let kind = request.kind;
    let selection = Selection::of(request)?;
    let view = view(core, request, stale)?;
    let objects: BTreeMap<Key, Arc<Stored>> = core
        .store
        .objects_at(kind, view.revision)
        .ok_or_else(|| Failure::expired("The resourceVersion for the provided list is too old."))?;
    let selected: Vec<(&Key, &Arc<Stored>)> = objects
        .iter()
        .filter(|(key, _)| selection.has(key))
        .filter(|(key, _)| {
            let place = (&key.namespace, &key.name);
            view.after
                .as_ref()
                .is_none_or(|(namespace, name)| place > (namespace, name))
        })
        .collect();
    let count = match view.limit {
        0 => selected.len(),
        limit => limit.min(selected.len()),
    };
    let (page, rest) = selected.split_at(count);
    let mut metadata = json!({"resourceVersion": view.revision.to_string()});
    if let (Some((last, _)), false) = (page.last(), rest.is_empty()) {
        let continuation = Continuation {
            revision: Some(view.revision),
            after: (last.namespace.clone(), last.name.clone()),
        };
        metadata["continue"] = json!(continuation.encode());
        if selection.name.is_empty() {
            metadata["remainingItemCount"] = json!(rest.len());
        }
    }
    Ok(list_text(kind, request.is_metadata_only, &metadata, page))
}

fn list_text(
    kind: Kind,
    is_metadata_only: bool,
    metadata: &Value,
    page: &[(&Key, &Arc<Stored>)],
) -> Bytes {
    let (list_kind, version) = match is_metadata_only {
        true => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
        false => (format!("{}List", kind.name()), kind.api_version()),
    };
    let mut text = BytesMut::new();
    let head = format!(
        r#"{{"kind":"{list_kind}","apiVersion":"{version}","metadata":{metadata},"items":["#
    );
    text.put_slice(head.as_bytes());
    for (at, (_, stored)) in page.iter().enumerate() {
        if at > 0 {
            text.put_u8(b',');
        }
        if kind.is_custom() || is_metadata_only {
            text.put_slice(&text_of(stored, is_metadata_only));
        } else {
            let mut item = stored.value().clone();
            if let Some(fields) = item.as_object_mut() {
                fields.remove("apiVersion");
                fields.remove("kind");
            }
            text.put_slice(item.to_string().as_bytes());
        }
    }
    text.put_slice(b"]}");
    text.freeze()
}
