//! Rules of `AWSAccount`: one rule must admit the entire grant, and anything that no rule names is
//! refused.

use super::resources::{
    CONSUMER, Cluster, REGISTRY, expression, grant, grant_with_plain_role, labelled, namespaces,
    organization, registry_rule, selected, strings,
};
use crate::api::account::{Namespaces, RegistryRule, RegistrySide};
use crate::api::grant::{Access, AccessPath, ManagedPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use rstest::rstest;
use std::collections::BTreeMap;

fn under(change: impl FnOnce(&mut RegistryRule)) -> Cluster {
    Cluster::of_the_article().registry_rules([registry_rule(change)])
}

/// Asserts that a rule with this change refuses the article's grant, for one reason that names what
/// is not admitted.
#[track_caller]
fn refused_under(change: impl FnOnce(&mut RegistryRule), what: &str) {
    let refusals = under(change).refusals(&grant(|_| {}));
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert!(
        refusals[0].starts_with("NotAdmitted: AWSAccount 111111111111 does not admit"),
        "{refusals:#?}"
    );
    assert!(refusals[0].contains(what), "{refusals:#?}");
}

#[test]
fn missing_account_admits_nothing() {
    let refusals = Cluster::of_the_article()
        .without(REGISTRY)
        .refusals(&grant(|_| {}));
    insta::assert_snapshot!(refusals.join("\n"), @"AccountNotFound: there is no AWSAccount 111111111111: a cluster admin must create one, with a rule under spec.registry.rules that admits this grant");
}

#[test]
fn account_without_rules_admits_nothing() {
    for side in [None, Some(RegistrySide::default())] {
        let cluster = Cluster::of_the_article().account(REGISTRY, |spec| spec.registry = side);
        let refusals = cluster.refusals(&grant(|_| {}));
        assert_eq!(refusals.len(), 1, "{refusals:#?}");
        assert!(
            refusals[0].contains("no rule is for this namespace"),
            "{refusals:#?}"
        );
    }
}

#[test]
fn unset_rule_field_admits_nothing() {
    refused_under(
        |rule| rule.namespaces = Namespaces::default(),
        "no rule is for this namespace",
    );
    refused_under(|rule| rule.repositories.clear(), "repository miqp-devops");
    refused_under(|rule| rule.consumers.clear(), "consumer 222222222222");
    refused_under(
        |rule| rule.managed_policies.clear(),
        "managed policy AmazonEC2ContainerRegistryPowerUser",
    );
}

#[test]
fn rule_for_another_namespace_admits_nothing() {
    refused_under(
        |rule| rule.namespaces = namespaces(["team-a"]),
        "no rule is for this namespace",
    );
}

#[rstest]
#[case::prefix_of_the_name("team")]
#[case::the_name_and_more("team-bb")]
#[case::stars_mean_nothing("team-*")]
#[case::case_matters("Team-B")]
fn namespace_name_must_match_entirely(#[case] name: &str) {
    refused_under(
        |rule| rule.namespaces = namespaces([name]),
        "no rule is for this namespace",
    );
}

#[rstest]
#[case::label(labelled("team", "b"), true)]
#[case::label_of_another_value(labelled("team", "a"), false)]
#[case::label_that_is_not_there(labelled("stage", "b"), false)]
#[case::in_values(expression("team", "In", ["a", "b"]), true)]
#[case::in_other_values(expression("team", "In", ["a", "c"]), false)]
#[case::not_in_values(expression("team", "NotIn", ["a"]), true)]
#[case::not_in_the_value(expression("team", "NotIn", ["a", "b"]), false)]
#[case::exists(expression("team", "Exists", []), true)]
#[case::exists_not(expression("stage", "Exists", []), false)]
#[case::must_not_exist(expression("stage", "DoesNotExist", []), true)]
#[case::must_not_exist_but_does(expression("team", "DoesNotExist", []), false)]
#[case::unknown_operator(expression("team", "Like", ["b"]), false)]
#[case::in_without_values(expression("team", "In", []), false)]
#[case::empty(LabelSelector::default(), false)]
#[case::empty_labels(LabelSelector { match_labels: Some(BTreeMap::new()), match_expressions: None }, false)]
#[case::empty_expressions(LabelSelector { match_labels: None, match_expressions: Some(Vec::new()) }, false)]
fn selector_admits_only_namespaces_that_it_matches(
    #[case] selector: LabelSelector,
    #[case] admitted: bool,
) {
    let cluster = under(|rule| rule.namespaces = selected(selector)).label("team-b", "team", "b");
    assert_eq!(cluster.validate(&grant(|_| {})).is_ok(), admitted);
}

#[rstest]
#[case::not_in(expression("team", "NotIn", ["a"]))]
#[case::must_not_exist(expression("team", "DoesNotExist", []))]
fn selector_does_not_match_an_unknown_namespace(#[case] selector: LabelSelector) {
    let cluster = under(|rule| rule.namespaces = selected(selector));
    cluster.admitted(&grant(|_| {}));
    cluster.without_namespaces().refusals(&grant(|_| {}));
}

#[test]
fn selector_labels_and_expressions_must_all_match() {
    let mut selector = expression("stage", "In", ["test"]);
    selector.match_labels = labelled("team", "b").match_labels;
    let cluster = under(|rule| rule.namespaces = selected(selector)).label("team-b", "team", "b");
    cluster.refusals(&grant(|_| {}));
    cluster
        .label("team-b", "stage", "test")
        .admitted(&grant(|_| {}));
}

#[test]
fn names_and_selector_of_a_rule_are_a_union() {
    let both = |name| Namespaces {
        selector: Some(labelled("team", "b")),
        ..namespaces([name])
    };
    under(|rule| rule.namespaces = both("team-b")).admitted(&grant(|_| {}));
    under(|rule| rule.namespaces = both("team-a"))
        .label("team-b", "team", "b")
        .admitted(&grant(|_| {}));
    under(|rule| rule.namespaces = both("team-a")).refusals(&grant(|_| {}));
}

#[rstest]
#[case::itself("team-b/web", "team-b/web", true)]
#[case::beginning_of_the_name("team-b/web", "team-b/web2", false)]
#[case::inside_the_prefix("team-b/*", "team-b/web", true)]
#[case::the_prefix_itself("team-b/*", "team-b/*", true)]
#[case::a_longer_prefix("team-b/*", "team-b/x-*", true)]
#[case::a_shorter_prefix("team-b/*", "team-*", false)]
#[case::a_sibling("team-b/*", "team-bad/web", false)]
#[case::prefix_without_slash("team-b*", "team-bad/web", true)]
#[case::climbing_out("team-b/*", "team-a/../team-b/x", false)]
#[case::prefix_where_a_name_is_admitted("team-b/web", "team-b/web*", false)]
#[case::name_that_ends_where_the_prefix_does("team-b/*", "team-b", false)]
#[case::everything("*", "anything/at-all", true)]
#[case::everything_covers_prefixes("*", "anything/*", true)]
fn repository_outside_the_rule_is_not_admitted(
    #[case] rule: &str,
    #[case] asked: &str,
    #[case] admitted: bool,
) {
    let cluster = under(|of| of.repositories = strings([rule]));
    assert_eq!(
        cluster
            .validate(&grant(|spec| spec.registry.repositories = strings([asked])))
            .is_ok(),
        admitted
    );
}

#[rstest]
#[case("")]
#[case("**")]
#[case("Team-b/*")]
#[case("team-?/*")]
fn malformed_rule_admits_nothing(#[case] malformed: &str) {
    refused_under(
        |rule| rule.repositories = strings([malformed]),
        "repository miqp-devops",
    );
}

#[test]
fn every_refused_repository_is_named() {
    let cluster = under(|rule| rule.repositories = strings(["team-b/*"]));
    let asked =
        grant(|spec| spec.registry.repositories = strings(["team-a/*", "team-b/web", "other"]));
    let refusals = cluster.refusals(&asked).join("\n");
    assert!(
        refusals.contains("no rule admits repository other, repository team-a/*."),
        "{refusals}"
    );
    assert!(!refusals.contains("team-b/web"), "{refusals}");
}

#[rstest]
#[case(Access::Pull, Access::Pull, true)]
#[case(Access::PullPush, Access::Pull, true)]
#[case(Access::PullPush, Access::PullPush, true)]
#[case(Access::Pull, Access::PullPush, false)]
fn access_above_the_rules_maximum_is_not_admitted(
    #[case] most: Access,
    #[case] asked: Access,
    #[case] admitted: bool,
) {
    let cluster = under(|rule| rule.max_access = most);
    assert_eq!(
        cluster
            .validate(&grant_with_plain_role(|spec| spec.access = asked))
            .is_ok(),
        admitted
    );
}

#[test]
fn only_listed_consumers_are_admitted() {
    refused_under(
        |rule| rule.consumers = strings(["333333333333"]),
        "consumer 222222222222",
    );
    under(|rule| rule.consumers = strings(["333333333333", CONSUMER])).admitted(&grant(|_| {}));
}

#[test]
fn every_managed_policy_must_be_listed_in_the_rule() {
    let read_only = ManagedPolicy::AmazonEC2ContainerRegistryReadOnly;
    refused_under(
        |rule| rule.managed_policies = vec![read_only],
        "AmazonEC2ContainerRegistryPowerUser",
    );
    let both = grant(|spec| {
        spec.registry
            .role
            .as_mut()
            .unwrap()
            .managed_policies
            .push(read_only)
    });
    let refusals = Cluster::of_the_article().refusals(&both).join("\n");
    assert!(
        refusals.contains("managed policy AmazonEC2ContainerRegistryReadOnly"),
        "{refusals}"
    );
    assert!(!refusals.contains("PowerUser"), "{refusals}");
}

#[test]
fn managed_policies_without_the_role_need_no_rule() {
    under(|rule| rule.managed_policies.clear())
        .admitted(&grant(|spec| spec.paths = vec![AccessPath::Direct]));
}

#[test]
fn one_rule_must_admit_the_entire_grant() {
    let rules = [
        registry_rule(|rule| rule.max_access = Access::Pull),
        registry_rule(|rule| rule.consumers.clear()),
        registry_rule(|rule| rule.repositories = strings(["other"])),
        registry_rule(|rule| rule.namespaces = namespaces(["team-a"])),
        registry_rule(|rule| rule.managed_policies.clear()),
    ];
    let together = Cluster::of_the_article().registry_rules(rules.clone());
    let refusals = together.refusals(&grant(|_| {}));
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    let and_one_that_fits = [rules.as_slice(), &[registry_rule(|_| {})]].concat();
    Cluster::of_the_article()
        .registry_rules(and_one_that_fits)
        .admitted(&grant(|_| {}));
}

#[test]
fn two_rules_do_not_add_up_for_two_repositories() {
    let rule = |repository| registry_rule(|rule| rule.repositories = strings([repository]));
    let cluster = Cluster::of_the_article().registry_rules([rule("miqp-devops"), rule("other")]);
    cluster.refusals(&grant(|spec| {
        spec.registry.repositories = strings(["miqp-devops", "other"])
    }));
}

#[test]
fn refusal_names_the_request_and_discloses_no_other_rule() {
    let secret = registry_rule(|rule| {
        rule.namespaces = namespaces(["secret-team"]);
        rule.repositories = strings(["secret-project/*"]);
        rule.consumers = strings(["999999999999"]);
    });
    let own = registry_rule(|rule| {
        rule.repositories = strings(["hidden/*"]);
        rule.consumers = strings(["888888888888"]);
        rule.max_access = Access::Pull;
        rule.managed_policies = vec![ManagedPolicy::AmazonEC2ContainerRegistryPullOnly];
    });
    let refusals = Cluster::of_the_article()
        .registry_rules([secret, own])
        .refusals(&grant(|_| {}));
    insta::assert_snapshot!(refusals.join("\n"), @"NotAdmitted: AWSAccount 111111111111 does not admit this grant in namespace team-b: no rule admits repository miqp-devops, access PullPush, consumer 222222222222, managed policy AmazonEC2ContainerRegistryPowerUser. A cluster admin can add a rule under spec.registry.rules; one rule must admit the entire grant");
}

#[test]
fn refusals_of_both_accounts_are_reported_together() {
    let cluster = under(|rule| rule.consumers.clear()).consumer_rules([]);
    let refusals = cluster.refusals(&grant(|_| {}));
    assert_eq!(refusals.len(), 2, "{refusals:#?}");
    assert!(
        refusals[0].contains("AWSAccount 111111111111"),
        "{refusals:#?}"
    );
    assert!(
        refusals[1].contains("AWSAccount 222222222222"),
        "{refusals:#?}"
    );
}

#[test]
fn wrong_region_does_not_hide_a_missing_rule() {
    let cluster = under(|rule| rule.consumers.clear());
    let refusals = cluster.refusals(&grant(|spec| {
        spec.registry.regions = strings(["cn-north-1"])
    }));
    assert!(
        refusals[0].starts_with("Invalid: spec.registry.regions: cn-north-1"),
        "{refusals:#?}"
    );
    assert!(refusals[1].starts_with("NotAdmitted: "), "{refusals:#?}");
}

/// Returns the refusals of a grant for an organization, or units of it, under a rule that names
/// these.
fn for_organization(rule: &[&str], paths: &[&str]) -> Vec<String> {
    let cluster = under(|registry| {
        registry.organizations = rule.iter().map(|text| (*text).to_owned()).collect();
    });
    let asked = grant_with_plain_role(|spec| spec.consumer = organization("o-a1b2c3d4e5", paths));
    cluster
        .validate(&asked)
        .err()
        .unwrap_or_default()
        .into_iter()
        .map(|problem| problem.message)
        .collect()
}

#[test]
fn organization_is_admitted_only_if_a_rule_names_it() {
    assert_eq!(
        for_organization(&["o-a1b2c3d4e5"], &[]),
        Vec::<String>::new()
    );
    for rule in [
        &[][..],
        &["o-a1b2c3d4e6"],
        &["o-a1b2c3d4e5/r-ab12/*"],
        &["*"],
    ] {
        let refusals = for_organization(rule, &[]);
        assert!(
            refusals[0].contains("organization o-a1b2c3d4e5"),
            "{refusals:?}"
        );
    }
}

#[test]
fn unit_is_admitted_only_inside_what_a_rule_names() {
    let (one, other) = (
        "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*",
        "o-a1b2c3d4e5/r-ab12/ou-ab12-22222222/*",
    );
    for rule in ["o-a1b2c3d4e5", "o-a1b2c3d4e5/r-ab12/*", one] {
        assert_eq!(for_organization(&[rule], &[one]), Vec::<String>::new());
    }
    let refusals = for_organization(&[one], &[one, other]);
    assert!(
        refusals[0].contains(other) && !refusals[0].contains(one),
        "{refusals:?}"
    );
}

#[test]
fn listed_accounts_do_not_admit_an_organization() {
    let cluster = under(|rule| rule.consumers = strings([CONSUMER, "333333333333"]));
    let asked = grant_with_plain_role(|spec| spec.consumer = organization("o-a1b2c3d4e5", &[]));
    assert!(cluster.validate(&asked).is_err());
}

#[test]
fn replacing_foreign_statements_needs_a_rule_that_allows_it() {
    let asked = grant(|spec| spec.registry.replace_sids = strings(["new statement"]));
    let refusals = under(|_| {}).refusals(&asked);
    assert!(refusals[0].contains("replaceSids"), "{refusals:?}");
    assert_eq!(
        under(|rule| rule.allow_replace = true)
            .admitted(&asked)
            .replaces,
        ["new statement".to_owned()].into()
    );
}
