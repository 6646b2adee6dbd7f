//! Reads whether principals in a repository policy exist. The result orders the search for the
//! principal that AWS refuses.

use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::controller::Context;
use crate::grant::{AccountId, AccountLookup};
use crate::policy::arn::Arn;
use crate::policy::repository::search::Evidence;
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The number of accounts that are read at a time.
const AT_A_TIME: usize = 8;
/// The time limit for all reads. They only affect the order in which principals are tried.
const LONGEST: Duration = Duration::from_secs(15);

/// Reads these principals in their accounts, as far as the operator has access there. An account
/// that refuses us may be closed, and a role that is not found was deleted.
pub async fn of(context: &Context, registry: &Account, principals: BTreeSet<String>) -> Evidence {
    let mut by_account: BTreeMap<AccountId, Vec<String>> = BTreeMap::new();
    for principal in principals {
        let account = Arn::account_of(&principal).and_then(|account| account.parse().ok());
        if let Some(account) = account {
            by_account.entry(account).or_default().push(principal);
        }
    }
    let asked = futures::stream::iter(by_account)
        .map(|(id, principals)| async move { of_account(context, registry, &id, principals).await })
        .buffer_unordered(AT_A_TIME)
        .take_until(tokio::time::sleep(LONGEST));
    let mut evidence = Evidence::default();
    for known in asked.collect::<Vec<_>>().await {
        evidence.suspects.extend(known.suspects);
        evidence.good.extend(known.good);
    }
    evidence
}

async fn of_account(
    context: &Context,
    registry: &Account,
    id: &AccountId,
    principals: Vec<String>,
) -> Evidence {
    let (mut suspects, mut good) = (BTreeSet::new(), BTreeSet::new());
    let _turn = context.cloud.turn(id.as_str()).await;
    let session;
    let account = if *id == registry.id {
        registry
    } else {
        let Some(known) = context.cluster.watch_caches.account(id) else {
            return Evidence::default();
        };
        match context.cloud.aws.account(id, &known.spec, None).await {
            Ok(found) => {
                session = found;
                &*session
            }
            Err(problem) => {
                let refuses = matches!(
                    problem.reason,
                    Reason::CredentialsUnavailable | Reason::AccessDenied | Reason::WrongAccount
                );
                let suspects = if refuses {
                    principals.into_iter().collect()
                } else {
                    BTreeSet::new()
                };
                return Evidence { suspects, good };
            }
        }
    };
    for principal in principals {
        let role = principal
            .split_once(":role/")
            .and_then(|(_, path)| path.rsplit('/').next());
        let is_there = match role {
            Some(name) => {
                // Whether the role has tags does not matter.
                let found = account.role_with_tags_as_given(name).await;
                found.ok().map(|found| found.is_some())
            }
            None => Some(true),
        };
        match is_there {
            Some(true) => drop(good.insert(principal)),
            Some(false) => drop(suspects.insert(principal)),
            None => {}
        }
    }
    Evidence { suspects, good }
}
