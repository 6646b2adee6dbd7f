//! IAM documents of the operator's own role in an account: its permissions, its trust policy, and
//! the boundary of the roles that it creates. They follow least privilege, and an account's admin
//! puts them in place.
//!
//! Every statement is needed: `tests/integration/operator_permissions.rs` removes each action in
//! turn and checks that something fails. A new call in `aws::iam` or `aws::ecr` must be allowed
//! here.

use super::actions;
use super::names::RepositoryPattern;
use super::ownership::{TAG_ALLOW_ADOPT, TAG_ALLOW_EXTEND, TAG_INSTALLATION, TAG_NAMESPACE};
use crate::api::account::Partition;
use crate::api::grant::{Access, ManagedPolicy};
use crate::policy::arn::Arn;
use crate::policy::{Document, Installation, Statement};

/// AWS limit on the characters of a managed policy, which applies to the boundary.
pub const MAX_MANAGED_CHARACTERS: usize = 6_144;

/// Session tags that EKS Pod Identity sets. All of them are transitive: they are passed on when the
/// operator assumes a role. See
/// <https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html>.
pub const POD_IDENTITY_TAGS: [&str; 6] = [
    "eks-cluster-arn",
    "eks-cluster-name",
    "kubernetes-namespace",
    "kubernetes-pod-name",
    "kubernetes-pod-uid",
    "kubernetes-service-account",
];

/// Actions that read roles. They cannot be limited to a path, because IAM cannot report under a
/// path that a role does not exist (`docs/decisions/0006`).
const READ_ROLES: [&str; 6] = [
    "iam:GetRole",
    "iam:GetRolePolicy",
    "iam:ListAttachedRolePolicies",
    "iam:ListInstanceProfilesForRole",
    "iam:ListRolePolicies",
    // Needed if `iam:GetRole` omits the tags, which it may do for a role that has none.
    "iam:ListRoleTags",
];
/// Actions on registry roles and on instance roles.
const CHANGE_ROLES: [&str; 4] = [
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:UntagRole",
    "iam:UpdateAssumeRolePolicy",
];
/// Actions on a foreign role whose tag allows it to be extended.
const EXTEND_ROLES: [&str; 3] = [
    "iam:DeleteRolePolicy",
    "iam:PutRolePolicy",
    "iam:UpdateAssumeRolePolicy",
];
/// Actions on a foreign role whose tag allows a grant to adopt it. The role may be under any path,
/// both before and after the adoption.
const ADOPT_ROLES: [&str; 7] = [
    "iam:DeleteRole",
    "iam:DeleteRolePolicy",
    "iam:DetachRolePolicy",
    "iam:TagRole",
    "iam:UntagRole",
    "iam:UpdateAssumeRolePolicy",
    "iam:UpdateRole",
];
/// Additional actions on a registry role, which has managed policies and whose session duration the
/// operator sets.
const CHANGE_REGISTRY_ROLES: [&str; 2] = ["iam:DetachRolePolicy", "iam:UpdateRole"];
/// Actions that read the policies attached to a role and its boundary. Whether access works depends
/// on them.
const READ_POLICIES: [&str; 2] = ["iam:GetPolicy", "iam:GetPolicyVersion"];
const CHANGE_PROFILES: [&str; 4] = [
    "iam:AddRoleToInstanceProfile",
    "iam:DeleteInstanceProfile",
    "iam:RemoveRoleFromInstanceProfile",
    "iam:UntagInstanceProfile",
];
const REPOSITORY_POLICIES: [&str; 3] = [
    "ecr:DeleteRepositoryPolicy",
    "ecr:GetRepositoryPolicy",
    "ecr:SetRepositoryPolicy",
];
/// Actions on images that the managed policies allow in addition to pushing and pulling.
const DESCRIBE: [&str; 2] = ["ecr:DescribeImages", "ecr:DescribeRepositories"];
/// Actions that change a role or a managed policy, by the prefixes of their names.
const CHANGE_ANYTHING: [&str; 9] = [
    "iam:Attach*",
    "iam:Create*",
    "iam:Delete*",
    "iam:Detach*",
    "iam:Put*",
    "iam:Set*",
    "iam:Tag*",
    "iam:Untag*",
    "iam:Update*",
];

/// Operator's own role in an account. The caller checks the texts. For a template, they may be
/// placeholders.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorRole {
    /// Whether the account owns repositories.
    pub registry: bool,
    /// Whether the account pulls and pushes. An account may be both.
    pub consumer: bool,
    /// The account's ID.
    pub account: String,
    /// The account's partition.
    pub partition: Partition,
    /// The ARN of the role that the operator itself has.
    pub operator_role: String,
    /// The external ID that the operator must present when it assumes the role.
    pub external_id: Option<String>,
    /// The path of the roles and instance profiles that the operator creates; begins and ends with
    /// `/`.
    pub path: String,
    /// The name of the role that the documents are for.
    pub role: String,
    /// The name of the managed policy that is the boundary of created roles.
    pub boundary: String,
    /// The repositories whose policies the operator may write; never empty.
    pub repositories: Vec<RepositoryPattern>,
    /// The regions of these repositories; empty for all regions.
    pub regions: Vec<String>,
    /// The installation whose tag must be on changed resources; `None` for any installation's tag.
    pub installation: Option<Installation>,
    /// The managed policies that a registry role may have.
    pub managed_policies: Vec<ManagedPolicy>,
    /// Whether foreign instance roles may be extended if their tag allows it.
    pub extend: bool,
    /// Whether foreign registry roles may be adopted if their tag allows it.
    pub adopt: bool,
    /// Keys of further transitive session tags of the operator's own identity, in addition to those
    /// of EKS Pod Identity.
    pub session_tag_keys: Vec<String>,
}

impl OperatorRole {
    /// Returns the policy that the operator's identity needs. It allows assuming the role of this
    /// name in every account.
    pub fn operator(partition: Partition, role: &str) -> Document {
        let everywhere = Arn::role(partition.name(), "*", "/", role);
        let become_and_tag = ["sts:AssumeRole", "sts:TagSession"];
        Document::of([Statement::allow(become_and_tag)
            .sid("BecomeTheManagementRoles")
            .on([everywhere])])
    }

    /// Returns the role's trust policy.
    pub fn trust(&self) -> Document {
        let mut trust = Statement::allow(["sts:AssumeRole"])
            .sid("TheOperator")
            .to_principals([&self.operator_role]);
        if let Some(external_id) = &self.external_id {
            trust = trust.only_if("StringEquals", "sts:ExternalId", [external_id]);
        }
        // A separate statement, because this action has no external ID. The tags that the
        // operator's own session passes on are checked like those that the operator sets.
        let keys = [TAG_INSTALLATION, TAG_NAMESPACE]
            .into_iter()
            .chain(POD_IDENTITY_TAGS)
            .chain(self.session_tag_keys.iter().map(String::as_str));
        let tags = Statement::allow(["sts:TagSession"])
            .sid("ForWhomItWorks")
            .to_principals([&self.operator_role])
            .only_if("ForAllValues:StringEquals", "aws:TagKeys", keys);
        Document::of([trust, tags])
    }

    /// Returns the role's permissions policy.
    pub fn permissions(&self) -> Document {
        let mut statements = self.on_roles();
        if self.registry {
            statements.extend(self.on_registry());
        }
        if self.consumer {
            statements.extend(self.on_instance_profiles());
        }
        if self.extend {
            statements.push(self.extending());
        }
        if self.adopt {
            statements.extend(self.adopting());
        }
        // No Allow above reaches these resources. The Denies matter if somebody gives the role more
        // permissions. The role may have been created under any path.
        let itself = [
            self.iam(&format!("role/{}", self.role)),
            self.iam(&format!("role/*/{}", self.role)),
            self.boundary_arn(),
        ];
        statements.extend([
            Statement::deny(["iam:DeleteRolePermissionsBoundary"])
                .sid("NeverLiftABoundary")
                .on(["*"]),
            Statement::deny(CHANGE_ANYTHING)
                .sid("NeverChangeItself")
                .on(itself),
        ]);
        Document::of(statements)
    }

    /// Returns the boundary of the roles that the operator creates: the most they can ever do,
    /// whatever their policies allow.
    pub fn boundary(&self) -> Document {
        let mut actions = actions::of(Access::PullPush);
        if self.registry && !self.managed_policies.is_empty() {
            actions.extend(DESCRIBE.map(String::from));
        }
        let mut statements = vec![
            Statement::allow([actions::GET_TOKEN])
                .sid("LogIn")
                .on(["*"]),
        ];
        if self.registry {
            statements.push(
                Statement::allow(&actions)
                    .sid("PullAndPush")
                    .on(self.repository_arns()),
            );
        }
        // A consumer's roles reach the repositories of other accounts, but not those of their own.
        if self.consumer {
            let everywhere = Arn::repository(self.partition.name(), "*", "*", "*");
            let elsewhere = Statement::allow(&actions)
                .sid("PullAndPushElsewhere")
                .on([everywhere]);
            statements.push(elsewhere.only_if(
                "StringNotEquals",
                "aws:ResourceAccount",
                [&self.account],
            ));
            let roles = Arn::role(self.partition.name(), "*", &self.path, "*");
            statements.push(
                Statement::allow(["sts:AssumeRole"])
                    .sid("RolesOfRegistries")
                    .on([roles]),
            );
        }
        Document::of(statements)
    }

    fn on_roles(&self) -> Vec<Statement> {
        let more: &[&str] = if self.registry {
            &CHANGE_REGISTRY_ROLES
        } else {
            &[]
        };
        let mut change = [&CHANGE_ROLES, more].concat();
        change.sort_unstable();
        vec![
            Statement::allow(READ_ROLES)
                .sid("ReadRoles")
                .on([self.iam("role/*")]),
            // The account's own policies, and those of AWS, whose ARNs have `aws` in place of the
            // account ID. There are no others to read.
            Statement::allow(READ_POLICIES)
                .sid("ReadManagedPolicies")
                .on([Arn::iam(self.partition.name(), "*", "policy/*")]),
            // List actions support no resource: the service authorization reference names none for
            // them.
            Statement::allow(["iam:ListRoles"])
                .sid("FindRoles")
                .on(["*"]),
            self.asking_for_our_tag(
                self.bounded(
                    self.allow_on_roles("CreateBoundedAndTaggedRoles", &["iam:CreateRole"]),
                ),
            ),
            self.of_no_other_installation(
                self.asking_for_our_tag(self.allow_on_roles("TagRoles", &["iam:TagRole"])),
            ),
            self.carrying_our_tag(
                self.bounded(self.allow_on_roles("ChangeOwnBoundedRoles", &["iam:PutRolePolicy"])),
            ),
            self.carrying_our_tag(self.allow_on_roles("ChangeAndRemoveOwnRoles", &change)),
            self.carrying_our_tag(self.bounded(
                self.allow_on_roles("PutTheBoundaryBack", &["iam:PutRolePermissionsBoundary"]),
            )),
        ]
    }

    fn on_registry(&self) -> Vec<Statement> {
        let mut statements = Vec::new();
        let policies = self.managed_policy_arns();
        if !policies.is_empty() {
            let attach = self.allow_on_roles("AttachEcrPolicies", &["iam:AttachRolePolicy"]);
            let attach_ours = self.carrying_our_tag(self.bounded(attach));
            statements.push(attach_ours.only_if("ArnEquals", "iam:PolicyARN", policies));
        }
        statements.extend([
            Statement::allow(REPOSITORY_POLICIES)
                .sid("RepositoryPolicies")
                .on(self.repository_arns()),
            // The registry policy applies to every request to the registry, and the action supports
            // no resource.
            Statement::allow(["ecr:GetRegistryPolicy"])
                .sid("ReadRegistryPolicy")
                .on(["*"]),
            // Listing the repositories is a request for all of them.
            Statement::allow(["ecr:DescribeRepositories"])
                .sid("FindRepositories")
                .on(self.ecr(&["*".into()])),
        ]);
        statements
    }

    fn on_instance_profiles(&self) -> Vec<Statement> {
        let own = self.iam(&format!("instance-profile{}*", self.path));
        let create = Statement::allow(["iam:CreateInstanceProfile", "iam:TagInstanceProfile"])
            .sid("CreateTaggedInstanceProfiles")
            .on([&own]);
        let change = Statement::allow(CHANGE_PROFILES)
            .sid("ChangeAndRemoveOwnInstanceProfiles")
            .on([&own]);
        let pass = Statement::allow(["iam:PassRole"])
            .sid("GiveRolesToInstancesOnly")
            .on([self.roles()]);
        vec![
            Statement::allow(["iam:GetInstanceProfile", "iam:ListInstanceProfileTags"])
                .sid("ReadInstanceProfiles")
                .on([self.iam("instance-profile/*")]),
            Statement::allow(["iam:ListInstanceProfiles"])
                .sid("FindInstanceProfiles")
                .on(["*"]),
            self.of_no_other_installation(self.asking_for_our_tag(create)),
            self.carrying_our_tag(change),
            // AWS does not document whether IAM sets the key when a role is added to an instance
            // profile.
            pass.only_if(
                "StringEqualsIfExists",
                "iam:PassedToService",
                [self.partition.ec2_service()],
            ),
        ]
    }

    fn extending(&self) -> Statement {
        let statement = Statement::allow(EXTEND_ROLES)
            .sid("ExtendConsentingRoles")
            .on([self.iam("role/*")]);
        let key = format!("aws:ResourceTag/{TAG_ALLOW_EXTEND}");
        match &self.installation {
            Some(installation) => {
                statement.only_if("StringEquals", &key, ["true", installation.as_str()])
            }
            None => statement.only_if("Null", &key, ["false"]),
        }
    }

    fn adopting(&self) -> Vec<Statement> {
        let adopt = self.allow_on_consenting_roles("AdoptConsentingRoles", &ADOPT_ROLES);
        let bound = self.allow_on_consenting_roles(
            "AdoptWithABoundary",
            &["iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"],
        );
        let mut statements = vec![adopt, self.bounded(bound)];
        let policies = self.managed_policy_arns();
        if !policies.is_empty() {
            let attach = self
                .allow_on_consenting_roles("AttachToConsentingRoles", &["iam:AttachRolePolicy"]);
            statements.push(
                self.bounded(attach)
                    .only_if("ArnEquals", "iam:PolicyARN", policies),
            );
        }
        statements
    }

    /// Allows actions on the roles that the operator creates.
    fn allow_on_roles(&self, sid: &str, actions: &[&str]) -> Statement {
        Statement::allow(actions.iter().copied())
            .sid(sid)
            .on([self.roles()])
    }

    /// Allows actions on foreign roles whose tag allows a grant to adopt them.
    fn allow_on_consenting_roles(&self, sid: &str, actions: &[&str]) -> Statement {
        Statement::allow(actions.iter().copied())
            .sid(sid)
            .on([self.iam("role/*")])
            .only_if(
                "Null",
                &format!("aws:ResourceTag/{TAG_ALLOW_ADOPT}"),
                ["false"],
            )
    }

    fn managed_policy_arns(&self) -> Vec<String> {
        self.managed_policies
            .iter()
            .map(|policy| policy.arn(self.partition))
            .collect()
    }

    fn bounded(&self, statement: Statement) -> Statement {
        statement.only_if(
            "ArnEquals",
            "iam:PermissionsBoundary",
            [self.boundary_arn()],
        )
    }

    fn asking_for_our_tag(&self, statement: Statement) -> Statement {
        self.with_tag(statement, "aws:RequestTag")
    }

    fn carrying_our_tag(&self, statement: Statement) -> Statement {
        self.with_tag(statement, "aws:ResourceTag")
    }

    fn with_tag(&self, statement: Statement, key: &str) -> Statement {
        let key = format!("{key}/{TAG_INSTALLATION}");
        match &self.installation {
            Some(installation) => statement.only_if("StringEquals", &key, [installation.as_str()]),
            None => statement.only_if("Null", &key, ["false"]),
        }
    }

    /// Excludes resources with another installation's tag. A resource that is tagged during its
    /// creation has no tag yet, so the condition only applies if there is one.
    fn of_no_other_installation(&self, statement: Statement) -> Statement {
        let key = format!("aws:ResourceTag/{TAG_INSTALLATION}");
        match &self.installation {
            Some(installation) => {
                statement.only_if("StringEqualsIfExists", &key, [installation.as_str()])
            }
            None => statement,
        }
    }

    fn boundary_arn(&self) -> String {
        self.iam(&format!("policy/{}", self.boundary))
    }

    fn roles(&self) -> String {
        self.iam(&format!("role{}*", self.path))
    }

    fn iam(&self, resource: &str) -> String {
        Arn::iam(self.partition.name(), &self.account, resource)
    }

    fn repository_arns(&self) -> Vec<String> {
        self.ecr(
            &self
                .repositories
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
    }

    fn ecr(&self, repositories: &[String]) -> Vec<String> {
        let Self {
            partition,
            account,
            regions,
            ..
        } = self;
        let everywhere = ["*".to_owned()];
        let regions = if regions.is_empty() {
            &everywhere[..]
        } else {
            regions
        };
        let mut arns = Vec::new();
        for region in regions {
            for repository in repositories {
                arns.push(Arn::repository(
                    partition.name(),
                    region,
                    account,
                    repository,
                ));
            }
        }
        arns
    }
}
