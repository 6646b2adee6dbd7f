//! Reads repository policies again from which access was revoked lately. Somebody who had read such
//! a policy before may write it back as it was, and no grant reads it any more. So the operator
//! reads it again for an hour. The places are recorded in the status of the `AWSAccount`, so that a
//! restart does not end this.

use crate::api::AWSAccount;
use crate::api::account_status::{MAX_RECENTLY_REVOKED, REVOKED_FIELD_MANAGER, RecentlyRevoked};
use crate::controller::Context;
use crate::controller::context::Cluster;
use crate::controller::patch;
use crate::controller::state::recent::Revoked;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::partition::is_region;
use crate::grant::{AccountId, AccountLookup, RepositoryPattern};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Api;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a revoked place is read again.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(1);
/// A place that was recorded so recently is not recorded again, so that many simultaneous deletions
/// need few writes.
const JUST_NOW: SignedDuration = SignedDuration::from_mins(1);

/// Records revoked places. Call it before the claims on them are removed.
///
/// # Errors
/// When the status could not be written.
pub async fn record(context: &Context, places: &[Revoked]) -> Result<(), kube::Error> {
    let mut accounts: BTreeMap<&AccountId, Vec<&Revoked>> = BTreeMap::new();
    for place in places {
        accounts
            .entry(&place.repository.account)
            .or_default()
            .push(place);
    }
    for (id, places) in accounts {
        // Without its `AWSAccount`, nothing could be read there after a restart either.
        let Some(account) = context.cluster.watch_caches.account(id) else {
            continue;
        };
        let known = context.cluster.recent.record(id);
        let mut known = known.lock().await;
        let before = known.get_or_insert_with(|| on_record(&account));
        let Some(after) = noted(before, &places, context.cluster.clock.now()) else {
            continue;
        };
        let api = Api::all(context.runtime.client.clone());
        patch::status_part(
            REVOKED_FIELD_MANAGER,
            patch::permitted(&context.runtime.leadership)?,
            api,
            &*account,
            &json!({ "recentlyRevoked": after }),
        )
        .await?;
        *before = after;
    }
    Ok(())
}

/// Returns whether access was revoked in a repository policy within the last hour.
pub fn is_on_record(cluster: &Cluster, repository: &RepositoryKey) -> bool {
    let RepositoryKey {
        account,
        region,
        name,
    } = repository;
    let now = cluster.clock.now();
    let is_it = |entry: &RecentlyRevoked| {
        entry.region == *region
            && entry.repository == *name
            && now.duration_since(entry.time.0) < KEPT_FOR
    };
    let known = cluster.recent.known(account);
    // While a write holds the lock, the watch cache has to do.
    let ahead = known.and_then(|known| {
        known
            .try_lock()
            .ok()
            .and_then(|known| known.as_ref().map(|all| all.iter().any(is_it)))
    });
    ahead.unwrap_or_else(|| {
        cluster
            .watch_caches
            .account(account)
            .is_some_and(|account| on_record(&account).iter().any(is_it))
    })
}

fn on_record(account: &AWSAccount) -> Vec<RecentlyRevoked> {
    account
        .status
        .as_ref()
        .map(|status| status.recently_revoked.clone())
        .unwrap_or_default()
}

/// Returns the record with these places added, the latest first, without entries that are older
/// than an hour. `None`: it need not be written.
fn noted(
    before: &[RecentlyRevoked],
    places: &[&Revoked],
    now: Timestamp,
) -> Option<Vec<RecentlyRevoked>> {
    let age = |entry: &RecentlyRevoked| now.duration_since(entry.time.0);
    let is_at = |entry: &RecentlyRevoked, place: &Revoked| {
        entry.region == place.repository.region && entry.repository == place.repository.name
    };
    let is_new = |place: &&&Revoked| {
        let known = before
            .iter()
            .find(|entry| is_at(entry, place))
            .map(age)
            .filter(|age| *age < KEPT_FOR);
        known.is_none_or(|age| place.changed && age >= JUST_NOW)
    };
    let new: Vec<&&Revoked> = places.iter().filter(is_new).collect();
    if new.is_empty() {
        return None;
    }
    let kept = before
        .iter()
        .filter(|entry| age(entry) < KEPT_FOR && !new.iter().any(|place| is_at(entry, place)));
    let added = new.iter().map(|place| RecentlyRevoked {
        region: place.repository.region.clone(),
        repository: place.repository.name.clone(),
        time: Time(now),
    });
    let mut after: Vec<RecentlyRevoked> = added.chain(kept.cloned()).collect();
    after.sort_by_key(|entry| std::cmp::Reverse(entry.time.0));
    after.dedup_by(|one, other| one.region == other.region && one.repository == other.repository);
    after.truncate(MAX_RECENTLY_REVOKED);
    Some(after)
}

/// Returns the recorded places of an account that are not older than an hour, with their age.
pub fn recorded_places(
    id: &AccountId,
    account: &AWSAccount,
    now: Timestamp,
) -> Vec<(RepositoryKey, Duration)> {
    let place = |RecentlyRevoked {
                     region,
                     repository,
                     time,
                 }: RecentlyRevoked| {
        let age = now.duration_since(time.0);
        // A clock that was set back yields no negative age.
        let age = Duration::try_from(age).unwrap_or_default();
        (
            RepositoryKey {
                account: id.clone(),
                region,
                name: repository,
            },
            age,
        )
    };
    // Others can write a status, too: an entry that is not a place is not read.
    let is_place = |entry: &RecentlyRevoked| {
        is_region(&entry.region)
            && matches!(
                RepositoryPattern::recorded(&entry.repository),
                Some(RepositoryPattern::Name(_))
            )
    };
    let recorded = on_record(account)
        .into_iter()
        .filter(is_place)
        .take(MAX_RECENTLY_REVOKED)
        .map(place);
    recorded
        .filter(|(_, age)| *age < KEPT_FOR.unsigned_abs())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, changed: bool) -> Revoked {
        let account = "111111111111".parse().unwrap();
        Revoked {
            repository: RepositoryKey {
                account,
                region: "us-east-1".into(),
                name: name.into(),
            },
            changed,
        }
    }

    fn names(record: &[RecentlyRevoked]) -> Vec<&str> {
        record
            .iter()
            .map(|entry| entry.repository.as_str())
            .collect()
    }

    fn later(now: Timestamp, minutes: i64) -> Timestamp {
        now + SignedDuration::from_mins(minutes)
    }

    #[test]
    fn revoked_place_is_recorded_for_an_hour() {
        let now = Timestamp::UNIX_EPOCH;
        let first = noted(&[], &[&at("a", true)], now).unwrap();
        assert_eq!(names(&first), ["a"]);
        let both = noted(&first, &[&at("b", false)], later(now, 59)).unwrap();
        assert_eq!(names(&both), ["b", "a"]);
        assert_eq!(
            names(&noted(&both, &[&at("c", true)], later(now, 60)).unwrap()),
            ["c", "b"]
        );
    }

    #[test]
    fn recorded_place_is_recorded_again_only_after_a_change() {
        let now = Timestamp::UNIX_EPOCH;
        let first = noted(&[], &[&at("a", true)], now).unwrap();
        assert_eq!(noted(&first, &[&at("a", true)], now), None, "a moment ago");
        assert_eq!(
            noted(&first, &[&at("a", false)], later(now, 30)),
            None,
            "nothing was changed"
        );
        let again = noted(&first, &[&at("a", true)], later(now, 30)).unwrap();
        assert_eq!(
            (names(&again), again[0].time.0),
            (vec!["a"], later(now, 30))
        );
    }

    #[test]
    fn record_is_limited_to_the_latest_places() {
        let now = Timestamp::UNIX_EPOCH;
        let old: Vec<Revoked> = (0..MAX_RECENTLY_REVOKED)
            .map(|n| at(&format!("old-{n}"), true))
            .collect();
        let full = noted(&[], &old.iter().collect::<Vec<_>>(), now).unwrap();
        let after = noted(&full, &[&at("new", true), &at("new", true)], later(now, 2)).unwrap();
        assert_eq!(after.len(), MAX_RECENTLY_REVOKED);
        assert_eq!(after[0].repository, "new");
        assert_eq!(
            after
                .iter()
                .filter(|entry| entry.repository == "new")
                .count(),
            1
        );
    }

    #[test]
    fn only_places_of_the_last_hour_are_read_after_a_start() {
        let (now, id) = (
            later(Timestamp::UNIX_EPOCH, 600),
            "111111111111".parse().unwrap(),
        );
        let entry = |name: &str, minutes: i64| RecentlyRevoked {
            region: "us-east-1".into(),
            repository: name.into(),
            time: Time(later(now, -minutes)),
        };
        let mut account = AWSAccount::new("111111111111", Default::default());
        let mut recently_revoked = vec![
            entry("now", 0),
            entry("hour", 60),
            entry("half", 30),
            entry("future", -30),
        ];
        recently_revoked.push(RecentlyRevoked {
            region: "x/../é".into(),
            ..entry("elsewhere", 0)
        });
        recently_revoked.push(entry("No repository/*", 0));
        account.status = Some(crate::api::account_status::AWSAccountStatus {
            recently_revoked,
            ..Default::default()
        });
        let places = recorded_places(&id, &account, now);
        let places: Vec<(&str, u64)> = places
            .iter()
            .map(|(place, age)| (place.name.as_str(), age.as_secs() / 60))
            .collect();
        assert_eq!(places, [("now", 0), ("half", 30), ("future", 0)]);
    }
}
