//! Syncs repository policies again that were written lately, whether a grant asks for it or not.

use super::sync::bring_up_to_date;
use super::types::{Freshness, RepositoryKey};
use crate::controller::Context;
use crate::grant::{AccountId, AccountLookup};
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::Arc;

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
