//! Shares the reads of repository policies that prove revocations.

use crate::controller::state::repository::RepositoryKey;
use crate::grant::Problem;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// Read-backs that are in progress. A hundred grants on one repository that are revoked at once
/// share a few.
#[derive(Default)]
pub struct ReadBacks(Mutex<HashMap<RepositoryKey, Arc<Slot>>>);

/// Read-backs of one repository. Each caller takes a ticket, and a read that begins after a ticket
/// was taken serves it.
#[derive(Default)]
struct Slot {
    tickets: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, Left)>>,
}

/// Remaining access, or the reason why it could not be read.
pub type Left = Result<Vec<String>, Problem>;

impl ReadBacks {
    /// Reads with `read`, or returns the result of a read that began after this call.
    pub async fn share(
        &self,
        repository: &RepositoryKey,
        read: impl AsyncFnOnce() -> Left,
    ) -> Left {
        let slot = {
            let mut slots = self.0.lock().expect("no panic while held");
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
            slots.entry(repository.clone()).or_default().clone()
        };
        let ticket = slot.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut last = slot.last.lock().await;
        if let Some((serves_to, left)) = last.as_ref().filter(|(serves_to, _)| *serves_to >= ticket)
        {
            tracing::trace!(ticket, serves_to, "served by another read");
            return left.clone();
        }
        let serves_to = slot.tickets.load(Ordering::SeqCst);
        let left = read().await;
        *last = Some((serves_to, left.clone()));
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    async fn read(read_backs: &ReadBacks, reads: &AtomicUsize) -> Left {
        let read = async || {
            reads.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            Ok(Vec::new())
        };
        read_backs.share(&RepositoryKey::example(), read).await
    }

    #[tokio::test]
    async fn simultaneous_revocations_share_only_later_read_backs() {
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
