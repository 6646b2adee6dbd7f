//! Applies one grant in AWS, or revokes it.
//!
//! - `places`: reads new places, and says which of them the grant may claim.
//! - `roles`: the registry role and the instance role.
//! - `role_owners`: which grants share an instance role, and which grant may have a registry role.
//! - `repositories`: the policies of the grant's repositories.
//! - `access`: reads what access depends on; `grant::access` judges it.
//!
//! The order is that of the design: the consumer's role comes before the policies that name it, and
//! access widens last. When access is revoked, the repository policies go first. One account's
//! failure never hides another's.

mod access;
mod places;
mod repositories;
mod role_owners;
mod roles;

pub use self::places::Probed;

use crate::api::account::AWSAccount;
use crate::api::conditions::Reason;
use crate::api::grant::{Applied, CrossAccountRegistryGrantSpec, OnDelete, RegistryStatus};
use crate::aws::Account;
use crate::aws::error::AwsError;
use crate::aws::iam::Made;
use crate::controller::World;
use crate::controller::recent::Revoked;
use crate::controller::repository_policy::sync::Freshness;
use crate::grant::change::Change;
use crate::grant::claims::Place;
use crate::grant::desired::Desired;
use crate::grant::diff::{Step, refused_trust};
use crate::grant::observed::Role;
use crate::grant::ownership::Owner;
use crate::grant::status::{Outcome, StatusPart};
use crate::grant::{AccountId, AccountLookup, Grant, Problem};
use crate::policy::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

type Session = Result<Arc<Account>, Problem>;

/// Changes that were made, and their outcome.
pub struct Done {
    pub outcome: Outcome,
    /// Changes in AWS; in a dry run, those that would be made.
    pub changes: Vec<Change>,
    /// Changes that reverted drift, in words.
    pub put_back: Vec<String>,
    /// Further notices for people, in words.
    pub notices: Vec<String>,
    /// Whether the desired state was the same before: then somebody else caused the changes.
    pub as_before: bool,
    /// Places that could not be revoked and are no longer claimed, as the grant's annotation asked.
    pub given_up: BTreeMap<Place, Problem>,
    /// Deleted principals that were removed from foreign statements, in words.
    pub dead_principals: Vec<String>,
    /// The latest time until the next reconcile, if there is more to do.
    pub again: Option<Duration>,
    /// The repository policies in which access was revoked.
    pub revoked: Vec<Revoked>,
}

/// Aim of an enforcement.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// Puts the grant in place.
    Hold(&'a Grant),
    /// Revokes everything of the grant.
    Revoke,
    /// Leaves the grant's access in place, unowned.
    Retain(&'a Grant),
}

/// Enforcement of one grant in one reconcile.
pub struct Enforcement<'a> {
    world: &'a World,
    owner: &'a Owner,
    spec: &'a CrossAccountRegistryGrantSpec,
    /// The registry account, and the consumer account if there is one. Both are immutable.
    accounts: (&'a str, Option<&'a str>),
    /// The desired grant; `None`: nothing of it should remain ours.
    grant: Option<&'a Grant>,
    /// The grant whose access stays without being ours.
    retained: Option<&'a Grant>,
    /// Places where this grant may have written.
    claims: &'a Applied,
    /// The treatment of the instance role when it is revoked.
    on_delete: OnDelete,
    /// The freshness that syncs of the repository policies need.
    look: Freshness,
    /// Whether this is a dry run: nothing is written, and the changes are only reported.
    observes: bool,
    /// Maximum age of cached managed and registry policies.
    fresh: Duration,
    changes: Vec<Change>,
    put_back: Vec<String>,
    notices: Vec<String>,
    /// Roles and repository policies that were read, for the evaluation of access.
    read: access::RoleAndPolicyReads,
    /// Problems of access that could not be revoked.
    left: Left,
    /// Results of reading the places that were not claimed yet.
    probed: Probed,
    /// Whether places are given up that cannot be revoked because the operator has no access to
    /// them.
    abandons: bool,
    /// Places that are no longer desired and stay claimed, with the reason if there is one.
    undone: BTreeMap<Place, Option<Problem>>,
    given_up: BTreeMap<Place, Problem>,
    dead_principals: Vec<String>,
    again: Option<Duration>,
    revoked: Vec<Revoked>,
}

/// Problems of access that could not be revoked, by the condition that reports them.
#[derive(Default)]
struct Left {
    repositories: Vec<Problem>,
    registry_roles: Vec<Problem>,
    instance_roles: Vec<Problem>,
}

/// Reason why steps were not carried out to their end.
struct Failed {
    problem: Problem,
    /// The trust policy in the form that IAM refused.
    refused: Option<Document>,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            refused: None,
        }
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        failed.problem
    }
}

impl<'a> Enforcement<'a> {
    pub fn new(
        world: &'a World,
        owner: &'a Owner,
        spec: &'a CrossAccountRegistryGrantSpec,
        aim: Aim<'a>,
        claims: &'a Applied,
        look: Freshness,
    ) -> Self {
        let CrossAccountRegistryGrantSpec {
            registry, consumer, ..
        } = spec;
        let accounts = (registry.account_id.as_str(), consumer.account_id.as_deref());
        let (grant, retained) = match aim {
            Aim::Hold(grant) => (Some(grant), None),
            Aim::Revoke => (None, None),
            Aim::Retain(grant) => (None, Some(grant)),
        };
        let on_delete = consumer
            .instance_role
            .as_ref()
            .and_then(|role| role.on_delete)
            .unwrap_or_default();
        Self {
            world,
            owner,
            spec,
            accounts,
            grant,
            retained,
            claims,
            on_delete,
            look,
            observes: false,
            fresh: world.resync_interval,
            changes: Vec::new(),
            put_back: Vec::new(),
            notices: Vec::new(),
            read: access::RoleAndPolicyReads::default(),
            left: Left::default(),
            probed: Probed::default(),
            abandons: false,
            undone: BTreeMap::new(),
            given_up: BTreeMap::new(),
            dead_principals: Vec::new(),
            again: None,
            revoked: Vec::new(),
        }
    }

    /// Sets the results of reading the places that were not claimed yet.
    pub fn after(self, probed: Probed) -> Self {
        Self { probed, ..self }
    }

    /// Sets whether places that are not desired any more are given up if the operator has no access
    /// to them.
    pub fn abandoning(self, abandons: bool) -> Self {
        Self { abandons, ..self }
    }

    /// Sets the maximum age of cached policies that others manage.
    pub fn knowing_as_of(self, fresh: Duration) -> Self {
        Self { fresh, ..self }
    }

    /// Makes this a dry run.
    pub fn observing(self) -> Self {
        Self {
            observes: true,
            ..self
        }
    }

    pub async fn run(mut self) -> Done {
        let desired = self.grant.map(|grant| grant.desired(self.owner));
        let mut hasher = DefaultHasher::new();
        format!("{desired:?}").hash(&mut hasher);
        let as_before = !self.observes
            && self
                .world
                .claims_cache
                .carries_out(&self.owner.uid, hasher.finish());
        let Desired {
            registry_role,
            instance,
        } = desired.unwrap_or(Desired {
            registry_role: None,
            instance: None,
        });
        // Each part takes a work slot in the account that it calls. While that account's limit
        // makes it wait, it holds up no work in the other account.
        let (in_registry, in_consumer) = self.accounts;
        let in_consumer =
            in_consumer.filter(|_| !self.claims.instance_roles.is_empty() || instance.is_some());
        let (mut consumer, mut alone, mut turn) = (None, None, None);
        if let Some(account) = in_consumer {
            // No slot is held while another grant works on the same role.
            match (&instance, account.parse()) {
                (Some(instance), Ok(id)) => {
                    let (role, slot) = self.world.alone_on(&id, &instance.role.name).await;
                    (alone, turn) = (Some(role), Some(slot));
                }
                (None, _) | (_, Err(_)) => turn = Some(self.world.turn(account).await),
            }
            consumer = Some(self.session(account).await);
        }
        let kept = Box::pin(self.keep_instance(consumer.as_ref(), instance.as_ref())).await;
        let (consumer_part, consumer_status) = kept;
        drop((turn, alone));
        let turn = self.world.turn(in_registry).await;
        let registry = self.session(in_registry).await;
        let kept = Box::pin(self.keep_registry_role(&registry, registry_role.as_ref())).await;
        let (role_part, role_status) = kept;
        // Each sync of a repository takes its own slot. A sync that waits for another grant's work
        // holds none.
        drop(turn);
        let (repositories, each_repository) = Box::pin(self.keep_repositories(&registry)).await;
        let kept = registry_role.as_ref().map(|role| role.name.as_str());
        if self
            .claims
            .registry_roles
            .iter()
            .any(|name| Some(name.as_str()) != kept)
        {
            let _turn = self.world.turn(in_registry).await;
            Box::pin(self.remove_registry_roles(&registry, registry_role.as_ref())).await;
        }
        Box::pin(self.remove_instances(consumer.as_ref(), instance.as_ref())).await;
        let access = Box::pin(self.access(&registry, consumer.as_ref())).await;
        let applied = self.remaining_claims(&registry, consumer.as_ref(), &consumer_part);

        let sessions = [Some(&registry), consumer.as_ref()].into_iter().flatten();
        let no_session: Vec<Problem> = sessions
            .filter_map(|session| session.as_ref().err().cloned())
            .collect();
        let mut outcome = Outcome {
            revoking: self.grant.is_none(),
            refusal: Vec::new(),
            accounts: accounts_part(&no_session),
            no_session,
            role: role_part.with(&mut self.left.registry_roles),
            consumer: consumer_part.with(&mut self.left.instance_roles),
            repositories: repositories.with(&mut self.left.repositories),
            each_repository,
            replaces: BTreeSet::new(),
            registry_status: RegistryStatus {
                hosts: self.grant.map(Grant::registry_hosts).unwrap_or_default(),
                ..role_status
            },
            consumer_status,
            access: Vec::new(),
            pending: None,
            applied,
            summary: self.grant.map(Grant::summary).unwrap_or_default(),
            handled: None,
        };
        outcome.access = access;
        if self.observes {
            outcome.pending = Some(self.changes.iter().map(ToString::to_string).collect());
        }
        let Self {
            changes,
            put_back,
            notices,
            given_up,
            dead_principals,
            again,
            revoked,
            ..
        } = self;
        Done {
            outcome,
            changes,
            put_back,
            notices,
            as_before,
            given_up,
            dead_principals,
            again,
            revoked,
        }
    }

    async fn session(&self, account: &str) -> Session {
        let id: AccountId = account
            .parse()
            .map_err(|error| Problem::new(Reason::Invalid, error))?;
        let known: Option<Arc<AWSAccount>> = self.world.watch_caches.account(&id);
        let Some(known) = known else {
            return Err(Problem::new(
                Reason::AccountNotFound,
                format!(
                    "there is no AWSAccount {id} any more, so what was made there for this grant cannot be kept or removed; create it again"
                ),
            ));
        };
        self.world
            .aws
            .account(&id, &known.spec, Some(&self.owner.grant.namespace))
            .await
    }

    /// Carries out steps in order until one fails. In a dry run, they are only reported. `role` is
    /// the role that the steps change, and is updated with each of them.
    async fn apply(
        &mut self,
        account: &Account,
        steps: Vec<Step>,
        role: &mut Option<Role>,
    ) -> Result<Vec<Made>, Failed> {
        let mut made = Vec::new();
        for step in steps {
            let change = Change::of_step(&account.id, &step, role.as_ref());
            if !self.observes {
                let permit = self.world.leadership.may_write()?;
                let applied = permit.carry(account.apply(step.clone())).await;
                let named = applied.map_err(|fault| self.failed(account, &step, fault))?;
                let identity = match &named {
                    Some(Made::Role { arn, id }) => Some((arn.as_str(), id.as_str())),
                    Some(Made::Profile { .. }) | None => None,
                };
                *role = step.apply_to(role.take(), identity);
                made.extend(named);
                tracing::info!(grant = %self.owner.grant, "{change}");
            }
            self.changes.push(change);
        }
        Ok(made)
    }

    fn failed(&self, account: &Account, step: &Step, fault: AwsError) -> Failed {
        match step {
            Step::UpdateTrust { role, trust } if fault.code == "MalformedPolicyDocument" => {
                let blocked = refused_trust(
                    &account.id,
                    role,
                    trust,
                    &fault.to_string(),
                    &self.owner.installation,
                );
                Failed {
                    problem: blocked.unwrap_or_else(|| fault.into()),
                    refused: Some(trust.clone()),
                }
            }
            _ => Failed {
                problem: fault.into(),
                refused: None,
            },
        }
    }

    /// Returns the status of a part that was applied, given the number of changes before it: in
    /// place, or pending in a dry run.
    fn part(&self, before: usize, in_place: String) -> StatusPart {
        match self.changes.len() - before {
            1 if self.observes => {
                StatusPart::Pending("a change is pending, see status.pending".into())
            }
            pending @ 2.. if self.observes => {
                StatusPart::Pending(format!("{pending} changes are pending, see status.pending"))
            }
            _ => StatusPart::InPlace(in_place),
        }
    }
}

fn accounts_part(no_session: &[Problem]) -> StatusPart {
    match Problem::join(no_session) {
        Some(problem) => StatusPart::Failed(problem),
        None => StatusPart::InPlace(
            "the accounts admit the grant, and the operator's credentials are for them".into(),
        ),
    }
}
