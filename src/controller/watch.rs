//! Watching resources of ours so that one which cannot be understood (stored under another version's definition, say) stops no other.

use super::events::Events;
use crate::telemetry::health::Readiness;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// A watch of all resources of a kind. What cannot be understood is told to people and left out; a deletion is marked as one.
pub fn readable<K>(client: Client, events: Events) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let watch = watcher::watcher(Api::<DeserializeGuard<K>>::all(client), whole_list());
    watch.filter_map(move |event| {
        let events = events.clone();
        async move {
            let understood = match event {
                Ok(Event::Apply(DeserializeGuard(object))) => object.map(slim).map(Event::Apply),
                Ok(Event::InitApply(DeserializeGuard(object))) => object.map(slim).map(Event::InitApply),
                Ok(Event::Delete(DeserializeGuard(object))) => object.map(|mut object| {
                    object.meta_mut().deletion_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
                    Event::Delete(object)
                }),
                Ok(Event::Init) => Ok(Event::Init),
                Ok(Event::InitDone) => Ok(Event::InitDone),
                Err(error) => return Some(Err(error)),
            };
            match understood {
                Ok(event) => Some(Ok(event)),
                Err(invalid) => {
                    events.not_understood::<K>(&invalid).await;
                    None
                }
            }
        }
    })
}

/// How long the API server lets a watch go on before it is begun again. A connection that died without a word is noticed a few seconds later than this.
const WATCH_FOR: Duration = Duration::from_secs(90);

/// For how long a connection to the API server may be silent: longer than a watch goes on.
pub const SILENT_AT_MOST: Duration = Duration::from_secs(110);

/// Takes note of a watch that works, or fails. That a list begins says nothing yet.
pub fn noted<K, S>(
    readiness: &Readiness,
    connection: &'static str,
    events: S,
) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K, S>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let readiness = readiness.clone();
    events.inspect(move |event| match event {
        Ok(Event::Init) => {}
        Ok(_) => readiness.works(connection),
        Err(error) => readiness.fails(connection, &error.to_string()),
    })
}

/// Lists in one page: the cache is replaced when the list has ended, so that what an earlier page had already announced would be
/// looked up in vain, or found as it was before.
pub fn whole_list() -> watcher::Config {
    let timeout = u32::try_from(WATCH_FOR.as_secs()).ok();
    watcher::Config { page_size: None, timeout, ..watcher::Config::default() }
}

/// Without what nobody here reads, and which can be larger than all the rest.
fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_died_without_a_word_is_noticed_within_two_minutes() {
        // kube waits five seconds longer than the watch was asked for.
        let idle = Duration::from_secs(whole_list().timeout.unwrap_or(290).into()) + Duration::from_secs(5);
        assert!(idle < Duration::from_secs(120), "{idle:?}");
        assert!(SILENT_AT_MOST > idle && SILENT_AT_MOST < Duration::from_secs(120));
    }
}
