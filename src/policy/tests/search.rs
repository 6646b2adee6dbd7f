//! The search for the cause of a refusal, tested with a simulated ECR that refuses documents by the
//! set of dead principals in them. The ECR knows which grants lost access through an accepted
//! write, and counts the writes.

use super::ecr::{Ecr, Grant, ID, grant, grants, installation, pushing, root};
use crate::policy::Document;
use crate::policy::dead_ids::PROVEN_AFTER;
use crate::policy::repository::keep::unasked;
use crate::policy::repository::search::{By, Evidence, News, PROBES, Search};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeSet;
use std::time::Duration;

const NOW: Duration = Duration::from_secs(1_000_000);

/// Creates an ECR in which these grants have their access.
fn having(members: &[Grant]) -> Ecr {
    let mut ecr = Ecr::default();
    ecr.look(&mut Search::default(), members, NOW).unwrap();
    ecr.writes.clear();
    ecr
}

fn names(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<String> {
    numbers.into_iter().map(root).collect()
}

#[test]
fn bad_newcomer_after_restart_costs_members_nothing() {
    let mut ecr = having(&grants(1..=20));
    ecr.dead = names([21]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=21), NOW).unwrap();
    assert_eq!(ecr.named(), names(1..=20));
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    // The full document, then the existing access: refused, then accepted.
    assert_eq!(ecr.writes, [false, true]);
    assert_eq!(search.refused().into_keys().collect::<Vec<_>>(), [root(21)]);
}

#[test]
fn good_newcomers_are_written_despite_bad_ones() {
    let mut ecr = having(&grants(1..=20));
    ecr.dead = names([23, 28]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=36), NOW).unwrap();
    assert_eq!(ecr.named(), &names(1..=36) - &ecr.dead);
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    assert!(ecr.writes.len() <= 2 + 2 * 2 * 4, "{:?}", ecr.writes);
}

/// AWS refuses the whole document, so the access that stays is written in several steps.
#[test]
fn retained_access_is_written_despite_a_bad_newcomer() {
    let mut ecr = having(&grants([1, 2]));
    ecr.dead = names([9]);
    let stays = Grant {
        stays_as: Some("grant 1".to_owned()),
        ..grant(1, [root(1), root(3)])
    };
    let asked = [stays, grant(2, [root(2)]), grant(9, [root(9)])];
    ecr.look(&mut Search::default(), &asked, NOW).unwrap();
    assert_eq!(ecr.named(), names([2]));
    let foreign = ecr.document().unwrap().without_ours(&installation());
    let retained: Vec<BTreeSet<String>> = foreign
        .statements
        .iter()
        .map(|statement| {
            statement
                .aws_principals()
                .into_iter()
                .map(String::from)
                .collect()
        })
        .collect();
    assert_eq!(retained, [names([1, 3])]);
}

#[test]
fn refused_principal_is_retried_later_and_admitted() {
    let mut ecr = having(&grants(1..=3));
    ecr.dead = names([4]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=4), NOW).unwrap();
    ecr.writes.clear();
    ecr.look(
        &mut search,
        &grants(1..=4),
        NOW + Duration::from_millis(500),
    )
    .unwrap();
    assert!(ecr.writes.is_empty());
    ecr.look(&mut search, &grants(1..=4), NOW + Duration::from_secs(1))
        .unwrap();
    assert_eq!(ecr.writes, [false, true], "it is still refused");
    ecr.dead.clear();
    ecr.writes.clear();
    ecr.look(&mut search, &grants(1..=4), NOW + Duration::from_secs(4))
        .unwrap();
    assert_eq!(
        (ecr.writes.as_slice(), ecr.named()),
        ([true].as_slice(), names(1..=4))
    );
    assert!(search.refused().is_empty());
}

#[test]
fn dead_member_blocks_no_revocation() {
    let mut ecr = having(&grants(1..=21));
    ecr.dead = names([7]);
    let mut search = Search::default();
    ecr.evidence = Evidence {
        suspects: names([7]),
        good: names(1..=3),
    };
    ecr.look(&mut search, &grants(1..=20), NOW).unwrap();
    assert_eq!(ecr.named(), &names(1..=20) - &ecr.dead);
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    // The full document. The document without newcomers is the same, and is not sent again. Then
    // the document without 7, and 7 once more by itself.
    assert_eq!(ecr.writes, [false, true, false]);
}

#[test]
fn members_are_left_out_one_by_one_without_evidence() {
    let mut ecr = having(&grants(1..=21));
    ecr.dead = names([20]);
    ecr.look(&mut Search::default(), &grants(1..=20), NOW)
        .unwrap();
    assert_eq!(ecr.named(), names(1..=19));
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    assert_eq!(ecr.writes.len(), 1 + 20 + 1);
    assert_eq!(
        ecr.writes.iter().filter(|taken| **taken).count(),
        1,
        "what is refused changes nothing"
    );
}

#[test]
fn revocation_sets_members_aside_if_no_single_one_is_bad() {
    let mut ecr = having(&grants(1..=21));
    ecr.dead = names([5, 6]);
    ecr.evidence = Evidence {
        suspects: names([5, 6]),
        good: names(1..=4),
    };
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=20), NOW).unwrap();
    assert_eq!(ecr.named(), &names(1..=20) - &ecr.dead);
    let lost: BTreeSet<String> = ecr.lost.iter().cloned().collect();
    assert_eq!(lost, names(7..=20), "those that are known to be good stay");
    assert_eq!(search.news(), [News::SetAside(names(5..=20))]);
    assert!(
        ecr.writes.len() <= 1 + 20 + 1 + 2 * 2 * 4,
        "{:?}",
        ecr.writes
    );
}

#[test]
fn no_member_is_set_aside_without_a_revocation() {
    let mut ecr = having(&grants(1..=20));
    ecr.dead = names([5, 6]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=21), NOW).unwrap();
    assert_eq!(ecr.named(), names(1..=20));
    assert!(ecr.lost.is_empty() && !ecr.writes.contains(&true));
    assert!(matches!(
        search.blocked().map(|blocked| &blocked.by),
        Some(By::Members(_))
    ));
    ecr.writes.clear();
    ecr.look(&mut search, &grants(1..=21), NOW).unwrap();
    assert!(ecr.writes.is_empty(), "it is not retried at once");
}

#[test]
fn sync_probes_few_members_and_the_next_one_continues() {
    let mut ecr = having(&grants(1..=100));
    ecr.dead = names([90]);
    let mut search = Search::default();
    let mut looks = 0;
    while ecr.named().contains(&root(90)) {
        ecr.writes.clear();
        ecr.look(
            &mut search,
            &grants(1..=101),
            NOW + Duration::from_secs(700) * looks,
        )
        .unwrap();
        assert!(ecr.writes.len() <= PROBES + 4, "{}", ecr.writes.len());
        looks += 1;
    }
    assert_eq!((looks, ecr.named()), (3, &names(1..=101) - &ecr.dead));
    assert!(ecr.lost.is_empty());
}

fn foreign(principal: &str, effect: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Sid":"old","Effect":"{effect}","Principal":{{"AWS":{principal}}},"Action":"ecr:BatchGetImage"}}]}}"#
    )
}

/// Creates a policy with grants 1 to 3 and a foreign statement whose role was deleted since.
fn beside(statement: &str) -> Ecr {
    let mut ecr = Ecr {
        policy: Some(statement.replace(ID, "arn:aws:iam::999999999999:role/old")),
        ..Ecr::default()
    };
    ecr.look(&mut Search::default(), &grants(1..=3), NOW)
        .unwrap();
    ecr.writes.clear();
    ecr.policy = ecr
        .policy
        .map(|policy| policy.replace("arn:aws:iam::999999999999:role/old", ID));
    ecr
}

#[rstest]
#[case::beside_another(r#"["AROAEXAMPLEEXAMPLE12","222222222222"]"#, 2)]
#[case::alone(r#""AROAEXAMPLEEXAMPLE12""#, 1)]
fn proven_foreign_dead_id_is_removed_for_a_revocation(#[case] named: &str, #[case] left: usize) {
    let mut ecr = beside(&foreign(named, "Allow"));
    let mut search = Search::default();
    let before = ecr.policy.clone();
    ecr.look(&mut search, &grants(1..=2), NOW).unwrap();
    let by = search.blocked().map(|blocked| blocked.by.clone());
    assert!(
        matches!(&by, Some(By::Foreign(suspect)) if suspect.to_string().contains("`old`")),
        "{by:?}"
    );
    assert_eq!(
        ecr.writes,
        [false],
        "no member is tried while a statement of others explains it"
    );
    ecr.look(
        &mut search,
        &grants(1..=2),
        NOW + PROVEN_AFTER - Duration::from_secs(1),
    )
    .unwrap();
    assert_eq!(
        ecr.policy, before,
        "two refusals less than five minutes apart prove nothing"
    );
    ecr.look(
        &mut search,
        &grants(1..=2),
        NOW + PROVEN_AFTER + Duration::from_secs(10),
    )
    .unwrap();
    let after = Document::parse(ecr.policy.as_deref().unwrap()).unwrap();
    assert!(
        !after.to_string().contains(ID) && !after.to_string().contains(&root(3)),
        "{after}"
    );
    assert_eq!(after.statements.len(), left);
    let news = search.news();
    let [News::IdsRemoved(ids, statements)] = news.as_slice() else {
        panic!("{news:?}")
    };
    assert!(ids.contains(ID) && statements[0].sid_text() == Some("old"));
    assert!(ecr.lost.is_empty());
}

#[test]
fn id_not_shown_in_between_starts_over() {
    let mut ecr = beside(&foreign(
        r#"["AROAEXAMPLEEXAMPLE12","222222222222"]"#,
        "Allow",
    ));
    let with_id = ecr.policy.clone();
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=2), NOW).unwrap();
    ecr.policy = with_id
        .as_ref()
        .map(|text| text.replace(ID, "arn:aws:iam::999999999999:role/old"));
    ecr.look(&mut search, &grants(1..=3), NOW + Duration::from_secs(100))
        .unwrap();
    ecr.policy = with_id.clone();
    ecr.look(
        &mut search,
        &grants(1..=2),
        NOW + PROVEN_AFTER + Duration::from_secs(10),
    )
    .unwrap();
    assert_eq!(ecr.policy, with_id);
}

#[rstest]
#[case::only_a_newcomer_needs_the_write(r#"["AROAEXAMPLEEXAMPLE12","222222222222"]"#, "Allow", 4)]
#[case::in_a_deny(r#"["AROAEXAMPLEEXAMPLE12","222222222222"]"#, "Deny", 2)]
fn foreign_id_is_kept_in_every_other_case(
    #[case] named: &str,
    #[case] effect: &str,
    #[case] wanted: u64,
) {
    let mut ecr = beside(&foreign(named, effect));
    let before = ecr.policy.clone();
    let mut search = Search::default();
    for look in 0..10 {
        ecr.look(&mut search, &grants(1..=wanted), NOW + PROVEN_AFTER * look)
            .unwrap();
    }
    assert_eq!(ecr.policy, before);
    assert!(matches!(
        search.blocked().map(|blocked| &blocked.by),
        Some(By::Foreign(_))
    ));
}

#[test]
fn restart_forgets_shown_ids() {
    let mut ecr = beside(&foreign(r#""AROAEXAMPLEEXAMPLE12""#, "Allow"));
    let before = ecr.policy.clone();
    ecr.look(&mut Search::default(), &grants(1..=2), NOW)
        .unwrap();
    ecr.look(
        &mut Search::default(),
        &grants(1..=2),
        NOW + PROVEN_AFTER * 2,
    )
    .unwrap();
    assert_eq!(ecr.policy, before);
}

#[test]
fn blocking_foreign_statement_is_named() {
    let old = foreign(r#""222222222222""#, "Allow")
        .replace("ecr:BatchGetImage", "ecr:GetAuthorizationToken");
    let mut ecr = Ecr {
        policy: Some(old.clone()),
        refuses_tokens: true,
        ..Ecr::default()
    };
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=1), NOW).unwrap();
    let Some(By::Foreign(suspect)) = search.blocked().map(|blocked| &blocked.by) else {
        panic!("{search:?}")
    };
    assert!(
        suspect
            .to_string()
            .contains("`old` has ecr:GetAuthorizationToken"),
        "{suspect}"
    );
    assert_eq!(ecr.policy, Some(old));
}

/// Each write in turn is throttled once, in a search with all phases. The next sync continues the
/// search, or one after a restart completes it.
#[rstest]
fn throttling_during_the_search_loses_nothing(
    #[values(false, true)] restarts: bool,
    #[values(0, 1, 2)] dead: usize,
) {
    let bad: Vec<u64> = [5, 6].into_iter().take(dead).chain([10]).collect();
    for at in 1..20 {
        let mut ecr = having(&grants(1..=9));
        let wanted: Vec<Grant> = grants((1..=8).chain(10..=12));
        ecr.dead = names(bad.clone());
        ecr.evidence.good = names(1..=4);
        ecr.throttled_at = [at].into();
        let mut search = Search::default();
        let mut looks = 0;
        while ecr
            .look(&mut search, &wanted, NOW + Duration::from_secs(5) * looks)
            .is_err()
        {
            looks += 1;
            if restarts {
                search = Search::default();
            }
        }
        assert!(looks <= 1, "throttled once, at {at}");
        let good = &names((1..=8).chain(10..=12)) - &ecr.dead;
        assert_eq!(ecr.named(), good, "throttled at {at}");
        assert!(
            dead == 2 || ecr.lost.is_empty(),
            "throttled at {at}: {:?}",
            ecr.lost
        );
        let left = ecr.document();
        assert!(unasked(left.as_ref(), &wanted, &installation()).is_empty());
    }
}

/// One edit allows an account to push and adds a role that AWS does not know until a moment later.
#[rstest]
#[case::once_the_role_is_there(2, false)]
#[case::while_the_account_is_refused(2, true)]
#[case::once_the_second_half_is_tried(3, false)]
fn growing_member_never_loses_access(#[case] late: usize, #[case] dies: bool) {
    let mut ecr = having(&grants(1..=3));
    let role = "arn:aws:iam::100000000000:role/n".to_owned();
    ecr.late = [(role.clone(), late)].into();
    if dies {
        // AWS accepts the account where it has read access, but not yet in the statement with more.
        ecr.late_pushers = names([1]);
    }
    let mut wanted = grants(2..=3);
    wanted.insert(0, pushing(grants([1]).remove(0)));
    wanted.push(grant(9, [role.clone()]));
    let mut search = Search::default();
    ecr.look(&mut search, &wanted, NOW).unwrap();
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    assert!(!search.refused().contains_key(root(1).as_str()));
    assert!(ecr.named().is_superset(&names(1..=3)));
    if dies {
        assert_eq!(
            search.blocked().map(|blocked| &blocked.by),
            Some(&By::Unknown)
        );
        assert!(ecr.named().contains(&role), "it keeps nobody else out");
    }
    ecr.late_pushers.clear();
    ecr.look(&mut search, &wanted, NOW + Duration::from_secs(700))
        .unwrap();
    assert!(
        ecr.named().contains(&role) && ecr.policy.as_ref().unwrap().contains("PutImage"),
        "{:?}",
        ecr.policy
    );
    assert!(search.blocked().is_none() && ecr.lost.is_empty());
}

/// A conclusion of one sync may be wrong in the next.
#[rstest]
#[case::among_the_members(20)]
#[case::at_setting_aside(21)]
fn interrupted_search_sets_no_member_aside_by_old_findings(#[case] at: usize) {
    let mut ecr = having(&grants(1..=21));
    ecr.dead = names([5, 6]);
    ecr.evidence.good = names(1..=4);
    // The full document, and one without each of the 20; the next write would set members aside.
    ecr.throttled_at = [ecr.attempts + at].into();
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=20), NOW).unwrap_err();
    // Both grants that were at fault are deleted.
    let wanted: Vec<Grant> = grants((1..=4).chain(7..=20));
    ecr.look(&mut search, &wanted, NOW + Duration::from_secs(5))
        .unwrap();
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    assert_eq!(ecr.named(), &names(1..=20) - &ecr.dead);
}

/// A foreign statement that ECR may not accept is only a guess, for which a revocation does not
/// wait.
#[test]
fn suspicion_of_foreign_statements_blocks_no_revocation() {
    let others = foreign(r#""222222222222""#, "Allow")
        .replace("ecr:BatchGetImage", "ecr:GetAuthorizationToken");
    let mut ecr = Ecr {
        policy: Some(others),
        ..Ecr::default()
    };
    ecr.look(&mut Search::default(), &grants(1..=4), NOW)
        .unwrap();
    ecr.dead = names([2]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=3), NOW).unwrap();
    assert_eq!(ecr.named(), names([1, 3]));
    assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
    // If removing our own statements does not help, the guess is reported.
    (ecr.refuses_tokens, search) = (true, Search::default());
    ecr.look(&mut search, &grants([1]), NOW).unwrap();
    assert!(
        matches!(
            search.blocked().map(|blocked| &blocked.by),
            Some(By::Foreign(_))
        ),
        "{search:?}"
    );
    assert_eq!(ecr.named(), names([1, 3]));
}

#[test]
fn refused_principal_without_grants_is_forgotten() {
    let mut ecr = having(&grants(1..=3));
    ecr.dead = names([4]);
    let mut search = Search::default();
    ecr.look(&mut search, &grants(1..=4), NOW).unwrap();
    assert_eq!(search.refused().len(), 1);
    ecr.look(&mut search, &grants(1..=3), NOW).unwrap();
    assert!(search.refused().is_empty());
}

proptest! {
    #![proptest_config(crate::policy::tests::cases(64))]

    /// Members and newcomers, any of which may be dead; deleted grants, throttling, restarts, and
    /// misleading hints.
    #[test]
    fn search_ends_with_all_accepted_principals_in_the_policy(
        members in prop::collection::btree_set(1..12_u64, 1..10),
        wanted in prop::collection::btree_set(1..20_u64, 0..12),
        dead in prop::collection::btree_set(1..20_u64, 0..4),
        suspects in prop::collection::btree_set(1..12_u64, 0..3),
        good in prop::collection::btree_set(1..12_u64, 0..4),
        throttled_at in prop::collection::btree_set(1..60_usize, 0..4),
        growing in prop::collection::btree_set(1..12_u64, 0..3),
        late in prop::collection::btree_map(1..20_u64, 0..12_usize, 0..3),
        restarts in any::<bool>(),
    ) {
        let mut ecr = having(&grants(members.iter().copied()));
        let grow = |grant: Grant| if growing.contains(&grant.id) { pushing(grant) } else { grant };
        let asked: Vec<Grant> = grants(wanted.iter().copied()).into_iter().map(grow).collect();
        let dead = names(dead);
        // Members are never late: the search would correctly find those refused that are only
        // refused for a while.
        let late = late.into_iter().filter(|(id, _)| !members.contains(id));
        ecr.late = late.map(|(id, until)| (root(id), until)).collect();
        (ecr.dead, ecr.throttled_at) = (dead.clone(), throttled_at);
        ecr.evidence = Evidence { suspects: names(suspects), good: names(good) };
        let wanted_ids = wanted.clone();
        let (before, wanted) = (names(members), names(wanted));
        let revokes = !before.is_subset(&wanted);
        let mut search = Search::default();
        for look in 0..12 {
            let throttled = ecr.look(&mut search, &asked, NOW + Duration::from_secs(700) * look).is_err();
            if throttled && restarts {
                search = Search::default();
            }
        }
        let dead_members = (&before & &wanted).intersection(&dead).count();
        if dead_members <= 1 || !revokes {
            prop_assert!(ecr.lost.is_empty(), "{:?}", ecr.lost);
        }
        if revokes || dead_members <= 1 {
            let unchanged = before == wanted && growing.is_disjoint(&wanted_ids);
            prop_assert!(unchanged || ecr.named() == &wanted - &dead, "{:?} of {wanted:?} but {dead:?}", ecr.named());
        } else {
            prop_assert_eq!(ecr.named(), before, "who has access keeps it");
        }
    }
}
