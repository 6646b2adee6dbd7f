//! Applies one grant in AWS, or revokes it.
//!
//! - `request`: what is applied, and why.
//! - `stages`: calls the stages in their order, and puts their results together.
//! - `executor`: carries out the steps, or only reports them in a dry run.
//! - `probe`: reads new places, and says which of them the grant may claim.
//! - `roles`: the registry role and the instance role.
//! - `removal`: roles that are not desired any more.
//! - `role_owners`: which grants share an instance role, and which grant may have a registry role.
//! - `repositories`: the policies of the grant's repositories.
//! - `repository_texts`: what a grant's status says of one repository.
//! - `done`: the result.
//! - `types`: what the stages share: the apply, its sessions, and what was read of new places.
//! - `access`: reads what access depends on; `grant::access` judges it.
//!
//! The order is that of the design: the consumer's role comes before the policies that name it, and
//! access widens last. When access is revoked, the repository policies go first. One account's
//! failure never hides another's. Each stage returns what it did.

mod access;
mod done;
mod executor;
mod probe;
mod removal;
mod repositories;
mod repository_texts;
mod request;
mod role_owners;
mod roles;
mod stages;
mod types;

pub use self::done::{Done, Effects, Log};
pub use self::request::{Aim, ApplyRequest};
pub use self::types::Apply;
