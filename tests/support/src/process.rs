//! Processes that outlive a call: they end with us, or are known well enough to be ended later by
//! somebody else.

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long a process that was asked to end may take, also on a machine that is busy with other
/// things.
const ENDING: Duration = Duration::from_secs(120);

/// A process that ends with ours, however ours ends.
pub(crate) struct Companion {
    child: Child,
    /// Waits for the end of a pipe that only we hold open, and kills the child then. (A
    /// parent-death signal would not do: it comes with the end of the *thread* that started the
    /// child, and a test's thread ends before its process.)
    watcher: Option<Child>,
}

impl Companion {
    /// Starts it, in a process group of its own: a Ctrl-C in the terminal is for us, who end it.
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
            .context("`sh`, which is to end the process with this one, cannot be started")?;
        companion.watcher = Some(watcher);
        Ok(companion)
    }

    /// Starts one that stays when our process ends; while this value lives, dropping it ends the
    /// process.
    pub(crate) fn start_to_stay(command: &mut Command) -> Result<Self> {
        let shown = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(Stdio::null()).process_group(0).spawn();
        Ok(Self {
            child: child.with_context(|| format!("{shown} cannot be started"))?,
            watcher: None,
        })
    }

    /// Leaves the process to itself.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Ends it at once (SIGKILL), and waits for that.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.dismiss_watcher();
    }

    /// Asks it to end (SIGTERM) and waits for that; kills it when it does not.
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

    /// Stops it where it is (SIGSTOP), as a frozen node does.
    pub(crate) fn pause(&self) {
        signal(self.child.id(), Signal::STOP);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        signal(self.child.id(), Signal::CONT);
    }

    // Only once the child was waited for: until then nobody else can have its number.
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

/// A process, so that it is not taken for another one that got its number later.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Identity {
    pid: u32,
    started: Option<String>,
}

impl Identity {
    /// Of a process that runs now.
    pub fn of(pid: u32) -> Self {
        Self {
            pid,
            started: started(pid),
        }
    }

    /// Whether it runs still.
    pub fn is_running(&self) -> bool {
        self.started.is_some() && started(self.pid) == self.started
    }

    /// Asks it to end (SIGTERM) and waits for that; kills it when it does not. Nothing, when it
    /// does not run.
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
    // One that has ended meanwhile is no error.
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// When the process started, in whatever form the system tells it. `None`: there is no such
/// process, or it has ended.
fn started(pid: u32) -> Option<String> {
    if std::path::Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the fields after it are the third and
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
