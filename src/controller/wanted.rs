//! What all grants together want of a repository's policy, from the watch cache.

use super::Context;
use super::repositories::Repository;
use crate::api::CrossAccountRegistryGrant;
use crate::grant::validate::no_account;
use crate::grant::{Directory, GrantName, Problem, Standing, standing};
use crate::policy::repository::Wanted;
use kube::{Resource, ResourceExt};

/// What is wanted of a repository's policy, the oldest grant first.
///
/// # Errors
/// When the account has no `AWSAccount` (any more): then nobody can say who is admitted, and nothing may be taken for revoked.
pub fn of(context: &Context, repository: &Repository) -> Result<Vec<Wanted<GrantName>>, Problem> {
    if context.directory.account(&repository.account).is_none() {
        return Err(no_account(&repository.account));
    }
    // What has not been claimed yet is not written: if we stopped now, nobody would know where to take it back.
    let may_carry = |grant: &CrossAccountRegistryGrant| {
        grant.spec.registry.account_id == repository.account.as_str()
            && grant.meta().deletion_timestamp.is_none()
            && context.ledger.covers(grant, &repository.region, &repository.name)
    };
    let mut grants = context.grants.state_filter(may_carry);
    grants.sort_by_key(|grant| (grant.creation_timestamp(), grant.namespace(), grant.name_any()));
    let mut wanted = Vec::new();
    for grant in grants {
        let claims = context.ledger.claims(&grant);
        let id = GrantName { namespace: grant.namespace().unwrap_or_default(), name: grant.name_any() };
        match standing(&id, &grant.spec, claims.as_ref(), &context.directory, &context.installation) {
            Standing::Admitted(admitted) | Standing::Kept(admitted, _) => {
                if !admitted.reaches(&repository.region, &repository.name) {
                    continue;
                }
                let contributions = admitted.contributions(&repository.region, context.ledger.role_is_ours(&grant));
                if !contributions.is_empty() {
                    wanted.push(Wanted { id, contributions, replaces: admitted.replaces });
                }
            }
            Standing::Unknown(_) if context.directory.account(&repository.account).is_none() => {
                return Err(no_account(&repository.account));
            }
            Standing::Unknown(_) | Standing::NotAdmitted(_) => {}
        }
    }
    Ok(wanted)
}
