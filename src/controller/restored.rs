//! Finds the records of frozen grants (suspended, or mode `Observe`) after a cluster was restored
//! from a backup without status. The operator writes nothing for such a grant, so nothing else
//! would record its claims, and without a record it keeps no access.
//!
//! Before the first sync of a repository policy since the start, access in it that no recorded
//! grant accounts for is assigned to the admitted frozen grants that ask for it. From then on these
//! have a record: rules and deletions revoke it as usual.

use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::{Applied, AppliedRepositories, CrossAccountRegistryGrantStatus as Status};
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::Context;
use crate::controller::context::Cluster;
use crate::controller::patch;
use crate::controller::recently_revoked;
use crate::controller::state::repository::RepositoryKey;
use crate::controller::state::restored::Restored;
use crate::grant::decision::is_frozen;
use crate::grant::{Grant, GrantName, Problem, grant_if_enforced, meant};
use crate::policy::Document;
use crate::policy::repository::Contribution;
use crate::policy::repository::current::unaccounted;
use kube::{Api, Resource, ResourceExt};
use std::sync::Arc;

/// Stores the current grants at the first call, if a frozen grant has no record. Call it before a
/// record is written.
pub fn note_start(restored: &Restored, cluster: &Cluster) {
    restored.note_start(|| {
        let lost = cluster
            .grants
            .state_filter(|grant| may_have_lost_its_record(cluster, grant));
        if lost.is_empty() {
            Vec::new()
        } else {
            cluster.grants.state()
        }
    });
}

/// Returns whether the record of this grant may have been lost: it is frozen, and has none.
pub fn may_have_lost_its_record(cluster: &Cluster, grant: &CrossAccountRegistryGrant) -> bool {
    is_frozen(&grant.spec)
        && grant.meta().deletion_timestamp.is_none()
        && cluster.claims_cache.has_no_claims(grant)
}

/// Finds the lost records that concern this repository, once.
///
/// # Errors
/// When the policy could not be read: then it must not be written either.
pub async fn find_records(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
) -> Result<(), Problem> {
    let restored = &context.runtime.restored;
    note_start(restored, &context.cluster);
    let once = restored.search(repository);
    match once
        .get_or_try_init(|| assign(context, account, repository))
        .await
    {
        Ok(()) => Ok(()),
        Err(Unfinished::NothingToRead) => {
            // A spec may name any number of repositories that do not exist.
            restored.forget_search(repository);
            Ok(())
        }
        Err(Unfinished::Failed(problem)) => Err(problem),
    }
}

/// Reason why a repository is searched again at its next sync.
enum Unfinished {
    /// There is no such repository, or its policy is not understood. Such a policy is never
    /// written, so nothing is lost before somebody corrects it.
    NothingToRead,
    Failed(Problem),
}

impl<P: Into<Problem>> From<P> for Unfinished {
    fn from(problem: P) -> Self {
        Self::Failed(problem.into())
    }
}

async fn assign(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
) -> Result<(), Unfinished> {
    let candidates = candidates(context, repository);
    // Where access was revoked within the last hour, unaccounted access is more likely that access,
    // written back by somebody, than access of a frozen grant.
    if candidates.is_empty() || recently_revoked::is_on_record(&context.cluster, repository) {
        return Ok(());
    }
    let turn = context
        .cloud
        .turn_for_all(repository.account.as_str())
        .await;
    let read = account
        .repository_policy(&repository.region, &repository.name)
        .await;
    drop(turn);
    let text = match read? {
        PolicyRead::NoRepository => return Err(Unfinished::NothingToRead),
        PolicyRead::NoPolicy => return Ok(()),
        PolicyRead::Policy(text) => text,
    };
    let document = Document::parse(&text).map_err(|_| Unfinished::NothingToRead)?;
    let accounted = accounted_for(context, repository);
    for (resource, grant) in candidates {
        let asked =
            [true, false].map(|with_role| grant.contributions(&repository.region, with_role));
        if asked
            .iter()
            .any(|asked| unaccounted(&document, &accounted, asked, &context.cluster.installation))
        {
            context.runtime.leadership.write_permit().map(drop)?;
            let found = claims_on(&grant, repository);
            if let Err(error) = put_on_record(context, &resource, &found).await {
                // A record that cannot be written (because of its size, fields that nobody can
                // parse, or a conflict) does not hold up other grants. The grant's access stays:
                // until the next start this process keeps the record in memory, and tries to write
                // it with each of the grant's statuses.
                tracing::warn!(grant = %GrantName::of(&resource), %error, "failed to write the record that was found for the policy of {repository}, keeping it in memory");
                context
                    .cluster
                    .claims_cache
                    .record(&resource, Some(grown_by(context, &resource, &found)));
                context
                    .cluster
                    .requests
                    .reconcile(&GrantName::of(&resource));
                // The record is not written, so no Event reports it as such.
                continue;
            }
            let what = format!(
                "restored the grant's record, which was lost: the policy of {repository} contains the grant's access"
            );
            tracing::warn!(grant = %GrantName::of(&resource), "{what}");
            context
                .runtime
                .events
                .record_found(&resource.object_ref(&()), &what)
                .await;
            context
                .cluster
                .requests
                .reconcile(&GrantName::of(&resource));
        }
    }
    Ok(())
}

/// Returns the admitted frozen grants that reach a repository and have no record of it. A grant
/// whose record contains its current spec is among them: the record was found at another
/// repository.
fn candidates(
    context: &Context,
    repository: &RepositoryKey,
) -> Vec<(Arc<CrossAccountRegistryGrant>, Grant)> {
    let claims_cache = &context.cluster.claims_cache;
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let frozen = context.cluster.grants.state_filter(|grant| {
        grant.spec.registry.account_id == account.as_str()
            && is_frozen(&grant.spec)
            && grant.meta().deletion_timestamp.is_none()
            && !claims_cache.covers(grant, region, name)
    });
    let reaching = frozen.into_iter().filter_map(|resource| {
        let claims = claims_cache.claims(&resource);
        let same_spec = claims
            .as_ref()
            .is_none_or(|claims| claims.last_spec().as_ref() == Some(&resource.spec));
        let id = GrantName::of(&resource);
        let grant = grant_if_enforced(&id, &resource.spec, None, &context.cluster.rules())
            .ok()
            .filter(|_| same_spec)?;
        grant.reaches(region, name).then_some((resource, grant))
    });
    reaching.collect()
}

/// Returns the contributions that recorded grants, live or being deleted, may have in a repository
/// policy: by their state before the start, and by their current state.
fn accounted_for(context: &Context, repository: &RepositoryKey) -> Vec<Contribution> {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let at_start = context.runtime.restored.at_start().iter().cloned();
    let on_account =
        |grant: &CrossAccountRegistryGrant| grant.spec.registry.account_id == account.as_str();
    let mut accounted = Vec::new();
    for resource in at_start
        .chain(context.cluster.grants.state())
        .filter(|grant| on_account(grant))
    {
        let before = resource
            .status
            .as_ref()
            .and_then(|status| status.applied.clone());
        let records: Vec<Applied> = before
            .into_iter()
            .chain(context.cluster.claims_cache.claims(&resource))
            .collect();
        if !records.iter().any(|record| record.covers(region, name)) {
            continue;
        }
        let id = GrantName::of(&resource);
        let specs = records
            .iter()
            .filter_map(Applied::last_spec)
            .chain([resource.spec.clone()]);
        let grants = specs.filter_map(|spec| {
            meant(
                &id,
                &spec,
                &context.cluster.watch_caches,
                &context.cluster.installation,
            )
        });
        let reaching = grants.filter(|grant| grant.reaches(region, name));
        accounted.extend(reaching.flat_map(|grant| grant.contributions(region, true)));
    }
    accounted
}

/// Returns the claims of a grant on this repository alone, and on the roles that its spec names.
/// The claims say where to search.
fn claims_on(grant: &Grant, repository: &RepositoryKey) -> Applied {
    let RepositoryKey {
        account: _,
        region,
        name,
    } = repository;
    let here = AppliedRepositories {
        region: region.clone(),
        patterns: vec![name.clone()],
    };
    Applied {
        repositories: vec![here],
        ..grant.claims()
    }
}

/// Writes the finalizer, then the record, as for any grant.
async fn put_on_record(
    context: &Context,
    resource: &CrossAccountRegistryGrant,
    found: &Applied,
) -> Result<(), kube::Error> {
    let api: Api<CrossAccountRegistryGrant> = Api::namespaced(
        context.runtime.client.clone(),
        &resource.namespace().unwrap_or_default(),
    );
    let Some(current) = patch::in_time(api.get_opt(&resource.name_any())).await? else {
        return Ok(());
    };
    if current.uid() != resource.uid() || current.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    if !patch::has_finalizer(&current) {
        patch::add_finalizer(
            patch::permitted(&context.runtime.leadership)?,
            &context.runtime.client,
            &current,
        )
        .await?;
    }
    let claims = grown_by(context, &current, found);
    let status = Status {
        applied: Some(claims.clone()),
        ..current.status.clone().unwrap_or_default()
    };
    patch::grant_status(
        patch::permitted(&context.runtime.leadership)?,
        &context.runtime.client,
        &current,
        &status,
    )
    .await?;
    context.cluster.claims_cache.record(&current, Some(claims));
    Ok(())
}

/// Returns the recorded claims of a grant together with those that were found.
fn grown_by(context: &Context, grant: &CrossAccountRegistryGrant, found: &Applied) -> Applied {
    context
        .cluster
        .claims_cache
        .claims(grant)
        .map_or_else(|| found.clone(), |before| before.grown_by(found))
}
