//! Collects the contributions of all grants to one repository policy, from the watch cache.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::{Applied, CrossAccountRegistryGrantSpec};
use crate::controller::context::{Cloud, Cluster};
use crate::controller::patch;
use crate::controller::second_writer;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::validate::no_account;
use crate::grant::{
    AccountLookup, Contributor, Decision, Grant, GrantInput, GrantName, Problem, meant,
};
use crate::policy::Document;
use crate::policy::repository::current::own_contributions;
use crate::policy::repository::{Contribution, GrantContribution};
use kube::{Resource, ResourceExt};
use std::collections::BTreeSet;

/// Assumption that a preview makes about one grant.
#[derive(Clone, Copy)]
pub enum Hypothesis<'a> {
    /// The grant is as it is stored.
    Stored,
    /// The grant is as given, whatever its resource says.
    With(&'a Grant),
    /// The grant contributes nothing.
    Without(&'a GrantName),
}

impl Hypothesis<'_> {
    fn is_about(&self, name: &GrantName) -> bool {
        match self {
            Self::Stored => false,
            Self::With(grant) => grant.name == *name,
            Self::Without(grant) => *grant == name,
        }
    }
}

/// Returns the contributions to a repository policy, the oldest grant first.
///
/// # Errors
/// When the account has no `AWSAccount` (any more): then admission cannot be decided, and nothing
/// may count as revoked.
pub fn of(
    cluster: &Cluster,
    repository: &RepositoryKey,
    hypothesis: Hypothesis<'_>,
) -> Result<Vec<GrantContribution<Contributor>>, Problem> {
    collect(cluster, repository, hypothesis, |_| true)
}

/// Returns the contributions of the grants that have a record, or the finalizer. Only these can
/// keep access in a repository policy for good: the access of another grant could not be found
/// again once that grant is gone.
///
/// # Errors
/// As for [`of`].
pub fn on_record(
    cluster: &Cluster,
    repository: &RepositoryKey,
) -> Result<Vec<GrantContribution<Contributor>>, Problem> {
    collect(
        cluster,
        repository,
        Hypothesis::Stored,
        patch::has_finalizer,
    )
}

fn collect(
    cluster: &Cluster,
    repository: &RepositoryKey,
    hypothesis: Hypothesis<'_>,
    counts_without_record: impl Fn(&CrossAccountRegistryGrant) -> bool,
) -> Result<Vec<GrantContribution<Contributor>>, Problem> {
    if cluster.watch_caches.account(&repository.account).is_none() {
        return Err(no_account(&repository.account));
    }
    // Access that is not claimed yet is not written: after a crash, nothing would say where to
    // revoke it. But in a cluster that was restored without the status it may be in the policy.
    // Then it is not removed in favour of a grant that comes first.
    let may_carry = |grant: &CrossAccountRegistryGrant| {
        grant.spec.registry.account_id == repository.account.as_str()
            && (hypothesis.is_about(&GrantName::of(grant))
                || cluster
                    .claims_cache
                    .covers(grant, &repository.region, &repository.name)
                || (cluster.claims_cache.has_no_claims(grant) && counts_without_record(grant)))
    };
    let lost = cluster.lost.kept_on(&cluster.grants, repository, may_carry);
    let is_lost: BTreeSet<GrantName> = lost.iter().map(|grant| GrantName::of(grant)).collect();
    let mut grants = cluster.grants.state_filter(may_carry);
    grants.extend(lost);
    grants.sort_by_key(|grant| {
        (
            grant.creation_timestamp(),
            grant.namespace(),
            grant.name_any(),
        )
    });
    let mut wanted = Vec::new();
    for resource in grants {
        let id = GrantName::of(&resource);
        if hypothesis.is_about(&id) {
            if let Hypothesis::With(grant) = hypothesis {
                wanted.extend(if_enforced(grant, repository));
            }
            continue;
        }
        let waits = second_writer::pauses(cluster, &resource).is_some();
        let Some(GrantPart {
            grant,
            replaces,
            stays_as,
        }) = part_of(cluster, &resource, &id, repository, waits)?
        else {
            continue;
        };
        if !grant.reaches(&repository.region, &repository.name) {
            continue;
        }
        let is_kept = stays_as.is_none() && (waits || is_lost.contains(&id));
        let mut contribution = GrantContribution {
            id: Contributor::Grant(id),
            contributions: Vec::new(),
            replaces,
            stays_as,
            if_there: Vec::new(),
        };
        contribute(cluster, &resource, &grant, repository, &mut contribution);
        if is_kept {
            keep_what_is_there(&mut contribution);
        }
        wanted.extend(completed(contribution));
    }
    Ok(wanted)
}

/// Sets the access that a grant contributes to a repository policy.
fn contribute(
    cluster: &Cluster,
    resource: &CrossAccountRegistryGrant,
    grant: &Grant,
    repository: &RepositoryKey,
    contribution: &mut GrantContribution<Contributor>,
) {
    let region = &repository.region;
    let role = cluster.claims_cache.role_is_ours(resource);
    // Until the role is first read after a start, its state is not known. Without a record, nothing
    // of the grant is written.
    contribution.if_there = grant.contributions(region, role != Some(false));
    if !cluster.claims_cache.has_no_claims(resource) {
        contribution.contributions = grant.contributions(region, role == Some(true));
    }
}

/// Adds nothing for the grant, and keeps its access that is there.
fn keep_what_is_there(contribution: &mut GrantContribution<Contributor>) {
    contribution.contributions.clear();
    let if_there = contribution.if_there.iter().flat_map(Contribution::each);
    contribution.if_there = if_there.collect();
}

/// Returns a contribution whose parts do not overlap. `None`: there is nothing in it. A retained
/// grant is included even where it has no access, so that it is reported as retained.
fn completed(
    mut contribution: GrantContribution<Contributor>,
) -> Option<GrantContribution<Contributor>> {
    let GrantContribution {
        id: _,
        contributions,
        replaces,
        stays_as,
        if_there,
    } = &mut contribution;
    if_there.retain(|asked| !contributions.contains(asked));
    if contributions.is_empty() {
        replaces.clear();
    }
    let has_any = !contributions.is_empty() || !if_there.is_empty() || stays_as.is_some();
    has_any.then_some(contribution)
}

/// Returns the access of unknown grants in a repository policy, if there may be any: everything
/// that our statements allow, except the access of known grants. `current` is the policy as it was
/// read.
pub fn of_unknown(
    cluster: &Cluster,
    cloud: &Cloud,
    repository: &RepositoryKey,
    current: Option<&str>,
) -> Option<GrantContribution<Contributor>> {
    let may_exist = cluster.unknown.may_exist();
    if !may_exist && second_writer::paused(cluster, &repository.account).is_none() {
        return None;
    }
    let known = recorded(cluster, repository);
    let document = current.and_then(|text| Document::parse(text).ok());
    let mut held = document
        .map(|document| own_contributions(&document, &cluster.installation))
        .unwrap_or_default();
    if !may_exist {
        held = second_writer::of_others(cluster, cloud, repository, held);
    }
    let of_others = |Contribution { actions, callers }: Contribution| {
        let mut same = known.iter().filter(|known| known.actions == actions);
        let left = same.try_fold(callers, |left, known| left.without(&known.callers));
        left.map(|callers| Contribution { actions, callers })
    };
    let contributions: Vec<Contribution> = held.into_iter().filter_map(of_others).collect();
    (!contributions.is_empty()).then(|| GrantContribution {
        id: Contributor::UnknownGrants,
        contributions,
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    })
}

/// Returns the recorded access of known grants in a repository policy, whether a rule admits these
/// grants or not.
fn recorded(cluster: &Cluster, repository: &RepositoryKey) -> Vec<Contribution> {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let mut recorded = Vec::new();
    let on_account =
        |grant: &CrossAccountRegistryGrant| grant.spec.registry.account_id == account.as_str();
    let lost = cluster
        .lost
        .all()
        .into_iter()
        .filter(|grant| on_account(grant));
    for resource in cluster
        .grants
        .state_filter(on_account)
        .into_iter()
        .chain(lost)
    {
        let id = GrantName::of(&resource);
        let before = resource
            .status
            .as_ref()
            .and_then(|status| status.applied.as_ref())
            .and_then(Applied::last_spec);
        for spec in before.iter().chain([&resource.spec]) {
            let grant = meant(&id, spec, &cluster.watch_caches, &cluster.installation);
            let reaching = grant.filter(|grant| grant.reaches(region, name));
            recorded.extend(
                reaching
                    .into_iter()
                    .flat_map(|grant| grant.contributions(region, true)),
            );
        }
    }
    recorded
}

/// Returns the contribution of a grant once it is enforced.
fn if_enforced(
    grant: &Grant,
    repository: &RepositoryKey,
) -> Option<GrantContribution<Contributor>> {
    let reached = grant.reaches(&repository.region, &repository.name);
    let contributions = if reached {
        grant.contributions(&repository.region, true)
    } else {
        Vec::new()
    };
    (!contributions.is_empty()).then(|| GrantContribution {
        id: Contributor::Grant(grant.name.clone()),
        contributions,
        replaces: grant.replaces.clone(),
        stays_as: None,
        if_there: Vec::new(),
    })
}

/// A grant's part in repository policies.
struct GrantPart {
    grant: Grant,
    replaces: BTreeSet<String>,
    stays_as: Option<String>,
}

fn part_of(
    cluster: &Cluster,
    resource: &CrossAccountRegistryGrant,
    id: &GrantName,
    repository: &RepositoryKey,
    waits: bool,
) -> Result<Option<GrantPart>, Problem> {
    let is_deleting = resource.meta().deletion_timestamp.is_some();
    let claims = cluster.claims_cache.claims(resource);
    // A grant that waits is treated as if it were suspended: its record counts.
    let spec = CrossAccountRegistryGrantSpec {
        suspend: resource.spec.suspend || (waits && !is_deleting),
        ..resource.spec.clone()
    };
    let input = GrantInput {
        name: id,
        spec: &spec,
        is_deleting,
        applied: claims.as_ref(),
    };
    match Decision::of(&input, &cluster.rules()) {
        Decision::Enforce { grant, .. } => {
            let replaces = grant.replaces.clone();
            Ok(Some(GrantPart {
                grant: *grant,
                replaces,
                stays_as: None,
            }))
        }
        Decision::Retain(grant) => {
            let (installation, uid) = (&cluster.installation, resource.uid().unwrap_or_default());
            Ok(Some(GrantPart {
                grant: *grant,
                replaces: BTreeSet::new(),
                stays_as: Some(format!("{installation}/{id}/{uid}")),
            }))
        }
        // A frozen grant contributes by its record. A lost record is found again before the first
        // sync: see `restored`.
        Decision::Preview { last, .. } | Decision::Suspend { last } => {
            Ok(last.map(|grant| GrantPart {
                grant: *grant,
                replaces: BTreeSet::new(),
                stays_as: None,
            }))
        }
        // Every grant here names this account. While the account is unknown nothing can be decided,
        // and that must not revoke any grant.
        Decision::Leave(_) if cluster.watch_caches.account(&repository.account).is_none() => {
            Err(no_account(&repository.account))
        }
        Decision::Leave(_) | Decision::Revoke(_) => Ok(None),
    }
}
