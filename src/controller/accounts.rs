//! Reports in the status of each `AWSAccount` whether the operator can work there, and how many
//! grants need it.

use crate::api::account_status::{
    AWSAccountStatus, CONTESTED_FIELD_MANAGER, GrantCounts, LastError, SECOND_WRITER_FIELD_MANAGER,
    SecondWriter,
};
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::{AWSAccount, CrossAccountRegistryGrant, SOLE_WRITER};
use crate::aws::Account;
use crate::controller::Context;
use crate::controller::patch;
use crate::controller::requeue;
use crate::controller::second_writer;
use crate::controller::state::watch_caches::Cache;
use crate::controller::supervise;
use crate::grant::{AccountId, Problem, warnings};
use crate::telemetry::metrics::OfAccount;
use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::Event;
use kube::runtime::{PredicateConfig, WatchStreamExt, reflector};
use kube::{Api, Resource, ResourceExt};
use serde_json::json;
use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The shortest time between two counts. A single grant is counted at once, and a thousand grants
/// do not cause a thousand writes.
const GATHER: Duration = Duration::from_secs(2);

pub async fn run(
    context: Arc<Context>,
    counts: UnboundedReceiver<String>,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) {
    let (reader, writer) = reflector::store();
    let changes = crate::controller::watch::readable::<AWSAccount>(
        context.runtime.client.clone(),
        context.runtime.events.clone(),
        context.cluster.clock.clone(),
    )
    .backoff(requeue::Reconnect::new(
        context.runtime.pauses.random().clone(),
    ))
    .reflect(writer)
    .applied_objects()
    .predicate_filter(generation_and_writer, PredicateConfig::default());
    Controller::for_stream(changes, reader)
        .trigger_backoff(requeue::NoPause)
        .reconcile_on(gathered(counts).map(|account| ObjectRef::new(&account)))
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context)
        .for_each(|_| async {})
        .await;
}

/// Triggers a reconcile of an account: its spec changed, or the annotation
/// `registrygrants.dev/sole-writer` did.
fn generation_and_writer(account: &AWSAccount) -> Option<u64> {
    let generation = u64::try_from(account.meta().generation?).ok()?;
    Some(generation << 1 | u64::from(second_writer::is_sole_writer(account)))
}

/// Returns the accounts whose count of grants this event may change.
pub fn counted_by(event: &Event<CrossAccountRegistryGrant>) -> Vec<String> {
    match event {
        // A change of its status does not change a grant's accounts.
        Event::Apply(grant) if grant.status.is_some() => Vec::new(),
        Event::Apply(grant) | Event::InitApply(grant) | Event::Delete(grant) => {
            accounts_of(grant).map(String::from).collect()
        }
        Event::Init | Event::InitDone => Vec::new(),
    }
}

fn accounts_of(grant: &CrossAccountRegistryGrant) -> impl Iterator<Item = &str> {
    let spec = &grant.spec;
    std::iter::once(spec.registry.account_id.as_str()).chain(spec.consumer.account_id.as_deref())
}

/// Yields each name once in a batch. Batches are at least `GATHER` apart.
fn gathered(names: UnboundedReceiver<String>) -> impl Stream<Item = String> {
    let rounds = futures::stream::unfold((names, Instant::now()), |(mut names, next)| async move {
        let mut round = BTreeSet::from([names.next().await?]);
        tokio::time::sleep_until(next).await;
        while let Some(Some(name)) = names.next().now_or_never() {
            round.insert(name);
        }
        Some((
            futures::stream::iter(round),
            (names, Instant::now() + GATHER),
        ))
    });
    rounds.flatten()
}

/// Counts the grants that name the account. Their claims are in accounts that they name, because
/// these fields are immutable.
fn count(grants: &Store<CrossAccountRegistryGrant>, account: &str) -> GrantCounts {
    let number = |of: &dyn Fn(&CrossAccountRegistryGrant) -> bool| {
        let found = grants.state().iter().filter(|grant| of(grant)).count();
        i32::try_from(found).unwrap_or(i32::MAX)
    };
    GrantCounts {
        registry: number(&|grant| grant.spec.registry.account_id == account),
        consumer: number(&|grant| grant.spec.consumer.account_id.as_deref() == Some(account)),
    }
}

/// Reason why an account's status could not be updated.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Cluster(#[from] kube::Error),
    /// A bug, which concerns this account alone.
    #[error(transparent)]
    Panicked(#[from] supervise::Panicked),
}

async fn reconcile(account: Arc<AWSAccount>, context: Arc<Context>) -> Result<Action, Error> {
    let work = reconcile_account(account, context.clone());
    Ok(supervise::isolated("reconcile account", &context.cloud.metrics, work).await??)
}

async fn reconcile_account(
    account: Arc<AWSAccount>,
    context: Arc<Context>,
) -> Result<Action, kube::Error> {
    // Grants that were not listed yet cannot be counted.
    tokio::select! {
        () = context.runtime.filled.wait_for(&[Cache::Grants]) => {}
        () = context.runtime.stop.clone() => return Ok(Action::await_change()),
    }
    let name = account.name_any();
    // The CRD's own rule admits only account numbers as names.
    let Ok(id) = name.parse::<AccountId>() else {
        return Ok(Action::await_change());
    };
    let session = context.cloud.aws.account(&id, &account.spec, None).await;
    write_own_status(&context, &id, &account, &session).await?;
    report_second_writer(&context, &id, &account).await?;
    report_contested_policies(&context, &id, &account).await?;
    if let Ok(session) = &session {
        read_ahead(&context, session, &account).await;
    }
    let key = account.uid().unwrap_or(name);
    Ok(Action::requeue(match session {
        Ok(_) => {
            context.runtime.backoff.reset(&key);
            context.runtime.pauses.after_success()
        }
        Err(problem) => {
            tracing::warn!(account = %id, reason = %problem.reason, "{}", problem.message);
            context.runtime.pauses.after_failure(
                problem.reason,
                context
                    .runtime
                    .backoff
                    .failed(&key, account.meta().generation),
            )
        }
    }))
}

/// Writes the status, except for the parts of other field managers, if it changed.
async fn write_own_status(
    context: &Context,
    id: &AccountId,
    account: &AWSAccount,
    session: &Result<Arc<Account>, Problem>,
) -> Result<(), kube::Error> {
    let caller_arn = session.as_ref().ok().map(|s| s.caller_arn.clone());
    let verified = match session {
        Ok(session) => {
            let arn = &session.caller_arn;
            Ok(format!("the operator works in account {id} as {arn}"))
        }
        Err(problem) => Err(problem.clone()),
    };
    let now = Time(context.cluster.clock.now());
    let status = AWSAccountStatus {
        observed_generation: account.meta().generation,
        conditions: vec![ready(account, &verified, &now)],
        warnings: warnings::of_account(id, &account.spec),
        caller_arn,
        sweep: None,
        recently_revoked: Vec::new(),
        second_writer: None,
        contested_policies: Vec::new(),
        grants: Some(count(&context.cluster.grants, &account.name_any())),
        last_error: last_error(account, &verified, &now),
    };
    // Excludes the parts of other field managers.
    let of_others = |before| AWSAccountStatus {
        sweep: None,
        recently_revoked: Vec::new(),
        second_writer: None,
        contested_policies: Vec::new(),
        ..before
    };
    if account.status.clone().map(of_others).as_ref() == Some(&status) {
        return Ok(());
    }
    let permit = patch::permitted(&context.runtime.leadership)?;
    let api = Api::all(context.runtime.client.clone());
    patch::status(permit, api, account, &status).await
}

/// Records a second writer, or removes the record where an admin declares that there is none any
/// more.
async fn report_second_writer(
    context: &Context,
    id: &AccountId,
    account: &AWSAccount,
) -> Result<(), kube::Error> {
    let second_writers = &context.cluster.second_writers;
    let leadership = &context.runtime.leadership;
    let metrics = &context.cloud.metrics;
    let recorded = account
        .status
        .as_ref()
        .and_then(|status| status.second_writer.as_ref());
    let second_writer = if second_writer::is_sole_writer(account) {
        second_writers.forget(id);
        None
    } else {
        second_writers
            .proven(id)
            .filter(|_| recorded.is_none())
            .or_else(|| recorded.cloned())
    };
    let of_account = OfAccount {
        account: id.to_string(),
    };
    metrics
        .second_writer
        .get_or_create(&of_account)
        .set(i64::from(second_writer.is_some()));
    if second_writer.as_ref() == recorded {
        return Ok(());
    }
    if let Some(SecondWriter { evidence, .. }) = &second_writer {
        let message = format!(
            "another operator with the same installation ID writes in account {id}, so this operator grants no new access there: {}. Stop the other operator or give it another ID, then run: kubectl annotate awsaccount {id} {SOLE_WRITER}=true",
            evidence.join("; ")
        );
        tracing::error!(account = %id, "{message}");
        context
            .runtime
            .events
            .problem(&account.object_ref(&()), Reason::SecondWriter, &message)
            .await;
    }
    let api = Api::all(context.runtime.client.clone());
    let part = json!({ "secondWriter": second_writer });
    let permit = patch::permitted(leadership)?;
    patch::status_part(SECOND_WRITER_FIELD_MANAGER, permit, api, account, &part).await
}

async fn report_contested_policies(
    context: &Context,
    id: &AccountId,
    account: &AWSAccount,
) -> Result<(), kube::Error> {
    let contested = context.cloud.contested.of(id);
    if contested
        == account
            .status
            .as_ref()
            .map(|status| status.contested_policies.clone())
            .unwrap_or_default()
    {
        return Ok(());
    }
    let (leadership, api) = (
        &context.runtime.leadership,
        Api::all(context.runtime.client.clone()),
    );
    let part = json!({ "contestedPolicies": (!contested.is_empty()).then_some(contested) });
    let permit = patch::permitted(leadership)?;
    patch::status_part(CONTESTED_FIELD_MANAGER, permit, api, account, &part).await
}

/// Number of regions in which the registry policy is read once for all grants. In further regions
/// each grant reads it.
const READ_AHEAD: usize = 8;

/// Reads the policies that every grant on the account depends on, so that no grant has to.
async fn read_ahead(context: &Context, session: &Account, account: &AWSAccount) {
    let policy_cache = &context.cloud.policy_cache;
    let grants = &context.cluster.grants;
    let resync_interval = context.runtime.pauses.resync_interval();
    let rules = account.spec.registry.iter().flat_map(|side| &side.rules);
    let partition = account.spec.partition;
    let of_rules: BTreeSet<String> = rules
        .flat_map(|rule| &rule.managed_policies)
        .map(|p| p.arn(partition))
        .collect();
    for policy in account
        .spec
        .roles
        .permissions_boundary
        .iter()
        .chain(&of_rules)
    {
        policy_cache
            .managed_policy(session, policy, resync_interval)
            .await;
    }
    let on_account =
        |grant: &CrossAccountRegistryGrant| grant.spec.registry.account_id == session.id.as_str();
    let regions: BTreeSet<String> = grants
        .state_filter(on_account)
        .iter()
        .flat_map(|grant| grant.spec.registry.regions.clone())
        .collect();
    // Tenants choose these regions: grants that no rule admits must not cause many calls.
    for region in regions
        .iter()
        .filter(|region| partition.has_region(region))
        .take(READ_AHEAD)
    {
        policy_cache
            .registry_policy(session, region, resync_interval)
            .await;
    }
}

fn on_error(account: Arc<AWSAccount>, error: &Error, context: Arc<Context>) -> Action {
    tracing::warn!(account = account.name_any(), %error, "failed to update the AWSAccount's status, retrying");
    let failures = context.runtime.backoff.failed(
        &account.uid().unwrap_or_default(),
        account.meta().generation,
    );
    Action::requeue(
        context
            .runtime
            .pauses
            .after_failure(Reason::Unavailable, failures),
    )
}

fn ready(account: &AWSAccount, verified: &Result<String, Problem>, now: &Time) -> Condition {
    let (status, reason, message) = match verified {
        Ok(message) => ("True", Reason::CredentialsVerified, message.clone()),
        Err(problem) => ("False", problem.reason, problem.message.clone()),
    };
    let unchanged = was_ready(account).filter(|condition| condition.status == status);
    Condition {
        last_transition_time: unchanged.map_or_else(
            || now.clone(),
            |condition| condition.last_transition_time.clone(),
        ),
        message,
        observed_generation: account.meta().generation,
        reason: reason.to_string(),
        status: status.into(),
        type_: ConditionType::Ready.to_string(),
    }
}

fn was_ready(account: &AWSAccount) -> Option<&Condition> {
    conditions::find(&account.status.as_ref()?.conditions, ConditionType::Ready)
}

/// Returns the last error. An error that occurs again without a recovery in between keeps its time.
fn last_error(
    account: &AWSAccount,
    verified: &Result<String, Problem>,
    now: &Time,
) -> Option<LastError> {
    let before = account
        .status
        .as_ref()
        .and_then(|status| status.last_error.as_ref());
    let Err(problem) = verified else {
        return before.cloned();
    };
    let reason = problem.reason.to_string();
    let lasts = was_ready(account).is_some_and(|condition| condition.status != "True");
    let same =
        before.filter(|last| lasts && last.reason == reason && last.message == problem.message);
    let new = || LastError {
        reason,
        message: problem.message.clone(),
        time: now.clone(),
    };
    Some(same.cloned().unwrap_or_else(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::mpsc;

    #[tokio::test(start_paused = true)]
    async fn many_grants_update_their_account_once_and_one_grant_at_once() {
        let (send, names) = mpsc::unbounded();
        let mut counted = Box::pin(gathered(names));
        let begun = Instant::now();
        send.unbounded_send("a".to_owned()).unwrap();
        assert_eq!(counted.next().await.as_deref(), Some("a"));
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for name in ["a", "b"].iter().cycle().take(1000) {
            send.unbounded_send((*name).to_owned()).unwrap();
        }
        drop(send);
        assert_eq!(counted.collect::<Vec<_>>().await, ["a", "b"]);
        assert_eq!(begun.elapsed(), GATHER);
    }
}
