//! Claims: the places where a grant may have left something in AWS. Before a write they only grow.

use super::resources::{CONSUMER, Cluster, grant, registry_rule, strings};
use crate::api::conditions::Reason;
use crate::api::grant::{
    AccessPath, Applied, AppliedInstanceRole, AppliedRepositories,
    CrossAccountRegistryGrantSpec as Spec,
};
use crate::grant::Problem;
use crate::grant::claims::{ClaimsAfter, Place, Unrevoked, claims_after};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn claims(change: impl FnOnce(&mut Spec)) -> Applied {
    let everything = registry_rule(|rule| rule.repositories = strings(["*"]));
    Cluster::of_the_article()
        .registry_rules([everything])
        .admitted(&grant(change))
        .claims()
}

#[test]
fn grant_claims_every_place_that_it_touches() {
    insta::assert_json_snapshot!(claims(|_| {}), @r#"
    {
      "spec": {
        "access": "PullPush",
        "consumer": {
          "accountID": "222222222222",
          "instanceRole": {
            "management": "Create",
            "name": "miq-instance"
          },
          "wholeAccount": true
        },
        "deletionPolicy": "Delete",
        "mode": "Enforce",
        "paths": [
          "Direct",
          "AssumeRole"
        ],
        "registry": {
          "accountID": "111111111111",
          "regions": [
            "us-east-1"
          ],
          "repositories": [
            "miqp-devops"
          ],
          "role": {
            "adopt": false,
            "managedPolicies": [
              "AmazonEC2ContainerRegistryPowerUser"
            ],
            "maxSessionSeconds": 3600,
            "name": "ECS-AssumeRole-MIQDevOps",
            "nameInRepositoryPolicy": true
          }
        },
        "suspend": false
      },
      "repositories": [
        {
          "region": "us-east-1",
          "patterns": [
            "miqp-devops"
          ]
        }
      ],
      "registryRoles": [
        "ECS-AssumeRole-MIQDevOps"
      ],
      "instanceRoles": [
        {
          "role": "miq-instance",
          "path": "/registry-grants/",
          "instanceProfile": "miq-instance"
        }
      ]
    }
    "#);
}

#[test]
fn untouched_places_are_not_claimed() {
    let direct = claims(|spec| {
        spec.paths = vec![AccessPath::Direct];
        spec.consumer.instance_role = None;
    });
    assert!(direct.registry_roles.is_empty() && direct.instance_roles.is_empty());
    let by_role = claims(|spec| {
        spec.paths = vec![AccessPath::AssumeRole];
        spec.registry.role = None;
    });
    assert!(by_role.repositories.is_empty());
    let unmanaged = Cluster::of_the_article()
        .without(CONSUMER)
        .admitted(&grant(|_| {}))
        .claims();
    assert!(unmanaged.instance_roles.is_empty());
}

#[test]
fn claims_cover_only_repositories_in_their_regions() {
    let claims = claims(|spec| {
        spec.registry.regions = strings(["eu-central-1", "us-east-1"]);
        spec.registry.repositories = strings(["web", "team-b/*"]);
    });
    for (region, repository, covered) in [
        ("us-east-1", "web", true),
        ("eu-central-1", "team-b/x/y", true),
        ("us-east-1", "web2", false),
        ("us-east-1", "team-b", false),
        ("us-west-2", "web", false),
    ] {
        assert_eq!(
            claims.covers(region, repository),
            covered,
            "{repository} in {region}"
        );
    }
}

#[test]
fn places_dropped_from_the_spec_stay_claimed_until_revoked() {
    let before = claims(|spec| spec.registry.repositories = strings(["old", "team-b/*"]));
    let after = claims(|spec| {
        spec.registry.repositories = strings(["new"]);
        spec.registry.regions = strings(["us-west-2"]);
        spec.paths = vec![AccessPath::Direct];
    });
    let grown = before.grown_by(&after);
    assert!(grown.covers("us-east-1", "old") && grown.covers("us-east-1", "team-b/web"));
    assert!(grown.covers("us-west-2", "new") && !grown.covers("us-west-2", "old"));
    assert_eq!(grown.registry_roles, ["ECS-AssumeRole-MIQDevOps"]);
}

#[test]
fn growing_by_present_claims_changes_nothing() {
    let claims = claims(|spec| spec.registry.repositories = strings(["web", "team-b/*"]));
    assert_eq!(claims.grown_by(&claims), claims);
}

#[test]
fn claims_contain_the_spec_that_they_come_from() {
    let resource = grant(|spec| spec.registry.repositories = strings(["miqp-devops"]));
    assert_eq!(
        Cluster::of_the_article()
            .admitted(&resource)
            .claims()
            .last_spec(),
        Some(resource.spec)
    );
}

prop_compose! {
    fn some_claims()(
        regions in prop::collection::btree_map("[a-c]", prop::collection::btree_set("[x-z]{2}\\*?", 1..4), 0..3),
        roles in prop::collection::btree_set("[r-t]", 0..3),
        instances in prop::collection::btree_set("[i-k]{2}", 0..2),
        access in "(Pull|PullPush)",
    ) -> Applied {
        let repositories = regions.into_iter().map(|(region, patterns)| AppliedRepositories {
            region,
            patterns: patterns.into_iter().collect(),
        });
        Applied {
            spec: serde_json::json!({ "access": access }),
            repositories: repositories.collect(),
            registry_roles: roles.into_iter().collect(),
            instance_roles: instances
                .into_iter()
                .map(|name| AppliedInstanceRole { role: name[..1].into(), path: "/registry-grants/".into(), instance_profile: name[1..].into() })
                .collect(),
        }
    }
}

type Places = (
    BTreeMap<String, BTreeSet<String>>,
    BTreeSet<String>,
    BTreeSet<(String, String)>,
);

/// Returns the places of the claims, regardless of their order.
fn places(claims: &Applied) -> Places {
    let mut repositories: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for of_region in &claims.repositories {
        repositories
            .entry(of_region.region.clone())
            .or_default()
            .extend(of_region.patterns.iter().cloned());
    }
    let instances = claims
        .instance_roles
        .iter()
        .map(|i| (i.role.clone(), i.instance_profile.clone()));
    (
        repositories,
        claims.registry_roles.iter().cloned().collect(),
        instances.collect(),
    )
}

/// One problem that waiting may solve is enough for a claim to stay despite the annotation
/// `registrygrants.dev/abandon`.
#[test]
fn prefix_is_given_up_only_if_waiting_helps_no_part_of_it() {
    let before = on(&[(LOST, &["team/*"])]);
    let found = |name: &str, reason| {
        (
            LOST.to_owned(),
            format!("team/{name}"),
            Some(Problem::new(reason, "")),
        )
    };
    let shut = (LOST.to_owned(), failed().unwrap());
    let (denied, slow) = (Reason::AccessDenied, Reason::Throttled);
    let is_lost = |found: &[_], unlisted: &[_]| {
        let kept = before.repositories_to_keep(&Applied::none(), found, unlisted);
        let [unrevoked] = kept.as_slice() else {
            panic!("{kept:?}")
        };
        unrevoked.is_given_up(true)
    };
    assert!(is_lost(&[found("a", denied), found("b", denied)], &[]));
    assert!(!is_lost(&[found("a", denied), found("b", slow)], &[]));
    assert!(!is_lost(&[found("a", slow), found("b", denied)], &[]));
    assert!(!is_lost(&[found("a", slow)], std::slice::from_ref(&shut)));
    assert!(is_lost(&[], &[shut]));
}

proptest! {
    #[test]
    fn growing_gives_exactly_the_union_of_claims(before in some_claims(), new in some_claims()) {
        let (mut repositories, mut roles, mut instances) = places(&before);
        let (new_repositories, new_roles, new_instances) = places(&new);
        for (region, patterns) in new_repositories {
            repositories.entry(region).or_default().extend(patterns);
        }
        roles.extend(new_roles);
        instances.extend(new_instances);
        let grown = before.grown_by(&new);
        prop_assert_eq!(&grown.spec, &new.spec);
        prop_assert_eq!(places(&grown), (repositories, roles, instances));
    }

    #[test]
    fn growing_twice_equals_growing_once(before in some_claims(), new in some_claims()) {
        let grown = before.grown_by(&new);
        prop_assert_eq!(grown.grown_by(&new), grown);
    }

    #[test]
    fn growing_keeps_repositories_covered(
        before in some_claims(),
        new in some_claims(),
        region in "[a-c]",
        repository in "[x-z]{2,3}",
    ) {
        let covered = before.covers(&region, &repository) || new.covers(&region, &repository);
        prop_assert_eq!(before.grown_by(&new).covers(&region, &repository), covered);
    }

    /// The API server treats each list as a set or a map by key: it refuses duplicates.
    #[test]
    fn grown_claims_have_no_duplicates(before in some_claims(), new in some_claims()) {
        let grown = before.grown_by(&new);
        let all_differ = |texts: Vec<&String>| texts.len() == texts.iter().collect::<BTreeSet<_>>().len();
        prop_assert!(all_differ(grown.repositories.iter().map(|r| &r.region).collect()));
        prop_assert!(grown.repositories.iter().all(|r| all_differ(r.patterns.iter().collect())));
        prop_assert!(all_differ(grown.registry_roles.iter().collect()));
        prop_assert!(grown.instance_roles.iter().collect::<BTreeSet<_>>().len() == grown.instance_roles.len());
    }
}

#[test]
fn vanished_grants_claims_exclude_its_successors_roles() {
    let vanished = Cluster::of_the_article().admitted(&grant(|_| {})).claims();
    let successor = vanished.clone();
    let left = vanished.without_roles_of(&successor);
    assert!(left.registry_roles.is_empty() && left.instance_roles.is_empty());
    assert_eq!(
        left.repositories, vanished.repositories,
        "their policies are made of what all grants want"
    );
    let without_roles = Applied {
        registry_roles: Vec::new(),
        instance_roles: Vec::new(),
        ..vanished.clone()
    };
    assert_eq!(vanished.without_roles_of(&without_roles), vanished);
}

/// Returns claims on these repositories alone.
fn on(repositories: &[(&str, &[&str])]) -> Applied {
    let repositories = repositories
        .iter()
        .map(|(region, patterns)| AppliedRepositories {
            region: (*region).to_owned(),
            patterns: patterns.iter().map(ToString::to_string).collect(),
        });
    Applied {
        repositories: repositories.collect(),
        ..Applied::none()
    }
}

fn failed() -> Option<Problem> {
    Some(Problem::new(Reason::AccessDenied, "denied"))
}

/// Returns as text the claims of `before` that stay in addition to those of `wanted`.
fn kept(
    before: &Applied,
    wanted: &Applied,
    found: &[(&str, &str, bool)],
    unlisted: &[&str],
) -> Vec<String> {
    let found: Vec<_> = found
        .iter()
        .map(|(region, name, done)| {
            (
                (*region).to_owned(),
                (*name).to_owned(),
                if *done { None } else { failed() },
            )
        })
        .collect();
    let unlisted: Vec<_> = unlisted
        .iter()
        .map(|region| ((*region).to_owned(), failed().unwrap()))
        .collect();
    before
        .repositories_to_keep(wanted, &found, &unlisted)
        .into_iter()
        .map(|unrevoked| unrevoked.place.to_string())
        .collect()
}

const LOST: &str = "eu-west-3";
const GOOD: &str = "us-east-1";

#[test]
fn claim_is_dropped_only_after_its_revocation() {
    let before = on(&[(GOOD, &["app", "old"]), (LOST, &["app", "team/*"])]);
    let nothing = Applied::none();
    let all = [
        (GOOD, "app", true),
        (GOOD, "old", true),
        (LOST, "app", true),
        (LOST, "team/web", true),
    ];
    assert_eq!(kept(&before, &nothing, &all, &[]), [""; 0]);
    let lost = [
        (GOOD, "app", true),
        (GOOD, "old", false),
        (LOST, "app", false),
    ];
    let left = kept(&before, &nothing, &lost, &[LOST]);
    assert_eq!(
        left,
        [
            "access in the policies of old in us-east-1",
            "access in the policies of app in eu-west-3",
            "access in the policies of team/* in eu-west-3",
        ]
    );
}

#[test]
fn wanted_claims_are_not_among_those_to_keep() {
    let before = on(&[(GOOD, &["app", "old"])]);
    let wanted = on(&[(GOOD, &["app"])]);
    assert_eq!(
        kept(
            &before,
            &wanted,
            &[(GOOD, "app", false), (GOOD, "old", true)],
            &[]
        ),
        [""; 0]
    );
}

#[test]
fn repository_under_another_claim_keeps_no_second_claim() {
    let before = on(&[(GOOD, &["team/*", "team/web"])]);
    let wanted = on(&[(GOOD, &["team/web"])]);
    let found = [(GOOD, "team/web", false), (GOOD, "team/api", true)];
    assert_eq!(kept(&before, &wanted, &found, &[]), [""; 0]);
    let found = [(GOOD, "team/web", true), (GOOD, "team/api", false)];
    assert_eq!(kept(&before, &wanted, &found, &[]).len(), 1);
}

/// Its access should stay, and no other claim would record that.
#[test]
fn repository_without_a_recorded_new_claim_keeps_the_old_one() {
    let before = on(&[(GOOD, &["team"])]);
    let wanted = on(&[(GOOD, &["team*"])]);
    assert_eq!(
        kept(&before, &wanted, &[(GOOD, "team", true)], &[]),
        ["access in the policies of team in us-east-1"]
    );
}

#[test]
fn part_of_a_claimed_place_is_claimed() {
    let claims = on(&[(GOOD, &["team/*", "app"])]);
    let is_claimed = |region: &str, pattern: &str| {
        claims.claims(&Place::Repositories {
            region: region.to_owned(),
            pattern: pattern.parse().unwrap(),
        })
    };
    assert!(is_claimed(GOOD, "app") && is_claimed(GOOD, "team/web") && is_claimed(GOOD, "team/b*"));
    assert!(!is_claimed(LOST, "app") && !is_claimed(GOOD, "apps") && !is_claimed(GOOD, "te*"));
    assert!(!claims.claims(&Place::RegistryRole("app".into())));
}

#[test]
fn place_is_given_up_only_if_waiting_does_not_help() {
    let repositories = Place::Repositories {
        region: LOST.into(),
        pattern: "app".parse().unwrap(),
    };
    let instance = Place::InstanceRole(AppliedInstanceRole {
        role: "node".into(),
        path: "/".into(),
        instance_profile: String::new(),
    });
    let lost = |place: &Place, reason| place.is_lost_to(&Problem::new(reason, ""));
    for reason in [
        Reason::AccessDenied,
        Reason::AccountNotFound,
        Reason::CredentialsUnavailable,
        Reason::RegionNotEnabled,
        Reason::RegionNotFound,
    ] {
        assert!(
            lost(&repositories, reason) && lost(&instance, reason),
            "{reason}"
        );
    }
    for reason in [
        Reason::Throttled,
        Reason::Unavailable,
        Reason::HostNotResolved,
        Reason::Settling,
        Reason::ContestedPolicy,
        Reason::SecondWriter,
        Reason::StillInUse,
        Reason::UnreadablePolicy,
    ] {
        assert!(
            !lost(&repositories, reason) && !lost(&instance, reason),
            "{reason}"
        );
    }
    // In a repository policy the access itself would stay.
    assert!(lost(&instance, Reason::BlockedPolicy) && !lost(&repositories, Reason::BlockedPolicy));
}

proptest! {
    #[test]
    fn claims_equal_the_claims_on_their_places(claims in some_claims()) {
        prop_assert_eq!(places(&claims.only(|_| true)), places(&claims));
        prop_assert!(claims.only(|_| false).is_empty());
        for place in claims.places() {
            prop_assert!(claims.claims(&place));
            let without = claims.only(|other| *other != place);
            prop_assert_eq!(without.places().count() + 1, claims.places().count());
        }
    }

    /// Regardless of other places, a claim stays if its place could not be revoked, and goes if it
    /// was.
    #[test]
    fn each_place_is_kept_or_dropped_by_its_own_problem(
        before in some_claims(),
        done in prop::collection::btree_map(("[a-c]", "[x-z]{2,3}"), any::<bool>(), 0..12),
    ) {
        let found: Vec<(String, String, Option<Problem>)> = done
            .into_iter()
            .map(|((region, name), done)| (region, name, if done { None } else { failed() }))
            .collect();
        let kept = before.repositories_to_keep(&Applied::none(), &found, &[]);
        for place in before.places() {
            let Place::Repositories { region, pattern } = &place else { continue };
            let failed = found.iter().any(|(of, name, why)| of == region && pattern.matches(name) && why.is_some());
            prop_assert_eq!(kept.iter().any(|kept| kept.place == place), failed, "{}", place);
        }
    }
}

#[test]
fn claims_stay_for_wanted_and_unrevoked_places_only() {
    let before = on(&[(GOOD, &["app", "old"]), (LOST, &["app"])]);
    let places: Vec<Place> = before.places().collect();
    let [app, old, lost] = places.as_slice() else {
        panic!("{places:?}")
    };
    let after = |unrevoked: &[Unrevoked], abandons| {
        claims_after(
            &before,
            std::slice::from_ref(app),
            unrevoked.to_vec(),
            abandons,
        )
    };
    // Nothing else keeps a claim, for instance denied access.
    let only_wanted = ClaimsAfter {
        claims: Some(on(&[(GOOD, &["app"])])),
        given_up: BTreeMap::new(),
    };
    assert_eq!(after(&[], false), only_wanted);
    assert_eq!(after(&[], true), only_wanted);

    let shut = Unrevoked::because_of(lost.clone(), failed().unwrap());
    let slow = Unrevoked::because_of(old.clone(), Problem::new(Reason::Throttled, "slow"));
    let all = after(&[shut.clone(), slow.clone()], false);
    assert_eq!(all.claims.as_ref(), Some(&before));
    assert!(all.given_up.is_empty());

    let abandoned = after(&[shut, slow, Unrevoked::kept(app.clone())], true);
    assert_eq!(abandoned.claims, Some(on(&[(GOOD, &["app", "old"])])));
    assert_eq!(
        abandoned.given_up,
        BTreeMap::from([(lost.clone(), failed().unwrap())])
    );
}

#[test]
fn no_claims_are_left_once_all_is_revoked() {
    let before = on(&[(GOOD, &["app"])]);
    assert_eq!(claims_after(&before, &[], Vec::new(), false).claims, None);
}
