//! Membership in a repository policy after a sync: which grants are in it, which are not and why,
//! and the messages for it.

use crate::api::conditions::Reason;
use crate::aws::error::AwsError;
use crate::controller::state::repository::{RepositoryKey, Standings};
use crate::grant::{Contributor, Problem};
use crate::policy::repository::allowed::Allowed;
use crate::policy::repository::keep::unasked;
use crate::policy::repository::scope::asked;
use crate::policy::repository::search::{Blocked, By, News, Search, SearchError};
use crate::policy::repository::suspects::Why;
use crate::policy::repository::{GrantContribution, Plan};
use crate::policy::{Document, Installation};
use crate::telemetry::metrics::{Metrics, OfAccount};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// End of a sync.
pub struct SyncEnd<'a> {
    pub installation: &'a Installation,
    pub repository: &'a RepositoryKey,
    pub search: &'a Search<AwsError>,
    pub grants: &'a [GrantContribution<Contributor>],
    pub plan: Plan<Contributor>,
    /// The current policy.
    pub policy: Option<Document>,
    /// Whether the plan was not carried out, because somebody else keeps undoing it.
    pub waits: bool,
}

impl Standings {
    /// Computes the state from the plan that the sync ended with, from the search, and from the
    /// current policy.
    pub fn of(end: SyncEnd<'_>) -> Self {
        end.log_likely_principals();
        let complete = end.is_complete();
        let policy = end.policy.as_ref();
        let grants = asked(policy, end.grants, end.installation);
        let granted = end.granted(&grants);
        let refused = end.refused(&grants, &granted);
        let is_left = !complete && !unasked(policy, &grants, end.installation).is_empty();
        let unrevoked = is_left.then(|| end.unrevoked());
        let carried_out = !end.waits && end.search.blocked().is_none();
        let Plan {
            left_out,
            retained,
            characters,
            found_characters,
            kept,
            ..
        } = end.plan;
        Self {
            granted,
            left_out,
            retained: if carried_out {
                retained
            } else {
                BTreeSet::new()
            },
            characters: if carried_out {
                characters
            } else {
                found_characters
            },
            replaced: BTreeSet::new(),
            kept,
            refused,
            unrevoked,
            notices: Vec::new(),
            contested: None,
            put_back: false,
            changed: None,
            policy: end.policy.map(Arc::new),
        }
    }
}

impl SyncEnd<'_> {
    /// Returns whether the plan was carried out as a whole.
    fn is_complete(&self) -> bool {
        self.search.refused().is_empty() && self.search.blocked().is_none() && !self.waits
    }

    fn log_likely_principals(&self) {
        if let Some(By::Members(likely)) = self.search.blocked().map(|blocked| &blocked.by) {
            let RepositoryKey {
                account,
                region,
                name,
            } = self.repository;
            tracing::warn!(%account, region, repository = name, ?likely, "AWS refuses the repository policy because of several of its principals, which are probably among `likely`");
        }
    }

    /// Returns the grants that are in the policy. A plan that was carried out shows it. Otherwise
    /// the policy itself does.
    fn granted(&self, grants: &[GrantContribution<Contributor>]) -> BTreeSet<Contributor> {
        let complete = self.is_complete();
        let in_policy = Allowed::by(self.policy.iter().flat_map(|policy| &policy.statements));
        grants
            .iter()
            .filter(|grant| !grant.contributions.is_empty())
            .filter(|grant| !self.plan.left_out.contains(&grant.id))
            .filter(|grant| {
                complete
                    || grant
                        .contributions
                        .iter()
                        .all(|contribution| in_policy.all_of(contribution))
            })
            .map(|grant| grant.id.clone())
            .collect()
    }

    /// Returns the grants that could not be added, with the reason.
    fn refused(
        &self,
        grants: &[GrantContribution<Contributor>],
        granted: &BTreeSet<Contributor>,
    ) -> BTreeMap<Contributor, Problem> {
        grants
            .iter()
            .filter(|grant| !grant.contributions.is_empty() && !granted.contains(&grant.id))
            .filter_map(|grant| Some((grant.id.clone(), self.refusal(grant)?)))
            .collect()
    }

    fn refusal(&self, grant: &GrantContribution<Contributor>) -> Option<Problem> {
        let refused = self.search.refused();
        let by_principal = grant
            .contributions
            .iter()
            .flat_map(|contribution| contribution.callers.principals())
            .find_map(|name| refused.get_key_value(name.as_str()));
        match (by_principal, self.search.blocked()) {
            (Some((principal, fault)), _) => {
                Some(refused_principal(self.repository, principal, fault))
            }
            (None, Some(blocked)) if !self.plan.left_out.contains(&grant.id) => {
                Some(cannot_be_written(self.repository, &self.plan, blocked))
            }
            (None, _) => None,
        }
    }

    /// Reports access that is left although no grant asks for it.
    fn unrevoked(&self) -> Problem {
        let repository = self.repository;
        match self.search.blocked() {
            Some(blocked) => cannot_be_written(repository, &self.plan, blocked),
            None => Problem::new(
                Reason::Settling,
                format!(
                    "the policy of {repository} still allows access that no grant asks for. The operator will retry"
                ),
            ),
        }
    }
}

/// Reports a principal that AWS refuses by itself.
fn refused_principal(repository: &RepositoryKey, principal: &str, fault: &AwsError) -> Problem {
    let RepositoryKey { region, .. } = repository;
    Problem::new(
        Reason::Settling,
        format!(
            "AWS refuses {principal} in the policy of {repository}. If that account or role does not exist, correct the grant. AWS also refuses an account that is closed, or that has not enabled region {region}. The access of other grants is not affected ({fault})"
        ),
    )
}

/// Reports that nothing can be written. A status never names principals of other grants.
fn cannot_be_written(
    repository: &RepositoryKey,
    plan: &Plan<Contributor>,
    blocked: &Blocked<AwsError>,
) -> Problem {
    let Blocked { by, answer, .. } = blocked;
    let (reason, why) = match by {
        By::Foreign(suspect) => {
            let what = match &suspect.why {
                Why::Gone(_) => "principal",
                Why::Action(_) => "action",
                Why::Element(element) => element,
            };
            let why = format!(
                "{suspect}. That statement is not this operator's, and because of it ECR refuses the whole document. Remove that {what} or that statement in ECR"
            );
            (Reason::BlockedPolicy, why)
        }
        By::SomeForeign => {
            let why = format!(
                "ECR refuses one of the {} statements in it that are not this operator's. Correct or remove that statement in ECR: its principals may be closed accounts or deleted roles",
                plan.foreign
            );
            (Reason::BlockedPolicy, why)
        }
        By::Members(_) => {
            let why = "AWS refuses several of the accounts or roles that have access there, and the operator could not find out which without removing access from others. Its log names the likely ones. Remove the grants of closed accounts";
            (Reason::BlockedPolicy, why.to_owned())
        }
        By::Unknown => (
            Reason::Settling,
            "AWS refused it and the operator could not find the cause. The operator will retry"
                .into(),
        ),
    };
    Problem::new(
        reason,
        format!("the policy of {repository} cannot be written, because {why} ({answer})"),
    )
}

/// Reports why a sync could not continue.
pub fn stopped(repository: &RepositoryKey, stop: SearchError) -> Problem {
    match stop {
        SearchError::ParseError(error) => unreadable(repository, &error),
        SearchError::Violation(violation) => {
            // A plan must never make such a document: if it does, that is a bug of this operator.
            tracing::error!(account = %repository.account, region = repository.region, repository = repository.name, "did not write a repository policy that violates the operator's own checks, which is a bug: {violation}");
            let message = format!(
                "the operator did not write the policy of {repository}, because the new document failed its own checks. This is a bug: please report it, with the reason in the operator's log"
            );
            Problem::new(Reason::PolicyTooLarge, message)
        }
    }
}

/// Reports that the policy that was read is not a policy document.
pub fn unreadable(repository: &RepositoryKey, error: &dyn std::error::Error) -> Problem {
    let message = format!(
        "the policy of {repository} cannot be read ({error}), so the operator does not change it. Correct it in ECR"
    );
    Problem::new(Reason::UnreadablePolicy, message)
}

/// Reports that somebody else keeps undoing our statements. The grant's status gives the number of
/// foreign statements; the account's status and the log contain their Sids.
pub fn contested(repository: &RepositoryKey, plan: &Plan<Contributor>) -> Problem {
    tracing::warn!(account = %repository.account, region = repository.region, repository = repository.name, foreign = plan.foreign, sids = ?plan.foreign_sids, "another tool keeps replacing the repository policy");
    let others = match plan.foreign {
        0 => "no other statements".to_owned(),
        1 => "one other statement".to_owned(),
        many => format!("{many} other statements"),
    };
    Problem::new(
        Reason::ContestedPolicy,
        format!(
            "another tool keeps replacing the policy of {repository}, and so removes the access that grants give there. Besides this operator's statements, the policy has {others} (the status of the AWSAccount has their Sids). Find who calls ecr:SetRepositoryPolicy there in CloudTrail (a Terraform aws_ecr_repository_policy, a stack, another controller), and have it keep the statements whose Sid begins with RegistryGrants. Until then, this operator restores them less and less often"
        ),
    )
}

/// Counts and logs news, and returns the text of an Event about it.
pub fn announce(metrics: &Metrics, repository: &RepositoryKey, news: &News) -> String {
    let account = OfAccount {
        account: repository.account.to_string(),
    };
    let RepositoryKey {
        account: of,
        region,
        name,
    } = repository;
    match news {
        News::SetAside(principals) => {
            metrics.policy_set_aside.get_or_create(&account).inc();
            tracing::warn!(account = %of, region, repository = name, ?principals, "wrote a revocation without these principals, because AWS refuses one of them; adding them back now");
            let number = principals.len();
            format!(
                "the operator could only write a revocation in the policy of {repository} without {number} accounts or roles that should keep their access, because AWS refuses one of them. It adds those back at once that AWS accepts. Its log names them"
            )
        }
        News::IdsRemoved(ids, statements) => {
            metrics
                .policy_ids_removed
                .get_or_create(&account)
                .inc_by(ids.len() as u64);
            let statements: Vec<String> = statements.iter().map(ToString::to_string).collect();
            tracing::warn!(account = %of, region, repository = name, ?ids, before = ?statements, "removed unique IDs of deleted principals from foreign statements, because AWS refused to write a revocation with them; `before` has the original statements");
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            format!(
                "removed {} from foreign statements in the policy of {repository}: the principal was deleted, and AWS refused to write a revocation because of it. The operator's log has the original statements",
                ids.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ACCOUNT: &str = "111111111111";

    fn announced(news: &News) -> (String, u64, u64) {
        let metrics = Metrics::default();
        let repository = RepositoryKey {
            account: ACCOUNT.parse().unwrap(),
            region: "us-east-1".into(),
            name: "app".into(),
        };
        let text = announce(&metrics, &repository, news);
        let account = OfAccount {
            account: ACCOUNT.into(),
        };
        let set_aside = metrics.policy_set_aside.get_or_create(&account).get();
        let ids_removed = metrics.policy_ids_removed.get_or_create(&account).get();
        (text, set_aside, ids_removed)
    }

    #[test]
    fn principals_set_aside_are_counted_and_not_named_to_tenants() {
        let root = "arn:aws:iam::222222222222:root".to_owned();
        let (text, set_aside, ids_removed) = announced(&News::SetAside([root].into()));
        assert!(text.contains("without 1 accounts or roles"), "{text}");
        assert!(!text.contains("222222222222"), "{text}");
        assert_eq!((set_aside, ids_removed), (1, 0));
    }

    #[test]
    fn removed_ids_are_counted_and_named() {
        let ids = ["AIDAAAAAAAAAAAAAAAAAA", "AROAAAAAAAAAAAAAAAAAA"].map(String::from);
        let before = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Principal": {"AWS": ids}, "Action": "ecr:BatchGetImage"}});
        let before = Document::parse(&before.to_string()).unwrap().statements;
        let (text, set_aside, ids_removed) = announced(&News::IdsRemoved(ids.into(), before));
        assert!(
            text.starts_with(
                "removed AIDAAAAAAAAAAAAAAAAAA, AROAAAAAAAAAAAAAAAAAA from foreign statements"
            ),
            "{text}"
        );
        assert_eq!((set_aside, ids_removed), (0, 2));
    }
}
