//! What triggers the reconcile of a grant: changes of grants, accounts and namespaces, and requests
//! by other work.

use super::context::Context;
use super::state::watch_caches::{Cache, CacheSync};
use super::vanished::{self, Vanished};
use super::{accounts, instrument, reconcile, requeue, second_writer, watch};
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::telemetry::health::Readiness;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{self, Controller};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::reflector::store::Writer;
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, watcher};
use kube::{Resource, ResourceExt};
use std::sync::Arc;

/// Where the watches put what they see.
pub struct Watches {
    pub grants: Writer<CrossAccountRegistryGrant>,
    pub accounts: Writer<AWSAccount>,
    pub namespaces: Writer<PartialObjectMeta<Namespace>>,
    /// Grants that disappeared with claims.
    pub gone: UnboundedSender<Vanished>,
}

/// Watches grants, accounts and namespaces, and reconciles grants, until a stop signal arrives and
/// running reconciles have ended.
pub async fn reconcile_grants(
    context: &Arc<Context>,
    watches: Watches,
    requested: UnboundedReceiver<ObjectRef<CrossAccountRegistryGrant>>,
    readiness: &Readiness,
) {
    let Watches {
        grants,
        accounts,
        namespaces,
        gone,
    } = watches;
    let of_account = context.clone();
    let of_namespace = context.clone();
    let changes = grant_changes(context, grants, gone, readiness);
    Controller::for_stream(changes, context.cluster.grants.clone())
        .watches_stream(
            account_changes(context, accounts, readiness),
            move |account: AWSAccount| grants_of_account(&of_account, &account),
        )
        .watches_stream(
            namespace_changes(context, namespaces, readiness),
            move |namespace| grants_in_namespace(&of_namespace, &namespace),
        )
        .reconcile_on(requested)
        // Unlimited: each reconcile waits for a work slot in the account that it calls. A limit
        // here would let one account's grants block those of the others.
        .with_config(controller::Config::default().concurrency(0))
        .trigger_backoff(requeue::NoPause)
        .graceful_shutdown_on(context.runtime.stop.clone())
        .run(instrument::reconcile, instrument::on_error, context.clone())
        .for_each(|_| async {})
        .await;
}

fn grant_changes(
    context: &Arc<Context>,
    writer: Writer<CrossAccountRegistryGrant>,
    gone: UnboundedSender<Vanished>,
    readiness: &Readiness,
) -> impl Stream<Item = watcher::Result<CrossAccountRegistryGrant>> + Send + use<> {
    let runtime = &context.runtime;
    let unreadable = context.clone();
    let seen = watch::readable_noting::<CrossAccountRegistryGrant>(
        runtime.client.clone(),
        runtime.events.clone(),
        context.cluster.clock.clone(),
        move |event: &_| unreadable.cluster.unknown.note(event),
    );
    let seen = watch::noted(readiness, "the watch of grants", seen);
    let seen = seen.backoff(requeue::Reconnect::new(runtime.pauses.random().clone()));
    let seen = vanished::noticed(context.clone(), gone, seen);
    let (counting, queueing) = (context.clone(), context.clone());
    filled(context)
        .watched(Cache::Grants, seen.reflect(writer))
        .inspect_ok(move |event| {
            for account in accounts::counted_by(event) {
                counting.cluster.requests.update_account_named(account);
            }
        })
        .applied_objects()
        .predicate_filter(reconcile::calls_for_a_look, PredicateConfig::default())
        .inspect_ok(move |grant| {
            let requests = &queueing.cluster.requests;
            requests.due(&[ObjectRef::from_obj(grant)]);
        })
}

/// Returns changes of accounts. An account's disappearance matters as much as its change.
fn account_changes(
    context: &Arc<Context>,
    writer: Writer<AWSAccount>,
    readiness: &Readiness,
) -> impl Stream<Item = watcher::Result<AWSAccount>> + Send + use<> {
    let runtime = &context.runtime;
    let seen = watch::readable::<AWSAccount>(
        runtime.client.clone(),
        runtime.events.clone(),
        context.cluster.clock.clone(),
    );
    let seen = watch::noted(readiness, "the watch of accounts", seen);
    let seen = seen.backoff(requeue::Reconnect::new(runtime.pauses.random().clone()));
    filled(context)
        .watched(Cache::Accounts, seen.reflect(writer))
        .touched_objects()
        .predicate_filter(generation_and_presence, PredicateConfig::default())
}

fn namespace_changes(
    context: &Arc<Context>,
    writer: Writer<PartialObjectMeta<Namespace>>,
    readiness: &Readiness,
) -> impl Stream<Item = watcher::Result<PartialObjectMeta<Namespace>>> + Send + use<> {
    let runtime = &context.runtime;
    let seen = watch::namespaces(runtime.client.clone());
    let seen = watch::noted(readiness, "the watch of namespaces", seen);
    let seen = seen.backoff(requeue::Reconnect::new(runtime.pauses.random().clone()));
    filled(context)
        .watched(Cache::Namespaces, seen.reflect(writer))
        .touched_objects()
        .predicate_filter(predicates::labels, PredicateConfig::default())
}

fn filled(context: &Arc<Context>) -> Arc<CacheSync> {
    context.runtime.filled.clone()
}

fn generation_and_presence(account: &AWSAccount) -> Option<u64> {
    let meta = account.meta();
    // The last watch event of a deleted object repeats its generation. Its deletion time, or its
    // resource version, differs.
    let generation = u64::try_from(meta.generation?).ok()?;
    let flags = [
        meta.deletion_timestamp.is_some(),
        second_writer::is_sole_writer(account),
    ];
    Some(
        flags
            .into_iter()
            .fold(generation, |bits, flag| bits << 1 | u64::from(flag)),
    )
}

/// Returns the grants that name this account, and notes that they are due.
fn grants_of_account(
    context: &Context,
    account: &AWSAccount,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let id = account.name_any();
    due(context, |grant| {
        let spec = &grant.spec;
        spec.registry.account_id == id || spec.consumer.account_id.as_ref() == Some(&id)
    })
}

/// Returns the grants in this namespace, and notes that they are due.
fn grants_in_namespace(
    context: &Context,
    namespace: &PartialObjectMeta<Namespace>,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let name = namespace.name_any();
    due(context, |grant| grant.namespace().as_deref() == Some(&name))
}

fn due(
    context: &Context,
    concerns: impl Fn(&CrossAccountRegistryGrant) -> bool,
) -> Vec<ObjectRef<CrossAccountRegistryGrant>> {
    let grants: Vec<_> = context
        .cluster
        .grants
        .state_filter(concerns)
        .iter()
        .map(|grant| ObjectRef::from_obj(&**grant))
        .collect();
    context.cluster.requests.due(&grants);
    grants
}
