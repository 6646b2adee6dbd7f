//! What the integration tests share.
//!
//! - `case`: two accounts, a namespace and resources to vary
//! - `command_line`: the program's other subcommands, with the operator's credentials
//! - `flags`: the flags of the operator
//! - `foreign_roles`: roles that are not the operator's
//! - `operator_documents`: the IAM documents of the operator's roles, whole and with one action less
//! - `restartable`: an operator that a test stops and starts again
//! - `unparsable`: a grant that no client in Rust can parse

pub mod case;
pub mod command_line;
pub mod flags;
pub mod foreign_roles;
pub mod operator_documents;
pub mod restartable;
pub mod unparsable;
