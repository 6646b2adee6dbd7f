//! A simulated ECR for the search, and its driver.

use crate::policy::dead_ids::is_unique_id;
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::search::{Evidence, Next, Search, SearchError};
use crate::policy::repository::{Contribution, GrantContribution, Plan};
use crate::policy::{Document, Installation, Statement};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub type Grant = GrantContribution<u64>;

pub const ID: &str = "AROAEXAMPLEEXAMPLE12";

pub fn installation() -> Installation {
    "0123456789ab".parse().unwrap()
}

pub fn root(number: u64) -> String {
    format!("arn:aws:iam::{}:root", 100_000_000_000 + number)
}

/// Creates the grant with this number, for these principals.
pub fn grant(id: u64, principals: impl IntoIterator<Item = String>) -> Grant {
    let actions = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        .map(String::from)
        .into();
    let contributions = vec![Contribution {
        actions,
        callers: PrincipalSet::named(principals),
    }];
    GrantContribution {
        id,
        contributions,
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }
}

/// Adds one more action to the grant.
pub fn pushing(mut grant: Grant) -> Grant {
    grant.contributions[0].actions.insert("ecr:PutImage".into());
    grant
}

/// Creates one grant for each account.
pub fn grants(numbers: impl IntoIterator<Item = u64>) -> Vec<Grant> {
    numbers
        .into_iter()
        .map(|id| grant(id, [root(id)]))
        .collect()
}

/// The policy of one repository. Refuses a document that names a dead principal or a unique ID.
#[derive(Default)]
pub struct Ecr {
    pub policy: Option<String>,
    pub dead: BTreeSet<String>,
    /// Principals that are refused until this many writes were answered, such as a role that has
    /// not reached every location yet.
    pub late: BTreeMap<String, usize>,
    /// Principals that are refused in a statement with `ecr:PutImage`.
    pub late_pushers: BTreeSet<String>,
    /// Whether `ecr:GetAuthorizationToken` is refused.
    pub refuses_tokens: bool,
    /// The writes, counted from 0, that are throttled.
    pub throttled_at: BTreeSet<usize>,
    /// The evidence that the driver would find.
    pub evidence: Evidence,
    /// For each write that was answered, whether it was accepted.
    pub writes: Vec<bool>,
    /// The principals that lost access through an accepted write although a grant asks for it and
    /// AWS accepts them.
    pub lost: Vec<String>,
    pub attempts: usize,
}

/// The error of a throttled write.
#[derive(Debug, PartialEq, Eq)]
pub struct Throttled;

impl Ecr {
    /// Runs one sync as the operator does: it reads, writes and passes the answers on.
    pub fn look(
        &mut self,
        search: &mut Search<()>,
        grants: &[Grant],
        now: Duration,
    ) -> Result<Plan<u64>, Throttled> {
        search.begin(now);
        loop {
            let read = self.policy.clone();
            match search.next(read.as_deref(), grants, &installation(), now) {
                Ok(Next::Done(plan)) => return Ok(*plan),
                Ok(Next::Ask(_)) => search.learn(&self.evidence),
                Ok(Next::Write(step)) => {
                    self.attempts += 1;
                    if self.throttled_at.contains(&(self.attempts - 1)) {
                        return Err(Throttled);
                    }
                    if self.takes(step.write.document(), grants) {
                        if search.accepted() {
                            return Ok(step.plan);
                        }
                    } else {
                        search.was_refused((), now);
                    }
                }
                Err(SearchError::ParseError(error)) => panic!("{error}"),
                Err(SearchError::Violation(error)) => panic!("{error}"),
            }
        }
    }

    fn takes(&mut self, document: Option<&Document>, grants: &[Grant]) -> bool {
        let statements = document
            .map(|document| document.statements.as_slice())
            .unwrap_or_default();
        let is_late = |name: &str| {
            self.late
                .get(name)
                .is_some_and(|until| self.writes.len() < *until)
        };
        let dead = |name: &str| is_unique_id(name) || self.dead.contains(name) || is_late(name);
        let token = self.refuses_tokens
            && document.is_some_and(|d| d.to_string().contains("GetAuthorizationToken"));
        let pushes = |statement: &&Statement| {
            statement
                .0
                .get("Action")
                .is_some_and(|actions| actions.to_string().contains("PutImage"))
        };
        let mut pushers = statements
            .iter()
            .filter(pushes)
            .flat_map(Statement::aws_principals);
        let taken = !token
            && !pushers.any(|name| self.late_pushers.contains(name))
            && !statements
                .iter()
                .flat_map(Statement::aws_principals)
                .any(dead);
        self.writes.push(taken);
        if taken {
            let before = self.named();
            self.policy = document.map(ToString::to_string);
            let asked: BTreeSet<String> = grants
                .iter()
                .flat_map(|grant| &grant.contributions)
                .flat_map(|asked| asked.callers.principals().clone())
                .collect();
            let lost = before
                .difference(&self.named())
                .filter(|name| asked.contains(*name))
                .cloned()
                .collect::<Vec<_>>();
            self.lost
                .extend(lost.into_iter().filter(|name| !self.dead.contains(name)));
        }
        taken
    }

    pub fn document(&self) -> Option<Document> {
        self.policy
            .as_deref()
            .map(|policy| Document::parse(policy).unwrap())
    }

    /// Returns the principals that our statements name.
    pub fn named(&self) -> BTreeSet<String> {
        let statements = self
            .document()
            .map(|document| document.statements)
            .unwrap_or_default();
        let ours = statements
            .iter()
            .filter(|statement| installation().owns(statement));
        ours.flat_map(Statement::aws_principals)
            .map(String::from)
            .collect()
    }
}
