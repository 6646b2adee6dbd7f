//! The real operator: its binary, run as in its Pod, but outside the cluster.

use crate::http::request;
use crate::process::{Companion, Identity};
use crate::wait::eventually;
use anyhow::{Context, Result, bail, ensure};
use aws_credential_types::Credentials;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

const LAST_LINES: usize = 25;
/// A range below the ephemeral ports of common systems: an outgoing connection cannot take a port
/// that was found free here before the operator binds it.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// The settings of an operator.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// The binary.
    pub binary: PathBuf,
    /// A kubeconfig with the token of the chart's ServiceAccount.
    pub kubeconfig: PathBuf,
    /// The CA certificates that it trusts, as a file: reading the system's would take most of its
    /// start, and no server in the tests has a certificate of theirs.
    pub ca: PathBuf,
    /// The value of `AWS_ENDPOINT_URL`.
    pub aws_endpoint: String,
    /// The credentials of the operator's own role.
    pub credentials: Credentials,
    /// More flags of `registry-grants controller`.
    pub arguments: Vec<String>,
    /// The file for its output.
    pub log: PathBuf,
}

/// A running operator. It ends when this value is dropped, and when our process ends.
pub struct Operator {
    process: Companion,
    health: String,
    log: PathBuf,
}

impl Operator {
    /// Starts the operator; it may not be ready yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: &OperatorSettings) -> Result<Self> {
        Self::start_by(settings, Companion::start)
    }

    /// Starts an operator that keeps running when our process ends, once [`Self::leave`] was
    /// called.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_to_stay(settings: &OperatorSettings) -> Result<Self> {
        Self::start_by(settings, Companion::start_to_stay)
    }

    fn start_by(
        settings: &OperatorSettings,
        start: impl Fn(&mut Command) -> Result<Companion>,
    ) -> Result<Self> {
        let OperatorSettings {
            binary,
            kubeconfig,
            ca,
            aws_endpoint,
            credentials,
            arguments,
            log,
        } = settings;
        let health = free_address()?;
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| log.display().to_string())?;
        let mut command = Command::new(binary);
        command
            .args(["controller", "--health-address", &health])
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", log.parent().unwrap_or(Path::new("/")))
            .env("RUST_BACKTRACE", "1")
            .env("KUBECONFIG", kubeconfig)
            .env("AWS_ENDPOINT_URL", aws_endpoint)
            .env("AWS_REGION", crate::aws::REGION)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("SSL_CERT_FILE", ca)
            .env("AWS_ACCESS_KEY_ID", credentials.access_key_id())
            .env("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key())
            .stdout(output.try_clone()?)
            .stderr(output);
        if let Some(token) = credentials.session_token() {
            command.env("AWS_SESSION_TOKEN", token);
        }
        Ok(Self {
            process: start(&mut command)?,
            health,
            log: log.clone(),
        })
    }

    /// Waits until it reports that it is ready.
    ///
    /// # Errors
    /// When it ends, or does not become ready; the error shows the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let answer = eventually("the operator is ready", async || {
            if let Some(status) = self.process.ended() {
                return Ok(Err(status)); // it has ended: waiting is useless
            }
            let (status, body) = request("GET", &self.health, "/readyz", "").await?;
            ensure!(status == 200, "/readyz answers {status}: {body}");
            Ok(Ok(()))
        })
        .await
        .with_context(|| self.last_lines())?;
        match answer {
            Ok(()) => Ok(()),
            Err(status) => bail!("the operator ended with {status}; {}", self.last_lines()),
        }
    }

    /// Returns its metrics, in the OpenMetrics text format.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let (status, body) = request("GET", &self.health, "/metrics", "").await?;
        ensure!(status == 200, "/metrics answers {status}: {body}");
        Ok(body)
    }

    /// Kills it at once, as a crash would (SIGKILL).
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Terminates it as the kubelet does (SIGTERM), and waits for its end.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Pauses it, as a frozen node does (SIGSTOP).
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Resumes it after [`Self::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Detaches it: it keeps running when our process has ended, if it was started with
    /// [`Self::start_to_stay`].
    pub fn leave(self) {
        self.process.leave();
    }

    /// Returns the identity of its process, to find and end it later.
    pub fn identity(&self) -> Identity {
        Identity::of(self.process.id())
    }

    /// Returns everything that it and earlier operators with the same log have logged.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    fn last_lines(&self) -> String {
        let log = self.log().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "the end of {}:\n{}",
            self.log.display(),
            lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
        )
    }
}

fn free_address() -> Result<String> {
    for _ in 0..100 {
        let address = format!("127.0.0.1:{}", fastrand::u16(PORTS));
        if TcpListener::bind(&address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}
