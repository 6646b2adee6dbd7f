//! Instance roles that several grants manage, that others created, or that stay when their grant
//! goes.

use super::iam::Iam;
use super::resources::{
    CONSUMER, Cluster, consumer_rule, grant, installation, owner, registry_rule, strings,
};
use crate::api::conditions::Reason;
use crate::api::grant::{CrossAccountRegistryGrantSpec as Spec, Management, OnDelete};
use crate::grant::Problem;
use crate::grant::desired::DesiredInstance;
use crate::grant::diff::{
    Departure, Sharers, Step, instance, retain_instance_role, without_instance,
};
use crate::grant::observed::Role;
use crate::grant::ownership::{Owner, TAG_ALLOW_EXTEND};
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use rstest::rstest;

const ROLE: &str = "miq-instance";

fn desired_by(owner: &Owner, change: impl FnOnce(&mut Spec)) -> DesiredInstance {
    let roles = strings(["registry-grants/miq-instance", "miq-instance", "nodes/*"]);
    let management = vec![Management::Create, Management::Extend];
    Cluster::of_the_article()
        .registry_rules([registry_rule(|_| {})])
        .consumer_rules([consumer_rule(|rule| {
            (rule.roles, rule.management) = (roles, management)
        })])
        .admitted(&grant(change))
        .desired(owner)
        .instance
        .unwrap()
}

fn named(name: &str) -> Owner {
    let mut owner = owner();
    owner.grant.name = name.into();
    owner.uid = format!("uid of {name}");
    owner
}

/// Account, and the grants that manage the role.
#[derive(Clone, Debug, Default)]
struct Life {
    iam: Iam,
    keeping: Vec<Owner>,
    leaving: Vec<Owner>,
}

impl Life {
    fn sharers(&self, owner: &Owner) -> Sharers {
        let others = |list: &[Owner]| {
            list.iter()
                .filter(|other| *other != owner)
                .cloned()
                .collect::<Vec<_>>()
        };
        Sharers {
            keeping: others(&self.keeping),
            leaving: others(&self.leaving),
        }
    }

    fn look(&mut self, owner: &Owner) -> Result<Vec<Step>, Problem> {
        let desired = desired_by(owner, |_| {});
        let steps = instance(
            &desired,
            &self.iam.instance(ROLE, ROLE),
            owner,
            &self.sharers(owner),
        )?;
        self.iam.apply(&steps);
        Ok(steps)
    }

    fn create(&mut self, owner: &Owner) {
        self.keeping.push(owner.clone());
        self.look(owner).unwrap();
    }

    /// Marks the grant as no longer managing the role. [`Self::remove`] removes its parts.
    fn let_go(&mut self, owner: &Owner) {
        self.keeping.retain(|other| other != owner);
        self.leaving.push(owner.clone());
    }

    fn remove(&mut self, owner: &Owner) {
        let observed = self.iam.instance(ROLE, ROLE);
        let sharers = self.sharers(owner);
        let (steps, held) = without_instance(
            ROLE,
            Some(ROLE),
            &observed,
            &Departure {
                owner,
                sharers: &sharers,
                on_delete: OnDelete::DeleteRole,
            },
        );
        assert_eq!(held, None);
        self.iam.apply(&steps);
        self.leaving.retain(|other| other != owner);
    }

    fn has_policy_of(&self, owner: &Owner) -> bool {
        self.iam
            .roles
            .get(ROLE)
            .is_some_and(|role| role.inline.contains_key(&owner.policy_name()))
    }
}

proptest! {
    #[test]
    fn shared_role_is_deleted_with_the_last_of_its_grants(
        come in Just(["a", "b", "c"]).prop_shuffle(),
        let_go in Just(["a", "b", "c"]).prop_shuffle(),
        remove in Just(["a", "b", "c"]).prop_shuffle(),
        at_once in any::<bool>(),
    ) {
        let mut life = Life::default();
        for name in come {
            life.create(&named(name));
        }
        for name in come {
            prop_assert!(life.has_policy_of(&named(name)));
            prop_assert_eq!(life.look(&named(name)).unwrap(), [], "{} writes again", name);
        }
        if at_once {
            for name in let_go {
                life.let_go(&named(name));
            }
            for name in remove {
                life.remove(&named(name));
            }
        } else {
            for (gone, name) in let_go.iter().enumerate() {
                life.let_go(&named(name));
                life.remove(&named(name));
                prop_assert!(!life.has_policy_of(&named(name)));
                for stays in &let_go[gone + 1..] {
                    prop_assert!(life.has_policy_of(&named(stays)));
                    prop_assert_eq!(life.look(&named(stays)).unwrap(), []);
                }
            }
        }
        prop_assert_eq!(life.iam, Iam::default());
    }
}

#[test]
fn role_is_not_shared_with_a_grant_that_left_it() {
    let mut life = Life::default();
    life.create(&named("a"));
    life.keeping.clear();
    assert_eq!(life.look(&named("b")).unwrap_err().reason, Reason::Conflict);
}

/// Returns a foreign role, with a policy and a trust statement of its own.
fn foreign(change: impl FnOnce(&mut Role)) -> Role {
    let policy = Document::of([Statement::allow(["logs:PutLogEvents"]).on(["*"])]);
    let mut role = Role {
        arn: format!("arn:aws:iam::{CONSUMER}:role/miq-instance"),
        id: "AROATHEIRS".into(),
        path: "/".into(),
        trust: Ok(Document::of([
            Statement::allow(["sts:AssumeRole"]).to_service("ssm.amazonaws.com")
        ])),
        max_session_seconds: 7200,
        boundary: None,
        tags: [
            (TAG_ALLOW_EXTEND.to_owned(), "true".to_owned()),
            ("team".to_owned(), "b".to_owned()),
        ]
        .into(),
        inline: [("logs".to_owned(), Ok(policy))].into(),
        attached: ["arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore".to_owned()].into(),
    };
    change(&mut role);
    role
}

fn extending() -> DesiredInstance {
    desired_by(&owner(), |spec| {
        spec.consumer.instance_role.as_mut().unwrap().management = Management::Extend
    })
}

fn extend(role: Option<Role>) -> Result<(Vec<Step>, Iam), Problem> {
    let mut iam = Iam::default().with_role(ROLE, role);
    let steps = instance(
        &extending(),
        &iam.instance(ROLE, ""),
        &owner(),
        &Sharers::default(),
    )?;
    iam.apply(&steps);
    assert_eq!(
        instance(
            &extending(),
            &iam.instance(ROLE, ""),
            &owner(),
            &Sharers::default()
        ),
        Ok(Vec::new())
    );
    Ok((steps, iam))
}

fn words(steps: &[Step]) -> String {
    let lines: Vec<String> = steps.iter().map(ToString::to_string).collect();
    lines.join("\n").replace(&owner().policy_name(), "OURS")
}

#[rstest]
#[case::of_this_installation("0123456789ab")]
#[case::of_any("true")]
fn extended_role_gets_one_policy_that_is_removed_entirely(#[case] consent: &str) {
    let theirs = foreign(|role| drop(role.tags.insert(TAG_ALLOW_EXTEND.into(), consent.into())));
    let (steps, mut iam) = extend(Some(theirs.clone())).unwrap();
    assert_eq!(words(&steps), "set policy OURS of role miq-instance");
    assert_eq!(
        take_off(&mut iam),
        "delete policy OURS of role miq-instance"
    );
    assert_eq!(iam.roles[ROLE], theirs);
}

fn take_off(iam: &mut Iam) -> String {
    let (observed, none) = (iam.instance(ROLE, ""), Sharers::default());
    let (steps, left) = without_instance(
        ROLE,
        None,
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &none,
            on_delete: OnDelete::DeleteRole,
        },
    );
    assert_eq!(left, None);
    iam.apply(&steps);
    words(&steps)
}

/// Trust policies of roles that are extended: field case 06, and other forms that already trust
/// EC2.
#[rstest]
#[case::ecs_tasks(r#"{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}"#)]
#[case::ec2(
    r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}"#
)]
#[case::ec2_and_ecs(
    r#"{"Effect":"Allow","Principal":{"Service":["ec2.amazonaws.com","ecs.amazonaws.com"]},"Action":"sts:AssumeRole"}"#
)]
#[case::tagged(
    r#"{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole","sts:TagSession"]}"#
)]
#[case::a_deleted_principal(
    r#"{"Sid":"OldDeployer","Effect":"Allow","Principal":{"AWS":"AROADEADDEADDEADDEAD1"},"Action":"sts:AssumeRole"}"#
)]
fn trust_policy_of_an_extended_role_is_never_written(#[case] statement: &str) {
    let trust = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
    let (steps, _) = extend(Some(foreign(|role| role.trust = Document::parse(&trust)))).unwrap();
    assert_eq!(words(&steps), "set policy OURS of role miq-instance");
}

#[test]
fn role_with_unreadable_trust_can_be_extended() {
    let (steps, _) = extend(Some(foreign(|role| role.trust = Document::parse("[]")))).unwrap();
    assert_eq!(words(&steps), "set policy OURS of role miq-instance");
}

/// Earlier versions added a trust statement.
#[test]
fn earlier_trust_statement_stays_until_the_grant_leaves() {
    let theirs = foreign(|_| {});
    let before = theirs.trust.clone().unwrap();
    let ours = extending().role.trust;
    let (steps, mut iam) = extend(Some(foreign(|role| {
        role.trust = Ok(before.clone().with([ours]))
    })))
    .unwrap();
    assert_eq!(words(&steps), "set policy OURS of role miq-instance");
    let off = "delete policy OURS of role miq-instance\nset the trust policy of role miq-instance";
    assert_eq!(take_off(&mut iam), off);
    let after = &iam.roles[ROLE];
    assert_eq!(after.trust.as_ref().unwrap().meaning(), before.meaning());
    assert_eq!(
        Role {
            trust: theirs.trust.clone(),
            ..after.clone()
        },
        theirs
    );
}

#[rstest]
#[case::without_the_tag(|role: &mut Role| drop(role.tags.remove(TAG_ALLOW_EXTEND)), Reason::ConsentMissing, "registrygrants.dev/allow-extend")]
#[case::for_another_installation(|role: &mut Role| drop(role.tags.insert(TAG_ALLOW_EXTEND.into(), "ffffffffffff".into())), Reason::ConsentMissing, "0123456789ab")]
#[case::refused(|role: &mut Role| drop(role.tags.insert(TAG_ALLOW_EXTEND.into(), "false".into())), Reason::ConsentMissing, "true")]
#[case::elsewhere(|role: &mut Role| role.path = "/nodes/".into(), Reason::Conflict, "/nodes/")]
#[case::made_by_another_grant(|role: &mut Role| role.tags.extend(named("a").tags()), Reason::Conflict, "grant team-b/a")]
fn role_without_consent_is_left_unchanged(
    #[case] change: fn(&mut Role),
    #[case] reason: Reason,
    #[case] says: &str,
) {
    let problem = extend(Some(foreign(change))).unwrap_err();
    assert_eq!(problem.reason, reason);
    assert!(problem.message.contains(says), "{}", problem.message);
}

#[test]
fn extending_a_missing_role_reports_role_not_found() {
    assert_eq!(extend(None).unwrap_err().reason, Reason::RoleNotFound);
}

#[test]
fn role_with_withdrawn_consent_can_be_released() {
    let (_, mut iam) = extend(Some(foreign(|_| {}))).unwrap();
    iam.roles
        .get_mut(ROLE)
        .unwrap()
        .tags
        .remove(TAG_ALLOW_EXTEND);
    let observed = iam.instance(ROLE, "");
    let (steps, _) = without_instance(
        ROLE,
        None,
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &Sharers::default(),
            on_delete: OnDelete::DeleteRole,
        },
    );
    assert_eq!(words(&steps), "delete policy OURS of role miq-instance");
}

fn ours() -> Iam {
    let mut life = Life::default();
    life.create(&owner());
    life.iam
}

#[test]
fn role_with_remove_access_stays_in_its_profile_unowned() {
    let mut iam = ours();
    let observed = iam.instance(ROLE, ROLE);
    let none = Sharers::default();
    let (steps, _) = without_instance(
        ROLE,
        Some(ROLE),
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &none,
            on_delete: OnDelete::RemoveAccess,
        },
    );
    iam.apply(&steps);
    let after = iam.instance(ROLE, ROLE);
    let role = after.role.clone().unwrap();
    assert!(role.inline.is_empty() && role.tags.is_empty(), "{role:?}");
    assert!(
        !role
            .trust
            .unwrap()
            .statements
            .iter()
            .any(|statement| installation().owns(statement))
    );
    assert_eq!(
        after.profile.clone().unwrap().roles,
        [ROLE.to_owned()].into()
    );
    assert!(after.profile.clone().unwrap().tags.is_empty());
    let again = without_instance(
        ROLE,
        Some(ROLE),
        &after,
        &Departure {
            owner: &owner(),
            sharers: &none,
            on_delete: OnDelete::RemoveAccess,
        },
    );
    assert_eq!(again, (Vec::new(), None));
}

#[test]
fn retained_role_keeps_its_access_and_loses_its_owner() {
    let mut iam = ours();
    let before = iam.roles[ROLE].clone();
    let steps = retain_instance_role(
        ROLE,
        Some(ROLE),
        &iam.instance(ROLE, ROLE),
        &owner(),
        &Sharers::default(),
    )
    .unwrap();
    iam.apply(&steps);
    let role = &iam.roles[ROLE];
    assert_eq!(role.inline, before.inline);
    assert_eq!(
        role.trust.as_ref().unwrap().meaning(),
        before.trust.unwrap().meaning()
    );
    assert!(
        !role
            .trust
            .as_ref()
            .unwrap()
            .statements
            .iter()
            .any(|statement| installation().owns(statement))
    );
    assert!(role.tags.is_empty() && iam.profiles[ROLE].tags.is_empty());
    let again = retain_instance_role(
        ROLE,
        Some(ROLE),
        &iam.instance(ROLE, ROLE),
        &owner(),
        &Sharers::default(),
    );
    assert_eq!(again, Ok(Vec::new()));
}

/// The Sids for our trust statement after a retention, in the order in which they are tried.
const RETAINED: [&str; 2] = ["Retained3e07357b59458c0e", "Retained1c88f2c960777f4b"];

/// Somebody tagged a retained role as ours again, so that its trust policy already has the Sid.
#[rstest]
#[case::same("ec2.amazonaws.com", &[RETAINED[0]])]
#[case::edited("ecs-tasks.amazonaws.com", &RETAINED)]
fn role_retained_again_keeps_edited_trust(#[case] service: &str, #[case] sids: &[&str]) {
    let mut iam = ours();
    let known = Statement::allow(["sts:AssumeRole"])
        .sid(RETAINED[0])
        .to_service(service);
    let trust = iam.roles[ROLE].trust.clone().unwrap();
    let role = iam.roles.get_mut(ROLE).unwrap();
    role.trust = Ok(trust.clone().with([known.clone()]));
    let observed = iam.instance(ROLE, ROLE);
    let none = Sharers::default();
    let steps = retain_instance_role(ROLE, Some(ROLE), &observed, &owner(), &none).unwrap();
    iam.apply(&steps);
    let after = iam.roles[ROLE].trust.clone().unwrap();
    let moved = trust.statements.into_iter().zip(RETAINED.iter().skip(1));
    let wanted = [known]
        .into_iter()
        .chain(moved.map(|(ours, sid)| ours.sid(*sid)))
        .take(sids.len());
    assert!(after.same_meaning(&Document::of(wanted)), "{after}");
    let found: Vec<_> = after
        .statements
        .iter()
        .filter_map(Statement::sid_text)
        .collect();
    assert_eq!(found, sids);
}

#[test]
fn shared_role_retained_by_one_grant_passes_to_the_other() {
    let mut life = Life::default();
    let (first, second) = (named("a"), named("b"));
    life.create(&first);
    life.create(&second);
    life.let_go(&first);
    let sharers = life.sharers(&first);
    let steps = retain_instance_role(
        ROLE,
        Some(ROLE),
        &life.iam.instance(ROLE, ROLE),
        &first,
        &sharers,
    )
    .unwrap();
    life.iam.apply(&steps);
    life.leaving.clear();
    assert!(life.has_policy_of(&first) && second.owns(&life.iam.roles[ROLE].tags));
    assert_eq!(life.look(&second).unwrap(), []);
    life.let_go(&second);
    life.remove(&second);
    assert!(
        life.has_policy_of(&first),
        "it has become foreign, and keeps the role"
    );
}

#[test]
fn role_in_a_foreign_profile_loses_access_naming_the_profile() {
    let mut iam = ours();
    let mut observed = iam.instance(ROLE, ROLE);
    observed.held_by = [ROLE.to_owned(), "theirs".to_owned()].into();
    let none = Sharers::default();
    let (steps, held) = without_instance(
        ROLE,
        Some(ROLE),
        &observed,
        &Departure {
            owner: &owner(),
            sharers: &none,
            on_delete: OnDelete::DeleteRole,
        },
    );
    iam.apply(&steps);
    let held = held.unwrap();
    assert_eq!(held.reason, Reason::StillInUse);
    assert!(
        held.message.contains("theirs") && !held.message.contains("profile miq"),
        "{}",
        held.message
    );
    assert!(iam.roles[ROLE].inline.is_empty() && iam.profiles.is_empty());
}

#[test]
fn role_of_a_vanished_owner_passes_to_its_sharer() {
    let mut life = Life::default();
    let (lost, stays) = (named("a"), named("b"));
    life.create(&lost);
    life.create(&stays);
    life.keeping.retain(|owner| *owner != lost);
    life.look(&stays).unwrap();
    assert!(stays.owns(&life.iam.roles[ROLE].tags) && stays.owns(&life.iam.profiles[ROLE].tags));
    assert_eq!(life.look(&stays).unwrap(), []);
}
