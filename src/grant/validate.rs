//! From the resource to a [`Grant`]: checked once, and admitted by the accounts' rules. The API server's admission rules are a
//! convenience; what decides is here.

use super::Problem;
use super::names::{AccountId, GrantName, RepositoryPattern};
use crate::api::account::{AWSAccount, ConsumerRule, Namespaces, Partition, RegistryRule, RoleSettings};
use crate::api::conditions::Reason;
use crate::api::grant::{Access, AccessPath, ConsumerSpec, CrossAccountRegistryGrant, ManagedPolicy, RegistryRoleSpec};
use crate::policy::Installation;
use kube::ResourceExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the cluster knows beside the grant.
pub trait Directory {
    /// The `AWSAccount` of this number.
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>>;
    /// The namespace's labels; none where it is not known.
    fn namespace_labels(&self, namespace: &str) -> BTreeMap<String, String>;
}

/// A grant that was checked, and that the accounts' rules admit.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Which resource it is.
    pub name: GrantName,
    /// What it allows.
    pub access: Access,
    /// Whether the repository policy lets the consumer in.
    pub direct: bool,
    /// The partition of both accounts.
    pub partition: Partition,
    /// The registry account.
    pub registry: AccountId,
    /// The regions.
    pub regions: BTreeSet<String>,
    /// The repositories in each of them.
    pub repositories: BTreeSet<RepositoryPattern>,
    /// The role in the registry account, where path `AssumeRole` is asked.
    pub role: Option<RegistryRole>,
    /// The consumer account.
    pub consumer: AccountId,
    /// Only these roles of the consumer, as ARN patterns; empty: the whole account.
    pub consumer_roles: BTreeSet<String>,
    /// The role that is kept in the consumer account.
    pub instance_role: ConsumerRole,
}

/// The role in the registry account.
#[derive(Clone, Debug, PartialEq)]
pub struct RegistryRole {
    /// Name and place.
    pub identity: RoleIdentity,
    /// AWS managed policies instead of an inline one.
    pub managed_policies: BTreeSet<ManagedPolicy>,
    /// Whether repository policies name it.
    pub name_in_repository_policy: bool,
    /// Longest session.
    pub max_session_seconds: i32,
    /// What the consumer must present.
    pub external_id: Option<String>,
}

/// A role's name, and how roles are made in its account.
#[derive(Clone, Debug, PartialEq)]
pub struct RoleIdentity {
    /// The account.
    pub account: AccountId,
    /// The account's partition.
    pub partition: Partition,
    /// The role's name.
    pub name: String,
    /// Path, boundary and limits in that account.
    pub settings: RoleSettings,
}

impl RoleIdentity {
    /// The role's ARN.
    pub fn arn(&self) -> String {
        let Self { account, partition, name, settings } = self;
        format!("arn:{}:iam::{account}:role{}{name}", partition.name(), settings.path)
    }
}

/// The role in the consumer account.
#[derive(Clone, Debug, PartialEq)]
pub enum ConsumerRole {
    /// None was asked for.
    NotRequested,
    /// One was asked for, but the consumer account has no `AWSAccount`.
    NotManaged,
    /// The operator keeps it.
    Kept {
        /// The role.
        role: RoleIdentity,
        /// The name of its instance profile.
        instance_profile: String,
    },
}

/// Checks a grant and holds it against the accounts' rules.
///
/// # Errors
/// Every violation at once. The first one's reason is [`Reason::Invalid`] where the resource itself is wrong.
pub fn validate(
    resource: &CrossAccountRegistryGrant,
    directory: &dyn Directory,
    installation: &Installation,
) -> Result<Grant, Vec<Problem>> {
    let name = GrantName { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() };
    let spec = &resource.spec;
    let mut problems = Vec::new();
    let mut invalid =
        |field: &str, why: String| problems.push(Problem::new(Reason::Invalid, format!("{field}: {why}")));

    let registry: Option<AccountId> =
        spec.registry.account_id.parse().map_err(|e| invalid("spec.registry.accountID", e)).ok();
    let consumer: Option<AccountId> =
        spec.consumer.account_id.parse().map_err(|e| invalid("spec.consumer.accountID", e)).ok();
    if registry.is_some() && registry == consumer {
        invalid("spec.consumer.accountID", "must differ from spec.registry.accountID".into());
    }
    let mut repositories = BTreeSet::new();
    for text in &spec.registry.repositories {
        match text.parse() {
            Ok(RepositoryPattern::Prefix(prefix)) if prefix.is_empty() => {
                invalid("spec.registry.repositories", "a lone * is not allowed: name a prefix".into());
            }
            Ok(pattern) => drop(repositories.insert(pattern)),
            Err(why) => invalid("spec.registry.repositories", why),
        }
    }
    if repositories.is_empty() || spec.registry.regions.is_empty() {
        invalid("spec.registry", "at least one region and one repository are needed".into());
    }
    for region in spec.registry.regions.iter().filter(|region| !is_region(region)) {
        invalid("spec.registry.regions", format!("`{region}` is not a region"));
    }
    let role = spec.registry.role.as_ref();
    let instance = spec.consumer.instance_role.as_ref();
    for (field, name, longest) in [
        ("spec.registry.role.name", role.and_then(|role| role.name.as_deref()), 64),
        ("spec.consumer.instanceRole.name", instance.map(|instance| instance.name.as_str()), 64),
        ("spec.consumer.instanceRole.instanceProfile", instance.and_then(|i| i.instance_profile.as_deref()), 128),
    ] {
        if name.is_some_and(|name| !is_iam_name(name, longest)) {
            invalid(field, format!("not an IAM name: 1 to {longest} letters, digits and + = , . @ - _"));
        }
    }
    if role.and_then(|role| role.external_id.as_deref()).is_some_and(|id| !is_external_id(id)) {
        invalid("spec.registry.role.externalID", "must be 2 to 1224 letters, digits and + = , . @ : / - _".into());
    }
    if let Err(why) = says_who(&spec.consumer) {
        invalid("spec.consumer", why.into());
    }
    let (Some(registry), Some(consumer), true) = (registry, consumer, problems.is_empty()) else {
        return Err(problems);
    };

    let Some(registry_account) = directory.account(&registry) else {
        return Err(vec![Problem::new(
            Reason::AccountNotFound,
            format!(
                "there is no AWSAccount {registry}: a cluster admin must create one, with a rule under spec.registry.rules that admits this grant"
            ),
        )]);
    };
    let consumer_account = directory.account(&consumer);
    let partition = registry_account.spec.partition;
    if let Some(other) = consumer_account.as_ref().map(|a| a.spec.partition).filter(|other| *other != partition) {
        problems.push(Problem::new(
            Reason::Invalid,
            format!(
                "spec.consumer.accountID: account {consumer} is in partition {}, account {registry} in {}; AWS has no access across partitions",
                other.name(),
                partition.name()
            ),
        ));
    }
    for region in spec.registry.regions.iter().filter(|region| !partition.has_region(region)) {
        problems.push(Problem::new(
            Reason::Invalid,
            format!("spec.registry.regions: {region} is not a region of partition {}", partition.name()),
        ));
    }

    let identity = |account: &AccountId, name: String, settings: &RoleSettings| RoleIdentity {
        account: account.clone(),
        partition,
        name,
        settings: settings.clone(),
    };
    let role = spec.paths.contains(&AccessPath::AssumeRole).then(|| {
        let RegistryRoleSpec {
            name: role,
            managed_policies,
            name_in_repository_policy,
            max_session_seconds,
            external_id,
        } = spec.registry.role.clone().unwrap_or_default();
        RegistryRole {
            identity: identity(
                &registry,
                role.unwrap_or_else(|| name.in_aws(installation, 64)),
                &registry_account.spec.roles,
            ),
            managed_policies: managed_policies.into_iter().collect(),
            name_in_repository_policy,
            max_session_seconds,
            external_id,
        }
    });
    let labels = directory.namespace_labels(&name.namespace);
    let asked = Asked {
        name: &name,
        labels: &labels,
        access: spec.access,
        repositories: &repositories,
        consumer: &consumer,
        role: role.as_ref(),
    };
    let rules = registry_account.spec.registry.iter().flat_map(|side| &side.rules);
    problems.extend(asked.refused_by(&registry, rules));

    let instance_role = match (&spec.consumer.instance_role, &consumer_account) {
        (None, _) => ConsumerRole::NotRequested,
        (Some(_), None) => ConsumerRole::NotManaged,
        (Some(asked), Some(account)) => {
            let role = identity(&consumer, asked.name.clone(), &account.spec.roles);
            let rules = account.spec.consumer.iter().flat_map(|side| &side.rules);
            problems.extend(instance_role_refused(&role, &name, &labels, rules));
            let instance_profile = asked.instance_profile.clone().unwrap_or_else(|| asked.name.clone());
            ConsumerRole::Kept { role, instance_profile }
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    let consumer_roles = consumer_roles(&spec.consumer, &consumer, partition, consumer_account.as_deref());
    Ok(Grant {
        name,
        access: spec.access,
        direct: spec.paths.contains(&AccessPath::Direct),
        partition,
        registry,
        regions: spec.registry.regions.iter().cloned().collect(),
        repositories,
        role,
        consumer,
        consumer_roles,
        instance_role,
    })
}

/// What a grant asks of the registry account.
struct Asked<'a> {
    name: &'a GrantName,
    labels: &'a BTreeMap<String, String>,
    access: Access,
    repositories: &'a BTreeSet<RepositoryPattern>,
    consumer: &'a AccountId,
    role: Option<&'a RegistryRole>,
}

impl Asked<'_> {
    /// Why no rule admits the grant, in terms of what the tenant asked: what else the account's rules admit is not told.
    fn refused_by<'r>(&self, account: &AccountId, rules: impl Iterator<Item = &'r RegistryRule>) -> Option<Problem> {
        let namespace = &self.name.namespace;
        let refusals: Vec<Vec<String>> = rules
            .filter(|rule| in_namespaces(&rule.namespaces, namespace, self.labels))
            .map(|rule| self.not_admitted(rule))
            .collect();
        let why = match refusals.iter().min_by_key(|refusal| refusal.len()) {
            Some(fits) if fits.is_empty() => return None,
            Some(closest) => format!("no rule admits {}", closest.join(", ")),
            None => "no rule is for this namespace".into(),
        };
        Some(Problem::new(
            Reason::NotAdmitted,
            format!(
                "AWSAccount {account} does not admit this grant in namespace {namespace}: {why}. A cluster admin can add a rule under spec.registry.rules; a grant must fit one rule whole"
            ),
        ))
    }

    fn not_admitted(&self, rule: &RegistryRule) -> Vec<String> {
        let RegistryRule { namespaces: _, repositories, max_access, consumers, managed_policies } = rule;
        let admitted: Vec<RepositoryPattern> = repositories.iter().filter_map(|text| text.parse().ok()).collect();
        let mut refused: Vec<String> = self
            .repositories
            .iter()
            .filter(|asked| !admitted.iter().any(|rule| rule.covers(asked)))
            .map(|asked| format!("repository {asked}"))
            .collect();
        if self.access > *max_access {
            refused.push(format!("access {:?}", self.access));
        }
        if !consumers.iter().any(|id| id == self.consumer.as_str()) {
            refused.push(format!("consumer {}", self.consumer));
        }
        let policies = self.role.iter().flat_map(|role| &role.managed_policies);
        refused.extend(policies.filter(|p| !managed_policies.contains(p)).map(|p| format!("managed policy {p:?}")));
        refused
    }
}

fn instance_role_refused<'r>(
    role: &RoleIdentity,
    name: &GrantName,
    labels: &BTreeMap<String, String>,
    mut rules: impl Iterator<Item = &'r ConsumerRule>,
) -> Option<Problem> {
    let path_and_name = format!("{}{}", role.settings.path.trim_start_matches('/'), role.name);
    let admits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => path_and_name.starts_with(prefix),
        None => *pattern == path_and_name,
    };
    let admitted = rules.any(|rule| {
        let ConsumerRule { namespaces, roles } = rule;
        in_namespaces(namespaces, &name.namespace, labels) && roles.iter().any(admits)
    });
    (!admitted).then(|| {
        Problem::new(
            Reason::NotAdmitted,
            format!(
                "AWSAccount {} does not admit instance role {path_and_name} for namespace {}: a cluster admin can add a rule under spec.consumer.rules",
                role.account, name.namespace
            ),
        )
    })
}

fn in_namespaces(namespaces: &Namespaces, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
    let Namespaces { names, selector } = namespaces;
    let selected = selector.clone().is_some_and(|selector| {
        let empty = selector.match_labels.as_ref().is_none_or(BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty);
        let parsed = kube::core::Selector::try_from(selector);
        !empty && parsed.is_ok_and(|selector| kube::core::SelectorExt::matches(&selector, labels))
    });
    selected || names.iter().any(|name| name == namespace)
}

fn says_who(consumer: &ConsumerSpec) -> Result<(), &'static str> {
    let whole = consumer.whole_account == Some(true);
    match &consumer.roles {
        Some(_) if whole => Err("wholeAccount and roles exclude each other"),
        Some(roles) if roles.is_empty() => Err("roles must not be empty"),
        Some(roles) if !roles.iter().all(|role| is_role_pattern(role)) => {
            Err("roles: each must be what stands after role/ in a role's ARN, path included")
        }
        None if !whole && consumer.instance_role.is_none() => Err("needs wholeAccount: true, roles, or instanceRole"),
        Some(_) | None => Ok(()),
    }
}

/// The ARN patterns that the consumer's roles come down to; none for a whole account.
fn consumer_roles(
    spec: &ConsumerSpec,
    account: &AccountId,
    partition: Partition,
    managed: Option<&AWSAccount>,
) -> BTreeSet<String> {
    if spec.whole_account == Some(true) {
        return BTreeSet::new();
    }
    let arn = |role: &str| format!("arn:{}:iam::{account}:role/{role}", partition.name());
    if let Some(roles) = &spec.roles {
        return roles.iter().map(|role| arn(role)).collect();
    }
    // Neither is set: the instance role alone. In an account that is not managed its path is not known, so the default's is taken.
    let settings = managed.map_or_else(RoleSettings::default, |account| account.spec.roles.clone());
    let role = spec.instance_role.iter().map(|role| format!("{}{}", settings.path.trim_start_matches('/'), role.name));
    role.map(|role| arn(&role)).collect()
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

/// Regions stand in ARNs, so that nothing but a region's characters may pass.
fn is_region(region: &str) -> bool {
    let characters = region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    characters && region.split('-').count() >= 3 && region.len() <= 32
}

fn is_role_pattern(pattern: &str) -> bool {
    let begins = pattern.bytes().next().is_some_and(is_name_character);
    begins
        && pattern.bytes().all(|b| is_name_character(b) || b"/*".contains(&b))
        && !pattern.contains("//")
        && !pattern.ends_with('/')
}
