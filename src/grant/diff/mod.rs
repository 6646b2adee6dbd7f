//! Compares desired with observed state, and returns the steps between them, in order, one AWS call
//! each.
//!
//! - `step`: one call to IAM, with its effect.
//! - `registry`: the registry account's role, which belongs to one grant.
//! - `instance`: the consumer account's instance role, which grants and others may share.

mod instance;
mod registry;
mod step;

pub use instance::{Departure, Sharers, instance, retain_instance_role, without_instance};
pub use registry::{
    ENDED_SESSIONS, ends_sessions, ends_sessions_again_in, registry_role, retain_registry_role,
    without_registry_role,
};
pub use step::{ChangeEffect, Step};

use super::Problem;
use super::desired::{DesiredRole, MAX_OWN_INLINE_CHARACTERS};
use super::names::AccountId;
use super::observed::Role;
use super::ownership::{OUR_TAGS, Owner, TAG_ALLOW_ADOPT, TAG_GRANT, TAG_INSTALLATION};
use crate::api::conditions::Reason;
use crate::policy::dead_ids::{self, DeadId};
use crate::policy::{Document, Installation};
use std::collections::{BTreeMap, BTreeSet};

fn create_role(desired: &DesiredRole, trust: Document) -> Vec<Step> {
    let DesiredRole {
        account: _,
        name,
        path,
        description,
        trust: _,
        lets_in: _,
        adopts: _,
        max_trust_characters: _,
        max_session_seconds,
        boundary,
        inline,
        attached,
        tags,
    } = desired;
    let create = Step::CreateRole {
        name: name.clone(),
        path: path.clone(),
        description: description.clone(),
        trust,
        max_session_seconds: *max_session_seconds,
        boundary: boundary.clone(),
        tags: tags.clone(),
    };
    let put = inline
        .iter()
        .map(|(policy, document)| put_inline(name, policy, document));
    let attach = attached.iter().map(|arn| Step::AttachPolicy {
        role: name.clone(),
        arn: arn.clone(),
    });
    [create].into_iter().chain(put).chain(attach).collect()
}

/// Returns the step that restores the boundary, without which the operator may not put policies on
/// a role. A boundary that is not desired stays: it can only narrow, and somebody set it on
/// purpose.
fn bounded(desired: &DesiredRole, role: &Role) -> Option<Step> {
    let boundary = desired
        .boundary
        .as_ref()
        .filter(|wanted| role.boundary.as_ref() != Some(wanted))?;
    Some(Step::PutBoundary {
        role: desired.name.clone(),
        boundary: boundary.clone(),
    })
}

/// Returns the steps for our parts of either kind of role, except the trust policy and the
/// boundary. No step touches foreign parts.
fn settings(desired: &DesiredRole, role: &Role) -> Vec<Step> {
    let name = &desired.name;
    let mut steps = Vec::new();
    if let Some(seconds) = desired
        .max_session_seconds
        .filter(|seconds| *seconds != role.max_session_seconds)
    {
        steps.push(Step::UpdateMaxSession {
            role: name.clone(),
            seconds,
        });
    }
    if !has_tags(&role.tags, &desired.tags) {
        steps.push(Step::TagRole {
            role: name.clone(),
            tags: desired.tags.clone(),
        });
    }
    if let Some((policy, document)) = &desired.inline {
        let right = role
            .inline
            .get(policy)
            .and_then(|present| present.as_ref().ok());
        if !right.is_some_and(|present| present.same_meaning(document)) {
            steps.push(put_inline(name, policy, document));
        }
    }
    let missing = desired.attached.difference(&role.attached);
    steps.extend(missing.map(|arn| Step::AttachPolicy {
        role: name.clone(),
        arn: arn.clone(),
    }));
    steps
}

fn check_size(desired: &DesiredRole, trust: &Document) -> Result<(), Problem> {
    check_characters(desired, "trust policy", trust, desired.max_trust_characters)?;
    match &desired.inline {
        Some((_, document)) => check_characters(
            desired,
            "inline policy",
            document,
            MAX_OWN_INLINE_CHARACTERS,
        ),
        None => Ok(()),
    }
}

fn check_characters(
    role: &DesiredRole,
    what: &str,
    document: &Document,
    limit: usize,
) -> Result<(), Problem> {
    let DesiredRole { name, account, .. } = role;
    let characters = document.characters();
    if characters <= limit {
        return Ok(());
    }
    Err(Problem::new(
        Reason::PolicyTooLarge,
        format!(
            "the {what} of role {name} in account {account} would have {characters} characters; the limit is {limit}. Name fewer roles, repositories or regions, or use prefixes"
        ),
    ))
}

fn check_ownership(desired: &DesiredRole, role: &Role, owner: &Owner) -> Result<(), Problem> {
    let may_be_adopted = desired.adopts && consents(role, owner);
    if !owner.owns(&role.tags) && !may_be_adopted {
        let mut problem = foreign("role", &role.arn, &role.tags, owner);
        if desired.adopts {
            let asked = format!(
                "its owner must tag it {TAG_ALLOW_ADOPT}={}",
                consent_to(owner)
            );
            // Earlier versions asked for this value. It does not name the installation, so another
            // cluster's grant of that name could have claimed the role.
            let earlier = role
                .tags
                .get(TAG_ALLOW_ADOPT)
                .is_some_and(|tag| *tag == owner.grant.to_string());
            problem.message.push_str(&if earlier {
                format!(
                    "; its tag {TAG_ALLOW_ADOPT}={} does not name this installation: {asked}",
                    owner.grant
                )
            } else {
                format!("; to let the grant adopt it, {asked}")
            });
        }
        return Err(problem);
    }
    if role.path != desired.path {
        return Err(wrong_path(role, desired));
    }
    Ok(())
}

/// Returns whether the role's owner allows exactly this grant of this installation to adopt it.
fn consents(role: &Role, owner: &Owner) -> bool {
    role.tags
        .get(TAG_ALLOW_ADOPT)
        .is_some_and(|grant| *grant == consent_to(owner))
}

/// Returns the value of the tag by which a role's owner consents: installation, namespace and name.
/// Names that are too long for a tag are shortened, with a hash.
fn consent_to(owner: &Owner) -> String {
    const LONGEST: usize = 256;
    let Owner {
        installation,
        grant,
        uid: _,
    } = owner;
    let whole = format!("{installation}/{grant}");
    if whole.len() <= LONGEST {
        return whole;
    }
    let room = LONGEST - 1 - installation.as_str().len();
    format!("{installation}/{}", grant.in_aws(installation, room))
}

fn wrong_path(role: &Role, desired: &DesiredRole) -> Problem {
    Problem::new(
        Reason::Conflict,
        format!(
            "role {} has path {}, but path {} is requested, and IAM cannot move a role. Correct the path in the grant or in AWSAccount {}, or choose another name",
            role.arn, role.path, desired.path, desired.account
        ),
    )
}

/// Returns those of the tags that are ours.
fn our_tags(tags: &BTreeMap<String, String>) -> BTreeSet<String> {
    OUR_TAGS
        .iter()
        .filter(|tag| tags.contains_key(**tag))
        .map(|tag| (*tag).to_owned())
        .collect()
}

/// Reports that a role cannot be deleted because it is in instance profiles that are not ours.
fn still_held(role: &Role, held_by: &BTreeSet<String>) -> Option<Problem> {
    let named: Vec<&str> = held_by.iter().map(String::as_str).collect();
    (!named.is_empty()).then(|| {
        Problem::new(
            Reason::StillInUse,
            format!(
                "role {} cannot be deleted while it is in instance profile {}, which this operator did not create. The role has no access any more. Remove it from the instance profile",
                role.arn,
                named.join(", ")
            ),
        )
    })
}

fn foreign(what: &str, arn: &str, tags: &BTreeMap<String, String>, owner: &Owner) -> Problem {
    let installation = tags.get(TAG_INSTALLATION).map(String::as_str);
    let grant = tags.get(TAG_GRANT).map(String::as_str).unwrap_or_default();
    // Grants of other namespaces belong to other tenants, and their names are not disclosed.
    let of_this_namespace = grant
        .split_once('/')
        .is_some_and(|(namespace, _)| namespace == owner.grant.namespace);
    let whose = match installation {
        Some(id) if id == owner.installation.as_str() && of_this_namespace => {
            format!("belongs to grant {grant}")
        }
        Some(id) if id == owner.installation.as_str() => "belongs to another grant".into(),
        Some(_) => "belongs to another installation of this operator".into(),
        None => "exists and was not created by this operator".into(),
    };
    Problem::new(
        Reason::Conflict,
        format!(
            "{what} {arn} {whose}, so the operator does not change it. Choose another name in the grant, or remove the {what}"
        ),
    )
}

fn readable_trust(role: &Role) -> Result<&Document, Problem> {
    role.trust.as_ref().map_err(|error| {
        Problem::new(
            Reason::UnreadablePolicy,
            format!(
                "the trust policy of role {} cannot be read ({error}), so the operator does not change it. Correct it in IAM",
                role.arn
            ),
        )
    })
}

/// Reports that IAM refused a trust policy because of a deleted principal in a foreign statement;
/// `None` if the document names none. `answer`: the message of IAM.
pub fn refused_trust(
    account: &AccountId,
    role: &str,
    trust: &Document,
    answer: &str,
    installation: &Installation,
) -> Option<Problem> {
    let found = dead_ids::shown(trust, installation);
    let DeadId { statement, id } = found.first()?;
    Some(Problem::new(
        Reason::BlockedPolicy,
        format!(
            "the trust policy of role {role} in account {account} cannot be written, because {statement}, which is not this operator's, names {id}, the unique ID of a deleted principal: IAM refuses the whole document. Remove that principal or that statement in IAM ({answer})"
        ),
    ))
}

fn has_tags(tags: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted
        .iter()
        .all(|(key, value)| tags.get(key) == Some(value))
}

fn detach(role: &str, arn: &str) -> Step {
    Step::DetachPolicy {
        role: role.into(),
        arn: arn.into(),
    }
}

fn put_inline(role: &str, policy: &str, document: &Document) -> Step {
    Step::PutInlinePolicy {
        role: role.into(),
        policy: policy.into(),
        document: document.clone(),
    }
}

fn delete_inline(role: &str, policy: &str) -> Step {
    Step::DeleteInlinePolicy {
        role: role.into(),
        policy: policy.into(),
    }
}

fn remove_from_profile(profile: &str, role: &str) -> Step {
    Step::RemoveRoleFromProfile {
        profile: profile.into(),
        role: role.into(),
    }
}
