//! Makes answers of two servers comparable: UIDs and versions become labels in the order of their
//! appearance, and times are left out.

use crate::replay::Answers;
use crate::sequences::Sequence;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Labels of one server's identifiers.
#[derive(Default)]
struct Labels(BTreeMap<String, String>);

impl Labels {
    fn label(&mut self, prefix: &str, text: &str) -> Value {
        let next = format!("{prefix}-{}", self.0.len());
        json!(self.0.entry(text.to_owned()).or_insert(next).clone())
    }

    /// Returns the text with labels in the place of UIDs.
    fn labelled(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (id, label) in &self.0 {
            if id.len() == 36 {
                text = text.replace(id, label);
            }
        }
        text
    }
}

fn object(labels: &mut Labels, object: &Value) -> Value {
    let mut object = object.clone();
    let metadata = &mut object["metadata"];
    for (field, prefix) in [("uid", "uid"), ("resourceVersion", "version")] {
        if let Some(text) = metadata[field].as_str() {
            metadata[field] = labels.label(prefix, text);
        }
    }
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if metadata[field].is_string() {
            metadata[field] = json!("time");
        }
    }
    if let Some(managers) = metadata["managedFields"].as_array_mut() {
        for manager in managers.iter_mut() {
            manager["time"] = json!("time");
        }
        managers.sort_by_key(ToString::to_string);
    }
    without_absent(&mut object);
    object
}

/// Removes the fields that indexing has added.
fn without_absent(object: &mut Value) {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        for field in [
            "uid",
            "resourceVersion",
            "managedFields",
            "deletionTimestamp",
        ] {
            if metadata.get(field).is_some_and(Value::is_null) {
                metadata.remove(field);
            }
        }
    }
}

fn failure(labels: &Labels, status: &Value) -> Value {
    let reason = status["reason"].as_str().unwrap_or_default();
    let causes: BTreeSet<String> = status["details"]["causes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|cause| {
            let text = |key: &str| cause[key].as_str().unwrap_or_default();
            format!("{} {}", text("field"), text("reason"))
        })
        .collect();
    let message = match reason {
        "NotFound" | "AlreadyExists" | "Forbidden" => {
            labels.labelled(&status["message"].to_string())
        }
        // These contain a key in etcd, or versions.
        "Conflict" if !status["message"].to_string().contains("recondition") => {
            labels.labelled(&status["message"].to_string())
        }
        _ => String::new(),
    };
    let mut details = status["details"].clone();
    if let Some(details) = details.as_object_mut() {
        details.remove("causes");
        details.remove("uid");
    }
    json!({"reason": reason, "causes": causes, "message": message, "details": details})
}

fn answer(labels: &mut Labels, (code, body): &(u16, Value)) -> Value {
    let content = match (body["kind"].as_str(), body.get("items")) {
        (Some("Status"), _) if *code >= 300 => failure(labels, body),
        (Some("Status"), _) => {
            let mut status = body.clone();
            if let Some(uid) = body["details"]["uid"].as_str() {
                status["details"]["uid"] = labels.label("uid", uid);
            }
            status
        }
        (_, Some(items)) => {
            let items = items.as_array().into_iter().flatten();
            let items: Vec<Value> = items.map(|item| object(labels, item)).collect();
            let metadata = &body["metadata"];
            json!({
                "kind": body["kind"],
                "apiVersion": body["apiVersion"],
                "items": items,
                "remaining": metadata["remainingItemCount"],
                "continues": metadata["continue"].as_str().is_some_and(|token| !token.is_empty()),
            })
        }
        _ => object(labels, body),
    };
    json!({"code": code, "content": content})
}

/// Returns the place and the values of the first difference between two values.
fn differing(place: &str, real: &Value, simulated: &Value) -> Option<String> {
    if real == simulated {
        return None;
    }
    match (real, simulated) {
        (Value::Object(real), Value::Object(simulated)) => {
            let names: BTreeSet<&String> = real.keys().chain(simulated.keys()).collect();
            let empty = Value::Null;
            names.into_iter().find_map(|name| {
                let get = |fields: &Map<String, Value>| fields.get(name).cloned();
                let (real, simulated) = (get(real), get(simulated));
                let place = format!("{place}/{name}");
                match (&real, &simulated) {
                    (Some(real), Some(simulated)) => differing(&place, real, simulated),
                    _ => {
                        let real = real.as_ref().unwrap_or(&empty);
                        let simulated = simulated.as_ref().unwrap_or(&empty);
                        Some(format!(
                            "{place}\n  real:      {real}\n  simulated: {simulated}"
                        ))
                    }
                }
            })
        }
        (Value::Array(real), Value::Array(simulated)) if real.len() == simulated.len() => real
            .iter()
            .zip(simulated)
            .enumerate()
            .find_map(|(at, (real, simulated))| {
                differing(&format!("{place}/{at}"), real, simulated)
            }),
        _ => Some(format!(
            "{place}\n  real:      {real}\n  simulated: {simulated}"
        )),
    }
}

/// Returns what the real server answered last about the object of a step.
fn earlier(sequence: &Sequence, real: &Answers, number: usize) -> String {
    let object = |step: &crate::sequences::Step| {
        let path = step.path.split('?').next().unwrap_or_default();
        path.trim_end_matches("/status").to_owned()
    };
    let own = object(&sequence.steps[number]);
    let before: Vec<_> = sequence.steps[..number].iter().zip(&real.steps).collect();
    let last = before
        .into_iter()
        .rev()
        .find(|(step, (code, _))| object(step) == own && *code < 300);
    last.map(|(_, (_, body))| body.to_string())
        .unwrap_or_default()
}

/// Returns a description of the first difference between the answers of the servers.
pub fn first_difference(
    sequence: &Sequence,
    real: &Answers,
    simulated: &Answers,
) -> Option<String> {
    let mut labels = (Labels::default(), Labels::default());
    let real_all = real;
    let answers = real.steps.iter().zip(&simulated.steps);
    for (number, (step, answers)) in sequence.steps.iter().zip(answers).enumerate() {
        let (real, simulated) = answers;
        let (real_answer, answer) = (
            answer(&mut labels.0, real),
            answer(&mut labels.1, simulated),
        );
        if let Some(difference) = differing("", &real_answer, &answer) {
            let body = step
                .body
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let message = |body: &Value| match body["kind"].as_str() {
                Some("Status") => body["message"].to_string(),
                _ => String::new(),
            };
            return Some(format!(
                "step {number}: {} {} {} {body}\n{difference}\n  before: {}\n  real message:      {}\n  simulated message: {}",
                step.method,
                step.path,
                step.content_type,
                earlier(sequence, real_all, number),
                message(&real.1),
                message(&simulated.1)
            ));
        }
    }
    let events = |labels: &mut Labels, events: &[Value]| -> Value {
        events
            .iter()
            .map(|event| json!({"type": event["type"], "object": object(labels, &event["object"])}))
            .collect()
    };
    let real = events(&mut labels.0, &real.events);
    let simulated = events(&mut labels.1, &simulated.events);
    let difference = differing("", &real, &simulated)?;
    Some(format!("events of the watch: {difference}"))
}

/// Returns the method and the place of a difference, which are the same for differences of one
/// cause.
pub fn place_of(difference: &str) -> (String, String) {
    let method = difference.split(' ').nth(2).unwrap_or_default();
    let place = difference.lines().nth(1).unwrap_or_default();
    (method.to_owned(), place.to_owned())
}
