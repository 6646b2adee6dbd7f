//! The operator's flags in the tests.

/// No other replica, and a log that shows why a test failed.
const ALONE: [&str; 2] = [
    "--leader-election=false",
    "--log-level=info,registry_grants=debug",
];

/// Nothing makes the operator reconcile but what a test does, for instance
/// [`Case::reconcile`](super::case::Case::reconcile). The shared operator has these: a hundred tests'
/// grants that are compared with AWS every few seconds would take all of the machine.
pub const NO_RESYNC: [&str; 3] = resync_every("--resync-interval=1h");

/// For tests of what the operator does by itself, again and again. They need an installation of
/// their own, see [`FastResync`](super::case::FastResync).
pub const FAST_RESYNC: [&str; 3] = resync_every("--resync-interval=2s");

/// Replicas that choose a leader, with short times.
pub const REPLICA: [&str; 3] = [
    "--resync-interval=1h",
    "--lease-duration=20s",
    "--aws-call-timeout=3s",
];

/// The flags of an operator with another interval, as `--resync-interval=15s`.
pub const fn resync_every(interval: &str) -> [&str; 3] {
    [interval, ALONE[0], ALONE[1]]
}

/// Adds flags to one of the lists above.
pub fn with<'a>(flags: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [flags, more].concat()
}
