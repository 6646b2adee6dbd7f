//! An apply of one grant: its input, its sessions, and what was read of its new places.

use super::executor::Executor;
use super::request::ApplyRequest;
use crate::api::conditions::Reason;
use crate::api::grant::Applied;
use crate::aws::Account;
use crate::controller::context::{Cloud, Cluster, Context};
use crate::grant::claims::Place;
use crate::grant::observed::{Instance, RoleReading};
use crate::grant::{AccountId, AccountLookup, Problem};
use crate::policy::Document;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Session in an account, or the reason why there is none.
pub type Session = Result<Arc<Account>, Problem>;

/// The current policy of a repository, `None` if there is none, or the reason why it could not be
/// read.
pub type PolicyReading = Result<Option<Arc<Document>>, String>;

/// Apply of one grant in one reconcile.
pub struct Apply<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) cloud: &'a Cloud,
    pub(super) executor: Executor<'a>,
    pub(super) request: ApplyRequest<'a>,
    /// Results of reading the places that were not claimed yet.
    pub(super) probed: Probed,
}

/// Sessions in the two accounts of a grant. `consumer` is `None` if nothing is done there.
pub struct Sessions {
    pub(super) registry: Session,
    pub(super) consumer: Option<Session>,
}

/// Results of reading a grant's new places.
#[derive(Default)]
pub struct Probed {
    /// The places that may be written.
    pub(super) claims: Option<Applied>,
    /// The places that may not, with the reason.
    pub(super) unusable: BTreeMap<Place, Problem>,
    /// The names of all repositories in each region that was listed.
    pub(super) listed: BTreeMap<String, Vec<String>>,
    /// The registry role, which belongs to this grant alone.
    pub(super) registry_role: RoleReading,
    /// The instance role. Only a grant that shares it with no other may rely on it: another grant's
    /// work may have come in between.
    pub(super) instance: Option<Instance>,
}

impl Probed {
    /// Returns the places that the grant may claim.
    pub fn claims(&self) -> Applied {
        self.claims.clone().unwrap_or_else(Applied::none)
    }
}

impl<'a> Apply<'a> {
    /// Creates an apply that carries its steps out.
    pub fn live(context: &'a Context, request: ApplyRequest<'a>) -> Self {
        Self {
            executor: Executor::Live(context),
            ..Self::dry_run(&context.cluster, &context.cloud, request)
        }
    }

    /// Creates an apply that only reports its steps.
    pub fn dry_run(cluster: &'a Cluster, cloud: &'a Cloud, request: ApplyRequest<'a>) -> Self {
        Self {
            cluster,
            cloud,
            executor: Executor::DryRun,
            request,
            probed: Probed::default(),
        }
    }

    /// Uses the results of reading the places that were not claimed yet.
    pub fn after(self, probed: Probed) -> Self {
        Self { probed, ..self }
    }

    /// Opens a session in an account.
    pub(super) async fn session(&self, account: &str) -> Session {
        let id: AccountId = account
            .parse()
            .map_err(|error| Problem::new(Reason::Invalid, error))?;
        let Some(known) = self.cluster.watch_caches.account(&id) else {
            return Err(Problem::new(
                Reason::AccountNotFound,
                format!(
                    "there is no AWSAccount {id} any more, so the operator can neither maintain nor remove what it created there for this grant. Create the AWSAccount again"
                ),
            ));
        };
        let namespace = &self.request.owner.grant.namespace;
        self.cloud
            .aws
            .account(&id, &known.spec, Some(namespace))
            .await
    }
}

impl Sessions {
    /// Returns the reasons why there is no session.
    pub fn problems(&self) -> Vec<Problem> {
        [Some(&self.registry), self.consumer.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|session| session.as_ref().err().cloned())
            .collect()
    }

    /// Returns the reason why there is no session in the account of this place.
    pub fn problem_at(&self, place: &Place) -> Option<&Problem> {
        match place {
            Place::Repositories { .. } | Place::RegistryRole(_) => self.registry.as_ref().err(),
            Place::InstanceRole(_) => self.consumer.as_ref()?.as_ref().err(),
        }
    }
}
