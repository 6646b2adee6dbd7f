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
use documents::{Identity, allows, is_operators, statements};
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

/// Returns every use by every role of all accounts.
fn uses(state: &State) -> Vec<(Identity, Use)> {
    let mut uses = Vec::new();
    for account in state.accounts() {
        for (_, role) in account.roles.iter() {
            let identity = Identity {
                account: account.id.clone(),
                arn: role.arn.clone(),
            };
            uses.extend(Use::ALL.map(|how| (identity.clone(), how)));
        }
    }
    uses
}

/// A possible use of a repository.
struct Access {
    place: Place,
    identity: Identity,
    how: Use,
    /// Whether the operator's statements allow it.
    is_allowed: bool,
}

/// Returns every possible use of every repository.
fn all_access(state: &State) -> Vec<Access> {
    let uses = uses(state);
    let mut all = Vec::new();
    for place in places(state) {
        let mut ours = policy_of(state, &place);
        ours.retain(is_operators);
        all.extend(uses.iter().map(|(identity, how)| Access {
            place: place.clone(),
            identity: identity.clone(),
            how: *how,
            is_allowed: any_allows(&ours, identity, *how),
        }));
    }
    all
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
