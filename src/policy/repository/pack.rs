//! Packs the contributions of many grants into few statements: one for all that have the same
//! actions and the same kind of callers.

use super::allowed::Allowed;
use super::contribution::{Contribution, GrantContribution, MAX_CHARACTERS, statement};
use super::held::{Held, HeldPart};
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;
use crate::policy::principals::{PrincipalSet, PrincipalSetKind};
use std::collections::{BTreeMap, BTreeSet};

/// Our part of a document, as far as it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct Packed<Id> {
    /// The statements, always in the same order for the same grants.
    pub statements: Vec<Statement>,
    /// The same access before it was packed into statements.
    pub contributions: Vec<Contribution>,
    /// The grants that did not fit.
    pub left_out: BTreeSet<Id>,
}

/// Packs as many grants as fit in addition to the foreign statements. Access that the document
/// already grants keeps its place, whichever grant it belongs to. Further access is added in the
/// order of the grants, oldest first. So no working grant is pushed out, neither by a new grant nor
/// by an older one that grows.
pub fn pack<Id: Ord + Clone>(
    foreign: &Document,
    grants: &[GrantContribution<Id>],
    held: &Held,
    installation: &Installation,
) -> Packed<Id> {
    let mut room = Room::beside(foreign, installation);
    let mut left_out = BTreeSet::new();
    // Nearly always all contributions fit, and they are packed at once. Only a full document is
    // packed part by part.
    let all: Vec<&Contribution> = grants
        .iter()
        .flat_map(|grant| &grant.contributions)
        .collect();
    if !room.take(&all) {
        let Chosen {
            contributions,
            rejected,
        } = choose(&mut room, grants, held, &mut left_out);
        // Pack again: a grant that got everything it asks for no longer needs a place for the part
        // that it held before.
        room = Room::beside(foreign, installation);
        room.force(&contributions.iter().collect::<Vec<_>>());
        // That may have made room for rejected parts.
        offer_again(
            &mut room,
            &Allowed::by(&foreign.statements),
            rejected,
            &mut left_out,
        );
    }
    let Room {
        installation,
        groups,
        ..
    } = room;
    let statements = groups
        .iter()
        .map(|((actions, _), group)| statement(actions, &group.callers, installation))
        .collect();
    let contributions = groups
        .into_iter()
        .map(|((actions, _), Group { callers, .. })| Contribution { actions, callers });
    Packed {
        statements,
        contributions: contributions.collect(),
        left_out,
    }
}

/// The chosen contributions, and the parts that grants hold through another statement and that
/// found no room.
struct Chosen<Id> {
    contributions: Vec<Contribution>,
    rejected: Vec<(Id, HeldPart)>,
}

/// Chooses the contributions that fit, in three rounds: access that is in its own statement
/// already, access that another statement allows, and the rest.
fn choose<Id: Ord + Clone>(
    room: &mut Room<'_>,
    grants: &[GrantContribution<Id>],
    held: &Held,
    left_out: &mut BTreeSet<Id>,
) -> Chosen<Id> {
    let mut parts: Vec<HeldPart> = grants
        .iter()
        .map(|grant| held.part(&grant.contributions))
        .collect();
    room.force(
        &parts
            .iter()
            .flat_map(|part| &part.in_place)
            .collect::<Vec<_>>(),
    );
    let mut rejected = Vec::new();
    for (grant, part) in grants.iter().zip(&mut parts) {
        if !room.take(&part.elsewhere.iter().collect::<Vec<_>>()) {
            rejected.push((grant.id.clone(), part.clone()));
            part.elsewhere.clear();
            left_out.insert(grant.id.clone());
        }
    }
    let mut chosen = Vec::new();
    for (grant, part) in grants.iter().zip(parts) {
        let lost = left_out.contains(&grant.id);
        if !lost && (!part.grows || room.take(&grant.contributions.iter().collect::<Vec<_>>())) {
            chosen.extend(grant.contributions.iter().cloned());
        } else {
            left_out.insert(grant.id.clone());
            chosen.extend(part.in_place.into_iter().chain(part.elsewhere));
        }
    }
    Chosen {
        contributions: chosen,
        rejected,
    }
}

/// Offers room again to access that grants hold through another statement and that nothing in the
/// document allows any more, until no more of it fits.
fn offer_again<Id: Ord>(
    room: &mut Room<'_>,
    foreign: &Allowed,
    mut rejected: Vec<(Id, HeldPart)>,
    left_out: &mut BTreeSet<Id>,
) {
    loop {
        let before = rejected.len();
        rejected.retain(|(id, part)| {
            let ours = room.allowed();
            let lost: Vec<&Contribution> = part
                .elsewhere
                .iter()
                .filter(|Contribution { actions, callers }| {
                    let left = &foreign.actions(actions, callers) | &ours.actions(actions, callers);
                    left.len() < actions.len()
                })
                .collect();
            let taken = !lost.is_empty() && room.take(&lost);
            if taken && !part.grows {
                left_out.remove(id);
            }
            !taken
        });
        if rejected.len() == before {
            return;
        }
    }
}

type Key = (BTreeSet<String>, PrincipalSetKind);

struct Group {
    callers: PrincipalSet,
    characters: usize,
}

/// The groups so far, and the resulting length of the document.
struct Room<'a> {
    installation: &'a Installation,
    foreign_characters: usize,
    foreign_statements: usize,
    groups: BTreeMap<Key, Group>,
}

impl<'a> Room<'a> {
    fn beside(foreign: &Document, installation: &'a Installation) -> Self {
        Self {
            installation,
            foreign_characters: foreign.characters(),
            foreign_statements: foreign.statements.len(),
            groups: BTreeMap::new(),
        }
    }

    /// Returns the access that the groups so far allow.
    fn allowed(&self) -> Allowed {
        Allowed::of(
            self.groups
                .iter()
                .map(|((actions, _), group)| Contribution {
                    actions: actions.clone(),
                    callers: group.callers.clone(),
                }),
        )
    }

    /// Adds all of these contributions, or none if they do not fit. A contribution that does not
    /// lengthen the document always fits.
    fn take(&mut self, contributions: &[&Contribution]) -> bool {
        let before = self.characters();
        let replaced = self.force(contributions);
        let after = self.characters();
        if after <= MAX_CHARACTERS || after <= before {
            return true;
        }
        for (key, old) in replaced {
            match old {
                Some(group) => drop(self.groups.insert(key, group)),
                None => drop(self.groups.remove(&key)),
            }
        }
        false
    }

    /// Adds all of these contributions, whether or not they fit. Returns the groups as they were
    /// before.
    fn force(&mut self, contributions: &[&Contribution]) -> Vec<(Key, Option<Group>)> {
        let mut changed: BTreeMap<Key, Group> = BTreeMap::new();
        for Contribution { actions, callers } in contributions {
            let key = (actions.clone(), callers.kind());
            match changed.get_mut(&key) {
                Some(group) => group.callers.join(callers),
                None => {
                    let mut joined = self
                        .groups
                        .get(&key)
                        .map_or_else(|| callers.clone(), |known| known.callers.clone());
                    joined.join(callers);
                    changed.insert(
                        key,
                        Group {
                            callers: joined,
                            characters: 0,
                        },
                    );
                }
            }
        }
        for ((actions, _), group) in &mut changed {
            group.characters = statement(actions, &group.callers, self.installation).characters();
        }
        changed
            .into_iter()
            .map(|(key, group)| (key.clone(), self.groups.insert(key, group)))
            .collect()
    }

    /// Returns the length of the document with all groups, in characters. Each group is a
    /// statement, and a comma precedes every statement except the first.
    fn characters(&self) -> usize {
        let statements: usize = self.groups.values().map(|group| group.characters).sum();
        let commas = (self.foreign_statements + self.groups.len()).saturating_sub(1);
        let counted = self.foreign_statements.saturating_sub(1);
        self.foreign_characters + statements + commas - counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contribution(account: u64, how: u8) -> Contribution {
        let root = format!("arn:aws:iam::{:012}:root", account);
        let callers = match how {
            0 => PrincipalSet::named([root]),
            1 => PrincipalSet::named_like(root, [format!("arn:aws:iam::{account:012}:role/ci/*")]),
            2 => PrincipalSet::in_organizations([format!("o-{account:010}")], "111111111111"),
            3 => PrincipalSet::in_units([format!("o-{account:010}/r-ab12/*")], "111111111111"),
            _ => PrincipalSet::service_for(
                "lambda.amazonaws.com",
                [format!("arn:aws:lambda:eu-west-1:{account:012}:function:*")],
            ),
        };
        let actions = if account.is_multiple_of(2) {
            vec!["ecr:BatchGetImage"]
        } else {
            vec!["ecr:BatchGetImage", "ecr:PutImage"]
        };
        Contribution {
            actions: actions.into_iter().map(String::from).collect(),
            callers,
        }
    }

    proptest! {
        // Each case fills a document statement by statement.
        #![proptest_config(crate::policy::tests::cases(16))]

        #[test]
        fn room_is_computed_to_the_character(
            wanted in prop::collection::vec((0_u64..400, 0_u8..5), 0..60),
            foreign in 0_usize..3,
        ) {
            let foreign = Document::of((0..foreign).map(|_| Statement::allow(["ecr:*"]).to_principals(["ü"])));
            let installation = Installation::of_cluster("x");
            let mut room = Room::beside(&foreign, &installation);
            for (account, how) in wanted {
                room.take(&[&contribution(account, how)]);
            }
            let reckoned = room.characters();
            let statements: Vec<Statement> =
                room.groups.iter().map(|((actions, _), group)| statement(actions, &group.callers, &installation)).collect();
            prop_assert_eq!(foreign.with(statements).characters(), reckoned);
        }

        #[test]
        fn left_out_grant_would_not_fit(accounts in prop::collection::vec(0_u64..100_000, 0..500)) {
            let grants: Vec<GrantContribution<usize>> = accounts
                .iter()
                .enumerate()
                .map(|(id, account)| GrantContribution { id, contributions: vec![contribution(*account, 1)], replaces: BTreeSet::new(), stays_as: None, if_there: Vec::new() })
                .collect();
            let installation = Installation::of_cluster("x");
            let packed = pack(&Document::of([]), &grants, &Held::default(), &installation);
            let size = Document::of(packed.statements.clone()).characters();
            prop_assert!(size <= MAX_CHARACTERS);
            for id in &packed.left_out {
                let mut more = packed.contributions.clone();
                more.extend(grants[*id].contributions.clone());
                let as_one = [GrantContribution { id: 0, contributions: more, replaces: BTreeSet::new(), stays_as: None, if_there: Vec::new() }];
                let all = Room::beside(&Document::of([]), &installation).take(&as_one[0].contributions.iter().collect::<Vec<_>>());
                prop_assert!(!all, "{} was left out and fits", id);
            }
        }
    }
}
