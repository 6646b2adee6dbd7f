//! A Kubernetes API server in memory, for a simulation of the operator.
//!
//! It serves what the operator uses: grants, accounts, namespaces, Leases and Events, with the
//! rules of the real API server. `tests/api_server_comparison.rs` compares the two. Everything
//! happens at the moment when a request arrives; only the caller decides about time, faults and
//! identifiers. So a run with the same calls is always the same.
//!
//! - [`observe`]: faults, observers of changes, and the log of requests.
//! - [`store`]: objects with one revision counter, their history, and its compaction.
//! - [`service`]: the service that a kube client uses.
//! - [`direct`]: reads and writes of the simulation itself, beside all clients.
//! - [`kinds`]: the kinds of resources, with their schemas.
//! - [`request`]: what a request asks for.
//! - `core`: the state of a server.
//! - `write`: creation, update, patch, apply and deletion.
//! - `strategy`: what writes of each kind set, drop and keep.
//! - `deletion`: preconditions, finalizers and namespaces.
//! - `list`: reads, lists and their pages.
//! - `watch`: streams of changes.
//! - `validation`: what is wrong with a new or changed object.
//! - `metadata`: the rules of `metadata`.
//! - `schema`: structural schemas and CEL rules.
//! - `fields`: ownership of fields by managers.
//! - `status`: failures, as the API reports them.
//!
//! Not simulated: authentication and RBAC, admission webhooks and policies, discovery, label
//! selectors, JSON and strategic merge patches, deletion of collections, propagation policies,
//! garbage collection by owner references, strict field validation, the expiry of Events, and the
//! costs of CEL rules.

mod core;
mod deletion;
pub mod direct;
mod fields;
pub mod kinds;
mod list;
mod metadata;
pub mod observe;
pub mod request;
mod schema;
pub mod service;
mod status;
pub mod store;
mod strategy;
mod validation;
mod watch;
mod write;

pub use direct::ApiServer;
pub use kinds::Kind;
pub use service::Connection;
pub use store::Key;
