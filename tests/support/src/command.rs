//! Programs that run to completion, in a clean environment.

use anyhow::{Context, Result, bail};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// A program that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, as in a shell.
    pub command: String,
    /// Whether the program succeeded.
    pub success: bool,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns the standard output.
    ///
    /// # Errors
    /// When the program reported failure.
    pub fn ok(self) -> Result<String> {
        if !self.success {
            bail!(
                "`{}` failed: {}",
                self.command,
                said(&self.stderr, &self.stdout)
            );
        }
        Ok(self.stdout)
    }
}

fn said<'a>(stderr: &'a str, stdout: &'a str) -> &'a str {
    match (stderr.trim(), stdout.trim()) {
        ("", "") => "it printed nothing",
        ("", stdout) => stdout,
        (stderr, _) => stderr,
    }
}

/// Runs `program` with only `PATH`, a test-specific `HOME` and `variables` in its environment, so
/// that no proxy, credentials or configuration of the developer affects a test.
pub(crate) async fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    home: &Path,
    variables: &[(&str, &OsStr)],
    input: Option<&str>,
) -> Result<Finished> {
    let arguments: Vec<OsString> = arguments
        .into_iter()
        .map(|argument| argument.as_ref().to_owned())
        .collect();
    let mut command = Command::new(program);
    command
        .args(&arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .envs(variables.iter().copied())
        .stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let shown = shown(program, &arguments);
    let mut child = command
        .spawn()
        .with_context(|| format!("`{shown}` cannot be started"))?;
    if let (Some(text), Some(mut stdin)) = (input, child.stdin.take()) {
        // If a program does not read all of its input, its exit status shows the reason.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = child
        .wait_with_output()
        .await
        .with_context(|| format!("`{shown}`"))?;
    Ok(Finished {
        command: shown,
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn shown(program: &Path, arguments: &[OsString]) -> String {
    let name = program
        .file_name()
        .unwrap_or(program.as_os_str())
        .to_string_lossy();
    let mut words = vec![name.into_owned()];
    words.extend(
        arguments
            .iter()
            .map(|argument| argument.to_string_lossy().into_owned()),
    );
    words.join(" ")
}
