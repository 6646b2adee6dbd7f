//! Processes that outlive a call: they end with ours, or have an identity by which another process
//! can end them later.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process may take to end on request, even on a busy machine.
const ENDING: Duration = Duration::from_secs(120);

/// A process that ends with ours, even if ours is killed.
pub(crate) struct Companion {
    child: Child,
    /// A process that waits for the end of a pipe that only our process holds open, and then kills
    /// the child. (A parent-death signal would not work: it is sent at the end of the *thread* that
    /// started the child, and a test's thread ends before its process.)
    watcher: Option<Child>,
}

impl Companion {
    /// Starts the process in its own process group: a Ctrl-C in the terminal reaches only our
    /// process, which then ends the child.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut companion = Self::start_to_stay(command)?;
        let watcher = Command::new("sh")
            .args([
                "-c",
                "read -r _; kill -KILL \"$1\"",
                "watcher",
                &companion.child.id().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("`sh`, which ends the process together with this one, cannot be started")?;
        companion.watcher = Some(watcher);
        Ok(companion)
    }

    /// Starts a process that keeps running when our process ends. While this value exists, dropping
    /// it ends the process.
    pub(crate) fn start_to_stay(command: &mut Command) -> Result<Self> {
        let shown = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self {
            child: child.with_context(|| format!("{shown} cannot be started"))?,
            watcher: None,
        })
    }

    /// Detaches the process.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its exit status if it has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Kills it at once (SIGKILL), and waits for its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.dismiss_watcher();
    }

    /// Terminates it (SIGTERM) and waits for its end; kills it if it does not end.
    pub(crate) fn terminate(&mut self) -> Result<ExitStatus> {
        if self.ended().is_none() {
            signal(self.child.id(), Signal::TERM);
        }
        let asked = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                self.dismiss_watcher();
                return Ok(status);
            }
            if asked.elapsed() > ENDING {
                self.kill();
                anyhow::bail!(
                    "it did not end within {} s of SIGTERM, and was killed",
                    ENDING.as_secs()
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Pauses it (SIGSTOP), as a frozen node does.
    pub(crate) fn pause(&self) {
        signal(self.child.id(), Signal::STOP);
    }

    /// Resumes it.
    pub(crate) fn resume(&self) {
        signal(self.child.id(), Signal::CONT);
    }

    // Call this only after waiting for the child: until then no other process can get its PID.
    fn dismiss_watcher(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            let _ = watcher.kill();
            let _ = watcher.wait();
        }
    }
}

impl Drop for Companion {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The identity of a process, which distinguishes it from a later process with the same PID.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    pid: u32,
    started: Option<String>,
}

impl Identity {
    /// Returns the identity of a process that is running.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            started: started(pid),
        }
    }

    /// Returns whether it is still running.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && started(self.pid) == self.started
    }

    /// Terminates it (SIGTERM) and waits for its end; kills it if it does not end. Does nothing if
    /// it is not running.
    pub fn end(&self) {
        for with in [Signal::TERM, Signal::KILL] {
            if self.is_running() {
                signal(self.pid, with);
            }
            let asked = Instant::now();
            while self.is_running() && asked.elapsed() < ENDING {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    // It is not an error if the process has ended meanwhile.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Returns the start time of the process in the system's own format; `None` if the process does not
/// exist or has ended.
fn started(pid: u32) -> Option<String> {
    if std::path::Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may contain anything; the fields after it are the third and
        // following.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let (state, start_ticks) = (fields.first()?, fields.get(19)?);
        return (*state != "Z").then(|| (*start_ticks).to_owned());
    }
    let listed = Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&listed.stdout).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
