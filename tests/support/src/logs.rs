//! Logs of the servers' side: the emulation's log of AWS calls, and the API server's audit log.

use crate::aws::APP_NAME;
use crate::cluster::Cluster;
use crate::installation::{HELM_RELEASE, OPERATOR_NAMESPACE};
use crate::stack::Stack;
use crate::wait::eventually;
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// A position in a log: requests before it are ignored.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// The size of the log at that time, in bytes.
    end: u64,
    time: SystemTime,
}

// ---- AWS calls

/// The log of all calls that reached the emulation.
#[derive(Clone, Debug)]
pub struct CallLog {
    file: PathBuf,
}

/// A call to the emulation. It is in the log before its caller has the answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// The time of the answer.
    #[serde(deserialize_with = "time")]
    pub time: SystemTime,
    /// `iam`, `sts`, `ecr`; `ecr-registry` for the registry itself.
    pub service: String,
    /// For instance `CreateRole`.
    pub action: String,
    /// The ID of the caller's access key.
    pub access_key: String,
    /// The caller's account. (`AssumeRole` is a call of the account that assumes the role: for the
    /// operator, of its own account.)
    pub account: String,
    /// The client's user agent.
    pub user_agent: String,
    /// HTTP status; 499 if the call was held and its client disconnected.
    pub status: u16,
}

impl Call {
    /// Returns whether this crate made the call, and not the tested program.
    pub fn is_ours(&self) -> bool {
        self.user_agent.contains(&format!("app/{APP_NAME}"))
    }

    /// Returns whether the call succeeded and may have changed something in IAM or ECR.
    pub fn is_write(&self) -> bool {
        let reads = [
            "Get",
            "List",
            "Describe",
            "BatchGet",
            "BatchCheck",
            "Assume",
            "Simulate",
        ];
        let reads = reads.iter().any(|read| self.action.starts_with(read));
        (200..300).contains(&self.status) && !reads && self.service != "ecr-registry"
    }
}

/// Counts the calls of each operation (`iam:CreateRole`).
pub fn by_operation<'a>(calls: impl IntoIterator<Item = &'a Call>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts
            .entry(format!("{}:{}", call.service, call.action))
            .or_default() += 1;
    }
    counts
}

impl CallLog {
    /// Returns the log of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self {
            file: stack.info.aws_call_log.clone(),
        }
    }

    /// Returns the log's present end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn mark(&self) -> Result<Mark> {
        mark(&self.file)
    }

    /// Returns all calls since then.
    ///
    /// # Errors
    /// When the file cannot be read, or contains something else.
    pub fn since(&self, mark: Mark) -> Result<Vec<Call>> {
        lines_since(&self.file, mark)?
            .into_iter()
            .map(|line| Ok(serde_json::from_value(line)?))
            .collect()
    }

    /// Returns the operator's calls since then: those that neither this crate nor a registry client
    /// made.
    ///
    /// # Errors
    /// When the file cannot be read, or contains something else.
    pub fn of_operator(&self, mark: Mark) -> Result<Vec<Call>> {
        let mut calls = self.since(mark)?;
        calls.retain(|call| !call.is_ours() && call.service != "ecr-registry");
        Ok(calls)
    }
}

// ---- Writes to the API server

/// The API server's audit log.
#[derive(Clone, Debug)]
pub struct AuditLog {
    file: PathBuf,
    cluster: Cluster,
}

/// A write request to the API server, successful or not.
#[derive(Clone, Debug)]
pub struct Write {
    /// The time at which the API server received it.
    pub time: SystemTime,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// For instance `crossaccountregistrygrants/status`.
    pub resource: String,
    /// `namespace/name`.
    pub object: String,
    /// HTTP status.
    pub status: u64,
}

impl AuditLog {
    /// Returns the log of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self {
            file: stack.info.audit_log.clone(),
            cluster: Cluster::of(stack),
        }
    }

    /// Returns the log's present end.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn mark(&self) -> Result<Mark> {
        mark(&self.file)
    }

    /// Returns the operator's writes since then, without Events and Leases.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn of_operator(&self, mark: Mark) -> Result<Vec<Write>> {
        self.catch_up(mark).await?;
        let user = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{HELM_RELEASE}");
        let lines = lines_since(&self.file, mark)?;
        let mut writes = vec![];
        for line in lines
            .iter()
            .filter(|line| line["user"]["username"] == user.as_str())
        {
            let write = write(line).with_context(|| format!("audit log: {line}"))?;
            // The effect of a request is visible before the request is in the log.
            if write.time < mark.time {
                continue;
            }
            let verbs = ["create", "update", "patch", "delete", "deletecollection"];
            if verbs.contains(&write.verb.as_str())
                && !["events", "leases"].contains(&write.resource.as_str())
            {
                writes.push(write);
            }
        }
        Ok(writes)
    }

    /// Waits until the log is complete up to now. A request is in the log only after its answer was
    /// sent. Once a later request of ours is in the log, all earlier ones are, too.
    async fn catch_up(&self, mark: Mark) -> Result<()> {
        let uri = format!(
            "/api/v1/namespaces/default?mark={:032x}",
            fastrand::u128(..)
        );
        self.cluster.get_path(&uri).await?;
        eventually("the audit log catches up", async || {
            ensure!(
                lines_since(&self.file, mark)?
                    .iter()
                    .any(|line| line["requestURI"] == uri.as_str()),
                "{uri} is not in it"
            );
            Ok(())
        })
        .await
    }
}

fn write(line: &Value) -> Result<Write> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let object = &line["objectRef"];
    let joined = |one: &str, other: &str| {
        [text(&object[one]), text(&object[other])]
            .join("/")
            .trim_matches('/')
            .to_owned()
    };
    Ok(Write {
        time: parse_time(&text(&line["requestReceivedTimestamp"]))?,
        verb: text(&line["verb"]),
        resource: joined("resource", "subresource"),
        object: joined("namespace", "name"),
        status: line["responseStatus"]["code"].as_u64().unwrap_or_default(),
    })
}

// ---- Both

fn mark(file: &Path) -> Result<Mark> {
    let end = std::fs::metadata(file)
        .with_context(|| file.display().to_string())?
        .len();
    Ok(Mark {
        end,
        time: SystemTime::now(),
    })
}

fn lines_since(file: &Path, mark: Mark) -> Result<Vec<Value>> {
    let mut text = String::new();
    let mut log = File::open(file).with_context(|| file.display().to_string())?;
    log.seek(SeekFrom::Start(mark.end))?;
    log.read_to_string(&mut text)?;
    // The last line may be incomplete.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("{}: {line}", file.display()))
        })
        .collect()
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    parse_time(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// Parses RFC 3339, in UTC.
fn parse_time(text: &str) -> Result<SystemTime> {
    let text = text.replace("+00:00", "Z");
    humantime::parse_rfc3339(&text).with_context(|| format!("{text:?} is not a time"))
}
