//! The sweep: the claimed places, and the reasons not to remove the rest.

use super::resources::{CONSUMER, Cluster, REGISTRY, grant, installation, owner, strings};
use crate::api::grant::{Applied, CrossAccountRegistryGrant, CrossAccountRegistryGrantStatus};
use crate::api::sweep::SweepMode;
use crate::grant::ownership::{Owner, TAG_GRANT, TAG_GRANT_UID, TAG_INSTALLATION};
use crate::grant::sweep::{
    Brake, Circumstances, Claimed, Finding, KnownGrants, Seen, Sightings, SweepDecision, status,
    too_many_at_once, verdict,
};
use crate::grant::{GrantName, Problem};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeSet;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

// ---- Claims

/// Returns a grant that was applied as it is.
fn settled(
    change: impl FnOnce(&mut CrossAccountRegistryGrant),
) -> (CrossAccountRegistryGrant, Option<Applied>) {
    let mut resource = grant(|_| {});
    let claims = Cluster::of_the_article().admitted(&resource).claims();
    resource.metadata.generation = Some(1);
    let status = CrossAccountRegistryGrantStatus {
        observed_generation: Some(1),
        ..Default::default()
    };
    resource.status = Some(status);
    change(&mut resource);
    (resource, Some(claims))
}

fn claimed(
    account: &str,
    grants: &[(CrossAccountRegistryGrant, Option<Applied>)],
    unknown: &[GrantName],
) -> Claimed {
    let grants = grants
        .iter()
        .map(|(grant, claims)| (grant, claims.clone()))
        .collect();
    let unknown = unknown.iter().cloned().collect();
    Claimed::of(
        &account.parse().unwrap(),
        &installation(),
        &KnownGrants {
            grants,
            unknown: &unknown,
        },
    )
}

#[test]
fn recorded_and_named_places_are_claimed_in_own_accounts_only() {
    let (mut resource, claims) = settled(|_| {});
    resource.spec.registry.role.as_mut().unwrap().name = Some("renamed".into());
    let grants = [(resource, claims)];
    let (registry, consumer) = (
        claimed(REGISTRY, &grants, &[]),
        claimed(CONSUMER, &grants, &[]),
    );
    // Names are unique without regard to case.
    for role in [
        "ECS-AssumeRole-MIQDevOps",
        "ecs-assumerole-miqdevops",
        "renamed",
    ] {
        assert!(
            registry.has_role(role) && !consumer.has_role(role),
            "{role}"
        );
    }
    assert!(consumer.has_role("miq-instance") && consumer.has_profile("miq-instance"));
    assert!(
        !registry.has_role("miq-instance")
            && !registry.has_instance_roles()
            && consumer.has_instance_roles()
    );
    assert!(registry.has_repository("us-east-1", "miqp-devops"));
    assert!(
        !registry.has_repository("eu-west-1", "miqp-devops")
            && !registry.has_repository("us-east-1", "other")
    );
    assert_eq!(
        registry.regions(),
        &BTreeSet::from(["us-east-1".to_owned()])
    );
    assert_eq!(consumer.regions(), &BTreeSet::new());
}

#[test]
fn role_of_default_name_is_claimed_without_a_record() {
    let resource = grant(|spec| spec.registry.role = None);
    let name = owner().grant.in_aws(&installation(), 64);
    assert!(claimed(REGISTRY, &[(resource, None)], &[]).has_role(&name));
}

#[test]
fn requested_repositories_are_claimed_until_settled() {
    let asks = |resource: &mut CrossAccountRegistryGrant| {
        resource.spec.registry.repositories = strings(["more/*"])
    };
    let is_claimed =
        |grant| claimed(REGISTRY, &[grant], &[]).has_repository("us-east-1", "more/web");
    assert!(!is_claimed(settled(asks)), "the record decides");
    let changed = settled(|resource| {
        asks(resource);
        resource.metadata.generation = Some(2);
    });
    assert!(is_claimed(changed));
    let (resource, _) = settled(asks);
    assert!(is_claimed((resource, None)));
}

#[test]
fn resource_without_valid_owner_tags_is_not_ours() {
    let nobody = claimed(REGISTRY, &[], &[]);
    let tags = owner().tags();
    assert_eq!(nobody.former_owner(&tags, &installation()), Some(owner()));
    let with = |key: &str, value: Option<&str>| {
        let mut tags = tags.clone();
        tags.remove(key);
        tags.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        nobody.former_owner(&tags, &installation())
    };
    assert_eq!(with(TAG_INSTALLATION, Some("ffffffffffff")), None);
    assert_eq!(with(TAG_INSTALLATION, None), None);
    assert_eq!(with(TAG_GRANT, None), None);
    assert_eq!(with(TAG_GRANT, Some("no-slash")), None);
    assert_eq!(
        with(TAG_GRANT, Some(&format!("a/{}", "é".repeat(60)))),
        None,
        "Kubernetes has no such names"
    );
}

proptest! {
    /// Anyone who may tag roles under the operator's path can write any value.
    #[test]
    fn arbitrary_tags_never_panic(grant in any::<String>(), name in "\\PC{0,80}", uid in any::<String>()) {
        for grant in [grant, format!("a/{name}"), format!("{name}/b")] {
            let mut tags = owner().tags();
            tags.insert(TAG_GRANT.into(), grant);
            tags.insert(TAG_GRANT_UID.into(), uid.clone());
            if let Some(owner) = claimed(REGISTRY, &[], &[]).former_owner(&tags, &installation()) {
                prop_assert!(owner.policy_name().len() <= 128 && owner.owns(&tags));
            }
        }
    }
}

#[test]
fn resources_of_an_unsettled_grant_are_no_orphans() {
    let found = |grants: &[_], unknown: &[_]| {
        claimed(REGISTRY, grants, unknown)
            .former_owner(&owner().tags(), &installation())
            .is_some()
    };
    assert!(
        found(&[settled(|_| {})], &[]),
        "it has its claims on record, and this is none of them"
    );
    let changed = settled(|resource| resource.metadata.generation = Some(2));
    let deleting = settled(|resource| {
        resource.metadata.deletion_timestamp = Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH));
    });
    let (new, _) = settled(|resource| resource.status = None);
    for unsettled in [
        changed,
        deleting,
        (new.clone(), None),
        (settled(|_| {}).0, None),
    ] {
        assert!(
            !found(std::slice::from_ref(&unsettled), &[]),
            "{unsettled:#?}"
        );
    }
    assert!(
        !found(&[], &[owner().grant]),
        "the cluster has it, and the operator cannot read it"
    );
}

// ---- Reasons not to remove

fn seen(found: usize, claimed: usize) -> Seen {
    let finding = |number| Finding {
        arn: format!("arn:{number:03}"),
        owner: Some(owner()),
        kept: None,
    };
    Seen {
        findings: (0..found).map(finding).collect(),
        claimed,
        identities_complete: true,
        ..Seen::default()
    }
}

/// Returns circumstances that allow the removal of everything that was there for an hour.
fn free() -> Circumstances<'static> {
    Circumstances {
        mode: SweepMode::Remove,
        grants: 1,
        unknown_grants: 0,
        confirmed: None,
        unclaimed_for: HOUR,
        now: HOUR * 2,
    }
}

/// Returns the verdict on findings that were also there an hour ago.
fn judged(seen: &Seen, circumstances: &Circumstances<'_>) -> SweepDecision {
    let mut sightings = Sightings::default();
    sightings.note(seen, circumstances.now - HOUR);
    sightings.note(seen, circumstances.now);
    verdict(seen, &sightings, circumstances)
}

fn all_of(seen: &Seen) -> SweepDecision {
    SweepDecision::Remove {
        now: seen
            .findings
            .iter()
            .map(|finding| finding.arn.clone())
            .collect(),
        later: None,
    }
}

#[rstest]
#[case::five_of_many(5, 45, true)]
#[case::six_of_however_many(6, 1000, false)]
#[case::a_tenth(1, 9, true)]
#[case::more_than_a_tenth(1, 8, false)]
#[case::all_that_there_is(1, 0, false)]
fn many_orphans_need_confirmation_and_few_do_not(
    #[case] found: usize,
    #[case] claimed: usize,
    #[case] removed: bool,
) {
    let seen = seen(found, claimed);
    let verdict = judged(&seen, &free());
    match removed {
        true => assert_eq!(verdict, all_of(&seen)),
        false => assert!(
            matches!(verdict, SweepDecision::Report(Brake::TooMuch { .. })),
            "{verdict:?}"
        ),
    }
}

#[test]
fn confirmed_orphans_are_removed() {
    let many = seen(12, 100);
    let SweepDecision::Report(Brake::TooMuch { confirm }) = judged(&many, &free()) else {
        panic!("not asked")
    };
    assert!(confirm.starts_with("12-"), "{confirm}");
    let with = |seen: &Seen, confirmed| {
        judged(
            seen,
            &Circumstances {
                confirmed: Some(confirmed),
                ..free()
            },
        )
    };
    assert_eq!(with(&many, &confirm), all_of(&many));
    for not_that in ["12", "12-", "", "11-00000000"] {
        assert!(
            matches!(
                with(&many, not_that),
                SweepDecision::Report(Brake::TooMuch { .. })
            ),
            "{not_that}"
        );
    }
    // As many other findings, the same finding of another grant, one finding less: the confirmation
    // covers none of these.
    let mut others = many.clone();
    others.findings[3].arn = "arn:another".into();
    let mut anothers = many.clone();
    let grant = GrantName {
        namespace: "team-c".into(),
        name: "x".into(),
    };
    anothers.findings[3].owner = Some(Owner { grant, ..owner() });
    let mut fewer = many.clone();
    fewer.findings.pop();
    for changed in [others, anothers, fewer] {
        assert!(matches!(
            with(&changed, &confirm),
            SweepDecision::Report(Brake::TooMuch { .. })
        ));
    }
}

#[test]
fn confirmation_covers_all_findings_together() {
    let all = seen(8, 0);
    let mut some = all.clone();
    some.findings.truncate(5);
    let mut sightings = Sightings::default();
    sightings.note(&some, HOUR);
    sightings.note(&all, HOUR * 2);
    let SweepDecision::Report(Brake::TooMuch { confirm }) = verdict(&all, &sightings, &free())
    else {
        panic!("not asked")
    };
    let confirmed = Circumstances {
        confirmed: Some(&confirm),
        ..free()
    };
    assert_eq!(
        verdict(&all, &sightings, &confirmed),
        SweepDecision::Remove {
            now: BTreeSet::new(),
            later: Some(HOUR)
        }
    );
}

#[rstest]
#[case(Circumstances { mode: SweepMode::Report, ..free() }, Brake::Mode)]
#[case(Circumstances { grants: 0, ..free() }, Brake::NoGrants)]
#[case(Circumstances { unknown_grants: 2, ..free() }, Brake::UnknownGrants(2))]
fn blocking_circumstances_remove_nothing(
    #[case] circumstances: Circumstances<'static>,
    #[case] brake: Brake,
) {
    let seen = seen(1, 100);
    assert_eq!(
        judged(&seen, &circumstances),
        SweepDecision::Report(brake.clone())
    );
    // A confirmation lifts only the limit on the number.
    let many = self::seen(12, 0);
    let SweepDecision::Report(Brake::TooMuch { confirm }) = judged(&many, &free()) else {
        panic!("not asked")
    };
    assert_eq!(
        judged(
            &many,
            &Circumstances {
                confirmed: Some(&confirm),
                ..circumstances
            }
        ),
        SweepDecision::Report(brake)
    );
}

#[test]
fn incomplete_scan_removes_nothing() {
    let seen = Seen {
        identities_complete: false,
        ..seen(1, 100)
    };
    assert_eq!(
        judged(&seen, &free()),
        SweepDecision::Report(Brake::Incomplete)
    );
}

#[test]
fn orphan_is_removed_only_after_an_hour_in_every_scan() {
    let (both, mut first) = (seen(2, 100), seen(2, 100));
    first.findings.truncate(1);
    let name = |seen: &Seen, at: usize| seen.findings[at].arn.clone();
    let mut sightings = Sightings::default();
    let minute = Duration::from_secs(60);
    let at = |now| Circumstances { now, ..free() };
    sightings.note(&first, Duration::ZERO);
    assert_eq!(
        verdict(&first, &sightings, &at(Duration::ZERO)),
        SweepDecision::Remove {
            now: BTreeSet::new(),
            later: Some(HOUR)
        },
        "seen once"
    );
    sightings.note(&both, minute * 40);
    sightings.note(&both, HOUR);
    let later = Some(minute * 40);
    assert_eq!(
        verdict(&both, &sightings, &at(HOUR)),
        SweepDecision::Remove {
            now: [name(&both, 0)].into(),
            later
        },
        "each by itself"
    );
    // It was claimed in between.
    sightings.note(&seen(0, 102), HOUR + minute);
    sightings.note(&both, HOUR + minute * 2);
    let verdict = verdict(&both, &sightings, &at(HOUR + minute * 2));
    assert_eq!(
        verdict,
        SweepDecision::Remove {
            now: BTreeSet::new(),
            later: Some(HOUR)
        }
    );
}

#[test]
fn findings_with_other_users_do_not_count_and_stay() {
    let mut some = seen(7, 100);
    for finding in &mut some.findings[2..] {
        finding.kept = Some("used".into());
    }
    let two: BTreeSet<String> = some
        .removable()
        .map(|finding| finding.arn.clone())
        .collect();
    assert_eq!(
        judged(&some, &free()),
        SweepDecision::Remove {
            now: two,
            later: None
        }
    );
    some.findings.drain(..2);
    assert_eq!(judged(&some, &free()), SweepDecision::Nothing);
}

proptest! {
    /// Whatever the circumstances, no finding that is kept or recent is removed, and with a brake
    /// nothing at all.
    #[test]
    fn kept_findings_are_never_removed(
        kept in proptest::collection::vec(any::<bool>(), 0..12),
        claimed in 0_usize..200,
        grants in 0_usize..3,
        unknown_grants in 0_usize..2,
        minutes in 0_u64..120,
        complete in any::<bool>(),
        report in any::<bool>(),
    ) {
        let mut looked = seen(kept.len(), claimed);
        looked.identities_complete = complete;
        for (finding, kept) in looked.findings.iter_mut().zip(&kept) {
            finding.kept = kept.then(|| "used".into());
        }
        let mut sightings = Sightings::default();
        sightings.note(&looked, HOUR);
        let now = HOUR + Duration::from_secs(60 * minutes);
        sightings.note(&looked, now);
        let mode = if report { SweepMode::Report } else { SweepMode::Remove };
        let circumstances = Circumstances { mode, grants, unknown_grants, now, ..free() };
        if let SweepDecision::Remove { now, .. } = verdict(&looked, &sightings, &circumstances) {
            prop_assert!(!report && complete && grants > 0 && unknown_grants == 0);
            prop_assert!(now.is_empty() || minutes >= 60);
            prop_assert!(now.len() <= 5 && now.len() * 10 <= now.len() + claimed);
            prop_assert!(looked.findings.iter().all(|finding| finding.kept.is_none() || !now.contains(&finding.arn)));
        }
    }
}

// ---- Status

#[test]
fn status_lists_the_first_fifty_findings_with_a_remedy() {
    let mut many = seen(60, 5);
    many.findings[0].kept = Some("used".into());
    many.regions = strings(["eu-west-1", "us-east-1"]).into_iter().collect();
    many.problems = (0..20)
        .map(|number| {
            Problem::new(
                crate::api::conditions::Reason::AccessDenied,
                format!("problem {number:02}"),
            )
        })
        .collect();
    let verdict = judged(&many, &free());
    let reported = status(
        &REGISTRY.parse().unwrap(),
        SweepMode::Remove,
        &many,
        &verdict,
        &["failed".into()],
    );
    assert_eq!(
        (
            reported.found,
            reported.kept,
            reported.items.len(),
            reported.problems.len()
        ),
        (60, 1, 50, 10)
    );
    let confirm = reported.confirm.clone().unwrap();
    let command = format!(
        "kubectl annotate --overwrite awsaccount {REGISTRY} registrygrants.dev/confirm-sweep={confirm}"
    );
    assert!(
        confirm.starts_with("59-") && reported.message.ends_with(&command),
        "{}",
        reported.message
    );
    assert_eq!(
        reported,
        status(
            &REGISTRY.parse().unwrap(),
            SweepMode::Remove,
            &many,
            &verdict,
            &["failed".into()]
        )
    );
}

#[test]
fn many_vanished_grants_suggest_a_lost_cluster() {
    for (vanished, left, lost) in [
        (0, 0, false),
        (1, 0, false),
        (1, 1000, false),
        (2, 100, false),
        (5, 45, false),
    ] {
        assert_eq!(
            too_many_at_once(vanished, left),
            lost,
            "{vanished} of {left} more"
        );
    }
    for (vanished, left) in [(2, 0), (2, 17), (5, 44), (6, 1000)] {
        assert!(
            too_many_at_once(vanished, left),
            "{vanished} of {left} more"
        );
    }
}
