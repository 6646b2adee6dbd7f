//! Policy documents: what AWS accepts, how it stores them, and how it prints them.
//!
//! - `grammar`: what AWS refuses when a document is written.
//! - `strict`: reads JSON, and refuses duplicate keys.
//! - `stored`: a document as it is stored, with principals by their unique IDs.

mod grammar;
mod stored;
mod strict;

pub use stored::{Policy, Print};

pub(super) use grammar::{Kind, Malformed, as_list, statements};
pub(super) use stored::{UnknownPrincipal, Written};
