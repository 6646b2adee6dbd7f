//! What would become of a repository's policy. Nothing is written, and so nobody waits for it.

use super::repositories::{Repository, changes, planned};
use super::{World, wanted};
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::grant::plan::Change as Planned;
use crate::grant::{Grant, GrantName, Problem};
use crate::policy::Document;

/// What bringing a repository's policy up to date would change, if one grant were as given (`None`:
/// gave nothing); with the policy as it is. Nothing is written, and nobody waits for it.
pub async fn foresee(
    world: &World,
    account: &Account,
    repository: &Repository,
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
    let mut wanted = wanted::of(world, repository, Some(as_if))?;
    wanted.splice(
        0..0,
        wanted::of_unknown(world, repository, current.as_deref()),
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
