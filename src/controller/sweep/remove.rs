//! Removes orphans: each is read again right before, and compared with the current claims.

use super::scan::{Looked, ScanTarget};
use crate::api::conditions::Reason;
use crate::controller::repository_policy::read_back::revoke;
use crate::controller::state::repository::{RepositoryKey, SyncOutcome};
use crate::grant::Problem;
use crate::grant::sweep::Leftover;
use crate::telemetry::metrics::OfAccount;
use std::collections::BTreeSet;

/// Result of the removals.
#[derive(Default)]
pub struct Removed {
    /// The orphans that no longer exist.
    pub arns: BTreeSet<String>,
    /// The orphans that could not be removed, with the reason.
    pub failed: Vec<String>,
}

/// Removes these orphans. Repository policies go first, so that access ends before the identities
/// that have it.
pub async fn remove(place: &ScanTarget<'_>, looked: &Looked, ripe: &BTreeSet<String>) -> Removed {
    let mut removed = Removed::default();
    for (arn, repository) in looked
        .repositories
        .iter()
        .filter(|(arn, _)| ripe.contains(*arn))
    {
        let what = format!("this installation's statements in the policy of {repository}");
        note(
            place,
            &mut removed,
            &[arn.as_str()],
            &what,
            statements(place, repository).await,
        );
    }
    for leftover in &looked.leftovers {
        let arns: Vec<&str> = leftover.arns().collect();
        if arns.iter().all(|arn| ripe.contains(*arn)) {
            let what = arns.join(" and ");
            note(
                place,
                &mut removed,
                &arns,
                &what,
                identity(place, leftover).await,
            );
        }
    }
    removed
}

fn note(
    place: &ScanTarget<'_>,
    removed: &mut Removed,
    arns: &[&str],
    what: &str,
    outcome: Result<(), Problem>,
) {
    match outcome {
        Ok(()) => {
            tracing::info!(account = %place.id, "removed {what}, because no grant claims it");
            let account = OfAccount {
                account: place.id.to_string(),
            };
            let number = u64::try_from(arns.len()).unwrap_or_default();
            place
                .context
                .cloud
                .metrics
                .sweep_removed
                .get_or_create(&account)
                .inc_by(number);
            removed
                .arns
                .extend(arns.iter().map(|arn| (*arn).to_owned()));
        }
        Err(Problem { reason, message }) => {
            tracing::warn!(account = %place.id, %reason, "failed to remove {what}, which no grant claims: {message}");
            removed.failed.push(format!("{what}: {message}"));
        }
    }
}

/// Syncs the repository policy with the contributions of all grants (here, none), until a read-back
/// shows that.
async fn statements(place: &ScanTarget<'_>, repository: &RepositoryKey) -> Result<(), Problem> {
    // The sync has its own permits. Without one, nothing need be read.
    place.context.runtime.leadership.write_permit().map(drop)?;
    if place
        .claimed()
        .has_repository(&repository.region, &repository.name)
    {
        return Err(claimed_by_now());
    }
    place.context.cluster.lost.remove_from(repository);
    match revoke(place.context, place.session, repository).await? {
        SyncOutcome::UpToDate(standings) => standings.unrevoked.map_or(Ok(()), Err),
        SyncOutcome::NoRepository => Ok(()),
    }
}

async fn identity(place: &ScanTarget<'_>, found: &Leftover) -> Result<(), Problem> {
    let Leftover {
        owner,
        role,
        profile,
        profiles_known,
    } = found;
    let mut again = Leftover {
        owner: owner.clone(),
        role: None,
        profile: None,
        profiles_known: *profiles_known,
    };
    if let Some((name, _)) = role {
        again.role = place
            .session
            .role(name)
            .await?
            .map(|role| (name.clone(), role));
    }
    if let Some((name, _)) = profile {
        again.profile = place
            .session
            .instance_profile(name)
            .await?
            .map(|profile| (name.clone(), profile));
    }
    if place.claimed().has(found) {
        return Err(claimed_by_now());
    }
    if again
        .role
        .as_ref()
        .is_some_and(|(_, role)| role.path != place.path())
    {
        return Err(Problem::new(
            Reason::Conflict,
            "it was recreated under another path",
        ));
    }
    let steps = again
        .removal()
        .map_err(|why| Problem::new(Reason::StillInUse, why))?;
    for step in steps {
        let permit = place.context.runtime.leadership.write_permit()?;
        let words = step.to_string();
        place.session.apply(step, permit).await?;
        tracing::info!(account = %place.id, grant = %owner.grant, "{words}");
    }
    Ok(())
}

fn claimed_by_now() -> Problem {
    Problem::new(Reason::Settling, "a grant may claim it now")
}
