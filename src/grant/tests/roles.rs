//! The instance role: which ones the consumer account admits, and where a role's ARN comes from.

use super::resources::{
    CONSUMER, Cluster, REGISTRY, consumer_rule, grant, installation, labelled, namespaces,
    selected, strings,
};
use crate::api::account::{ConsumerRule, ConsumerSide, Namespaces, Partition};
use crate::api::grant::RegistryRoleSpec;
use crate::grant::GrantName;
use crate::grant::model::ConsumerRole;
use rstest::rstest;

fn under(change: impl FnOnce(&mut ConsumerRule)) -> Cluster {
    Cluster::of_the_article().consumer_rules([consumer_rule(change)])
}

fn admitted(cluster: &Cluster) -> bool {
    cluster.validate(&grant(|_| {})).is_ok()
}

#[test]
fn refusal_names_the_role_with_its_path() {
    let refusals = under(|rule| rule.roles = strings(["secret/*"])).refusals(&grant(|_| {}));
    insta::assert_snapshot!(refusals.join("\n"), @"NotAdmitted: AWSAccount 222222222222 does not admit instance role registry-grants/miq-instance for namespace team-b: a cluster admin can add a rule under spec.consumer.rules");
}

#[test]
fn account_without_rules_admits_no_instance_role() {
    for side in [None, Some(ConsumerSide::default())] {
        assert!(!admitted(
            &Cluster::of_the_article().account(CONSUMER, |spec| spec.consumer = side)
        ));
    }
}

#[rstest]
#[case::itself("registry-grants/miq-instance", true)]
#[case::prefix("registry-grants/*", true)]
#[case::prefix_of_the_name("registry-grants/miq-*", true)]
#[case::without_its_path("miq-instance", false)]
#[case::with_a_slash_before("/registry-grants/miq-instance", false)]
#[case::beginning_without_star("registry-grants/miq", false)]
#[case::another_path("other/*", false)]
#[case::star_in_the_middle("registry-grants/*-instance", false)]
#[case::case_matters("registry-grants/MIQ-*", false)]
fn rule_matches_path_and_name_of_a_role(#[case] role: &str, #[case] fits: bool) {
    assert_eq!(admitted(&under(|rule| rule.roles = strings([role]))), fits);
}

#[test]
fn path_of_the_account_decides_which_rule_matches() {
    let moved = |path: &str| {
        under(|rule| rule.roles = strings(["registry-grants/*"]))
            .roles(CONSUMER, |roles| roles.path = path.into())
    };
    assert!(admitted(&moved("/registry-grants/")));
    assert!(admitted(&moved("/registry-grants/nodes/")));
    assert!(!admitted(&moved("/")));
    assert!(!admitted(&moved("/registry-grants-2/")));
}

#[test]
fn unset_rule_field_admits_no_role() {
    assert!(!admitted(&under(|rule| rule.roles.clear())));
    assert!(!admitted(&under(
        |rule| rule.namespaces = Namespaces::default()
    )));
}

#[test]
fn rule_for_another_namespace_admits_no_role() {
    assert!(!admitted(&under(
        |rule| rule.namespaces = namespaces(["team-a"])
    )));
    let by_label = || under(|rule| rule.namespaces = selected(labelled("team", "b")));
    assert!(!admitted(&by_label()));
    assert!(admitted(&by_label().label("team-b", "team", "b")));
}

#[test]
fn one_rule_must_match_both_namespace_and_role() {
    let rules = [
        consumer_rule(|rule| rule.namespaces = namespaces(["team-a"])),
        consumer_rule(|rule| rule.roles = strings(["registry-grants/other"])),
    ];
    assert!(!admitted(&Cluster::of_the_article().consumer_rules(rules)));
}

#[test]
fn grant_without_an_instance_role_needs_no_consumer_rule() {
    let cluster = Cluster::of_the_article().consumer_rules([]);
    let admitted = cluster.admitted(&grant(|spec| spec.consumer.instance_role = None));
    assert_eq!(admitted.instance_role, ConsumerRole::NotRequested);
}

#[test]
fn unmanaged_consumer_does_not_block_the_registry_side() {
    let admitted = Cluster::of_the_article()
        .without(CONSUMER)
        .admitted(&grant(|_| {}));
    assert_eq!(admitted.instance_role, ConsumerRole::NotManaged);
    assert!(admitted.role.is_some());
}

#[test]
fn unnamed_instance_profile_has_the_roles_name() {
    let profile = |name: Option<&str>| {
        let asked = grant(|spec| {
            spec.consumer
                .instance_role
                .as_mut()
                .unwrap()
                .instance_profile = name.map(String::from);
        });
        match Cluster::of_the_article().admitted(&asked).instance_role {
            ConsumerRole::Kept {
                instance_profile, ..
            } => instance_profile,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(profile(None).as_deref(), Some("miq-instance"));
    assert_eq!(profile(Some("nodes")).as_deref(), Some("nodes"));
}

#[rstest]
#[case(
    Partition::Aws,
    "us-east-1",
    "arn:aws:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps"
)]
#[case(
    Partition::AwsCn,
    "cn-north-1",
    "arn:aws-cn:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps"
)]
#[case(
    Partition::AwsUsGov,
    "us-gov-west-1",
    "arn:aws-us-gov:iam::111111111111:role/registry-grants/ECS-AssumeRole-MIQDevOps"
)]
fn role_arn_has_its_partition_and_path(
    #[case] partition: Partition,
    #[case] region: &str,
    #[case] arn: &str,
) {
    let cluster = Cluster::of_the_article()
        .account(REGISTRY, |spec| spec.partition = partition)
        .account(CONSUMER, |spec| spec.partition = partition);
    let admitted = cluster.admitted(&grant(|spec| spec.registry.regions = strings([region])));
    assert_eq!(admitted.role.unwrap().identity.arn(), arn);
}

#[rstest]
#[case("/", "arn:aws:iam::111111111111:role/ECS-AssumeRole-MIQDevOps")]
#[case("/a/b/", "arn:aws:iam::111111111111:role/a/b/ECS-AssumeRole-MIQDevOps")]
fn role_has_the_path_of_its_account(#[case] path: &str, #[case] arn: &str) {
    let cluster = Cluster::of_the_article().roles(REGISTRY, |roles| roles.path = path.into());
    assert_eq!(
        cluster
            .admitted(&grant(|_| {}))
            .role
            .unwrap()
            .identity
            .arn(),
        arn
    );
}

#[test]
fn unnamed_role_gets_a_name_unique_to_its_grant() {
    let name = |namespace: &str, name: &str| {
        let mut asked = grant(|spec| spec.registry.role = Some(RegistryRoleSpec::default()));
        asked.metadata.namespace = Some(namespace.into());
        asked.metadata.name = Some(name.into());
        let everywhere = |rule: &mut crate::api::account::RegistryRule| {
            rule.namespaces = namespaces(["a", "a-b"])
        };
        let cluster = Cluster::of_the_article()
            .registry_rules([super::resources::registry_rule(everywhere)])
            .consumer_rules([consumer_rule(|rule| {
                rule.namespaces = namespaces(["a", "a-b"])
            })]);
        cluster.admitted(&asked).role.unwrap().identity.name
    };
    assert_ne!(name("a", "b-c"), name("a-b", "c"));
    assert!(name("a", "b-c").starts_with("a-b-c-"));
    let long = name("a", &"x".repeat(190));
    assert_eq!(long.len(), 64);
    assert_ne!(long, name("a", &"x".repeat(189)));
    let elsewhere = GrantName {
        namespace: "a".into(),
        name: "b-c".into(),
    };
    assert_ne!(
        elsewhere.in_aws(&installation(), 64),
        elsewhere.in_aws(&"ffffffffffff".parse().unwrap(), 64)
    );
}
