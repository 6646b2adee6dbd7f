//! Observed state of AWS: plain data, independent of the reader.

use crate::policy::{Document, ParseError};
use std::collections::{BTreeMap, BTreeSet};

/// A role as IAM returned it.
#[derive(Clone, Debug, PartialEq)]
pub struct Role {
    /// Its ARN, path included.
    pub arn: String,
    /// Its unique ID (`AROA…`).
    pub id: String,
    /// Its path.
    pub path: String,
    /// Its trust policy.
    pub trust: Result<Document, ParseError>,
    /// Its maximum session duration, in seconds.
    pub max_session_seconds: i32,
    /// The ARN of its permissions boundary.
    pub boundary: Option<String>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its inline policies by name.
    pub inline: BTreeMap<String, Result<Document, ParseError>>,
    /// The ARNs of the managed policies attached to it.
    pub attached: BTreeSet<String>,
}

/// What was read of a role.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum RoleReading {
    /// It was not read.
    #[default]
    NotRead,
    /// It does not exist.
    Absent,
    /// It exists.
    Found(Box<Role>),
}

impl RoleReading {
    /// Creates the reading of a role that was read.
    pub fn of(role: Option<Role>) -> Self {
        role.map_or(Self::Absent, |role| Self::Found(Box::new(role)))
    }
}

/// An instance profile as IAM returned it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProfile {
    /// Its ARN.
    pub arn: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The names of the roles in it: AWS allows one.
    pub roles: BTreeSet<String>,
}

/// Instance role and its profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Instance {
    /// The role, if it exists.
    pub role: Option<Role>,
    /// The profile, if it exists.
    pub profile: Option<InstanceProfile>,
    /// The instance profiles that the role is in; only read if the role may be deleted.
    pub held_by: BTreeSet<String>,
}
