//! Fixtures of the tests: the article's grant and its two accounts, each open to change.

use crate::api::account::{
    AWSAccount, AWSAccountSpec, ConsumerRule, ConsumerSide, Namespaces, RegistryRule, RegistrySide,
    RoleSettings,
};
use crate::api::grant::{
    Access, AccessPath, Applied, ConsumerSpec, CrossAccountRegistryGrant,
    CrossAccountRegistryGrantSpec, DeletionPolicy, InstanceRoleSpec, ManagedPolicy, Management,
    Mode, OrganizationSpec, RegistryRoleSpec, RegistrySpec,
};
use crate::grant::desired::Desired;
use crate::grant::ownership::Owner;
use crate::grant::{
    AccountId, AccountLookup, Decision, Grant, GrantInput, GrantName, Problem, RuleContext,
    validate,
};
use crate::policy::Installation;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;

pub const REGISTRY: &str = "111111111111";
pub const CONSUMER: &str = "222222222222";

pub fn installation() -> Installation {
    "0123456789ab".parse().unwrap()
}

pub fn owner() -> Owner {
    Owner {
        installation: installation(),
        grant: GrantName {
            namespace: "team-b".into(),
            name: "miq-devops".into(),
        },
        uid: "11111111-2222-3333-4444-555555555555".into(),
    }
}

pub fn name_of(resource: &CrossAccountRegistryGrant) -> GrantName {
    GrantName {
        namespace: resource.namespace().unwrap(),
        name: resource.name_any(),
    }
}

pub fn strings<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(String::from).to_vec()
}

/// Returns the article's grant with a change.
pub fn grant(change: impl FnOnce(&mut CrossAccountRegistryGrantSpec)) -> CrossAccountRegistryGrant {
    let mut spec = CrossAccountRegistryGrantSpec {
        access: Access::PullPush,
        paths: vec![AccessPath::Direct, AccessPath::AssumeRole],
        registry: RegistrySpec {
            account_id: REGISTRY.into(),
            regions: strings(["us-east-1"]),
            repositories: strings(["miqp-devops"]),
            replace_sids: Vec::new(),
            role: Some(RegistryRoleSpec {
                name: Some("ECS-AssumeRole-MIQDevOps".into()),
                managed_policies: vec![ManagedPolicy::AmazonEC2ContainerRegistryPowerUser],
                name_in_repository_policy: true,
                ..RegistryRoleSpec::default()
            }),
        },
        consumer: ConsumerSpec {
            account_id: Some(CONSUMER.into()),
            organization: None,
            lambda: None,
            whole_account: Some(true),
            roles: None,
            instance_role: Some(instance_role("miq-instance")),
        },
        deletion_policy: DeletionPolicy::Delete,
        mode: Mode::Enforce,
        suspend: false,
    };
    change(&mut spec);
    let mut grant = CrossAccountRegistryGrant::new("miq-devops", spec);
    grant.metadata.namespace = Some("team-b".into());
    grant
}

/// Returns an instance role of this name, with nothing else set.
pub fn instance_role(name: &str) -> InstanceRoleSpec {
    InstanceRoleSpec {
        name: name.into(),
        management: Management::Create,
        path: None,
        instance_profile: None,
        on_delete: None,
    }
}

/// Returns a fixed moment.
pub fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().unwrap()
}

/// Returns an organization, or some of its units, as the consumer.
pub fn organization(id: &str, paths: &[&str]) -> ConsumerSpec {
    let paths = (!paths.is_empty()).then(|| paths.iter().map(|path| (*path).to_owned()).collect());
    ConsumerSpec {
        organization: Some(OrganizationSpec {
            id: id.into(),
            paths,
        }),
        ..ConsumerSpec::default()
    }
}

/// Returns the article's grant with the default registry role: least privilege.
pub fn grant_with_plain_role(
    change: impl FnOnce(&mut CrossAccountRegistryGrantSpec),
) -> CrossAccountRegistryGrant {
    grant(|spec| {
        spec.registry.role = Some(RegistryRoleSpec {
            name: Some("puller".into()),
            ..RegistryRoleSpec::default()
        });
        change(spec);
    })
}

/// Returns a rule that admits the article's grant and no more, with a change.
pub fn registry_rule(change: impl FnOnce(&mut RegistryRule)) -> RegistryRule {
    let mut rule = RegistryRule {
        namespaces: namespaces(["team-b"]),
        repositories: strings(["miqp-devops"]),
        max_access: Access::PullPush,
        consumers: strings([CONSUMER]),
        organizations: Vec::new(),
        allow_replace: false,
        allow_retain: false,
        managed_policies: vec![ManagedPolicy::AmazonEC2ContainerRegistryPowerUser],
    };
    change(&mut rule);
    rule
}

/// Returns a rule that admits the article's instance role and no other, with a change.
pub fn consumer_rule(change: impl FnOnce(&mut ConsumerRule)) -> ConsumerRule {
    let roles = strings(["registry-grants/miq-instance"]);
    let management = vec![Management::Create];
    let mut rule = ConsumerRule {
        namespaces: namespaces(["team-b"]),
        roles,
        management,
        allow_retain: false,
    };
    change(&mut rule);
    rule
}

pub fn namespaces<const N: usize>(names: [&str; N]) -> Namespaces {
    Namespaces {
        names: strings(names),
        selector: None,
    }
}

pub fn selected(selector: LabelSelector) -> Namespaces {
    Namespaces {
        names: Vec::new(),
        selector: Some(selector),
    }
}

pub fn labelled(key: &str, value: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(BTreeMap::from([(key.into(), value.into())])),
        match_expressions: None,
    }
}

pub fn expression<const N: usize>(key: &str, operator: &str, values: [&str; N]) -> LabelSelector {
    let values = (N > 0).then(|| strings(values));
    let requirement = LabelSelectorRequirement {
        key: key.into(),
        operator: operator.into(),
        values,
    };
    LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![requirement]),
    }
}

/// A cluster in memory: its `AWSAccount`s, and its namespaces with their labels.
#[derive(Default)]
pub struct Cluster {
    accounts: BTreeMap<AccountId, Arc<AWSAccount>>,
    labels: BTreeMap<String, BTreeMap<String, String>>,
}

impl Cluster {
    /// Returns a cluster with both of the article's accounts, which admit its grant and no more,
    /// and with its namespace, which has no labels.
    pub fn of_the_article() -> Self {
        let labels = BTreeMap::from([("team-b".to_owned(), BTreeMap::new())]);
        Self {
            labels,
            ..Self::default()
        }
        .account(REGISTRY, |spec| {
            spec.registry = Some(RegistrySide {
                rules: vec![registry_rule(|_| {})],
            })
        })
        .account(CONSUMER, |spec| {
            spec.consumer = Some(ConsumerSide {
                rules: vec![consumer_rule(|_| {})],
            })
        })
    }

    /// Adds or changes an account.
    pub fn account(mut self, id: &str, change: impl FnOnce(&mut AWSAccountSpec)) -> Self {
        let id: AccountId = id.parse().unwrap();
        let mut account = self.accounts.remove(&id).map_or_else(
            || AWSAccount::new(id.as_str(), AWSAccountSpec::default()),
            Arc::unwrap_or_clone,
        );
        change(&mut account.spec);
        self.accounts.insert(id, Arc::new(account));
        self
    }

    /// Removes the namespaces: they are not known yet.
    pub fn without_namespaces(mut self) -> Self {
        self.labels.clear();
        self
    }

    pub fn without(mut self, id: &str) -> Self {
        self.accounts.remove(&id.parse().unwrap());
        self
    }

    /// Sets the rules of the registry account to these alone.
    pub fn registry_rules(self, rules: impl Into<Vec<RegistryRule>>) -> Self {
        self.account(REGISTRY, |spec| {
            spec.registry = Some(RegistrySide {
                rules: rules.into(),
            })
        })
    }

    /// Sets the rules of the consumer account to these alone.
    pub fn consumer_rules(self, rules: impl Into<Vec<ConsumerRule>>) -> Self {
        self.account(CONSUMER, |spec| {
            spec.consumer = Some(ConsumerSide {
                rules: rules.into(),
            })
        })
    }

    pub fn roles(self, id: &str, change: impl FnOnce(&mut RoleSettings)) -> Self {
        self.account(id, |spec| change(&mut spec.roles))
    }

    pub fn label(mut self, namespace: &str, key: &str, value: &str) -> Self {
        self.labels
            .entry(namespace.into())
            .or_default()
            .insert(key.into(), value.into());
        self
    }

    pub fn validate(&self, resource: &CrossAccountRegistryGrant) -> Result<Grant, Vec<Problem>> {
        validate(&name_of(resource), &resource.spec, self, &installation())
    }

    /// Decides on the grant, given the record of what was applied before.
    pub fn decide(
        &self,
        resource: &CrossAccountRegistryGrant,
        applied: Option<&Applied>,
    ) -> Decision {
        let input = GrantInput {
            name: &name_of(resource),
            spec: &resource.spec,
            is_deleting: resource.metadata.deletion_timestamp.is_some(),
            applied,
        };
        let rules = RuleContext {
            accounts: self,
            installation: &installation(),
        };
        Decision::of(&input, &rules)
    }

    /// Returns the grant, which must be admitted.
    pub fn admitted(&self, resource: &CrossAccountRegistryGrant) -> Grant {
        self.validate(resource)
            .unwrap_or_else(|problems| panic!("not admitted: {problems:#?}"))
    }

    /// Returns the desired state for the grant, which must be admitted.
    pub fn desired(&self, resource: &CrossAccountRegistryGrant) -> Desired {
        self.admitted(resource).desired(&owner())
    }

    /// Returns why the grant is refused, one reason per line. The grant must be refused.
    pub fn refusals(&self, resource: &CrossAccountRegistryGrant) -> Vec<String> {
        let problems = self
            .validate(resource)
            .expect_err("the grant should have been refused");
        problems
            .iter()
            .map(|problem| format!("{}: {}", problem.reason, problem.message))
            .collect()
    }
}

impl AccountLookup for Cluster {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.accounts.get(id).cloned()
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.labels.get(namespace).cloned()
    }
}
