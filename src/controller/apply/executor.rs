//! Carries out the steps of an apply, or only reports them. Every stage is the same in both cases,
//! so a dry run shows what would be done.

use super::request::ApplyRequest;
use crate::aws::Account;
use crate::aws::error::{AwsError, ErrorCode};
use crate::aws::iam::Made;
use crate::controller::Context;
use crate::grant::Problem;
use crate::grant::change::Change;
use crate::grant::desired::Desired;
use crate::grant::diff::{Step, refused_trust};
use crate::grant::observed::Role;
use crate::grant::ownership::Owner;
use crate::grant::status::StatusPart;
use crate::policy::Document;

/// Whether steps are carried out.
#[derive(Clone, Copy)]
pub enum Executor<'a> {
    /// They are, while this replica leads.
    Live(&'a Context),
    /// They are only reported. Nothing is written.
    DryRun,
}

/// Reason why steps were not carried out to their end.
pub struct Failed {
    pub problem: Problem,
    /// The trust policy in the form that IAM refused.
    pub refused: Option<Document>,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            refused: None,
        }
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        failed.problem
    }
}

impl<'a> Executor<'a> {
    /// Returns the context for writes. `None`: nothing is written.
    pub fn live(self) -> Option<&'a Context> {
        match self {
            Self::Live(context) => Some(context),
            Self::DryRun => None,
        }
    }

    /// Remembers the desired state, and returns whether it was the same at the grant's last apply.
    pub fn remembers(self, request: &ApplyRequest<'_>, desired: Option<&Desired>) -> bool {
        self.live().is_some_and(|context| {
            let claims_cache = &context.cluster.claims_cache;
            claims_cache.remembers_desired(&request.owner.uid, desired)
        })
    }

    /// Carries out steps in order until one fails. Returns the changes before the failure, and what
    /// was made. `role` is the role that the steps change, and is updated with each of them.
    pub async fn carry_out(
        self,
        account: &Account,
        owner: &Owner,
        steps: Vec<Step>,
        role: &mut Option<Role>,
    ) -> (Vec<Change>, Result<Vec<Made>, Failed>) {
        let mut changes = Vec::new();
        let mut made = Vec::new();
        for step in steps {
            let change = Change::of_step(&account.id, &step, role.as_ref());
            if let Some(context) = self.live() {
                match write(context, account, owner, &step).await {
                    Ok(named) => {
                        let identity = match &named {
                            Some(Made::Role { arn, id }) => Some((arn.as_str(), id.as_str())),
                            Some(Made::Profile { .. }) | None => None,
                        };
                        *role = step.apply_to(role.take(), identity);
                        made.extend(named);
                        tracing::info!(grant = %owner.grant, "{change}");
                    }
                    Err(failed) => return (changes, Err(failed)),
                }
            }
            changes.push(change);
        }
        (changes, Ok(made))
    }

    /// Returns the status of a part that was applied with these changes: in place, or pending in a
    /// dry run.
    pub fn part(self, changes: &[Change], in_place: String) -> StatusPart {
        match (self, changes.len()) {
            (Self::DryRun, 1) => {
                StatusPart::Pending("a change is pending, see status.pending".into())
            }
            (Self::DryRun, pending @ 2..) => {
                StatusPart::Pending(format!("{pending} changes are pending, see status.pending"))
            }
            (Self::Live(_), _) | (Self::DryRun, 0) => StatusPart::InPlace(in_place),
        }
    }

    /// Returns the changes that would be made. `None`: they were made.
    pub fn pending(self, changes: &[Change]) -> Option<Vec<String>> {
        match self {
            Self::Live(_) => None,
            Self::DryRun => Some(changes.iter().map(ToString::to_string).collect()),
        }
    }
}

async fn write(
    context: &Context,
    account: &Account,
    owner: &Owner,
    step: &Step,
) -> Result<Option<Made>, Failed> {
    let permit = context.runtime.leadership.write_permit()?;
    let applied = account.apply(step.clone(), permit).await;
    applied.map_err(|fault| failed(account, owner, step, fault))
}

fn failed(account: &Account, owner: &Owner, step: &Step, fault: AwsError) -> Failed {
    match step {
        Step::UpdateTrust { role, trust } if fault.code() == ErrorCode::MalformedPolicyDocument => {
            let blocked = refused_trust(
                &account.id,
                role,
                trust,
                &fault.to_string(),
                &owner.installation,
            );
            Failed {
                problem: blocked.unwrap_or_else(|| fault.into()),
                refused: Some(trust.clone()),
            }
        }
        _ => Failed {
            problem: fault.into(),
            refused: None,
        },
    }
}
