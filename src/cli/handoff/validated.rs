//! Validates a grant for a handoff: as the operator would, if it managed the account.

use super::model::neutral;
use super::select::SelectedGrant;
use crate::api::account::{AWSAccount, AWSAccountSpec, ConsumerRule, ConsumerSide, Namespaces};
use crate::api::grant::Management;
use crate::cli::manifests::Files;
use crate::grant::{AccountId, AccountLookup, Grant, GrantName, Problem, validate};
use crate::policy::Installation;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The accounts of the files, and the handoff's account with a rule that admits what the grant
/// requests there.
struct AsIfManaged<'a> {
    files: &'a Files,
    stand_in: Option<(AccountId, Arc<AWSAccount>)>,
}

impl AccountLookup for AsIfManaged<'_> {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.files.account(id).or_else(|| {
            let (account, stand_in) = self.stand_in.as_ref()?;
            (account == id).then(|| stand_in.clone())
        })
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.files.namespace_labels(namespace)
    }
}

/// Validates a grant, whose consumer account need not be managed.
///
/// # Errors
/// Every problem of the grant, and a missing installation ID.
pub fn validated(
    files: &Files,
    selected: &SelectedGrant,
    account: Option<&AccountId>,
    installation: Option<&Installation>,
) -> Result<Grant, Vec<String>> {
    let SelectedGrant {
        name,
        resource,
        side: _,
    } = selected;
    let spec = &resource.spec;
    let accounts = AsIfManaged {
        files,
        stand_in: account
            .filter(|id| spec.registry.account_id != id.as_str())
            .map(|id| {
                let stand_in = stand_in(files, id, name, &spec.registry.account_id);
                (id.clone(), Arc::new(stand_in))
            }),
    };
    let neutral = neutral();
    let grant = validate(name, spec, &accounts, installation.unwrap_or(&neutral))
        .map_err(|problems| problems.iter().map(text).collect::<Vec<_>>())?;
    if let Some(problem) = files.invalid.get(*name) {
        return Err(vec![text(problem)]);
    }
    let is_named = spec
        .registry
        .role
        .as_ref()
        .is_some_and(|role| role.name.is_some());
    if grant.role.is_some() && !is_named && installation.is_none() {
        return Err(vec!["the operator chooses the name of the registry role, which contains its installation ID: give --installation (the value of the tag registrygrants.dev/installation on its roles), or set spec.registry.role.name".into()]);
    }
    Ok(grant)
}

/// Returns an `AWSAccount` that admits any instance role of this grant's namespace.
fn stand_in(files: &Files, id: &AccountId, grant: &GrantName, registry: &str) -> AWSAccount {
    let rule = ConsumerRule {
        namespaces: Namespaces {
            names: vec![grant.namespace.clone()],
            selector: None,
        },
        roles: vec!["*".into()],
        management: vec![Management::Create, Management::Extend],
        allow_retain: true,
    };
    let partition = registry
        .parse()
        .ok()
        .and_then(|id| files.account(&id))
        .map(|account| account.spec.partition)
        .unwrap_or_default();
    AWSAccount::new(
        id.as_str(),
        AWSAccountSpec {
            partition,
            consumer: Some(ConsumerSide { rules: vec![rule] }),
            ..AWSAccountSpec::default()
        },
    )
}

fn text(problem: &Problem) -> String {
    format!("{}: {}", problem.reason, problem.message)
}
