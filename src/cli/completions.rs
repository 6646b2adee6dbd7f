//! `registry-grants completions`: prints a script that completes this program's arguments.

use super::terminal::print;
use clap_complete::Shell;
use std::error::Error;

const EXAMPLES: &str = "\
Examples:
  source <(registry-grants completions bash)
  registry-grants completions zsh > \"${fpath[1]}/_registry-grants\"
  registry-grants completions fish \\
    > ~/.config/fish/completions/registry-grants.fish";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The shell to print the script for.
    shell: Shell,
}

pub fn run(arguments: &Arguments, mut program: clap::Command) -> Result<(), Box<dyn Error>> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut program,
        "registry-grants",
        &mut script,
    );
    Ok(print(&String::from_utf8(script)?)?)
}
