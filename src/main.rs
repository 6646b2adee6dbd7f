//! Arguments in, exit status out; the only place that exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    registry_grants::cli::main()
}
