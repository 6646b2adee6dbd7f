//! A simulation of the whole operator, on virtual time and from one seed.
//!
//! - [`aws`]: an in-memory AWS.
//! - [`api_server`]: an in-memory API server.
//! - [`entropy`]: replaces the system's random numbers, so that one seed gives one run.
//! - [`scenario`]: what happens in one run, by its seed.
//! - [`chaos`]: random faults.
//! - [`oracle`]: judges what the operator does.
//! - [`run`]: runs a seed.
//! - [`replica`]: one operator, which can be stopped, killed and frozen.
//! - [`environment`]: the accounts and the cluster before anybody applies a grant.

#![warn(missing_docs)]

pub mod api_server;
pub mod aws;
pub mod chaos;
pub mod entropy;
pub mod environment;
pub mod oracle;
pub mod replica;
pub mod run;
pub mod scenario;
