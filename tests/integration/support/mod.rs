//! What the integration tests share.
//!
//! - `case`: two accounts, a namespace and resources to vary, and the operator's flags
//! - `command_line`: the program's other subcommands, with the operator's credentials
//! - `operator_documents`: the IAM documents of the operator's roles, whole and with one action less

pub mod case;
pub mod command_line;
pub mod operator_documents;
