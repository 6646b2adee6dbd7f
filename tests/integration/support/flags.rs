//! The operator's flags in the tests.

/// One replica, and a log that shows why a test failed.
const ALONE: [&str; 2] = [
    "--leader-election=false",
    "--log-level=info,registry_grants=debug",
];

/// Only the actions of a test trigger reconciles, for instance
/// [`Case::reconcile`](super::case::Case::reconcile). The shared operator uses these flags:
/// frequent resyncs of a hundred tests' grants would overload the machine.
pub const NO_RESYNC: [&str; 3] = resync_every("--resync-interval=1h");

/// For tests of resyncs. They need their own installation, see
/// [`FastResync`](super::case::FastResync).
pub const FAST_RESYNC: [&str; 3] = resync_every("--resync-interval=2s");

/// Replicas with leader election and short times.
pub const REPLICA: [&str; 3] = [
    "--resync-interval=1h",
    "--lease-duration=20s",
    "--aws-call-timeout=3s",
];

/// Returns the flags of an operator with another interval, such as `--resync-interval=15s`.
pub const fn resync_every(interval: &str) -> [&str; 3] {
    [interval, ALONE[0], ALONE[1]]
}

/// Adds flags to one of the lists above.
pub fn with<'a>(flags: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [flags, more].concat()
}
