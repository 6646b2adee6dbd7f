//! Reads everything else that a grant's access depends on, on both sides, and evaluates access.

use super::types::{Apply, PolicyReading, Session, Sessions};
use crate::api::CrossAccountRegistryGrant;
use crate::api::grant::AccessStatus;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::managed_policies::with_managed_policies;
use crate::controller::judging::NotJudged;
use crate::controller::state::repository::RepositoryKey;
use crate::grant::access::{Caller, HolderReading, Readings, RepositoryReading, judge};
use crate::grant::admission::is_open_to;
use crate::grant::model::{Consumer, ConsumerRole, Identities};
use crate::grant::observed::{Role, RoleReading};
use crate::grant::{AccountId, AccountLookup, Decision, Grant};
use crate::policy::Document;
use crate::policy::arn::Arn;
use crate::policy::evaluate::Named;
use crate::telemetry::metrics::labels::OfTask;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of exactly named roles of a grant that are read: each takes a few calls at every
/// resync.
const LOOKED_AT: usize = 10;

/// What the stages before have read.
pub struct Reads<'a> {
    pub instance: &'a RoleReading,
    pub registry_role: &'a RoleReading,
    pub repositories: &'a [(RepositoryKey, PolicyReading)],
}

impl Apply<'_> {
    /// Evaluates whether access works for the principals that should have it, as far as can be
    /// read.
    pub(super) async fn access(&self, sessions: &Sessions, reads: &Reads<'_>) -> Vec<AccessStatus> {
        let Some(grant) = self.request.grant() else {
            return Vec::new();
        };
        let callers = self.callers(grant, sessions.consumer.as_ref(), reads).await;
        let turn = self.cloud.turn(self.request.registry_account()).await;
        let registry = &sessions.registry;
        let readings = Readings {
            callers,
            registry_role: self.registry_role_reading(registry, reads).await,
            registry_policies: self.registry_policies(grant, registry).await,
            repositories: self.repository_readings(grant, registry, reads).await,
            now: self.cluster.clock.now(),
        };
        // AWS is not called any more, so the work slot is released to others.
        drop(turn);
        self.judged(grant, readings).await
    }

    async fn registry_role_reading(&self, registry: &Session, reads: &Reads<'_>) -> HolderReading {
        match (reads.registry_role, registry) {
            (RoleReading::Absent, _) => HolderReading::Absent,
            (RoleReading::Found(role), Ok(account)) => self.found(account, role).await,
            (RoleReading::NotRead, Ok(_)) => HolderReading::Unknown(
                "the registry role could not be read, see condition RoleReady".to_owned(),
            ),
            (_, Err(problem)) => HolderReading::Unknown(problem.message.clone()),
        }
    }

    async fn registry_policies(
        &self,
        grant: &Grant,
        registry: &Session,
    ) -> BTreeMap<String, Option<Named>> {
        let max_age = self.request.max_policy_age;
        let mut policies = BTreeMap::new();
        for region in &grant.regions {
            let policy = match registry {
                Ok(account) => {
                    let cache = &self.cloud.policy_cache;
                    cache.registry_policy(account, region, max_age).await
                }
                Err(problem) => {
                    let name = "the registry's own policy";
                    Some(Named::unreadable(name, &problem.message))
                }
            };
            policies.insert(region.clone(), policy);
        }
        policies
    }

    async fn judged(&self, grant: &Grant, readings: Readings) -> Vec<AccessStatus> {
        let name = &self.request.owner.grant;
        let pending = &self.cluster.requests.pending;
        let waiting = pending.wait((name.namespace.clone(), name.name.clone()));
        let copy = grant.clone();
        let judged = self
            .cloud
            .judging
            .in_turn(
                &waiting,
                || self.is_outdated(),
                move |must_stop| judge(&copy, &readings, must_stop),
            )
            .await;
        match judged {
            Ok(judged) => judged,
            // The previous findings stay until the next reconcile, which follows at once.
            Err(NotJudged::Outdated) => self
                .newest()
                .and_then(|newest| Some(newest.status.as_ref()?.access.clone()))
                .unwrap_or_default(),
            Err(NotJudged::Panicked(error)) => {
                let task = OfTask {
                    task: "judge access",
                };
                self.cloud.metrics.task_failures.get_or_create(&task).inc();
                tracing::error!(grant = %name, %error, "failed to evaluate access, which is a bug: please report it");
                Vec::new()
            }
        }
    }

    fn newest(&self) -> Option<Arc<CrossAccountRegistryGrant>> {
        let name = &self.request.owner.grant;
        let reference = ObjectRef::new(&name.name).within(&name.namespace);
        self.cluster.grants.get(&reference)
    }

    /// Returns whether the grant's next reconcile may revoke access: it must not wait for this one.
    fn is_outdated(&self) -> bool {
        self.newest().is_none_or(|newest| {
            newest.spec != *self.request.spec
                || !matches!(
                    self.cluster.decide(&newest),
                    Decision::Enforce { .. } | Decision::Preview { .. }
                )
        })
    }

    /// Returns the policies that were read. If the grant does not write them, they are read here,
    /// because they may deny access that is allowed elsewhere.
    async fn repository_readings(
        &self,
        grant: &Grant,
        registry: &Session,
        reads: &Reads<'_>,
    ) -> Vec<RepositoryReading> {
        let mut read = reads.repositories.to_vec();
        read.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut readings: Vec<RepositoryReading> = read
            .into_iter()
            .map(|(repository, policy)| reading(repository, policy))
            .collect();
        if grant.touches_repository_policies() {
            return readings;
        }
        // With path AssumeRole alone, nothing is written there. The grant's named repositories
        // represent all of them.
        let Ok(account) = registry else {
            return readings;
        };
        for region in &grant.regions {
            for name in grant.named_repositories() {
                let repository = RepositoryKey::new(&account.id, region, name);
                let policy = match account.repository_policy(region, name).await {
                    Ok(PolicyRead::NoRepository) => continue,
                    Ok(PolicyRead::NoPolicy) => Ok(None),
                    Ok(PolicyRead::Policy(text)) => Document::parse(&text)
                        .map(Arc::new)
                        .map(Some)
                        .map_err(|error| format!("it cannot be read ({error})")),
                    Err(fault) => Err(fault.to_string()),
                };
                readings.push(reading(repository, policy));
            }
        }
        readings
    }

    async fn callers(
        &self,
        grant: &Grant,
        consumer: Option<&Session>,
        reads: &Reads<'_>,
    ) -> Vec<Caller> {
        let mut callers = Vec::new();
        let needed = grant.needed_in_consumer();
        let _turn = match &grant.consumer {
            Consumer::Account { id, .. } => Some(self.cloud.turn(id.as_str()).await),
            Consumer::Organization(_) => None,
        };
        let (id, who) = match &grant.consumer {
            Consumer::Account { id, who, lambda: _ } => (id, who),
            Consumer::Organization(_) => {
                let why = format!("depends on the account and its role, which needs {needed}");
                let name = grant.consumer.to_string();
                return vec![Caller::Many { name, why }];
            }
        };
        let unmanaged = format!(
            "account {id} has no AWSAccount, so the operator does not read the role: check there that it exists and is allowed {needed}"
        );
        let kept_arn = match &grant.instance_role {
            ConsumerRole::Kept { role, .. } => Some(role.arn()),
            ConsumerRole::NotManaged | ConsumerRole::NotRequested => None,
        };
        if let Some(arn) = &kept_arn {
            callers.push(Caller::Role {
                arn: arn.clone(),
                holder: self.instance_role_reading(consumer, reads).await,
            });
        }
        match who {
            Identities::WholeAccount => callers.push(Caller::Many {
                name: Arn::root(grant.partition.name(), id.as_str()),
                why: format!(
                    "depends on which identity of account {id} makes the request: it needs {needed}"
                ),
            }),
            Identities::Roles(arns) => {
                let others = arns.iter().filter(|arn| Some(*arn) != kept_arn.as_ref());
                let mut read = 0;
                for arn in others {
                    if arn.contains('*') || read == LOOKED_AT {
                        let why = format!(
                            "depends on which role of account {id} makes the request: it needs {needed}"
                        );
                        let name = arn.clone();
                        callers.push(Caller::Many { name, why });
                        continue;
                    }
                    read += 1;
                    let named = self.named(id, arn, consumer, &unmanaged).await;
                    let holder = named.unwrap_or_else(HolderReading::Unknown);
                    let arn = arn.clone();
                    callers.push(Caller::Role { arn, holder });
                }
            }
        }
        if let Some((service, functions)) = grant.lambda_functions() {
            callers.push(Caller::Lambda { service, functions });
        }
        callers
    }

    async fn instance_role_reading(
        &self,
        consumer: Option<&Session>,
        reads: &Reads<'_>,
    ) -> HolderReading {
        match (reads.instance, consumer) {
            (RoleReading::Absent, _) => HolderReading::Absent,
            (RoleReading::Found(role), Some(Ok(account))) => self.found(account, role).await,
            (_, Some(Err(problem))) => HolderReading::Unknown(problem.message.clone()),
            (_, _) => HolderReading::Unknown(
                "the instance role could not be read, see condition ConsumerReady".to_owned(),
            ),
        }
    }

    /// Reads a role that the grant names exactly.
    async fn named(
        &self,
        id: &AccountId,
        arn: &str,
        consumer: Option<&Session>,
        unmanaged: &str,
    ) -> Result<HolderReading, String> {
        let known = self.cluster.watch_caches.account(id);
        let labels = self
            .cluster
            .watch_caches
            .namespace_labels(&self.request.owner.grant.namespace);
        if known.as_ref().is_some_and(|known| {
            !is_open_to(&self.request.owner.grant, labels.as_ref(), &known.spec)
        }) {
            return Err(format!(
                "AWSAccount {id} has no rule for namespace {} under spec.consumer.rules, so the operator does not read its roles: check there that the role exists and has the permissions that it needs",
                self.request.owner.grant.namespace
            ));
        }
        let session = match (consumer, known) {
            (Some(session), _) => session.clone(),
            (None, Some(_)) => self.session(id.as_str()).await,
            (None, None) => return Err(unmanaged.to_owned()),
        };
        let account = session.map_err(|problem| problem.message)?;
        let name = arn.rsplit('/').next().unwrap_or_default();
        let role = account
            .role_with_tags_as_given(name)
            .await
            .map_err(|fault| fault.to_string())?;
        match role.filter(|role| role.arn == arn) {
            Some(role) => Ok(self.found(&account, &role).await),
            None => Ok(HolderReading::Absent),
        }
    }

    async fn found(&self, account: &Account, role: &Role) -> HolderReading {
        let cache = &self.cloud.policy_cache;
        let max_age = self.request.max_policy_age;
        let holder = with_managed_policies(role, |arn| async move {
            cache.managed_policy(account, &arn, max_age).await
        });
        HolderReading::Found(Box::new(holder.await))
    }
}

fn reading(repository: RepositoryKey, policy: PolicyReading) -> RepositoryReading {
    let name = format!("the policy of {repository}");
    let policy = match policy {
        Ok(policy) => policy.map(|policy| Named::new(name, policy)),
        Err(why) => Some(Named::unreadable(name, why)),
    };
    RepositoryReading {
        policy,
        region: repository.region,
        name: repository.name,
    }
}
