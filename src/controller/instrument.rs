//! Instruments every reconcile of a grant: metrics, traces, and the queue of grants that are due.

use crate::api::conditions::{self, ConditionType};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::aws::rate_limit::{self, Priority, Work};
use crate::controller::Context;
use crate::controller::error::Error;
use crate::controller::reconcile;
use crate::controller::requeue::{Cause, Ended};
use crate::controller::state::requests::key;
use crate::controller::state::slots;
use crate::controller::state::watch_caches;
use crate::controller::state::watch_caches::{Cache, CacheSync};
use crate::controller::supervise;
use crate::telemetry::metrics::labels::{OfReady, OfResult};
use crate::telemetry::metrics::{ClusterSource, Metrics, Snapshot};
use crate::telemetry::traces;
use crate::telemetry::workqueue_metrics::Key;
use futures::FutureExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Resource, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tracing::Instrument;

#[cfg(test)]
mod tests;

/// Runs [`reconcile::reconcile`] with metrics and a trace.
pub async fn reconcile(
    resource: Arc<CrossAccountRegistryGrant>,
    context: Arc<Context>,
) -> Result<Action, Error> {
    let (metrics, key) = (
        &context.cloud.metrics,
        key(&ObjectRef::from_obj(&*resource)),
    );
    metrics
        .queue_wait
        .observe(metrics.queue.begun(&key).as_secs_f64());
    // Without accounts and namespaces, no grant would seem to be admitted.
    tokio::select! {
        () = context.runtime.filled.wait_for(&[Cache::Accounts, Cache::Namespaces]) => {}
        // After a stop signal, the caches are not filled any more.
        () = context.runtime.stop.clone() => return Ok(Action::await_change()),
    }
    let span = traces::reconcile(&key.0, &key.1);
    let begun = Instant::now();
    let looked = Box::pin(look(resource, context.clone())).instrument(span.clone());
    let looked = supervise::isolated("reconcile", metrics, looked)
        .await
        .unwrap_or_else(|panicked| Err(panicked.into()));
    let looked = match looked {
        Ok(Looked::TooSoon(wait)) => return Ok(again(metrics, key, Some(wait))),
        Ok(Looked::Ended(ended)) => Ok(ended),
        Err(error) => Err(error),
    };
    let result = looked.as_ref().map_or("error", |ended| ended.result);
    span.record("result", result);
    metrics.reconciles.get_or_create(&OfResult { result }).inc();
    metrics
        .reconcile_duration
        .get_or_create(&OfResult { result })
        .observe(begun.elapsed().as_secs_f64());
    metrics.queue.moved();
    looked.map(|ended| again(metrics, key, ended.again))
}

enum Looked {
    Ended(Ended),
    /// Reconciles were requested too often; the next may begin after this time.
    TooSoon(Duration),
}

/// Waits for the first work slot that the grant needs, and reconciles the newest version of the
/// grant.
async fn look(
    resource: Arc<CrossAccountRegistryGrant>,
    context: Arc<Context>,
) -> Result<Looked, Error> {
    let grant = ObjectRef::from_obj(&*resource);
    let revokes = reconcile::begins(&resource, &context).urgency == Priority::Revocation;
    let (generation, all) = (
        resource.meta().generation,
        reconcile::calls_for_a_look(&resource),
    );
    let cause = Cause {
        generation,
        revokes,
        all,
    };
    if let Err(wait) = context
        .runtime
        .asked
        .may_begin(&resource.uid().unwrap_or_default(), cause)
    {
        return Ok(Looked::TooSoon(wait));
    }
    let key = key(&grant);
    let work = |urgency| Work {
        urgency,
        tenant: key.0.as_str().into(),
    };
    let plan = || {
        let newest = context.cluster.grants.get(&grant)?;
        let begins = reconcile::begins(&newest, &context);
        Some((work(begins.urgency), begins.account?))
    };
    let waiting = context.cluster.requests.pending.wait(key.clone());
    let waits = context.cloud.metrics.queue.waits();
    let first = context.cloud.slots.first(plan, &waiting).await;
    drop((waits, waiting));
    let Some(newest) = context.cluster.grants.get(&grant) else {
        return Ok(Looked::Ended(Ended::gone()));
    };
    let work = work(reconcile::begins(&newest, &context).urgency);
    let looked = slots::beginning_with(
        first,
        Box::pin(reconcile::reconcile(newest, context.clone())),
    );
    rate_limit::with(work, looked).await.map(Looked::Ended)
}

/// Runs [`reconcile::after_error`] with metrics.
pub fn on_error(
    resource: Arc<CrossAccountRegistryGrant>,
    error: &Error,
    context: Arc<Context>,
) -> Action {
    let pause = reconcile::after_error(&resource, error, &context);
    again(
        &context.cloud.metrics,
        key(&ObjectRef::from_obj(&*resource)),
        Some(pause),
    )
}

fn again(metrics: &Metrics, key: Key, after: Option<Duration>) -> Action {
    match after {
        Some(after) => {
            metrics.queue.due(key, after);
            Action::requeue(after)
        }
        None => Action::await_change(),
    }
}

/// View of the cluster for the metrics.
pub struct Watched {
    grants: Store<CrossAccountRegistryGrant>,
    accounts: Store<AWSAccount>,
    filled: Arc<CacheSync>,
}

impl Watched {
    pub fn of(context: &Context) -> Self {
        Self {
            grants: context.cluster.grants.clone(),
            accounts: context.cluster.watch_caches.accounts.clone(),
            filled: context.runtime.filled.clone(),
        }
    }
}

impl ClusterSource for Watched {
    fn snapshot(&self) -> Option<Snapshot> {
        self.filled
            .wait_for(&[watch_caches::Cache::Grants, watch_caches::Cache::Accounts])
            .now_or_never()?;
        let mut snapshot = Snapshot::default();
        for grant in self.grants.state() {
            let conditions = grant.status.iter().flat_map(|status| &status.conditions);
            let ready = conditions::find(conditions, ConditionType::Ready);
            let (ready, reason) = ready.map_or(("Unknown", "Pending"), |ready| {
                (&ready.status, &ready.reason)
            });
            *snapshot
                .grants
                .entry(OfReady {
                    ready: ready.into(),
                    reason: reason.into(),
                })
                .or_default() += 1;
        }
        for account in self.accounts.state() {
            let conditions = account.status.iter().flat_map(|status| &status.conditions);
            // A new account does not count as failing before its credentials were tried.
            let failing = conditions::find(conditions, ConditionType::Ready)
                .is_some_and(|condition| condition.status == "False");
            snapshot.accounts.insert(account.name_any(), !failing);
        }
        Some(snapshot)
    }

    fn has_grant(&self, (namespace, name): &Key) -> bool {
        self.grants
            .get(&ObjectRef::new(name).within(namespace))
            .is_some()
    }
}
