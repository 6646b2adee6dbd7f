//! What would become of a repository's policy. Nothing is written, and so nobody waits for it.

use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::World;
use crate::controller::repository_policy::contributions;
use crate::controller::repository_policy::sync::{RepositoryKey, changes, planned};
use crate::grant::change::Change as Planned;
use crate::grant::{Grant, GrantName, Problem};
use crate::policy::Document;

/// What bringing a repository's policy up to date would change, if one grant were as given (`None`:
/// gave nothing); with the policy as it is. Nothing is written, and nobody waits for it.
pub async fn preview(
    world: &World,
    account: &Account,
    repository: &RepositoryKey,
    as_if: (&GrantName, Option<&Grant>),
) -> Result<Option<Foreseen>, Problem> {
    let current = match account
        .repository_policy(&repository.region, &repository.name)
        .await?
    {
        PolicyRead::NoRepository => return Ok(None),
        PolicyRead::NoPolicy => None,
        PolicyRead::Policy(text) => Some(text),
    };
    let mut wanted = contributions::of(world, repository, Some(as_if))?;
    wanted.splice(
        0..0,
        contributions::of_unknown(world, repository, current.as_deref()),
    );
    let plan = planned(world, repository, current.as_deref(), &wanted)?;
    let left_out = plan.left_out.contains(as_if.0);
    Ok(Some(Foreseen {
        change: changes(repository, &plan),
        left_out,
        characters: plan.characters,
        policy: plan.current,
    }))
}

/// What is foreseen of a repository's policy.
pub struct Foreseen {
    pub change: Option<Planned>,
    /// Whether the grant would find no room.
    pub left_out: bool,
    pub characters: usize,
    /// The policy as it is.
    pub policy: Option<Document>,
}
