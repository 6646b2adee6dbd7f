//! The program as a whole: its help, its completions, its life as a plugin of kubectl, and its documentation.

mod cli;

use cli::{Folder, example};
use rstest::rstest;
use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The subcommands that have a text of their own.
fn subcommands() -> Vec<String> {
    let help = Folder::new("subcommands").printed(&["help"]);
    let listed =
        help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1).take_while(|line| !line.is_empty());
    // A description that is wrapped goes on further right.
    let names = listed.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(String::from).collect();
    assert!(names.len() >= 7, "{help}");
    names
}

#[test]
fn every_subcommand_has_examples_in_its_help() {
    let folder = Folder::new("examples");
    for name in subcommands() {
        let arguments = if name == "policy" { vec!["policy", "diff", "--help"] } else { vec![name.as_str(), "--help"] };
        let help = folder.printed(&arguments);
        assert!(help.contains("Example"), "{name}: {help}");
    }
}

#[test]
fn every_subcommand_is_in_the_documentation() {
    let docs = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
    for name in subcommands() {
        assert!(docs.contains(&format!("## `{name}")), "docs/cli.md says nothing of {name}");
    }
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
#[case("elvish")]
#[case("powershell")]
fn every_shell_gets_its_completions(#[case] shell: &str) {
    let script = Folder::new(shell).printed(&["completions", shell]);
    for name in subcommands() {
        assert!(script.contains(&name), "{shell} does not complete {name}");
    }
}

#[cfg(unix)]
#[test]
fn called_as_a_plugin_of_kubectl_it_says_so_in_its_usage() {
    let folder = Folder::new("plugin");
    let plugin = folder.path().join("kubectl-registry_grants");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_registry-grants"), &plugin).unwrap();
    for (arguments, usage) in [
        (vec!["--help"], "Usage: kubectl registry-grants <COMMAND>"),
        (vec!["graph", "--help"], "Usage: kubectl registry-grants graph"),
        (vec!["policy", "diff", "--help"], "Usage: kubectl registry-grants policy diff"),
    ] {
        let output = Command::new(&plugin).args(arguments).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains(usage), "{help}");
    }
    let graph = Command::new(&plugin).args(["graph", "-f", "/dev/stdin"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(String::from_utf8(graph.stdout).unwrap(), "There are no grants.\n");
    assert!(folder.printed(&["--help"]).contains("Usage: registry-grants <COMMAND>"));
}

#[rstest]
#[case(&["completions", "bash"])]
#[case(&["graph", "-f", "a.yaml", "-o", "json"])]
#[case(&["handoff", "-f", "a.yaml", "--account", "222222222222"])]
fn who_stops_reading_makes_nothing_panic(#[case] arguments: &[&str]) {
    let folder = Folder::new(&format!("pipe-{}", arguments[0])).with("a.yaml", example("article"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-grants"));
    command.args(arguments).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    assert_eq!(told, "");
}
