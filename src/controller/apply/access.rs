//! Reads everything else that a grant's access depends on, on both sides, and evaluates access.

use super::{Enforcement, Session};
use crate::api::grant::AccessStatus;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::judging::NotJudged;
use crate::controller::repository_policy::sync::RepositoryKey;
use crate::grant::access::{Caller, Holder, Readings, RepositoryReading, judge};
use crate::grant::admission::is_open_to;
use crate::grant::model::{Consumer, ConsumerRole, Identities};
use crate::grant::observed::Role;
use crate::grant::{AccountId, AccountLookup, Decision, Grant};
use crate::policy::Document;
use crate::policy::evaluate::Named;
use crate::telemetry::metrics::labels::OfTask;
use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of exactly named roles of a grant that are read: each takes a few calls at every
/// resync.
const LOOKED_AT: usize = 10;

/// The current policy of a repository, `None` if there is none, or the reason why it could not be
/// read.
type PolicyReading = Result<Option<Arc<Document>>, String>;

/// Roles and policies that were read while the grant was applied; `None`: not read.
#[derive(Default)]
pub struct RoleAndPolicyReads {
    pub instance: Option<Option<Role>>,
    pub registry_role: Option<Option<Role>>,
    /// The current policies, or the reasons why they could not be read.
    pub repositories: Vec<(RepositoryKey, PolicyReading)>,
}

impl Enforcement<'_> {
    /// Evaluates whether access works for the principals that should have it, as far as can be
    /// read.
    pub(super) async fn access(
        &mut self,
        registry: &Session,
        consumer: Option<&Session>,
    ) -> Vec<AccessStatus> {
        let Some(grant) = self.grant else {
            return Vec::new();
        };
        let callers = self.callers(grant, consumer).await;
        let turn = self.world.turn(self.accounts.0).await;
        let registry_role = match (&self.read.registry_role, registry) {
            (Some(None), _) => Ok(None),
            (Some(Some(role)), Ok(account)) => Ok(Some(self.holder(account, role).await)),
            (None, Ok(_)) => {
                Err("the registry's role could not be read, see the condition RoleReady".to_owned())
            }
            (_, Err(problem)) => Err(problem.message.clone()),
        };
        let mut registry_policies = BTreeMap::new();
        for region in &grant.regions {
            let policy = match registry {
                Ok(account) => {
                    self.world
                        .policy_cache
                        .registry_policy(account, region, self.fresh)
                        .await
                }
                Err(problem) => Some(Named::unreadable(
                    "the registry's own policy",
                    &problem.message,
                )),
            };
            registry_policies.insert(region.clone(), policy);
        }
        let readings = Readings {
            callers,
            registry_role,
            repositories: self.repository_readings(grant, registry).await,
            registry_policies,
            now: Timestamp::now(),
        };
        // AWS is not called any more, so the work slot is released to others.
        drop(turn);
        self.judged(grant, readings).await
    }

    async fn judged(&self, grant: &Grant, readings: Readings) -> Vec<AccessStatus> {
        let name = &self.owner.grant;
        let newest = || {
            let reference = ObjectRef::new(&name.name).within(&name.namespace);
            self.world.grants.get(&reference)
        };
        let is_outdated = || {
            newest().is_none_or(|newest| {
                // The grant's next reconcile may revoke access, and must not wait for this one.
                newest.spec != *self.spec
                    || !matches!(
                        self.world.decide(&newest),
                        Decision::Enforce { .. } | Decision::Preview { .. }
                    )
            })
        };
        let waiting = self
            .world
            .pending
            .wait((name.namespace.clone(), name.name.clone()));
        let grant = grant.clone();
        let judged = self
            .world
            .judging
            .in_turn(&waiting, is_outdated, move |must_stop| {
                judge(&grant, &readings, must_stop)
            })
            .await;
        match judged {
            Ok(judged) => judged,
            // The previous findings stay until the next reconcile, which follows at once.
            Err(NotJudged::Outdated) => newest()
                .and_then(|newest| Some(newest.status.as_ref()?.access.clone()))
                .unwrap_or_default(),
            Err(NotJudged::Panicked(error)) => {
                self.world
                    .metrics
                    .task_failures
                    .get_or_create(&OfTask {
                        task: "judge access",
                    })
                    .inc();
                tracing::error!(grant = %name, %error, "access could not be judged, which is a bug");
                Vec::new()
            }
        }
    }

    /// Returns the policies that were read. If the grant does not write them, they are read here,
    /// because they may deny access that is allowed elsewhere.
    async fn repository_readings(
        &mut self,
        grant: &Grant,
        registry: &Session,
    ) -> Vec<RepositoryReading> {
        let reading = |(repository, policy): (RepositoryKey, PolicyReading)| {
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
        };
        let mut read = std::mem::take(&mut self.read.repositories);
        read.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut readings: Vec<RepositoryReading> = read.into_iter().map(reading).collect();
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
                let repository = RepositoryKey {
                    account: account.id.clone(),
                    region: region.clone(),
                    name: name.clone(),
                };
                let policy = match account.repository_policy(region, name).await {
                    Ok(PolicyRead::NoRepository) => continue,
                    Ok(PolicyRead::NoPolicy) => Ok(None),
                    Ok(PolicyRead::Policy(text)) => Document::parse(&text)
                        .map(Arc::new)
                        .map(Some)
                        .map_err(|error| format!("it cannot be read ({error})")),
                    Err(fault) => Err(fault.to_string()),
                };
                readings.push(reading((repository, policy)));
            }
        }
        readings
    }

    async fn callers(&self, grant: &Grant, consumer: Option<&Session>) -> Vec<Caller> {
        let mut callers = Vec::new();
        let needed = grant.needed_in_consumer();
        let _turn = match &grant.consumer {
            Consumer::Account { id, .. } => Some(self.world.turn(id.as_str()).await),
            Consumer::Organization(_) => None,
        };
        let (id, who) = match &grant.consumer {
            Consumer::Account { id, who, lambda: _ } => (id, who),
            Consumer::Organization(_) => {
                let why = format!("depends on the account and its role, which needs {needed}");
                return vec![Caller::Many {
                    name: grant.consumer.to_string(),
                    why,
                }];
            }
        };
        let unmanaged = format!(
            "account {id} has no AWSAccount, so it is not read: check there that the role exists, and is allowed {needed}"
        );
        let kept = match &grant.instance_role {
            ConsumerRole::Kept { role, .. } => {
                let holder = match (&self.read.instance, consumer) {
                    (Some(None), _) => Ok(None),
                    (Some(Some(role)), Some(Ok(account))) => {
                        Ok(Some(Box::new(self.holder(account, role).await)))
                    }
                    (_, Some(Err(problem))) => Err(problem.message.clone()),
                    (_, _) => Err(
                        "the instance role could not be read, see the condition ConsumerReady"
                            .to_owned(),
                    ),
                };
                Some(Caller::Role {
                    arn: role.arn(),
                    holder,
                })
            }
            ConsumerRole::NotManaged | ConsumerRole::NotRequested => None,
        };
        let kept_arn = match &grant.instance_role {
            ConsumerRole::Kept { role, .. } => role.arn(),
            ConsumerRole::NotManaged | ConsumerRole::NotRequested => String::new(),
        };
        callers.extend(kept);
        match who {
            Identities::WholeAccount => callers.push(Caller::Many {
                name: format!("arn:{}:iam::{id}:root", grant.partition.name()),
                why: format!("depends on which identity of account {id} asks: it needs {needed}"),
            }),
            Identities::Roles(arns) => {
                let mut looked_at = 0;
                for arn in arns.iter().filter(|arn| **arn != kept_arn) {
                    if arn.contains('*') || looked_at == LOOKED_AT {
                        let why = format!(
                            "depends on the role of account {id} that asks: it needs {needed}"
                        );
                        callers.push(Caller::Many {
                            name: arn.clone(),
                            why,
                        });
                        continue;
                    }
                    looked_at += 1;
                    let holder = self.named(id, arn, consumer, &unmanaged).await;
                    callers.push(Caller::Role {
                        arn: arn.clone(),
                        holder,
                    });
                }
            }
        }
        if let Some((service, functions)) = grant.lambda_functions() {
            callers.push(Caller::Lambda { service, functions });
        }
        callers
    }

    /// Reads a role that the grant names exactly.
    async fn named(
        &self,
        id: &AccountId,
        arn: &str,
        consumer: Option<&Session>,
        unmanaged: &str,
    ) -> Result<Option<Box<Holder>>, String> {
        let known = self.world.watch_caches.account(id);
        let labels = self
            .world
            .watch_caches
            .namespace_labels(&self.owner.grant.namespace);
        if known
            .as_ref()
            .is_some_and(|known| !is_open_to(&self.owner.grant, labels.as_ref(), &known.spec))
        {
            return Err(format!(
                "AWSAccount {id} has no rule for namespace {} under spec.consumer.rules, so its roles are not read: check there that the role exists, and is allowed what it needs",
                self.owner.grant.namespace
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
            Some(role) => Ok(Some(Box::new(self.holder(&account, &role).await))),
            None => Ok(None),
        }
    }

    async fn holder(&self, account: &Account, role: &Role) -> Holder {
        let mut managed = BTreeMap::new();
        for arn in Holder::managed_policies(role) {
            managed.insert(
                arn.clone(),
                self.world
                    .policy_cache
                    .managed_policy(account, arn, self.fresh)
                    .await,
            );
        }
        Holder::of(role, &managed)
    }
}
