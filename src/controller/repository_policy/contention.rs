//! Two tools that own one document: what we write into a repository's policy is undone by somebody
//! who replaces it whole, and so on for ever. This notices it, and makes our side of it ever
//! slower.

use crate::policy::repository::Ours;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back is remembered.
const WINDOW: Duration = Duration::from_secs(3600);
/// How often within that time we put our statements back before we take it for more than an
/// accident.
const PATIENCE: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(1800);

/// What became of our statements in one repository's policy since we last saw to them.
#[derive(Default)]
pub struct Contest {
    left: Option<Ours>,
    put_back: VecDeque<Instant>,
}

/// What to do about what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentionAction {
    /// Nobody has undone anything: write what is to be written.
    Free,
    /// Somebody has. Put it back.
    PutBack,
    /// Somebody has, again and again: let it be for now.
    Wait,
}

impl Contest {
    /// Judges what was found. `replaced_again`: a statement that we replaced before is there again.
    /// `pause` is the first of the growing pauses.
    pub fn judge(
        &self,
        found: &Ours,
        wanted: &Ours,
        replaced_again: bool,
        pause: Duration,
        now: Instant,
    ) -> ContentionAction {
        let Some(left) = &self.left else {
            return ContentionAction::Free;
        };
        if (found == left || found == wanted) && !replaced_again {
            return ContentionAction::Free;
        }
        // Only where nothing else is to be done can it wait: a change of what is wanted cannot, and
        // what allows more than is wanted must go.
        let only_to_restore = left == wanted && found.are_all_in(wanted);
        let too_soon = self
            .last()
            .is_some_and(|last| now.duration_since(last) < self.pause(pause));
        if only_to_restore && self.put_back.len() >= PATIENCE && too_soon {
            ContentionAction::Wait
        } else {
            ContentionAction::PutBack
        }
    }

    /// How long ours must stand before we write again: it doubles with each time that they did not.
    fn pause(&self, first: Duration) -> Duration {
        let grown = u32::try_from(self.put_back.len().saturating_sub(PATIENCE))
            .unwrap_or(u32::MAX)
            .min(16);
        first.saturating_mul(2_u32.pow(grown)).min(LONGEST_PAUSE)
    }

    fn last(&self) -> Option<Instant> {
        self.put_back.back().copied()
    }

    /// Notes what our statements are now, and whether they were put back.
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

    /// Whether people must be told: it has happened often, and ours have not stood for a whole
    /// pause since. That they stand right after we wrote them says nothing.
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

    /// Our statements for these accounts.
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

    /// Lets somebody undo everything as soon as it was written, and looks every minute; gives back
    /// in which minutes we wrote.
    fn written_in(minutes: u32) -> Vec<u32> {
        let (start, mut contest, mut written) = (Instant::now(), Contest::default(), Vec::new());
        for minute in 0..minutes {
            let now = start + Duration::from_secs(60) * minute;
            let verdict = contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now);
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

    /// A tool that runs as often as we look: no look finds ours undone twice in a row, and yet it
    /// never holds.
    #[test]
    fn a_rival_as_slow_as_our_own_looks_is_told_without_a_break() {
        let (start, mut contest) = (Instant::now(), Contest::default());
        let mut told = Vec::new();
        for minute in 0..60 {
            let now = start + Duration::from_secs(60) * minute;
            let verdict = contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now);
            if verdict != ContentionAction::Wait {
                contest.leave(ours(&["a"]), verdict, now);
            }
            // A moment later our own statements are found.
            let soon = now + Duration::from_secs(2);
            if contest.judge(&ours(&["a"]), &ours(&["a"]), false, PAUSE, soon)
                == ContentionAction::Free
            {
                contest.leave(ours(&["a"]), ContentionAction::Free, soon);
            }
            told.push(contest.is_on(PAUSE, soon));
        }
        assert_eq!(told.iter().position(|told| *told), Some(3));
        assert!(told[3..].iter().all(|told| *told), "{told:?}");
    }

    #[test]
    fn it_never_stops_altogether() {
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
    fn what_is_newly_wanted_is_written_at_once() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now),
            ContentionAction::Wait
        );
        assert_eq!(
            contest.judge(&ours(&[]), &ours(&["a", "b"]), false, PAUSE, now),
            ContentionAction::PutBack
        );
    }

    #[test]
    fn what_allows_more_than_is_wanted_is_taken_out_at_once() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge(&ours(&["b"]), &ours(&["a"]), false, PAUSE, now),
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
    fn a_statement_that_comes_back_after_it_was_replaced_is_such_a_contest_too() {
        let (contest, now) = contested();
        assert_eq!(
            contest.judge(&ours(&["a"]), &ours(&["a"]), true, PAUSE, now),
            ContentionAction::Wait
        );
    }
}
