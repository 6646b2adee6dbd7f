//! Diagnosis of a failed test: whether the machine was overloaded, which calls were slow, and the
//! operator's last log lines.

use crate::installation::Installation;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The number of bytes that are read from the end of a log.
const READ: u64 = 4 << 20;
const SLOWEST_CALLS: usize = 5;
const LINES: usize = 30;

/// The diagnosis of one test in an installation, shown by its `Display`.
#[derive(Clone, Copy, Debug)]
pub struct Diagnosis<'a> {
    /// The installation in which the test ran.
    pub installation: &'a Installation,
    /// The accounts and the namespace that only this test uses.
    pub names: &'a [&'a str],
}

impl fmt::Display for Diagnosis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            installation,
            names,
        } = self;
        let concerns = |line: &&str| names.iter().any(|name| line.contains(name));
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').take(3).collect::<Vec<_>>().join(", ");
        writeln!(f, "load of the machine over 1, 5 and 15 minutes: {load}")?;

        let calls = end_of(&installation.stack.info.aws_call_log);
        let mut calls: Vec<(u64, String)> = calls
            .lines()
            .filter(concerns)
            .filter_map(slow_call)
            .collect();
        calls.sort_by_key(|(milliseconds, _)| std::cmp::Reverse(*milliseconds));
        writeln!(
            f,
            "the slowest of {} AWS calls in accounts of this test:",
            calls.len()
        )?;
        for (milliseconds, call) in calls.iter().take(SLOWEST_CALLS) {
            writeln!(f, "  {milliseconds} ms {call}")?;
        }

        let log = installation.operator_log();
        let lines = end_of(log);
        let lines: Vec<&str> = lines.lines().filter(concerns).collect();
        writeln!(
            f,
            "the operator's last log lines about it ({}):",
            log.display()
        )?;
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}

fn slow_call(line: &str) -> Option<(u64, String)> {
    let call: serde_json::Value = serde_json::from_str(line).ok()?;
    let text = |key: &str| call[key].as_str().unwrap_or_default();
    let shown = format!(
        "{}:{} by {} at {}, {}",
        text("service"),
        text("action"),
        text("account"),
        text("time"),
        call["status"]
    );
    Some((call["milliseconds"].as_u64()?, shown))
}

/// Reads the end of a log, from the beginning of a line; empty if it cannot be read.
fn end_of(file: &Path) -> String {
    let read = || {
        let mut file = File::open(file)?;
        let skip = file.metadata()?.len().saturating_sub(READ);
        file.seek(SeekFrom::Start(skip))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        std::io::Result::Ok(if skip == 0 {
            text
        } else {
            text.split_once('\n')
                .map(|(_, rest)| rest.to_owned())
                .unwrap_or_default()
        })
    };
    read().unwrap_or_default()
}
