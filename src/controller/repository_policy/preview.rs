//! Previews the sync of a repository policy. Nothing is written, so no other work waits for it.

use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::context::{Cloud, Cluster};
use crate::controller::repository_policy::contributions::{self, Hypothesis};
use crate::controller::repository_policy::sync::{changes, planned};
use crate::controller::state::repository::RepositoryKey;
use crate::grant::change::Change as Planned;
use crate::grant::{Contributor, Problem};
use crate::policy::Document;
use std::collections::BTreeSet;

/// Returns the change that a sync of the repository policy would make, under a hypothesis about
/// this grant, together with the current policy. Nothing is written, and no other work waits for
/// it.
pub async fn preview(
    cluster: &Cluster,
    cloud: &Cloud,
    account: &Account,
    repository: &RepositoryKey,
    hypothesis: Hypothesis<'_>,
) -> Result<Option<PolicyPreview>, Problem> {
    let current = match account
        .repository_policy(&repository.region, &repository.name)
        .await?
    {
        PolicyRead::NoRepository => return Ok(None),
        PolicyRead::NoPolicy => None,
        PolicyRead::Policy(text) => Some(text),
    };
    let mut wanted = contributions::of(cluster, repository, hypothesis)?;
    wanted.splice(
        0..0,
        contributions::of_unknown(cluster, cloud, repository, current.as_deref()),
    );
    let plan = planned(
        &cluster.installation,
        repository,
        current.as_deref(),
        &wanted,
    )?;
    Ok(Some(PolicyPreview {
        change: changes(repository, &plan),
        left_out: plan.left_out,
        retained: plan.retained,
        characters: plan.characters,
        policy: plan.current,
    }))
}

/// Preview of a repository policy.
pub struct PolicyPreview {
    pub change: Option<Planned>,
    /// The grants that would not fit.
    pub left_out: BTreeSet<Contributor>,
    /// The grants whose access is retained.
    pub retained: BTreeSet<Contributor>,
    pub characters: usize,
    /// The current policy.
    pub policy: Option<Document>,
}
