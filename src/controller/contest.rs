//! Two tools that own one document: what we write into a repository's policy is undone by somebody who replaces it whole, and so on for
//! ever. This notices it, and makes our side of it ever slower.

use crate::policy::repository::Ours;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How far back is remembered.
const WINDOW: Duration = Duration::from_secs(3600);
/// How often within that time we put our statements back before we take it for more than an accident.
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
pub enum Verdict {
    /// Nobody has undone anything: write what is to be written.
    Free,
    /// Somebody has. Put it back.
    PutBack,
    /// Somebody has, again and again: let it be for now.
    Wait,
}

impl Contest {
    /// Judges what was found. `replaced_again`: a statement that we replaced before is there again. `pause` is the first of the growing
    /// pauses.
    pub fn judge(&self, found: &Ours, wanted: &Ours, replaced_again: bool, pause: Duration, now: Instant) -> Verdict {
        let Some(left) = &self.left else { return Verdict::Free };
        if (found == left || found == wanted) && !replaced_again {
            return Verdict::Free;
        }
        // Only where nothing else is to be done can it wait: a change of what is wanted cannot, and what allows more than is wanted must go.
        let only_to_restore = left == wanted && found.are_all_in(wanted);
        let recent = self.put_back.iter().filter(|at| now.duration_since(**at) < WINDOW);
        let times = recent.clone().count();
        let grown = u32::try_from(times.saturating_sub(PATIENCE)).unwrap_or(u32::MAX).min(16);
        let pause = pause.saturating_mul(2_u32.pow(grown)).min(LONGEST_PAUSE);
        let too_soon = recent.max().is_some_and(|last| now.duration_since(*last) < pause);
        if only_to_restore && times >= PATIENCE && too_soon { Verdict::Wait } else { Verdict::PutBack }
    }

    /// Notes what our statements are now, and whether they were put back.
    pub fn leave(&mut self, ours: Ours, verdict: Verdict, now: Instant) {
        self.left = Some(ours);
        if verdict == Verdict::PutBack {
            self.put_back.push_back(now);
        }
        while self.put_back.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) || self.put_back.len() > 64 {
            self.put_back.pop_front();
        }
    }

    /// Whether it has happened so often that people must be told.
    pub fn is_on(&self, verdict: Verdict) -> bool {
        verdict != Verdict::Free && self.put_back.len() >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::callers::Callers;
    use crate::policy::repository::{Contribution, Wanted, plan};

    const PAUSE: Duration = Duration::from_secs(60);

    /// Our statements for these accounts.
    fn ours(accounts: &[&str]) -> Ours {
        let contribution = |account: &&str| Contribution {
            actions: [format!("ecr:For{account}")].into(),
            callers: Callers::named([(*account).to_owned()]),
        };
        let contributions = accounts.iter().map(contribution).collect();
        let wanted = [Wanted { id: 1, contributions, replaces: Default::default() }];
        plan(None, &wanted, &"0123456789ab".parse().unwrap()).unwrap().wanted
    }

    /// Lets somebody undo everything as soon as it was written, and looks every minute; gives back in which minutes we wrote.
    fn written_in(minutes: u32) -> Vec<u32> {
        let (start, mut contest, mut written) = (Instant::now(), Contest::default(), Vec::new());
        for minute in 0..minutes {
            let now = start + Duration::from_secs(60) * minute;
            let verdict = contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now);
            if verdict != Verdict::Wait {
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

    #[test]
    fn it_never_stops_altogether() {
        let written = written_in(24 * 60);
        assert!(written.windows(2).all(|pair| pair[1] - pair[0] <= 30), "{written:?}");
    }

    fn contested() -> (Contest, Instant) {
        let (mut contest, now) = (Contest::default(), Instant::now());
        contest.leave(ours(&["a"]), Verdict::Free, now);
        for _ in 0..5 {
            contest.leave(ours(&["a"]), Verdict::PutBack, now);
        }
        (contest, now)
    }

    #[test]
    fn what_is_newly_wanted_is_written_at_once() {
        let (contest, now) = contested();
        assert_eq!(contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now), Verdict::Wait);
        assert_eq!(contest.judge(&ours(&[]), &ours(&["a", "b"]), false, PAUSE, now), Verdict::PutBack);
    }

    #[test]
    fn what_allows_more_than_is_wanted_is_taken_out_at_once() {
        let (contest, now) = contested();
        assert_eq!(contest.judge(&ours(&["b"]), &ours(&["a"]), false, PAUSE, now), Verdict::PutBack);
    }

    #[test]
    fn once_our_statements_are_left_alone_it_is_over() {
        let (contest, now) = contested();
        let verdict = contest.judge(&ours(&["a"]), &ours(&["a"]), false, PAUSE, now);
        assert!(!contest.is_on(verdict));
        assert!(contest.is_on(contest.judge(&ours(&[]), &ours(&["a"]), false, PAUSE, now)));
    }

    #[test]
    fn a_statement_that_comes_back_after_it_was_replaced_is_such_a_contest_too() {
        let (contest, now) = contested();
        assert_eq!(contest.judge(&ours(&["a"]), &ours(&["a"]), true, PAUSE, now), Verdict::Wait);
    }
}
