//! Repositories' part of a status: the counts, and the first repositories by name.

use super::apply_report::{ApplyReport, RepositoryOutcome, StatusPart};
use super::text::{LISTED, LONGEST_OF_MANY};
use crate::api::conditions::Reason;
use crate::api::grant::{
    CrossAccountRegistryGrantStatus as Status, Replacement, ReplacementState, RepositoriesStatus,
    RepositoryStatus,
};
use crate::grant::Problem;
use crate::text::{list_some, truncate};
use std::collections::{BTreeMap, BTreeSet};

impl ApplyReport {
    /// Joins the repositories' problems into one, with the first few named.
    pub(super) fn repository_problem(&self) -> Option<Problem> {
        const NAMED: usize = 3;
        let failed = self
            .each_repository
            .values()
            .filter_map(|outcome| outcome.result.as_ref().err());
        let mut failed: Vec<Problem> = failed
            .filter(|problem| problem.reason != Reason::Observing)
            .cloned()
            .collect();
        failed.sort_by_key(|problem| !problem.reason.needs_a_person());
        let reason = failed.first()?.reason;
        let messages = failed.iter().map(|problem| &problem.message);
        let message = list_some(messages, NAMED, "; ", |more| {
            format!("; and {more} more, see status.repositories")
        });
        Some(Problem { reason, message })
    }

    pub(super) fn repositories_part(&self) -> StatusPart {
        let observed = |outcome: &&RepositoryOutcome| {
            outcome
                .result
                .as_ref()
                .is_err_and(|p| p.reason == Reason::Observing)
        };
        match (
            &self.repositories,
            self.repository_problem(),
            self.each_repository.values().filter(observed).count(),
        ) {
            (StatusPart::InPlace(_), Some(problem), _) => StatusPart::Failed(problem),
            (StatusPart::InPlace(_), None, 1..) => StatusPart::Pending("see status.pending".into()),
            (part, _, _) => part.clone(),
        }
    }

    pub(super) fn repositories_status(&self) -> Option<RepositoriesStatus> {
        if self.each_repository.is_empty() && !matches!(self.repositories, StatusPart::InPlace(_)) {
            return None;
        }
        let reason = |outcome: &RepositoryOutcome| match &outcome.result {
            Ok(()) => Reason::Granted,
            Err(problem) => problem.reason,
        };
        let count = |is: fn(Reason) -> bool| {
            let counted = self
                .each_repository
                .values()
                .filter(|outcome| is(reason(outcome)))
                .count();
            i32::try_from(counted).unwrap_or(i32::MAX)
        };
        let granted = count(|reason| reason == Reason::Granted);
        let waiting =
            count(|reason| matches!(reason, Reason::RepositoryNotFound | Reason::Observing));
        let all = i32::try_from(self.each_repository.len()).unwrap_or(i32::MAX);
        let item =
            |((region, name), outcome): (&(String, String), &RepositoryOutcome)| RepositoryStatus {
                region: region.clone(),
                name: name.clone(),
                reason: reason(outcome).to_string(),
                policy_full_percent: outcome.full_percent,
            };
        let (right, wrong): (Vec<_>, Vec<_>) = self
            .each_repository
            .iter()
            .partition(|(_, outcome)| outcome.result.is_ok());
        Some(RepositoriesStatus {
            summary: format!("{granted}/{all}"),
            granted,
            waiting,
            failed: all - granted - waiting,
            items: wrong
                .into_iter()
                .chain(right)
                .take(LISTED)
                .map(item)
                .collect(),
        })
    }

    /// Returns the state of the statements that the grant replaces. A statement that was replaced
    /// once is no longer found, so the last status is the source for it.
    /// `replaces` are the Sids that the grant replaces.
    pub(super) fn replacements(
        &self,
        replaces: &BTreeSet<String>,
        previous: Option<&Status>,
    ) -> Vec<Replacement> {
        let before = previous.into_iter().flat_map(|status| &status.replacements);
        let replaced_before =
            before.filter(|replacement| replacement.state == ReplacementState::Replaced);
        let mut replacements: BTreeMap<(&str, &str, &str), Replacement> = replaced_before
            .filter(|replacement| replaces.contains(&replacement.sid))
            .map(|replacement| {
                let Replacement {
                    region,
                    name,
                    sid,
                    state: _,
                    message: _,
                } = replacement;
                (
                    (region.as_str(), name.as_str(), sid.as_str()),
                    replacement.clone(),
                )
            })
            .collect();
        for ((region, name), RepositoryOutcome { replaced, kept, .. }) in &self.each_repository {
            let replaced = replaced
                .iter()
                .map(|sid| (sid, ReplacementState::Replaced, None));
            let kept = kept.iter().map(|(sid, why)| {
                (
                    sid,
                    ReplacementState::Kept,
                    Some(truncate(why.clone(), LONGEST_OF_MANY)),
                )
            });
            // A statement that is present is not replaced, whatever the last status reported.
            for (sid, state, message) in replaced.chain(kept) {
                let (region_owned, name_owned) = (region.clone(), name.clone());
                let now = Replacement {
                    region: region_owned,
                    name: name_owned,
                    sid: sid.clone(),
                    state,
                    message,
                };
                replacements.insert((region, name, sid), now);
            }
        }
        // Statements that stay need somebody's attention; replaced ones do not.
        let (kept, replaced): (Vec<_>, Vec<_>) = replacements
            .into_values()
            .partition(|replacement| replacement.state == ReplacementState::Kept);
        kept.into_iter().chain(replaced).take(LISTED).collect()
    }
}
