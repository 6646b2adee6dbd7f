//! Sends a sequence to a server.

use crate::sequences::{Sequence, Step};
use anyhow::{Context, Result};
use futures::{AsyncBufReadExt, StreamExt};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::pin::pin;

/// What a server answered.
#[derive(Debug)]
pub struct Answers {
    /// Status code and body of each step.
    pub steps: Vec<(u16, Value)>,
    /// The events of the watch, from the first list to the last object.
    pub events: Vec<Value>,
}

/// Replaces `$uid:N`, `$version:N` and `$continue:N` by what step N answered.
fn filled_in(text: &str, steps: &[(u16, Value)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        filled.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some((name, tail)) = rest.split_once(':') else {
            break;
        };
        let end = tail
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(tail.len());
        let step = tail[..end]
            .parse::<usize>()
            .ok()
            .and_then(|step| steps.get(step));
        let (field, missing) = match name {
            "uid" => ("uid", "missing"),
            "version" => ("resourceVersion", "1"),
            _ => ("continue", ""),
        };
        let value = step.and_then(|(_, body)| body["metadata"][field].as_str());
        filled.push_str(value.unwrap_or(missing));
        rest = &tail[end..];
    }
    filled.push_str(rest);
    filled
}

fn filled_in_value(value: &Value, steps: &[(u16, Value)]) -> Value {
    match value {
        Value::String(text) => json!(filled_in(text, steps)),
        Value::Array(items) => items
            .iter()
            .map(|item| filled_in_value(item, steps))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| (name.clone(), filled_in_value(value, steps)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        scalar => scalar.clone(),
    }
}

async fn send(client: &Client, step: &Step, steps: &[(u16, Value)]) -> Result<(u16, Value)> {
    let body = match &step.body {
        Some(body) => filled_in_value(body, steps).to_string().into_bytes(),
        None => Vec::new(),
    };
    let mut request = http::Request::builder()
        .method(step.method)
        .uri(filled_in(&step.path, steps))
        .header("User-Agent", "comparison/1.0")
        .header("Content-Type", step.content_type);
    if step.is_metadata_only {
        let list = if step.is_list() { "List" } else { "" };
        let accept = format!("application/json;as=PartialObjectMetadata{list};g=meta.k8s.io;v=v1");
        request = request.header("Accept", accept);
    }
    let response = client.send(request.body(Body::from(body))?).await?;
    let code = response.status().as_u16();
    let text = response.into_body().collect_bytes().await?;
    let body = serde_json::from_slice(&text)
        .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&text)))?;
    Ok((code, body))
}

/// Sends a sequence to a server, and returns what it answered.
pub async fn replay(client: &Client, sequence: &Sequence) -> Result<Answers> {
    let mut steps = Vec::new();
    for step in &sequence.steps {
        let answer = send(client, step, &steps)
            .await
            .with_context(|| format!("{} {}", step.method, step.path))?;
        steps.push(answer);
    }
    let watch = http::Request::get(filled_in(&sequence.watch, &steps)).body(Vec::new())?;
    let mut lines = pin!(client.request_stream(watch).await?.lines());
    let mut events = Vec::new();
    while let Some(line) = lines.next().await {
        let event: Value = serde_json::from_str(&line?)?;
        let is_last = event["object"]["metadata"]["name"] == sequence.last.as_str();
        events.push(event);
        if is_last {
            break;
        }
    }
    Ok(Answers { steps, events })
}
