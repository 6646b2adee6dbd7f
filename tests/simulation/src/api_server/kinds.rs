//! Kinds of resources that the operator uses, with their schemas.

use super::fields::set::FieldSet;
use super::schema::Schema;
use super::schema::rules::Rules;
use super::status::{GroupResource, Violation};
use kube::CustomResourceExt;
use registry_grants::api::{AWSAccount, CrossAccountRegistryGrant};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Kind of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `AWSAccount`.
    Account,
    /// `Event` of the group `events.k8s.io`.
    Event,
    /// `CrossAccountRegistryGrant`.
    Grant,
    /// `Lease`.
    Lease,
    /// `Namespace`.
    Namespace,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [
        Self::Account,
        Self::Event,
        Self::Grant,
        Self::Lease,
        Self::Namespace,
    ];

    /// Returns the group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Account | Self::Grant => "registrygrants.dev",
            Self::Event => "events.k8s.io",
            Self::Lease => "coordination.k8s.io",
            Self::Namespace => "",
        }
    }

    /// Returns the version.
    pub fn version(self) -> &'static str {
        match self {
            Self::Account | Self::Grant => "v1alpha1",
            Self::Event | Self::Lease | Self::Namespace => "v1",
        }
    }

    /// Returns the name in `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Account => "AWSAccount",
            Self::Event => "Event",
            Self::Grant => "CrossAccountRegistryGrant",
            Self::Lease => "Lease",
            Self::Namespace => "Namespace",
        }
    }

    /// Returns the plural name in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Account => "awsaccounts",
            Self::Event => "events",
            Self::Grant => "crossaccountregistrygrants",
            Self::Lease => "leases",
            Self::Namespace => "namespaces",
        }
    }

    /// Returns whether its objects are in namespaces.
    pub fn is_namespaced(self) -> bool {
        match self {
            Self::Event | Self::Grant | Self::Lease => true,
            Self::Account | Self::Namespace => false,
        }
    }

    /// Returns whether a CustomResourceDefinition defines it.
    pub fn is_custom(self) -> bool {
        match self {
            Self::Account | Self::Grant => true,
            Self::Event | Self::Lease | Self::Namespace => false,
        }
    }

    pub(super) fn has_status(self) -> bool {
        self.is_custom() || self == Self::Namespace
    }

    /// Returns whether an update of an object that does not exist creates it.
    pub(super) fn is_created_by_update(self) -> bool {
        matches!(self, Self::Event | Self::Lease)
    }

    /// Returns whether an update may lack a resource version.
    pub(super) fn may_lack_version(self) -> bool {
        matches!(self, Self::Event | Self::Namespace)
    }

    /// Returns what an object of this kind has at least.
    pub(super) fn skeleton(self) -> Value {
        match self {
            Self::Account | Self::Grant => json!({}),
            Self::Event => json!({
                "deprecatedFirstTimestamp": null,
                "deprecatedLastTimestamp": null,
                "deprecatedSource": {},
                "eventTime": null,
                "regarding": {},
            }),
            Self::Lease => json!({"spec": {}}),
            Self::Namespace => json!({"spec": {}, "status": {}}),
        }
    }

    pub(super) fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    pub(super) fn resource(self) -> GroupResource<'static> {
        (self.group(), self.plural())
    }

    pub(super) fn definition(self) -> &'static Definition {
        &DEFINITIONS[&self]
    }

    /// Returns which CEL rules a change violates.
    pub(super) fn rule_violations(self, new: &Value, old: Option<&Value>) -> Vec<Violation> {
        thread_local! {
            static RULES: BTreeMap<Kind, Rules> = Kind::ALL
                .into_iter()
                .filter(|kind| kind.is_custom())
                .map(|kind| (kind, Rules::of(&kind.crd_schema())))
                .collect();
        }
        RULES.with(|rules| match rules.get(&self) {
            Some(rules) => rules.violations(new, old),
            None => Vec::new(),
        })
    }

    fn crd_schema(self) -> Value {
        let definition = match self {
            Self::Account => AWSAccount::crd(),
            Self::Event | Self::Grant | Self::Lease | Self::Namespace => {
                CrossAccountRegistryGrant::crd()
            }
        };
        let definition = serde_json::to_value(definition).expect("a definition is JSON");
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    }

    fn schema(self) -> Value {
        let mut schema = match self {
            Self::Account | Self::Grant => self.crd_schema(),
            Self::Event => event(),
            Self::Lease => lease(),
            Self::Namespace => namespace(),
        };
        let properties = &mut schema["properties"];
        properties["apiVersion"] = json!({"type": "string"});
        properties["kind"] = json!({"type": "string"});
        properties["metadata"] = metadata();
        schema
    }
}

/// Schema of a kind, and what its endpoints ignore.
pub(super) struct Definition {
    pub(super) schema: Schema,
    /// Fields that the main endpoint ignores.
    pub(super) ignored: FieldSet,
    /// Fields that the status endpoint ignores.
    pub(super) ignored_by_status: FieldSet,
}

static DEFINITIONS: LazyLock<BTreeMap<Kind, Definition>> = LazyLock::new(|| {
    let definition = |kind: Kind| Definition {
        schema: Schema::of(&kind.schema()),
        ignored: match kind.has_status() {
            true => FieldSet::of(&[&["status"]]),
            false => FieldSet::default(),
        },
        ignored_by_status: match kind.is_custom() {
            true => FieldSet::of(&[&["metadata"], &["spec"]]),
            false => FieldSet::of(&[&["spec"]]),
        },
    };
    Kind::ALL
        .into_iter()
        .map(|kind| (kind, definition(kind)))
        .collect()
});

fn text() -> Value {
    json!({"type": "string"})
}

fn number() -> Value {
    json!({"type": "integer"})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

fn precise_time() -> Value {
    json!({"type": "string", "format": "micro-time"})
}

fn texts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

fn metadata() -> Value {
    json!({"type": "object", "properties": {
        "name": text(),
        "generateName": text(),
        "namespace": text(),
        "selfLink": text(),
        "uid": text(),
        "resourceVersion": text(),
        "generation": number(),
        "creationTimestamp": time(),
        "deletionTimestamp": time(),
        "deletionGracePeriodSeconds": number(),
        "labels": texts(),
        "annotations": texts(),
        "finalizers": {
            "type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"},
        },
        "ownerReferences": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "items": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
                "apiVersion": text(), "kind": text(), "name": text(), "uid": text(),
                "controller": {"type": "boolean"}, "blockOwnerDeletion": {"type": "boolean"},
            }},
        },
        "managedFields": {"type": "array", "items": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        }},
    }})
}

fn namespace() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "finalizers": {"type": "array", "items": {"type": "string"}},
        }},
        "status": {"type": "object", "properties": {
            "phase": text(),
            "conditions": {
                "type": "array",
                "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["type"],
                "items": {"type": "object", "properties": {
                    "type": text(), "status": text(), "reason": text(), "message": text(),
                    "lastTransitionTime": time(),
                }},
            },
        }},
    }})
}

fn lease() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "acquireTime": precise_time(),
            "holderIdentity": text(),
            "leaseDurationSeconds": number(),
            "leaseTransitions": number(),
            "preferredHolder": text(),
            "renewTime": precise_time(),
            "strategy": text(),
        }},
    }})
}

fn event() -> Value {
    let reference = || {
        json!({"type": "object", "x-kubernetes-map-type": "atomic", "properties": {
            "apiVersion": text(), "fieldPath": text(), "kind": text(), "name": text(),
            "namespace": text(), "resourceVersion": text(), "uid": text(),
        }})
    };
    json!({"type": "object", "properties": {
        "action": text(),
        "deprecatedCount": number(),
        "deprecatedFirstTimestamp": time(),
        "deprecatedLastTimestamp": time(),
        "deprecatedSource": {"type": "object", "properties": {
            "component": text(), "host": text(),
        }},
        "eventTime": precise_time(),
        "note": text(),
        "reason": text(),
        "regarding": reference(),
        "related": reference(),
        "reportingController": text(),
        "reportingInstance": text(),
        "series": {"type": "object", "properties": {
            "count": number(), "lastObservedTime": precise_time(),
        }},
        "type": text(),
    }})
}
