//! The local stack in Rust: the base of the integration tests, `make demo` and `make bench`.
//!
//! - [`Stack`]: etcd, API server, controllers, the AWS emulation and the proxy to its registry, as
//!   one process that ends with ours.
//! - [`Installation`]: a stack with the chart installed and the operator running as the chart's
//!   ServiceAccount; [`Exclusive`], for one test alone.
//! - [`Diagnosis`]: the facts that explain a failed test.
//! - [`Pair`]: a registry account and a consumer account that no other test has.
//! - [`Aws`], [`AccountState`]: AWS as an account's root, and the state of an account, to compare
//!   before and after.
//! - [`Session`], [`Repository`]: a role's session that pushes and pulls with a real registry
//!   client.
//! - [`Cluster`]: the real kubectl and Helm, and direct access to the API server.
//! - [`Node`]: the stack's node, if it has one.
//! - [`report`]: the steps of the demo and of the end-to-end test on an entire cluster, and their
//!   table.
//! - [`Operator`]: the real binary, to start, end and kill.
//! - [`Emulation`], [`CallLog`], [`AuditLog`]: hold AWS calls and query decisions, count calls, and
//!   count writes to the API server.
//!
//! Nothing in this crate waits for a fixed time: it waits for the effect of slow work, within a
//! generous bound.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod account_state;
mod accounts;
mod api_server;
mod aws;
mod cluster;
mod command;
mod diagnosis;
mod document;
mod emulation;
mod http;
mod iam;
mod image;
mod installation;
mod logs;
mod management;
mod node;
mod operator;
mod process;
pub mod report;
mod session;
mod stack;
mod wait;

pub use account_state::{AccountState, InstanceProfile, Role};
pub use accounts::{OPERATOR_ACCOUNT, Pair};
pub use aws::{Aws, REGION};
pub use cluster::Cluster;
pub use command::Finished;
pub use diagnosis::Diagnosis;
pub use document::Document;
pub use emulation::{Emulation, ServiceCall};
pub use iam::IamCalls;
pub use installation::{Exclusive, HELM_RELEASE, Installation, OPERATOR_NAMESPACE, install_chart};
pub use logs::{AuditLog, Call, CallLog, Mark, Write, by_operation};
pub use management::{
    MANAGEMENT_ROLE, OPERATOR_ROLE, instance_role_allowed_everything, operator_identity, prepare,
    role_with_policy,
};
pub use node::{Images, Node};
pub use operator::{Operator, OperatorSettings};
pub use process::Identity;
pub use session::{Outcome, Repository, Session};
pub use stack::{ApiServerAlone, AwsAlone, Info, NodeInfo, Programs, Stack};
pub use wait::{BOUND, bound_of, eventually, eventually_of};

use std::path::PathBuf;

/// Returns the root of the repository.
pub fn repository_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .expect("the repository this was built from is gone")
}
