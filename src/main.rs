//! The binary: passes the arguments to the CLI and exits with its status. Only this file exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    registry_grants::cli::main()
}
