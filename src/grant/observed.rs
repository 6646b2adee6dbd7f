//! Observed state of AWS: plain data, independent of the reader.

use super::diff::Step;
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

impl Role {
    /// Returns the role after a step that was applied. The operator knows the result of its own
    /// write, so it need not read the role again. `made`: the ARN and ID of a role that the step
    /// created.
    pub fn after(before: Option<Self>, step: &Step, made: Option<(&str, &str)>) -> Option<Self> {
        let Some(mut role) = before else {
            let Step::CreateRole {
                name: _,
                path,
                description: _,
                trust,
                max_session_seconds,
                boundary,
                tags,
            } = step
            else {
                return None;
            };
            let (arn, id) = made?;
            return Some(Self {
                arn: arn.to_owned(),
                id: id.to_owned(),
                path: path.clone(),
                trust: Ok(trust.clone()),
                max_session_seconds: max_session_seconds.unwrap_or(3600),
                boundary: boundary.clone(),
                tags: tags.clone(),
                inline: BTreeMap::new(),
                attached: BTreeSet::new(),
            });
        };
        match step {
            Step::UpdateTrust { trust, .. } => role.trust = Ok(trust.clone()),
            Step::UpdateMaxSession { seconds, .. } => role.max_session_seconds = *seconds,
            Step::PutBoundary { boundary, .. } => role.boundary = Some(boundary.clone()),
            Step::TagRole { tags, .. } => role.tags.extend(tags.clone()),
            Step::UntagRole { keys, .. } => role.tags.retain(|key, _| !keys.contains(key)),
            Step::PutInlinePolicy {
                policy, document, ..
            } => {
                role.inline.insert(policy.clone(), Ok(document.clone()));
            }
            Step::DeleteInlinePolicy { policy, .. } => {
                role.inline.remove(policy);
            }
            Step::AttachPolicy { arn, .. } => {
                role.attached.insert(arn.clone());
            }
            Step::DetachPolicy { arn, .. } => {
                role.attached.remove(arn);
            }
            Step::DeleteRole { .. } => return None,
            Step::CreateRole { .. }
            | Step::CreateProfile { .. }
            | Step::TagProfile { .. }
            | Step::UntagProfile { .. }
            | Step::AddRoleToProfile { .. }
            | Step::RemoveRoleFromProfile { .. }
            | Step::DeleteProfile { .. } => {}
        }
        Some(role)
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
