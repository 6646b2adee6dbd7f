//! Desired against observed: the steps between them, in order, one AWS call each.

use super::Problem;
use super::desired::{DesiredInstance, DesiredRole, MAX_INLINE_CHARACTERS, Owner, TAG_GRANT, TAG_INSTALLATION};
use super::observed::{Instance, InstanceProfile, Role};
use crate::api::conditions::Reason;
use crate::policy::{Document, Installation};
use std::collections::BTreeMap;
use std::fmt;

/// One call to IAM.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is the IAM action of its name, with that action's arguments")]
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

/// For people: what the step does, in an Event or a plan.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateRole { name, .. } => write!(f, "create role {name}"),
            Self::UpdateTrust { role, .. } => write!(f, "set the trust policy of role {role}"),
            Self::UpdateMaxSession { role, seconds } => {
                write!(f, "set the session length of role {role} to {seconds} s")
            }
            Self::PutBoundary { role, .. } => write!(f, "set the permissions boundary of role {role}"),
            Self::TagRole { role, .. } => write!(f, "tag role {role}"),
            Self::PutInlinePolicy { role, policy, .. } => write!(f, "set policy {policy} of role {role}"),
            Self::DeleteInlinePolicy { role, policy } => write!(f, "delete policy {policy} of role {role}"),
            Self::AttachPolicy { role, arn } => write!(f, "attach {arn} to role {role}"),
            Self::DetachPolicy { role, arn } => write!(f, "detach {arn} from role {role}"),
            Self::DeleteRole { role } => write!(f, "delete role {role}"),
            Self::CreateProfile { name, .. } => write!(f, "create instance profile {name}"),
            Self::TagProfile { name, .. } => write!(f, "tag instance profile {name}"),
            Self::AddRoleToProfile { profile, role } => write!(f, "add role {role} to instance profile {profile}"),
            Self::RemoveRoleFromProfile { profile, role } => {
                write!(f, "remove role {role} from instance profile {profile}")
            }
            Self::DeleteProfile { name } => write!(f, "delete instance profile {name}"),
        }
    }
}

/// In the ARNs of the managed policies that a grant may have asked for.
pub(super) const ECR_POLICIES: &str = ":iam::aws:policy/AmazonEC2ContainerRegistry";

/// Makes the registry account's role exactly as desired: whatever else is on it is drift, for it is ours alone.
///
/// # Errors
/// When a role of that name is not this grant's, or a document would be too long.
pub fn registry_role(desired: &DesiredRole, observed: Option<&Role>, owner: &Owner) -> Result<Vec<Step>, Problem> {
    let trust = Document::of([desired.trust.clone()]);
    check_size(desired, &trust)?;
    let Some(role) = observed else { return Ok(create_role(desired, trust)) };
    check_ownership(desired, role, owner)?;
    let mut steps = Vec::new();
    if !role.trust.as_ref().is_ok_and(|present| present.same_meaning(&trust)) {
        steps.push(Step::UpdateTrust { role: desired.name.clone(), trust });
    }
    // What others added goes first, for it may be what leaves no room for ours. What an earlier form of this grant had goes last, so that
    // between inline and managed policies there is no moment without.
    let name = &desired.name;
    let detach = |arn: &String| Step::DetachPolicy { role: name.clone(), arn: arn.clone() };
    let ours = owner.policy_name();
    let (earlier, foreign): (Vec<_>, Vec<_>) =
        role.attached.difference(&desired.attached).partition(|arn| arn.contains(ECR_POLICIES));
    steps.extend(role.inline.keys().filter(|policy| **policy != ours).map(|policy| delete_inline(name, policy)));
    steps.extend(foreign.into_iter().map(detach));
    steps.extend(settings(desired, role));
    if desired.inline.is_none() && role.inline.contains_key(&ours) {
        steps.push(delete_inline(name, &ours));
    }
    steps.extend(earlier.into_iter().map(detach));
    Ok(steps)
}

/// Removes the registry account's role, with everything on it.
pub fn without_registry_role(name: &str, observed: Option<&Role>, owner: &Owner) -> Vec<Step> {
    let Some(role) = observed.filter(|role| owner.owns(&role.tags)) else { return Vec::new() };
    let detach = role.attached.iter().map(|arn| Step::DetachPolicy { role: name.into(), arn: arn.clone() });
    let delete = role.inline.keys().map(|policy| delete_inline(name, policy));
    detach.chain(delete).chain([Step::DeleteRole { role: name.into() }]).collect()
}

/// Makes the instance role hold our trust statement and our inline policy, and the profile hold the role. Whatever else is on the
/// role stays: nodes carry other policies, and removing those is an outage.
///
/// # Errors
/// When a role or profile of that name is not this grant's, or a document is unreadable or would be too long.
pub fn instance(desired: &DesiredInstance, observed: &Instance, owner: &Owner) -> Result<Vec<Step>, Problem> {
    let DesiredInstance { role: desired, profile } = desired;
    let Instance { role: observed_role, profile: observed_profile } = observed;
    let mut steps = match observed_role {
        None => {
            let trust = Document::of([desired.trust.clone()]);
            check_size(desired, &trust)?;
            create_role(desired, trust)
        }
        Some(role) => {
            check_ownership(desired, role, owner)?;
            let present = readable_trust(role)?;
            let foreign = present.clone().without_ours(&owner.installation);
            let trust = foreign.with([desired.trust.clone()]);
            check_size(desired, &trust)?;
            let mut steps = Vec::new();
            if !ours_is(present, desired, &owner.installation) {
                steps.push(Step::UpdateTrust { role: desired.name.clone(), trust });
            }
            steps.extend(settings(desired, role));
            steps
        }
    };
    steps.extend(instance_profile(desired, profile, observed_profile.as_ref(), owner)?);
    Ok(steps)
}

/// Takes our policy and our trust statement off the instance role; removes role and profile where nothing else is on the role.
///
/// # Errors
/// When the trust policy is unreadable.
pub fn without_instance(name: &str, profile: &str, observed: &Instance, owner: &Owner) -> Result<Vec<Step>, Problem> {
    let Instance { role, profile: observed_profile } = observed;
    let role = role.as_ref().filter(|role| owner.owns(&role.tags));
    let mut steps = Vec::new();
    let mut others_use_it = false;
    if let Some(role) = role {
        let ours = owner.policy_name();
        let present = readable_trust(role)?;
        let foreign_trust = present.clone().without_ours(&owner.installation);
        let other_policies = !role.attached.is_empty() || role.inline.keys().any(|policy| *policy != ours);
        others_use_it = other_policies || !foreign_trust.statements.is_empty();
        if role.inline.contains_key(&ours) {
            steps.push(delete_inline(name, &ours));
        }
        // A trust policy cannot be empty: where ours is the only statement of a role that others use, it stays.
        if others_use_it && !foreign_trust.statements.is_empty() && foreign_trust != *present {
            steps.push(Step::UpdateTrust { role: name.into(), trust: foreign_trust });
        }
    }
    if others_use_it {
        return Ok(steps);
    }
    if let Some(found) = observed_profile.as_ref().filter(|found| owner.owns(&found.tags)) {
        steps.extend(found.roles.iter().map(|role| remove_from_profile(profile, role)));
        steps.push(Step::DeleteProfile { name: profile.into() });
    }
    if role.is_some() {
        steps.push(Step::DeleteRole { role: name.into() });
    }
    Ok(steps)
}

fn instance_profile(
    role: &DesiredRole,
    profile: &str,
    observed: Option<&InstanceProfile>,
    owner: &Owner,
) -> Result<Vec<Step>, Problem> {
    let add = Step::AddRoleToProfile { profile: profile.into(), role: role.name.clone() };
    let Some(found) = observed else {
        let create = Step::CreateProfile { name: profile.into(), path: role.path.clone(), tags: role.tags.clone() };
        return Ok(vec![create, add]);
    };
    if !owner.owns(&found.tags) {
        return Err(foreign("instance profile", &found.arn, &found.tags, owner));
    }
    let mut steps = Vec::new();
    if !has_tags(&found.tags, &role.tags) {
        steps.push(Step::TagProfile { name: profile.into(), tags: role.tags.clone() });
    }
    let others = found.roles.iter().filter(|other| **other != role.name);
    steps.extend(others.map(|other| remove_from_profile(profile, other)));
    if !found.roles.contains(&role.name) {
        steps.push(add);
    }
    Ok(steps)
}

fn create_role(desired: &DesiredRole, trust: Document) -> Vec<Step> {
    let DesiredRole {
        account: _,
        name,
        path,
        description,
        trust: _,
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
    let put = inline.iter().map(|(policy, document)| put_inline(name, policy, document));
    let attach = attached.iter().map(|arn| Step::AttachPolicy { role: name.clone(), arn: arn.clone() });
    [create].into_iter().chain(put).chain(attach).collect()
}

/// What is ours on either kind of role, besides the trust policy: none of it touches what others put there.
fn settings(desired: &DesiredRole, role: &Role) -> Vec<Step> {
    let name = &desired.name;
    let mut steps = Vec::new();
    if let Some(seconds) = desired.max_session_seconds.filter(|seconds| *seconds != role.max_session_seconds) {
        steps.push(Step::UpdateMaxSession { role: name.clone(), seconds });
    }
    // A boundary that is not asked for stays: it can only narrow, and somebody set it on purpose.
    if let Some(boundary) = desired.boundary.as_ref().filter(|wanted| role.boundary.as_ref() != Some(wanted)) {
        steps.push(Step::PutBoundary { role: name.clone(), boundary: boundary.clone() });
    }
    if !has_tags(&role.tags, &desired.tags) {
        steps.push(Step::TagRole { role: name.clone(), tags: desired.tags.clone() });
    }
    if let Some((policy, document)) = &desired.inline {
        let right = role.inline.get(policy).and_then(|present| present.as_ref().ok());
        if !right.is_some_and(|present| present.same_meaning(document)) {
            steps.push(put_inline(name, policy, document));
        }
    }
    let missing = desired.attached.difference(&role.attached);
    steps.extend(missing.map(|arn| Step::AttachPolicy { role: name.clone(), arn: arn.clone() }));
    steps
}

fn check_size(desired: &DesiredRole, trust: &Document) -> Result<(), Problem> {
    let too_large = |what: &str, is: usize, limit: usize| {
        let DesiredRole { name, account, .. } = desired;
        Problem::new(
            Reason::PolicyTooLarge,
            format!(
                "the {what} of role {name} in account {account} would have {is} characters; AWS takes {limit}. Name fewer roles, repositories or regions, or use prefixes"
            ),
        )
    };
    if trust.characters() > desired.max_trust_characters {
        return Err(too_large("trust policy", trust.characters(), desired.max_trust_characters));
    }
    match &desired.inline {
        Some((_, document)) if document.characters() > MAX_INLINE_CHARACTERS => {
            Err(too_large("inline policy", document.characters(), MAX_INLINE_CHARACTERS))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_ownership(desired: &DesiredRole, role: &Role, owner: &Owner) -> Result<(), Problem> {
    if !owner.owns(&role.tags) {
        return Err(foreign("role", &role.arn, &role.tags, owner));
    }
    if role.path != desired.path {
        return Err(Problem::new(
            Reason::Conflict,
            format!(
                "role {} was made under path {}, and AWSAccount {} now says {}; IAM cannot move a role. Put spec.roles.path back, or delete the grant and create it anew",
                role.arn, role.path, desired.account, desired.path
            ),
        ));
    }
    Ok(())
}

fn foreign(what: &str, arn: &str, tags: &BTreeMap<String, String>, owner: &Owner) -> Problem {
    let installation = tags.get(TAG_INSTALLATION).map(String::as_str);
    let grant = tags.get(TAG_GRANT).map(String::as_str).unwrap_or_default();
    // Grants of other namespaces are other tenants': their names are none of this one's business.
    let of_this_namespace = grant.split_once('/').is_some_and(|(namespace, _)| namespace == owner.grant.namespace);
    let whose = match installation {
        Some(id) if id == owner.installation.as_str() && of_this_namespace => format!("belongs to grant {grant}"),
        Some(id) if id == owner.installation.as_str() => "belongs to another grant".into(),
        Some(_) => "belongs to another installation of this operator".into(),
        None => "exists and was not made by this operator".into(),
    };
    Problem::new(
        Reason::Conflict,
        format!("{what} {arn} {whose}; it is left alone. Choose another name in the grant, or remove it"),
    )
}

fn readable_trust(role: &Role) -> Result<&Document, Problem> {
    role.trust.as_ref().map_err(|error| {
        Problem::new(
            Reason::UnreadablePolicy,
            format!(
                "the trust policy of role {} cannot be read ({error}); it is left alone. Correct it in IAM",
                role.arn
            ),
        )
    })
}

fn ours_is(trust: &Document, desired: &DesiredRole, installation: &Installation) -> bool {
    let ours: Vec<_> = trust.statements.iter().filter(|statement| installation.owns(statement)).collect();
    matches!(ours.as_slice(), [one] if one.meaning() == desired.trust.meaning())
}

fn has_tags(tags: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| tags.get(key) == Some(value))
}

fn put_inline(role: &str, policy: &str, document: &Document) -> Step {
    Step::PutInlinePolicy { role: role.into(), policy: policy.into(), document: document.clone() }
}

fn delete_inline(role: &str, policy: &str) -> Step {
    Step::DeleteInlinePolicy { role: role.into(), policy: policy.into() }
}

fn remove_from_profile(profile: &str, role: &str) -> Step {
    Step::RemoveRoleFromProfile { profile: profile.into(), role: role.into() }
}
