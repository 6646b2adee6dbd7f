//! Proves revocations in repository policies. This is the only place that decides when access is
//! revoked: when the document that was read back contains nothing that no live grant asks for,
//! never merely because a call succeeded.

use crate::api::conditions::Reason;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::controller::Context;
use crate::controller::repository_policy::contributions;
use crate::controller::repository_policy::membership;
use crate::controller::repository_policy::sync::bring_up_to_date;
use crate::controller::state::read_backs::Left;
use crate::controller::state::repository::{
    Freshness, RepositoryKey, Standings, SyncOutcome, SyncResult,
};
use crate::grant::Problem;
use crate::policy::Document;
use crate::policy::repository::keep::unasked;
use crate::policy::repository::scope::asked;
use crate::text::list_some;

/// How often the policy is written and read back at once, before the rest is left to the next
/// reconcile.
const ATTEMPTS: usize = 3;
/// How much of the remaining access a message lists.
const TOLD: usize = 3;

/// Revokes the access in a repository policy that no live grant asks for. The content decides. If a
/// call failed and the document contains no such access all the same, the revocation is complete.
/// If every call succeeded and the document still contains some, it is not, and `unrevoked` has the
/// reason.
///
/// # Errors
/// When the policy could not be written or read.
pub async fn revoke(
    context: &Context,
    account: &Account,
    repository: &RepositoryKey,
) -> SyncResult {
    let mut written = bring_up_to_date(context, account, repository, Freshness::Fresh).await;
    for attempt in 1..=ATTEMPTS {
        if written == Ok(SyncOutcome::NoRepository) {
            return written;
        }
        let read = async || left_in(context, account, repository).await;
        let left = match context.cloud.read_backs.share(repository, read).await {
            Ok(left) => left,
            Err(unread) => return Err(written.err().unwrap_or(unread)),
        };
        let mut standings = match (left.is_empty(), written) {
            (true, Ok(SyncOutcome::UpToDate(standings))) => {
                return Ok(SyncOutcome::UpToDate(Box::new(Standings {
                    unrevoked: None,
                    ..*standings
                })));
            }
            (true, Err(_)) => return Ok(SyncOutcome::UpToDate(Box::default())),
            (false, Ok(SyncOutcome::UpToDate(standings))) => standings,
            (false, Err(problem)) => return Err(problem),
            (_, Ok(SyncOutcome::NoRepository)) => return Ok(SyncOutcome::NoRepository),
        };
        // The sync has already found that it cannot be removed.
        if standings.unrevoked.is_some() || attempt == ATTEMPTS {
            let why = standings
                .unrevoked
                .take()
                .or_else(|| standings.contested.clone());
            standings.unrevoked = Some(why.unwrap_or_else(|| still_there(repository, &left)));
            return Ok(SyncOutcome::UpToDate(standings));
        }
        written = after(
            *standings,
            bring_up_to_date(context, account, repository, Freshness::VerifyWrite).await,
        );
    }
    written
}

/// Returns the outcome of another sync, with the unreported results of the sync before it.
fn after(before: Standings, outcome: SyncResult) -> SyncResult {
    let Ok(SyncOutcome::UpToDate(mut standings)) = outcome else {
        return outcome;
    };
    standings.notices.splice(0..0, before.notices);
    standings.put_back |= before.put_back;
    standings.changed = standings.changed.or(before.changed);
    Ok(SyncOutcome::UpToDate(standings))
}

/// Reads a repository policy, and returns the access in our statements beyond what recorded grants
/// ask for.
async fn left_in(context: &Context, account: &Account, repository: &RepositoryKey) -> Left {
    let _turn = context
        .cloud
        .turn_for_all(repository.account.as_str())
        .await;
    let text = match account
        .repository_policy(&repository.region, &repository.name)
        .await?
    {
        PolicyRead::NoRepository | PolicyRead::NoPolicy => return Ok(Vec::new()),
        PolicyRead::Policy(text) => text,
    };
    let document =
        Document::parse(&text).map_err(|error| membership::unreadable(repository, &error))?;
    // Collected after the read, so that a grant that arrived meanwhile counts.
    let mut grants = contributions::on_record(&context.cluster, repository)?;
    grants.extend(contributions::of_unknown(
        &context.cluster,
        &context.cloud,
        repository,
        Some(&text),
    ));
    let grants = asked(Some(&document), &grants, &context.cluster.installation);
    Ok(unasked(
        Some(&document),
        &grants,
        &context.cluster.installation,
    ))
}

fn still_there(repository: &RepositoryKey, left: &[String]) -> Problem {
    let some = list_some(left, TOLD, "; ", |more| format!(", and {more} more"));
    Problem::new(
        Reason::Settling,
        format!(
            "the policy of {repository} was written and read back, and still allows access that no grant asks for: {some}. The operator will write it again; if this persists, find who calls ecr:SetRepositoryPolicy there in CloudTrail"
        ),
    )
}
