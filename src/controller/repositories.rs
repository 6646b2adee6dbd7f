//! One writer per repository. A repository's policy is one document without version, so that two of our own reconciliations must
//! never write it at once; and what one of them writes serves all that were waiting: a hundred grants on one
//! repository cost a few reads and writes, not a hundred.

use super::Context;
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::grant::validate::no_account;
use crate::grant::{AccountId, Directory, GrantName, Problem, Standing, standing};
use crate::policy::repository::{self, Change, Contribution, Plan};
use kube::{Resource, ResourceExt};
use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Which repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Repository {
    pub account: AccountId,
    pub region: String,
    pub name: String,
}

/// What came of bringing a repository's policy up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// There is no such repository.
    NoRepository,
    /// The policy is as all grants on it want it: whom it grants access, and who did not fit.
    UpToDate { granted: BTreeSet<GrantName>, left_out: BTreeSet<GrantName> },
}

type Outcome = Result<Written, Problem>;

/// The writers of all repositories.
#[derive(Default)]
pub struct Writers(Mutex<HashMap<Repository, Arc<Slot>>>);

/// One repository's writer. Who comes takes a ticket; a pass that begins after a ticket was taken serves it.
#[derive(Default)]
struct Slot {
    tickets: AtomicU64,
    last_pass: tokio::sync::Mutex<Option<(u64, Outcome)>>,
}

impl Writers {
    /// Runs `pass`, unless one that began after this call serves it, too.
    async fn serve<Pass: Future<Output = Outcome>>(&self, key: &Repository, pass: impl FnOnce() -> Pass) -> Outcome {
        let slot = self.0.lock().expect("no panic while held").entry(key.clone()).or_default().clone();
        let ticket = slot.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last_pass = slot.last_pass.lock().await;
        if let Some((served_to, outcome)) = last_pass.as_ref().filter(|(served_to, _)| *served_to >= ticket) {
            tracing::trace!(ticket, served_to, "served by another pass");
            return outcome.clone();
        }
        let serves_to = slot.tickets.load(Ordering::SeqCst);
        let outcome = pass().await;
        *last_pass = Some((serves_to, outcome.clone()));
        outcome
    }
}

/// Makes a repository's policy what all grants together want.
pub async fn bring_up_to_date(context: &Context, account: &Account, repository: &Repository) -> Outcome {
    context.writers.serve(repository, || pass(context, account, repository)).await
}

async fn pass(context: &Context, account: &Account, repository: &Repository) -> Outcome {
    let Repository { account: _, region, name } = repository;
    let grants = contributions(context, repository)?;
    // From here to the write nothing else is awaited: what others write in between is lost, and nobody could see it.
    let current = match account.repository_policy(region, name).await? {
        PolicyRead::NoRepository => return Ok(Written::NoRepository),
        PolicyRead::NoPolicy => None,
        PolicyRead::Policy(text) => Some(text),
    };
    let Plan { change, left_out } =
        repository::plan(current.as_deref(), &grants, &context.installation).map_err(|error| {
            Problem::new(
                Reason::UnreadablePolicy,
                format!(
                    "the policy of repository {name} in account {}, {region} cannot be read ({error}); it is left alone. Correct it in ECR",
                    repository.account
                ),
            )
        })?;
    if change != Change::None {
        context.leadership.may_write()?;
    }
    match change {
        Change::None => {}
        Change::Set(document) => {
            account.set_repository_policy(region, name, &document).await?;
            tracing::info!(account = %repository.account, region, repository = name, grants = grants.len(), characters = document.characters(), "repository policy set");
        }
        Change::Delete => {
            account.delete_repository_policy(region, name).await?;
            tracing::info!(account = %repository.account, region, repository = name, "repository policy deleted");
        }
    }
    let granted = grants.into_iter().map(|(name, _)| name).filter(|name| !left_out.contains(name)).collect();
    Ok(Written::UpToDate { granted, left_out })
}

/// What all grants together want of a repository's policy, the oldest first.
///
/// # Errors
/// When the account has no `AWSAccount` (any more): then nobody can say who is admitted, and nothing may be taken for revoked.
fn contributions(context: &Context, repository: &Repository) -> Result<Vec<(GrantName, Contribution)>, Problem> {
    if context.directory.account(&repository.account).is_none() {
        return Err(no_account(&repository.account));
    }
    let of_account = |grant: &CrossAccountRegistryGrant| {
        grant.spec.registry.account_id == repository.account.as_str() && grant.meta().deletion_timestamp.is_none()
    };
    let mut grants = context.grants.state_filter(of_account);
    grants.sort_by_key(|grant| (grant.creation_timestamp(), grant.namespace(), grant.name_any()));
    let mut wanted = Vec::new();
    for grant in grants {
        // What has not been claimed yet is not written: if we stopped now, nobody would know where to take it back.
        let Some(claims) = context.ledger.claims(&grant) else { continue };
        if !claims.covers(&repository.region, &repository.name) {
            continue;
        }
        let name = GrantName { namespace: grant.namespace().unwrap_or_default(), name: grant.name_any() };
        match standing(&name, &grant.spec, Some(&claims), &context.directory, &context.installation) {
            Standing::Admitted(admitted) | Standing::Kept(admitted, _) => {
                let reached = admitted.reaches(&repository.region, &repository.name);
                let contribution = admitted.contribution(context.ledger.role_is_ours(&grant)).filter(|_| reached);
                wanted.extend(contribution.map(|contribution| (name, contribution)));
            }
            Standing::Unknown(_) if context.directory.account(&repository.account).is_none() => {
                return Err(no_account(&repository.account));
            }
            Standing::Unknown(_) | Standing::NotAdmitted(_) => {}
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[tokio::test]
    async fn many_who_wait_for_one_repository_are_served_by_few_passes() {
        let writers = Writers::default();
        let key = Repository { account: "111111111111".parse().unwrap(), region: "us-east-1".into(), name: "r".into() };
        let passes = AtomicUsize::new(0);
        let ask = || {
            writers.serve(&key, || async {
                passes.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(Written::NoRepository)
            })
        };
        let outcomes = futures::future::join_all((0..100).map(|_| ask())).await;
        assert!(outcomes.iter().all(|outcome| *outcome == Ok(Written::NoRepository)));
        assert!(passes.load(Ordering::SeqCst) <= 2, "{passes:?}");
    }

    #[tokio::test]
    async fn who_comes_later_is_not_served_by_what_was_read_before() {
        let writers = Writers::default();
        let key = Repository { account: "111111111111".parse().unwrap(), region: "us-east-1".into(), name: "r".into() };
        let passes = AtomicUsize::new(0);
        for _ in 0..3 {
            let pass = || async {
                passes.fetch_add(1, Ordering::SeqCst);
                Ok(Written::NoRepository)
            };
            writers.serve(&key, pass).await.unwrap();
        }
        assert_eq!(passes.load(Ordering::SeqCst), 3);
    }
}
