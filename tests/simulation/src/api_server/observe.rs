//! What the simulation sees: faults that it causes, changes that it checks, and the log of
//! requests.

use super::request::Call;
use super::store::{Change, Store};
use k8s_openapi::jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// When a request is about to take effect, or has taken effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The request has arrived.
    Before,
    /// The request has taken effect, and its answer is about to leave.
    After,
}

/// Disturbance of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An answer with this status. After the effect, the client gets it although the request
    /// succeeded.
    Status {
        /// The status code.
        code: u16,
        /// The seconds in `Retry-After`.
        retry_after: Option<u64>,
    },
    /// The connection breaks. After the effect: the answer is lost.
    Disconnect,
    /// There is never an answer.
    Hang,
    /// A list or a watch with `resourceVersion=0` is answered from a cache that is at this
    /// revision. Other requests must not be stale, and ignore the fault.
    Stale(u64),
    /// A watch starts, and never sends anything, not even its end.
    Deaf,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// Passes first, on tokio's time.
    pub delay: Duration,
    /// Comes after the delay.
    pub fault: Option<Fault>,
}

impl From<Fault> for Disturbance {
    fn from(fault: Fault) -> Self {
        Self {
            delay: Duration::ZERO,
            fault: Some(fault),
        }
    }
}

/// Disturbance of a watch, before it sends an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFault {
    /// The connection breaks.
    Disconnect,
    /// The watch ends as if its time were over.
    End,
    /// The watch never sends anything any more.
    Silence,
    /// The event, and those after it, arrive this much later.
    Delay(Duration),
    /// The watch reports that its resource version is too old, and ends.
    Expire,
}

/// Decides about faults. Each method is called with the store locked, so it must not use the
/// server.
pub trait Faults: Send {
    /// Returns what happens to a request in this phase.
    fn on_request(&mut self, call: &Call, phase: Phase) -> Disturbance {
        let (_, _) = (call, phase);
        Disturbance::default()
    }

    /// Returns what happens to a watch that is about to send the event of this change.
    fn on_event(&mut self, watch: &Call, change: &Change) -> Option<WatchFault> {
        let (_, _) = (watch, change);
        None
    }
}

/// No faults.
#[derive(Debug)]
pub struct NoFaults;

impl Faults for NoFaults {}

/// Sees each change of the store. Its methods are called with the store locked, so they must not
/// use the server.
pub trait Observer: Send {
    /// Sees the store before a change. `call` is the request that causes it; `None`: the simulation
    /// itself does.
    fn before(&mut self, call: Option<&Call>, change: &Change, store: &Store) {
        let (_, _, _) = (call, change, store);
    }

    /// Sees the store after a change.
    fn after(&mut self, call: Option<&Call>, change: &Change, store: &Store) {
        let (_, _, _) = (call, change, store);
    }
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a status code, and the reason of a failure.
    Answered(u16, &'static str),
    /// A watch began.
    Watching,
    /// A fault, before the request took effect.
    Refused(Fault),
    /// A fault, after the request took effect with this status code.
    Lost(Fault, u16),
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCall {
    /// The time of day when it ended.
    pub time: Timestamp,
    /// The request.
    pub call: Call,
    /// How it ended.
    pub outcome: Outcome,
    /// The revision of the store afterwards.
    pub revision: u64,
}

impl fmt::Display for LoggedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            time,
            call,
            outcome,
            revision,
        } = self;
        write!(f, "{time} {call} -> ")?;
        match outcome {
            Outcome::Answered(code, "") => write!(f, "{code}")?,
            Outcome::Answered(code, reason) => write!(f, "{code} {reason}")?,
            Outcome::Watching => write!(f, "watching")?,
            Outcome::Refused(fault) => write!(f, "{fault:?}")?,
            Outcome::Lost(fault, code) => write!(f, "{code}, then {fault:?}")?,
        }
        write!(f, " @{revision}")
    }
}
