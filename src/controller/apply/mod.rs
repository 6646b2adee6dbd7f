//! Applies one grant in AWS, or revokes it.
//!
//! - `places`: reads new places, and says which of them the grant may claim.
//! - `roles`: the registry role and the instance role.
//! - `role_owners`: which grants share an instance role, and who may have a registry role.
//! - `repositories`: the policies of the grant's repositories.
//! - `access`: reads what access depends on; `grant::access` judges it.
//!
//! The order is that of the design: the consumer's role comes before what names it, and access
//! widens last. When access is revoked, the repository policies go first. One account's failure
//! never hides another's.

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
use crate::grant::desired::{Desired, Owner};
use crate::grant::diff::{Step, refused_trust};
use crate::grant::observed::Role;
use crate::grant::status::{Outcome, StatusPart};
use crate::grant::{AccountId, AccountLookup, Grant, Problem};
use crate::policy::Document;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

type Session = Result<Arc<Account>, Problem>;

/// What was done, and what came of it.
pub struct Done {
    pub outcome: Outcome,
    /// What was changed in AWS; or, where nothing is written, what would be.
    pub changes: Vec<Change>,
    /// What of it put back what somebody else had changed, in words.
    pub put_back: Vec<String>,
    /// What people should hear of besides, in words.
    pub notices: Vec<String>,
    /// Whether the same was to be true before: then what was changed now was changed by somebody
    /// else.
    pub as_before: bool,
    /// Places that could not be revoked and are no longer claimed, as the grant's annotation asked.
    pub given_up: BTreeMap<Place, Problem>,
    /// Deleted principals that were removed from foreign statements, in words.
    pub dead_principals: Vec<String>,
    /// When there is more to do, at the latest.
    pub again: Option<Duration>,
    /// Where access was revoked in a repository's policy.
    pub revoked: Vec<Revoked>,
}

/// What is to become of a grant.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// It is to be true.
    Hold(&'a Grant),
    /// Nothing of it is to be left.
    Revoke,
    /// What it gave is to stay, and to be nobody's.
    Retain(&'a Grant),
}

/// One reconciliation of one grant.
pub struct Enforcement<'a> {
    world: &'a World,
    owner: &'a Owner,
    spec: &'a CrossAccountRegistryGrantSpec,
    /// The registry's and the consumer's, if it is one: they cannot change in a grant's life.
    accounts: (&'a str, Option<&'a str>),
    /// What should be true; `None`: nothing of this grant should be ours any more.
    grant: Option<&'a Grant>,
    /// What is to stay without being ours.
    retained: Option<&'a Grant>,
    /// Where this grant may have left something.
    claims: &'a Applied,
    /// What becomes of the instance role.
    on_delete: OnDelete,
    /// How the repositories' policies are looked at.
    look: Freshness,
    /// Whether nothing is written, and only what would be is told.
    observes: bool,
    /// How old what is known of managed policies may be.
    fresh: Duration,
    changes: Vec<Change>,
    put_back: Vec<String>,
    notices: Vec<String>,
    /// What was read of roles and repositories, for judging access by it.
    read: access::RoleAndPolicyReads,
    /// What could not be taken back.
    left: Left,
    /// What reading the places that were not claimed yet has shown.
    probed: Probed,
    /// Whether places are given up that cannot be revoked because the operator cannot get at them.
    abandons: bool,
    /// The places that are no longer wanted and stay claimed, with the reason where there is one.
    undone: BTreeMap<Place, Option<Problem>>,
    given_up: BTreeMap<Place, Problem>,
    dead_principals: Vec<String>,
    again: Option<Duration>,
    revoked: Vec<Revoked>,
}

/// What could not be revoked, by the condition that it is reported under.
#[derive(Default)]
struct Left {
    repositories: Vec<Problem>,
    registry_roles: Vec<Problem>,
    instance_roles: Vec<Problem>,
}

/// Why steps were not carried out to their end.
struct Failed {
    problem: Problem,
    /// The trust policy that IAM refused as it was.
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

    /// The same, after the places were read that were not claimed yet.
    pub fn after(self, probed: Probed) -> Self {
        Self { probed, ..self }
    }

    /// The same, but places that are not wanted any more are given up where the operator cannot get
    /// at them.
    pub fn abandoning(self, abandons: bool) -> Self {
        Self { abandons, ..self }
    }

    /// The same, with policies that others keep known as of so long ago at most.
    pub fn knowing_as_of(self, fresh: Duration) -> Self {
        Self { fresh, ..self }
    }

    /// The same, but nothing is written.
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
        // Each part takes a work slot in the account that it calls: while the one account's limit
        // makes it wait, it holds up nobody in the other.
        let (in_registry, in_consumer) = self.accounts;
        let in_consumer =
            in_consumer.filter(|_| !self.claims.instance_roles.is_empty() || instance.is_some());
        let (mut consumer, mut alone, mut turn) = (None, None, None);
        if let Some(account) = in_consumer {
            // Another grant's work on the same role is waited for without a slot.
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
        // Each look at a repository takes its own slot: one that waits for another grant's work
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

    /// Carries out steps in their order, until one fails; where nothing is written, they are only
    /// told. `role` is what they are about, and is kept as it becomes by them.
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
                *role = Role::after(role.take(), &step, identity);
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

    /// A part that was looked at, with as many changes as there were before: in place, or only
    /// observed and not so yet.
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
