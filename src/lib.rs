//! registry-grants: lets workloads of one AWS account push to and pull from another account's
//! private ECR repositories.
//!
//! ```text
//!  CrossAccountRegistryGrant ─┐
//!  AWSAccount ────────────────┼─→ validate ─→ Grant ─→ desired ──┐
//!                             │                                  ├─→ diff ─→ steps ─→ apply ─→ outcome ─→ status
//!                             │        what AWS has ─→ observed ─┘
//!                             └─→ all grants on a repository ─→ one policy document, one writer
//! ```
//!
//! Imports point one way: `main → cli → controller → aws → grant → policy`. [`grant`] and
//! [`policy`] are pure: what is decided is decided there, what touches the world decides nothing.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod aws;
pub mod cli;
pub mod controller;
pub mod grant;
pub mod policy;
pub mod telemetry;
