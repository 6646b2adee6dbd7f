//! Printed trust policy of the operator's role in an account, for every kind of identity that the
//! operator may have.

use crate::api::account::Partition;
use crate::grant::operator_role::{OperatorRole, POD_IDENTITY_TAGS};
use crate::policy::evaluate::{
    Named, Policies, Principal, Request, RequestContext, Verdict, evaluate,
};
use crate::policy::{Document, Statement};
use rstest::rstest;

const OPERATOR: &str = "arn:aws:iam::333333333333:role/registry-grants-operator";
const ROLE: &str = "arn:aws:iam::111111111111:role/registry-grants";
const OURS: [&str; 2] = [
    "registrygrants.dev/installation",
    "registrygrants.dev/namespace",
];

fn management(more_keys: &[&str]) -> OperatorRole {
    OperatorRole {
        registry: true,
        consumer: false,
        account: "111111111111".into(),
        partition: Partition::Aws,
        operator_role: OPERATOR.into(),
        external_id: Some("example".into()),
        path: "/registry-grants/".into(),
        role: "registry-grants".into(),
        boundary: "registry-grants-boundary".into(),
        repositories: Vec::new(),
        regions: Vec::new(),
        installation: None,
        managed_policies: Vec::new(),
        extend: false,
        adopt: false,
        session_tag_keys: more_keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

/// Returns whether the operator may assume the role with a session that has these tags, its own and
/// those that it inherits.
fn may_tag(trust: Document, operator: &str, keys: &[&str]) -> bool {
    let own = Document::of([Statement::allow(["sts:AssumeRole", "sts:TagSession"]).on(["*"])]);
    let policies = Policies {
        identity: vec![Named::new("the operator's own policy", own)],
        boundary: None,
        resource: vec![Named::new("the trust policy", trust)],
    };
    let context = RequestContext::default()
        .closed()
        .with("sts:ExternalId", ["example"]);
    let context = keys.iter().fold(context, |context, key| {
        context.with(&format!("aws:RequestTag/{key}"), ["x"])
    });
    let context = if keys.is_empty() {
        context
    } else {
        context.with("aws:TagKeys", keys.iter().copied())
    };
    let request = |action: &str| Request {
        principal: Principal::role(operator, "333333333333", None),
        action: action.into(),
        resource: ROLE.into(),
        resource_account: "111111111111".into(),
        context: context.clone(),
    };
    ["sts:AssumeRole", "sts:TagSession"]
        .iter()
        .all(|action| evaluate(&request(action), &policies) == Verdict::Allowed)
}

#[rstest]
#[case::irsa_or_an_instance_profile(&OURS, true)]
#[case::a_session_for_no_namespace(&OURS[..1], true)]
#[case::pod_identity(&[&OURS[..], &POD_IDENTITY_TAGS[..]].concat(), true)]
#[case::pod_identity_whose_tags_are_not_counted_again(&OURS, true)]
#[case::a_tag_of_something_else(&[OURS[0], OURS[1], "team"], false)]
fn trust_accepts_tags_of_every_identity_and_no_others(
    #[case] keys: &[&str],
    #[case] allowed: bool,
) {
    assert_eq!(may_tag(management(&[]).trust(), OPERATOR, keys), allowed);
}

#[test]
fn trust_accepts_a_named_tag_from_the_operator_alone() {
    let keys = [OURS[0], OURS[1], "team"];
    let trust = management(&["team"]).trust();
    assert!(may_tag(trust.clone(), OPERATOR, &keys));
    assert!(!may_tag(
        trust,
        "arn:aws:iam::333333333333:role/other",
        &keys
    ));
}
