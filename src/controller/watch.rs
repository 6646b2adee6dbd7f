//! Watches of the resources that the operator reads. A resource that cannot be parsed (stored under
//! another version's CRD, for instance) does not stop the others. Only the fields that the operator
//! reads are kept, so that users who may write annotations cannot fill its memory.

use crate::api::ANNOTATIONS;
use crate::clock::WallClock;
use crate::controller::events::Events;
use crate::controller::stored::Stored;
use crate::grant::names::bounded;
use crate::telemetry::health::Readiness;
use futures::{Stream, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

/// The number of complete objects of a list that are in memory at a time.
const PAGE: u32 = 100;
/// The longest value of an annotation that is kept unchanged, in bytes.
const LONGEST_VALUE: usize = 256;

/// Watches all resources of a kind. Those that cannot be parsed are reported and left out. Deleted
/// objects are marked as deleted.
pub fn readable<K>(
    client: Client,
    events: Events,
    clock: WallClock,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    readable_noting(client, events, clock, |_| {})
}

/// Watches like `readable`, and passes each event to `note` before unreadable resources are left
/// out.
pub fn readable_noting<K>(
    client: Client,
    events: Events,
    clock: WallClock,
    note: impl Fn(&Event<Stored<K>>) + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let watch = watcher::watcher(Api::<Stored<K>>::all(client), in_pages());
    let watch = watch.inspect(move |event| event.iter().for_each(&note));
    let understood = watch.filter_map(move |event| {
        let events = events.clone();
        let clock = clock.clone();
        async move {
            let understood = match event {
                Ok(Event::Apply(Stored(object))) => object.map(Event::Apply),
                Ok(Event::InitApply(Stored(object))) => object.map(Event::InitApply),
                Ok(Event::Delete(Stored(object))) => object.map(|mut object| {
                    object
                        .meta_mut()
                        .deletion_timestamp
                        .get_or_insert_with(|| Time(clock.now()));
                    Event::Delete(object)
                }),
                Ok(Event::Init) => Ok(Event::Init),
                Ok(Event::InitDone) => Ok(Event::InitDone),
                Err(error) => return Some(Err(error)),
            };
            match understood {
                Ok(event) => Some(Ok(slim(event, |meta| ObjectMeta {
                    annotations: used(meta.annotations.take()),
                    ..without_texts(meta)
                }))),
                Err(invalid) => {
                    events.not_understood::<K>(&invalid).await;
                    None
                }
            }
        }
    });
    whole_lists(understood)
}

/// Watches the labels of all namespaces.
pub fn namespaces(
    client: Client,
) -> impl Stream<Item = watcher::Result<Event<PartialObjectMeta<Namespace>>>> + Send + 'static {
    let watch = watcher::watcher(
        Api::<Stored<PartialObjectMeta<Namespace>>>::all(client),
        in_pages(),
    );
    let labels_alone = |meta: &mut ObjectMeta| ObjectMeta {
        labels: meta.labels.take(),
        ..without_texts(meta)
    };
    let understood = watch.filter_map(move |event| {
        let understood = match event {
            Ok(Event::Apply(Stored(namespace))) => namespace.map(Event::Apply),
            Ok(Event::InitApply(Stored(namespace))) => namespace.map(Event::InitApply),
            Ok(Event::Delete(Stored(namespace))) => namespace.map(Event::Delete),
            Ok(Event::Init) => Ok(Event::Init),
            Ok(Event::InitDone) => Ok(Event::InitDone),
            Err(error) => return std::future::ready(Some(Err(error))),
        };
        let understood = understood.inspect_err(|invalid| {
            tracing::error!(
                namespace = invalid.metadata.name,
                "failed to parse a namespace, ignoring this version of it: {invalid}"
            );
        });
        std::future::ready(understood.ok().map(|event| Ok(slim(event, labels_alone))))
    });
    whole_lists(understood)
}

/// How long the API server lets a watch run before it is started again. A connection that died
/// silently is noticed a few seconds later than this.
const WATCH_FOR: Duration = Duration::from_secs(90);

/// How long a connection to the API server may be silent: longer than a watch runs.
pub const SILENT_AT_MOST: Duration = Duration::from_secs(110);

/// Notes whether a watch works or fails. The beginning of a list proves nothing yet.
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

fn in_pages() -> watcher::Config {
    let timeout = u32::try_from(WATCH_FOR.as_secs()).ok();
    watcher::Config {
        page_size: Some(PAGE),
        timeout,
        ..watcher::Config::default()
    }
}

/// Holds a list back until its last page has arrived. The cache is replaced when the list has
/// ended. Until then, an object that an earlier page announced would be missing in the cache, or
/// there in its previous version.
fn whole_lists<K: Send + 'static>(
    watch: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static {
    let released = watch.scan(Vec::new(), |held, event| {
        let released = match event {
            Ok(event) => released(held, event).into_iter().map(Ok).collect(),
            // The list starts again.
            Err(error) => vec![Err(error)],
        };
        std::future::ready(Some(futures::stream::iter(released)))
    });
    released.flatten()
}

/// Returns the events that may be passed on after this one, with those that were held back.
fn released<K>(held: &mut Vec<Event<K>>, event: Event<K>) -> Vec<Event<K>> {
    match event {
        Event::Init => {
            *held = vec![Event::Init];
            Vec::new()
        }
        Event::InitApply(_) => {
            held.push(event);
            Vec::new()
        }
        Event::InitDone => {
            let mut list = std::mem::take(held);
            list.push(Event::InitDone);
            list
        }
        Event::Apply(_) | Event::Delete(_) => vec![event],
    }
}

/// Replaces the metadata of the event's object.
fn slim<K: Resource>(event: Event<K>, keep: impl Fn(&mut ObjectMeta) -> ObjectMeta) -> Event<K> {
    let slim = |mut object: K| {
        let kept = keep(object.meta_mut());
        *object.meta_mut() = kept;
        object
    };
    match event {
        Event::Apply(object) => Event::Apply(slim(object)),
        Event::InitApply(object) => Event::InitApply(slim(object)),
        Event::Delete(object) => Event::Delete(slim(object)),
        Event::Init => Event::Init,
        Event::InitDone => Event::InitDone,
    }
}

/// Returns the metadata without the fields that others may fill with texts of any length.
fn without_texts(meta: &mut ObjectMeta) -> ObjectMeta {
    let ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        finalizers,
        annotations: _,
        deletion_grace_period_seconds: _,
        generate_name: _,
        labels: _,
        managed_fields: _,
        owner_references: _,
        self_link: _,
    } = std::mem::take(meta);
    ObjectMeta {
        name,
        namespace,
        uid,
        resource_version,
        generation,
        creation_timestamp,
        deletion_timestamp,
        finalizers,
        ..ObjectMeta::default()
    }
}

/// Returns the annotations that the operator reads. Long values are only compared, so a part of
/// each and its hash are kept.
fn used(annotations: Option<BTreeMap<String, String>>) -> Option<BTreeMap<String, String>> {
    let annotations = annotations.unwrap_or_default().into_iter();
    let used: BTreeMap<String, String> = annotations
        .filter(|(key, _)| ANNOTATIONS.contains(&key.as_str()))
        .map(|(key, value)| (key, bounded(value, LONGEST_VALUE, 32)))
        .collect();
    (!used.is_empty()).then_some(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{AWSAccount, CrossAccountRegistryGrant, RECONCILE};
    use kube::ResourceExt;
    use serde_json::json;

    const HOSTILE: usize = 200_000;

    fn hostile<K: DeserializeOwned>(spec: &serde_json::Value, kind: &str) -> K {
        let long = "x".repeat(HOSTILE);
        serde_json::from_value(json!({
            "apiVersion": "registrygrants.dev/v1alpha1",
            "kind": kind,
            "metadata": {
                "name": "web", "namespace": "team-b", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "finalizers": ["registrygrants.dev/revoke"],
                "annotations": {"foreign": long, "registrygrants.dev/foreign": long, RECONCILE: long, "registrygrants.dev/abandon": "true"},
                "labels": {"foreign": long},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": long, "uid": "o"}],
                "managedFields": [{"manager": long}],
            },
            "spec": spec,
        }))
        .unwrap()
    }

    fn kept<K: Resource>(object: K) -> K {
        let keep = |meta: &mut ObjectMeta| ObjectMeta {
            annotations: used(meta.annotations.take()),
            ..without_texts(meta)
        };
        match slim(Event::Apply(object), keep) {
            Event::Apply(object) => object,
            _ => unreachable!("it was an Apply"),
        }
    }

    #[test]
    fn only_metadata_that_the_operator_reads_is_kept() {
        let spec = json!({
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        });
        let grant = kept(hostile::<CrossAccountRegistryGrant>(
            &spec,
            "CrossAccountRegistryGrant",
        ));
        assert!(serde_json::to_string(&grant).unwrap().len() < 2_000);
        assert_eq!(
            (grant.name_any(), grant.namespace(), grant.uid()),
            ("web".into(), Some("team-b".into()), Some("u".into()))
        );
        assert_eq!(
            (grant.metadata.generation, grant.resource_version()),
            (Some(3), Some("7".into()))
        );
        assert!(grant.creation_timestamp().is_some());
        assert_eq!(grant.finalizers(), ["registrygrants.dev/revoke"]);
        assert_eq!(grant.annotations()["registrygrants.dev/abandon"], "true");
        assert_eq!(grant.annotations().len(), 2);
        let account = kept(hostile::<AWSAccount>(&json!({}), "AWSAccount"));
        assert!(serde_json::to_string(&account).unwrap().len() < 2_000);
    }

    #[test]
    fn long_values_of_annotations_stay_distinct() {
        let value = |end: &str| {
            let annotations = BTreeMap::from([(
                RECONCILE.to_owned(),
                format!("{}{end}", "é".repeat(HOSTILE)),
            )]);
            used(Some(annotations)).unwrap().remove(RECONCILE).unwrap()
        };
        assert!(
            value("a") != value("b")
                && value("a") == value("a")
                && value("a").len() <= LONGEST_VALUE
        );
        let short = BTreeMap::from([(RECONCILE.to_owned(), "2026-11-26T00:00:00Z".to_owned())]);
        assert_eq!(used(Some(short.clone())), Some(short));
        assert_eq!(
            used(Some(BTreeMap::from([(
                "foreign".to_owned(),
                String::new()
            )]))),
            None
        );
    }

    #[test]
    #[ignore = "a measurement: cargo test --lib -- --ignored --nocapture hostile_annotations"]
    fn memory_of_400_grants_with_hostile_annotations() {
        let resident = || {
            let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
            pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let spec = json!({
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        });
        let grant = || {
            kept(hostile::<CrossAccountRegistryGrant>(
                &spec,
                "CrossAccountRegistryGrant",
            ))
        };
        drop(grant());
        let before = resident();
        let grants: Vec<CrossAccountRegistryGrant> = (0..400).map(|_| grant()).collect();
        eprintln!(
            "{} kB for {} grants",
            (resident() - before) / 1000,
            grants.len()
        );
    }

    #[test]
    fn list_is_passed_on_when_complete() {
        let mut held = Vec::new();
        let mut passed = |event: Event<u8>| -> Vec<String> {
            released(&mut held, event)
                .into_iter()
                .map(|event| format!("{event:?}"))
                .collect()
        };
        assert!(passed(Event::Init).is_empty() && passed(Event::InitApply(1)).is_empty());
        // The list failed, and starts again.
        assert!(passed(Event::Init).is_empty());
        assert!(passed(Event::InitApply(2)).is_empty() && passed(Event::InitApply(3)).is_empty());
        assert_eq!(
            passed(Event::InitDone),
            ["Init", "InitApply(2)", "InitApply(3)", "InitDone"]
        );
        assert_eq!(passed(Event::Apply(4)), ["Apply(4)"]);
        assert_eq!(passed(Event::Delete(4)), ["Delete(4)"]);
    }

    #[test]
    fn silently_broken_connection_is_noticed_within_two_minutes() {
        // kube waits five seconds longer than the requested duration of the watch.
        let idle =
            Duration::from_secs(in_pages().timeout.unwrap_or(290).into()) + Duration::from_secs(5);
        assert!(idle < Duration::from_secs(120), "{idle:?}");
        assert!(SILENT_AT_MOST > idle && SILENT_AT_MOST < Duration::from_secs(120));
    }
}
