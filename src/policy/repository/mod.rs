//! One repository's policy, built from many grants and from foreign statements.
//!
//! The document is shared, and is replaced as one unit, without a version or ETag. So our part of
//! it is computed from all grants at once, packed into few statements, and merged into the document
//! just read. Foreign statements stay unchanged, except those that a grant replaces.
//!
//! This file plans the next document. Its modules:
//!
//! - [`contribution`]: the access that grants ask for, and the statement that allows it.
//! - [`allowed`]: the access that statements allow, by action and principal.
//! - [`current`]: the access that our statements in a document allow already.
//! - [`held`]: the part of the contributions that a document already grants.
//! - [`scope`]: the part of the contributions that goes into the next document.
//! - [`pack`]: packs as many contributions as fit into few statements.
//! - [`retain`]: moves access into statements that no operator owns, for `deletionPolicy: Retain`.
//! - [`subsumes`]: decides whether our statements allow at least as much as a foreign one.
//! - [`keep`]: the rule that every write must pass: it removes no access that a grant asks for.
//! - [`suspects`]: foreign statements that may cause AWS to refuse a document.
//! - [`search`]: decides which document to write next after AWS refused one.

pub mod allowed;
pub mod contribution;
pub mod current;
pub mod held;
pub mod keep;
pub mod pack;
pub mod retain;
pub mod scope;
pub mod search;
pub mod subsumes;
pub mod suspects;

pub use contribution::{Contribution, GrantContribution, MAX_CHARACTERS};

use crate::policy::canonical::StatementMeaning;
use crate::policy::dead_ids::without;
use crate::policy::document::{Document, Statement};
use crate::policy::installation::Installation;
use crate::policy::parse_error::ParseError;
use held::Held;
use pack::{Packed, pack};
use retain::retain;
use scope::{Scope, asked, limited};
use std::collections::{BTreeMap, BTreeSet};
use subsumes::reason_to_keep;

/// The change to make to a repository policy.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyUpdate {
    /// The policy is already correct.
    None,
    /// Replace the policy with this document.
    Set(Document),
    /// Delete the policy, because nothing is left in it.
    Delete,
}

/// The change that corrects a repository policy, and the result for each contribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Id> {
    /// The document that was read; `None` if there was none.
    pub current: Option<Document>,
    /// The change to make.
    pub change: PolicyUpdate,
    /// The grants that did not fit into the document.
    pub left_out: BTreeSet<Id>,
    /// The grants whose access is now in unowned statements, as they asked.
    pub retained: BTreeSet<Id>,
    /// The document's length after the change, in characters.
    pub characters: usize,
    /// The length of the document that was read.
    pub found_characters: usize,
    /// Our statements as they were found.
    pub found: Ours,
    /// Our statements as they should be.
    pub wanted: Ours,
    /// Number of foreign statements.
    pub foreign: usize,
    /// The Sids of the foreign statements that have one.
    pub foreign_sids: BTreeSet<String>,
    /// Foreign statements, in their previous form, that this change alters or drops because they
    /// name a deleted principal.
    pub without_ids: Vec<Statement>,
    /// Sids of the foreign statements that this change replaces.
    pub replaced: BTreeSet<String>,
    /// Sids of the foreign statements that were to be replaced and are not, with the reason.
    pub kept: BTreeMap<String, String>,
}

/// Our statements in a document, with their Sids: a statement whose Sid was changed would no longer
/// be found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours(Vec<(String, StatementMeaning)>);

impl Ours {
    fn of<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Self {
        let mut marked: Vec<_> = statements
            .into_iter()
            .map(|s| (s.sid_text().unwrap_or_default().to_owned(), s.meaning()))
            .collect();
        marked.sort();
        Self(marked)
    }

    /// Returns our statements in a document; none if there is no document.
    pub fn in_document(document: Option<&Document>, installation: &Installation) -> Self {
        Self::of(
            document
                .into_iter()
                .flat_map(|document| document.ours(installation)),
        )
    }

    /// Returns whether each of these statements is also one of the others.
    pub fn are_all_in(&self, others: &Self) -> bool {
        self.0.iter().all(|statement| others.0.contains(statement))
    }
}

/// Plans a repository policy from the document that was read (`None`: there is no policy) and from
/// all grants on it, oldest first.
///
/// # Errors
/// When the text read is not a policy document. It is then not changed.
pub fn plan<Id: Ord + Clone>(
    current: Option<&str>,
    grants: &[GrantContribution<Id>],
    installation: &Installation,
) -> Result<Plan<Id>, ParseError> {
    Ok(plan_within(
        current.map(Document::parse).transpose()?,
        grants,
        &Scope::default(),
        installation,
    ))
}

/// Plans the policy for a parsed document and only a part of the contributions.
pub fn plan_within<Id: Ord + Clone>(
    current: Option<Document>,
    grants: &[GrantContribution<Id>],
    scope: &Scope,
    installation: &Installation,
) -> Plan<Id> {
    let held = Held::of(current.as_ref(), installation);
    let asking = asked(current.as_ref(), grants, installation);
    let admitted = limited(&asking, scope, &held);
    let found = Ours::in_document(current.as_ref(), installation);
    let found_characters = current.as_ref().map_or(0, Document::characters);
    let others = match &current {
        Some(document) => document.clone().without_ours(installation),
        None => Document::of([]),
    };
    let foreign_sids = others
        .statements
        .iter()
        .filter_map(Statement::sid_text)
        .map(String::from)
        .collect();
    let cleaned = without(&others, &scope.without_ids, installation);
    let retained = retain(cleaned.document, &admitted, &held, installation);
    let merged = merge(&retained.others, &retained.remaining, &held, installation);
    let ours = merged.ours;
    let wanted = Ours::of(&ours.statements);
    let is_empty = ours.statements.is_empty() && merged.foreign.statements.is_empty();
    let document = merged.foreign.with(ours.statements);
    let characters = if is_empty { 0 } else { document.characters() };
    let is_unchanged =
        found == wanted && merged.replaced.is_empty() && retained.others.same_meaning(&others);
    let change = if is_unchanged {
        PolicyUpdate::None
    } else if is_empty {
        PolicyUpdate::Delete
    } else {
        PolicyUpdate::Set(document)
    };
    Plan {
        current,
        change,
        left_out: ours.left_out,
        retained: retained.retained,
        characters,
        found_characters,
        found,
        wanted,
        foreign: others.statements.len(),
        foreign_sids,
        without_ids: cleaned.originals,
        replaced: merged.replaced,
        kept: merged.kept,
    }
}

/// Our statements, and the foreign ones that stay.
struct Merged<Id> {
    foreign: Document,
    ours: Packed<Id>,
    replaced: BTreeSet<String>,
    kept: BTreeMap<String, String>,
}

/// Removes the foreign statements in `replaces` that ours make superfluous. Their removal leaves
/// more room for our statements, and which of ours fit decides which foreign ones are superfluous.
/// So the merge starts with all of them removed, and restores needed ones until no more are needed.
fn merge<Id: Ord + Clone>(
    others: &Document,
    grants: &[GrantContribution<Id>],
    held: &Held,
    installation: &Installation,
) -> Merged<Id> {
    let asked: BTreeSet<&str> = grants
        .iter()
        .flat_map(|grant| &grant.replaces)
        .map(String::as_str)
        .collect();
    // The statements that are to be replaced, by their place in the document.
    let replaceable: BTreeMap<usize, &Statement> = others
        .statements
        .iter()
        .enumerate()
        .filter(|(_, statement)| statement.sid_text().is_some_and(|sid| asked.contains(sid)))
        .collect();
    let mut needed: BTreeMap<usize, String> = BTreeMap::new();
    loop {
        let mut foreign = others.clone();
        let mut places = 0..;
        foreign.statements.retain(|_| {
            places
                .next()
                .is_some_and(|at| !replaceable.contains_key(&at) || needed.contains_key(&at))
        });
        let ours = pack(&foreign, grants, held, installation);
        let before = needed.len();
        for (at, statement) in &replaceable {
            if !needed.contains_key(at) {
                needed.extend(reason_to_keep(statement, &ours.contributions).map(|why| (*at, why)));
            }
        }
        if needed.len() > before {
            continue;
        }
        let mut replaced = BTreeSet::new();
        let mut kept = BTreeMap::new();
        for (at, statement) in &replaceable {
            let sid = statement.sid_text().unwrap_or_default().to_owned();
            match needed.remove(at) {
                Some(why) => drop(kept.insert(sid, why)),
                None => drop(replaced.insert(sid)),
            }
        }
        return Merged {
            foreign,
            ours,
            replaced,
            kept,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn allowed(callers: PrincipalSet) -> Contribution {
        let actions = [
            "ecr:BatchGetImage",
            "ecr:GetDownloadUrlForLayer",
            "ecr:PutImage",
        ]
        .map(String::from)
        .into();
        Contribution { actions, callers }
    }

    fn root(number: u64) -> String {
        format!("arn:aws:iam::{}:root", 100_000_000_000 + number)
    }

    fn wanted(id: u64, callers: PrincipalSet) -> GrantContribution<u64> {
        GrantContribution {
            id,
            contributions: vec![allowed(callers)],
            replaces: BTreeSet::new(),
            stays_as: None,
            if_there: Vec::new(),
        }
    }

    fn grants(numbers: impl IntoIterator<Item = u64>) -> Vec<GrantContribution<u64>> {
        numbers
            .into_iter()
            .map(|n| wanted(n, PrincipalSet::named([root(n)])))
            .collect()
    }

    fn set(plan: Plan<u64>) -> Document {
        match plan.change {
            PolicyUpdate::Set(document) => document,
            other => panic!("expected a document to set, not {other:?}"),
        }
    }

    const FOREIGN: &str = r#"{"Version":"2008-10-17","Statement":[{"Sid":"Lambda","Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":["ecr:BatchGetImage"]}]}"#;

    #[test]
    fn foreign_statements_stay_while_ours_come_and_go() {
        let foreign = Document::parse(FOREIGN).unwrap();
        let both = set(plan(Some(FOREIGN), &grants([1]), &installation()).unwrap());
        assert_eq!(both.statements.len(), 2);
        assert_eq!(both.clone().without_ours(&installation()), foreign);
        let back = set(plan(Some(&both.to_string()), &grants([]), &installation()).unwrap());
        assert_eq!(back, foreign);
    }

    #[test]
    fn policy_of_ours_only_is_deleted_with_the_last_grant() {
        let ours = set(plan(None, &grants([1]), &installation()).unwrap());
        assert_eq!(
            plan(Some(&ours.to_string()), &grants([]), &installation())
                .unwrap()
                .change,
            PolicyUpdate::Delete
        );
    }

    #[test]
    fn correct_policy_is_not_written_again() {
        let ours = set(plan(Some(FOREIGN), &grants([1, 2]), &installation()).unwrap());
        assert_eq!(
            plan(Some(&ours.to_string()), &grants([2, 1]), &installation())
                .unwrap()
                .change,
            PolicyUpdate::None
        );
        assert_eq!(
            plan(Some(FOREIGN), &grants([]), &installation())
                .unwrap()
                .change,
            PolicyUpdate::None
        );
        assert_eq!(
            plan(None, &grants([]), &installation()).unwrap().change,
            PolicyUpdate::None
        );
    }

    #[test]
    fn changed_statement_of_ours_is_reverted() {
        let ours = set(plan(None, &grants([1]), &installation()).unwrap());
        let widened = ours
            .to_string()
            .replace("arn:aws:iam::100000000001:root", "*");
        assert_eq!(
            set(plan(Some(&widened), &grants([1]), &installation()).unwrap()),
            ours
        );
    }

    #[test]
    fn access_that_no_grant_asks_for_is_removed() {
        let two = set(plan(None, &grants([1, 2]), &installation()).unwrap());
        let one = set(plan(Some(&two.to_string()), &grants([2]), &installation()).unwrap());
        assert!(!one.to_string().contains("100000000001"));
    }

    #[test]
    fn equal_access_of_many_accounts_shares_one_statement() {
        let document = set(plan(None, &grants(1..=250), &installation()).unwrap());
        assert_eq!(document.statements.len(), 1);
        assert!(
            document.characters() <= MAX_CHARACTERS,
            "{}",
            document.characters()
        );
    }

    #[test]
    fn narrowed_grants_share_no_statement_with_whole_accounts() {
        let narrowed =
            PrincipalSet::named_like(root(2), ["arn:aws:iam::100000000002:role/ci/*".into()]);
        let grants = [
            wanted(1, PrincipalSet::named([root(1)])),
            wanted(2, narrowed),
        ];
        let document = set(plan(None, &grants, &installation()).unwrap());
        let conditions: Vec<bool> = document
            .statements
            .iter()
            .map(|s| s.0.contains_key("Condition"))
            .collect();
        assert_eq!(conditions, [false, true]);
    }

    #[test]
    fn full_document_leaves_out_the_newest_grants() {
        let many = grants(1..=400);
        let planned = plan(None, &many, &installation()).unwrap();
        assert!(!planned.left_out.is_empty());
        assert!(!planned.left_out.contains(&1));
        assert!(planned.left_out.contains(&400));
        assert!(set(planned).characters() <= MAX_CHARACTERS);
    }

    #[test]
    fn revocation_is_written_to_a_full_document() {
        let full = set(plan(None, &grants(1..=400), &installation()).unwrap());
        let without_the_first =
            set(plan(Some(&full.to_string()), &grants(2..=400), &installation()).unwrap());
        assert!(!without_the_first.to_string().contains("100000000001:"));
    }

    #[test]
    fn unreadable_policy_is_an_error() {
        assert!(plan(Some("{"), &grants([1]), &installation()).is_err());
    }

    const HAND_MADE: &str = r#"{"Version":"2008-10-17","Statement":[{"Sid":"new statement","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::100000000001:root","arn:aws:iam::100000000002:role/x"]},"Action":["ecr:BatchGetImage"]},{"Sid":"other","Effect":"Deny","Principal":"*","Action":"ecr:DeleteRepository"}]}"#;

    fn replacing(numbers: impl IntoIterator<Item = u64>) -> Vec<GrantContribution<u64>> {
        let mut grants = grants(numbers);
        grants[0].replaces = [
            "new statement".to_owned(),
            "other".to_owned(),
            "no such".to_owned(),
        ]
        .into();
        grants
    }

    #[test]
    fn statement_is_replaced_once_all_its_access_is_granted() {
        let half = plan(Some(HAND_MADE), &replacing([1]), &installation()).unwrap();
        assert!(
            half.kept["new statement"].contains("100000000002"),
            "{:?}",
            half.kept
        );
        assert!(half.replaced.is_empty());
        let half = set(half);
        assert!(half.to_string().contains("new statement"));
        let whole = plan(Some(&half.to_string()), &replacing([1, 2]), &installation()).unwrap();
        assert_eq!(whole.replaced, ["new statement".to_owned()].into());
        assert_eq!(whole.kept.keys().collect::<Vec<_>>(), ["other"]);
        let whole = set(whole);
        assert!(
            !whole.to_string().contains("new statement") && whole.to_string().contains("other"),
            "{whole}"
        );
        assert_eq!(
            plan(
                Some(&whole.to_string()),
                &replacing([1, 2]),
                &installation()
            )
            .unwrap()
            .change,
            PolicyUpdate::None
        );
    }

    #[test]
    fn replaced_statement_makes_room_for_ours() {
        let foreign = |accounts: std::ops::Range<u64>| {
            Document::of([Statement::allow(["ecr:BatchGetImage"])
                .sid("new statement")
                .to_principals(accounts.map(root))])
        };
        let both_fit_only_one_after_the_other = foreign(0..250).to_string();
        let planned = plan(
            Some(&both_fit_only_one_after_the_other),
            &replacing(0..250),
            &installation(),
        )
        .unwrap();
        assert!(
            planned.left_out.is_empty() && planned.replaced.len() == 1,
            "{:?}",
            planned.kept
        );
        // With one account that no grant covers, the statement stays, and then there is no room for
        // all of ours.
        let planned = plan(
            Some(&foreign(0..251).to_string()),
            &replacing(0..250),
            &installation(),
        )
        .unwrap();
        assert!(!planned.left_out.is_empty() && planned.replaced.is_empty());
    }
}
