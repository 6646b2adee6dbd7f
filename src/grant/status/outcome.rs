//! The outcome of a reconcile: the decision on a grant, and what was done for it.

use super::apply_report::{ApplyReport, StatusPart};
use crate::api::grant::CrossAccountRegistryGrantSpec as Spec;
use crate::grant::access;
use crate::grant::{Decision, Grant, Problem};
use std::collections::BTreeSet;

/// Outcome of one reconcile.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Whether all access was to be revoked.
    pub revoking: bool,
    /// The reasons why the current spec is refused, regardless of what else was done.
    pub refusal: Vec<Problem>,
    /// What was done. Its `registry_status` names the hosts, too.
    pub report: ApplyReport,
    /// The Sids of foreign statements that the grant replaces.
    pub replaces: BTreeSet<String>,
    /// A summary of the access that works, for people, if all is well.
    pub summary: String,
    /// The manual reconcile request (annotation `registrygrants.dev/reconcile`) that this reconcile
    /// has handled.
    pub handled: Option<String>,
}

impl Outcome {
    /// Combines a decision with what was done for it. `spec` is the resource's current spec, and
    /// `handled` the manual reconcile request that it served.
    pub fn new(
        decision: &Decision,
        spec: &Spec,
        handled: Option<&String>,
        report: ApplyReport,
    ) -> Self {
        let grant = decision.target();
        let mut report = report;
        report.registry_status.hosts = grant.map(Grant::registry_hosts).unwrap_or_default();
        Self {
            revoking: grant.is_none(),
            refusal: decision.problems().to_vec(),
            report,
            // Independent of what was done: a replaced statement stays recorded for as long as the
            // spec names its Sid.
            replaces: spec.registry.replace_sids.iter().cloned().collect(),
            summary: grant.map(Grant::summary).unwrap_or_default(),
            handled: handled.cloned(),
        }
    }

    /// Returns everything that went wrong: first why the spec is refused, then what a person must
    /// fix, then what resolves itself.
    pub fn problems(&self) -> Vec<Problem> {
        let parts = [
            &self.report.accounts,
            &self.report.role,
            &self.report.consumer,
            &self.report.repositories,
        ];
        let of_parts = parts.into_iter().filter_map(|part| match part {
            StatusPart::Failed(problem) => Some(problem.clone()),
            StatusPart::InPlace(_)
            | StatusPart::NotRequested(_)
            | StatusPart::NotManaged(_)
            | StatusPart::Pending(_)
            | StatusPart::Blocked(_) => None,
        });
        let mut problems: Vec<Problem> = of_parts.chain(self.report.repository_problem()).collect();
        // If a part is not in place, that is the reason, and denied access is only a consequence.
        if problems.is_empty()
            && self.refusal.is_empty()
            && self.report.pending.is_none()
            && !self.revoking
        {
            problems.extend(access::denied(&self.report.access));
        }
        problems.sort_by_key(|problem| !problem.reason.needs_a_person());
        self.refusal.iter().cloned().chain(problems).collect()
    }
}
