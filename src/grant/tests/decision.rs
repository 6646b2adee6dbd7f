//! Decisions: the grant in force while the spec is wrong, and the access that a narrowed rule
//! revokes.

use super::resources::{
    CONSUMER, Cluster, REGISTRY, consumer_rule, grant, grant_with_plain_role, installation,
    name_of, namespaces, registry_rule, strings,
};
use crate::api::account::Partition;
use crate::api::conditions::Reason;
use crate::api::grant::{
    Access, Applied, CrossAccountRegistryGrant, DeletionPolicy, ManagedPolicy, Mode,
};
use crate::grant::{Decision, meant};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rstest::rstest;
use serde_json::{Value, json};

/// Returns the record of a grant that was applied while it was admitted.
fn applied(resource: &CrossAccountRegistryGrant) -> Applied {
    Cluster::of_the_article().admitted(resource).claims()
}

/// Returns the article's grant with a mistake that admission cannot see.
fn mistaken() -> CrossAccountRegistryGrant {
    grant(|spec| spec.registry.regions = strings(["us-east-1", "cn-north-1"]))
}

fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Enforce { problems, .. } if problems.is_empty() => "Admitted",
        Decision::Enforce { .. } => "Kept",
        Decision::Preview { .. } | Decision::Suspend { .. } => "Suspended",
        Decision::Revoke(_) => "NotAdmitted",
        Decision::Retain(_) => "Retained",
        Decision::Leave(_) => "Unknown",
    }
}

#[test]
fn admitted_grant_is_enforced_whatever_was_applied() {
    let before = applied(&grant(|_| {}));
    for applied in [None, Some(&before)] {
        assert_eq!(
            name(&Cluster::of_the_article().decide(&grant(|_| {}), applied)),
            "Admitted"
        );
    }
}

#[test]
fn invalid_spec_keeps_the_last_grant_and_reports_why() {
    let before = applied(&grant(|_| {}));
    match Cluster::of_the_article().decide(&mistaken(), Some(&before)) {
        Decision::Enforce {
            grant: kept,
            problems,
        } if !problems.is_empty() => {
            assert_eq!(*kept, Cluster::of_the_article().admitted(&grant(|_| {})));
            assert_eq!(problems[0].reason, Reason::Invalid);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn invalid_new_grant_grants_nothing() {
    assert_eq!(
        name(&Cluster::of_the_article().decide(&mistaken(), None)),
        "Unknown"
    );
}

#[rstest]
#[case::no_rules(Vec::new())]
#[case::another_namespace(vec![registry_rule(|rule| rule.namespaces = namespaces(["team-a"]))])]
#[case::another_consumer(vec![registry_rule(|rule| rule.consumers = strings(["333333333333"]))])]
#[case::less_access(vec![registry_rule(|rule| rule.max_access = Access::Pull)])]
#[case::other_repositories(vec![registry_rule(|rule| rule.repositories = strings(["team-b/*"]))])]
#[case::no_managed_policies(vec![registry_rule(|rule| rule.managed_policies.clear())])]
fn narrowed_rule_revokes_despite_an_invalid_spec(
    #[case] rules: Vec<crate::api::account::RegistryRule>,
    #[values(false, true)] spec_is_wrong: bool,
) {
    let before = applied(&grant(|_| {}));
    let narrowed = Cluster::of_the_article().registry_rules(rules);
    let resource = if spec_is_wrong {
        mistaken()
    } else {
        grant(|_| {})
    };
    match narrowed.decide(&resource, Some(&before)) {
        Decision::Revoke(problems) => {
            assert!(
                problems
                    .iter()
                    .any(|problem| problem.reason == Reason::NotAdmitted),
                "{problems:#?}"
            );
            assert_eq!(
                problems
                    .iter()
                    .any(|problem| problem.reason == Reason::Invalid),
                spec_is_wrong
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn narrowed_consumer_rule_revokes_the_grant() {
    let before = applied(&grant(|_| {}));
    let narrowed =
        Cluster::of_the_article().consumer_rules([consumer_rule(|rule| rule.roles.clear())]);
    assert_eq!(
        name(&narrowed.decide(&mistaken(), Some(&before))),
        "NotAdmitted"
    );
}

#[test]
fn missing_registry_account_leaves_everything_unchanged() {
    let before = applied(&grant(|_| {}));
    let gone = Cluster::of_the_article().without(REGISTRY);
    assert_eq!(name(&gone.decide(&grant(|_| {}), Some(&before))), "Unknown");
    assert_eq!(name(&gone.decide(&mistaken(), Some(&before))), "Unknown");
}

/// Others than the operator can write the status, so its content is checked like a spec.
#[rstest]
#[case::nothing(Value::Null)]
#[case::no_spec(json!({ "access": "PullPush" }))]
#[case::everything(spec_with("/registry/repositories", json!(["*"])))]
#[case::other_repositories(spec_with("/registry/repositories", json!(["secret/*"])))]
#[case::another_consumer(spec_with("/consumer/accountID", json!("333333333333")))]
#[case::another_registry(spec_with("/registry/accountID", json!("333333333333")))]
fn forged_record_grants_nothing(#[case] spec: Value) {
    let forged = Applied {
        spec,
        ..applied(&grant(|_| {}))
    };
    let decision = Cluster::of_the_article().decide(&mistaken(), Some(&forged));
    assert!(
        ["NotAdmitted", "Unknown"].contains(&name(&decision)),
        "{decision:?}"
    );
}

#[test]
fn forged_record_does_not_move_a_grant_to_another_account() {
    let other = "333333333333";
    let admitting = |spec: &mut crate::api::AWSAccountSpec| {
        spec.registry = Some(crate::api::account::RegistrySide {
            rules: vec![registry_rule(|_| {})],
        });
    };
    let cluster = || Cluster::of_the_article().account(other, admitting);
    cluster().admitted(&grant(|spec| spec.registry.account_id = other.into()));
    let forged = Applied {
        spec: spec_with("/registry/accountID", json!(other)),
        ..applied(&grant(|_| {}))
    };
    assert_eq!(
        name(&cluster().decide(&mistaken(), Some(&forged))),
        "Unknown"
    );
}

fn spec_with(place: &str, value: Value) -> Value {
    let mut spec = serde_json::to_value(grant(|_| {}).spec).unwrap();
    *spec.pointer_mut(place).unwrap() = value;
    spec
}

#[test]
fn invalid_spec_never_grants_more_than_before() {
    let before = applied(&grant_with_plain_role(|spec| spec.access = Access::Pull));
    let wider = grant(|spec| {
        spec.registry.regions = strings(["cn-north-1"]);
        spec.registry.role.as_mut().unwrap().managed_policies =
            vec![ManagedPolicy::AmazonEC2ContainerRegistryReadOnly];
    });
    match Cluster::of_the_article().decide(&wider, Some(&before)) {
        Decision::Enforce {
            grant: kept,
            problems,
        } if !problems.is_empty() => {
            assert_eq!(kept.access, Access::Pull);
            assert!(kept.role.unwrap().managed_policies.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn narrowed_rule_revokes_a_grant_that_became_invalid() {
    let before = applied(&grant(|_| {}));
    let cluster = Cluster::of_the_article()
        .registry_rules([])
        .account(CONSUMER, |spec| spec.partition = Partition::AwsCn);
    assert_eq!(
        name(&cluster.decide(&grant(|_| {}), Some(&before))),
        "NotAdmitted"
    );
}

#[test]
fn changed_account_path_keeps_grants_valid() {
    let narrowed = grant(|spec| {
        spec.consumer.whole_account = None;
        spec.consumer.roles = Some(strings(["registry-grants/miq-instance"]));
    });
    let before = applied(&narrowed);
    let moved = Cluster::of_the_article()
        .consumer_rules([consumer_rule(|rule| rule.roles = strings(["nodes/*"]))])
        .roles(CONSUMER, |roles| roles.path = "/nodes/".into());
    assert_ne!(name(&moved.decide(&narrowed, Some(&before))), "Unknown");
}

type Spec = crate::api::grant::CrossAccountRegistryGrantSpec;

#[rstest]
#[case::replacing(|spec: &mut Spec| spec.registry.replace_sids = strings(["new statement"]), "replaceSids")]
#[case::retaining(|spec: &mut Spec| spec.deletion_policy = DeletionPolicy::Retain, "deletionPolicy Retain")]
fn refused_extra_request_neither_revokes_nor_grants_access(
    #[case] change: fn(&mut Spec),
    #[case] refused: &str,
) {
    let (before, asked) = (applied(&grant(|_| {})), grant(change));
    match Cluster::of_the_article().decide(&asked, Some(&before)) {
        Decision::Enforce {
            grant: kept,
            problems,
        } if !problems.is_empty() => {
            assert!(
                kept.replaces.is_empty()
                    && kept.direct
                    && kept.spec.deletion_policy == DeletionPolicy::Delete
            );
            assert!(problems[0].message.contains(refused), "{problems:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        name(&Cluster::of_the_article().decide(&asked, None)),
        "NotAdmitted"
    );
    let nothing = Cluster::of_the_article().registry_rules([]);
    assert_eq!(name(&nothing.decide(&asked, Some(&before))), "NotAdmitted");
}

fn suspended(change: impl FnOnce(&mut Spec)) -> CrossAccountRegistryGrant {
    grant(|spec| {
        spec.suspend = true;
        change(spec);
    })
}

#[test]
fn suspended_grant_stays_as_it_was_applied() {
    let before = applied(&grant(|_| {}));
    let changed = suspended(|spec| spec.registry.repositories = strings(["everything/*"]));
    match Cluster::of_the_article().decide(&changed, Some(&before)) {
        Decision::Suspend { last: Some(kept) } => {
            assert_eq!(*kept, Cluster::of_the_article().admitted(&grant(|_| {})))
        }
        other => panic!("{other:?}"),
    }
}

fn is_frozen_with_nothing(decision: &Decision) -> bool {
    matches!(
        decision,
        Decision::Suspend { last: None } | Decision::Preview { last: None, .. }
    )
}

#[test]
fn frozen_grant_without_a_record_is_still_bound_by_rules() {
    let observing = grant(|spec| spec.mode = Mode::Observe);
    for frozen in [suspended(|_| {}), observing] {
        assert!(is_frozen_with_nothing(
            &Cluster::of_the_article().decide(&frozen, None)
        ));
        let narrowed = Cluster::of_the_article()
            .registry_rules([registry_rule(|rule| rule.max_access = Access::Pull)]);
        assert_eq!(name(&narrowed.decide(&frozen, None)), "NotAdmitted");
        // A grant that cannot be judged is left as it is.
        let unknown = Cluster::of_the_article().without(REGISTRY);
        assert!(is_frozen_with_nothing(&unknown.decide(&frozen, None)));
    }
}

#[test]
fn meant_grant_does_not_depend_on_the_rules() {
    let asked = grant(|_| {});
    let meant = |cluster: &Cluster| {
        let grant = meant(&name_of(&asked), &asked.spec, cluster, &installation());
        grant.map(|grant| grant.claims())
    };
    let recorded = applied(&asked);
    assert_eq!(meant(&Cluster::of_the_article()), Some(recorded.clone()));
    assert_eq!(
        meant(&Cluster::of_the_article().registry_rules([])),
        Some(recorded)
    );
    assert_eq!(meant(&Cluster::of_the_article().without(REGISTRY)), None);
}

#[test]
fn narrowed_rule_revokes_a_suspended_grant() {
    let before = applied(&grant(|_| {}));
    let narrowed = Cluster::of_the_article()
        .registry_rules([registry_rule(|rule| rule.max_access = Access::Pull)]);
    assert_eq!(
        name(&narrowed.decide(&suspended(|_| {}), Some(&before))),
        "NotAdmitted"
    );
    let unknown = Cluster::of_the_article().without(REGISTRY);
    assert_eq!(
        name(&unknown.decide(&suspended(|_| {}), Some(&before))),
        "Unknown"
    );
}

fn deleted(resource: &CrossAccountRegistryGrant) -> CrossAccountRegistryGrant {
    let mut deleted = resource.clone();
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    deleted
}

/// Returns whether a deleted grant is retained.
fn stays(cluster: &Cluster, asked: &CrossAccountRegistryGrant, applied: Option<&Applied>) -> bool {
    match cluster.decide(&deleted(asked), applied) {
        Decision::Retain(_) => true,
        Decision::Revoke(problems) => {
            assert_eq!(problems, []);
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn deleted_grant_is_retained_only_if_asked_admitted_and_applied() {
    let both = || {
        Cluster::of_the_article()
            .registry_rules([registry_rule(|rule| rule.allow_retain = true)])
            .consumer_rules([consumer_rule(|rule| rule.allow_retain = true)])
    };
    let asked = grant(|spec| spec.deletion_policy = DeletionPolicy::Retain);
    let before = applied(&grant(|_| {}));
    assert!(stays(&both(), &asked, Some(&before)));
    assert!(!stays(&both(), &asked, None), "nothing was applied");
    assert!(
        !stays(&both(), &grant(|_| {}), Some(&before)),
        "it was not asked"
    );
    assert!(!stays(
        &both().registry_rules([registry_rule(|_| {})]),
        &asked,
        Some(&before)
    ));
    assert!(!stays(
        &both().consumer_rules([consumer_rule(|_| {})]),
        &asked,
        Some(&before)
    ));
    // If it is suspended, the last applied grant stays.
    let wider = grant(|spec| {
        (spec.deletion_policy, spec.suspend) = (DeletionPolicy::Retain, true);
        spec.registry.repositories = strings(["everything/*"]);
    });
    assert!(stays(&both(), &wider, Some(&before)));
    let gone = both().without(REGISTRY);
    assert_eq!(
        name(&gone.decide(&deleted(&asked), Some(&before))),
        "Unknown"
    );
}

/// The decision depends on deletion, suspension, mode and deletion policy, on the record, and on
/// the rules.
#[test]
fn decision_depends_on_deletion_freeze_record_and_rules() {
    let before = applied(&grant(|_| {}));
    let retaining = Cluster::of_the_article()
        .registry_rules([registry_rule(|rule| rule.allow_retain = true)])
        .consumer_rules([consumer_rule(|rule| rule.allow_retain = true)]);
    let clusters = [
        ("admitted", retaining),
        ("refused", Cluster::of_the_article().registry_rules([])),
        ("no account", Cluster::of_the_article().without(REGISTRY)),
    ];
    let mut table = String::new();
    for policy in [DeletionPolicy::Delete, DeletionPolicy::Retain] {
        for (suspend, mode) in [
            (false, Mode::Enforce),
            (true, Mode::Enforce),
            (false, Mode::Observe),
        ] {
            for is_deleting in [false, true] {
                for applied in [None, Some(&before)] {
                    let mut asked = grant(|spec| {
                        (spec.suspend, spec.mode, spec.deletion_policy) = (suspend, mode, policy);
                    });
                    if is_deleting {
                        asked = deleted(&asked);
                    }
                    let decided = clusters.iter().map(|(rules, cluster)| {
                        format!("{rules}: {}", kind(&cluster.decide(&asked, applied)))
                    });
                    let decided: Vec<String> = decided.collect();
                    table += &format!(
                        "{policy:?}, {mode:?}{}{}{}: {}\n",
                        if suspend { ", suspended" } else { "" },
                        if is_deleting { ", deleting" } else { "" },
                        if applied.is_some() { ", on record" } else { "" },
                        decided.join("; ")
                    );
                }
            }
        }
    }
    assert_eq!(table, DECISIONS);
}

fn kind(decision: &Decision) -> &'static str {
    match decision {
        Decision::Enforce { .. } => "enforce",
        Decision::Revoke(_) => "revoke",
        Decision::Retain(_) => "retain",
        Decision::Preview { .. } => "preview",
        Decision::Suspend { .. } => "suspend",
        Decision::Leave(_) => "leave",
    }
}

const DECISIONS: &str = "\
Delete, Enforce: admitted: enforce; refused: revoke; no account: leave
Delete, Enforce, on record: admitted: enforce; refused: revoke; no account: leave
Delete, Enforce, deleting: admitted: revoke; refused: revoke; no account: revoke
Delete, Enforce, deleting, on record: admitted: revoke; refused: revoke; no account: revoke
Delete, Enforce, suspended: admitted: suspend; refused: revoke; no account: suspend
Delete, Enforce, suspended, on record: admitted: suspend; refused: revoke; no account: leave
Delete, Enforce, suspended, deleting: admitted: revoke; refused: revoke; no account: revoke
Delete, Enforce, suspended, deleting, on record: admitted: revoke; refused: revoke; no account: revoke
Delete, Observe: admitted: preview; refused: revoke; no account: preview
Delete, Observe, on record: admitted: preview; refused: revoke; no account: leave
Delete, Observe, deleting: admitted: revoke; refused: revoke; no account: revoke
Delete, Observe, deleting, on record: admitted: revoke; refused: revoke; no account: revoke
Retain, Enforce: admitted: enforce; refused: revoke; no account: leave
Retain, Enforce, on record: admitted: enforce; refused: revoke; no account: leave
Retain, Enforce, deleting: admitted: revoke; refused: revoke; no account: revoke
Retain, Enforce, deleting, on record: admitted: retain; refused: revoke; no account: leave
Retain, Enforce, suspended: admitted: suspend; refused: revoke; no account: suspend
Retain, Enforce, suspended, on record: admitted: suspend; refused: revoke; no account: leave
Retain, Enforce, suspended, deleting: admitted: revoke; refused: revoke; no account: revoke
Retain, Enforce, suspended, deleting, on record: admitted: retain; refused: revoke; no account: leave
Retain, Observe: admitted: preview; refused: revoke; no account: preview
Retain, Observe, on record: admitted: preview; refused: revoke; no account: leave
Retain, Observe, deleting: admitted: revoke; refused: revoke; no account: revoke
Retain, Observe, deleting, on record: admitted: retain; refused: revoke; no account: leave
";
