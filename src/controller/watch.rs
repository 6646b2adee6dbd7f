//! Watching resources of ours so that one which cannot be understood (stored under another version's definition, say) stops no other.

use super::events::Events;
use futures::{Stream, StreamExt};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

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

/// Lists in one page: the cache is replaced when the list has ended, so that what an earlier page had already announced would be
/// looked up in vain, or found as it was before.
pub fn whole_list() -> watcher::Config {
    watcher::Config { page_size: None, ..watcher::Config::default() }
}

/// Without what nobody here reads, and which can be larger than all the rest.
fn slim<K: Resource>(mut object: K) -> K {
    object.meta_mut().managed_fields = None;
    object
}
