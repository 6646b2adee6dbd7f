//! Plans changes to the consumer account's instance role. Nodes depend on it, so only our parts of
//! it are written or removed, and several grants may share it.

use super::{
    Step, bounded, check_size, create_role, delete_inline, foreign, has_tags, our_tags,
    readable_trust, remove_from_profile, settings, still_held, wrong_path,
};
use crate::api::conditions::Reason;
use crate::api::grant::OnDelete;
use crate::grant::Problem;
use crate::grant::desired::{DesiredInstance, DesiredRole};
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::grant::ownership::{Owner, TAG_ALLOW_EXTEND, TAG_GRANT, TAG_INSTALLATION};
use crate::policy::repository::retain::retained_sids;
use crate::policy::{Document, Installation, Statement};
use std::collections::BTreeMap;

/// Other grants of this installation that use the same role in the same instance profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sharers {
    /// The grants that manage the role and the profile.
    pub keeping: Vec<Owner>,
    /// The grants that no longer manage the role, and whose policy may still be on it.
    pub leaving: Vec<Owner>,
}

/// Returns the steps that give the instance role our trust statement and our inline policy, and
/// that put the role into the profile. Everything else on the role stays: nodes have other
/// policies, and removing those is an outage. A foreign role gets the inline policy alone.
///
/// The trust policy is written last. IAM refuses the entire document if another statement names a
/// deleted principal, and nothing else depends on the trust policy.
///
/// # Errors
/// If a role or profile of that name is not ours to manage, or if a document is unreadable or would
/// be too long.
pub fn instance(
    desired: &DesiredInstance,
    observed: &Instance,
    owner: &Owner,
    sharers: &Sharers,
) -> Result<Vec<Step>, Problem> {
    let DesiredInstance {
        role,
        profile,
        extends,
    } = desired;
    let keepers = keepers(owner, &sharers.keeping);
    let RoleSteps {
        settings: mut steps,
        trust,
    } = if *extends {
        extend_role(role, observed.role.as_ref(), owner)?
    } else {
        manage_role(role, observed.role.as_ref(), owner, &keepers)?
    };
    if let Some(profile) = profile {
        steps.extend(manage_profile(role, profile, observed, owner, &keepers)?);
    }
    steps.extend(trust);
    Ok(steps)
}

/// Steps for an instance role.
struct RoleSteps {
    settings: Vec<Step>,
    /// The step that sets the trust policy, which comes last.
    trust: Option<Step>,
}

/// Plans our policy on a role that others created.
fn extend_role(
    desired: &DesiredRole,
    observed: Option<&Role>,
    owner: &Owner,
) -> Result<RoleSteps, Problem> {
    let Some(role) = observed else {
        return Err(nothing_to_extend(desired));
    };
    check_consent(desired, role, owner)?;
    check_size(desired, &Document::of([]))?;
    Ok(RoleSteps {
        settings: settings(desired, role),
        trust: None,
    })
}

/// Plans a role that the operator creates.
fn manage_role(
    desired: &DesiredRole,
    observed: Option<&Role>,
    owner: &Owner,
    keepers: &[&Owner],
) -> Result<RoleSteps, Problem> {
    let Some(role) = observed else {
        let trust = Document::of([desired.trust.clone()]);
        check_size(desired, &trust)?;
        return Ok(RoleSteps {
            settings: create_role(desired, trust),
            trust: None,
        });
    };
    // The role was shared with a grant that went without handing it over (abandoned, or lost with a
    // cluster). Our policy on the role shows that.
    let was_shared =
        of_installation(&role.tags, owner) && role.inline.contains_key(&owner.policy_name());
    let keeper = keepers.iter().find(|keeper| keeper.owns(&role.tags));
    if keeper.is_none() && !was_shared {
        return Err(foreign("role", &role.arn, &role.tags, owner));
    }
    if role.path != desired.path {
        return Err(wrong_path(role, desired));
    }
    let desired = with_tags_of(desired, keeper);
    let trust = trust_to_set(&desired, role, owner)?;
    let mut steps = Vec::new();
    steps.extend(bounded(&desired, role));
    steps.extend(settings(&desired, role));
    Ok(RoleSteps {
        settings: steps,
        trust,
    })
}

/// Plans the instance profile of a role that the operator creates.
fn manage_profile(
    role: &DesiredRole,
    profile: &str,
    observed: &Instance,
    owner: &Owner,
    keepers: &[&Owner],
) -> Result<Vec<Step>, Problem> {
    let Some(found) = &observed.profile else {
        return Ok(instance_profile(role, profile, None));
    };
    let keeper = keepers.iter().find(|keeper| keeper.owns(&found.tags));
    let was_shared = of_installation(&found.tags, owner)
        && observed.role.is_some()
        && found.roles.contains(&role.name);
    if keeper.is_none() && !was_shared {
        return Err(foreign("instance profile", &found.arn, &found.tags, owner));
    }
    let role = with_tags_of(role, keeper);
    Ok(instance_profile(&role, profile, Some(found)))
}

/// Fate of an instance role and its profile once a grant no longer manages them.
enum Fate<'a> {
    /// It is handed to another grant, which manages it or has yet to remove its policy from it.
    Handed(&'a Owner),
    /// It stays, because others created it or use it.
    Others,
    /// It stays, unowned.
    Disowned,
    /// It is deleted.
    Deleted,
}

/// Returns the steps that remove this grant's parts from the instance role. With the last grant
/// that manages them, the role and the profile that the operator created go, too. On a role that
/// others created, or that has foreign policies, everything else stays. The trust policy is written
/// last, see [`instance`]. Also returns a problem if the steps leave something behind.
pub fn without_instance(
    name: &str,
    profile: Option<&str>,
    observed: &Instance,
    departure: &Departure<'_>,
) -> (Vec<Step>, Option<Problem>) {
    let Instance {
        role,
        profile: observed_profile,
        held_by,
    } = observed;
    let Departure {
        owner,
        sharers,
        on_delete: _,
    } = *departure;
    let profile = profile
        .and_then(|name| Some((name, observed_profile.as_ref()?)))
        .filter(|(_, found)| departure.is_ours(&found.tags));
    let Some(role) = role else {
        let fate = sharers.keeping.first().map_or(Fate::Deleted, Fate::Handed);
        return (off_profile(profile, owner, &fate), None);
    };
    // Removing the policy depends on nothing else.
    let policy = owner.policy_name();
    let take_off = if role.inline.contains_key(&policy) {
        Some(delete_inline(name, &policy))
    } else {
        None
    };
    let trust = match readable_trust(role) {
        Ok(trust) => trust,
        Err(unreadable) => return (take_off.into_iter().collect(), Some(unreadable)),
    };
    let fate = departure.fate(role, trust);
    let mut steps = Vec::new();
    // The next owner must find the role as its own before this grant releases it.
    steps.extend(handed(name, role, owner, &fate));
    steps.extend(take_off);
    steps.extend(off_profile(profile, owner, &fate));
    steps.extend(off_trust(name, role, trust, owner, &fate));
    if !matches!(fate, Fate::Deleted) {
        return (steps, None);
    }
    let of_others = held_by
        .iter()
        .filter(|other| profile.is_none_or(|(own, _)| own != other.as_str()));
    let held = still_held(role, &of_others.cloned().collect());
    if held.is_none() {
        steps.push(Step::DeleteRole { role: name.into() });
    }
    (steps, held)
}

/// Grant that no longer manages an instance role.
pub struct Departure<'a> {
    /// The grant.
    pub owner: &'a Owner,
    /// The other grants that claim the role.
    pub sharers: &'a Sharers,
    /// What the grant asked for.
    pub on_delete: OnDelete,
}

impl<'a> Departure<'a> {
    /// Returns whether a role or profile with these tags belongs to this grant or a sharer.
    fn is_ours(&self, tags: &BTreeMap<String, String>) -> bool {
        let Sharers { keeping, leaving } = self.sharers;
        self.owner.owns(tags) || keeping.iter().chain(leaving).any(|known| known.owns(tags))
    }

    fn fate(&self, role: &Role, trust: &Document) -> Fate<'a> {
        let Sharers { keeping, leaving } = self.sharers;
        let next = keeping.first().or_else(|| {
            leaving
                .iter()
                .find(|other| role.inline.contains_key(&other.policy_name()))
        });
        if let Some(next) = next {
            return Fate::Handed(next);
        }
        if !self.is_ours(&role.tags) {
            return Fate::Others;
        }
        let foreign_trust = trust.clone().without_ours(&self.owner.installation);
        let ours = self.owner.policy_name();
        let has_others = role.inline.keys().any(|policy| *policy != ours)
            || !role.attached.is_empty()
            || !foreign_trust.statements.is_empty();
        match self.on_delete {
            OnDelete::RemoveAccess => Fate::Disowned,
            OnDelete::DeleteRole if has_others => Fate::Others,
            OnDelete::DeleteRole => Fate::Deleted,
        }
    }
}

/// Returns the step that sets the role's tags to the grant that manages it from now on.
fn handed(name: &str, role: &Role, owner: &Owner, fate: &Fate) -> Option<Step> {
    match fate {
        Fate::Handed(next) if owner.owns(&role.tags) => Some(hand_to(name, next)),
        Fate::Handed(_) | Fate::Others | Fate::Disowned | Fate::Deleted => None,
    }
}

/// Returns the steps that release our statement in the trust policy, and the tags that mark it.
fn off_trust(name: &str, role: &Role, present: &Document, owner: &Owner, fate: &Fate) -> Vec<Step> {
    match fate {
        Fate::Others => {
            let trust = present.clone().without_ours(&owner.installation);
            // The trust statement belongs to the installation: on a role of another grant, this
            // grant must not remove it. A trust policy cannot be empty either: if our statement is
            // the only one, it stays.
            let another_grants = of_installation(&role.tags, owner) && !owner.owns(&role.tags);
            if trust == *present || trust.statements.is_empty() || another_grants {
                return Vec::new();
            }
            vec![Step::UpdateTrust {
                role: name.into(),
                trust,
            }]
        }
        Fate::Disowned => {
            let mut steps = Vec::new();
            steps.extend(disowned_trust(name, present, owner));
            steps.push(Step::UntagRole {
                role: name.into(),
                keys: our_tags(&role.tags),
            });
            steps
        }
        Fate::Handed(_) | Fate::Deleted => Vec::new(),
    }
}

fn off_profile(profile: Option<(&str, &InstanceProfile)>, owner: &Owner, fate: &Fate) -> Vec<Step> {
    let Some((name, found)) = profile else {
        return Vec::new();
    };
    match fate {
        Fate::Handed(next) if owner.owns(&found.tags) => {
            vec![Step::TagProfile {
                name: name.into(),
                tags: next.tags(),
            }]
        }
        Fate::Handed(_) | Fate::Others => Vec::new(),
        Fate::Disowned => vec![Step::UntagProfile {
            name: name.into(),
            keys: our_tags(&found.tags),
        }],
        Fate::Deleted => {
            let mut steps = Vec::new();
            steps.extend(
                found
                    .roles
                    .iter()
                    .map(|role| remove_from_profile(name, role)),
            );
            steps.push(Step::DeleteProfile { name: name.into() });
            steps
        }
    }
}

fn of_installation(tags: &BTreeMap<String, String>, owner: &Owner) -> bool {
    tags.get(TAG_INSTALLATION)
        .is_some_and(|id| id == owner.installation.as_str())
}

/// Returns the steps that retain the role and its profile as they are, this grant's policy
/// included. Once no other grant manages them, they are unowned.
///
/// # Errors
/// If the trust policy is unreadable.
pub fn retain_instance_role(
    name: &str,
    profile: Option<&str>,
    observed: &Instance,
    owner: &Owner,
    sharers: &Sharers,
) -> Result<Vec<Step>, Problem> {
    let mut steps = Vec::new();
    let found = profile.and_then(|name| Some((name, observed.profile.as_ref()?)));
    if let Some((name, found)) = found.filter(|(_, found)| owner.owns(&found.tags)) {
        steps.push(match sharers.keeping.first() {
            Some(next) => Step::TagProfile {
                name: name.into(),
                tags: next.tags(),
            },
            None => Step::UntagProfile {
                name: name.into(),
                keys: our_tags(&found.tags),
            },
        });
    }
    if let Some(role) = &observed.role {
        let is_ours = owner.owns(&role.tags);
        match sharers.keeping.first() {
            Some(next) if is_ours => steps.push(hand_to(name, next)),
            Some(_) => {}
            None => {
                steps.extend(disowned_trust(name, readable_trust(role)?, owner));
                if is_ours {
                    steps.push(Step::UntagRole {
                        role: name.into(),
                        keys: our_tags(&role.tags),
                    });
                }
            }
        }
    }
    Ok(steps)
}

/// Returns the managing grants, this grant first.
fn keepers<'a>(owner: &'a Owner, others: &'a [Owner]) -> Vec<&'a Owner> {
    [owner].into_iter().chain(others).collect()
}

/// Returns the desired role with the tags of `keeper`. If the tags of a role name another of its
/// grants, that grant stays its owner.
fn with_tags_of(desired: &DesiredRole, keeper: Option<&&Owner>) -> DesiredRole {
    let tags = keeper.map_or_else(|| desired.tags.clone(), |keeper| keeper.tags());
    DesiredRole {
        tags,
        ..desired.clone()
    }
}

/// Returns the step that adds our statement to the foreign ones in the trust policy, if ours is
/// missing or was changed.
fn trust_to_set(
    desired: &DesiredRole,
    role: &Role,
    owner: &Owner,
) -> Result<Option<Step>, Problem> {
    let present = readable_trust(role)?;
    let trust = present
        .clone()
        .without_ours(&owner.installation)
        .with([desired.trust.clone()]);
    if ours_is(present, desired, &owner.installation) {
        // Foreign statements may have filled the document. That is no reason not to manage the
        // inline policy.
        check_size(desired, &Document::of([]))?;
        return Ok(None);
    }
    check_size(desired, &trust)?;
    Ok(Some(Step::UpdateTrust {
        role: desired.name.clone(),
        trust,
    }))
}

fn instance_profile(
    role: &DesiredRole,
    profile: &str,
    observed: Option<&InstanceProfile>,
) -> Vec<Step> {
    let add = Step::AddRoleToProfile {
        profile: profile.into(),
        role: role.name.clone(),
    };
    let Some(found) = observed else {
        let create = Step::CreateProfile {
            name: profile.into(),
            path: role.path.clone(),
            tags: role.tags.clone(),
        };
        return vec![create, add];
    };
    let mut steps = Vec::new();
    if !has_tags(&found.tags, &role.tags) {
        steps.push(Step::TagProfile {
            name: profile.into(),
            tags: role.tags.clone(),
        });
    }
    let others = found.roles.iter().filter(|other| **other != role.name);
    steps.extend(others.map(|other| remove_from_profile(profile, other)));
    if !found.roles.contains(&role.name) {
        steps.push(add);
    }
    steps
}

fn ours_is(trust: &Document, desired: &DesiredRole, installation: &Installation) -> bool {
    let ours: Vec<_> = trust
        .statements
        .iter()
        .filter(|statement| installation.owns(statement))
        .collect();
    matches!(ours.as_slice(), [one] if one.meaning() == desired.trust.meaning())
}

/// Returns the step that renames our trust statement to a Sid that no installation owns. A foreign
/// statement that already has the Sid stays as it is, because IAM accepts each Sid only once: it
/// takes the place of ours if it means the same, and otherwise ours gets the next Sid.
fn disowned_trust(role: &str, present: &Document, owner: &Owner) -> Option<Step> {
    let mut trust = present.clone().without_ours(&owner.installation);
    for ours in present.ours(&owner.installation) {
        for sid in retained_sids(&owner.trust_sid()) {
            let has_sid = |known: &&Statement| known.sid_text() == Some(sid.as_str());
            match trust.statements.iter().find(has_sid) {
                Some(same) if same.meaning() == ours.meaning() => break,
                Some(_) => {}
                None => {
                    trust.statements.push(ours.clone().sid(sid));
                    break;
                }
            }
        }
    }
    (trust != *present).then(|| Step::UpdateTrust {
        role: role.into(),
        trust,
    })
}

fn hand_to(role: &str, next: &Owner) -> Step {
    Step::TagRole {
        role: role.into(),
        tags: next.tags(),
    }
}

fn nothing_to_extend(desired: &DesiredRole) -> Problem {
    let DesiredRole { name, account, .. } = desired;
    Problem::new(
        Reason::RoleNotFound,
        format!(
            "role {name} does not exist in account {account}, so there is nothing to extend. Create it there, with tag {TAG_ALLOW_EXTEND}=true. The operator will retry"
        ),
    )
}

/// Checks that the tag of a foreign role allows writes to the role.
fn check_consent(desired: &DesiredRole, role: &Role, owner: &Owner) -> Result<(), Problem> {
    if role.tags.contains_key(TAG_INSTALLATION) {
        let grant = role
            .tags
            .get(TAG_GRANT)
            .map(String::as_str)
            .unwrap_or_default();
        let is_of_namespace = grant
            .split_once('/')
            .is_some_and(|(namespace, _)| namespace == owner.grant.namespace);
        let whose = if is_of_namespace {
            format!("grant {grant}")
        } else {
            "another grant".into()
        };
        return Err(Problem::new(
            Reason::Conflict,
            format!(
                "this operator created role {} for {whose}; use management Create to share it",
                role.arn
            ),
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
        format!(
            ". Until then, the operator neither updates nor removes this grant's policy {policy} on it"
        )
    } else {
        String::new()
    };
    Err(Problem::new(
        Reason::ConsentMissing,
        format!(
            "role {} was not created by this operator and does not have tag {TAG_ALLOW_EXTEND}, so the operator does not change it. Its owner can set the tag to true, or to {}, this installation's ID{left}",
            role.arn, owner.installation
        ),
    ))
}
