//! Watches: streams of changes.

use super::core::{Core, News};
use super::list::{Selection, text_of};
use super::observe::WatchFault;
use super::request::{Call, Parsed};
use super::status::Failure;
use super::store::{Change, Stored};
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How long a watch runs that asks for no time.
const DEFAULT_DURATION: Duration = Duration::from_secs(30 * 60);
/// The pause between bookmarks.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// How long before its end a watch sends a last bookmark.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// One watch.
pub(super) struct Watch {
    core: Arc<Mutex<Core>>,
    call: Call,
    selection: Selection,
    is_metadata_only: bool,
    news: watch::Receiver<News>,
    /// The revision up to which changes were sent.
    position: u64,
    /// Lines that are sent first.
    initial: VecDeque<Bytes>,
    ends: Instant,
    next_bookmark: Option<Instant>,
    /// The revision of the change that waited for a delay last.
    delayed: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Silent,
    Ended,
}

/// What a watch does next.
enum Step {
    Send(Bytes),
    /// Sends this as its last line.
    SendLast(Bytes),
    Wait,
    End,
    Disconnect,
    Pause(Duration),
    Silence,
}

fn line(event: &str, object: &[u8]) -> Bytes {
    let mut line = format!(r#"{{"type":"{event}","object":"#).into_bytes();
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    Bytes::from(line)
}

fn error(failure: &Failure) -> Bytes {
    line("ERROR", failure.to_value().to_string().as_bytes())
}

fn expired(wanted: u64, oldest: u64) -> Bytes {
    let why = format!("too old resource version: {wanted} ({oldest})");
    error(&Failure::expired(why))
}

impl Watch {
    /// Starts a watch, with the state locked. `stale` is the revision of the cache that serves it.
    pub(super) fn start(
        (shared, core): (&Arc<Mutex<Core>>, &Core),
        call: &Call,
        request: &Parsed,
        (stale, is_deaf): (Option<u64>, bool),
    ) -> Result<Self, Failure> {
        let wanted: u64 = match request.parameter("resourceVersion") {
            "" => 0,
            text => text.parse().map_err(|_| {
                Failure::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint"))
            })?,
        };
        let duration = request.parameter("timeoutSeconds").parse().ok();
        let duration = duration
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs);
        let ends = Instant::now() + duration.unwrap_or(DEFAULT_DURATION);
        let has_bookmarks = request.parameter("allowWatchBookmarks") == "true";
        let mut watch = Self {
            core: shared.clone(),
            call: call.clone(),
            selection: Selection::of(request)?,
            is_metadata_only: request.is_metadata_only,
            news: core.news.subscribe(),
            position: wanted,
            initial: VecDeque::new(),
            ends,
            next_bookmark: has_bookmarks.then(|| bookmark_after(Instant::now(), ends)),
            delayed: 0,
            state: if is_deaf {
                State::Silent
            } else {
                State::Running
            },
        };
        if wanted == 0 {
            watch.position = stale.unwrap_or(core.store.revision());
            watch.send_existing(core)?;
            if request.parameter("sendInitialEvents") == "true" {
                let end = watch.bookmark(true);
                watch.initial.push_back(end);
            }
        } else if wanted < core.store.compacted() {
            watch
                .initial
                .push_back(expired(wanted, core.store.compacted()));
            watch.ends = Instant::now();
        }
        Ok(watch)
    }

    fn send_existing(&mut self, core: &Core) -> Result<(), Failure> {
        let objects = core.store.objects_at(self.call.kind, self.position);
        let objects = objects.ok_or_else(|| Failure::expired("too old resource version"))?;
        for (key, stored) in &objects {
            if self.selection.has(key) {
                let text = text_of(stored, self.is_metadata_only);
                self.initial.push_back(line("ADDED", &text));
            }
        }
        Ok(())
    }

    fn bookmark(&self, is_initial_end: bool) -> Bytes {
        let mut metadata = json!({"resourceVersion": self.position.to_string()});
        if self.call.kind.is_custom() {
            metadata["creationTimestamp"] = Value::Null;
        }
        if is_initial_end {
            metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        let bookmark = json!({
            "kind": self.call.kind.name(),
            "apiVersion": self.call.kind.api_version(),
            "metadata": metadata,
        });
        line("BOOKMARK", bookmark.to_string().as_bytes())
    }

    /// Returns the next line. `None`: the watch has ended.
    pub(super) async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            match self.state {
                State::Ended => return None,
                State::Silent => {
                    self.broken().await;
                    return self.disconnect();
                }
                State::Running => {}
            }
            match self.step() {
                Step::Send(line) => return Some(Ok(line)),
                Step::SendLast(line) => {
                    self.state = State::Ended;
                    return Some(Ok(line));
                }
                Step::Wait => {
                    let wakes = self
                        .next_bookmark
                        .map_or(self.ends, |next| next.min(self.ends));
                    tokio::select! {
                        biased;
                        changed = self.news.changed() => changed.ok()?,
                        () = sleep_until(wakes) => {}
                    }
                }
                Step::End => self.state = State::Ended,
                Step::Disconnect => return self.disconnect(),
                Step::Pause(pause) => sleep(pause).await,
                Step::Silence => self.state = State::Silent,
            }
        }
    }

    /// Waits until the server breaks its connections.
    async fn broken(&mut self) {
        let number = self.call.number;
        let broken = self.news.wait_for(|news| news.broken_before > number).await;
        drop(broken);
    }

    fn disconnect(&mut self) -> Option<io::Result<Bytes>> {
        self.state = State::Ended;
        let why = format!("the connection of {} broke", self.call);
        Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, why)))
    }

    fn step(&mut self) -> Step {
        let core = self.core.clone();
        let mut core = core.lock().expect("nothing panics while it is locked");
        if self.news.borrow_and_update().broken_before > self.call.number {
            return Step::Disconnect;
        }
        if let Some(line) = self.initial.pop_front() {
            return Step::Send(line);
        }
        if self.position < core.store.compacted() && !self.has_seen_all(&core) {
            return Step::SendLast(expired(self.position, core.store.compacted()));
        }
        while let Some(change) = core
            .store
            .change_after(self.call.kind, self.position)
            .cloned()
        {
            // A client that was frozen for long gets what was sent before the end.
            if change.at >= self.ends {
                return Step::End;
            }
            if self.selection.has(&change.key) {
                return self.send(&mut core, &change);
            }
            self.position = change.revision;
        }
        let now = Instant::now();
        if now >= self.ends {
            return Step::End;
        }
        self.position = self.position.max(core.store.revision());
        match self.next_bookmark {
            Some(due) if now >= due => {
                self.next_bookmark = Some(bookmark_after(now, self.ends));
                Step::Send(self.bookmark(false))
            }
            _ => Step::Wait,
        }
    }

    /// Returns whether the compaction removed nothing that this watch has to send. A watch that
    /// was idle moves on with the store, so only a delayed one can fall behind.
    fn has_seen_all(&self, core: &Core) -> bool {
        self.position >= core.store.revision()
    }

    fn send(&mut self, core: &mut Core, change: &Change) -> Step {
        let is_due = self.delayed == change.revision;
        let fault = match is_due {
            true => None,
            false => core.faults.on_event(&self.call, change),
        };
        match fault {
            Some(WatchFault::Disconnect) => return Step::Disconnect,
            Some(WatchFault::End) => return Step::End,
            Some(WatchFault::Silence) => return Step::Silence,
            Some(WatchFault::Delay(pause)) => {
                self.delayed = change.revision;
                return Step::Pause(pause);
            }
            Some(WatchFault::Expire) => {
                return Step::SendLast(expired(self.position, core.store.revision()));
            }
            None => {}
        }
        self.position = change.revision;
        let event = match (&change.old, change.is_deletion) {
            (_, true) => "DELETED",
            (None, false) => "ADDED",
            (Some(_), false) => "MODIFIED",
        };
        let new: &Stored = &change.new;
        Step::Send(line(event, &text_of(new, self.is_metadata_only)))
    }
}

fn bookmark_after(now: Instant, ends: Instant) -> Instant {
    let regular = now + BOOKMARK_INTERVAL;
    match ends.checked_sub(LAST_BOOKMARK) {
        Some(last) if last > now => regular.min(last),
        _ => regular,
    }
}
