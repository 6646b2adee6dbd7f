//! One repository's policy, made of many grants and of other people's statements.
//!
//! The document is shared and replaced as a whole, without version or ETag. So what we want in it is computed from all grants
//! at once, packed into few statements, and merged into what was just read; other people's statements stay as they are.

use super::document::{Document, Statement, Unreadable};
use super::sid::Installation;
use std::collections::{BTreeMap, BTreeSet};

/// The most characters that ECR takes in a repository policy.
pub const MAX_CHARACTERS: usize = 10_240;

/// What one grant asks of a repository's policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contribution {
    /// The actions allowed.
    pub actions: BTreeSet<String>,
    /// To which principals: ARNs.
    pub principals: BTreeSet<String>,
    /// Only to callers whose `aws:PrincipalArn` is like one of these; empty: to all of the principals. Narrowing by condition
    /// survives a role's recreation, and needs no role to exist when the policy is written.
    pub narrowed_to: BTreeSet<String>,
}

/// What to do with a repository's policy.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// It is as it should be.
    None,
    /// Replace it by this.
    Set(Document),
    /// Nothing is left in it.
    Delete,
}

/// The change that makes a repository's policy right, and whom it had to leave out.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<Id> {
    /// What to do.
    pub change: Change,
    /// The grants that did not fit into the document.
    pub left_out: BTreeSet<Id>,
}

/// Plans a repository's policy from what was read (`None`: it has no policy) and from all grants on it, oldest first.
///
/// # Errors
/// When what was read is not a policy document: it is then left alone.
pub fn plan<Id: Ord + Clone>(
    current: Option<&str>,
    grants: &[(Id, Contribution)],
    installation: &Installation,
) -> Result<Plan<Id>, Unreadable> {
    let current = current.map(Document::parse).transpose()?;
    let foreign = match &current {
        Some(document) => document.clone().without_ours(installation),
        None => Document::of([]),
    };
    let (ours, left_out) = fit(&foreign, grants, installation);
    let present = current.iter().flat_map(|document| &document.statements).filter(|s| installation.owns(s));
    let change = if marked(present) == marked(&ours) {
        Change::None
    } else if ours.is_empty() && foreign.statements.is_empty() {
        Change::Delete
    } else {
        Change::Set(foreign.with(ours))
    };
    Ok(Plan { change, left_out })
}

/// Packs as many grants as fit, the oldest first, so that a grant that works is not pushed out by a new one.
fn fit<Id: Ord + Clone>(
    foreign: &Document,
    grants: &[(Id, Contribution)],
    installation: &Installation,
) -> (Vec<Statement>, BTreeSet<Id>) {
    let fits =
        |ours: &[Statement]| ours.is_empty() || foreign.clone().with(ours.to_vec()).characters() <= MAX_CHARACTERS;
    let all = pack(grants.iter().map(|(_, contribution)| contribution), installation);
    if fits(&all) {
        return (all, BTreeSet::new());
    }
    let (mut taken, mut left_out) = (Vec::new(), BTreeSet::new());
    for (id, contribution) in grants {
        taken.push(contribution);
        if !fits(&pack(taken.iter().copied(), installation)) {
            taken.pop();
            left_out.insert(id.clone());
        }
    }
    (pack(taken, installation), left_out)
}

/// One statement for all contributions with equal actions and the same shape of condition. That two narrowed contributions share a
/// statement widens neither: the ARNs in the condition carry their own account.
fn pack<'a>(contributions: impl IntoIterator<Item = &'a Contribution>, installation: &Installation) -> Vec<Statement> {
    #[derive(Default)]
    struct Group<'a> {
        principals: BTreeSet<&'a String>,
        narrowed_to: BTreeSet<&'a String>,
    }
    let mut groups: BTreeMap<(&BTreeSet<String>, bool), Group> = BTreeMap::new();
    for Contribution { actions, principals, narrowed_to } in contributions {
        let group = groups.entry((actions, !narrowed_to.is_empty())).or_default();
        group.principals.extend(principals);
        group.narrowed_to.extend(narrowed_to);
    }
    groups
        .into_iter()
        .map(|((actions, narrowed), Group { principals, narrowed_to: arns })| {
            let shape = if narrowed { "ArnLike aws:PrincipalArn" } else { "" };
            let names: Vec<&str> = actions.iter().map(String::as_str).collect();
            let statement = Statement::allow(names.clone())
                .sid(installation.sid(&format!("{} | {shape}", names.join(" "))))
                .to_principals(principals);
            if narrowed { statement.only_if("ArnLike", "aws:PrincipalArn", arns) } else { statement }
        })
        .collect()
}

/// Statements with their Sids: a statement of ours whose Sid was changed would no longer be found.
fn marked<'a>(
    statements: impl IntoIterator<Item = &'a Statement>,
) -> Vec<(String, super::canonical::StatementMeaning)> {
    let mut marked: Vec<_> =
        statements.into_iter().map(|s| (s.sid_text().unwrap_or_default().to_owned(), s.meaning())).collect();
    marked.sort();
    marked
}

impl Document {
    /// The document with our statements taken out.
    pub fn without_ours(mut self, installation: &Installation) -> Self {
        self.statements.retain(|statement| !installation.owns(statement));
        self
    }

    /// The document with statements added behind those it has.
    pub fn with(mut self, statements: impl IntoIterator<Item = Statement>) -> Self {
        self.statements.extend(statements);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn account(number: u64) -> Contribution {
        Contribution {
            actions: ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:PutImage"].map(String::from).into(),
            principals: BTreeSet::from([format!("arn:aws:iam::{number}:root")]),
            narrowed_to: BTreeSet::new(),
        }
    }

    fn grants(numbers: impl IntoIterator<Item = u64>) -> Vec<(u64, Contribution)> {
        numbers.into_iter().map(|n| (n, account(100_000_000_000 + n))).collect()
    }

    fn set(plan: Plan<u64>) -> Document {
        match plan.change {
            Change::Set(document) => document,
            other => panic!("expected a document to set, not {other:?}"),
        }
    }

    const FOREIGN: &str = r#"{"Version":"2008-10-17","Statement":[{"Sid":"Lambda","Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":["ecr:BatchGetImage"]}]}"#;

    #[test]
    fn foreign_statements_stay_and_ours_come_and_go_beside_them() {
        let foreign = Document::parse(FOREIGN).unwrap();
        let both = set(plan(Some(FOREIGN), &grants([1]), &installation()).unwrap());
        assert_eq!(both.statements.len(), 2);
        assert_eq!(both.clone().without_ours(&installation()), foreign);
        let back = set(plan(Some(&both.to_string()), &grants([]), &installation()).unwrap());
        assert_eq!(back, foreign);
    }

    #[test]
    fn a_policy_of_ours_alone_is_deleted_with_the_last_grant() {
        let ours = set(plan(None, &grants([1]), &installation()).unwrap());
        assert_eq!(plan(Some(&ours.to_string()), &grants([]), &installation()).unwrap().change, Change::Delete);
    }

    #[test]
    fn what_is_right_is_not_written_again() {
        let ours = set(plan(Some(FOREIGN), &grants([1, 2]), &installation()).unwrap());
        assert_eq!(plan(Some(&ours.to_string()), &grants([2, 1]), &installation()).unwrap().change, Change::None);
        assert_eq!(plan(Some(FOREIGN), &grants([]), &installation()).unwrap().change, Change::None);
        assert_eq!(plan(None, &grants([]), &installation()).unwrap().change, Change::None);
    }

    #[test]
    fn a_hand_made_change_to_our_statement_is_put_back() {
        let ours = set(plan(None, &grants([1]), &installation()).unwrap());
        let widened = ours.to_string().replace("arn:aws:iam::100000000001:root", "*");
        assert_eq!(set(plan(Some(&widened), &grants([1]), &installation()).unwrap()), ours);
    }

    #[test]
    fn a_statement_that_no_grant_asks_for_is_removed() {
        let two = set(plan(None, &grants([1, 2]), &installation()).unwrap());
        let one = set(plan(Some(&two.to_string()), &grants([2]), &installation()).unwrap());
        assert!(!one.to_string().contains("100000000001"));
    }

    #[test]
    fn equal_access_of_many_accounts_is_one_statement() {
        let document = set(plan(None, &grants(1..=250), &installation()).unwrap());
        assert_eq!(document.statements.len(), 1);
        assert!(document.characters() <= MAX_CHARACTERS, "{}", document.characters());
    }

    #[test]
    fn narrowed_grants_do_not_share_a_statement_with_whole_accounts() {
        let narrowed = Contribution {
            narrowed_to: BTreeSet::from(["arn:aws:iam::100000000002:role/ci/*".to_owned()]),
            ..account(100_000_000_002)
        };
        let grants = [(1, account(100_000_000_001)), (2, narrowed)];
        let document = set(plan(None, &grants, &installation()).unwrap());
        let conditions: Vec<bool> = document.statements.iter().map(|s| s.0.contains_key("Condition")).collect();
        assert_eq!(conditions, [false, true]);
    }

    #[test]
    fn grants_that_do_not_fit_are_left_out_and_the_oldest_keep_their_place() {
        let many = grants(1..=400);
        let planned = plan(None, &many, &installation()).unwrap();
        assert!(!planned.left_out.is_empty());
        assert!(!planned.left_out.contains(&1));
        assert!(planned.left_out.contains(&400));
        assert!(set(planned).characters() <= MAX_CHARACTERS);
    }

    #[test]
    fn a_revocation_is_written_even_when_the_document_stays_full() {
        let full = set(plan(None, &grants(1..=400), &installation()).unwrap());
        let without_the_first = set(plan(Some(&full.to_string()), &grants(2..=400), &installation()).unwrap());
        assert!(!without_the_first.to_string().contains("100000000001:"));
    }

    #[test]
    fn an_unreadable_policy_is_an_error_and_never_overwritten() {
        assert!(plan(Some("{"), &grants([1]), &installation()).is_err());
    }
}
