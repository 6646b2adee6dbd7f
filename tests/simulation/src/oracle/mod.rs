//! Judges what the operator does, from the documentation alone. It shares no code with the operator.
//!
//! - [`documents`]: reads repository policies.
//! - [`expected`]: what the grants ask for.
//! - `invariants`: what must hold at every step.
//! - `convergence`: what must hold at the end.

mod convergence;
pub mod documents;
pub mod expected;
mod invariants;

pub use invariants::{Invariant, Oracle, Violation};

use crate::aws::State;
use documents::{Identity, allows, statements};
use expected::{Place, Use};
use serde_json::Value;

/// Returns all repositories.
fn places(state: &State) -> Vec<Place> {
    let mut places = Vec::new();
    for account in state.accounts() {
        for (region, registry) in &account.registries {
            for (_, repository) in registry.repositories.iter() {
                places.push(Place {
                    account: account.id.clone(),
                    region: region.clone(),
                    name: repository.name.clone(),
                });
            }
        }
    }
    places
}

/// Returns the roles of all accounts.
fn identities(state: &State) -> Vec<Identity> {
    let mut identities = Vec::new();
    for account in state.accounts() {
        for (_, role) in account.roles.iter() {
            identities.push(Identity {
                account: account.id.clone(),
                arn: role.arn.clone(),
            });
        }
    }
    identities
}

/// Returns the statements of a repository's policy.
fn policy_of(state: &State, place: &Place) -> Vec<Value> {
    state
        .repository(&place.account, &place.region, &place.name)
        .and_then(|repository| repository.policy.as_ref())
        .map(|policy| statements(policy, &|id| state.arn_of(id)))
        .unwrap_or_default()
}

/// Returns whether one of the statements allows a use.
fn any_allows(statements: &[Value], identity: &Identity, how: Use) -> bool {
    statements
        .iter()
        .any(|statement| allows(statement, identity, how.action()))
}
