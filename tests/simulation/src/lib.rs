//! A simulation of the whole operator, on virtual time and from one seed.

#![warn(missing_docs)]

pub mod api_server;
