//! What is applied for one grant.

use crate::api::grant::{Applied, CrossAccountRegistryGrantSpec as Spec};
use crate::controller::state::repository::Freshness;
use crate::grant::Grant;
use crate::grant::ownership::Owner;
use std::time::Duration;

/// Aim of an apply.
#[derive(Clone, Copy)]
pub enum Aim<'a> {
    /// Puts the grant in place.
    Hold(&'a Grant),
    /// Revokes everything of the grant.
    Revoke,
    /// Leaves the grant's access in place, unowned.
    Retain(&'a Grant),
}

/// What is applied for one grant.
#[derive(Clone, Copy)]
pub struct ApplyRequest<'a> {
    pub owner: &'a Owner,
    pub spec: &'a Spec,
    pub aim: Aim<'a>,
    /// Places where this grant may have written.
    pub claims: &'a Applied,
    /// The freshness that syncs of the repository policies need.
    pub freshness: Freshness,
    /// Maximum age of cached managed and registry policies.
    pub max_policy_age: Duration,
    /// Whether places are given up that should be revoked, and to which the operator has no access.
    pub abandons: bool,
}

impl<'a> ApplyRequest<'a> {
    /// Returns the desired grant. `None`: nothing of it should remain ours.
    pub fn grant(&self) -> Option<&'a Grant> {
        match self.aim {
            Aim::Hold(grant) => Some(grant),
            Aim::Revoke | Aim::Retain(_) => None,
        }
    }

    /// Returns the grant whose access stays without being ours.
    pub fn retained(&self) -> Option<&'a Grant> {
        match self.aim {
            Aim::Retain(grant) => Some(grant),
            Aim::Hold(_) | Aim::Revoke => None,
        }
    }

    /// Returns the ID of the registry account.
    pub fn registry_account(&self) -> &'a str {
        &self.spec.registry.account_id
    }

    /// Returns the ID of the consumer account, if the spec names one.
    pub fn consumer_account(&self) -> Option<&'a str> {
        self.spec.consumer.account_id.as_deref()
    }
}
