//! What the grants of a cluster ask for, read from their specs as the API reference describes them.

use super::documents::Identity;
use crate::api_server::{Kind, store::Store};
use crate::aws::glob;
use serde_json::Value;

/// What may be done with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Use {
    /// Pulling images.
    Pull,
    /// Pushing images.
    Push,
}

impl Use {
    /// All uses.
    pub const ALL: [Self; 2] = [Self::Pull, Self::Push];

    /// Returns an action of ECR that this use needs, and the other does not.
    pub fn action(self) -> &'static str {
        match self {
            Self::Pull => "ecr:GetDownloadUrlForLayer",
            Self::Push => "ecr:PutImage",
        }
    }
}

/// A grant, as far as the oracle reads it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Namespace and name.
    pub name: String,
    namespace: String,
    spec: Value,
    /// The spec that was applied last, according to the status.
    pub applied: Option<Value>,
    /// Whether it is being deleted.
    pub is_deleting: bool,
    /// Whether the status says that the present spec is applied and works.
    pub is_ready: bool,
}

impl Asked {
    /// Reads a grant.
    pub fn of(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let status = &object["status"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let conditions = status["conditions"].as_array();
        let is_true = conditions.into_iter().flatten().any(|condition| {
            condition["type"] == "Ready"
                && condition["status"] == "True"
                && condition["observedGeneration"] == metadata["generation"]
        });
        Self {
            name: format!(
                "{}/{}",
                text(&metadata["namespace"]),
                text(&metadata["name"])
            ),
            namespace: text(&metadata["namespace"]),
            spec: object["spec"].clone(),
            applied: status["applied"]
                .get("spec")
                .filter(|spec| !spec.is_null())
                .cloned(),
            is_deleting: !metadata["deletionTimestamp"].is_null(),
            is_ready: is_true,
        }
    }

    /// Returns all grants of a cluster.
    pub fn all(store: &Store) -> Vec<Self> {
        let grants = store.objects(Kind::Grant);
        grants.map(|(_, stored)| Self::of(stored.value())).collect()
    }

    /// Returns whether the operator must maintain what the spec asks for.
    pub fn is_enforced(&self) -> bool {
        !self.is_deleting && self.spec["suspend"] != true && self.spec["mode"] != "Observe"
    }

    /// Returns whether the rules of the registry's account admit the spec.
    pub fn is_admitted(&self, store: &Store) -> bool {
        let account = self.spec["registry"]["accountID"].as_str();
        store
            .objects(Kind::Account)
            .filter(|(key, _)| Some(key.name.as_str()) == account)
            .any(|(_, stored)| {
                let rules = stored.value()["spec"]["registry"]["rules"].as_array();
                rules.into_iter().flatten().any(|rule| {
                    contains(&rule["namespaces"]["names"], &self.namespace)
                        && rule["consumers"].as_array().is_some_and(|consumers| {
                            consumers.contains(&self.spec["consumer"]["accountID"])
                        })
                        && (rule["maxAccess"] == "PullPush" || self.spec["access"] == "Pull")
                })
            })
    }

    /// Returns whether the present spec gives this access.
    pub fn gives(&self, repository: &Place, identity: &Identity, how: Use) -> bool {
        gives(&self.spec, repository, identity, how)
    }

    /// Returns whether the spec that was applied last gives this access.
    pub fn gave(&self, repository: &Place, identity: &Identity, how: Use) -> bool {
        self.applied
            .as_ref()
            .is_some_and(|spec| gives(spec, repository, identity, how))
    }
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The account of the registry.
    pub account: String,
    /// The region.
    pub region: String,
    /// The repository's name.
    pub name: String,
}

fn gives(spec: &Value, repository: &Place, identity: &Identity, how: Use) -> bool {
    let registry = &spec["registry"];
    let consumer = &spec["consumer"];
    let is_place = registry["accountID"] == repository.account.as_str()
        && contains(&registry["regions"], &repository.region)
        && any_like(&registry["repositories"], &repository.name);
    let role = identity.arn.rsplit_once(":role/").map(|(_, role)| role);
    let is_identity = consumer["accountID"] == identity.account.as_str()
        && (consumer["wholeAccount"] == true
            || role.is_some_and(|role| any_like(&consumer["roles"], role)));
    let is_use = how == Use::Pull || spec["access"] == "PullPush";
    is_place && is_identity && is_use
}

fn contains(list: &Value, text: &str) -> bool {
    let list = list.as_array();
    list.into_iter().flatten().any(|item| item == text)
}

fn any_like(patterns: &Value, text: &str) -> bool {
    let patterns = patterns.as_array();
    patterns
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .any(|pattern| glob(pattern, text))
}
