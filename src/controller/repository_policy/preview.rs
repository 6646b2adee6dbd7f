//! What would become of a repository's policy. Nothing is written, and so nobody waits for it.

use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::World;
use crate::controller::repository_policy::contributions::{self, Hypothesis};
use crate::controller::repository_policy::sync::{RepositoryKey, changes, planned};
use crate::grant::change::Change as Planned;
use crate::grant::{GrantName, Problem};
use crate::policy::Document;

/// What syncing a repository's policy would change, under a hypothesis about this grant; with the
/// policy as it is. Nothing is written, and nobody waits for it.
pub async fn preview(
    world: &World,
    account: &Account,
    repository: &RepositoryKey,
    grant: &GrantName,
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
    let mut wanted = contributions::of(world, repository, hypothesis)?;
    wanted.splice(
        0..0,
        contributions::of_unknown(world, repository, current.as_deref()),
    );
    let plan = planned(world, repository, current.as_deref(), &wanted)?;
    let left_out = plan.left_out.contains(grant);
    Ok(Some(PolicyPreview {
        change: changes(repository, &plan),
        left_out,
        retained: plan.retained.contains(grant),
        characters: plan.characters,
        policy: plan.current,
    }))
}

/// What a preview shows of a repository's policy.
pub struct PolicyPreview {
    pub change: Option<Planned>,
    /// Whether the grant would find no room.
    pub left_out: bool,
    /// Whether the grant's access is retained.
    pub retained: bool,
    pub characters: usize,
    /// The policy as it is.
    pub policy: Option<Document>,
}
