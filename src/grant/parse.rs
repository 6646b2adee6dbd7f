//! The spec by itself: every field checked once, into types that hold only what AWS's names hold. The definition's admission rules say
//! the same, but a resource may be older than they are.

use super::Problem;
use super::names::{AccountId, RepositoryPattern};
use crate::api::conditions::Reason;
use crate::api::grant::{
    Access, ConsumerSpec, CrossAccountRegistryGrantSpec, ManagedPolicy, RegistryRoleSpec, RegistrySpec,
};
use std::collections::BTreeSet;

/// What every later step may rely on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// The registry account.
    pub registry: AccountId,
    /// The consumer account.
    pub consumer: AccountId,
    /// The repositories.
    pub repositories: BTreeSet<RepositoryPattern>,
}

/// Collects what is wrong, each with its field.
#[derive(Default)]
struct Wrong(Vec<Problem>);

impl Wrong {
    fn add(&mut self, field: &str, why: impl std::fmt::Display) {
        self.0.push(Problem::new(Reason::Invalid, format!("{field}: {why}")));
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
/// Everything that is wrong at once, each with its field, and reason `Invalid`.
pub fn parse(spec: &CrossAccountRegistryGrantSpec) -> Result<Parsed, Vec<Problem>> {
    let CrossAccountRegistryGrantSpec { access, paths, registry, consumer } = spec;
    let mut wrong = Wrong::default();
    wrong.unless(!paths.is_empty(), "spec.paths", "at least one path is needed");
    let registry_account = wrong.parsed("spec.registry.accountID", registry.account_id.parse());
    let consumer_account = wrong.parsed("spec.consumer.accountID", consumer.account_id.parse());
    let differ = registry_account.is_none() || registry_account != consumer_account;
    wrong.unless(differ, "spec.consumer.accountID", "must differ from spec.registry.accountID");
    let repositories = parse_registry(registry, *access, &mut wrong);
    check_consumer(consumer, &mut wrong);
    match (registry_account, consumer_account, wrong.0.is_empty()) {
        (Some(registry), Some(consumer), true) => Ok(Parsed { registry, consumer, repositories }),
        (_, _, _) => Err(wrong.0),
    }
}

fn parse_registry(registry: &RegistrySpec, access: Access, wrong: &mut Wrong) -> BTreeSet<RepositoryPattern> {
    let RegistrySpec { account_id: _, regions, repositories, role } = registry;
    let field = "spec.registry.repositories";
    let parsed: BTreeSet<_> = repositories.iter().filter_map(|text| wrong.parsed(field, text.parse())).collect();
    let everything = RepositoryPattern::Prefix(String::new());
    wrong.unless(!parsed.contains(&everything), field, "a lone * is not allowed: name a prefix");
    wrong.unless(!repositories.is_empty(), field, "at least one is needed");
    wrong.unless(!regions.is_empty(), "spec.registry.regions", "at least one is needed");
    for region in regions.iter().filter(|region| !is_region(region)) {
        wrong.add("spec.registry.regions", format!("`{region}` is not a region"));
    }
    let Some(RegistryRoleSpec {
        name,
        managed_policies,
        name_in_repository_policy: _,
        max_session_seconds,
        external_id,
    }) = role
    else {
        return parsed;
    };
    let named = name.as_ref().is_none_or(|name| is_iam_name(name, 64));
    wrong.unless(named, "spec.registry.role.name", "not a role name: 1 to 64 letters, digits and + = , . @ - _");
    let pushes = managed_policies.contains(&ManagedPolicy::AmazonEC2ContainerRegistryPowerUser);
    let field = "spec.registry.role.managedPolicies";
    wrong.unless(
        access == Access::PullPush || !pushes,
        field,
        "AmazonEC2ContainerRegistryPowerUser would allow pushing",
    );
    let in_bounds = (3600..=43200).contains(max_session_seconds);
    wrong.unless(in_bounds, "spec.registry.role.maxSessionSeconds", "must be 3600 to 43200");
    let presentable = external_id.as_ref().is_none_or(|id| is_external_id(id));
    let field = "spec.registry.role.externalID";
    wrong.unless(presentable, field, "must be 2 to 1224 letters, digits and + = , . @ : / - _");
    parsed
}

fn check_consumer(consumer: &ConsumerSpec, wrong: &mut Wrong) {
    let ConsumerSpec { account_id: _, whole_account, roles, instance_role } = consumer;
    let whole = *whole_account == Some(true);
    wrong.unless(!whole || roles.is_none(), "spec.consumer", "wholeAccount and roles exclude each other");
    let somebody = whole || roles.is_some() || instance_role.is_some();
    wrong.unless(somebody, "spec.consumer", "needs wholeAccount: true, roles, or instanceRole");
    if let Some(roles) = roles {
        wrong.unless(!roles.is_empty(), "spec.consumer.roles", "at least one is needed");
        for role in roles.iter().filter(|role| !is_role_pattern(role)) {
            let why = format!("`{role}` is not what stands after role/ in a role's ARN, path included");
            wrong.add("spec.consumer.roles", why);
        }
    }
    if let Some(instance) = instance_role {
        let named = is_iam_name(&instance.name, 64);
        let field = "spec.consumer.instanceRole.name";
        wrong.unless(named, field, "not a role name: 1 to 64 letters, digits and + = , . @ - _");
        let named = instance.instance_profile.as_ref().is_none_or(|name| is_iam_name(name, 128));
        let field = "spec.consumer.instanceRole.instanceProfile";
        wrong.unless(named, field, "not a profile name: 1 to 128 letters, digits and + = , . @ - _");
    }
}

fn is_name_character(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"+=,.@_-".contains(&b)
}

fn is_iam_name(name: &str, longest: usize) -> bool {
    (1..=longest).contains(&name.len()) && name.bytes().all(is_name_character)
}

fn is_external_id(id: &str) -> bool {
    (2..=1224).contains(&id.len()) && id.bytes().all(|b| is_name_character(b) || b":/".contains(&b))
}

/// Regions stand in ARNs and host names, so that nothing but a region's form may pass: `us-east-1`, `us-gov-west-1`.
fn is_region(region: &str) -> bool {
    let parts: Vec<&str> = region.split('-').collect();
    let Some((number, words)) = parts.split_last() else { return false };
    let word = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
    let numbered = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    numbered && words.len() >= 2 && words.iter().all(word) && region.len() <= 32
}

/// An IAM path: it begins and ends with `/`, and holds names between.
pub fn is_path(path: &str) -> bool {
    let names = |inside: &str| inside.split('/').all(|name| !name.is_empty() && name.bytes().all(is_name_character));
    path == "/" || path.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')).is_some_and(names)
}

fn is_role_pattern(pattern: &str) -> bool {
    let begins = pattern.bytes().next().is_some_and(is_name_character);
    begins
        && pattern.bytes().all(|b| is_name_character(b) || b"/*".contains(&b))
        && !pattern.contains("//")
        && !pattern.ends_with('/')
}
