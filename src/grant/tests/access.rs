//! Verdicts on access, from the readings: each link is removed in turn, and must be named.

use super::resources::{
    CONSUMER, Cluster, REGISTRY, grant, grant_with_plain_role, installation, now, organization,
    owner,
};
use crate::api::conditions::Reason;
use crate::api::grant::{AccessAction, AccessPath, AccessStatus, AccessVerdict};
use crate::grant::access::{
    Caller, Holder, HolderReading, Readings, RepositoryReading, denied, judge,
};
use crate::grant::desired::DesiredRole;
use crate::grant::diff::{Step, registry_role};
use crate::grant::observed::Role;
use crate::grant::ownership::Owner;
use crate::grant::{Grant, diff};
use crate::policy::evaluate::Named;
use crate::policy::repository::{GrantContribution, PolicyUpdate, plan};
use crate::policy::{Document, Statement};
use rstest::rstest;
use std::collections::BTreeMap;

/// Returns a role after these steps.
fn made(desired: &DesiredRole, steps: Vec<Step>, id: &str) -> Role {
    let arn = format!(
        "arn:aws:iam::{}:role{}{}",
        desired.account, desired.path, desired.name
    );
    let after = |role, step: &Step| step.apply_to(role, Some((&arn, id)));
    steps
        .iter()
        .fold(None, after)
        .expect("the steps make a role")
}

/// State in which a grant is entirely in place, open to change.
struct World {
    grant: Grant,
    role: Role,
    node: Role,
    policy: Option<Document>,
    registry_policy: Option<Document>,
    managed: BTreeMap<String, Named>,
}

impl World {
    fn of(grant: Grant) -> Self {
        let owner: Owner = owner();
        let desired = grant.desired(&owner);
        let role = desired.registry_role.expect("a registry role");
        let role = made(
            &role,
            registry_role(&role, None, &owner, now()).unwrap(),
            "AROAREGISTRYROLE0001",
        );
        let instance = desired.instance.expect("an instance role");
        let steps =
            diff::instance(&instance, &Default::default(), &owner, &Default::default()).unwrap();
        let steps = steps
            .into_iter()
            .filter(|step| !step.to_string().contains("profile"))
            .collect();
        let node = made(&instance.role, steps, "AROAINSTANCEROLE0001");
        let wanted = [GrantContribution {
            id: 1,
            contributions: grant.contributions("us-east-1", false),
            replaces: Default::default(),
            stays_as: None,
            if_there: Vec::new(),
        }];
        let policy = match plan(None, &wanted, &installation()).unwrap().change {
            PolicyUpdate::Set(document) => Some(document),
            PolicyUpdate::None | PolicyUpdate::Delete => None,
        };
        Self {
            grant,
            role,
            node,
            policy,
            registry_policy: None,
            managed: BTreeMap::new(),
        }
    }

    fn readings(&self) -> Readings {
        let named = |name: &str, document: &Document| Named::new(name, document.clone());
        let node = Holder::of(&self.node, &self.managed);
        Readings {
            callers: vec![Caller::Role {
                arn: self.node.arn.clone(),
                holder: HolderReading::Found(Box::new(node)),
            }],
            registry_role: HolderReading::Found(Box::new(Holder::of(&self.role, &self.managed))),
            repositories: vec![RepositoryReading {
                region: "us-east-1".into(),
                name: "miqp-devops".into(),
                policy: self
                    .policy
                    .as_ref()
                    .map(|document| named("the policy of repository miqp-devops", document)),
            }],
            registry_policies: BTreeMap::from([(
                "us-east-1".into(),
                self.registry_policy
                    .as_ref()
                    .map(|document| named("the registry's own policy", document)),
            )]),
            now: now(),
        }
    }

    fn judged(&self) -> Vec<AccessStatus> {
        judge(&self.grant, &self.readings(), &|| false)
    }

    /// Returns the paths and actions that are allowed.
    fn allowed(&self) -> Vec<(AccessPath, AccessAction)> {
        let allowed = self
            .judged()
            .into_iter()
            .filter(|reported| reported.verdict == AccessVerdict::Allowed);
        allowed
            .map(|reported| (reported.path, reported.action))
            .collect()
    }

    fn message(&self, path: AccessPath, action: AccessAction) -> String {
        let judged = self.judged();
        let reported = judged
            .iter()
            .find(|reported| reported.path == path && reported.action == action)
            .unwrap();
        format!(
            "{:?}: {}",
            reported.verdict,
            reported.message.clone().unwrap_or_default()
        )
    }

    fn inline(role: &mut Role) -> &mut Document {
        role.inline.values_mut().next().unwrap().as_mut().unwrap()
    }
}

fn world() -> World {
    World::of(Cluster::of_the_article().admitted(&grant_with_plain_role(|_| {})))
}

const ALL: [(AccessPath, AccessAction); 4] = [
    (AccessPath::Direct, AccessAction::Pull),
    (AccessPath::Direct, AccessAction::Push),
    (AccessPath::AssumeRole, AccessAction::Pull),
    (AccessPath::AssumeRole, AccessAction::Push),
];
const DIRECT: &[(AccessPath, AccessAction)] = &[ALL[0], ALL[1]];
const BY_ROLE: &[(AccessPath, AccessAction)] = &[ALL[2], ALL[3]];

fn without(document: &mut Document, action: &str) {
    let text = document
        .to_string()
        .replace(&format!("\"{action}\""), "\"ecr:Nothing\"");
    *document = Document::parse(&text).unwrap();
}

fn deny(actions: &[&str]) -> Statement {
    Statement::deny(actions.iter().copied())
        .sid("Stop")
        .on(["*"])
}

#[test]
fn complete_grant_allows_both_paths_without_a_message() {
    let world = world();
    assert_eq!(world.allowed(), ALL);
    assert!(
        world
            .judged()
            .iter()
            .all(|reported| reported.message.is_none())
    );
    assert_eq!(denied(&world.judged()), None);
}

#[rstest]
#[case::trust(|w: &mut World| w.role.trust = Ok(Document::of([])), DIRECT, AccessPath::AssumeRole,
    "lacks sts:AssumeRole: the trust policy of role arn:aws:iam::111111111111:role/registry-grants/puller does not allow it")]
#[case::identity_in_consumer(|w: &mut World| w.node.inline.clear(), &[], AccessPath::Direct,
    "miq-instance lacks ecr:BatchGetImage, ecr:GetAuthorizationToken, ecr:GetDownloadUrlForLayer on miqp-devops: no policy of the role allows it in account 222222222222")]
#[case::token(|w: &mut World| without(World::inline(&mut w.node), "ecr:GetAuthorizationToken"), BY_ROLE, AccessPath::Direct,
    "lacks ecr:GetAuthorizationToken: no policy of the role allows it in account 222222222222")]
#[case::assume(|w: &mut World| without(World::inline(&mut w.node), "sts:AssumeRole"), DIRECT, AccessPath::AssumeRole,
    "lacks sts:AssumeRole: no policy of the role allows it in account 222222222222")]
#[case::identity_in_registry(|w: &mut World| w.role.inline.clear(), DIRECT, AccessPath::AssumeRole,
    "puller lacks ecr:BatchGetImage, ecr:GetAuthorizationToken, ecr:GetDownloadUrlForLayer on miqp-devops: no policy of the role allows it in account 111111111111")]
#[case::repository_policy(|w: &mut World| w.policy = None, BY_ROLE, AccessPath::Direct,
    "lacks ecr:BatchGetImage, ecr:GetDownloadUrlForLayer on miqp-devops: the repository's policy in account 111111111111 does not allow it")]
#[case::boundary_in_consumer(|w: &mut World| w.bound_node(), &[], AccessPath::Direct,
    "the role's permissions boundary in account 222222222222 does not allow it")]
#[case::deny_in_repository_policy(|w: &mut World| w.deny_all_in_the_repository(), &[], AccessPath::AssumeRole,
    "statement Stop of the policy of repository miqp-devops denies it")]
#[case::deny_in_registry_policy(|w: &mut World| w.registry_policy = Some(Document::of([deny(&["ecr:*"]).to_principals(["*"])])), &[], AccessPath::Direct,
    "statement Stop of the registry's own policy denies it")]
#[case::deny_on_the_instance_role(|w: &mut World| drop(w.node.inline.insert("theirs".into(), Ok(Document::of([deny(&["ecr:*"])])))), BY_ROLE, AccessPath::Direct,
    "statement Stop of policy theirs of role")]
#[case::ended_sessions_are_not_those_that_begin_now(|w: &mut World| drop(w.role.inline.insert("ended".into(), Ok(Document::of([
    deny(&["*"]).only_if("DateLessThan", "aws:TokenIssueTime", ["2020-01-01T00:00:00Z"])])))), &ALL, AccessPath::Direct, "Allowed")]
fn missing_link_is_named(
    #[case] change: fn(&mut World),
    #[case] still: &[(AccessPath, AccessAction)],
    #[case] path: AccessPath,
    #[case] said: &str,
) {
    let mut world = world();
    change(&mut world);
    assert_eq!(world.allowed(), still);
    let message = world.message(path, AccessAction::Pull);
    assert!(message.contains(said), "{message}");
    let problem = denied(&world.judged());
    assert_eq!(problem.is_some(), still.len() < 4);
    assert!(problem.is_none_or(|problem| problem.reason == Reason::PathDenied));
}

impl World {
    fn bound_node(&mut self) {
        let arn = format!("arn:aws:iam::{CONSUMER}:policy/tight");
        self.node.boundary = Some(arn.clone());
        self.managed.insert(
            arn.clone(),
            Named::new(arn, Document::of([Statement::allow(["s3:*"]).on(["*"])])),
        );
    }

    fn deny_all_in_the_repository(&mut self) {
        let policy = self.policy.take().unwrap();
        let deny = Statement::deny(["ecr:*"]).sid("Stop").to_principals(["*"]);
        self.policy = Some(policy.with([deny]));
    }
}

#[test]
fn unread_boundary_gives_unknown_and_names_what_to_check() {
    let mut world = world();
    world.node.boundary = Some(format!("arn:aws:iam::{CONSUMER}:policy/tight"));
    let message = world.message(AccessPath::Direct, AccessAction::Pull);
    assert!(
        message.starts_with("Unknown: ") && message.contains("policy/tight"),
        "{message}"
    );
    assert_eq!(denied(&world.judged()), None);
}

#[test]
fn different_external_id_in_the_trust_policy_is_named() {
    let mut world = world();
    world.grant.role.as_mut().unwrap().external_id = Some("ours".into());
    let trust = world.role.trust.clone().unwrap();
    let asks = trust.statements[0]
        .clone()
        .only_if("StringEquals", "sts:ExternalId", ["another"]);
    world.role.trust = Ok(Document::of([asks]));
    let message = world.message(AccessPath::AssumeRole, AccessAction::Pull);
    assert!(
        message.contains("does not allow it") && message.contains("sts:ExternalId"),
        "{message}"
    );
}

#[test]
fn deleted_role_in_a_trust_policy_is_named() {
    let mut world = world();
    let stale = Statement::allow(["sts:AssumeRole"]).to_principals(["AROADELETEDROLE00001"]);
    world.role.trust = Ok(Document::of([stale]));
    let message = world.message(AccessPath::AssumeRole, AccessAction::Push);
    assert!(message.contains("AROADELETEDROLE00001"), "{message}");
}

#[test]
fn foreign_repository_statements_are_not_disclosed() {
    let mut world = world();
    let others = Statement::allow(["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"])
        .sid("secret-project")
        .to_principals([format!("arn:aws:iam::{CONSUMER}:root")])
        .only_if(
            "ArnLike",
            "aws:PrincipalArn",
            ["arn:aws:iam::222222222222:role/secret"],
        );
    world.policy = Some(Document::of([others]));
    let message = world.message(AccessPath::Direct, AccessAction::Pull);
    assert!(
        message.starts_with("Denied") && !message.contains("secret"),
        "{message}"
    );
}

#[test]
fn unsupported_statement_of_a_shared_policy_is_not_quoted() {
    let mut world = world();
    let odd = Statement::deny(["ecr:BatchGetImage"])
        .sid("secret-sid")
        .to_principals(["*"]);
    let odd = odd.only_if("SecretOperator", "aws:PrincipalArn", ["secret"]);
    world.policy = world.policy.take().map(|policy| policy.with([odd]));
    let message = world.message(AccessPath::Direct, AccessAction::Pull);
    assert!(
        message.starts_with("Unknown: ") && !message.to_lowercase().contains("secret"),
        "{message}"
    );
    let gone = Statement::allow(["ecr:BatchGetImage"])
        .sid("secret-sid")
        .to_principals(["AROADELETEDROLE00001"]);
    world.policy = Some(Document::of([gone]));
    let message = world.message(AccessPath::Direct, AccessAction::Pull);
    assert!(
        message.starts_with("Denied: ") && !message.contains("AROA"),
        "{message}"
    );
}

#[test]
fn missing_role_is_denied_and_unmanaged_role_unknown() {
    let world = world();
    let arn = world.node.arn.clone();
    let judged = |holder| {
        let callers = vec![Caller::Role {
            arn: arn.clone(),
            holder,
        }];
        judge(
            &world.grant,
            &Readings {
                callers,
                ..world.readings()
            },
            &|| false,
        )
    };
    assert!(
        judged(HolderReading::Absent)
            .iter()
            .all(|reported| reported.verdict == AccessVerdict::Denied)
    );
    assert!(
        judged(HolderReading::Unknown("not read".into()))
            .iter()
            .all(|reported| reported.verdict == AccessVerdict::Unknown)
    );
}

#[test]
fn pull_access_reports_nothing_about_push() {
    let world = World::of(
        Cluster::of_the_article().admitted(&grant_with_plain_role(|spec| {
            spec.access = crate::api::grant::Access::Pull;
        })),
    );
    assert_eq!(world.allowed(), [ALL[0], ALL[2]]);
}

#[test]
fn prefix_without_repositories_depends_on_their_existence() {
    let world = world();
    let readings = Readings {
        repositories: Vec::new(),
        ..world.readings()
    };
    let judged = judge(&world.grant, &readings, &|| false);
    assert!(
        judged
            .iter()
            .all(|reported| reported.verdict == AccessVerdict::Depends),
        "{judged:#?}"
    );
}

#[test]
fn evaluation_over_its_limit_gives_unknown_with_a_remedy() {
    let world = world();
    let judged = judge(&world.grant, &world.readings(), &|| true);
    assert!(!judged.is_empty());
    for reported in judged {
        assert_eq!(reported.verdict, AccessVerdict::Unknown, "{reported:?}");
        assert!(
            reported
                .message
                .as_ref()
                .is_some_and(|message| message.contains("fewer repositories")),
            "{reported:?}"
        );
    }
}

#[test]
fn list_of_verdicts_is_bounded_and_has_no_duplicates() {
    let world = world();
    let many = |number: usize| Caller::Many {
        name: format!("arn:aws:iam::222222222222:role/r{number}*"),
        why: "x".into(),
    };
    let readings = Readings {
        callers: (0..500).map(many).collect(),
        ..world.readings()
    };
    let judged = judge(&world.grant, &readings, &|| false);
    assert_eq!(judged.len(), 100);
    let keys: std::collections::BTreeSet<_> = judged
        .iter()
        .map(|reported| (reported.principal.clone(), reported.path, reported.action))
        .collect();
    assert_eq!(keys.len(), judged.len());
}

#[test]
fn managed_policy_of_the_registry_role_decides() {
    let mut world = World::of(Cluster::of_the_article().admitted(&grant(|_| {})));
    assert!(
        world
            .message(AccessPath::AssumeRole, AccessAction::Pull)
            .starts_with("Unknown")
    );
    let arn = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPowerUser".to_owned();
    world.managed.insert(
        arn.clone(),
        Named::new(arn, Document::of([Statement::allow(["ecr:*"]).on(["*"])])),
    );
    assert_eq!(world.allowed(), ALL);
}

#[test]
fn lambda_access_depends_on_the_repository_policy_alone() {
    let lambda = grant_with_plain_role(|spec| spec.consumer.lambda = Some(true));
    let mut world = World::of(Cluster::of_the_article().admitted(&lambda));
    let (service, functions) = world.grant.lambda_functions().unwrap();
    let judged = |world: &World| {
        let callers = vec![Caller::Lambda {
            service: service.clone(),
            functions: functions.clone(),
        }];
        judge(
            &world.grant,
            &Readings {
                callers,
                ..world.readings()
            },
            &|| false,
        )
    };
    let reported = judged(&world);
    assert_eq!(
        reported
            .iter()
            .map(|reported| reported.verdict)
            .collect::<Vec<_>>(),
        [AccessVerdict::Allowed],
        "{reported:?}"
    );
    world.policy = None;
    assert_eq!(judged(&world)[0].verdict, AccessVerdict::Denied);
}

#[test]
fn organization_has_no_lambda_caller() {
    let spec = |spec: &mut crate::api::CrossAccountRegistryGrantSpec| {
        spec.consumer = organization("o-abcdefghij", &[])
    };
    let cluster = Cluster::of_the_article();
    let rule =
        super::resources::registry_rule(|rule| rule.organizations = vec!["o-abcdefghij".into()]);
    let grant = cluster
        .registry_rules([rule])
        .admitted(&grant_with_plain_role(spec));
    assert_eq!(grant.lambda_functions(), None);
    assert_eq!(grant.registry.as_str(), REGISTRY);
}

#[test]
fn denied_access_is_listed_before_other_verdicts() {
    let world = world();
    let many = |number: usize| Caller::Many {
        name: format!("arn:aws:iam::222222222222:role/r{number}*"),
        why: "x".into(),
    };
    let nobody = Caller::Role {
        arn: format!("arn:aws:iam::{CONSUMER}:role/nobody"),
        holder: HolderReading::Absent,
    };
    let readings = Readings {
        callers: (0..50).map(many).chain([nobody]).collect(),
        ..world.readings()
    };
    let judged = judge(&world.grant, &readings, &|| false);
    assert_eq!(judged.len(), 100);
    let problem = denied(&judged).expect("somebody is denied");
    assert!(
        problem.message.contains("role/nobody does not exist"),
        "{}",
        problem.message
    );
}

/// The drift that caused the end of the sessions is reverted by then, and clients only need new
/// sessions.
#[test]
fn sessions_just_ended_do_not_deny_new_ones() {
    let mut world = world();
    let end_of_this_second = now()
        .checked_add(k8s_openapi::jiff::SignedDuration::from_secs(1))
        .unwrap();
    let moment = end_of_this_second
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string();
    let ended =
        Statement::deny(["*"])
            .on(["*"])
            .only_if("DateLessThan", "aws:TokenIssueTime", [moment]);
    world.role.inline.insert(
        "registry-grants-ended-sessions".into(),
        Ok(Document::of([ended])),
    );
    assert_eq!(world.allowed(), ALL);
}
