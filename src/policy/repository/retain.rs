//! Access that stays when its grant is deleted. It moves from our packed statements into statements
//! of its own, which no operator owns.

use super::contribution::{Contribution, GrantContribution, MAX_CHARACTERS};
use super::held::Held;
use super::pack::pack;
use crate::policy::document::{Document, Statement};
use crate::policy::installation::{Installation, hex};
use std::collections::BTreeSet;

/// Prefix of the Sids of such statements. The operator recognises nothing by it: people decide who
/// maintains these statements.
const MARK: &str = "Retained";
const DIGITS: usize = 16;

/// The foreign statements, including those that were just retained, and the grants that remain
/// to be packed.
pub struct Retained<Id> {
    /// The statements that are not ours.
    pub others: Document,
    /// The grants whose access this installation still manages.
    pub remaining: Vec<GrantContribution<Id>>,
    /// The grants whose access is now in foreign statements.
    pub retained: BTreeSet<Id>,
}

/// Moves access that grants ask to retain into unowned statements, one grant at a time. A grant is
/// skipped if another one would lose its place: a separate statement is longer than a place in a
/// packed one.
pub fn retain<Id: Ord + Clone>(
    others: Document,
    grants: &[GrantContribution<Id>],
    held: &Held,
    installation: &Installation,
) -> Retained<Id> {
    let mut so_far = Retained {
        others,
        remaining: grants.to_vec(),
        retained: BTreeSet::new(),
    };
    for grant in grants {
        let Some(seed) = &grant.stays_as else {
            continue;
        };
        let statements: Vec<Statement> = unowned_statements(MARK, seed, &grant.contributions);
        let sids: BTreeSet<&str> = statements.iter().filter_map(Statement::sid_text).collect();
        let mut others = so_far.others.clone();
        others
            .statements
            .retain(|known| known.sid_text().is_none_or(|sid| !sids.contains(sid)));
        let others = others.with(statements);
        let remaining: Vec<GrantContribution<Id>> = so_far
            .remaining
            .iter()
            .filter(|other| other.id != grant.id)
            .cloned()
            .collect();
        let before = pack(&so_far.others, &so_far.remaining, held, installation);
        let after = pack(&others, &remaining, held, installation);
        let fits = others.clone().with(after.statements).characters() <= MAX_CHARACTERS;
        if fits && after.left_out.is_subset(&before.left_out) {
            so_far.retained.insert(grant.id.clone());
            so_far.others = others;
            so_far.remaining = remaining;
        }
    }
    so_far
}

/// Creates statements that no operator owns for these contributions. All contributions with the
/// same actions and the same kind of callers share one statement, because AWS accepts each Sid only
/// once. A Sid is the mark (letters and digits) and 16 hex digits derived from the seed and from
/// the access that the statement allows. The same seed always gives the same Sid. No installation
/// recognises it as its own, unless the mark is that of an installation.
pub fn unowned_statements(mark: &str, seed: &str, asked: &[Contribution]) -> Vec<Statement> {
    let mut joined: Vec<Contribution> = Vec::new();
    for Contribution { actions, callers } in asked {
        match joined
            .iter_mut()
            .find(|known| known.actions == *actions && known.callers.kind() == callers.kind())
        {
            Some(known) => known.callers.join(callers),
            None => joined.push(Contribution {
                actions: actions.clone(),
                callers: callers.clone(),
            }),
        }
    }
    joined
        .iter()
        .map(|joined| unowned_statement(mark, seed, joined))
        .collect()
}

fn unowned_statement(mark: &str, seed: &str, asked: &Contribution) -> Statement {
    let Contribution { actions, callers } = asked;
    let names: Vec<&str> = actions.iter().map(String::as_str).collect();
    let group = format!("{seed} | {} | {}", names.join(" "), callers.kind().shape());
    Statement::allow(names)
        .sid(format!("{mark}{}", hex(&group, DIGITS)))
        .to(callers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;
    use crate::policy::repository::{PolicyUpdate, plan};

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn wanted(id: u64, stays: bool) -> GrantContribution<u64> {
        let callers = PrincipalSet::named([format!("arn:aws:iam::{}:root", 100_000_000_000 + id)]);
        let contributions = vec![Contribution {
            actions: ["ecr:BatchGetImage".to_owned()].into(),
            callers,
        }];
        GrantContribution {
            id,
            contributions,
            replaces: BTreeSet::new(),
            stays_as: stays.then(|| format!("grant {id}")),
            if_there: Vec::new(),
        }
    }

    fn set(change: PolicyUpdate) -> Document {
        match change {
            PolicyUpdate::Set(document) => document,
            other => panic!("expected a document to set, not {other:?}"),
        }
    }

    #[test]
    fn retained_access_moves_into_an_unowned_statement() {
        let before = set(
            plan(None, &[wanted(1, false), wanted(2, false)], &installation())
                .unwrap()
                .change,
        );
        let planned = plan(
            Some(&before.to_string()),
            &[wanted(1, true), wanted(2, false)],
            &installation(),
        )
        .unwrap();
        assert_eq!(planned.retained, [1].into());
        let after = set(planned.change);
        let foreign = after.clone().without_ours(&installation());
        assert!(
            foreign.to_string().contains("100000000001")
                && !foreign.to_string().contains("100000000002")
        );
        let text = after.to_string();
        assert_eq!(text.matches("100000000001").count(), 1, "{text}");
        for grants in [
            vec![wanted(1, true), wanted(2, false)],
            vec![wanted(2, false)],
        ] {
            assert_eq!(
                plan(Some(&text), &grants, &installation()).unwrap().change,
                PolicyUpdate::None
            );
        }
    }

    #[test]
    fn retained_callers_of_one_kind_share_a_statement() {
        let named = |arn: &str| Contribution {
            actions: ["ecr:BatchGetImage".to_owned()].into(),
            callers: PrincipalSet::named([arn.to_owned()]),
        };
        let (root, role) = (
            "arn:aws:iam::222222222222:root",
            "arn:aws:iam::111111111111:role/r",
        );
        let both = wanted(1, true);
        let both = GrantContribution {
            contributions: vec![named(root), named(role)],
            ..both
        };
        let document = set(plan(None, &[both], &installation()).unwrap().change);
        assert_eq!(document.statements.len(), 1);
        assert!(document.to_string().contains(root) && document.to_string().contains(role));
    }

    #[test]
    fn last_grant_can_be_retained() {
        let before = set(plan(None, &[wanted(1, false)], &installation())
            .unwrap()
            .change);
        let after = set(plan(
            Some(&before.to_string()),
            &[wanted(1, true)],
            &installation(),
        )
        .unwrap()
        .change);
        assert_eq!(after.clone().without_ours(&installation()), after);
    }

    #[test]
    fn retained_access_without_room_stays_in_our_statement() {
        let full: Vec<_> = (1..=400).map(|id| wanted(id, false)).collect();
        let document = set(plan(None, &full, &installation()).unwrap().change);
        let mut one_goes = full.clone();
        one_goes[0].stays_as = Some("seed".into());
        let planned = plan(Some(&document.to_string()), &one_goes, &installation()).unwrap();
        assert!(planned.retained.is_empty());
        assert_eq!(planned.change, PolicyUpdate::None);
    }
}
