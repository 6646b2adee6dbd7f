//! Ownership of fields: server-side apply, and `metadata.managedFields`.
//!
//! - [`set`]: sets of fields, and their JSON form.
//! - [`typed`]: fields of a value by its schema; comparison, merge and removal.
//! - [`managers`]: which manager owns what, after an update and after an apply.

pub(super) mod managers;
pub(super) mod set;
pub(super) mod typed;
