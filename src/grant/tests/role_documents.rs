//! Roles and instance profiles with more than one author: no grant strips, blocks or displaces
//! another's parts. Repository policies are tested where they are planned.

use super::drift::{changed_role, foreign_statements, our_tags, unreadable};
use super::iam::Iam;
use super::resources::{
    CONSUMER, Cluster, consumer_rule, grant, grant_with_plain_role, installation, now, owner,
};
use super::resources::{registry_rule, strings};
use crate::api::conditions::Reason;
use crate::api::grant::{Management, OnDelete};
use crate::grant::desired::DesiredInstance;
use crate::grant::diff::{
    Departure, Sharers, Step, instance, refused_trust, registry_role, retain_instance_role,
    without_instance,
};
use crate::grant::observed::{Instance, Role};
use crate::grant::ownership::Owner;
use crate::policy::dead_ids::{self, Cleaned};
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use rstest::rstest;
use std::collections::BTreeSet;

const ROLE: &str = "miq-instance";
const DEAD: &str = "AROADEADDEADDEADDEAD1";

fn named(name: &str) -> Owner {
    let mut owner = owner();
    owner.grant.name = name.into();
    owner.uid = format!("uid of {name}");
    owner
}

fn desired_by(owner: &Owner, management: Management) -> DesiredInstance {
    let rules = consumer_rule(|rule| {
        rule.roles = strings(["registry-grants/miq-instance", "miq-instance"]);
        rule.management = vec![Management::Create, Management::Extend];
    });
    let asked = grant(|spec| spec.consumer.instance_role.as_mut().unwrap().management = management);
    let cluster = Cluster::of_the_article()
        .registry_rules([registry_rule(|_| {})])
        .consumer_rules([rules]);
    cluster.admitted(&asked).desired(owner).instance.unwrap()
}

/// Action of one of the grants that share a role.
#[derive(Clone, Copy, Debug)]
enum Does {
    Keep,
    Delete,
    RemoveAccess,
    Retain,
}

fn others_of(owner: &Owner, all: &[Owner]) -> Sharers {
    Sharers {
        keeping: all
            .iter()
            .filter(|other| *other != owner)
            .cloned()
            .collect(),
        leaving: Vec::new(),
    }
}

fn steps(does: Does, owner: &Owner, all: &[Owner], observed: &Instance) -> Vec<Step> {
    let sharers = others_of(owner, all);
    let without = |on_delete| {
        without_instance(
            ROLE,
            Some(ROLE),
            observed,
            &Departure {
                owner,
                sharers: &sharers,
                on_delete,
            },
        )
        .0
    };
    match does {
        Does::Keep => instance(
            &desired_by(owner, Management::Create),
            observed,
            owner,
            &sharers,
        )
        .unwrap(),
        Does::Delete => without(OnDelete::DeleteRole),
        Does::RemoveAccess => without(OnDelete::RemoveAccess),
        Does::Retain => retain_instance_role(ROLE, Some(ROLE), observed, owner, &sharers).unwrap(),
    }
}

/// Returns whether a grant has its access through the role and profile that it shares.
fn has_access(iam: &Iam, owner: &Owner) -> bool {
    let Some(role) = iam.roles.get(ROLE) else {
        return false;
    };
    let desired = desired_by(owner, Management::Create).role;
    let inline = desired.inline.is_some_and(|(name, document)| {
        role.inline.get(&name).is_some_and(|found| {
            found
                .as_ref()
                .is_ok_and(|found| found.same_meaning(&document))
        })
    });
    let is_ours = |statement: &Statement| {
        installation().owns(statement) && statement.meaning() == desired.trust.meaning()
    };
    let trusted = role
        .trust
        .as_ref()
        .is_ok_and(|trust| trust.statements.iter().any(is_ours));
    inline
        && trusted
        && iam
            .profiles
            .get(ROLE)
            .is_some_and(|profile| profile.roles.contains(ROLE))
}

/// Returns an account with the role of these grants and with foreign parts on it.
fn shared(all: &[Owner], foreign: &[Statement], attached: bool) -> Iam {
    let mut iam = Iam::default();
    for owner in all {
        let steps = steps(Does::Keep, owner, all, &iam.instance(ROLE, ROLE));
        iam.apply(&steps);
    }
    let role = iam.roles.get_mut(ROLE).unwrap();
    role.trust = role
        .trust
        .clone()
        .map(|trust| trust.with(foreign.iter().cloned()));
    if attached {
        role.attached
            .insert("arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore".into());
        role.inline.insert("logs".into(), unreadable());
    }
    iam
}

proptest! {
    /// Stripping: checked after each single call, so that it also holds if the operator stops
    /// there.
    #[test]
    fn no_step_takes_access_from_another_managing_grant(
        foreign in foreign_statements(),
        attached in any::<bool>(),
        goes in 0_usize..3,
        does in prop::sample::select(vec![Does::Keep, Does::Delete, Does::RemoveAccess, Does::Retain]),
        lost in prop::option::of(0_usize..3),
    ) {
        let all = ["a", "b", "c"].map(named);
        let mut iam = shared(&all, &foreign, attached);
        if let Some(lost) = lost {
            // Removed by hand: the other grants keep their policies while that is corrected.
            iam.roles.get_mut(ROLE).unwrap().inline.remove(&all[lost].policy_name());
        }
        let had: Vec<&Owner> = all.iter().filter(|owner| has_access(&iam, owner)).collect();
        let acts = &all[goes];
        for step in steps(does, acts, &all, &iam.instance(ROLE, ROLE)) {
            iam.apply(std::slice::from_ref(&step));
            for owner in had.iter().filter(|owner| **owner != acts) {
                prop_assert!(has_access(&iam, owner), "{} takes from {}: {step}", acts.grant, owner.grant);
            }
        }
    }

    /// Stripping, in the registry account: whatever the drift of the role, every trust policy that
    /// is written names its consumer.
    #[test]
    fn every_written_registry_trust_allows_the_consumer(
        role in changed_role(
            &Cluster::of_the_article().desired(&grant_with_plain_role(|_| {})).registry_role.unwrap(),
            our_tags(),
        ),
    ) {
        let desired = Cluster::of_the_article().desired(&grant_with_plain_role(|_| {})).registry_role.unwrap();
        let ours = owner().policy_name();
        let mut iam = Iam::default().with_role(&desired.name, Some(role.clone()));
        for step in registry_role(&desired, Some(&role), &owner(), now()).unwrap() {
            if let Step::UpdateTrust { trust, .. } = &step {
                prop_assert!(trust.same_meaning(&Document::of([desired.trust.clone()])));
            }
            iam.apply(std::slice::from_ref(&step));
            let kept = !role.inline.contains_key(&ours) || iam.roles[&desired.name].inline.contains_key(&ours);
            prop_assert!(kept, "its permissions are taken away for a moment: {}", step);
        }
    }
}

/// Returns the steps before the trust policy. IAM refuses that one while the document names a
/// deleted principal, and everything else is applied.
fn until_the_trust_policy(steps: &[Step]) -> &[Step] {
    let refused = steps
        .iter()
        .position(|step| matches!(step, Step::UpdateTrust { .. }));
    &steps[..refused.expect("a write of the trust policy")]
}

fn dead_statement() -> Statement {
    Statement::allow(["sts:AssumeRole"])
        .sid("OldDeployer")
        .to_principals([DEAD])
}

fn alive_statement() -> Statement {
    Statement::allow(["sts:AssumeRole"]).to_service("ssm.amazonaws.com")
}

/// Blocking: if IAM refuses a document because of another author's statement, everything else is
/// done all the same.
#[test]
fn refused_trust_policy_does_not_stop_other_steps() {
    let all = ["a", "b"].map(named);
    let mut iam = shared(&all[..1], &[], false);
    // Somebody replaced the trust policy, and named a role that has been deleted since.
    iam.roles.get_mut(ROLE).unwrap().trust = Ok(Document::of([dead_statement()]));
    iam.profiles.clear();
    let new = steps(Does::Keep, &all[1], &all, &iam.instance(ROLE, ROLE));
    iam.apply(until_the_trust_policy(&new));
    assert!(iam.roles[ROLE].inline.contains_key(&all[1].policy_name()));
    assert!(iam.profiles[ROLE].roles.contains(ROLE));
}

#[rstest]
#[case::of_others(Management::Extend, OnDelete::DeleteRole)]
#[case::that_stays(Management::Create, OnDelete::RemoveAccess)]
#[case::that_others_use(Management::Create, OnDelete::DeleteRole)]
fn refused_trust_policy_does_not_keep_the_inline_policy(
    #[case] management: Management,
    #[case] on_delete: OnDelete,
) {
    let mut iam = blocked(management);
    let observed = iam.instance(ROLE, ROLE);
    let (off, _) = without_instance(
        ROLE,
        Some(ROLE),
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete,
        },
    );
    iam.apply(until_the_trust_policy(&off));
    assert!(!iam.roles[ROLE].inline.contains_key(&owner().policy_name()));
    // By its tags the role belongs to this grant until everything is done.
    assert_eq!(iam.roles[ROLE].tags, observed.role.unwrap().tags);
}

/// Returns an account with a role that has our statement, one for a service, and one for a
/// principal that was deleted.
fn blocked(management: Management) -> Iam {
    let all = [owner()];
    let mut iam = shared(&all, &[alive_statement(), dead_statement()], true);
    if management == Management::Extend {
        let role = iam.roles.get_mut(ROLE).unwrap();
        role.tags = [(
            "registrygrants.dev/allow-extend".to_owned(),
            "true".to_owned(),
        )]
        .into();
        iam.profiles.clear();
    }
    iam
}

fn dead() -> BTreeSet<String> {
    [DEAD.to_owned()].into()
}

fn without_dead(role: &mut Role) -> Vec<Statement> {
    let Cleaned {
        document,
        originals,
    } = dead_ids::without(role.trust.as_ref().unwrap(), &dead(), &installation());
    role.trust = Ok(document);
    originals
}

#[test]
fn deleted_principal_that_blocks_a_trust_policy_is_named() {
    let iam = blocked(Management::Extend);
    let trust = iam.roles[ROLE].trust.clone().unwrap();
    let account = CONSUMER.parse().unwrap();
    let problem = refused_trust(&account, ROLE, &trust, "IAM's words", &installation()).unwrap();
    assert_eq!(problem.reason, Reason::BlockedPolicy);
    insta::assert_snapshot!(problem.message, @"the trust policy of role miq-instance in account 222222222222 cannot be written, because statement `OldDeployer`, which is not this operator's, names AROADEADDEADDEADDEAD1, the unique ID of a deleted principal: IAM refuses the whole document. Remove that principal or that statement in IAM (IAM's words)");
    let healthy = Document::of([alive_statement()]);
    assert_eq!(
        refused_trust(&account, ROLE, &healthy, "", &installation()),
        None
    );
}

#[test]
fn revocation_completes_once_the_dead_principal_is_proven() {
    let mut iam = blocked(Management::Extend);
    let mut observed = iam.instance(ROLE, "");
    assert_eq!(
        without_dead(observed.role.as_mut().unwrap()),
        [dead_statement()]
    );
    let (off, left) = without_instance(
        ROLE,
        None,
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete: OnDelete::DeleteRole,
        },
    );
    assert_eq!(left, None);
    iam.apply(&off);
    let trust = iam.roles[ROLE].trust.as_ref().unwrap();
    assert_eq!(trust.meaning(), Document::of([alive_statement()]).meaning());
}

#[test]
fn empty_trust_policy_is_never_written() {
    let mut iam = blocked(Management::Extend);
    let role = iam.roles.get_mut(ROLE).unwrap();
    role.trust = Ok(Document::of([
        dead_statement(),
        desired_by(&owner(), Management::Create).role.trust,
    ]));
    let mut observed = iam.instance(ROLE, "");
    without_dead(observed.role.as_mut().unwrap());
    let (off, left) = without_instance(
        ROLE,
        None,
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete: OnDelete::DeleteRole,
        },
    );
    assert_eq!((off.len(), left), (1, None), "{off:?}");
    assert!(matches!(off[0], Step::DeleteInlinePolicy { .. }));
}

#[test]
fn role_used_only_by_dead_principals_and_us_is_deleted() {
    let mut iam = shared(&[owner()], &[dead_statement()], false);
    let mut observed = iam.instance(ROLE, ROLE);
    without_dead(observed.role.as_mut().unwrap());
    let (off, left) = without_instance(
        ROLE,
        Some(ROLE),
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete: OnDelete::DeleteRole,
        },
    );
    assert_eq!(left, None);
    iam.apply(&off);
    assert_eq!(iam, Iam::default());
}

/// Displacement: a grant that is in place stays in place, whatever others add to the same
/// documents.
#[test]
fn full_foreign_trust_policy_does_not_push_grants_out() {
    let all = ["a", "b"].map(named);
    let many: Vec<Statement> = (0..20)
        .map(|number| {
            Statement::allow(["sts:AssumeRole"])
                .sid(format!("Theirs{number}{}", "x".repeat(90)))
                .to_service("ssm.amazonaws.com")
        })
        .collect();
    let mut iam = shared(&all[..1], &many, false);
    let desired = desired_by(&all[0], Management::Create).role;
    assert!(iam.roles[ROLE].trust.as_ref().unwrap().characters() > desired.max_trust_characters);
    // Our statement in it is right and needs no more room. So the policies are managed, and another
    // grant finds its place.
    iam.roles.get_mut(ROLE).unwrap().inline.clear();
    for owner in &all {
        let steps = steps(Does::Keep, owner, &all, &iam.instance(ROLE, ROLE));
        assert!(
            matches!(steps[..], [Step::PutInlinePolicy { .. }]),
            "{steps:?}"
        );
        iam.apply(&steps);
    }
    assert!(all.iter().all(|owner| has_access(&iam, owner)));
}

/// IAM limits the inline policies of a role together. Each grant writes only its own policy, so a
/// grant that grows finds no room and takes none from others.
#[test]
fn grant_never_changes_the_policy_of_another() {
    let all = ["a", "b", "c"].map(named);
    let iam = shared(&all, &[alive_statement()], true);
    for owner in &all {
        for does in [Does::Keep, Does::Delete, Does::RemoveAccess, Does::Retain] {
            for step in steps(does, owner, &all, &iam.instance(ROLE, ROLE)) {
                if let Step::PutInlinePolicy { policy, .. }
                | Step::DeleteInlinePolicy { policy, .. } = &step
                {
                    assert_eq!(*policy, owner.policy_name(), "{step}");
                }
            }
        }
    }
}
