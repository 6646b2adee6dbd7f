//! Tells in each `AWSAccount`'s status whether the operator can work there.

use super::{Context, requeue};
use crate::api::AWSAccount;
use crate::api::account::AWSAccountStatus;
use crate::api::conditions::{ConditionType, Reason};
use crate::controller::publish;
use crate::grant::{AccountId, Problem};
use futures::StreamExt;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::{PredicateConfig, WatchStreamExt, predicates, reflector};
use kube::{Api, Resource, ResourceExt};
use std::future::Future;
use std::sync::Arc;

pub async fn run(context: Arc<Context>, stop: impl Future<Output = ()> + Send + Sync + 'static) {
    let (reader, writer) = reflector::store();
    let changes = super::watch::readable::<AWSAccount>(context.client.clone(), context.events.clone())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation, PredicateConfig::default());
    Controller::for_stream(changes, reader)
        .graceful_shutdown_on(stop)
        .run(reconcile, on_error, context)
        .for_each(|_| async {})
        .await;
}

async fn reconcile(account: Arc<AWSAccount>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let name = account.name_any();
    // The definition's own rule admits nothing but account numbers as names.
    let Ok(id) = name.parse::<AccountId>() else { return Ok(Action::await_change()) };
    let session = context.aws.account(&id, &account.spec).await;
    let (caller_arn, told) = match session {
        Ok(session) => {
            let arn = session.caller_arn.clone();
            let message = format!("the operator works in account {id} as {arn}");
            (Some(arn), Ok(message))
        }
        Err(problem) => (None, Err(problem)),
    };
    let status = AWSAccountStatus {
        observed_generation: account.meta().generation,
        conditions: vec![ready(&account, &told)],
        caller_arn,
        sweep: None,
    };
    // The sweep writes its own part.
    if account.status.clone().map(|before| AWSAccountStatus { sweep: None, ..before }).as_ref() != Some(&status) {
        publish::status(Api::all(context.client.clone()), &*account, &status).await?;
    }
    let key = account.uid().unwrap_or(name);
    Ok(Action::requeue(match told {
        Ok(_) => {
            context.backoff.reset(&key);
            requeue::after_success(context.resync_interval)
        }
        Err(problem) => {
            tracing::warn!(account = %id, reason = %problem.reason, "{}", problem.message);
            requeue::after_failure(
                problem.reason,
                context.backoff.failed(&key, account.meta().generation),
                context.resync_interval,
            )
        }
    }))
}

fn on_error(account: Arc<AWSAccount>, error: &kube::Error, context: Arc<Context>) -> Action {
    tracing::warn!(account = account.name_any(), %error, "the status could not be written");
    let failures = context.backoff.failed(&account.uid().unwrap_or_default(), account.meta().generation);
    Action::requeue(requeue::after_failure(Reason::Unavailable, failures, context.resync_interval))
}

fn ready(account: &AWSAccount, told: &Result<String, Problem>) -> Condition {
    let (status, reason, message) = match told {
        Ok(message) => ("True", Reason::CredentialsVerified, message.clone()),
        Err(problem) => ("False", problem.reason, problem.message.clone()),
    };
    let type_ = ConditionType::Ready.to_string();
    let before = account.status.iter().flat_map(|status| &status.conditions).find(|condition| condition.type_ == type_);
    let unchanged = before.filter(|condition| condition.status == status);
    Condition {
        last_transition_time: unchanged
            .map_or_else(|| Time(Timestamp::now()), |condition| condition.last_transition_time.clone()),
        message,
        observed_generation: account.meta().generation,
        reason: reason.to_string(),
        status: status.into(),
        type_,
    }
}
