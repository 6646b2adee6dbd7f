//! Integration tests: the real operator as the chart's ServiceAccount, a real API server, an AWS
//! emulation that enforces policies. `tests/README.md` lists which behaviour is in which file.
//!
//! Most tests share one stack and one operator, as tenants share a cluster; each has its own pair of
//! accounts and its own namespace, so that they run side by side. Those that end the operator, give
//! it other arguments or count its work have an installation of their own.

// Each test tells one story from its beginning to its end.
#![allow(clippy::too_many_lines)]

mod access_paths;
mod account_status;
mod account_throttling;
mod admission_policies;
mod article;
mod aws_answers;
mod chart;
mod client_diffs;
mod consumer_kinds;
mod crash_recovery;
mod crd_schema;
mod credentials;
mod docs_troubleshooting;
mod drift;
mod finalizers;
mod lifecycle;
mod observe_plan;
mod operator_permissions;
mod operator_permissions_denied;
mod operator_permissions_extended;
mod replicas;
mod repo_policy_foreign;
mod repo_policy_grants;
mod repo_policy_refused;
mod repo_policy_scale;
mod repo_policy_shared;
mod restarts;
mod restore;
mod revocation;
mod roles_instance;
mod roles_named;
mod roles_ownership;
mod roles_registry;
mod second_writer;
mod session_tags;
mod status_access;
mod support;
mod sweep;
mod telemetry;
mod tenancy;
mod unusable_places;
mod vanished_grants;
