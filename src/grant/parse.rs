//! Checks the spec by itself: every field once, into types that contain only names that are valid
//! in AWS. The CRD's validation rules check the same, but a resource may be older than the rules.

use super::Problem;
use super::names::{AccountId, GrantName, Organization, RepositoryPattern};
use super::partition::is_region;
use crate::api::CrossAccountRegistryGrant;
use crate::api::conditions::Reason;
use crate::api::grant::{
    Access, AccessPath, ConsumerSpec, CrossAccountRegistryGrantSpec, InstanceRoleSpec,
    ManagedPolicy, Management, OnDelete, OrganizationSpec, RegistryRoleSpec, RegistrySpec,
};
use kube::ResourceExt;
use std::collections::BTreeSet;

impl GrantName {
    /// Returns the namespace and name of a resource.
    pub fn of(resource: &CrossAccountRegistryGrant) -> Self {
        Self {
            namespace: resource.namespace().unwrap_or_default(),
            name: resource.name_any(),
        }
    }
}

/// Checked fields that every later step may rely on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The registry account.
    pub registry: AccountId,
    /// The consumer.
    pub consumer: ParsedConsumer,
    /// The repositories.
    pub repositories: BTreeSet<RepositoryPattern>,
}

/// Account or organization that gets access.
#[derive(Clone, Debug, PartialEq)]
pub enum ParsedConsumer {
    /// The account.
    Account(AccountId),
    /// The organization, or its units.
    Organization(BTreeSet<Organization>),
}

/// List of violations, each with its field.
#[derive(Default)]
struct Wrong(Vec<Problem>);

impl Wrong {
    fn add(&mut self, field: &str, why: impl std::fmt::Display) {
        self.0
            .push(Problem::new(Reason::Invalid, format!("{field}: {why}")));
    }

    fn unless(&mut self, right: bool, field: &str, why: impl std::fmt::Display) {
        if !right {
            self.add(field, why);
        }
    }

    fn parsed<T>(&mut self, field: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|why| self.add(field, why)).ok()
    }
}

/// Checks a spec.
///
/// # Errors
/// Every violation at once, each with its field and with reason `Invalid`.
pub fn parse(spec: &CrossAccountRegistryGrantSpec) -> Result<Parsed, Vec<Problem>> {
    let CrossAccountRegistryGrantSpec {
        access,
        paths,
        registry,
        consumer,
        deletion_policy: _,
        mode: _,
        suspend: _,
    } = spec;
    let mut wrong = Wrong::default();
    wrong.unless(
        !paths.is_empty(),
        "spec.paths",
        "at least one path is needed",
    );
    let registry_account = wrong.parsed("spec.registry.accountID", registry.account_id.parse());
    let direct = paths.contains(&AccessPath::Direct);
    let repositories = parse_registry(registry, *access, &mut wrong);
    wrong.unless(
        direct || registry.replace_sids.is_empty(),
        "spec.registry.replaceSids",
        "needs path Direct",
    );
    let consumer_parsed = parse_consumer(consumer, &mut wrong);
    wrong.unless(
        direct || consumer.lambda != Some(true),
        "spec.consumer.lambda",
        "needs path Direct",
    );
    wrong.unless(
        consumer.account_id.as_ref() != Some(&registry.account_id),
        "spec.consumer.accountID",
        "must differ from spec.registry.accountID",
    );
    match (registry_account, consumer_parsed, wrong.0.is_empty()) {
        (Some(registry), Some(consumer), true) => Ok(Parsed {
            registry,
            consumer,
            repositories,
        }),
        (_, _, _) => Err(wrong.0),
    }
}

fn parse_registry(
    registry: &RegistrySpec,
    access: Access,
    wrong: &mut Wrong,
) -> BTreeSet<RepositoryPattern> {
    let RegistrySpec {
        account_id: _,
        regions,
        repositories,
        replace_sids,
        role,
    } = registry;
    let parsed: BTreeSet<_> = repositories
        .iter()
        .filter_map(|text| wrong.parsed("spec.registry.repositories", text.parse()))
        .collect();
    let everything = RepositoryPattern::Prefix(String::new());
    wrong.unless(
        !parsed.contains(&everything),
        "spec.registry.repositories",
        "a lone * is not allowed: name a prefix",
    );
    wrong.unless(
        !repositories.is_empty(),
        "spec.registry.repositories",
        "at least one is needed",
    );
    wrong.unless(
        !regions.is_empty(),
        "spec.registry.regions",
        "at least one is needed",
    );
    for region in regions.iter().filter(|region| !is_region(region)) {
        wrong.add(
            "spec.registry.regions",
            format!("`{region}` is not a region"),
        );
    }
    for sid in replace_sids
        .iter()
        .filter(|sid| sid.is_empty() || sid.starts_with("RegistryGrants"))
    {
        wrong.add(
            "spec.registry.replaceSids",
            format!("`{sid}` cannot be replaced: a Sid must not be empty, and those that begin with RegistryGrants belong to this operator"),
        );
    }
    if let Some(role) = role {
        check_registry_role(role, access, wrong);
    }
    parsed
}

fn check_registry_role(role: &RegistryRoleSpec, access: Access, wrong: &mut Wrong) {
    let RegistryRoleSpec {
        name,
        managed_policies,
        name_in_repository_policy: _,
        max_session_seconds,
        external_id,
        adopt,
        path,
    } = role;
    wrong.unless(
        name.as_ref().is_none_or(|name| is_iam_name(name, 64)),
        "spec.registry.role.name",
        "not a role name: 1 to 64 letters, digits and + = , . @ - _",
    );
    let pushes = managed_policies.contains(&ManagedPolicy::AmazonEC2ContainerRegistryPowerUser);
    wrong.unless(
        access == Access::PullPush || !pushes,
        "spec.registry.role.managedPolicies",
        "AmazonEC2ContainerRegistryPowerUser would allow pushing",
    );
    wrong.unless(
        path.is_none() || (*adopt && name.is_some()),
        "spec.registry.role.path",
        "needs adopt: true and the role's name",
    );
    wrong.unless(
        path.as_ref().is_none_or(|path| is_path(path)),
        "spec.registry.role.path",
        "must start and end with /",
    );
    wrong.unless(
        (3600..=43200).contains(max_session_seconds),
        "spec.registry.role.maxSessionSeconds",
        "must be 3600 to 43200",
    );
    wrong.unless(
        external_id.as_ref().is_none_or(|id| is_external_id(id)),
        "spec.registry.role.externalID",
        "must be 2 to 1224 letters, digits and + = , . @ : / - _",
    );
}

fn parse_consumer(consumer: &ConsumerSpec, wrong: &mut Wrong) -> Option<ParsedConsumer> {
    let ConsumerSpec {
        account_id,
        organization,
        whole_account,
        roles,
        lambda,
        instance_role,
    } = consumer;
    let whole = *whole_account == Some(true);
    let parsed = match (account_id, organization) {
        (Some(id), None) => wrong
            .parsed("spec.consumer.accountID", id.parse())
            .map(ParsedConsumer::Account),
        (None, Some(organization)) => parse_organization(organization, wrong),
        (_, _) => {
            wrong.add(
                "spec.consumer",
                "accountID or organization is needed, and not both",
            );
            None
        }
    };
    if account_id.is_none() && organization.is_none() {
        return None;
    }
    if organization.is_some() {
        let of_account =
            whole || roles.is_some() || instance_role.is_some() || *lambda == Some(true);
        wrong.unless(
            !of_account,
            "spec.consumer",
            "wholeAccount, roles, lambda and instanceRole apply to an account, not to an organization",
        );
        return parsed;
    }
    wrong.unless(
        !whole || roles.is_none(),
        "spec.consumer",
        "wholeAccount and roles are mutually exclusive",
    );
    wrong.unless(
        whole || roles.is_some() || instance_role.is_some(),
        "spec.consumer",
        "needs wholeAccount: true, roles, or instanceRole",
    );
    if let Some(roles) = roles {
        check_roles(roles, wrong);
    }
    if let Some(instance) = instance_role {
        check_instance_role(instance, wrong);
    }
    parsed
}

fn check_roles(roles: &[String], wrong: &mut Wrong) {
    wrong.unless(
        !roles.is_empty(),
        "spec.consumer.roles",
        "at least one is needed",
    );
    for role in roles.iter().filter(|role| !is_role_pattern(role)) {
        wrong.add(
            "spec.consumer.roles",
            format!("`{role}` is not the part after role/ of a role's ARN, path included"),
        );
    }
}

fn check_instance_role(instance: &InstanceRoleSpec, wrong: &mut Wrong) {
    let InstanceRoleSpec {
        name,
        management,
        path,
        instance_profile,
        on_delete,
    } = instance;
    wrong.unless(
        is_iam_name(name, 64),
        "spec.consumer.instanceRole.name",
        "not a role name: 1 to 64 letters, digits and + = , . @ - _",
    );
    let extends = *management == Management::Extend;
    wrong.unless(
        path.is_none() || extends,
        "spec.consumer.instanceRole.path",
        "needs management: Extend; roles that the operator creates have the AWSAccount's path",
    );
    wrong.unless(
        path.as_ref().is_none_or(|path| is_path(path)),
        "spec.consumer.instanceRole.path",
        "must start and end with /",
    );
    let asks_for_more = instance_profile.is_some() || *on_delete == Some(OnDelete::DeleteRole);
    wrong.unless(
        !(extends && asks_for_more),
        "spec.consumer.instanceRole",
        "with management Extend, the role's owner manages the role and its instance profile",
    );
    wrong.unless(
        instance_profile
            .as_ref()
            .is_none_or(|name| is_iam_name(name, 128)),
        "spec.consumer.instanceRole.instanceProfile",
        "not a profile name: 1 to 128 letters, digits and + = , . @ - _",
    );
}

fn parse_organization(
    organization: &OrganizationSpec,
    wrong: &mut Wrong,
) -> Option<ParsedConsumer> {
    let OrganizationSpec { id, paths } = organization;
    let whole = wrong.parsed("spec.consumer.organization.id", id.parse())?;
    wrong.unless(
        matches!(whole, Organization::Whole(_)),
        "spec.consumer.organization.id",
        "is a path, not an ID",
    );
    let field = "spec.consumer.organization.paths";
    let Some(paths) = paths else {
        return Some(ParsedConsumer::Organization([whole].into()));
    };
    // A list that is empty by mistake must not mean everyone.
    wrong.unless(
        !paths.is_empty(),
        field,
        "at least one is needed; leave it out for the whole organization",
    );
    let units: BTreeSet<Organization> = paths
        .iter()
        .filter_map(|path| wrong.parsed(field, path.parse()))
        .collect();
    for unit in units
        .iter()
        .filter(|unit| !matches!(unit, Organization::Unit(_)) || !whole.covers(unit))
    {
        wrong.add(
            field,
            format!("`{unit}` is not a path in organization {id}"),
        );
    }
    Some(ParsedConsumer::Organization(units))
}

fn is_name_character(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b)
}

pub(crate) fn is_iam_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len()) && name.bytes().all(is_name_character)
}

pub(crate) fn is_external_id(id: &str) -> bool {
    (2..=1224).contains(&id.len())
        && id
            .bytes()
            .all(|b| is_name_character(b) || b":/".contains(&b))
}

/// Returns whether this is an IAM path: it begins and ends with `/`, and has names in between.
pub fn is_path(path: &str) -> bool {
    path == "/"
        || path
            .strip_prefix('/')
            .and_then(|rest| rest.strip_suffix('/'))
            .is_some_and(|names| names.split('/').all(is_path_part))
}

fn is_path_part(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(is_name_character)
}

fn is_role_pattern(pattern: &str) -> bool {
    let begins = pattern.bytes().next().is_some_and(is_name_character);
    begins
        && pattern
            .bytes()
            .all(|b| is_name_character(b) || b"/*".contains(&b))
        && !pattern.contains("//")
        && !pattern.ends_with('/')
}
