//! The consumer account's instance role. Nodes depend on it: only what is ours on it is written or removed, and several grants may share it.

use super::{
    Step, bounded, check_ownership, check_size, create_role, delete_inline, foreign, has_tags, our_tags,
    readable_trust, remove_from_profile, settings, still_held, wrong_path,
};
use crate::api::conditions::Reason;
use crate::api::grant::OnDelete;
use crate::grant::Problem;
use crate::grant::desired::{DesiredInstance, DesiredRole, Owner, TAG_ALLOW_EXTEND, TAG_GRANT, TAG_INSTALLATION};
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::policy::{Document, Installation};
use std::collections::{BTreeMap, BTreeSet};

/// The other grants of this installation that have to do with the same role in the same instance profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sharers {
    /// Those that keep them.
    pub keeping: Vec<Owner>,
    /// Those that do not keep the role any more, and may not have taken their policy off it yet.
    pub leaving: Vec<Owner>,
}

/// Makes the instance role hold our trust statement and our inline policy, and the profile hold the role. Whatever else is on the
/// role stays: nodes carry other policies, and removing those is an outage.
///
/// # Errors
/// When a role or profile of that name is not ours to keep, or a document is unreadable or would be too long.
pub fn instance(
    desired: &DesiredInstance,
    observed: &Instance,
    owner: &Owner,
    sharers: &Sharers,
) -> Result<Vec<Step>, Problem> {
    let DesiredInstance { role: desired, profile, extends } = desired;
    let Instance { role: observed_role, profile: observed_profile, .. } = observed;
    let keepers = keepers(owner, &sharers.keeping);
    let mut steps = match (observed_role, extends) {
        (None, true) => return Err(nothing_to_extend(desired)),
        (None, false) => {
            let trust = Document::of([desired.trust.clone()]);
            check_size(desired, &trust)?;
            create_role(desired, trust)
        }
        (Some(role), true) => {
            check_consent(desired, role, owner)?;
            on_present_role(desired, role, owner, lets_ec2_in(role, &owner.installation, desired))?
        }
        (Some(role), false) => {
            let keeper = keepers.iter().find(|keeper| keeper.owns(&role.tags));
            check_ownership(desired, role, keeper.unwrap_or(&owner))?;
            on_present_role(&told_of(desired, keeper), role, owner, false)?
        }
    };
    if let Some(profile) = profile {
        let keeper = observed_profile.as_ref().and_then(|found| keepers.iter().find(|k| k.owns(&found.tags)));
        let desired = told_of(desired, keeper);
        steps.extend(instance_profile(&desired, profile, observed_profile.as_ref(), keeper.unwrap_or(&owner))?);
    }
    Ok(steps)
}

/// What of this grant is on the instance role goes; with the last grant that keeps them, what was made goes, too. On a role that others made, or
/// that others' policies are on, all else stays.
///
/// # Errors
/// When the trust policy is unreadable.
pub fn without_instance(
    name: &str,
    profile: Option<&str>,
    observed: &Instance,
    owner: &Owner,
    sharers: &Sharers,
    on_delete: OnDelete,
) -> Result<(Vec<Step>, Option<Problem>), Problem> {
    let Instance { role, profile: observed_profile, held_by } = observed;
    let known: Vec<&Owner> = keepers(owner, &sharers.keeping).into_iter().chain(&sharers.leaving).collect();
    let is_ours = |tags: &BTreeMap<String, String>| known.iter().any(|known| known.owns(tags));
    let profile = profile.and_then(|name| Some((name, observed_profile.as_ref()?)));
    let profile = profile.filter(|(_, found)| is_ours(&found.tags));
    let policy = owner.policy_name();
    let mut steps = Vec::new();
    let (mut held, mut next) = (None, sharers.keeping.first());
    let mut role_stays = !sharers.keeping.is_empty();
    let hands_over = on_delete == OnDelete::RemoveAccess;
    if let Some(role) = role {
        let present = readable_trust(role)?;
        let made_here = is_ours(&role.tags);
        let take_off = role.inline.contains_key(&policy).then(|| delete_inline(name, &policy));
        let others_keep_it = !sharers.keeping.is_empty();
        let leaving: BTreeSet<String> = sharers.leaving.iter().map(Owner::policy_name).collect();
        let foreign_policies = !role.attached.is_empty()
            || role.inline.keys().any(|inline| *inline != policy && !leaving.contains(inline));
        let others_leave = role.inline.keys().any(|inline| leaving.contains(inline));
        let foreign_trust = present.clone().without_ours(&owner.installation);
        let others_use_it = foreign_policies || !foreign_trust.statements.is_empty();
        role_stays = others_keep_it || !made_here || others_leave || others_use_it || hands_over;
        // The next one has to find it as his before this one lets go of it.
        let next_to_leave = sharers.leaving.iter().find(|other| role.inline.contains_key(&other.policy_name()));
        next = next.or(next_to_leave);
        steps.extend(next.filter(|_| owner.owns(&role.tags)).map(|next| hand_to(name, next)));
        steps.extend(take_off);
        // The trust statement is the installation's: on a role of another grant it is not this one's to take.
        let another_grants =
            !made_here && role.tags.get(TAG_INSTALLATION).is_some_and(|id| id == owner.installation.as_str());
        if !others_keep_it && !others_leave && !another_grants {
            if hands_over && made_here {
                steps.extend(disowned_trust(name, present, owner));
                steps.push(Step::UntagRole { role: name.into(), keys: our_tags(&role.tags) });
            } else if role_stays && foreign_trust != *present && !foreign_trust.statements.is_empty() {
                // A trust policy cannot be empty: where ours is the only statement of a role that others use, it stays.
                steps.push(Step::UpdateTrust { role: name.into(), trust: foreign_trust });
            }
        }
        if !role_stays {
            let of_others = held_by.iter().filter(|other| profile.is_none_or(|(own, _)| own != other.as_str()));
            held = still_held(role, &of_others.cloned().collect());
        }
    }
    match profile {
        Some((name, found)) if role_stays && next.is_some() => {
            let next = next.filter(|_| owner.owns(&found.tags));
            steps.extend(next.map(|next| Step::TagProfile { name: name.into(), tags: next.tags() }));
        }
        Some((name, found)) if role_stays && hands_over => {
            steps.push(Step::UntagProfile { name: name.into(), keys: our_tags(&found.tags) });
        }
        Some((name, found)) if !role_stays => {
            steps.extend(found.roles.iter().map(|role| remove_from_profile(name, role)));
            steps.push(Step::DeleteProfile { name: name.into() });
        }
        Some(_) | None => {}
    }
    if role.is_some() && !role_stays && held.is_none() {
        steps.push(Step::DeleteRole { role: name.into() });
    }
    Ok((steps, held))
}

/// Lets the role and its profile stay as they are, this grant's policy included, and be nobody's once no other grant keeps them.
///
/// # Errors
/// When the trust policy is unreadable.
pub fn instance_handed_over(
    name: &str,
    profile: Option<&str>,
    observed: &Instance,
    owner: &Owner,
    sharers: &Sharers,
) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    if let Some(role) = &observed.role {
        let ours = owner.owns(&role.tags);
        match sharers.keeping.first() {
            Some(next) => steps.extend(ours.then(|| hand_to(name, next))),
            None => {
                steps.extend(disowned_trust(name, readable_trust(role)?, owner));
                steps.extend(ours.then(|| Step::UntagRole { role: name.into(), keys: our_tags(&role.tags) }));
            }
        }
    }
    let found = profile.and_then(|name| Some((name, observed.profile.as_ref()?)));
    if let Some((name, found)) = found.filter(|(_, found)| owner.owns(&found.tags)) {
        steps.push(match sharers.keeping.first() {
            Some(next) => Step::TagProfile { name: name.into(), tags: next.tags() },
            None => Step::UntagProfile { name: name.into(), keys: our_tags(&found.tags) },
        });
    }
    Ok(steps)
}

/// This grant before the others.
fn keepers<'a>(owner: &'a Owner, others: &'a [Owner]) -> Vec<&'a Owner> {
    [owner].into_iter().chain(others).collect()
}

/// The role as it should be where another of its grants is the one that its tags name: that one stays.
fn told_of(desired: &DesiredRole, keeper: Option<&&Owner>) -> DesiredRole {
    let tags = keeper.map_or_else(|| desired.tags.clone(), |keeper| keeper.tags());
    DesiredRole { tags, ..desired.clone() }
}

fn on_present_role(
    desired: &DesiredRole,
    role: &Role,
    owner: &Owner,
    trusted_already: bool,
) -> Result<Vec<Step>, Problem> {
    let present = readable_trust(role)?;
    let foreign = present.clone().without_ours(&owner.installation);
    let trust = foreign.with([desired.trust.clone()]);
    let mut steps: Vec<Step> = bounded(desired, role).into_iter().collect();
    if !trusted_already && !ours_is(present, desired, &owner.installation) {
        check_size(desired, &trust)?;
        steps.push(Step::UpdateTrust { role: desired.name.clone(), trust });
    }
    check_size(desired, &Document::of([]))?;
    steps.extend(settings(desired, role));
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

fn ours_is(trust: &Document, desired: &DesiredRole, installation: &Installation) -> bool {
    let ours: Vec<_> = trust.statements.iter().filter(|statement| installation.owns(statement)).collect();
    matches!(ours.as_slice(), [one] if one.meaning() == desired.trust.meaning())
}

/// Whether a role of others lets EC2 in without our help.
fn lets_ec2_in(role: &Role, installation: &Installation, desired: &DesiredRole) -> bool {
    let Ok(present) = &role.trust else { return false };
    let ours_present = present.statements.iter().any(|statement| installation.owns(statement));
    !ours_present && present.statements.iter().any(|statement| statement.meaning() == desired.trust.meaning())
}

/// Our trust statement under a Sid that is nobody's.
fn disowned_trust(role: &str, present: &Document, owner: &Owner) -> Option<Step> {
    let mut trust = present.clone();
    let mut changed = false;
    for statement in trust.statements.iter_mut().filter(|statement| owner.installation.owns(statement)) {
        *statement = statement.clone().sid(format!("Retained{}", crate::policy::sid::hex(&owner.trust_sid(), 16)));
        changed = true;
    }
    changed.then(|| Step::UpdateTrust { role: role.into(), trust })
}

fn hand_to(role: &str, next: &Owner) -> Step {
    Step::TagRole { role: role.into(), tags: next.tags() }
}

fn nothing_to_extend(desired: &DesiredRole) -> Problem {
    let DesiredRole { name, account, .. } = desired;
    Problem::new(
        Reason::RoleNotFound,
        format!(
            "role {name} does not exist in account {account}, so there is nothing to extend. Create it there, with tag {TAG_ALLOW_EXTEND}=true; it is looked for again"
        ),
    )
}

/// A role that others own is only written to where a tag of theirs allows it.
fn check_consent(desired: &DesiredRole, role: &Role, owner: &Owner) -> Result<(), Problem> {
    if role.tags.contains_key(TAG_INSTALLATION) {
        let whose = role.tags.get(TAG_GRANT).map(String::as_str).unwrap_or_default();
        let own = whose.split_once('/').is_some_and(|(namespace, _)| namespace == owner.grant.namespace);
        let whose = if own { format!("grant {whose}") } else { "another grant".into() };
        return Err(Problem::new(
            Reason::Conflict,
            format!("role {} was made by this operator for {whose}; use management Create to share it", role.arn),
        ));
    }
    if role.path != desired.path {
        return Err(wrong_path(role, desired));
    }
    let consent = role.tags.get(TAG_ALLOW_EXTEND).map(String::as_str);
    if consent == Some("true") || consent == Some(owner.installation.as_str()) {
        return Ok(());
    }
    let policy = owner.policy_name();
    let left = if role.inline.contains_key(&policy) {
        format!(" Until then this grant's policy {policy} on it is neither kept nor removed")
    } else {
        String::new()
    };
    Err(Problem::new(
        Reason::ConsentMissing,
        format!(
            "role {} was not made by this operator and does not carry tag {TAG_ALLOW_EXTEND}, so it is left alone. Its owner can set the tag to true, or to {}, this installation's ID.{left}",
            role.arn, owner.installation
        ),
    ))
}
