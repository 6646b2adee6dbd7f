//! Steps: the calls to IAM that a plan consists of.

use crate::grant::observed::Role;
use crate::policy::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One call to IAM.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "each is the IAM action of its name, with that action's arguments"
)]
pub enum Step {
    CreateRole {
        name: String,
        path: String,
        description: String,
        trust: Document,
        max_session_seconds: Option<i32>,
        boundary: Option<String>,
        tags: BTreeMap<String, String>,
    },
    UpdateTrust {
        role: String,
        trust: Document,
    },
    UpdateMaxSession {
        role: String,
        seconds: i32,
    },
    PutBoundary {
        role: String,
        boundary: String,
    },
    TagRole {
        role: String,
        tags: BTreeMap<String, String>,
    },
    UntagRole {
        role: String,
        keys: BTreeSet<String>,
    },
    PutInlinePolicy {
        role: String,
        policy: String,
        document: Document,
    },
    DeleteInlinePolicy {
        role: String,
        policy: String,
    },
    AttachPolicy {
        role: String,
        arn: String,
    },
    DetachPolicy {
        role: String,
        arn: String,
    },
    DeleteRole {
        role: String,
    },
    CreateProfile {
        name: String,
        path: String,
        tags: BTreeMap<String, String>,
    },
    TagProfile {
        name: String,
        tags: BTreeMap<String, String>,
    },
    UntagProfile {
        name: String,
        keys: BTreeSet<String>,
    },
    AddRoleToProfile {
        profile: String,
        role: String,
    },
    RemoveRoleFromProfile {
        profile: String,
        role: String,
    },
    DeleteProfile {
        name: String,
    },
}

/// Effect of a change on the previous state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeEffect {
    /// Something is created.
    Create,
    /// Something that existed is changed.
    Change,
    /// Something is removed.
    Remove,
}

impl Step {
    /// Returns the effect of the step. `role` is the role before the step, if it existed.
    pub fn effect(&self, role: Option<&Role>) -> ChangeEffect {
        match self {
            Self::PutInlinePolicy { policy, .. }
                if role.is_some_and(|role| role.inline.contains_key(policy)) =>
            {
                ChangeEffect::Change
            }
            Self::CreateRole { .. }
            | Self::PutInlinePolicy { .. }
            | Self::CreateProfile { .. }
            | Self::AddRoleToProfile { .. }
            | Self::AttachPolicy { .. } => ChangeEffect::Create,
            Self::UpdateTrust { .. }
            | Self::UpdateMaxSession { .. }
            | Self::PutBoundary { .. }
            | Self::TagRole { .. }
            | Self::UntagRole { .. }
            | Self::TagProfile { .. }
            | Self::UntagProfile { .. } => ChangeEffect::Change,
            Self::DeleteInlinePolicy { .. }
            | Self::DetachPolicy { .. }
            | Self::DeleteRole { .. }
            | Self::RemoveRoleFromProfile { .. }
            | Self::DeleteProfile { .. } => ChangeEffect::Remove,
        }
    }

    /// Returns whether nothing is left to do for the step once its target is gone.
    pub fn is_done_by_absence(&self) -> bool {
        let untags = matches!(self, Self::UntagRole { .. } | Self::UntagProfile { .. });
        untags || self.effect(None) == ChangeEffect::Remove
    }

    /// Returns the role after the step was applied. The operator knows the result of its own write,
    /// so it need not read the role again. `made`: the ARN and ID of a role that the step created.
    pub fn apply_to(&self, role: Option<Role>, made: Option<(&str, &str)>) -> Option<Role> {
        let Some(mut role) = role else {
            return made.and_then(|(arn, id)| self.created_role(arn, id));
        };
        match self {
            Self::UpdateTrust { trust, .. } => role.trust = Ok(trust.clone()),
            Self::UpdateMaxSession { seconds, .. } => role.max_session_seconds = *seconds,
            Self::PutBoundary { boundary, .. } => role.boundary = Some(boundary.clone()),
            Self::TagRole { tags, .. } => role.tags.extend(tags.clone()),
            Self::UntagRole { keys, .. } => role.tags.retain(|key, _| !keys.contains(key)),
            Self::PutInlinePolicy {
                policy, document, ..
            } => {
                role.inline.insert(policy.clone(), Ok(document.clone()));
            }
            Self::DeleteInlinePolicy { policy, .. } => {
                role.inline.remove(policy);
            }
            Self::AttachPolicy { arn, .. } => {
                role.attached.insert(arn.clone());
            }
            Self::DetachPolicy { arn, .. } => {
                role.attached.remove(arn);
            }
            Self::DeleteRole { .. } => return None,
            Self::CreateRole { .. }
            | Self::CreateProfile { .. }
            | Self::TagProfile { .. }
            | Self::UntagProfile { .. }
            | Self::AddRoleToProfile { .. }
            | Self::RemoveRoleFromProfile { .. }
            | Self::DeleteProfile { .. } => {}
        }
        Some(role)
    }

    fn created_role(&self, arn: &str, id: &str) -> Option<Role> {
        let Self::CreateRole {
            name: _,
            path,
            description: _,
            trust,
            max_session_seconds,
            boundary,
            tags,
        } = self
        else {
            return None;
        };
        Some(Role {
            arn: arn.to_owned(),
            id: id.to_owned(),
            path: path.clone(),
            trust: Ok(trust.clone()),
            max_session_seconds: max_session_seconds.unwrap_or(3600),
            boundary: boundary.clone(),
            tags: tags.clone(),
            inline: BTreeMap::new(),
            attached: BTreeSet::new(),
        })
    }
}

/// Describes the step for people, in an Event or a plan.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRole { name, .. } => write!(f, "create role {name}"),
            Self::UpdateTrust { role, .. } => write!(f, "set the trust policy of role {role}"),
            Self::UpdateMaxSession { role, seconds } => {
                write!(f, "set the session length of role {role} to {seconds} s")
            }
            Self::PutBoundary { role, .. } => {
                write!(f, "set the permissions boundary of role {role}")
            }
            Self::TagRole { role, .. } => write!(f, "tag role {role}"),
            Self::UntagRole { role, .. } => {
                write!(f, "remove this operator's tags from role {role}")
            }
            Self::PutInlinePolicy { role, policy, .. } => {
                write!(f, "set policy {policy} of role {role}")
            }
            Self::DeleteInlinePolicy { role, policy } => {
                write!(f, "delete policy {policy} of role {role}")
            }
            Self::AttachPolicy { role, arn } => write!(f, "attach {arn} to role {role}"),
            Self::DetachPolicy { role, arn } => write!(f, "detach {arn} from role {role}"),
            Self::DeleteRole { role } => write!(f, "delete role {role}"),
            Self::CreateProfile { name, .. } => write!(f, "create instance profile {name}"),
            Self::TagProfile { name, .. } => write!(f, "tag instance profile {name}"),
            Self::UntagProfile { name, .. } => {
                write!(
                    f,
                    "remove this operator's tags from instance profile {name}"
                )
            }
            Self::AddRoleToProfile { profile, role } => {
                write!(f, "add role {role} to instance profile {profile}")
            }
            Self::RemoveRoleFromProfile { profile, role } => {
                write!(f, "remove role {role} from instance profile {profile}")
            }
            Self::DeleteProfile { name } => write!(f, "delete instance profile {name}"),
        }
    }
}
