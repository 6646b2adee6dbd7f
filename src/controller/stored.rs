//! Objects as the API server stores them. All users who may write an object may write its
//! `managedFields`, too, with times and nesting that Go accepts and this operator's parsers do not.
//! The operator does not need these fields and skips them unread. An object that cannot be parsed
//! for another reason costs itself alone, never the list or the watch that contains it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;
use kube::core::error_boundary::InvalidObject;
use kube::core::{ObjectList, PartialObjectMeta, Request};
use kube::{Client, Resource};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// An object, or the error and the metadata of one that cannot be parsed.
#[derive(Clone, Debug)]
pub struct Stored<K>(pub Result<K, InvalidObject>);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Stored<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let whole = Value::Object(deserializer.deserialize_map(Fields { of_metadata: false })?);
        Ok(Self(match K::deserialize(&whole) {
            Ok(object) => Ok(object),
            Err(error) => {
                let metadata = ObjectMeta::deserialize(&whole["metadata"]);
                let metadata = metadata.unwrap_or_else(|_| names(&whole["metadata"]));
                Err(InvalidObject {
                    error: error.to_string(),
                    metadata,
                })
            }
        }))
    }
}

/// Returns the metadata that identifies an object.
fn names(metadata: &Value) -> ObjectMeta {
    let text = |key: &str| metadata[key].as_str().map(String::from);
    ObjectMeta {
        name: text("name"),
        namespace: text("namespace"),
        uid: text("uid"),
        resource_version: text("resourceVersion"),
        ..ObjectMeta::default()
    }
}

/// The fields of an object, or of its metadata, without `managedFields`.
struct Fields {
    of_metadata: bool,
}

impl<'de> Visitor<'de> for Fields {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.of_metadata {
            "an object's metadata"
        } else {
            "an object"
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.of_metadata && key == "managedFields" {
                // Skipped without recursion, however deep it is.
                map.next_value::<IgnoredAny>()?;
            } else if !self.of_metadata && key == "metadata" {
                let Metadata(metadata) = map.next_value()?;
                fields.insert(key, Value::Object(metadata));
            } else {
                fields.insert(key, map.next_value()?);
            }
        }
        Ok(fields)
    }
}

struct Metadata(Map<String, Value>);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(Fields { of_metadata: true })
            .map(Self)
    }
}

/// Lists the metadata of all objects of a kind.
///
/// # Errors
/// When the API server cannot be reached, or refuses.
pub async fn list_metadata<K>(client: &Client) -> Result<Vec<ObjectMeta>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug,
{
    let request = Request::new(K::url_path(&(), None)).list_metadata(&ListParams::default());
    let request = request.map_err(kube::Error::BuildRequest)?;
    let listed: ObjectList<Stored<PartialObjectMeta<K>>> = client.request(request).await?;
    Ok(listed
        .items
        .into_iter()
        .map(|object| object.meta().clone())
        .collect())
}

impl<K: Resource> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dt)
    }

    fn group(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dt)
    }

    fn version(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dt)
    }

    fn plural(dt: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dt)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0
            .as_ref()
            .map_or_else(|invalid| &invalid.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0
            .as_mut()
            .map_or_else(|invalid| &mut invalid.metadata, K::meta_mut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CrossAccountRegistryGrant;
    use kube::ResourceExt;
    use kube::core::WatchEvent;
    use serde_json::json;

    type Grant = Stored<CrossAccountRegistryGrant>;

    /// Returns a grant's text with these managed fields.
    fn grant(name: &str, managed_fields: &str) -> String {
        let spec = json!({
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        });
        format!(
            r#"{{"apiVersion":"registrygrants.dev/v1alpha1","kind":"CrossAccountRegistryGrant","metadata":{{"name":"{name}","namespace":"team","uid":"{name}","managedFields":{managed_fields}}},"spec":{spec}}}"#
        )
    }

    fn hostile() -> [String; 3] {
        let (open, close) = (r#"{"f:a":"#.repeat(10_000), "}".repeat(10_000));
        [
            r#"[{"manager":"m","time":"9999-12-31T23:59:59Z"}]"#.to_owned(),
            r#"[{"manager":"m","time":"no time"}]"#.to_owned(),
            format!(r#"[{{"manager":"m","fieldsV1":{open}{{}}{close}}}]"#),
        ]
    }

    #[test]
    fn managed_fields_of_any_form_are_skipped() {
        for hostile in hostile() {
            let list = format!(
                r#"{{"apiVersion":"v1","kind":"List","metadata":{{"resourceVersion":"1"}},"items":[{},{}]}}"#,
                grant("a", &hostile),
                grant("b", "[]")
            );
            let list: ObjectList<Grant> = serde_json::from_str(&list).unwrap();
            assert_eq!(list.items.iter().filter(|grant| grant.0.is_ok()).count(), 2);
            let metadata: Stored<PartialObjectMeta<CrossAccountRegistryGrant>> =
                serde_json::from_str(&grant("a", &hostile)).unwrap();
            assert_eq!(metadata.0.unwrap().name_any(), "a");
            let event = format!(r#"{{"type":"MODIFIED","object":{}}}"#, grant("a", &hostile));
            match serde_json::from_str(&event).unwrap() {
                WatchEvent::Modified(Stored::<CrossAccountRegistryGrant>(Ok(grant))) => {
                    assert_eq!(
                        (grant.name_any(), grant.managed_fields().len()),
                        ("a".to_owned(), 0)
                    );
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn unparsable_object_keeps_its_name() {
        let unknown = json!({"metadata": {"name": "a", "namespace": "team", "uid": "u"}, "spec": {"access": 7}});
        let invalid = serde_json::from_value::<Grant>(unknown).unwrap();
        assert!(invalid.0.is_err() && invalid.name_any() == "a");
        let broken = json!({
            "metadata": {"name": "a", "namespace": "team", "uid": "u", "creationTimestamp": "never"},
            "spec": {"access": 7},
        });
        let invalid = serde_json::from_value::<Grant>(broken).unwrap();
        assert_eq!(
            (invalid.name_any(), invalid.namespace(), invalid.uid()),
            ("a".into(), Some("team".into()), Some("u".into()))
        );
    }
}
