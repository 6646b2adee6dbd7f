//! How a grant stands: what of it is to hold, by its spec, by what was applied before, and by the
//! accounts' rules as they are now.

use super::Problem;
use super::names::GrantName;
use super::validate::{AccountLookup, Grant, Judged, judge, validate};
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, CrossAccountRegistryGrantSpec as Spec, DeletionPolicy, Mode};
use crate::policy::Installation;

/// How a grant stands: what of it is to hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// Its spec is admitted: make it true.
    Admitted(Grant),
    /// Its spec is wrong, and what it had before is admitted still: keep that. A typo must not take
    /// access away.
    Kept(Grant, Vec<Problem>),
    /// It is suspended, or only observed: what was applied, if anything was, stays as it is.
    Frozen(Option<Grant>),
    /// No rule admits it: nothing of it may stay.
    NotAdmitted(Vec<Problem>),
    /// Nothing can be said of it: leave everything as it is.
    Unknown(Vec<Problem>),
}

/// What is known beside the grant itself.
#[derive(Clone, Copy)]
pub struct DecisionInputs<'a> {
    /// Accounts and namespaces.
    pub directory: &'a dyn AccountLookup,
    /// Which operator this is.
    pub installation: &'a Installation,
}

/// How a grant stands. What was applied before is held against the rules like a spec: a status is
/// no authority.
pub fn standing(
    name: &GrantName,
    spec: &Spec,
    applied: Option<&Applied>,
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Standing {
    let known = DecisionInputs {
        directory,
        installation,
    };
    if is_frozen(spec) {
        return frozen(name, spec, applied, known);
    }
    let problems = match validate(name, spec, directory, installation) {
        Ok(grant) => return Standing::Admitted(grant.where_its_role_is(applied)),
        Err(problems) => problems,
    };
    // That something beside access is refused must not take any access away. Nor does it give any.
    if applied.is_some()
        && let Some(access_only) = access_only(spec)
        && let Ok(grant) = validate(name, &access_only, directory, installation)
    {
        return Standing::Kept(grant.where_its_role_is(applied), problems);
    }
    if problems
        .iter()
        .all(|problem| problem.reason == Reason::NotAdmitted)
    {
        return Standing::NotAdmitted(problems);
    }
    let organization = |spec: &Spec| {
        spec.consumer
            .organization
            .as_ref()
            .map(|organization| organization.id.clone())
    };
    let same_parties = |last: &Spec| {
        last.registry.account_id == spec.registry.account_id
            && last.consumer.account_id == spec.consumer.account_id
            && organization(last) == organization(spec)
    };
    let Some(last) = applied.and_then(Applied::last_spec).filter(same_parties) else {
        return Standing::Unknown(problems);
    };
    match still_admitted(name, &last, known) {
        Ok(grant) => Standing::Kept(grant.where_its_role_is(applied), problems),
        Err(Refusal::ByRules(refused)) => Standing::NotAdmitted([problems, refused].concat()),
        Err(Refusal::NotUnderstood(_)) => Standing::Unknown(problems),
    }
}

/// What of a grant that is being deleted is to stay in AWS: nothing, unless it asks for that and
/// the rules admit it now.
///
/// # Errors
/// When that cannot be told.
pub fn to_retain(
    name: &GrantName,
    spec: &Spec,
    applied: Option<&Applied>,
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Option<Grant>, Vec<Problem>> {
    let (DeletionPolicy::Retain, Some(applied)) = (spec.deletion_policy, applied) else {
        return Ok(None);
    };
    // While it was frozen, changes of the spec waited: what stays is what is there.
    let last = if is_frozen(spec) {
        applied.last_spec()
    } else {
        None
    };
    let last = last.unwrap_or_else(|| spec.clone());
    let spec = Spec {
        suspend: false,
        mode: Mode::Enforce,
        deletion_policy: DeletionPolicy::Retain,
        ..last
    };
    match standing(name, &spec, Some(applied), directory, installation) {
        Standing::Admitted(grant) | Standing::Kept(grant, _) | Standing::Frozen(Some(grant)) => {
            Ok(Some(grant).filter(|grant| grant.spec.deletion_policy == DeletionPolicy::Retain))
        }
        Standing::Frozen(None) | Standing::NotAdmitted(_) => Ok(None),
        Standing::Unknown(problems) => Err(problems),
    }
}

/// The spec without what it asks beside access, where it asks for such.
fn access_only(spec: &Spec) -> Option<Spec> {
    let mut without = spec.clone();
    without.registry.replace_sids.clear();
    without.deletion_policy = DeletionPolicy::Delete;
    (without != *spec).then_some(without)
}

/// What a grant whose spec is only observed would be if it were carried out.
///
/// # Errors
/// Why it would be refused.
pub fn observed(
    name: &GrantName,
    spec: &Spec,
    applied: Option<&Applied>,
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Result<Grant, Vec<Problem>> {
    validate(name, spec, directory, installation).map(|grant| grant.where_its_role_is(applied))
}

/// The grant that a spec means, whether the rules admit it or not: to find what it may have in AWS.
/// `None` where the spec is not understood, or the registry's account is not known.
pub fn meant(
    name: &GrantName,
    spec: &Spec,
    directory: &dyn AccountLookup,
    installation: &Installation,
) -> Option<Grant> {
    judge(name, spec, directory, installation).ok().map(
        |Judged {
             grant,
             invalid: _,
             refused: _,
         }| grant,
    )
}

/// Whether nothing is written for the grant.
pub fn is_frozen(spec: &Spec) -> bool {
    spec.suspend || spec.mode == Mode::Observe
}

/// A frozen grant takes no place of other people's statements: that would be a write on its behalf.
fn frozen(
    name: &GrantName,
    spec: &Spec,
    applied: Option<&Applied>,
    known: DecisionInputs,
) -> Standing {
    let Some(last) = applied.and_then(Applied::last_spec) else {
        // It may have lost its record with a cluster's backup. Rules bind it all the same.
        return match still_admitted(name, spec, known) {
            Err(Refusal::ByRules(refused)) => Standing::NotAdmitted(refused),
            Ok(_) | Err(Refusal::NotUnderstood(_)) => Standing::Frozen(None),
        };
    };
    let last = access_only(&last).unwrap_or(last);
    match still_admitted(name, &last, known) {
        Ok(grant) => Standing::Frozen(Some(grant.where_its_role_is(applied))),
        Err(Refusal::ByRules(refused)) => Standing::NotAdmitted(refused),
        Err(Refusal::NotUnderstood(problems)) => Standing::Unknown(problems),
    }
}

/// Why what was applied before does not hold by itself.
enum Refusal {
    /// No rule admits it any more.
    ByRules(Vec<Problem>),
    /// It cannot be judged.
    NotUnderstood(Vec<Problem>),
}

/// What was applied before, if the rules admit it still. It was right when it was applied; what has
/// become wrong around it since then takes nothing away. Rules do.
fn still_admitted(name: &GrantName, last: &Spec, known: DecisionInputs) -> Result<Grant, Refusal> {
    let DecisionInputs {
        directory,
        installation,
    } = known;
    let judged = |spec: &Spec| match judge(name, spec, directory, installation) {
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
