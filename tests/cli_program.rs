//! The program as a whole: its help, its completions, its life as a plugin of kubectl, and its
//! documentation.

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
    let listed = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty());
    // A description that is wrapped goes on further right.
    let names = listed
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names
        .filter(|name| *name != "help")
        .map(String::from)
        .collect();
    assert!(names.len() >= 7, "{help}");
    names
}

#[test]
fn every_subcommand_has_examples_in_its_help() {
    let folder = Folder::new("examples");
    for name in subcommands() {
        let arguments = if name == "policy" {
            vec!["policy", "diff", "--help"]
        } else {
            vec![name.as_str(), "--help"]
        };
        let help = folder.printed(&arguments);
        assert!(help.contains("Example"), "{name}: {help}");
    }
}

/// A folder in which commands of the documentation find the files and programs that they name.
#[cfg(unix)]
fn furnished(test: &str) -> Folder {
    let article = example("article");
    // The registry's account and the grant: the consumer's account is its admin's.
    let with = |is: &dyn Fn(&str) -> bool| {
        article
            .split("\n---\n")
            .filter(|text| is(text))
            .collect::<Vec<_>>()
            .join("\n---\n")
    };
    let is_grant = |text: &str| text.contains("kind: CrossAccountRegistryGrant");
    let grant = with(&is_grant);
    let accounts = with(&|text| !is_grant(text) && !text.contains("name: \"222222222222\""));
    let policy = r#"{"Version": "2012-10-17", "Statement": []}"#;
    let answer = serde_json::json!({"repositoryName": "web", "policyText": policy}).to_string();
    let folder = Folder::new(test)
        .with("accounts.yaml", accounts)
        .with("grant.yaml", &grant)
        .with("article.yaml", &article)
        .with("node.json", policy)
        .with("repository.json", policy)
        .with("wanted.json", policy)
        .with("answer.json", answer)
        .with_program("dot", "#!/bin/sh\nexec cat\n")
        .with_program(
            "aws",
            "#!/bin/sh\ncase $1 in ecr) cat answer.json ;; esac\n",
        )
        .with_program(
            "kubectl",
            "#!/bin/sh\ncase $1 in get) cat article.yaml ;; *) exec cat ;; esac\n",
        );
    for (name, text) in [("grants", &grant), ("manifests", &article)] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("all.yaml"), text).unwrap();
    }
    fs::create_dir_all(folder.path().join(".config/fish/completions")).unwrap();
    std::os::unix::fs::symlink(
        env!("CARGO_BIN_EXE_registry-grants"),
        folder.path().join("registry-grants"),
    )
    .unwrap();
    folder
}

/// Exit status and standard error of a shell that runs a command as people copy it. There is
/// neither a cluster nor AWS.
#[cfg(unix)]
fn run_copied(folder: &Folder, command: &str) -> (i32, String) {
    let path = format!(
        "{}:{}",
        folder.path().display(),
        std::env::var("PATH").unwrap()
    );
    let output = Command::new("bash")
        .args(["-c", &format!("set -o pipefail\nfpath=(x .)\n{command}")])
        .current_dir(folder.path())
        .env("PATH", path)
        .env("HOME", folder.path())
        .env("KUBECONFIG", folder.path().join("kubeconfig"))
        .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_ACCESS_KEY_ID", "x")
        .env("AWS_SECRET_ACCESS_KEY", "x")
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Commands out of a text's lines, each with the lines that it goes on in.
fn commands<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut goes_on = false;
    for line in lines
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match (goes_on, found.last_mut()) {
            (true, Some(command)) => *command = format!("{command}\n{line}"),
            (_, _) => found.push(line.to_owned()),
        }
        goes_on = line.ends_with(['\\', '|']);
    }
    found
}

/// That a command is understood, and does what can be done without a cluster and AWS.
#[cfg(unix)]
fn works(folder: &Folder, command: &str) {
    let (status, told) = run_copied(folder, command);
    let understood = !["Usage:", "command not found", "syntax error"]
        .iter()
        .any(|word| told.contains(word))
        && !told.lines().any(|line| line.starts_with("error:"));
    let outside = command.contains("registry-grants controller")
        || command.contains("registry-grants plan")
        || command.contains("registry-grants explain")
        || (command.contains("registry-grants graph") && !command.contains("-f "));
    // A file that is missing would be a mistake in the example; a kubeconfig there is none.
    let found = told.contains("kubeconfig")
        || !["No such file", "given before"]
            .iter()
            .any(|why| told.contains(why));
    assert!(
        understood && (status == 0 || (outside && found)),
        "{status} of: {command}\n{told}"
    );
}

#[cfg(unix)]
#[test]
fn help_examples_fit_80_columns_and_run() {
    for name in subcommands() {
        let arguments = if name == "policy" {
            vec!["policy", "diff", "--help"]
        } else {
            vec![name.as_str(), "--help"]
        };
        let shown = |columns: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_registry-grants"));
            let output = command
                .args(&arguments)
                .env("COLUMNS", columns)
                .output()
                .unwrap();
            let help = String::from_utf8(output.stdout).unwrap();
            let (_, behind) = help
                .split_once("Exit status")
                .or_else(|| help.split_once("Examples"))
                .unwrap();
            behind.to_owned()
        };
        let narrow = shown("80");
        assert_eq!(
            narrow,
            shown("400"),
            "{name}: what is wrapped cannot be copied"
        );
        assert!(
            narrow.lines().all(|line| line.len() <= 80),
            "{name}: {narrow}"
        );
        let folder = furnished(&format!("examples-{name}"));
        let examples = narrow.lines().filter(|line| line.starts_with("  "));
        let examples = commands(examples);
        assert!(!examples.is_empty(), "{name}: {narrow}");
        examples.iter().for_each(|command| works(&folder, command));
    }
}

#[cfg(unix)]
#[test]
fn troubleshooting_page_commands_run() {
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md"))
            .unwrap();
    let blocks = page
        .split("```sh\n")
        .skip(1)
        .filter_map(|part| part.split("```").next());
    let blocks = blocks.flat_map(|block| commands(block.lines()));
    let quoted = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|text| text.starts_with("registry-grants "))
        .map(String::from);
    // What only names a subcommand is none.
    let found: Vec<String> = blocks
        .chain(quoted)
        .filter(|command| command.contains(" -"))
        .collect();
    assert!(found.len() >= 6, "{found:?}");
    let folder = furnished("troubleshooting");
    found.iter().for_each(|command| works(&folder, command));
}

#[test]
fn every_subcommand_is_documented() {
    let docs =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md")).unwrap();
    for name in subcommands() {
        assert!(
            docs.contains(&format!("## `{name}")),
            "docs/cli.md says nothing of {name}"
        );
    }
}

#[rstest]
#[case("bash")]
#[case("zsh")]
#[case("fish")]
#[case("elvish")]
#[case("powershell")]
fn completions_are_printed_for_every_shell(#[case] shell: &str) {
    let script = Folder::new(shell).printed(&["completions", shell]);
    for name in subcommands() {
        assert!(script.contains(&name), "{shell} does not complete {name}");
    }
}

#[cfg(unix)]
#[test]
fn usage_names_kubectl_when_called_as_a_plugin() {
    let folder = Folder::new("plugin");
    let plugin = folder.path().join("kubectl-registry_grants");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_registry-grants"), &plugin).unwrap();
    for (arguments, usage) in [
        (vec!["--help"], "Usage: kubectl registry-grants <COMMAND>"),
        (
            vec!["graph", "--help"],
            "Usage: kubectl registry-grants graph",
        ),
        (
            vec!["policy", "diff", "--help"],
            "Usage: kubectl registry-grants policy diff",
        ),
    ] {
        let output = Command::new(&plugin).args(arguments).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && help.contains(usage), "{help}");
    }
    let graph = Command::new(&plugin)
        .args(["graph", "-f", "/dev/stdin"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(graph.stdout).unwrap(),
        "There are no grants.\n"
    );
    assert!(
        folder
            .printed(&["--help"])
            .contains("Usage: registry-grants <COMMAND>")
    );
}

#[rstest]
#[case(&["completions", "bash"])]
#[case(&["graph", "-f", "a.yaml", "-o", "json"])]
#[case(&["handoff", "-f", "a.yaml", "--account", "222222222222"])]
fn closed_output_pipe_does_not_panic(#[case] arguments: &[&str]) {
    let folder = Folder::new(&format!("pipe-{}", arguments[0])).with("a.yaml", example("article"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_registry-grants"));
    command
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut told = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{told}");
    assert_eq!(told, "");
}
