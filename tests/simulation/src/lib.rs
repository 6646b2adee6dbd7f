//! A simulation of the whole operator, on virtual time and from one seed.
//!
//! - [`aws`]: an in-memory AWS.

#![warn(missing_docs)]

pub mod aws;
