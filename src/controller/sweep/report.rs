//! Reports a sweep: in the status of the `AWSAccount`, by an Event, in the log, and by metrics.

use super::Context;
use crate::api::AWSAccount;
use crate::api::sweep::{SWEEP_FIELD_MANAGER, SweepStatus};
use crate::controller::patch;
use crate::grant::sweep::unclaimed;
use crate::telemetry::metrics::OfAccount;
use kube::{Api, Resource, ResourceExt};
use serde_json::{Value, json};

/// Removes the results of an earlier sweep from the status.
pub async fn nothing(context: &Context, account: &AWSAccount) {
    if status_before(account).is_some() {
        write(context, account, &json!({})).await;
    }
}

/// Reports the results of a sweep where they are new.
pub async fn swept(context: &Context, account: &AWSAccount, status: SweepStatus, removed: usize) {
    let of = OfAccount {
        account: account.name_any(),
    };
    context
        .cloud
        .metrics
        .sweep_found
        .get_or_create(&of)
        .set(i64::from(status.found));
    let about = account.object_ref(&());
    if removed > 0 {
        context.runtime.events.swept(&about, removed).await;
    }
    let before = status_before(account);
    if before == Some(&status) {
        return;
    }
    if status.found > 0
        && before.is_none_or(|before| before.items != status.items || before.found != status.found)
    {
        let SweepStatus {
            found,
            kept,
            message,
            ..
        } = &status;
        let things: Vec<&str> = status.items.iter().map(|item| item.arn.as_str()).collect();
        tracing::warn!(
            account = of.account,
            found,
            kept,
            ?things,
            "found resources in AWS that no grant claims: {message}"
        );
        context
            .runtime
            .events
            .unclaimed(&about, &unclaimed(*found))
            .await;
    }
    if !status.problems.is_empty() && before.is_none_or(|before| before.problems != status.problems)
    {
        tracing::warn!(account = of.account, problems = ?status.problems, "the sweep of the account is incomplete");
    }
    write(context, account, &json!({ "sweep": status })).await;
}

fn status_before(account: &AWSAccount) -> Option<&SweepStatus> {
    account.status.as_ref()?.sweep.as_ref()
}

async fn write(context: &Context, account: &AWSAccount, status: &Value) {
    let api = Api::all(context.runtime.client.clone());
    let written = async {
        let permit = patch::permitted(&context.runtime.leadership)?;
        patch::status_as(SWEEP_FIELD_MANAGER, permit, api, account, status).await
    };
    if let Err(error) = written.await {
        tracing::warn!(account = account.name_any(), %error, "failed to write the status of the sweep");
    }
}
