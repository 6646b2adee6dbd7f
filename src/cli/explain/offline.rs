//! Reads the policies that a verdict depends on from files.

use super::answer::AccessInputs;
use super::arguments::{AccessQuestion, Arguments, Identity};
use crate::grant::access::Holder;
use crate::policy::evaluate::Named;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads the files that the arguments name. A policy without a file counts as absent. A role's
/// trust policy must exist, so without a file it is unknown.
pub fn read(question: &AccessQuestion, arguments: &Arguments) -> Result<AccessInputs, String> {
    let Arguments {
        identity_policy,
        boundary,
        resource_policy,
        trust_policy,
        role_policy,
        role_boundary,
        ..
    } = arguments;
    let principal = holder(
        &question.principal,
        identity_policy,
        boundary.as_deref(),
        trust(None)?,
    )?;
    let role = match &question.assume {
        Some(role) => Some(holder(
            role,
            role_policy,
            role_boundary.as_deref(),
            trust(trust_policy.as_deref())?,
        )?),
        None => None,
    };
    Ok(AccessInputs {
        principal,
        role,
        registry: policies(resource_policy)?,
    })
}

fn holder(
    identity: &Identity,
    identity_policies: &[PathBuf],
    boundary: Option<&Path>,
    trust: Named,
) -> Result<Holder, String> {
    let Identity { arn, account } = identity;
    Ok(Holder {
        arn: arn.clone(),
        account: account
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        id: None,
        tags: BTreeMap::new(),
        trust,
        identity: policies(identity_policies)?,
        boundary: boundary.map(policy).transpose()?,
    })
}

fn trust(file: Option<&Path>) -> Result<Named, String> {
    file.map_or_else(
        || {
            let why = "none was given (--trust-policy)";
            Ok(Named::unreadable("the trust policy", why))
        },
        policy,
    )
}

fn policies(files: &[PathBuf]) -> Result<Vec<Named>, String> {
    files.iter().map(|file| policy(file)).collect()
}

fn policy(file: &Path) -> Result<Named, String> {
    let document = crate::cli::policy::read(file).map_err(|error| error.to_string())?;
    Ok(Named::new(file.display().to_string(), document))
}
