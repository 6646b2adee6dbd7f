//! Syncs repository policies again that were written lately, or from which access was revoked
//! lately, whether a grant asks for it or not.

use crate::api::AWSAccount;
use crate::controller::Context;
use crate::controller::recently_revoked::recorded_places;
use crate::controller::repository_policy::read_back::revoke;
use crate::controller::repository_policy::sync::bring_up_to_date;
use crate::controller::state::repository::{Freshness, RepositoryKey};
use crate::controller::state::watch_caches::Cache;
use crate::grant::{AccountId, AccountLookup};
use futures::FutureExt;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::Instant;

/// Syncs repositories again that were written lately, until a stop signal. A slow account does not
/// hold up the others.
pub async fn look_after(context: Arc<Context>) {
    let context = &*context;
    loop {
        tokio::select! {
            () = tokio::time::sleep(context.runtime.pauses.after_success()) => {}
            () = context.runtime.stop.clone() => return,
        }
        let mut by_account: BTreeMap<AccountId, Vec<RepositoryKey>> = BTreeMap::new();
        for repository in context
            .cloud
            .coalescer
            .to_look_after(context.runtime.pauses.resync_interval())
            .await
        {
            by_account
                .entry(repository.account.clone())
                .or_default()
                .push(repository);
        }
        let accounts = by_account
            .into_iter()
            .map(|(id, repositories)| look_again(context, id, repositories));
        futures::future::join_all(accounts).await;
    }
}

async fn look_again(context: &Context, id: AccountId, repositories: Vec<RepositoryKey>) {
    for repository in repositories {
        if context.runtime.stop.clone().now_or_never().is_some() {
            return;
        }
        let Some(known) = context.cluster.watch_caches.account(&id) else {
            return;
        };
        let looked = match context.cloud.aws.account(&id, &known.spec, None).await {
            Ok(account) => {
                bring_up_to_date(context, &account, &repository, Freshness::Background).await
            }
            Err(problem) => Err(problem),
        };
        if let Err(problem) = looked {
            tracing::warn!(reason = %problem.reason, "failed to sync the policy of {repository}, retrying: {}", problem.message);
        }
    }
}

/// Reads the recorded places once after a start, and has them read again for the rest of their
/// hour. A slow account does not hold up the others.
pub async fn look_after_the_start(context: &Context) {
    tokio::select! {
        () = context.runtime.filled.wait_for(&[Cache::Grants, Cache::Accounts, Cache::Namespaces]) => {}
        () = context.runtime.stop.clone() => return,
    }
    let accounts = context.cluster.watch_caches.accounts.state();
    futures::future::join_all(
        accounts
            .iter()
            .map(|account| revoke_again(context, account)),
    )
    .await;
}

async fn revoke_again(context: &Context, account: &AWSAccount) {
    let Ok(id) = account.name_any().parse::<AccountId>() else {
        return;
    };
    for (repository, age) in recorded_places(&id, account, context.cluster.clock.now()) {
        // The monotonic clock may not reach back so far.
        let written = Instant::now().checked_sub(age).unwrap_or_else(Instant::now);
        context
            .cloud
            .coalescer
            .note_written(&repository, written)
            .await;
        let looked = tokio::select! {
            looked = async {
                let session = context.cloud.aws.account(&id, &account.spec, None).await?;
                revoke(context, &session, &repository).await
            } => looked,
            () = context.runtime.stop.clone() => return,
        };
        if let Err(problem) = looked {
            tracing::warn!(reason = %problem.reason, "failed to verify a recent revocation in the policy of {repository}, retrying: {}", problem.message);
        }
    }
}
