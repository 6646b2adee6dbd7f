//! Repositories whose policies somebody else keeps replacing, for the status of their `AWSAccount`.
//! The account's admin needs the Sids of foreign statements, and tenants must not see them.

use crate::api::account_status::{ContestedPolicy, MAX_CONTESTED_POLICIES, MAX_CONTESTED_SIDS};
use crate::controller::state::repository::RepositoryKey;
use crate::grant::AccountId;
use crate::grant::names::bounded;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// The maximum length of a reported Sid, in bytes.
const LONGEST_SID: usize = 100;

/// Contested repositories, by the findings of the last sync.
#[derive(Default)]
pub struct ContestedPolicies(Mutex<BTreeMap<RepositoryKey, Vec<String>>>);

impl ContestedPolicies {
    /// Notes the finding of a sync: the Sids of foreign statements if the policy is contested.
    /// Returns whether this is new.
    pub fn note(&self, repository: &RepositoryKey, foreign: Option<&BTreeSet<String>>) -> bool {
        let mut all = self.0.lock().expect("no panic while held");
        let Some(foreign) = foreign else {
            return all.remove(repository).is_some();
        };
        let sids = foreign
            .iter()
            .take(MAX_CONTESTED_SIDS)
            .map(|sid| bounded(sid.clone(), LONGEST_SID, 8))
            .collect();
        all.insert(repository.clone(), sids).as_ref() != all.get(repository)
    }

    /// Returns the contested policies of an account in the form of its status.
    pub fn of(&self, account: &AccountId) -> Vec<ContestedPolicy> {
        let all = self.0.lock().expect("no panic while held");
        let of_account = all
            .iter()
            .filter(|(repository, _)| repository.account == *account);
        let reported =
            of_account.map(
                |(RepositoryKey { region, name, .. }, sids)| ContestedPolicy {
                    region: region.clone(),
                    repository: name.clone(),
                    sids: sids.clone(),
                },
            );
        reported.take(MAX_CONTESTED_POLICIES).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(account: &str, name: &str) -> RepositoryKey {
        RepositoryKey {
            account: account.parse().unwrap(),
            region: "us-east-1".into(),
            name: name.into(),
        }
    }

    #[test]
    fn contested_policies_are_reported_per_account_and_limited() {
        let (contested, sids) = (
            ContestedPolicies::default(),
            BTreeSet::from(["a".to_owned(), "é".repeat(200)]),
        );
        let (one, other) = (
            repository("111111111111", "app"),
            repository("222222222222", "app"),
        );
        assert!(
            contested.note(&one, Some(&sids)) && !contested.note(&one, Some(&sids)),
            "the same is no news"
        );
        assert!(!contested.note(&other, None));
        let many: BTreeSet<String> = (0..1000).map(|number| number.to_string()).collect();
        let all_new = (0..1000).all(|number| {
            contested.note(
                &repository("333333333333", &number.to_string()),
                Some(&many),
            )
        });
        assert!(all_new);
        let reported = contested.of(&one.account);
        assert!(
            reported.len() == 1
                && reported[0].sids[0] == "a"
                && reported[0].sids[1].len() <= LONGEST_SID,
            "{reported:?}"
        );
        assert!(contested.of(&other.account).is_empty());
        let reported = contested.of(&"333333333333".parse().unwrap());
        assert!(
            reported.len() == MAX_CONTESTED_POLICIES
                && reported
                    .iter()
                    .all(|reported| reported.sids.len() == MAX_CONTESTED_SIDS)
        );
        assert!(contested.note(&one, None) && contested.of(&one.account).is_empty());
    }
}
