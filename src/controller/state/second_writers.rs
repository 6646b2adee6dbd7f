//! Sightings of another writer with this installation's ID, and the access in each policy that is
//! known to be this process' own. `second_writer` decides what they mean.

use crate::api::account_status::SecondWriter;
use crate::grant::AccountId;
use crate::grant::ownership::Owner;
use crate::policy::dead_ids::is_unique_id;
use crate::policy::repository::Contribution;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// How far back sightings count.
const WINDOW: Duration = Duration::from_secs(3600);
/// The number of sightings within that time that are proof. A single one may be a late write by a
/// tool that had read the policy earlier.
const PROOF: usize = 2;

/// The number of entries that are kept for one policy: many times what fits into it. Beyond that
/// the process starts over for this policy, as after a restart, so that endless edits of a grant do
/// not fill the memory.
const MOST_KNOWN: usize = 5_000;

/// Sightings of another writer in each account.
#[derive(Default)]
pub struct SecondWriters(Mutex<HashMap<AccountId, Account>>);

#[derive(Default)]
struct Account {
    sightings: VecDeque<(Instant, String)>,
    proven: Option<SecondWriter>,
    /// The grant's UID in the tags of each role when this process applied the role last.
    tagged: HashMap<String, String>,
}

impl SecondWriters {
    /// Notes a sighting. Returns the proof if this sighting completes it. `time` is the time of
    /// day.
    pub fn sighted(
        &self,
        account: &AccountId,
        what: String,
        now: Instant,
        time: Timestamp,
    ) -> Option<SecondWriter> {
        let mut accounts = self.0.lock().expect("no panic while held");
        let account = accounts.entry(account.clone()).or_default();
        account
            .sightings
            .retain(|(at, _)| now.duration_since(*at) < WINDOW);
        account.sightings.push_back((now, what));
        if account.proven.is_some() || account.sightings.len() < PROOF {
            return None;
        }
        let evidence = account.sightings.drain(..).map(|(_, what)| what).collect();
        account.proven = Some(SecondWriter {
            since: Time(time),
            evidence,
        });
        account.proven.clone()
    }

    /// Returns the proof that was completed in this term.
    pub fn proven(&self, account: &AccountId) -> Option<SecondWriter> {
        self.0
            .lock()
            .expect("no panic while held")
            .get(account)?
            .proven
            .clone()
    }

    /// Forgets the sightings and the proof of an account.
    pub fn forget(&self, account: &AccountId) {
        if let Some(account) = self.0.lock().expect("no panic while held").get_mut(account) {
            account.sightings.clear();
            account.proven = None;
        }
    }

    /// Notes that a role has this owner's tags.
    pub fn note_tags(&self, account: &AccountId, role: &str, owner: &Owner) {
        let mut accounts = self.0.lock().expect("no panic while held");
        accounts
            .entry(account.clone())
            .or_default()
            .tagged
            .insert(role.to_owned(), owner.uid.clone());
    }

    /// Forgets the roles of a grant that is gone.
    pub fn forget_tags(&self, uid: &str) {
        for account in self.0.lock().expect("no panic while held").values_mut() {
            account.tagged.retain(|_, tagged_for| tagged_for != uid);
        }
    }

    /// Returns whether the role had the tags of exactly this owner when it was applied last.
    pub fn had_tags_of(&self, account: &AccountId, role: &str, owner: &Owner) -> bool {
        let accounts = self.0.lock().expect("no panic while held");
        accounts
            .get(account)
            .and_then(|account| account.tagged.get(role))
            .is_some_and(|uid| *uid == owner.uid)
    }
}

/// Access in a repository policy that is known to be this process' own: access that it has written,
/// and access that it found at its first sync.
#[derive(Default)]
pub struct OwnAccess {
    /// Hashes, because there may be hundreds of grants on each of thousands of repositories.
    known: HashSet<u64>,
    /// Whether our statements were as desired after the last sync.
    settled: bool,
    /// Whether the last sync found access of another writer. It counts once, until it is gone.
    sighted: bool,
}

impl OwnAccess {
    /// Returns the part of this access that is not this process' own. `None`: nothing can be said,
    /// because this process has not completed a sync of the policy since the start.
    pub fn strange(&self, held: Vec<Contribution>) -> Option<Vec<Contribution>> {
        self.settled.then(|| {
            singles(held)
                .filter(|single| !self.known.contains(&hash(single)))
                .collect()
        })
    }

    /// Notes access that was there before the first sync: it is not another operator's doing.
    pub fn begin(&mut self, found: Vec<Contribution>) {
        if !self.settled {
            self.known
                .extend(singles(found).map(|single| hash(&single)));
        }
    }

    /// Notes that our statements are now as desired.
    pub fn settle(&mut self, left: Vec<Contribution>) {
        self.write(left);
        (self.settled, self.sighted) = (true, false);
    }

    /// Notes access that is about to be written.
    pub fn write(&mut self, held: Vec<Contribution>) {
        if self.known.len() > MOST_KNOWN {
            (self.known, self.settled) = (HashSet::new(), false);
        }
        self.known.extend(singles(held).map(|single| hash(&single)));
    }

    /// Returns whether there is access of another writer that the last sync did not find.
    pub fn sights(&mut self, held: Vec<Contribution>) -> bool {
        let strange = self
            .strange(held)
            .is_some_and(|strange| !strange.is_empty());
        strange && !std::mem::replace(&mut self.sighted, true)
    }
}

fn singles(held: Vec<Contribution>) -> impl Iterator<Item = Contribution> {
    // A unique ID shows that a principal was deleted: AWS has put it there.
    let is_dead = |one: &Contribution| {
        one.callers
            .principals()
            .iter()
            .any(|name| is_unique_id(name))
    };
    held.into_iter()
        .flat_map(|held| held.each())
        .filter(move |one| !is_dead(one))
}

fn hash(Contribution { actions, callers }: &Contribution) -> u64 {
    let mut hasher = DefaultHasher::new();
    (actions, callers.to_string()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;

    fn account() -> AccountId {
        "111111111111".parse().unwrap()
    }

    fn held(accounts: &[u64]) -> Vec<Contribution> {
        let arns = accounts
            .iter()
            .map(|number| format!("arn:aws:iam::{:012}:root", 100_000_000_000 + number));
        vec![Contribution {
            actions: ["ecr:BatchGetImage".to_owned()].into(),
            callers: PrincipalSet::named(arns),
        }]
    }

    #[test]
    fn access_is_foreign_only_if_new_after_a_complete_sync() {
        let mut own = OwnAccess::default();
        own.begin(held(&[1]));
        assert_eq!(
            own.strange(held(&[1, 3])),
            None,
            "it may have been there before the start"
        );
        own.settle(held(&[2]));
        for known in [held(&[1]), held(&[2]), held(&[1, 2]), Vec::new()] {
            assert_eq!(own.strange(known), Some(Vec::new()));
        }
        assert_eq!(own.strange(held(&[2, 3])), Some(held(&[3])));
        let mut pushes = held(&[1]);
        pushes[0].actions.insert("ecr:PutImage".to_owned());
        assert_eq!(
            own.strange(pushes.clone()),
            Some(pushes),
            "the same caller may do more"
        );
        let mut deleted = held(&[1]);
        deleted[0].callers = PrincipalSet::named(["AROAEXAMPLEEXAMPLE123".to_owned()]);
        assert_eq!(
            own.strange(deleted),
            Some(Vec::new()),
            "AWS puts a unique ID where a role was deleted"
        );
        own.write(held(&[4]));
        assert_eq!(
            own.strange(held(&[4])),
            Some(Vec::new()),
            "the answer to our own write may be lost"
        );
    }

    #[test]
    fn endless_changes_do_not_fill_the_memory() {
        let mut own = OwnAccess::default();
        (0..3 * MOST_KNOWN as u64).for_each(|number| own.write(held(&[number])));
        assert!(own.known.len() <= MOST_KNOWN + 1);
    }

    #[test]
    fn foreign_access_counts_once_until_it_was_gone() {
        let mut own = OwnAccess::default();
        own.settle(held(&[1]));
        assert!(own.sights(held(&[1, 2])) && !own.sights(held(&[1, 2])));
        own.settle(held(&[1]));
        assert!(own.sights(held(&[1, 2])));
    }

    #[test]
    fn two_sightings_within_an_hour_are_proof() {
        let (seen, start) = (SecondWriters::default(), Instant::now());
        assert_eq!(
            seen.sighted(&account(), "a".into(), start, Timestamp::UNIX_EPOCH),
            None
        );
        assert_eq!(
            seen.sighted(
                &account(),
                "b".into(),
                start + WINDOW,
                Timestamp::UNIX_EPOCH
            ),
            None,
            "the first is too old"
        );
        let proven = seen
            .sighted(
                &account(),
                "c".into(),
                start + WINDOW * 3 / 2,
                Timestamp::UNIX_EPOCH,
            )
            .unwrap();
        assert_eq!(proven.evidence, ["b", "c"]);
        assert_eq!(seen.proven(&account()), Some(proven));
        assert_eq!(seen.proven(&"222222222222".parse().unwrap()), None);
        seen.forget(&account());
        assert_eq!(seen.proven(&account()), None);
    }

    #[test]
    fn role_tagged_for_this_grant_is_known() {
        let seen = SecondWriters::default();
        let owner = |uid: &str| Owner {
            installation: "0123456789ab".parse().unwrap(),
            grant: crate::grant::GrantName {
                namespace: "team".into(),
                name: "web".into(),
            },
            uid: uid.into(),
        };
        assert!(!seen.had_tags_of(&account(), "pusher", &owner("1")));
        seen.note_tags(&account(), "pusher", &owner("1"));
        assert!(seen.had_tags_of(&account(), "pusher", &owner("1")));
        // After a recreation under the same name, the tags of the previous grant are expected.
        assert!(!seen.had_tags_of(&account(), "pusher", &owner("2")));
    }
}
