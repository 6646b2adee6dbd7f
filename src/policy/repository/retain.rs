//! Access that stays when its grant is deleted. It moves from our packed statements into statements
//! of its own, which no operator owns.

use super::allowed::{Allowed, allowed_by};
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
        let mut others = so_far.others.clone();
        for asked in joined(&grant.contributions) {
            add(&mut others.statements, seed, asked);
        }
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

/// Adds access that stays to the foreign statements. A statement that already has the Sid may be
/// from an earlier write for the same grant, and somebody may have edited it since. It never loses
/// access here: it stays if it allows all of the access, and gets the missing callers if that
/// widens nothing else in it. Otherwise the access goes into a statement with the next Sid. The
/// same document and access always give the same Sid, so a second run changes nothing.
fn add(statements: &mut Vec<Statement>, seed: &str, mut asked: Contribution) {
    for sid in retained_sids(&group(seed, &asked)) {
        let has_sid = |known: &&mut Statement| known.sid_text() == Some(sid.as_str());
        let Some(present) = statements.iter_mut().find(has_sid) else {
            statements.push(unowned_statement(sid, &asked));
            return;
        };
        let Some(held) = allowed_by(present) else {
            continue;
        };
        if Allowed::of([held.clone()]).all_of(&asked) {
            return;
        }
        if held.actions == asked.actions && held.callers.can_join(&asked.callers) {
            asked.callers.join(&held.callers);
            *present = unowned_statement(sid, &asked);
            return;
        }
    }
}

/// Returns the Sids under which unowned access of this description may stay, in the order in which
/// they are tried. The list has no end: foreign statements may have any of these Sids.
pub fn retained_sids(description: &str) -> impl Iterator<Item = String> {
    (1_u64..).map(move |number| match number {
        1 => sid(MARK, description),
        _ => sid(MARK, &format!("{description} | {number}")),
    })
}

/// Creates statements that no operator owns for these contributions. All contributions with the
/// same actions and the same kind of callers share one statement, because AWS accepts each Sid only
/// once. A Sid is the mark (letters and digits) and 16 hex digits derived from the seed and from
/// the access that the statement allows. The same seed always gives the same Sid. No installation
/// recognises it as its own, unless the mark is that of an installation.
pub fn unowned_statements(mark: &str, seed: &str, asked: &[Contribution]) -> Vec<Statement> {
    joined(asked)
        .iter()
        .map(|asked| unowned_statement(sid(mark, &group(seed, asked)), asked))
        .collect()
}

/// Joins the contributions with the same actions and the same kind of callers.
fn joined(asked: &[Contribution]) -> Vec<Contribution> {
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
}

/// Describes the access that shares one statement.
fn group(seed: &str, Contribution { actions, callers }: &Contribution) -> String {
    let names: Vec<&str> = actions.iter().map(String::as_str).collect();
    format!("{seed} | {} | {}", names.join(" "), callers.kind().shape())
}

fn sid(mark: &str, description: &str) -> String {
    format!("{mark}{}", hex(description, DIGITS))
}

fn unowned_statement(sid: String, Contribution { actions, callers }: &Contribution) -> Statement {
    Statement::allow(actions.iter().cloned())
        .sid(sid)
        .to(callers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::principals::PrincipalSet;
    use crate::policy::repository::scope::{Growth, Scope};
    use crate::policy::repository::{PolicyUpdate, plan, plan_within};
    use rstest::rstest;

    fn installation() -> Installation {
        "0123456789ab".parse().unwrap()
    }

    fn root(id: u64) -> String {
        format!("arn:aws:iam::{}:root", 100_000_000_000 + id)
    }

    fn wanted(id: u64, stays: bool) -> GrantContribution<u64> {
        let callers = PrincipalSet::named([root(id)]);
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

    /// The Sids for grant 1 of [`wanted`], in the order in which they are tried.
    const SIDS: [&str; 3] = [
        "Retained970fbe53bbf2780a",
        "Retained6c073f15079a0ea5",
        "Retainedb657f99c5e901b24",
    ];
    const ROOT: &str = r#"{"AWS":"arn:aws:iam::100000000001:root"}"#;

    /// Creates a document of one statement for each of these Sids, actions and principals.
    fn document(statements: &[(&str, &str, &str)]) -> Document {
        let statements: Vec<String> = statements
            .iter()
            .map(|(sid, action, principal)| {
                format!(
                    r#"{{"Sid":"{sid}","Effect":"Allow","Principal":{principal},"Action":"{action}"}}"#
                )
            })
            .collect();
        let statements = statements.join(",");
        Document::parse(&format!(
            r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#
        ))
        .unwrap()
    }

    /// Returns the document after grant 1 has been retained in it, and checks that a second run
    /// changes nothing.
    fn after_retaining(before: &Document) -> Document {
        let run = |text: &str| plan(Some(text), &[wanted(1, true)], &installation()).unwrap();
        let planned = run(&before.to_string());
        assert_eq!(planned.retained, [1].into());
        let after = match planned.change {
            PolicyUpdate::None => before.clone(),
            change => set(change),
        };
        assert_eq!(run(&after.to_string()).change, PolicyUpdate::None);
        after
    }

    #[test]
    fn retained_sids_differ_and_never_change() {
        let description = "grant 1 | ecr:BatchGetImage | ";
        let sids: Vec<String> = retained_sids(description).take(3).collect();
        assert_eq!(sids, SIDS);
    }

    #[test]
    fn edited_statement_stays_and_access_gets_the_next_sid() {
        let edited = (SIDS[0], "ecr:DescribeImages", ROOT);
        assert_eq!(
            after_retaining(&document(&[edited])),
            document(&[edited, (SIDS[1], "ecr:BatchGetImage", ROOT)])
        );
        let second = (SIDS[1], "ecr:ListImages", ROOT);
        assert_eq!(
            after_retaining(&document(&[edited, second])),
            document(&[edited, second, (SIDS[2], "ecr:BatchGetImage", ROOT)])
        );
    }

    #[test]
    fn denying_or_limited_statement_is_not_reused() {
        let text = document(&[(SIDS[0], "ecr:BatchGetImage", ROOT)]).to_string();
        let denied = text.replace("Allow", "Deny");
        let condition = r#""Condition":{"Bool":{"aws:SecureTransport":"true"}},"Effect""#;
        for text in [denied, text.replace(r#""Effect""#, condition)] {
            let edited = Document::parse(&text).unwrap();
            let added = document(&[(SIDS[1], "ecr:BatchGetImage", ROOT)]);
            assert_eq!(
                after_retaining(&edited),
                edited.clone().with(added.statements)
            );
        }
    }

    #[rstest]
    #[case::all_actions("ecr:*", ROOT)]
    #[case::further_principals(
        "ecr:BatchGetImage",
        r#"{"AWS":["arn:aws:iam::100000000001:root","arn:aws:iam::100000000007:root"]}"#
    )]
    fn statement_that_allows_as_much_is_reused(#[case] action: &str, #[case] principal: &str) {
        let edited = document(&[(SIDS[0], action, principal)]);
        assert_eq!(after_retaining(&edited), edited);
        // Our statement goes, because the foreign one allows its access.
        let ours = set(plan(None, &[wanted(1, false)], &installation())
            .unwrap()
            .change);
        let both = edited.clone().with(ours.statements);
        assert_eq!(after_retaining(&both), edited);
    }

    /// AWS refused the whole document, so that the access of one grant is written in steps.
    #[test]
    fn access_retained_in_steps_shares_one_statement() {
        let other = "arn:aws:iam::100000000002:root";
        let mut both = wanted(1, true);
        both.contributions[0].callers = PrincipalSet::named([root(1), other.to_owned()]);
        let scope = Scope {
            growth: Growth::Only([other.to_owned()].into()),
            ..Scope::default()
        };
        let first = document(&[(SIDS[0], "ecr:BatchGetImage", ROOT)]);
        let planned = plan_within(Some(first), &[both], &scope, &installation());
        let principals = format!(r#"{{"AWS":["{}","{other}"]}}"#, root(1));
        assert_eq!(
            set(planned.change),
            document(&[(SIDS[0], "ecr:BatchGetImage", &principals)])
        );
    }

    /// Somebody limited the organization's members to one account of it.
    #[test]
    fn statement_for_fewer_principals_does_not_replace_ours() {
        let mut grant = wanted(1, true);
        let organization = "o-a1b2c3d4e5".to_owned();
        grant.contributions[0].callers =
            PrincipalSet::in_organizations([organization], "111111111111");
        let written = set(plan(None, &[grant.clone()], &installation())
            .unwrap()
            .change);
        let edited = written.to_string().replace(r#"{"AWS":"*"}"#, ROOT);
        assert_ne!(edited, written.to_string());
        let after = set(plan(Some(&edited), &[grant], &installation())
            .unwrap()
            .change);
        let meanings: Vec<_> = after.statements.iter().map(Statement::meaning).collect();
        assert!(
            meanings.contains(&written.statements[0].meaning()),
            "{after}"
        );
    }

    /// Joined with ours, the edited statement would allow everybody in its own organization.
    #[test]
    fn statement_that_joining_would_widen_is_not_joined() {
        let mut grant = wanted(1, true);
        grant.contributions[0].callers =
            PrincipalSet::in_organizations(["o-a1b2c3d4e5".to_owned()], "111111111111");
        let written = set(plan(None, &[grant.clone()], &installation())
            .unwrap()
            .change);
        let edited = written
            .to_string()
            .replace(r#"{"AWS":"*"}"#, ROOT)
            .replace("o-a1b2c3d4e5", "o-b1b2c3d4e5");
        let after = set(plan(Some(&edited), &[grant], &installation())
            .unwrap()
            .change);
        assert_eq!(after.statements.len(), 2, "{after}");
        assert_eq!(
            after.statements[0],
            Document::parse(&edited).unwrap().statements[0]
        );
        assert_eq!(
            after.statements[1].meaning(),
            written.statements[0].meaning()
        );
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
