//! Grants without a record: just created, or restored with a cluster whose status was lost.

use crate::policy::Installation;
use crate::policy::principals::PrincipalSet;
use crate::policy::repository::{Contribution, GrantContribution, PolicyUpdate, plan};
use std::collections::BTreeSet;

fn installation() -> Installation {
    "0123456789ab".parse().unwrap()
}

fn root(number: u64) -> String {
    format!("arn:aws:iam::{}:root", 100_000_000_000 + number)
}

fn wanted(id: u64, callers: PrincipalSet) -> GrantContribution<u64> {
    let contributions = vec![Contribution {
        actions: ["ecr:PutImage".to_owned()].into(),
        callers,
    }];
    GrantContribution {
        id,
        contributions,
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }
}

fn set(change: PolicyUpdate) -> String {
    match change {
        PolicyUpdate::Set(document) => document.to_string(),
        other => panic!("expected a document to set, not {other:?}"),
    }
}

fn nothing(id: u64) -> GrantContribution<u64> {
    GrantContribution {
        id,
        contributions: Vec::new(),
        replaces: BTreeSet::new(),
        stays_as: None,
        if_there: Vec::new(),
    }
}

fn unclaimed(id: u64, callers: PrincipalSet) -> GrantContribution<u64> {
    let GrantContribution { contributions, .. } = wanted(id, callers);
    GrantContribution {
        if_there: contributions,
        ..nothing(id)
    }
}

#[test]
fn grant_without_record_keeps_its_access_unwritten() {
    let narrowed = |id: u64| {
        PrincipalSet::named_like(
            root(id),
            [format!("arn:aws:iam::10000000000{id}:role/ci/*")],
        )
    };
    for callers in [narrowed, |id| PrincipalSet::named([root(id)])] {
        let both = [wanted(1, callers(1)), wanted(2, callers(2))];
        let text = set(plan(None, &both, &installation()).unwrap().change);
        let second_lost = [wanted(1, callers(1)), unclaimed(2, callers(2))];
        assert_eq!(
            plan(Some(&text), &second_lost, &installation())
                .unwrap()
                .change,
            PolicyUpdate::None
        );
        assert_eq!(
            plan(None, &[unclaimed(2, callers(2))], &installation())
                .unwrap()
                .change,
            PolicyUpdate::None
        );
        let first_alone = set(plan(None, &both[..1], &installation()).unwrap().change);
        assert_eq!(
            plan(Some(&first_alone), &second_lost, &installation())
                .unwrap()
                .change,
            PolicyUpdate::None
        );
        // A contribution in `if_there` that the policy does not contain is not written.
        let more = [wanted(1, callers(1)), unclaimed(2, callers(3))];
        assert!(
            !set(plan(Some(&text), &more, &installation()).unwrap().change)
                .contains("100000000003")
        );
    }
}
