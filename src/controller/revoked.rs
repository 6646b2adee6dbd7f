//! The one place that says when access is revoked in a repository's policy: when the document read back contains nothing that no live grant
//! asks for, never merely because a call succeeded.

use super::repositories::{Look, Outcome, Repository, Written, bring_up_to_date, planned};
use super::{World, wanted};
use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::grant::{GrantName, Problem};
use crate::policy::carried::beyond;
use crate::policy::repository::Wanted;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// How often the policy is written and read back at once before the rest waits for the next reconciliation.
const ATTEMPTS: usize = 3;
/// How many of the accesses that are left are told.
const TOLD: usize = 3;

/// The read-backs that are under way. A hundred grants on one repository that go at once share a few.
#[derive(Default)]
pub struct ReadBacks(Mutex<HashMap<Repository, Arc<Slot>>>);

/// One repository's read-backs. Who comes takes a ticket; a read that begins after a ticket was taken serves it.
#[derive(Default)]
struct Slot {
    tickets: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, Left)>>,
}

/// What was left, or why that could not be read.
type Left = Result<Vec<String>, Problem>;

impl ReadBacks {
    async fn share(&self, repository: &Repository, read: impl AsyncFnOnce() -> Left) -> Left {
        let slot = {
            let mut slots = self.0.lock().expect("no panic while held");
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            slots.entry(repository.clone()).or_default().clone()
        };
        let ticket = slot.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = slot.last.lock().await;
        if let Some((serves_to, left)) = last.as_ref().filter(|(serves_to, _)| *serves_to >= ticket) {
            tracing::trace!(ticket, serves_to, "served by another read");
            return left.clone();
        }
        let serves_to = slot.tickets.load(Ordering::SeqCst);
        let left = read().await;
        *last = Some((serves_to, left.clone()));
        left
    }
}

/// Takes out of a repository's policy what no live grant asks for. The content decides: where a call failed and the document holds nothing of that
/// kind all the same, it is done; where every call succeeded and the document still holds something, it is not.
///
/// # Errors
/// What is left, or why that could not be read.
pub async fn revoke(world: &World, account: &Account, repository: &Repository) -> Outcome {
    let mut written = bring_up_to_date(world, account, repository, Look::Now).await;
    for attempt in 1..=ATTEMPTS {
        if written == Ok(Written::NoRepository) {
            return written;
        }
        let read = async || left_in(world, account, repository).await;
        let left = match world.read_backs.share(repository, read).await {
            Ok(left) => left,
            Err(unread) => return Err(written.err().unwrap_or(unread)),
        };
        match (left.is_empty(), written) {
            (true, Ok(written)) => return Ok(written),
            (true, Err(_)) => return Ok(Written::UpToDate(Box::default())),
            (false, Err(problem)) => return Err(problem),
            (false, Ok(_)) if attempt == ATTEMPTS => return Err(still_there(repository, &left)),
            (false, Ok(_)) => written = bring_up_to_date(world, account, repository, Look::ReadBack).await,
        }
    }
    written
}

/// Reads a repository's policy, and returns what our statements in it allow beyond what the grants on record ask for.
async fn left_in(world: &World, account: &Account, repository: &Repository) -> Left {
    let _turn = world.turn().await;
    let text = match account.repository_policy(&repository.region, &repository.name).await? {
        PolicyRead::NoRepository | PolicyRead::NoPolicy => return Ok(Vec::new()),
        PolicyRead::Policy(text) => text,
    };
    // Taken after the read, so that a grant which came meanwhile is counted.
    let grants = wanted::on_record(world, repository)?;
    let plan = planned(world, repository, Some(&text), &grants)?;
    if plan.found.are_all_in(&plan.wanted) {
        return Ok(Vec::new());
    }
    let asked = grants.into_iter().flat_map(|Wanted { contributions, if_there, .. }: Wanted<GrantName>| {
        contributions.into_iter().chain(if_there)
    });
    let asked: Vec<_> = asked.collect();
    Ok(plan.current.iter().flat_map(|document| beyond(document, &asked, &world.installation)).collect())
}

fn still_there(repository: &Repository, left: &[String]) -> Problem {
    let more = if left.len() > TOLD { format!(", and {} more", left.len() - TOLD) } else { String::new() };
    let some = left.iter().take(TOLD).cloned().collect::<Vec<_>>().join("; ");
    Problem::new(
        Reason::Settling,
        format!(
            "the policy of {repository} was written and read back, and still allows what no grant asks for: {some}{more}. It is written again; if this lasts, find who calls ecr:SetRepositoryPolicy there in CloudTrail"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn key() -> Repository {
        Repository { account: "111111111111".parse().unwrap(), region: "us-east-1".into(), name: "r".into() }
    }

    async fn read(read_backs: &ReadBacks, reads: &AtomicUsize) -> Left {
        let read = async || {
            reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Vec::new())
        };
        read_backs.share(&key(), read).await
    }

    #[tokio::test]
    async fn many_that_go_at_once_share_few_read_backs_and_none_is_served_by_one_that_began_before_it() {
        let (read_backs, reads) = (ReadBacks::default(), AtomicUsize::new(0));
        futures::future::join_all((0..100).map(|_| read(&read_backs, &reads))).await;
        assert!(reads.load(Ordering::SeqCst) <= 2, "{reads:?}");
        let before = reads.load(Ordering::SeqCst);
        for _ in 0..3 {
            read(&read_backs, &reads).await.unwrap();
        }
        assert_eq!(reads.load(Ordering::SeqCst), before + 3);
    }
}
