//! Plans changes to the registry account's role. The role belongs to one grant, so everything else
//! on it is drift.

use super::{
    Step, bounded, check_ownership, check_size, create_role, delete_inline, detach, our_tags,
    put_inline, settings, still_held,
};
use crate::api::grant::ManagedPolicy;
use crate::grant::Problem;
use crate::grant::desired::DesiredRole;
use crate::grant::observed::Role;
use crate::grant::ownership::Owner;
use crate::policy::repository::subsumes::reason_to_keep;
use crate::policy::{Document, Statement};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Inline policy that ends the sessions which a trust policy issued before it was narrowed.
pub const ENDED_SESSIONS: &str = "registry-grants-ended-sessions";
/// Sid of its statement while the trust policy is not narrowed yet.
const ENDING: &str = "Ending";
/// Its Sid while the narrowed trust policy may not have reached all of IAM. Sessions issued in the
/// meantime are ended once more.
const SETTLING: &str = "Settling";
/// Its Sid after that.
const ENDED: &str = "Ended";
/// How long a trust policy that was replaced may still issue sessions. IAM documents no bound, and
/// takes seconds.
const SETTLES: SignedDuration = SignedDuration::from_secs(60);
/// How far in the future a moment in the policy may be. A moment further ahead was written by a
/// wrong clock.
const AHEAD: SignedDuration = SignedDuration::from_secs(60);
/// Maximum duration of any role session.
const LONGEST_SESSION: SignedDuration = SignedDuration::from_hours(12);

/// Returns the steps that make the registry account's role exactly as desired. If [`ends_sessions`]
/// is true for the steps, the caller must compute the steps again after applying them.
///
/// # Errors
/// If a role of that name does not belong to this grant, or if a document would be too long.
pub fn registry_role(
    desired: &DesiredRole,
    observed: Option<&Role>,
    owner: &Owner,
    now: Timestamp,
) -> Result<Vec<Step>, Problem> {
    let trust = Document::of([desired.trust.clone()]);
    check_size(desired, &trust)?;
    let Some(role) = observed else {
        return Ok(create_role(desired, trust));
    };
    check_ownership(desired, role, owner)?;
    let name = &desired.name;
    let ours = owner.policy_name();
    let mut steps = Vec::new();
    // Foreign policies are removed first, because they may be the reason why ours do not fit.
    // Policies of an earlier form of this grant are removed last, so that a change between inline
    // and managed policies never interrupts access.
    let (earlier, foreign): (Vec<_>, Vec<_>) = role
        .attached
        .difference(&desired.attached)
        .partition(|arn| ManagedPolicy::is_one(arn));
    let others = role
        .inline
        .keys()
        .filter(|policy| **policy != ours && *policy != ENDED_SESSIONS);
    steps.extend(others.map(|policy| delete_inline(name, policy)));
    steps.extend(foreign.into_iter().map(|arn| detach(name, arn)));
    steps.extend(bounded(desired, role));
    let right = role
        .trust
        .as_ref()
        .is_ok_and(|present| present.same_meaning(&trust));
    if right {
        if has_ended(role, now) {
            steps.push(delete_inline(name, ENDED_SESSIONS));
        } else if let Some(document) = sessions_to_end(role, now) {
            steps.push(put_inline(name, ENDED_SESSIONS, &document));
        }
    } else {
        if lets_others_in(role, desired) {
            let document = no_older_sessions(ENDING, after_this_second(now));
            steps.push(put_inline(name, ENDED_SESSIONS, &document));
        }
        steps.push(Step::UpdateTrust {
            role: name.clone(),
            trust,
        });
    }
    steps.extend(settings(desired, role));
    if desired.inline.is_none() && role.inline.contains_key(&ours) {
        steps.push(delete_inline(name, &ours));
    }
    steps.extend(earlier.into_iter().map(|arn| detach(name, arn)));
    Ok(steps)
}

/// Returns whether the steps narrow the trust policy. If so, another pass after them must end the
/// sessions that were issued until then.
pub fn ends_sessions(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::PutInlinePolicy {
            policy, document, ..
        } if policy == ENDED_SESSIONS => sid_of(document) == Some(ENDING),
        _ => false,
    })
}

/// Returns the steps that remove the registry account's role, with everything on it. If instance
/// profiles contain the role, the role and the profiles stay, and the problem names the profiles.
pub fn without_registry_role(
    name: &str,
    observed: Option<&Role>,
    held_by: &BTreeSet<String>,
    owner: &Owner,
) -> (Vec<Step>, Option<Problem>) {
    let Some(role) = observed.filter(|role| owner.owns(&role.tags)) else {
        return (Vec::new(), None);
    };
    let mut steps = Vec::new();
    steps.extend(role.attached.iter().map(|arn| detach(name, arn)));
    steps.extend(role.inline.keys().map(|policy| delete_inline(name, policy)));
    let held = still_held(role, held_by);
    if held.is_none() {
        steps.push(Step::DeleteRole { role: name.into() });
    }
    (steps, held)
}

/// Returns the steps that leave the role as it is, unowned.
pub fn retain_registry_role(name: &str, observed: Option<&Role>, owner: &Owner) -> Vec<Step> {
    let Some(role) = observed.filter(|role| owner.owns(&role.tags)) else {
        return Vec::new();
    };
    vec![Step::UntagRole {
        role: name.into(),
        keys: our_tags(&role.tags),
    }]
}

/// Returns whether the present trust policy allows a principal that the desired one does not, as
/// far as that can be determined.
fn lets_others_in(role: &Role, desired: &DesiredRole) -> bool {
    let Ok(present) = &role.trust else {
        return true;
    };
    present
        .statements
        .iter()
        .filter(|statement| !statement.is_deny())
        .any(|statement| !is_covered(statement, desired))
}

/// Returns whether the desired trust policy allows all that a statement of the present one does.
fn is_covered(statement: &Statement, desired: &DesiredRole) -> bool {
    let asked = external_id(&desired.trust);
    (asked.is_none() || external_id(statement) == asked)
        && reason_to_keep(statement, &desired.lets_in).is_none()
}

fn external_id(statement: &Statement) -> Option<&Value> {
    statement.condition("StringEquals", "sts:ExternalId")
}

/// Returns a policy that denies everything to sessions that began before this moment. Source:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html>.
fn no_older_sessions(sid: &str, moment: Timestamp) -> Document {
    // AWS gives a session's beginning in whole seconds.
    let seconds = moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    Document::of([Statement::deny(["*"]).sid(sid).on(["*"]).only_if(
        "DateLessThan",
        "aws:TokenIssueTime",
        [seconds],
    )])
}

/// Returns the policy that ends the sessions which the trust policy issued before it was narrowed:
/// at once, and once more when the narrowed policy has reached all of IAM.
fn sessions_to_end(role: &Role, now: Timestamp) -> Option<Document> {
    let present = role.inline.get(ENDED_SESSIONS)?.as_ref().ok();
    match present.and_then(|document| stamped(document, now)) {
        Some((ENDED, _)) => None,
        Some((_, moment)) if now.duration_since(moment) < SETTLES => None,
        Some(_) => Some(no_older_sessions(ENDED, after_this_second(now))),
        None => Some(no_older_sessions(SETTLING, after_this_second(now))),
    }
}

/// Returns the state of the policy and its moment, if the policy has the form that this operator
/// writes once the trust policy is narrowed.
fn stamped(document: &Document, now: Timestamp) -> Option<(&'static str, Timestamp)> {
    let state = [SETTLING, ENDED]
        .into_iter()
        .find(|state| sid_of(document) == Some(state))?;
    let moment = ended_before(document).filter(|moment| moment.duration_since(now) <= AHEAD)?;
    document
        .same_meaning(&no_older_sessions(state, moment))
        .then_some((state, moment))
}

/// Returns the time until sessions must be ended once more; `None` if that is not necessary.
pub fn ends_sessions_again_in(role: &Role, now: Timestamp) -> Option<Duration> {
    let document = role.inline.get(ENDED_SESSIONS)?.as_ref().ok()?;
    match stamped(document, now)? {
        (SETTLING, moment) => {
            let left = SETTLES
                .checked_sub(now.duration_since(moment))
                .unwrap_or(SETTLES);
            Some(Duration::try_from(left).unwrap_or(Duration::ZERO))
        }
        _ => None,
    }
}

/// Returns the next second: a session that began within the current second counts as earlier.
fn after_this_second(now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_secs(1)).unwrap_or(now)
}

/// Returns whether every session that the policy covers has expired by itself.
fn has_ended(role: &Role, now: Timestamp) -> bool {
    let document = role
        .inline
        .get(ENDED_SESSIONS)
        .and_then(|present| present.as_ref().ok());
    match document.and_then(|document| stamped(document, now)) {
        Some((ENDED, moment)) => now.duration_since(moment) > LONGEST_SESSION,
        Some((_, moment)) => now.duration_since(moment) > LONGEST_SESSION.saturating_add(SETTLES),
        None => false,
    }
}

fn sid_of(document: &Document) -> Option<&str> {
    document.statements.first().and_then(Statement::sid_text)
}

fn ended_before(document: &Document) -> Option<Timestamp> {
    let value = document
        .statements
        .first()?
        .condition("DateLessThan", "aws:TokenIssueTime")?;
    let moment = match value {
        Value::Array(list) => list.first()?,
        one => one,
    };
    moment.as_str()?.parse().ok()
}
