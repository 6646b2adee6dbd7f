//! The real operator: its binary, as its Pod would run it, but beside the cluster.

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
/// Below those that systems hand out for outgoing connections: a port found free here is not taken
/// by one of these before the operator has it.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// How the operator is to run.
#[derive(Clone, Debug)]
pub struct OperatorSettings {
    /// The binary.
    pub binary: PathBuf,
    /// With the token of the chart's ServiceAccount.
    pub kubeconfig: PathBuf,
    /// The authorities that it trusts, as a file: those of the system would be the most of its
    /// start, and nothing here has a certificate of theirs.
    pub ca: PathBuf,
    /// For `AWS_ENDPOINT_URL`.
    pub aws_endpoint: String,
    /// Of the operator's own role.
    pub credentials: Credentials,
    /// More flags of `registry-grants controller`.
    pub arguments: Vec<String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A running operator. It ends when this is dropped, and when our process ends.
pub struct Operator {
    process: Companion,
    health: String,
    log: PathBuf,
}

impl Operator {
    /// Starts it; it may not be ready yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: &OperatorSettings) -> Result<Self> {
        Self::start_by(settings, Companion::start)
    }

    /// Starts one that stays when our process ends, once [`Self::leave`] was called.
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

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    /// When it ends, or does not become ready; the error shows the end of its log.
    pub async fn ready(&mut self) -> Result<()> {
        let answer = eventually("the operator is ready", async || {
            if let Some(status) = self.process.ended() {
                return Ok(Err(status)); // no use to wait on
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

    /// Its metrics, in the OpenMetrics text format.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let (status, body) = request("GET", &self.health, "/metrics", "").await?;
        ensure!(status == 200, "/metrics answers {status}: {body}");
        Ok(body)
    }

    /// Ends it at once, as a crash would (SIGKILL).
    pub fn kill(mut self) {
        self.process.kill();
    }

    /// Asks it to end, as the kubelet does (SIGTERM), and waits for that.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn terminate(mut self) -> Result<ExitStatus> {
        self.process.terminate()
    }

    /// Stops it where it is, as a frozen node does (SIGSTOP).
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets it go on after [`Self::pause`].
    pub fn resume(&self) {
        self.process.resume();
    }

    /// Leaves it to itself: it goes on when our process has ended, if it was started for that.
    pub fn leave(self) {
        self.process.leave();
    }

    /// How its process can be found and ended later.
    pub fn identity(&self) -> Identity {
        Identity::of(self.process.id())
    }

    /// Everything that it has logged, and that those before it with the same log have.
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
