//! What goes wrong with a call. The world asks a hook before a call takes effect and after; it has
//! no randomness of its own.

use super::answer::ApiError;
use super::observe::{Call, Outcome};
use std::fmt;
use std::time::Duration;

/// Decides what goes wrong with each call. A hook may read and change the world: none of its locks
/// is held.
pub trait Faults: Send + Sync {
    /// Returns what happens to a call before it takes effect.
    fn before(&self, call: &Call) -> Before {
        let _ = call;
        Before::default()
    }

    /// Returns what happens to the answer of a call that was carried out or refused.
    fn after(&self, call: &Call, outcome: &Outcome) -> After {
        let _ = (call, outcome);
        After::default()
    }
}

impl fmt::Debug for dyn Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faults")
    }
}

/// What happens to a call before it takes effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// How long the call is on its way.
    pub delay: Duration,
    /// How far in the past the state is that the call sees. A write sees the past only to find what
    /// it names; it changes the present state. AWS documents no bound; the world keeps ten minutes.
    pub lag: Duration,
    /// The reason that the call is not carried out.
    pub instead: Option<Instead>,
}

/// What a caller gets for a call that is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instead {
    /// AWS's own error.
    Error(ApiError),
    /// The connection is reset.
    Reset,
    /// The name of the service's host does not resolve.
    Unresolved,
    /// The connection is open, and no answer ever comes.
    Silence,
    /// An answer with this status and body, for instance of a proxy.
    Answer(u16, String),
}

/// What happens to the answer of a call that was carried out or refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// How long the answer is on its way.
    pub delay: Duration,
    /// What arrives.
    pub delivery: Delivery,
}

/// What arrives of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// All of it.
    #[default]
    Whole,
    /// Nothing: the connection is reset.
    Lost,
    /// Nothing, and the connection stays open.
    Silence,
    /// The beginning of the body, this many bytes, with the headers of the whole answer.
    Truncated(usize),
    /// Another status and body in its place.
    Replaced(u16, String),
}
