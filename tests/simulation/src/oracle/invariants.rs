//! What must hold at every step, under any fault.

use super::documents::{is_operators, names_dead_principal, normal, statements};
use super::expected::{Asked, Place};
use super::{Access, all_access, any_allows, policy_of, uses};
use crate::api_server::observe as api;
use crate::api_server::store::{self, Store};
use crate::api_server::{ApiServer, Kind, request};
use crate::aws::{self, Change, Changed, Outcome, Record, Service, State, World};
use crate::environment::MANAGEMENT_ROLE;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

/// A rule that a state broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// The operator removed a foreign statement that it had read.
    ForeignStatementLost,
    /// A grant that works lost access by a write of the operator.
    AccessLost,
    /// A grant is gone, and its access is not.
    RevocationIncomplete,
    /// At the end, access in AWS is not what the grants ask for.
    NotConverged,
    /// A replica ended or panicked by itself.
    OperatorEnded,
}

/// A broken rule, with the details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule.
    pub invariant: Invariant,
    /// What is wrong, and where.
    pub details: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.details)
    }
}

/// Checks each change of AWS and of the cluster. Clones are the same oracle.
#[derive(Clone, Debug)]
pub struct Oracle {
    pub(super) aws: World,
    pub(super) api_server: ApiServer,
    found: Arc<Mutex<Found>>,
}

#[derive(Debug, Default)]
struct Found {
    violations: Vec<Violation>,
    /// The foreign statements that each access key saw at its last read of a repository's policy.
    read: BTreeMap<(String, Place), BTreeSet<String>>,
    /// The grants whose finalizer was removed by hand. The operator finds what they left by itself,
    /// and until then it may be there.
    removed_by_hand: Vec<Asked>,
}

impl Oracle {
    /// Creates an oracle that sees all changes from now on.
    pub fn watching(aws: &World, api_server: &ApiServer) -> Self {
        let oracle = Self {
            aws: aws.clone(),
            api_server: api_server.clone(),
            found: Arc::default(),
        };
        aws.observe(Arc::new(oracle.clone()));
        api_server.observe(oracle.clone());
        oracle
    }

    /// Returns the broken rules so far.
    pub fn violations(&self) -> Vec<Violation> {
        self.found().violations.clone()
    }

    /// Records a broken rule.
    pub fn report(&self, invariant: Invariant, details: String) {
        self.found()
            .violations
            .push(Violation { invariant, details });
    }

    fn found(&self) -> std::sync::MutexGuard<'_, Found> {
        self.found.lock().expect("no panic while held")
    }

    /// Checks that a write of the operator keeps the foreign statements that it has read.
    fn check_foreign(
        &self,
        by: &aws::Call,
        place: &Place,
        before: &State,
        after: &BTreeSet<String>,
    ) {
        let was = foreign(&policy_of(before, place));
        let key = (by.access_key.clone(), place.clone());
        let read = self.found().read.get(&key).cloned();
        for lost in was.difference(after) {
            let is_known = read.as_ref().is_none_or(|read| read.contains(lost));
            if is_known {
                self.report(
                    Invariant::ForeignStatementLost,
                    format!("{place:?} at {}: {lost}", by.time),
                );
            }
        }
    }

    /// Checks that a write of the operator leaves each working grant its access.
    fn check_access(
        &self,
        by: &aws::Call,
        place: &Place,
        before: &State,
        after: &[serde_json::Value],
    ) {
        let was = policy_of(before, place);
        let mut losses = uses(before);
        losses.retain(|(identity, how)| {
            any_allows(&was, identity, *how) && !any_allows(after, identity, *how)
        });
        if losses.is_empty() {
            return;
        }
        let working: Vec<Asked> = self.api_server.read(|store| {
            let grants = Asked::all(store).into_iter();
            grants
                .filter(|grant| grant.is_ready && !grant.is_deleting && grant.is_admitted(store))
                .collect()
        });
        for (identity, how) in losses {
            let gives = |grant: &&Asked| {
                grant.gives(place, &identity, how) && grant.gave(place, &identity, how)
            };
            if let Some(grant) = working.iter().find(gives) {
                self.report(
                    Invariant::AccessLost,
                    format!(
                        "{} at {}: {identity:?} {how:?} {place:?}",
                        grant.name, by.time
                    ),
                );
            }
        }
    }

    /// Checks that no access is left of a grant that the operator let go.
    fn check_revoked(&self, gone: &Asked, store: &Store) {
        let mut others = Asked::all(store);
        others.extend(self.found().removed_by_hand.clone());
        for Access {
            place,
            identity,
            how,
            is_allowed,
        } in self.aws.read(all_access)
        {
            let given = |grant: &Asked| {
                grant.gives(&place, &identity, how) || grant.gave(&place, &identity, how)
            };
            if is_allowed && given(gone) && !others.iter().any(given) {
                self.report(
                    Invariant::RevocationIncomplete,
                    format!("{}: {identity:?} {how:?} {place:?}", gone.name),
                );
            }
        }
    }
}

fn foreign(statements: &[serde_json::Value]) -> BTreeSet<String> {
    statements
        .iter()
        .filter(|statement| !is_operators(statement) && !names_dead_principal(statement))
        .map(normal)
        .collect()
}

fn is_by_operator(call: &aws::Call) -> bool {
    call.caller.contains(&format!("/{MANAGEMENT_ROLE}/"))
}

impl aws::Observer for Oracle {
    fn before_change(&self, state: &State, changed: &Changed<'_>) {
        let Changed {
            by: Some(call),
            change:
                Change::Repository {
                    account,
                    region,
                    name,
                    to: Some(repository),
                },
            ..
        } = changed
        else {
            return;
        };
        if !is_by_operator(call) {
            return;
        }
        let place = Place {
            account: account.clone(),
            region: region.clone(),
            name: name.clone(),
        };
        let after = repository
            .policy
            .as_ref()
            .map(|policy| statements(policy, &|id| state.arn_of(id)))
            .unwrap_or_default();
        self.check_foreign(call, &place, state, &foreign(&after));
        self.check_access(call, &place, state, &after);
    }

    fn called(&self, state: &State, record: &Record) {
        let Record { call, outcome, .. } = record;
        let is_read = call.service == Service::Ecr && call.operation == "GetRepositoryPolicy";
        let is_answered = match outcome {
            Outcome::Done => true,
            Outcome::Refused(error) => error.code == "RepositoryPolicyNotFoundException",
            Outcome::NotReached => false,
        };
        if !(is_read && is_answered && is_by_operator(call)) {
            return;
        }
        let place = Place {
            account: call.account.clone(),
            region: call.region.clone(),
            name: call.resource().to_owned(),
        };
        let seen = foreign(&policy_of(state, &place));
        let key = (call.access_key.clone(), place);
        self.found().read.insert(key, seen);
    }
}

impl api::Observer for Oracle {
    fn after(&mut self, call: Option<&request::Call>, change: &store::Change, store: &Store) {
        if change.key.kind != Kind::Grant || !change.is_deletion {
            return;
        }
        let gone = Asked::of(change.new.value());
        // Without a call, somebody removed the finalizer by hand.
        if call.is_some() {
            self.check_revoked(&gone, store);
        } else {
            self.found().removed_by_hand.push(gone);
        }
    }
}
