//! One grant as an edge of the graph: consumer, paths, repositories, and whether it is ready.

use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::{self, ConditionType, Reason};
use crate::api::grant::{AccessPath, ConsumerSpec, RegistrySpec};
use crate::cli::manifests::Files;
use crate::cli::terminal::plain;
use crate::grant::{Decision, GrantInput, GrantName, Problem, RuleContext};
use crate::policy::Installation;
use kube::ResourceExt as _;
use serde::Serialize;

/// One grant. Its texts are those of the resource, and may contain anything.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Edge {
    /// The consumer account, or the organization.
    pub consumer: String,
    /// The consumer's identities that get access.
    pub who: Vec<String>,
    /// The registry account.
    pub registry: String,
    pub regions: Vec<String>,
    pub repositories: Vec<String>,
    /// `Direct`, or the role in the registry account.
    pub paths: Vec<Path>,
    pub access: String,
    /// Namespace and name.
    pub grant: String,
    pub ready: Ready,
    /// The condition's reason.
    pub reason: String,
    /// Why the grant is not ready; empty if it is.
    pub message: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Path {
    Direct,
    /// Through the role of this name or ARN.
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
    /// Describes a grant by its status.
    pub fn of(resource: &CrossAccountRegistryGrant) -> Self {
        let spec = &resource.spec;
        let RegistrySpec {
            account_id,
            regions,
            repositories,
            replace_sids: _,
            role,
        } = &spec.registry;
        let role_name = resource
            .status
            .as_ref()
            .and_then(|status| status.registry.as_ref()?.role_arn.clone())
            .or_else(|| role.as_ref()?.name.clone())
            .unwrap_or_else(|| "a role that the operator names".into());
        let paths = spec
            .paths
            .iter()
            .map(|path| match path {
                AccessPath::Direct => Path::Direct,
                AccessPath::AssumeRole => Path::AssumeRole(role_name.clone()),
            })
            .collect();
        let Readiness {
            ready,
            reason,
            message,
        } = Readiness::of(resource);
        Self {
            consumer: consumer(&spec.consumer),
            who: sorted(identities(&spec.consumer)),
            registry: account_id.clone(),
            regions: sorted(regions.clone()),
            repositories: sorted(repositories.clone()),
            paths: sorted(paths),
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

    /// Describes a grant by its status, or without a status by the accounts' rules.
    pub fn judged(name: &GrantName, resource: &CrossAccountRegistryGrant, files: &Files) -> Self {
        let edge = Self::of(resource);
        if resource.status.is_some() {
            return edge;
        }
        let Readiness {
            ready,
            reason,
            message,
        } = Readiness::by_rules(name, resource, files);
        Self {
            ready,
            reason,
            message,
            ..edge
        }
    }

    /// Says in one line why the grant is not ready.
    pub fn explanation(&self) -> String {
        let Self {
            grant,
            reason,
            message,
            ..
        } = self;
        format!("{}: {}: {}", plain(grant), plain(reason), plain(message))
    }
}

/// Whether a grant is ready, and why not.
struct Readiness {
    ready: Ready,
    reason: String,
    /// Empty if the grant is ready.
    message: String,
}

impl Readiness {
    fn unknown(reason: &str, message: &str) -> Self {
        Self {
            ready: Ready::Unknown,
            reason: reason.into(),
            message: message.into(),
        }
    }

    fn refused(problems: &[Problem]) -> Self {
        Problem::join(problems).map_or_else(
            || Self {
                ready: Ready::False,
                reason: String::new(),
                message: String::new(),
            },
            |Problem { reason, message }| Self {
                ready: Ready::False,
                reason: reason.to_string(),
                message,
            },
        )
    }

    /// Reads the status.
    fn of(resource: &CrossAccountRegistryGrant) -> Self {
        let conditions = resource.status.iter().flat_map(|status| &status.conditions);
        let Some(condition) = conditions::find(conditions, ConditionType::Ready) else {
            return Self::unknown("NotSeen", "the operator has not reconciled it yet");
        };
        let is_outdated = condition.observed_generation.is_some()
            && resource.metadata.generation > condition.observed_generation;
        if is_outdated {
            return Self::unknown(
                "Outdated",
                "the operator has not reconciled its last change yet",
            );
        }
        let ready = match condition.status.as_str() {
            "True" => Ready::True,
            "False" => Ready::False,
            _ => Ready::Unknown,
        };
        Self {
            ready,
            reason: condition.reason.clone(),
            message: if ready == Ready::True {
                String::new()
            } else {
                condition.message.clone()
            },
        }
    }

    /// Evaluates the API server's rules and the accounts' rules.
    fn by_rules(name: &GrantName, resource: &CrossAccountRegistryGrant, files: &Files) -> Self {
        // Only names in AWS depend on the installation, and no such name is shown.
        let installation = Installation::of_cluster("");
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
        // The API server may refuse what the operator would accept.
        let invalid = files.invalid.get(name).map(std::slice::from_ref);
        match Decision::of(&input, &rules) {
            Decision::Preview { .. } | Decision::Suspend { .. } => invalid.map_or_else(
                || Self::unknown("Suspended", "it is suspended, or only observed"),
                Self::refused,
            ),
            Decision::Enforce { problems, .. } if problems.is_empty() => invalid.map_or_else(
                || {
                    Self::unknown(
                        "Admitted",
                        "the rules admit it; the files do not show whether it is applied",
                    )
                },
                Self::refused,
            ),
            Decision::Retain(_) => unreachable!("it is not being deleted"),
            Decision::Revoke(problems)
            | Decision::Leave(problems)
            | Decision::Enforce { problems, .. } => {
                let is_known = problems
                    .iter()
                    .any(|problem| problem.reason == Reason::Invalid);
                Self::refused(invalid.filter(|_| !is_known).unwrap_or(&problems))
            }
        }
    }
}

/// Returns the consumer account, or the organization.
fn consumer(consumer: &ConsumerSpec) -> String {
    match &consumer.organization {
        Some(organization) => organization.id.clone(),
        None => consumer.account_id.clone().unwrap_or_default(),
    }
}

/// Describes the consumer's identities that get access.
fn identities(consumer: &ConsumerSpec) -> Vec<String> {
    let ConsumerSpec {
        account_id: _,
        organization,
        whole_account,
        roles,
        lambda,
        instance_role,
    } = consumer;
    if let Some(organization) = organization {
        return organization
            .paths
            .clone()
            .unwrap_or_else(|| vec!["every account".into()]);
    }
    let mut identities = Vec::new();
    let is_whole = *whole_account == Some(true);
    if is_whole {
        identities.push("whole account".to_owned());
    }
    for role in roles.iter().flatten() {
        identities.push(format!("role/{role}"));
    }
    if let Some(role) = instance_role
        && !is_whole
        && roles.is_none()
    {
        identities.push(format!("instance role {}", role.name));
    }
    if *lambda == Some(true) {
        identities.push("Lambda".to_owned());
    }
    identities
}

fn sorted<T: Ord>(mut all: Vec<T>) -> Vec<T> {
    all.sort();
    all.dedup();
    all
}
