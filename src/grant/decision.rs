//! Decides what should happen to a grant, from its spec, from the record of what was applied, and
//! from the accounts' current rules. No other module decides this, with one exception: grants wait
//! while a second live operator with the same ID is proven (`controller::second_writer`).

use super::Problem;
use super::model::Grant;
use super::names::GrantName;
use super::validate::{AccountLookup, Judged, judge, validate};
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, CrossAccountRegistryGrantSpec as Spec, DeletionPolicy, Mode};
use crate::policy::Installation;

/// What should happen to a grant.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Enforce this grant.
    Enforce {
        /// The grant of the current spec. If that spec is wrong, the grant that was applied before,
        /// provided that the rules still admit it. A typo must not revoke access.
        grant: Box<Grant>,
        /// What is wrong with the spec.
        problems: Vec<Problem>,
    },
    /// Revoke the entire grant. It is being deleted, or no rule admits it; in the second case the
    /// problems say why.
    Revoke(Vec<Problem>),
    /// Retain this grant in AWS, unowned: it is being deleted and asks for that.
    Retain(Box<Grant>),
    /// Only report what enforcing it would change.
    Preview {
        /// What would be enforced, or why nothing would be.
        grant: Result<Box<Grant>, Vec<Problem>>,
        /// The grant that was applied before. It stays as it is.
        last: Option<Box<Grant>>,
    },
    /// Neither read nor write anything for it.
    Suspend {
        /// The grant that was applied before. It stays as it is.
        last: Option<Box<Grant>>,
    },
    /// Leave everything as it is, because no decision is possible.
    Leave(Vec<Problem>),
}

/// Grant to decide on.
#[derive(Clone, Copy)]
pub struct GrantInput<'a> {
    /// Its namespace and name.
    pub name: &'a GrantName,
    /// Its spec as it is now.
    pub spec: &'a Spec,
    /// Whether it has a deletion timestamp.
    pub is_deleting: bool,
    /// Its record.
    pub applied: Option<&'a Applied>,
}

/// Inputs of a decision other than the grant.
#[derive(Clone, Copy)]
pub struct RuleContext<'a> {
    /// Accounts with their rules, and namespaces.
    pub accounts: &'a dyn AccountLookup,
    /// The ID of this operator's installation.
    pub installation: &'a Installation,
}

impl Decision {
    /// Decides on a grant. The last applied spec is checked against the rules like a new one,
    /// because a status proves nothing.
    pub fn of(input: &GrantInput<'_>, rules: &RuleContext<'_>) -> Self {
        if input.is_deleting {
            of_deleted(input, rules)
        } else if is_frozen(input.spec) {
            of_frozen(input, rules)
        } else {
            of_enforced(input, rules)
        }
    }

    /// Returns the grant that is in force until deletion: the enforced one, or the one that was
    /// applied before and stays.
    pub fn grant_in_force(&self) -> Option<&Grant> {
        match self {
            Self::Enforce { grant, .. } => Some(grant),
            Self::Preview { last, .. } | Self::Suspend { last } => last.as_deref(),
            Self::Revoke(_) | Self::Retain(_) | Self::Leave(_) => None,
        }
    }

    /// Returns the grant that AWS is compared with: the enforced one, or the one that would be
    /// enforced. `None`: nothing of the grant should remain ours.
    pub fn target(&self) -> Option<&Grant> {
        match self {
            Self::Enforce { grant, .. } => Some(grant),
            Self::Preview { grant, .. } => grant.as_deref().ok(),
            Self::Revoke(_) | Self::Retain(_) | Self::Suspend { .. } | Self::Leave(_) => None,
        }
    }

    /// Returns the reasons why the current spec is refused.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Enforce { problems, .. } | Self::Revoke(problems) | Self::Leave(problems) => {
                problems
            }
            Self::Preview { grant, .. } => grant.as_ref().err().map_or(&[], Vec::as_slice),
            Self::Retain(_) | Self::Suspend { .. } => &[],
        }
    }
}

fn of_enforced(input: &GrantInput<'_>, rules: &RuleContext<'_>) -> Decision {
    let GrantInput {
        name,
        spec,
        applied,
        ..
    } = *input;
    let RuleContext {
        accounts,
        installation,
    } = *rules;
    let problems = match validate(name, spec, accounts, installation) {
        Ok(grant) => return enforce(grant, Vec::new(), applied),
        Err(problems) => problems,
    };
    // If only a request other than access is refused (`replaceSids`, `deletionPolicy`), that must
    // not revoke access. It grants none either: without a record this does not apply.
    if applied.is_some()
        && let Some(access_only) = access_only(spec)
        && let Ok(grant) = validate(name, &access_only, accounts, installation)
    {
        return enforce(grant, problems, applied);
    }
    if problems
        .iter()
        .all(|problem| problem.reason == Reason::NotAdmitted)
    {
        return Decision::Revoke(problems);
    }
    let last = applied.and_then(Applied::last_spec);
    let Some(last) = last.filter(|last| has_same_parties(last, spec)) else {
        return Decision::Leave(problems);
    };
    match still_admitted(name, &last, rules) {
        Ok(grant) => enforce(grant, problems, applied),
        Err(Refusal::ByRules(refused)) => Decision::Revoke([problems, refused].concat()),
        Err(Refusal::NotUnderstood(_)) => Decision::Leave(problems),
    }
}

fn enforce(grant: Grant, problems: Vec<Problem>, applied: Option<&Applied>) -> Decision {
    Decision::Enforce {
        grant: Box::new(grant.where_its_role_is(applied)),
        problems,
    }
}

fn has_same_parties(last: &Spec, spec: &Spec) -> bool {
    last.registry.account_id == spec.registry.account_id
        && last.consumer.account_id == spec.consumer.account_id
        && organization(last) == organization(spec)
}

fn organization(spec: &Spec) -> Option<&str> {
    let organization = spec.consumer.organization.as_ref()?;
    Some(&organization.id)
}

/// Decides on a deleted grant. It is revoked unless it asks to stay and the rules admit it now.
fn of_deleted(input: &GrantInput<'_>, rules: &RuleContext<'_>) -> Decision {
    let GrantInput { spec, applied, .. } = *input;
    let (DeletionPolicy::Retain, Some(recorded)) = (spec.deletion_policy, applied) else {
        return Decision::Revoke(Vec::new());
    };
    // Spec changes were not applied while the grant was frozen. So the last applied spec is
    // retained.
    let last = if is_frozen(spec) {
        recorded.last_spec()
    } else {
        None
    };
    let spec = Spec {
        suspend: false,
        mode: Mode::Enforce,
        deletion_policy: DeletionPolicy::Retain,
        ..last.unwrap_or_else(|| spec.clone())
    };
    match of_enforced(
        &GrantInput {
            spec: &spec,
            ..*input
        },
        rules,
    ) {
        Decision::Enforce { grant, .. } if grant.spec.deletion_policy == DeletionPolicy::Retain => {
            Decision::Retain(grant)
        }
        Decision::Leave(problems) => Decision::Leave(problems),
        _ => Decision::Revoke(Vec::new()),
    }
}

/// Returns the spec without its requests other than access; `None` if it has none of them.
fn access_only(spec: &Spec) -> Option<Spec> {
    let mut without = spec.clone();
    without.registry.replace_sids.clear();
    without.deletion_policy = DeletionPolicy::Delete;
    (without != *spec).then_some(without)
}

/// Returns the grant that would be enforced if the spec were neither suspended nor in mode
/// `Observe`.
///
/// # Errors
/// The reasons why the grant would be refused.
pub fn grant_if_enforced(
    name: &GrantName,
    spec: &Spec,
    applied: Option<&Applied>,
    rules: &RuleContext<'_>,
) -> Result<Grant, Vec<Problem>> {
    validate(name, spec, rules.accounts, rules.installation)
        .map(|grant| grant.where_its_role_is(applied))
}

/// Returns the grant that a spec describes, whether the rules admit it or not. Callers use it to
/// find what the grant may have in AWS. `None` if the spec is not understood, or if the registry
/// account is not known.
pub fn meant(
    name: &GrantName,
    spec: &Spec,
    accounts: &dyn AccountLookup,
    installation: &Installation,
) -> Option<Grant> {
    judge(name, spec, accounts, installation).ok().map(
        |Judged {
             grant,
             invalid: _,
             refused: _,
         }| grant,
    )
}

/// Returns whether nothing is written to AWS for the grant.
pub fn is_frozen(spec: &Spec) -> bool {
    spec.suspend || spec.mode == Mode::Observe
}

/// Decides on a frozen grant. It replaces no foreign statements, because that would be a write on
/// its behalf.
fn of_frozen(input: &GrantInput<'_>, rules: &RuleContext<'_>) -> Decision {
    let GrantInput {
        name,
        spec,
        applied,
        ..
    } = *input;
    let last = match applied.and_then(Applied::last_spec) {
        // The record may have been lost in a restore of the cluster from a backup. The rules apply
        // all the same.
        None => match still_admitted(name, spec, rules) {
            Err(Refusal::ByRules(refused)) => return Decision::Revoke(refused),
            Ok(_) | Err(Refusal::NotUnderstood(_)) => None,
        },
        Some(last) => match still_admitted(name, &access_only(&last).unwrap_or(last), rules) {
            Err(Refusal::ByRules(refused)) => return Decision::Revoke(refused),
            Err(Refusal::NotUnderstood(problems)) => return Decision::Leave(problems),
            Ok(grant) => Some(Box::new(grant.where_its_role_is(applied))),
        },
    };
    if spec.suspend {
        return Decision::Suspend { last };
    }
    Decision::Preview {
        grant: grant_if_enforced(name, spec, applied, rules).map(Box::new),
        last,
    }
}

/// Reason why the last applied spec cannot simply stay in force.
enum Refusal {
    /// No rule admits it any more.
    ByRules(Vec<Problem>),
    /// It cannot be judged.
    NotUnderstood(Vec<Problem>),
}

/// Returns the last applied grant if the rules still admit it. The spec was right when it was
/// applied. Only the rules can revoke it, not anything else that has become wrong since then.
fn still_admitted(
    name: &GrantName,
    last: &Spec,
    rules: &RuleContext<'_>,
) -> Result<Grant, Refusal> {
    let judged = |spec: &Spec| match judge(name, spec, rules.accounts, rules.installation) {
        Ok(Judged {
            grant,
            invalid: _,
            refused,
        }) if refused.is_empty() => Ok(grant),
        Ok(Judged { refused, .. }) => Err(Refusal::ByRules(refused)),
        Err(problems) => Err(Refusal::NotUnderstood(problems)),
    };
    judged(last)
        .or_else(|refused| access_only(last).map_or(Err(refused), |without| judged(&without)))
}
