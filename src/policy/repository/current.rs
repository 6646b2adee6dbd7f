//! The access that our statements in a document allow: what exists already, and which part no grant
//! asks for.

use super::allowed::{Allowed, allowed_by};
use super::contribution::{Contribution, statement};
use crate::policy::dead_ids::is_unique_id;
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;

/// Returns the access that our statements in a document allow already. A statement whose actions or
/// condition were changed by hand is omitted: in that form it is not ours.
pub fn own_contributions(document: &Document, installation: &Installation) -> Vec<Contribution> {
    document
        .ours(installation)
        .filter_map(|statement| as_packed(statement, installation))
        .collect()
}

/// Lists the access that this installation's statements in a document allow beyond `asked`, one
/// line each, for people. A revocation is complete when the list is empty. A statement that was
/// changed by hand counts as excess, whatever it allows now. A unique ID in place of a deleted
/// principal gives no access, so it is omitted.
pub fn beyond<'a>(
    document: &Document,
    asked: impl IntoIterator<Item = &'a Contribution>,
    installation: &Installation,
) -> Vec<String> {
    let allowed = Allowed::of(asked.into_iter().cloned());
    document
        .ours(installation)
        .flat_map(|statement| excess(statement, &allowed, installation))
        .collect()
}

fn excess(statement: &Statement, asked: &Allowed, installation: &Installation) -> Vec<String> {
    let Some(Contribution { actions, callers }) = as_packed(statement, installation) else {
        return vec![format!(
            "statement `{}`, which was changed",
            statement.sid_text().unwrap_or_default()
        )];
    };
    let mut lines = Vec::new();
    for one in callers.each() {
        if !one.principals().iter().any(|name| is_unique_id(name)) {
            let allowed = asked.actions(&actions, &one);
            let beyond = actions.difference(&allowed);
            lines.extend(beyond.map(|action| format!("{action} for {one}")));
        }
    }
    lines
}

/// Returns whether our statements contain everything that is `asked`, and other grants do not
/// account for all of it. In that case it is there because of the grant that asks.
pub fn unaccounted(
    document: &Document,
    accounted: &[Contribution],
    asked: &[Contribution],
    installation: &Installation,
) -> bool {
    let ours: Vec<&Statement> = document.ours(installation).collect();
    asked.iter().all(|asked| carry(&ours, asked, installation))
        && asked.iter().any(|asked| is_left(asked, accounted))
}

/// Returns whether the other grants do not account for all of this.
fn is_left(asked: &Contribution, accounted: &[Contribution]) -> bool {
    asked.actions.iter().any(|action| {
        accounted
            .iter()
            .filter(|known| known.actions.contains(action))
            .try_fold(asked.callers.clone(), |left, known| {
                left.without(&known.callers)
            })
            .is_some()
    })
}

/// Returns whether these statements of ours already allow everything that this contribution asks
/// for.
pub fn carry(ours: &[&Statement], asked: &Contribution, installation: &Installation) -> bool {
    let alone = statement(&asked.actions, &asked.callers, installation);
    ours.iter()
        .any(|present| present.sid_text() == alone.sid_text() && present.covers_values_of(&alone))
}

/// Returns the access that a statement of ours allows, if it has the form in which we would write
/// it: the Sid that its actions and condition produce. If not, somebody has changed the statement.
fn as_packed(present: &Statement, installation: &Installation) -> Option<Contribution> {
    allowed_by(present).filter(|held| {
        let packed = statement(&held.actions, &held.callers, installation);
        present.sid_text() == packed.sid_text()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;
    use crate::policy::repository::{GrantContribution, PolicyUpdate, plan};
    use std::collections::BTreeSet;

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn root(number: u64) -> String {
        format!("arn:aws:iam::{}:root", 100_000_000_000 + number)
    }

    fn wanted(id: u64, callers: PrincipalSet) -> GrantContribution<u64> {
        let actions = ["ecr:BatchGetImage", "ecr:PutImage"]
            .map(String::from)
            .into();
        let contributions = vec![Contribution { actions, callers }];
        GrantContribution {
            id,
            contributions,
            replaces: BTreeSet::new(),
            stays_as: None,
            if_there: Vec::new(),
        }
    }

    #[test]
    fn own_contributions_of_unchanged_statements_are_returned() {
        let narrowed =
            PrincipalSet::named_like(root(2), ["arn:aws:iam::100000000002:role/ci/*".into()]);
        let units = PrincipalSet::in_units(["o-1/r-1/ou-1/*".to_owned()], "100000000009");
        let lambda = PrincipalSet::service_for(
            "lambda.amazonaws.com",
            ["arn:aws:lambda:r:100000000002:function:*".into()],
        );
        let asked = [PrincipalSet::named([root(1)]), narrowed, units, lambda];
        let grants: Vec<_> = (1..)
            .zip(asked.clone())
            .map(|(id, callers)| wanted(id, callers))
            .collect();
        let document = match plan(None, &grants, &installation()).unwrap().change {
            PolicyUpdate::Set(document) => document,
            other => panic!("{other:?}"),
        };
        let mut found: Vec<PrincipalSet> = own_contributions(&document, &installation())
            .into_iter()
            .map(|held| held.callers)
            .collect();
        found.sort_by_key(|callers| asked.iter().position(|asked| asked == callers));
        assert_eq!(found, asked);
        let changed = Document::parse(
            &document
                .to_string()
                .replace("ecr:PutImage", "ecr:DeleteRepository"),
        )
        .unwrap();
        assert!(own_contributions(&changed, &installation()).is_empty());
    }

    #[test]
    fn without_removes_only_the_other_callers() {
        let roles = |names: &[&str]| {
            let arns = names
                .iter()
                .map(|name| format!("arn:aws:iam::100000000002:role/{name}"));
            PrincipalSet::named_like(root(2), arns)
        };
        assert_eq!(
            roles(&["a", "b"]).without(&roles(&["b"])),
            Some(roles(&["a"]))
        );
        assert_eq!(roles(&["a"]).without(&roles(&["a"])), None);
        let both = PrincipalSet::named([root(1), root(2)]);
        assert_eq!(
            both.without(&PrincipalSet::named([root(2)])),
            Some(PrincipalSet::named([root(1)]))
        );
        assert_eq!(both.without(&roles(&["a"])), Some(both.clone()));
    }

    fn asked(callers: PrincipalSet) -> Contribution {
        let GrantContribution {
            mut contributions, ..
        } = wanted(1, callers);
        contributions.remove(0)
    }

    #[test]
    fn beyond_lists_excess_by_action_and_caller() {
        let (one, two) = (
            PrincipalSet::named([root(1)]),
            PrincipalSet::named([root(2)]),
        );
        let document = match plan(
            None,
            &[wanted(1, one.clone()), wanted(2, two.clone())],
            &installation(),
        )
        .unwrap()
        .change
        {
            PolicyUpdate::Set(document) => document,
            other => panic!("{other:?}"),
        };
        assert!(
            beyond(
                &document,
                &[asked(one.clone()), asked(two.clone())],
                &installation()
            )
            .is_empty()
        );
        let left = beyond(&document, &[asked(one.clone())], &installation());
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            left.iter()
                .all(|left| left.contains("100000000002") && !left.contains("100000000001")),
            "{left:?}"
        );
        // The contributions have one action fewer.
        let pull = Contribution {
            actions: ["ecr:BatchGetImage".to_owned()].into(),
            callers: two,
        };
        let left = beyond(&document, &[asked(one), pull], &installation());
        assert!(
            left.len() == 1 && left[0].starts_with("ecr:PutImage"),
            "{left:?}"
        );
        // Statements of other installations do not count.
        let other: Installation = "ba9876543210".parse().unwrap();
        assert!(beyond(&document, &[], &other).is_empty());
    }

    #[test]
    fn beyond_lists_a_changed_statement() {
        let one = PrincipalSet::named([root(1)]);
        let document = match plan(None, &[wanted(1, one.clone())], &installation())
            .unwrap()
            .change
        {
            PolicyUpdate::Set(document) => document,
            other => panic!("{other:?}"),
        };
        let changed = Document::parse(
            &document
                .to_string()
                .replace("ecr:PutImage", "ecr:DeleteRepository"),
        )
        .unwrap();
        assert_eq!(beyond(&changed, &[asked(one)], &installation()).len(), 1);
    }

    #[test]
    fn unaccounted_ignores_accounted_and_missing_access() {
        let (one, two) = (
            PrincipalSet::named([root(1)]),
            PrincipalSet::named([root(2)]),
        );
        let both = [wanted(1, one.clone()), wanted(2, two.clone())];
        let document = match plan(None, &both, &installation()).unwrap().change {
            PolicyUpdate::Set(document) => document,
            other => panic!("{other:?}"),
        };
        let is_of = |accounted: &[Contribution], callers: &PrincipalSet| {
            unaccounted(
                &document,
                accounted,
                &[asked(callers.clone())],
                &installation(),
            )
        };
        assert!(
            is_of(&[asked(one.clone())], &two),
            "nobody else accounts for it"
        );
        assert!(
            !is_of(&[asked(one.clone())], &one),
            "the grant on record does"
        );
        assert!(
            !is_of(&[], &PrincipalSet::named([root(3)])),
            "it is not there"
        );
        assert!(
            !unaccounted(&document, &[], &[], &installation()),
            "nothing is asked"
        );
    }
}
