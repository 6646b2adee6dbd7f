//! Strategies that generate drifted roles and profiles of ours, for the laws.

use super::resources::{installation, owner};
use crate::grant::desired::DesiredRole;
use crate::grant::observed::{InstanceProfile, Role};
use crate::grant::ownership::{Owner, TAG_GRANT, TAG_GRANT_UID, TAG_INSTALLATION};
use crate::policy::{Document, ParseError, Statement};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use std::collections::{BTreeMap, BTreeSet};

type Tags = BTreeMap<String, String>;

/// Generates tags by which a resource is known as our grant's, whatever tags were added and
/// whatever happened to the UID.
pub fn our_tags() -> impl Strategy<Value = Tags> {
    let uid = prop_oneof![
        Just(Some(owner().uid)),
        Just(Some("dead".to_owned())),
        Just(None)
    ];
    (uid, any::<bool>()).prop_map(|(uid, extra)| {
        let mut tags = owner().tags();
        tags.remove(TAG_GRANT_UID);
        tags.extend(uid.map(|uid| (TAG_GRANT_UID.to_owned(), uid)));
        tags.extend(extra.then(|| ("cost-center".to_owned(), "7".to_owned())));
        tags
    })
}

/// Generates tags of a resource that is not our grant's.
pub fn foreign_tags() -> impl Strategy<Value = Tags> {
    let with = |change: fn(&mut Tags)| {
        let mut tags = owner().tags();
        change(&mut tags);
        Just(tags)
    };
    prop_oneof![
        Just(Tags::new()),
        Just(Tags::from([("Name".into(), "by hand".into())])),
        with(|tags| drop(tags.remove(TAG_INSTALLATION))),
        with(|tags| drop(tags.remove(TAG_GRANT))),
        with(|tags| drop(tags.insert(TAG_INSTALLATION.into(), "ba9876543210".into()))),
        with(|tags| drop(tags.insert(TAG_GRANT.into(), "team-b/miq-devops-2".into()))),
        with(|tags| drop(tags.insert(TAG_GRANT.into(), "team-a/miq-devops".into()))),
        with(|tags| drop(tags.insert(TAG_GRANT.into(), String::new()))),
    ]
}

/// Generates statements that are not this installation's, some of which resemble ours.
pub fn foreign_statements() -> impl Strategy<Value = Vec<Statement>> {
    let other_installation = "ffffffffffff"
        .parse::<crate::policy::Installation>()
        .unwrap();
    let all = vec![
        Statement::allow(["sts:AssumeRole"]).to_service("ec2.amazonaws.com"),
        Statement::allow(["sts:AssumeRole"])
            .to_service("ec2.amazonaws.com")
            .sid(other_installation.sid("instance trust")),
        Statement::allow(["sts:AssumeRole", "sts:TagSession"])
            .to_service("pods.eks.amazonaws.com")
            .sid("RegistryGrants"),
        Statement::allow(["sts:AssumeRole"])
            .to_principals(["arn:aws:iam::999999999999:root"])
            .sid(""),
    ];
    subsequence(all.clone(), 0..=all.len())
}

fn readable(document: Document) -> Result<Document, ParseError> {
    Ok(document)
}

pub fn unreadable() -> Result<Document, ParseError> {
    Document::parse("{")
}

/// Generates replacements of our statement: the right one, a changed one, several, or none.
fn our_statements(desired: &DesiredRole) -> impl Strategy<Value = Vec<Statement>> + use<> {
    let right = desired.trust.clone();
    let marked = |statement: Statement| statement.sid(owner().trust_sid());
    let widened = marked(Statement::allow(["sts:AssumeRole"]).to_principals(["*"]));
    let other_sid = right.clone().sid(installation().sid("something else"));
    prop_oneof![
        3 => Just(vec![right.clone()]),
        1 => Just(Vec::new()),
        1 => Just(vec![widened.clone()]),
        1 => Just(vec![right.clone(), widened]),
        1 => Just(vec![right.clone(), right]),
        1 => Just(vec![other_sid]),
    ]
}

/// Generates a trust policy with our statement, or a replacement of it, among foreign statements.
fn changed_trust(desired: &DesiredRole) -> impl Strategy<Value = Document> + use<> {
    let parts = (
        our_statements(desired),
        foreign_statements(),
        any::<Index>(),
    );
    parts.prop_map(|(ours, foreign, at)| {
        let mut statements = foreign;
        let at = at.index(statements.len() + 1);
        statements.splice(at..at, ours);
        Document::of(statements)
    })
}

type InlinePolicies = BTreeMap<String, Result<Document, ParseError>>;

/// Generates inline policies: ours as it should be, unreadable, or gone; and foreign ones.
fn changed_inline(desired: &DesiredRole) -> impl Strategy<Value = InlinePolicies> + use<> {
    let ours = desired.inline.clone();
    let of_ours = prop_oneof![
        2 => Just(Some(true)),
        1 => Just(Some(false)),
        1 => Just(None)
    ];
    let foreign_names = subsequence(
        vec![
            "a-by-hand",
            "registry-grants",
            "zz",
            "registry-grants-other",
        ],
        0..=4,
    );
    (of_ours, foreign_names).prop_map(move |(of_ours, foreign)| {
        let wrong = Document::of([Statement::allow(["ecr:*"]).on(["*"])]);
        let mut inline: InlinePolicies = foreign
            .into_iter()
            .map(|name| (name.to_owned(), readable(wrong.clone())))
            .collect();
        if let (Some((name, right)), Some(is_right)) = (&ours, of_ours) {
            inline.insert(
                name.clone(),
                if is_right {
                    readable(right.clone())
                } else {
                    unreadable()
                },
            );
        }
        inline
    })
}

/// Generates attached managed policies: some of ours, and foreign ones.
fn changed_attached(desired: &DesiredRole) -> impl Strategy<Value = BTreeSet<String>> + use<> {
    let foreign = [
        "arn:aws:iam::aws:policy/AdministratorAccess",
        "arn:aws:iam::1:policy/own",
    ];
    let all: Vec<String> = desired
        .attached
        .iter()
        .cloned()
        .chain(foreign.map(String::from))
        .collect();
    subsequence(all.clone(), 0..=all.len()).prop_map(|attached| attached.into_iter().collect())
}

/// Generates a drifted role of ours: each part as it should be, changed, or gone; and foreign
/// parts.
pub fn changed_role<S: Strategy<Value = Tags>>(
    desired: &DesiredRole,
    tags: S,
) -> impl Strategy<Value = Role> + use<S> {
    let desired = desired.clone();
    let boundary = prop_oneof![
        Just(desired.boundary.clone()),
        Just(None),
        Just(Some("arn:aws:iam::1:policy/other".into()))
    ];
    let session = prop_oneof![
        Just(desired.max_session_seconds.unwrap_or(3600)),
        Just(43200)
    ];
    let parts = (
        changed_trust(&desired),
        changed_inline(&desired),
        changed_attached(&desired),
        boundary,
        session,
        tags,
    );
    parts.prop_map(
        move |(trust, inline, attached, boundary, max_session_seconds, tags)| Role {
            arn: format!(
                "arn:aws:iam::{}:role{}{}",
                desired.account, desired.path, desired.name
            ),
            id: "AROAOLD".into(),
            path: desired.path.clone(),
            trust: readable(trust),
            max_session_seconds,
            boundary,
            tags,
            inline,
            attached,
        },
    )
}

/// Generates a profile that contains our role, another, or none.
pub fn changed_profile<S: Strategy<Value = Tags>>(
    role: &str,
    tags: S,
) -> impl Strategy<Value = InstanceProfile> + use<S> {
    let roles = prop_oneof![
        Just(vec![role.to_owned()]),
        Just(vec!["someone-elses".to_owned()]),
        Just(Vec::new())
    ];
    (roles, tags).prop_map(|(roles, tags)| InstanceProfile {
        arn: "arn:aws:iam::222222222222:instance-profile/registry-grants/nodes".into(),
        tags,
        roles: roles.into_iter().collect::<BTreeSet<_>>(),
    })
}

/// Returns a role as IAM has it right after it was created as desired.
pub fn as_made(desired: &DesiredRole, owner: &Owner) -> Role {
    let steps =
        crate::grant::diff::registry_role(desired, None, owner, super::resources::now()).unwrap();
    let mut iam = super::iam::Iam::default();
    iam.apply(&steps);
    iam.roles.remove(&desired.name).unwrap()
}
