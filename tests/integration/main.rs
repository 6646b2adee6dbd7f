//! Integration tests: the real operator as the chart's ServiceAccount, a real API server, an AWS
//! emulation that enforces policies.
//!
//! All tests share one stack and one operator, as tenants share a cluster; each has its own pair of
//! accounts and its own namespace, so that they run side by side. Those that end the operator or
//! count its work have a stack of their own.

mod access;
mod account_limits;
mod accounts;
mod admission;
mod answers;
mod article;
mod case;
mod chart;
mod client_diffs;
mod command_line;
mod consumers;
mod crashes;
mod credentials;
mod finalizers;
mod foreign;
mod instance_roles;
mod lifecycle;
mod limits;
mod many;
mod named_roles;
mod observe;
mod ownership;
mod paths;
mod paused;
mod permissions;
mod permissions_of_others;
mod places;
mod policies;
mod refusals;
mod registry_roles;
mod repositories;
mod resilience;
mod restore;
mod revocation;
mod second_writer;
mod session_tags;
mod shared;
mod sweep;
mod telemetry;
mod tenancy;
mod troubleshooting;
mod vanished;
