//! One grant as an edge of the graph: from whom, by which paths, to what, and whether it holds.

use super::super::manifests::Files;
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::grant::{AccessPath, ConsumerSpec, RegistrySpec};
use crate::grant::{Decision, GrantInput, GrantName, Problem, RuleContext};
use crate::policy::Installation;
use kube::ResourceExt as _;
use serde::Serialize;

/// One grant. What it says is what the resource says: texts of whoever wrote it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The account, or the organization.
    pub consumer: String,
    /// Which of its identities.
    pub who: Vec<String>,
    /// The registry's account.
    pub registry: String,
    pub regions: Vec<String>,
    pub repositories: Vec<String>,
    /// `Direct`, or the role in the registry's account.
    pub paths: Vec<Path>,
    pub access: String,
    /// Namespace and name.
    pub grant: String,
    pub ready: Ready,
    /// The condition's reason.
    pub reason: String,
    /// Why it is not ready; empty where it is.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Path {
    Direct,
    /// By the role of this name, or ARN.
    AssumeRole(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Ready {
    True,
    False,
    Unknown,
}

impl Ready {
    pub fn word(self) -> &'static str {
        match self {
            Self::True => "yes",
            Self::False => "no",
            Self::Unknown => "?",
        }
    }
}

impl Edge {
    /// As the grant's status tells it.
    pub fn of(resource: &CrossAccountRegistryGrant) -> Self {
        let spec = &resource.spec;
        let RegistrySpec {
            account_id,
            regions,
            repositories,
            replace_sids: _,
            role,
        } = &spec.registry;
        let told = resource
            .status
            .as_ref()
            .and_then(|status| status.registry.as_ref()?.role_arn.clone());
        let named = role.as_ref().and_then(|role| role.name.clone());
        let role = told
            .or(named)
            .unwrap_or_else(|| "a role that the operator names".into());
        let paths = spec.paths.iter().map(|path| match path {
            AccessPath::Direct => Path::Direct,
            AccessPath::AssumeRole => Path::AssumeRole(role.clone()),
        });
        let (consumer, who) = from(&spec.consumer);
        let (ready, reason, message) = readiness(resource);
        Self {
            consumer,
            who: sorted(who),
            registry: account_id.clone(),
            regions: sorted(regions.clone()),
            repositories: sorted(repositories.clone()),
            paths: sorted(paths.collect()),
            access: format!("{:?}", spec.access),
            grant: format!(
                "{}/{}",
                resource.namespace().unwrap_or_default(),
                resource.name_any()
            ),
            ready,
            reason,
            message,
        }
    }

    /// As the accounts' rules judge it, where it has no status.
    pub fn judged(name: &GrantName, resource: &CrossAccountRegistryGrant, files: &Files) -> Self {
        let mut edge = Self::of(resource);
        if resource.status.is_some() {
            return edge;
        }
        // Only names in AWS depend on the installation, and none is shown.
        let installation = Installation::of_cluster("");
        let refused = |problems: &[Problem]| {
            let problem = Problem::join(problems);
            problem.map_or_else(Default::default, |Problem { reason, message }| {
                (reason.to_string(), message)
            })
        };
        let input = GrantInput {
            name,
            spec: &resource.spec,
            is_deleting: false,
            applied: None,
        };
        let rules = RuleContext {
            accounts: files,
            installation: &installation,
        };
        let decision = Decision::of(&input, &rules);
        let (ready, (reason, message)) = match (decision, files.invalid.get(name)) {
            // What the operator would take and the API server refuses.
            (Decision::Preview { .. } | Decision::Suspend { .. }, Some(invalid)) => {
                (Ready::False, refused(std::slice::from_ref(invalid)))
            }
            (Decision::Enforce { problems, .. }, Some(invalid)) if problems.is_empty() => {
                (Ready::False, refused(std::slice::from_ref(invalid)))
            }
            (Decision::Enforce { problems, .. }, None) if problems.is_empty() => (
                Ready::Unknown,
                (
                    "Admitted".into(),
                    "the rules admit it; files do not tell whether it was applied".into(),
                ),
            ),
            (Decision::Preview { .. } | Decision::Suspend { .. }, None) => (
                Ready::Unknown,
                (
                    "Suspended".into(),
                    "it is suspended, or only observed".into(),
                ),
            ),
            (Decision::Retain(_), _) => unreachable!("it is not being deleted"),
            (
                Decision::Revoke(problems)
                | Decision::Leave(problems)
                | Decision::Enforce { problems, .. },
                invalid,
            ) => {
                let known = problems
                    .iter()
                    .any(|problem| problem.reason == Reason::Invalid);
                (
                    Ready::False,
                    refused(
                        invalid
                            .filter(|_| !known)
                            .map_or(&problems[..], std::slice::from_ref),
                    ),
                )
            }
        };
        (edge.ready, edge.reason, edge.message) = (ready, reason, message);
        edge
    }
}

fn from(consumer: &ConsumerSpec) -> (String, Vec<String>) {
    let ConsumerSpec {
        account_id,
        organization,
        whole_account,
        roles,
        lambda,
        instance_role,
    } = consumer;
    if let Some(organization) = organization {
        let who = organization
            .paths
            .clone()
            .unwrap_or_else(|| vec!["every account".into()]);
        return (organization.id.clone(), who);
    }
    let whole = *whole_account == Some(true);
    let alone = instance_role.iter().filter(|_| !whole && roles.is_none());
    let who = whole.then(|| "whole account".to_owned()).into_iter();
    let who = who.chain(roles.iter().flatten().map(|role| format!("role/{role}")));
    let who = who.chain(alone.map(|role| format!("instance role {}", role.name)));
    let who = who.chain((*lambda == Some(true)).then(|| "Lambda".to_owned()));
    (account_id.clone().unwrap_or_default(), who.collect())
}

fn readiness(resource: &CrossAccountRegistryGrant) -> (Ready, String, String) {
    let conditions = resource.status.iter().flat_map(|status| &status.conditions);
    let Some(condition) = conditions::find(conditions, ConditionType::Ready) else {
        return (
            Ready::Unknown,
            "NotSeen".into(),
            "the operator has not looked at it".into(),
        );
    };
    let (reason, message) = (condition.reason.clone(), condition.message.clone());
    let behind = resource.metadata.generation > condition.observed_generation
        && condition.observed_generation.is_some();
    match condition.status.as_str() {
        _ if behind => (
            Ready::Unknown,
            "Outdated".into(),
            "the operator has not looked at its last change".into(),
        ),
        "True" => (Ready::True, reason, String::new()),
        "False" => (Ready::False, reason, message),
        _ => (Ready::Unknown, reason, message),
    }
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}
