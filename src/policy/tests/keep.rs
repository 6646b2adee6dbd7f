//! No write removes access that the document just read allows and a grant asks for, unless AWS
//! refuses the principal. An evaluator that shares no code with the rule decides which access is
//! allowed.

use super::ecr::{Grant, grant, grants, installation, root};
use super::evaluator::{Caller, Request, Verdict, evaluate};
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::allowed::Allowed;
use crate::policy::repository::keep::{Losing, Violation, checked};
use crate::policy::repository::scope::{Growth, Scope};
use crate::policy::repository::{
    Contribution, GrantContribution, MAX_CHARACTERS, Plan, PolicyUpdate, plan, plan_within,
};
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeSet;

/// The consumers' roles, two in each of three accounts, and a role of the registry.
const CALLERS: [(&str, &str); 7] = [
    ("arn:aws:iam::222222222222:role/ci/a", "222222222222"),
    ("arn:aws:iam::222222222222:role/nodes/b", "222222222222"),
    ("arn:aws:iam::333333333333:role/ci/a", "333333333333"),
    ("arn:aws:iam::333333333333:role/nodes/b", "333333333333"),
    ("arn:aws:iam::444444444444:role/ci/a", "444444444444"),
    ("arn:aws:iam::444444444444:role/nodes/b", "444444444444"),
    ("arn:aws:iam::111111111111:role/r", "111111111111"),
];
const ACTIONS: [&str; 2] = ["ecr:BatchGetImage", "ecr:PutImage"];

fn principal() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "arn:aws:iam::222222222222:root",
        "arn:aws:iam::333333333333:root",
        "arn:aws:iam::444444444444:root",
        "arn:aws:iam::111111111111:role/r",
    ])
    .prop_map(String::from)
}

fn contribution() -> impl Strategy<Value = Contribution> {
    let among = prop::option::of(prop::sample::subsequence(
        vec!["ci/*", "nodes/b", "ci/a"],
        1..3,
    ));
    (principal(), among, any::<bool>()).prop_map(|(principal, among, pushes)| {
        let actions = ACTIONS[..if pushes { 2 } else { 1 }]
            .iter()
            .map(|action| (*action).to_owned())
            .collect();
        let roles = principal
            .strip_suffix(":root")
            .map(|account| format!("{account}:role/"));
        let callers = match (among, roles) {
            (Some(among), Some(roles)) => PrincipalSet::named_like(
                principal,
                among.iter().map(|role| format!("{roles}{role}")),
            ),
            (_, _) => PrincipalSet::named([principal]),
        };
        Contribution { actions, callers }
    })
}

fn some_grants() -> impl Strategy<Value = Vec<Grant>> {
    let one = (
        prop::collection::vec(contribution(), 1..3),
        any::<bool>(),
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(one, 0..6).prop_map(|all| {
        let grant = |(id, (contributions, replaces, stays)): (u64, (Vec<_>, bool, bool))| {
            GrantContribution {
                contributions,
                replaces: replaces.then(|| "by hand".to_owned()).into_iter().collect(),
                stays_as: stays.then(|| format!("grant {id}")),
                ..grant(id, [])
            }
        };
        (0..).zip(all).map(grant).collect()
    })
}

/// Generates a policy with foreign statements, which may make it nearly full, and possibly with a
/// manual change to our statements.
fn document() -> impl Strategy<Value = Option<String>> {
    let by_hand = prop::option::of((
        principal(),
        prop::sample::subsequence(ACTIONS.to_vec(), 1..=2),
    ));
    (
        some_grants(),
        prop::option::of(0..9_000_usize),
        by_hand,
        0..4,
    )
        .prop_map(|(before, filled, by_hand, changed)| {
            let filler = filled.map(|length| {
                Statement::deny(["ecr:DeleteRepository"])
                    .sid("others")
                    .to_principals(["x".repeat(length)])
            });
            let by_hand = by_hand.map(|(principal, actions)| {
                Statement::allow(actions)
                    .sid("by hand")
                    .to_principals([principal])
            });
            let foreign = Document::of(filler.into_iter().chain(by_hand));
            let foreign = (!foreign.statements.is_empty()).then(|| foreign.to_string());
            let before: Vec<Grant> = before
                .into_iter()
                .map(|grant| GrantContribution {
                    replaces: BTreeSet::new(),
                    ..grant
                })
                .collect();
            let text = after(&plan(foreign.as_deref(), &before, &installation()).unwrap())
                .map(|d| d.to_string());
            text.map(|text| match changed {
                0 => text.replacen("arn:aws:iam::222222222222:root", "*", 1),
                1 => text.replacen("ecr:BatchGetImage", "ecr:*", 1),
                _ => text,
            })
        })
}

fn scope() -> impl Strategy<Value = Scope> {
    let some = || prop::collection::btree_set(principal(), 0..3);
    (some(), prop::option::of(some())).prop_map(|(without, growth)| {
        let growth = growth.map_or(Growth::All, Growth::Only);
        Scope {
            without,
            growth,
            without_ids: BTreeSet::new(),
        }
    })
}

fn after(plan: &Plan<u64>) -> Option<Document> {
    match &plan.change {
        PolicyUpdate::None => plan.current.clone(),
        PolicyUpdate::Set(document) => Some(document.clone()),
        PolicyUpdate::Delete => None,
    }
}

fn requests() -> impl Iterator<Item = Request> {
    CALLERS.into_iter().flat_map(|(arn, account)| {
        ACTIONS.map(|action| Request {
            caller: Caller::Aws(arn, account),
            action,
            resource: None,
            context: [("aws:principalarn", vec![arn])].into(),
        })
    })
}

fn allows(document: Option<&Document>, request: &Request) -> bool {
    document.is_some_and(|document| evaluate(document, request) == Verdict::Allow)
}

/// Returns the principals through which a grant asks for the requested access.
fn asked_by(grant: &Grant, request: &Request) -> BTreeSet<String> {
    let alone = |contribution: &Contribution| GrantContribution {
        contributions: vec![contribution.clone()],
        ..grant.clone()
    };
    let asks = |contribution: &&Contribution| {
        allows(
            after(&plan(None, &[alone(contribution)], &installation()).unwrap()).as_ref(),
            request,
        )
    };
    let asking = grant.contributions.iter().filter(asks);
    asking
        .flat_map(|contribution| contribution.callers.principals().clone())
        .collect()
}

/// Checks that the planned write passes the rule and keeps the access that grants ask for.
fn check_write(
    current: Option<&str>,
    grants: &[Grant],
    scope: &Scope,
) -> Result<(), TestCaseError> {
    let read = current.map(|text| Document::parse(text).unwrap());
    let planned = plan_within(read.clone(), grants, scope, &installation());
    let next = after(&planned);
    let losing = Losing {
        refused: &scope.without,
        set_aside: &BTreeSet::new(),
    };
    let passed = checked(read.as_ref(), next.clone(), grants, losing, &installation());
    prop_assert!(passed.is_ok(), "{passed:?}\n{current:?}\n{next:?}");
    // A `*` that somebody wrote into our statement reserves no place for a principal.
    let by_hand = current.is_some_and(|text| text.contains(r#""*""#));
    for grant in grants {
        for request in requests() {
            let asked = asked_by(grant, &request);
            let may_go = asked.is_empty()
                || !asked.is_disjoint(&scope.without)
                || planned.left_out.contains(&grant.id);
            if !may_go && !by_hand && allows(read.as_ref(), &request) {
                prop_assert!(
                    allows(next.as_ref(), &request),
                    "{request:?}\n{current:?}\n{next:?}"
                );
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(crate::policy::tests::cases(256))]

    #[test]
    fn no_write_removes_access_that_a_grant_asks_for(
        current in document(),
        grants in some_grants(),
        scope in scope(),
    ) {
        check_write(current.as_deref(), &grants, &scope)?;
    }

    /// A document that removes access does not pass, however it was created.
    #[test]
    fn document_that_removes_access_is_rejected(before in some_grants(), gone in any::<prop::sample::Index>()) {
        // Not `prop_assume`: proptest gives up after 1024 rejected cases, however many it runs.
        if before.is_empty() {
            return Ok(());
        }
        let read = after(&plan(None, &before, &installation()).unwrap());
        let mut fewer = before.clone();
        fewer.remove(gone.index(before.len()));
        let next = after(&plan(None, &fewer, &installation()).unwrap());
        let none = BTreeSet::new();
        let losing = Losing { refused: &none, set_aside: &none };
        let passes = checked(read.as_ref(), next.clone(), &before, losing, &installation()).is_ok();
        let taken = requests().any(|request| {
            allows(read.as_ref(), &request)
                && !allows(next.as_ref(), &request)
                && before.iter().any(|grant| !asked_by(grant, &request).is_empty())
        });
        prop_assert!(!(taken && passes), "{read:?}\n{next:?}");
    }
}

proptest! {
    // A full document is packed part by part.
    #![proptest_config(crate::policy::tests::cases(64))]

    /// Grants of whole accounts are narrowed to roles, or get more actions, in a policy with little
    /// room or none.
    #[test]
    fn planned_write_to_a_full_policy_passes_the_check(
        changes in prop::collection::vec((0..3_usize, 1..25_usize, any::<bool>()), 1..8),
        members in 8..40_u64,
        room in 0..1_500_usize,
    ) {
        let before = grants(1..=members);
        let ours = after(&plan(None, &before, &installation()).unwrap()).unwrap();
        let filled = (MAX_CHARACTERS - 200).saturating_sub(ours.characters() + room);
        let filler = Statement::deny(["ecr:DeleteRepository"]).sid("others").to_principals(["x".repeat(filled)]);
        let current = after(&plan(Some(&Document::of([filler]).to_string()), &before, &installation()).unwrap());
        let mut grown = before.clone();
        for ((how, roles, pushes), grant) in changes.into_iter().zip(&mut grown) {
            let account = 100_000_000_000 + grant.id;
            let arns = (0..roles).map(|n| format!("arn:aws:iam::{account}:role/registry-grants/a-role-{n}"));
            let asked = &mut grant.contributions[0];
            match how {
                0 => asked.callers = PrincipalSet::named_like(root(grant.id), arns),
                1 => asked.callers = PrincipalSet::named(arns),
                _ => {}
            }
            if pushes {
                asked.actions.insert("ecr:PutImage".into());
            }
        }
        let planned = plan_within(current.clone(), &grown, &Scope::default(), &installation());
        let none = BTreeSet::new();
        let losing = Losing { refused: &none, set_aside: &none };
        let passed = checked(current.as_ref(), after(&planned), &grown, losing, &installation());
        prop_assert!(passed.is_ok(), "{passed:?}");
    }
}

/// A property test found the first case: the grant that is retained once more shares its Sid with
/// a statement that gives others access. Somebody edited that statement, or the access was retained
/// in steps.
#[rstest]
#[case::edited("ecr:*", &["arn:aws:iam::222222222222:root"])]
#[case::same_actions("ecr:BatchGetImage", &["arn:aws:iam::222222222222:root"])]
#[case::another_action("ecr:PutImage", &["arn:aws:iam::333333333333:root"])]
fn retained_statement_of_another_content_keeps_its_access(
    #[case] action: &str,
    #[case] principals: &[&str],
) {
    let pull = |id: u64, principal: &str| {
        let actions = BTreeSet::from([ACTIONS[0].to_owned()]);
        let callers = PrincipalSet::named([principal.to_owned()]);
        GrantContribution {
            contributions: vec![Contribution { actions, callers }],
            ..grant(id, [])
        }
    };
    let (first, second) = (
        "arn:aws:iam::222222222222:root",
        "arn:aws:iam::333333333333:root",
    );
    let retained = GrantContribution {
        stays_as: Some("grant 2".to_owned()),
        ..pull(2, second)
    };
    let known = Statement::allow([action])
        .sid("Retainedd666536f98ed0499")
        .to_principals(principals.iter().copied());
    let ours = after(&plan(None, &[pull(2, second)], &installation()).unwrap()).unwrap();
    let read = Document::of([known.clone()]).with(ours.statements);
    let grants = [pull(0, first), pull(1, first), retained];
    let scopes = [
        Scope::default(),
        Scope {
            growth: Growth::Only(BTreeSet::new()),
            ..Scope::default()
        },
    ];
    for scope in scopes {
        check_write(Some(&read.to_string()), &grants, &scope).unwrap();
        let next = after(&plan_within(
            Some(read.clone()),
            &grants,
            &scope,
            &installation(),
        ));
        let kept = next.as_ref().and_then(|next| {
            let same = |known: &&Statement| known.sid_text() == Some("Retainedd666536f98ed0499");
            next.statements.iter().find(same)
        });
        let kept = Allowed::by(kept);
        assert!(
            Allowed::by([&known])
                .parts()
                .iter()
                .all(|part| kept.all_of(part))
        );
    }
}

/// A foreign statement may name `*` and a role's ARN. Such a statement is not joined with ours:
/// together they would allow pairs of a principal and an ARN that neither allows.
#[rstest]
#[case::everybody("*")]
#[case::the_root_of_another_account("arn:aws:iam::333333333333:root")]
fn two_statements_allow_no_more_than_each_alone(#[case] principal: &str) {
    let arn = |role: &str| format!("arn:aws:iam::222222222222:role/{role}");
    let narrowed = |role: &str| {
        let actions = BTreeSet::from([ACTIONS[0].to_owned()]);
        Contribution {
            actions,
            callers: PrincipalSet::named_like("arn:aws:iam::222222222222:root".into(), [arn(role)]),
        }
    };
    let ours = after(
        &plan(
            None,
            &[GrantContribution {
                contributions: vec![narrowed("nodes/b")],
                ..grant(1, [])
            }],
            &installation(),
        )
        .unwrap(),
    );
    let foreign = Statement::allow([ACTIONS[0]])
        .sid("others")
        .to_principals([principal])
        .only_if("ArnLike", "aws:PrincipalArn", [arn("ci/a")]);
    let read = Document::of([foreign]).with(ours.unwrap().statements);
    // The grant of `nodes/b` is deleted, and the one of `ci/a` may not grow for now.
    let grants = [GrantContribution {
        contributions: vec![narrowed("ci/a")],
        ..grant(2, [])
    }];
    let scope = Scope {
        growth: Growth::Only(BTreeSet::new()),
        ..Scope::default()
    };
    let planned = plan_within(Some(read.clone()), &grants, &scope, &installation());
    let none = BTreeSet::new();
    let losing = Losing {
        refused: &none,
        set_aside: &none,
    };
    let passed = checked(
        Some(&read),
        after(&planned),
        &grants,
        losing,
        &installation(),
    );
    assert_eq!(
        passed.unwrap().document().unwrap().statements.len(),
        1,
        "the revocation is written"
    );
}

#[test]
fn members_are_set_aside_only_for_a_revocation() {
    let document = |numbers: std::ops::RangeInclusive<u64>| {
        after(&plan(None, &grants(numbers), &installation()).unwrap())
    };
    let (all, first) = (document(1..=3), document(1..=1));
    let (none, second) = (BTreeSet::new(), BTreeSet::from([root(2)]));
    let losing = Losing {
        refused: &none,
        set_aside: &second,
    };
    // Grant 3 is deleted, and grant 2 is temporarily left out.
    assert!(
        checked(
            all.as_ref(),
            first.clone(),
            &grants(1..=2),
            losing,
            &installation()
        )
        .is_ok()
    );
    let refused = checked(
        all.as_ref(),
        first.clone(),
        &grants(1..=3),
        losing,
        &installation(),
    );
    assert!(
        matches!(refused, Err(Violation::TakesAway(taken)) if taken.len() == 2),
        "nothing is to be revoked"
    );
    let losing = Losing {
        refused: &second,
        set_aside: &none,
    };
    assert!(
        checked(
            document(1..=2).as_ref(),
            first,
            &grants(1..=2),
            losing,
            &installation()
        )
        .is_ok()
    );
}

/// Returns the policy for this many grants, and the grants that are left out.
fn full(count: u64) -> (Document, BTreeSet<u64>) {
    let planned = plan(None, &grants(1..=count), &installation()).unwrap();
    (after(&planned).unwrap(), planned.left_out)
}

#[test]
fn older_grant_that_grows_pushes_out_no_other() {
    let (document, outside) = full(400);
    let mut grown = grants(1..=400);
    let more = (1..=20).map(|n| {
        format!(
            "arn:aws:iam::{}:role/registry-grants/a-role-{n}",
            100_000_000_001_u64
        )
    });
    let callers = PrincipalSet::named_like(root(1), more);
    let actions = BTreeSet::from(["ecr:BatchGetImage".to_owned()]);
    grown[0]
        .contributions
        .push(Contribution { actions, callers });
    let planned = plan(Some(&document.to_string()), &grown, &installation()).unwrap();
    assert_eq!(
        planned.left_out,
        outside.iter().copied().chain([1]).collect()
    );
    let next = after(&planned).unwrap();
    assert!(next.to_string().contains(&root(1)), "what it had stays");
    assert!(next.characters() <= MAX_CHARACTERS);
    assert_eq!(
        plan(Some(&next.to_string()), &grown, &installation())
            .unwrap()
            .change,
        PolicyUpdate::None
    );
}

#[test]
fn newcomer_pushes_out_no_other_grant() {
    let (document, outside) = full(400);
    let mut with_one_before = grants([900]);
    with_one_before.extend(grants(1..=400));
    let planned = plan(
        Some(&document.to_string()),
        &with_one_before,
        &installation(),
    )
    .unwrap();
    assert_eq!(
        planned.left_out,
        outside.iter().copied().chain([900]).collect()
    );
}

/// Each role would find room by itself, but all of them together do not: a grant is included as one
/// unit or not at all.
#[test]
fn grant_narrowed_beyond_the_room_blocks_no_other() {
    let (document, _) = full(280);
    let mut narrowed = grants(1..=279);
    let roles = (1..=20).map(|n| {
        format!(
            "arn:aws:iam::{}:role/registry-grants/a-role-{n}",
            100_000_000_001_u64
        )
    });
    narrowed[0].contributions[0].callers = PrincipalSet::named_like(root(1), roles);
    let planned = plan(Some(&document.to_string()), &narrowed, &installation()).unwrap();
    assert_eq!(planned.left_out, [1].into());
    let none = BTreeSet::new();
    let losing = Losing {
        refused: &none,
        set_aside: &none,
    };
    let passed = checked(
        Some(&document),
        after(&planned),
        &narrowed,
        losing,
        &installation(),
    );
    let next = passed.unwrap();
    assert!(
        !next.document().unwrap().to_string().contains(&root(280)),
        "the revocation of another is written"
    );
}

#[test]
fn growth_that_does_not_fit_keeps_existing_access() {
    let (document, outside) = full(400);
    let mut grown = grants(1..=400);
    grown[4].contributions[0]
        .actions
        .insert("ecr:PutImage".into());
    let planned = plan(Some(&document.to_string()), &grown, &installation()).unwrap();
    assert_eq!(
        planned.left_out,
        outside.iter().copied().chain([5]).collect()
    );
    assert_eq!(planned.change, PolicyUpdate::None);
    // Once there is room, the grant gets all of its access, and no place for what it had before.
    let fewer: Vec<Grant> = grown
        .into_iter()
        .filter(|grant| !(200..).contains(&grant.id))
        .collect();
    let planned = plan(Some(&document.to_string()), &fewer, &installation()).unwrap();
    assert!(planned.left_out.is_empty());
    let next = after(&planned).unwrap();
    assert_eq!(next.to_string().matches(&root(5)).count(), 1, "{next}");
}
