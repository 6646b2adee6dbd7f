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
//! - [`api`]: the custom resources and their statuses.
//! - [`policy`]: IAM policy documents as values. Pure.
//! - [`grant`]: validates a grant, computes desired state, diff and status. Pure.
//! - [`aws`]: calls STS, IAM and ECR, and classifies their errors.
//! - [`controller`]: watches, reconciles, sweeps, and elects a leader.
//! - [`telemetry`]: logs, metrics, traces and health checks.
//! - [`clock`]: wall time and randomness, passed in from the outside.
//! - [`cli`]: the subcommands.
//! - [`text`]: lists and limits of texts for people.
//!
//! Imports point one way: `main → cli → controller → aws → grant → policy`. `api`, `telemetry`,
//! `clock` and `text` are below all of them. The pure parts decide; the parts that call AWS or the
//! cluster decide nothing. `docs/architecture.md` describes a reconcile step by step, lists the
//! purpose of every file, and contains the glossary.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod api;
pub mod aws;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod grant;
pub mod policy;
pub mod telemetry;
pub mod text;
