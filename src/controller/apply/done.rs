//! Result of an apply.

use crate::api::grant::Applied;
use crate::controller::state::recent::Revoked;
use crate::grant::Problem;
use crate::grant::change::Change;
use crate::grant::claims::Place;
use crate::grant::status::ApplyReport;
use std::collections::BTreeMap;
use std::time::Duration;

/// Result of an apply.
pub struct Done {
    /// The parts of it that the grant's status depends on.
    pub report: ApplyReport,
    pub effects: Effects,
}

/// What an apply did, beyond what the grant's status says.
#[derive(Default)]
pub struct Effects {
    pub log: Log,
    /// Whether the desired state was the same before: then somebody else caused the changes.
    pub as_before: bool,
    /// Places that could not be revoked and are no longer claimed, as the grant's annotation asked.
    pub given_up: BTreeMap<Place, Problem>,
    /// The latest time until the next reconcile, if there is more to do.
    pub again: Option<Duration>,
    /// The repository policies in which access was revoked.
    pub revoked: Vec<Revoked>,
}

impl Done {
    /// Returns the result if nothing was done, with the grant's recorded claims.
    pub fn nothing(claims: Option<Applied>) -> Self {
        Self {
            report: ApplyReport::of_nothing(claims),
            effects: Effects::default(),
        }
    }
}

/// What was done, for people.
#[derive(Default)]
pub struct Log {
    /// Changes in AWS; in a dry run, those that would be made.
    pub changes: Vec<Change>,
    /// Changes that reverted drift, in words.
    pub put_back: Vec<String>,
    /// Further notices, in words.
    pub notices: Vec<String>,
    /// Deleted principals that were removed from foreign statements, in words.
    pub dead_principals: Vec<String>,
}

impl Log {
    /// Adds what was done later.
    pub fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.put_back.extend(later.put_back);
        self.notices.extend(later.notices);
        self.dead_principals.extend(later.dead_principals);
    }
}
