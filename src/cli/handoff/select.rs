//! Selects the account that a handoff is for, and the grants that concern it.

use crate::api::CrossAccountRegistryGrant;
use crate::cli::manifests::Files;
use crate::cli::terminal::plain;
use crate::grant::{AccountId, GrantName};
use std::collections::BTreeSet;

/// The side of a grant that an account is on.
#[derive(Clone, Copy, PartialEq)]
pub enum GrantSide {
    Registry,
    Consumer,
}

/// A grant, with the side of it that the account is on.
pub struct SelectedGrant<'a> {
    pub name: &'a GrantName,
    pub resource: &'a CrossAccountRegistryGrant,
    pub side: GrantSide,
}

/// The account, and the grants that concern it.
pub struct Selection<'a> {
    /// `None` if it is any account of an organization.
    pub account: Option<AccountId>,
    pub grants: Vec<SelectedGrant<'a>>,
}

impl<'a> Selection<'a> {
    /// Selects the requested account, or else the only consumer account without an
    /// `AWSAccount`.
    ///
    /// # Errors
    /// When no grant concerns the account, or when it is not clear which account is meant.
    pub fn of(files: &'a Files, asked: Option<&AccountId>) -> Result<Self, String> {
        if files.grants.is_empty() {
            return Err("there is no CrossAccountRegistryGrant in these manifests".into());
        }
        asked.map_or_else(
            || Self::of_unmanaged_consumer(files),
            |id| Self::of_account(files, id),
        )
    }

    /// If no grant names the account, it may belong to an organization that a grant is for.
    fn of_account(files: &'a Files, id: &AccountId) -> Result<Self, String> {
        let mut grants = grants_naming(files, id);
        if grants.is_empty() {
            grants = grants_of_organizations(files);
        }
        if grants.is_empty() {
            return Err(format!(
                "--account {id}: no grant in these manifests names this account"
            ));
        }
        Ok(Self {
            account: Some(id.clone()),
            grants,
        })
    }

    fn of_unmanaged_consumer(files: &'a Files) -> Result<Self, String> {
        let unmanaged = unmanaged_consumers(files)?;
        let organizations = grants_of_organizations(files);
        match unmanaged.as_slice() {
            [] if organizations.is_empty() => Err("every consumer account has an AWSAccount, so the operator writes there itself. Use --account to get the handoff of one of them nevertheless".into()),
            [] => Ok(Self {
                account: None,
                grants: organizations,
            }),
            [id] if organizations.is_empty() => {
                let mut grants = grants_naming(files, id);
                grants.retain(|selected| selected.side == GrantSide::Consumer);
                Ok(Self {
                    account: Some(id.clone()),
                    grants,
                })
            }
            several => {
                let ids: Vec<&str> = several.iter().map(AccountId::as_str).collect();
                let besides = if organizations.is_empty() {
                    ""
                } else {
                    ", and the accounts of an organization"
                };
                Err(format!(
                    "several accounts need a handoff: {}{besides}. Choose one with --account",
                    ids.join(", ")
                ))
            }
        }
    }
}

/// Returns the consumer accounts without an `AWSAccount`.
fn unmanaged_consumers(files: &Files) -> Result<Vec<AccountId>, String> {
    let numbers: BTreeSet<&String> = files
        .grants
        .values()
        .filter_map(|resource| resource.spec.consumer.account_id.as_ref())
        .collect();
    let mut unmanaged = Vec::new();
    let mut wrong = Vec::new();
    for number in numbers {
        match number.parse::<AccountId>() {
            Ok(id) if files.accounts.contains_key(&id) => {}
            Ok(id) => unmanaged.push(id),
            Err(why) => wrong.push(plain(&why)),
        }
    }
    if wrong.is_empty() {
        Ok(unmanaged)
    } else {
        Err(format!("spec.consumer.accountID: {}", wrong.join("; ")))
    }
}

/// Returns the grants that name the account, on each side.
fn grants_naming<'a>(files: &'a Files, id: &AccountId) -> Vec<SelectedGrant<'a>> {
    let mut grants = Vec::new();
    for (name, resource) in &files.grants {
        let is_registry = resource.spec.registry.account_id == id.as_str();
        let is_consumer = resource.spec.consumer.account_id.as_deref() == Some(id.as_str());
        for (concerns, side) in [
            (is_registry, GrantSide::Registry),
            (is_consumer, GrantSide::Consumer),
        ] {
            if concerns {
                grants.push(SelectedGrant {
                    name,
                    resource,
                    side,
                });
            }
        }
    }
    grants
}

/// Returns the grants for organizations. A grant without account and organization is invalid, and
/// reported as such later.
fn grants_of_organizations(files: &Files) -> Vec<SelectedGrant<'_>> {
    files
        .grants
        .iter()
        .filter(|(_, resource)| resource.spec.consumer.account_id.is_none())
        .map(|(name, resource)| SelectedGrant {
            name,
            resource,
            side: GrantSide::Consumer,
        })
        .collect()
}
