//! What others see of the world: each call and each change of the state, as they happen.

use super::answer::ApiError;
use super::request::{Parameters, Service};
use super::state::{Change, State};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// Is informed of everything that happens. The state is locked meanwhile: an observer must not call
/// the world.
pub trait Observer: Send + Sync {
    /// Is called before a change takes effect.
    fn before_change(&self, state: &State, changed: &Changed<'_>) {
        let _ = (state, changed);
    }

    /// Is called after a change took effect.
    fn after_change(&self, state: &State, changed: &Changed<'_>) {
        let _ = (state, changed);
    }

    /// Is called once the outcome of a call is decided, whether or not the caller learns of it.
    fn called(&self, state: &State, record: &Record) {
        let _ = (state, record);
    }
}

impl fmt::Debug for dyn Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A change, and who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Changed<'a> {
    /// When it happens.
    pub time: Timestamp,
    /// The call that makes it; `None` if a test makes it directly.
    pub by: Option<&'a Call>,
    /// What changes.
    pub change: &'a Change,
}

/// A call as AWS understands it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The number of the call, in the order of arrival.
    pub number: u64,
    /// When it arrived.
    pub time: Timestamp,
    /// The service.
    pub service: Service,
    /// The region for which the request was signed.
    pub region: String,
    /// The operation, for instance `GetRole`.
    pub operation: String,
    /// The account of the caller; empty if the credentials are unknown.
    pub account: String,
    /// The ARN of the caller; empty if the credentials are unknown.
    pub caller: String,
    /// The ID of the caller's access key.
    pub access_key: String,
    /// The parameters.
    pub parameters: Arc<Parameters>,
}

impl Call {
    /// Returns the action that the call needs, for instance `iam:GetRole`.
    pub fn action(&self) -> String {
        format!("{}:{}", self.service, self.operation)
    }

    /// Returns what the call is about: the repository, role, profile or policy that it names.
    pub fn resource(&self) -> &str {
        let names = [
            "repositoryName",
            "InstanceProfileName",
            "RoleName",
            "RoleArn",
            "PolicyArn",
            "PolicyName",
            "PathPrefix",
        ];
        names
            .into_iter()
            .find_map(|name| self.parameters.text(name))
            .unwrap_or_default()
    }
}

/// The outcome of a call, as AWS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Done,
    /// AWS refused it.
    Refused(ApiError),
    /// It never reached AWS, or something else answered in its place.
    NotReached,
}

/// A call with its outcome.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The call.
    pub call: Call,
    /// When it was decided.
    pub decided: Timestamp,
    /// The outcome.
    pub outcome: Outcome,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            call,
            decided,
            outcome,
        } = self;
        let outcome = match outcome {
            Outcome::Done => "done",
            Outcome::Refused(error) => &error.code,
            Outcome::NotReached => "not reached",
        };
        write!(
            f,
            "{decided} #{} {} {}:{} {} ({}): {outcome}",
            call.number,
            call.account,
            call.service,
            call.operation,
            call.resource(),
            call.region,
        )
    }
}

/// The last calls, oldest first.
#[derive(Clone, Debug)]
pub(super) struct CallLog {
    last: VecDeque<Record>,
    most: usize,
}

impl CallLog {
    pub fn new(most: usize) -> Self {
        Self {
            last: VecDeque::new(),
            most,
        }
    }

    pub fn push(&mut self, record: Record) {
        if self.most == 0 {
            return;
        }
        if self.last.len() == self.most {
            self.last.pop_front();
        }
        self.last.push_back(record);
    }

    pub fn records(&self) -> Vec<Record> {
        self.last.iter().cloned().collect()
    }
}
