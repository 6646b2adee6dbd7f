//! Leftovers of a grant are removed entirely, or stay as they are.

use super::resources::{Cluster, grant, grant_with_plain_role, owner};
use crate::grant::diff;
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::grant::ownership::TAG_GRANT;
use crate::grant::sweep::{Leftover, leftovers};
use crate::policy::{Document, Statement};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn registry_role(change: impl FnOnce(&mut Role)) -> Leftover {
    let desired = Cluster::of_the_article()
        .desired(&grant_with_plain_role(|_| {}))
        .registry_role
        .unwrap();
    let mut role = super::drift::as_made(&desired, &owner());
    change(&mut role);
    let name = desired.name;
    leftovers(vec![(name, role, owner())], None).remove(0)
}

fn instance(change: impl FnOnce(&mut Role, &mut InstanceProfile)) -> Vec<Leftover> {
    let desired = Cluster::of_the_article()
        .desired(&grant(|_| {}))
        .instance
        .unwrap();
    let mut iam = super::iam::Iam::default();
    iam.apply(
        &diff::instance(
            &desired,
            &Instance::default(),
            &owner(),
            &diff::Sharers::default(),
        )
        .unwrap(),
    );
    let name = "miq-instance".to_owned();
    let (mut role, mut profile) = (
        iam.roles.remove(&name).unwrap(),
        iam.profiles.remove(&name).unwrap(),
    );
    change(&mut role, &mut profile);
    leftovers(
        vec![(name.clone(), role, owner())],
        Some(vec![(name, profile, owner())]),
    )
}

fn foreign_policy() -> Document {
    Document::of([Statement::allow(["s3:GetObject"]).on(["*"])])
}

fn words(leftover: &Leftover) -> Vec<String> {
    let steps = leftover
        .removal()
        .unwrap_or_else(|why| panic!("it stays: {why}"));
    steps
        .iter()
        .map(|step| step.to_string().replace(&owner().policy_name(), "OURS"))
        .collect()
}

#[test]
fn leftover_registry_role_is_removed_with_our_parts() {
    let name = "puller";
    let plain = registry_role(|_| {});
    assert_eq!(
        words(&plain),
        [
            format!("delete policy OURS of role {name}"),
            format!("delete role {name}")
        ]
    );
    let arn = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser";
    let managed = registry_role(|role| {
        role.inline.clear();
        role.attached.insert(arn.into());
    });
    assert_eq!(
        words(&managed),
        [
            format!("detach {arn} from role {name}"),
            format!("delete role {name}")
        ]
    );
}

#[test]
fn leftover_instance_role_is_removed_with_its_profile() {
    let [leftover] = &instance(|_, _| {})[..] else {
        panic!("role and profile belong together")
    };
    assert_eq!(leftover.arns().count(), 2);
    assert_eq!(
        words(leftover),
        [
            "delete policy OURS of role miq-instance",
            "remove role miq-instance from instance profile miq-instance",
            "delete instance profile miq-instance",
            "delete role miq-instance"
        ]
    );
}

#[test]
fn registry_role_with_other_users_stays_unchanged() {
    let stays =
        |change: fn(&mut Role)| registry_role(change).removal().expect_err("it should stay");
    let inline = |role: &mut Role| drop(role.inline.insert("theirs".into(), Ok(foreign_policy())));
    assert!(stays(inline).contains("`theirs`"));
    let attached = |role: &mut Role| {
        role.attached
            .extend(["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()])
    };
    assert!(stays(attached).contains("ReadOnlyAccess"));
    const ALMOST: &str = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryFullAccess";
    assert!(stays(|role| role.attached.extend([ALMOST.to_owned()])).contains(ALMOST));
    let another = |role: &mut Role| {
        let theirs =
            Statement::allow(["sts:AssumeRole"]).to_principals(["arn:aws:iam::444444444444:root"]);
        role.trust = role.trust.clone().map(|trust| trust.with([theirs]));
    };
    stays(another);
    stays(|role| role.trust = super::drift::unreadable());
    stays(|role| drop(role.tags.insert(TAG_GRANT.into(), "team-b/other".into())));
    // An instance role whose trust policy somebody rewrote is not mistaken for a registry role.
    stays(|role| {
        let service = Statement::allow(["sts:AssumeRole"]).to_service("ec2.amazonaws.com");
        role.trust = Ok(Document::of([service]));
    });
}

#[test]
fn instance_role_with_other_users_stays_with_its_profile() {
    let stays = |change: fn(&mut Role, &mut InstanceProfile)| {
        for leftover in instance(change) {
            assert!(leftover.removal().is_err(), "{leftover:#?}");
        }
    };
    stays(|role, _| drop(role.inline.insert("theirs".into(), Ok(foreign_policy()))));
    // Nodes have this policy, too: on an instance role it is not ours.
    stays(|role, _| {
        role.attached
            .insert("arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly".into());
    });
    stays(|role, _| {
        let theirs = Statement::allow(["sts:AssumeRole"]).to_service("ssm.amazonaws.com");
        role.trust = role.trust.clone().map(|trust| trust.with([theirs]));
    });
    stays(|role, _| role.trust = super::drift::unreadable());
    stays(|role, profile| {
        role.inline.insert("theirs".into(), Ok(foreign_policy()));
        profile.roles = BTreeSet::from(["somebody-elses".into()]);
    });
}

#[test]
fn profile_with_a_role_that_is_no_leftover_stays() {
    let profile = |roles: &[&str]| InstanceProfile {
        arn: "arn:aws:iam::222222222222:instance-profile/registry-grants/nodes".into(),
        tags: owner().tags(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    let alone = |roles| {
        leftovers(
            Vec::new(),
            Some(vec![("nodes".into(), profile(roles), owner())]),
        )
        .remove(0)
    };
    assert!(alone(&["somebodys"]).removal().is_err());
    assert_eq!(words(&alone(&[])), ["delete instance profile nodes"]);
}

#[test]
fn instance_role_stays_if_profiles_are_not_read() {
    let Leftover { role, .. } = instance(|_, _| {}).remove(0);
    let (name, role) = role.unwrap();
    let why = leftovers(vec![(name, role, owner())], None)[0]
        .removal()
        .expect_err("it should stay");
    assert!(why.contains("spec.consumer"), "{why}");
}

proptest! {
    /// Nodes have foreign policies: none is ever removed from a role, and no role that has one is
    /// removed.
    #[test]
    fn foreign_policies_on_an_instance_role_are_never_removed(
        role in super::drift::changed_role(
            &Cluster::of_the_article().desired(&grant(|_| {})).instance.unwrap().role,
            super::drift::our_tags(),
        ),
    ) {
        let ours = owner().policy_name();
        let foreign = role.inline.keys().any(|name| *name != ours) || !role.attached.is_empty();
        let is_ours = role.trust.as_ref().is_ok_and(|trust| trust.statements.iter().any(|s| owner().installation.owns(s)));
        let leftover = leftovers(vec![("name".into(), role, owner())], Some(Vec::new())).remove(0);
        prop_assert!(!foreign || !is_ours || leftover.removal().is_err());
    }

    /// Whatever the drift of a role, no foreign policy is ever removed from it, and no role that
    /// has one is removed.
    #[test]
    fn foreign_policies_on_a_registry_role_are_never_removed(
        role in super::drift::changed_role(
            &Cluster::of_the_article().desired(&grant_with_plain_role(|_| {})).registry_role.unwrap(),
            super::drift::our_tags(),
        ),
        profiles in any::<bool>(),
    ) {
        let ours = owner().policy_name();
        let foreign = role.inline.keys().any(|name| *name != ours) || role.attached.iter().any(|arn| !arn.contains("ContainerRegistry"));
        let leftover = leftovers(vec![("name".into(), role, owner())], profiles.then(Vec::new)).remove(0);
        prop_assert!(!foreign || leftover.removal().is_err());
    }
}
