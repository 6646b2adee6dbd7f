//! Detects contention: another tool replaces the same document entirely and so undoes our
//! statements again and again. Our own writes then become ever less frequent.

use crate::policy::repository::Ours;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// How far back reverts are remembered.
const WINDOW: Duration = Duration::from_secs(3600);
/// The number of reverts within that time from which on this is more than an accident.
const PATIENCE: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

/// History of our statements in one repository policy, since our last write or check of them.
#[derive(Default)]
pub struct Contest {
    left: Option<Ours>,
    put_back: VecDeque<Instant>,
}

/// Action that follows from the policy that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentionAction {
    /// Nobody has undone our statements: write as needed.
    Free,
    /// Somebody has undone them: restore them.
    PutBack,
    /// Somebody has undone them again and again: leave the policy for now.
    Wait,
}

impl Contest {
    /// Decides on the statements that were found. `pause` is the first of the growing pauses.
    pub fn judge(
        &self,
        found: &Ours,
        wanted: &Ours,
        pause: Duration,
        now: Instant,
    ) -> ContentionAction {
        let Some(left) = &self.left else {
            return ContentionAction::Free;
        };
        if found == left || found == wanted {
            return ContentionAction::Free;
        }
        // Only a mere restoration can wait. A change of the contributions cannot, and access beyond
        // the contributions must be removed.
        let only_to_restore = left == wanted && found.are_all_in(wanted);
        if only_to_restore && self.is_too_soon(pause, now) {
            ContentionAction::Wait
        } else {
            ContentionAction::PutBack
        }
    }

    /// Decides whether foreign statements are replaced that were replaced before and are there
    /// again.
    pub fn judge_replaced_again(&self, pause: Duration, now: Instant) -> ContentionAction {
        if self.left.is_none() {
            ContentionAction::Free
        } else if self.is_too_soon(pause, now) {
            ContentionAction::Wait
        } else {
            ContentionAction::PutBack
        }
    }

    /// Returns whether we have restored so often, and so recently, that we wait for now.
    fn is_too_soon(&self, pause: Duration, now: Instant) -> bool {
        let within_pause = self
            .last()
            .is_some_and(|last| now.duration_since(last) < self.pause(pause));
        self.put_back.len() >= PATIENCE && within_pause
    }

    /// Returns how long our statements must remain before we write again. It doubles each time that
    /// they did not.
    fn pause(&self, first: Duration) -> Duration {
        let grown = u32::try_from(self.put_back.len().saturating_sub(PATIENCE))
            .unwrap_or(u32::MAX)
            .min(16);
        first.saturating_mul(2_u32.pow(grown)).min(LONGEST_PAUSE)
    }

    fn last(&self) -> Option<Instant> {
        self.put_back.back().copied()
    }

    /// Notes our current statements, and whether they were restored.
    pub fn leave(&mut self, ours: Ours, verdict: ContentionAction, now: Instant) {
        self.left = Some(ours);
        if verdict == ContentionAction::PutBack {
            self.put_back.push_back(now);
        }
        while self
            .put_back
            .front()
            .is_some_and(|at| now.duration_since(*at) >= WINDOW)
            || self.put_back.len() > 64
        {
            self.put_back.pop_front();
        }
    }

    /// Returns whether contention must be reported: it has happened often, and our statements have
    /// not remained for an entire pause since. That they are there right after our own write proves
    /// nothing.
    pub fn is_on(&self, pause: Duration, now: Instant) -> bool {
        let stood = self.last().map(|last| now.duration_since(last));
        self.put_back.len() >= PATIENCE
            && stood.is_some_and(|stood| stood < self.pause(pause).max(pause * 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;
    use crate::policy::repository::{Contribution, GrantContribution, plan};

    const PAUSE: Duration = Duration::from_secs(60);

    /// Returns our statements for these accounts.
    fn ours(accounts: &[&str]) -> Ours {
        let contribution = |account: &&str| Contribution {
            actions: [format!("ecr:For{account}")].into(),
            callers: PrincipalSet::named([(*account).to_owned()]),
        };
        let contributions = accounts.iter().map(contribution).collect();
        let wanted = [GrantContribution {
            id: 1,
            contributions,
            replaces: Default::default(),
            stays_as: None,
            if_there: Vec::new(),
        }];
        plan(None, &wanted, &"0123456789ab".parse().unwrap())
            .unwrap()
            .wanted
    }

    /// Simulates a tool that undoes everything as soon as it was written, with a sync every minute.
    /// Returns the minutes in which we wrote.
    fn written_in(minutes: u32) -> Vec<u32> {
        let (start, mut contest, mut written) = (Instant::now(), Contest::default(), Vec::new());
        for minute in 0..minutes {
            let now = start + Duration::from_secs(60) * minute;
            let verdict = contest.judge(&ours(&[]), &ours(&["a"]), PAUSE, now);
            if verdict != ContentionAction::Wait {
                contest.leave(ours(&["a"]), verdict, now);
                written.push(minute);
            }
        }
        written
    }

    #[test]
    fn our_pauses_grow_while_somebody_undoes_what_we_write() {
        assert_eq!(written_in(60), [0, 1, 2, 3, 4, 6, 10, 18, 34]);
    }

    /// Simulates a tool that runs as often as our syncs: no sync finds our statements undone twice
    /// in a row, and yet they never last.
    #[test]
    fn rival_as_slow_as_our_syncs_is_reported_continuously() {
        let (start, mut contest) = (Instant::now(), Contest::default());
        let mut reported = Vec::new();
        for minute in 0..60 {
            let now = start + Duration::from_secs(60) * minute;
            let verdict = contest.judge(&ours(&[]), &ours(&["a"]), PAUSE, now);
            if verdict != ContentionAction::Wait {
                contest.leave(ours(&["a"]), verdict, now);
            }
            // A moment later, a sync finds our own statements.
            let soon = now + Duration::from_secs(2);
            if contest.judge(&ours(&["a"]), &ours(&["a"]), PAUSE, soon) == ContentionAction::Free {
                contest.leave(ours(&["a"]), ContentionAction::Free, soon);
            }
            reported.push(contest.is_on(PAUSE, soon));
        }
        assert_eq!(reported.iter().position(|reported| *reported), Some(3));
        assert!(
            reported[3..].iter().all(|reported| *reported),
            "{reported:?}"
        );
    }

    #[test]
    fn writes_never_stop_entirely() {
        let written = written_in(24 * 60);
        assert!(
            written.windows(2).all(|pair| pair[1] - pair[0] <= 30),
            "{written:?}"
        );
    }

    fn contested() -> (Contest, Instant) {
        let (mut contest, now) = (Contest::default(), Instant::now());
        contest.leave(ours(&["a"]), ContentionAction::Free, now);
        for _ in 0..5 {
            contest.leave(ours(&["a"]), ContentionAction::PutBack, now);
        }
        (contest, now)
    }

    #[test]
    fn new_contributions_are_written_at_once() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge(&ours(&[]), &ours(&["a"]), PAUSE, now),
            ContentionAction::Wait
        );
        assert_eq!(
            contest.judge(&ours(&[]), &ours(&["a", "b"]), PAUSE, now),
            ContentionAction::PutBack
        );
    }

    #[test]
    fn excess_access_is_removed_at_once() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge(&ours(&["b"]), &ours(&["a"]), PAUSE, now),
            ContentionAction::PutBack
        );
    }

    #[test]
    fn once_our_statements_are_left_alone_it_is_over() {
        let (contest, now) = contested();
        assert!(
            contest.is_on(PAUSE, now + Duration::from_secs(30)),
            "they stand because we have just written them"
        );
        assert!(!contest.is_on(PAUSE, now + Duration::from_secs(600)));
    }

    #[test]
    fn restored_foreign_statement_counts_as_contention() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge_replaced_again(PAUSE, now),
            ContentionAction::Wait
        );
        let later = now + Duration::from_secs(3600);
        assert_eq!(
            contest.judge_replaced_again(PAUSE, later),
            ContentionAction::PutBack
        );
        assert_eq!(
            Contest::default().judge_replaced_again(PAUSE, now),
            ContentionAction::Free
        );
    }
}
