//! Detects another live operator with this installation's ID: two clusters, for instance, one of
//! which was made from the other's backup. Each operator takes the other's writes for drift and
//! reverts them. Reads that are made anyway show this, account by account. New access in such an
//! account waits until somebody decides which operator is to continue.

use crate::api::account::AWSAccount;
use crate::api::account_status::SecondWriter;
use crate::api::conditions::Reason;
use crate::api::grant::{CrossAccountRegistryGrantSpec, CrossAccountRegistryGrantStatus as Status};
use crate::api::{CrossAccountRegistryGrant, SOLE_WRITER};
use crate::controller::Context;
use crate::controller::context::{Cloud, Cluster};
use crate::controller::recently_revoked;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::ownership::{Owner, TAG_GRANT_UID};
use crate::grant::{AccountId, AccountLookup, Problem};
use crate::policy::Document;
use crate::policy::repository::Contribution;
use crate::policy::repository::current::own_contributions;
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Returns the access that our statements allow. Statements in a form that no operator writes do
/// not count: they are not another operator's.
fn held(cluster: &Cluster, document: Option<&Document>) -> Vec<Contribution> {
    document
        .map(|document| own_contributions(document, &cluster.installation))
        .unwrap_or_default()
}

/// Checks a repository's policy, as it was read, for access that another operator has written.
pub fn look_at_policy(context: &Context, repository: &RepositoryKey, found: Option<&Document>) {
    let held = held(&context.cluster, found);
    let strange = context.cloud.coalescer.own_access(repository, |own| {
        own.begin(held.clone());
        own.sights(held)
    });
    // After a revocation a tool may write back the policy that it had read earlier. That is no
    // second operator.
    if strange && !recently_revoked::is_on_record(&context.cluster, repository) {
        sighted(
            &context.cluster,
            &repository.account,
            format!(
                "the policy of {repository} had access under this installation's Sids that this operator has not written"
            ),
        );
    }
}

/// Notes a policy before it is written, because the answer to the write may be lost.
pub fn write_policy(context: &Context, repository: &RepositoryKey, written: Option<&Document>) {
    context
        .cloud
        .coalescer
        .own_access(repository, |own| own.write(held(&context.cluster, written)));
}

/// Notes that a repository policy is now as desired.
pub fn leave_policy(context: &Context, repository: &RepositoryKey, left: Option<&Document>) {
    if paused(&context.cluster, &repository.account).is_none() {
        context
            .cloud
            .coalescer
            .own_access(repository, |own| own.settle(held(&context.cluster, left)));
    }
}

/// Returns the part of a repository policy's access that another operator may have written. Access
/// that this process has written before is not part of it: if somebody restores it, it is revoked
/// again.
pub fn of_others(
    cluster: &Cluster,
    cloud: &Cloud,
    repository: &RepositoryKey,
    held: Vec<Contribution>,
) -> Vec<Contribution> {
    let strange = cloud
        .coalescer
        .own_access(repository, |own| own.strange(held.clone()));
    strange.unwrap_or_else(|| {
        if recently_revoked::is_on_record(cluster, repository) {
            Vec::new()
        } else {
            held
        }
    })
}

/// Notes a sighting where a role that this process had tagged for a grant is tagged for another
/// grant of the same name.
pub fn look_at_tags(
    cluster: &Cluster,
    account: &AccountId,
    role: &str,
    tags: &BTreeMap<String, String>,
    owner: &Owner,
) {
    let uid = tags.get(TAG_GRANT_UID);
    let is_retagged = owner.owns(tags) && uid.is_some_and(|uid| *uid != owner.uid);
    if is_retagged && cluster.second_writers.had_tags_of(account, role, owner) {
        let uid = uid.map(String::as_str).unwrap_or_default();
        sighted(
            cluster,
            account,
            format!(
                "role {role} was tagged for another grant {} with UID {uid}",
                owner.grant
            ),
        );
    }
}

fn sighted(cluster: &Cluster, account: &AccountId, what: String) {
    let is_sole_writer = cluster
        .watch_caches
        .account(account)
        .is_some_and(|account| is_sole_writer(&account));
    if is_sole_writer || cluster.second_writers.proven(account).is_some() {
        return;
    }
    tracing::warn!(%account, "{what}");
    if cluster
        .second_writers
        .sighted(account, what, Instant::now(), cluster.clock.now())
        .is_some()
    {
        cluster.requests.update_account(account);
    }
}

/// Returns whether an admin declares that no other operator works in the account.
pub fn is_sole_writer(account: &AWSAccount) -> bool {
    account
        .annotations()
        .get(SOLE_WRITER)
        .is_some_and(|value| value == "true")
}

/// Returns the proof that another operator writes in the account, unless an admin declares that
/// none does.
pub fn paused(cluster: &Cluster, account: &AccountId) -> Option<SecondWriter> {
    let resource = cluster
        .watch_caches
        .account(account)
        .filter(|resource| !is_sole_writer(resource))?;
    let recorded = || {
        resource
            .status
            .as_ref()
            .and_then(|status| status.second_writer.clone())
    };
    cluster.second_writers.proven(account).or_else(recorded)
}

/// Returns the reason why a grant has to wait: another operator writes in one of its accounts, and
/// the grant's spec was not carried out before, or the other operator undoes it. `None`: the grant
/// need not wait.
pub fn pauses(cluster: &Cluster, resource: &CrossAccountRegistryGrant) -> Option<Problem> {
    let CrossAccountRegistryGrantSpec {
        registry, consumer, ..
    } = &resource.spec;
    let consumer = consumer
        .account_id
        .as_ref()
        .filter(|_| consumer.instance_role.is_some());
    let accounts = [Some(&registry.account_id), consumer]
        .into_iter()
        .flatten()
        .filter_map(|id| id.parse().ok());
    let account: AccountId = accounts
        .into_iter()
        .find(|account| paused(cluster, account).is_some())?;
    let status = resource.status.as_ref();
    let is_current =
        status.and_then(|status| status.observed_generation) == resource.meta().generation;
    let reason = status.and_then(Status::ready).map(|(_, reason, _)| reason);
    let undone = [Reason::SecondWriter, Reason::ContestedPolicy].map(|reason| reason.to_string());
    if is_current && reason.is_some_and(|reason| !undone.contains(&reason.to_string())) {
        return None;
    }
    Some(Problem::new(
        Reason::SecondWriter,
        format!(
            "another operator with the same installation ID writes in account {account}, so this operator grants no new access there. A cluster admin finds the evidence in status.secondWriter of the AWSAccount, and what to do under `A second operator with the same ID` in docs/operations.md; the annotation {SOLE_WRITER}=true on the AWSAccount ends this"
        ),
    ))
}
