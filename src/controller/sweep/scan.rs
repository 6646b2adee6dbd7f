//! Reads everything in an account that belongs to this installation and that no grant claims.

use super::Context;
use super::claims::claimed_in;
use crate::api::AWSAccount;
use crate::aws::Account;
use crate::aws::ecr::PolicyRead;
use crate::aws::error::{AwsError, ErrorKind};
use crate::controller::state::repository::RepositoryKey;
use crate::grant::observed::{InstanceProfile, Role};
use crate::grant::ownership::Owner;
use crate::grant::sweep::{Claimed, Finding, Leftover, Seen, leftovers, no_rule_admits};
use crate::grant::{AccountId, GrantName};
use crate::policy::Document;
use crate::policy::arn::Arn;
use crate::policy::repository::current::own_contributions;
use std::collections::{BTreeMap, BTreeSet};

/// Account that is scanned, and the means to do so.
pub struct ScanTarget<'a> {
    pub context: &'a Context,
    pub id: &'a AccountId,
    pub account: &'a AWSAccount,
    pub session: &'a Account,
    pub unknown: &'a BTreeSet<GrantName>,
}

/// Results of a scan, and the details that a removal needs.
#[derive(Default)]
pub struct Looked {
    pub seen: Seen,
    pub leftovers: Vec<Leftover>,
    /// By ARN.
    pub repositories: BTreeMap<String, RepositoryKey>,
    /// The repositories in whose policies no rule admits any of our statements, by ARN.
    pub refused: BTreeSet<String>,
}

impl ScanTarget<'_> {
    /// Returns the grants' current claims here.
    pub fn claimed(&self) -> Claimed {
        claimed_in(&self.context.cluster, self.id, self.unknown)
    }

    /// Returns the path of the roles and instance profiles that the operator creates here.
    pub fn path(&self) -> &str {
        &self.account.spec.roles.path
    }
}

/// Scans the account: everything under its path in IAM, and the repositories of these regions.
pub async fn look(place: &ScanTarget<'_>, regions: &BTreeSet<String>) -> Looked {
    let (mut looked, claimed) = (Looked::default(), place.claimed());
    match identities(place, &claimed, &mut looked.seen.claimed).await {
        Ok(found) => {
            looked.seen.identities_complete = true;
            looked.leftovers = found;
        }
        Err(fault) => looked.seen.problems.push(fault.into()),
    }
    for region in regions {
        if let Err(fault) = repositories(place, &claimed, region, &mut looked).await {
            looked.seen.problems.push(fault.into());
        }
    }
    // Excludes what was made during the scan: its claim came first, and is recorded by now.
    let claimed = place.claimed();
    looked.leftovers.retain(|leftover| !claimed.has(leftover));
    looked
        .repositories
        .retain(|_, repository| !claimed.has_repository(&repository.region, &repository.name));
    let found = |arn: &String| Finding {
        arn: arn.clone(),
        owner: None,
        kept: None,
    };
    looked
        .seen
        .findings
        .extend(looked.repositories.keys().map(found));
    for leftover in &looked.leftovers {
        let kept = leftover.removal().err();
        let finding = |arn: &str| Finding {
            arn: arn.into(),
            owner: Some(leftover.owner.clone()),
            kept: kept.clone(),
        };
        looked.seen.findings.extend(leftover.arns().map(finding));
    }
    looked.seen.regions = regions.clone();
    looked
        .seen
        .findings
        .sort_by(|one, other| one.arn.cmp(&other.arn));
    looked
}

/// Returns the roles and instance profiles under the account's path that no grant claims. Claimed
/// ones are counted, and not read.
async fn identities(
    place: &ScanTarget<'_>,
    claimed: &Claimed,
    known: &mut usize,
) -> Result<Vec<Leftover>, AwsError> {
    let ScanTarget {
        context,
        account,
        session,
        ..
    } = place;
    let mut roles: Vec<(String, Role, Owner)> = Vec::new();
    for name in session.roles_under(place.path()).await? {
        if claimed.has_role(&name) {
            *known += 1;
            continue;
        }
        let Some(tags) = session.role_tags(&name).await? else {
            continue;
        };
        let Some(owner) = claimed.former_owner(&tags, &context.cluster.installation) else {
            continue;
        };
        let Some(role) = session.role(&name).await? else {
            continue;
        };
        roles.push((name, role, owner));
    }
    // The operator may read instance profiles only in consumer accounts.
    if account.spec.consumer.is_none() && !claimed.has_instance_roles() {
        return Ok(leftovers(roles, None));
    }
    let mut profiles: Vec<(String, InstanceProfile, Owner)> = Vec::new();
    for name in session.instance_profiles_under(place.path()).await? {
        if claimed.has_profile(&name) {
            *known += 1;
            continue;
        }
        let Some(profile) = session.instance_profile_with_tags_as_given(&name).await? else {
            continue;
        };
        if let Some(owner) = claimed.former_owner(&profile.tags, &context.cluster.installation) {
            profiles.push((name, profile, owner));
        }
    }
    Ok(leftovers(roles, Some(profiles)))
}

/// Finds the repositories of a region whose policies contain statements of ours, though no grant
/// claims them. Policies of claimed repositories are synced anyway, and not read here.
async fn repositories(
    place: &ScanTarget<'_>,
    claimed: &Claimed,
    region: &str,
    looked: &mut Looked,
) -> Result<(), AwsError> {
    let ScanTarget {
        context,
        id,
        account,
        session,
        unknown: _,
    } = place;
    for name in session.repositories(region).await? {
        if claimed.has_repository(region, &name) {
            looked.seen.claimed += 1;
            continue;
        }
        let text = match session.repository_policy(region, &name).await {
            Ok(PolicyRead::Policy(text)) => text,
            Ok(PolicyRead::NoPolicy | PolicyRead::NoRepository) => continue,
            // The operator's permissions may be limited to some repositories.
            Err(fault) if fault.class == ErrorKind::Denied => {
                looked.seen.denied += 1;
                continue;
            }
            Err(fault) => return Err(fault),
        };
        // A policy that cannot be parsed completely is never written either.
        let Ok(policy) = Document::parse(&text) else {
            continue;
        };
        if policy
            .statements
            .iter()
            .any(|statement| context.cluster.installation.owns(statement))
        {
            let partition = account.spec.partition.name();
            let arn = Arn::repository(partition, region, id.as_str(), &name);
            let rules = account
                .spec
                .registry
                .as_ref()
                .map_or(&[][..], |side| &side.rules);
            if no_rule_admits(
                rules,
                id,
                &name,
                &own_contributions(&policy, &context.cluster.installation),
            ) {
                looked.refused.insert(arn.clone());
            }
            looked
                .repositories
                .insert(arn, RepositoryKey::new(id, region, name));
        }
    }
    Ok(())
}
