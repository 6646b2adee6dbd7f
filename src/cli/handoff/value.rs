//! A handoff as one JSON object.

use super::model::{Handoff, HandoffRole, Permissions, Repositories};
use crate::cli::json::document;
use crate::policy::{Document, Statement};
use serde_json::{Value, json};

/// Returns the whole handoff.
pub fn of(handoff: &Handoff) -> Value {
    let Handoff {
        account,
        notes,
        roles,
        permissions,
        repositories,
    } = handoff;
    let roles: Vec<Value> = roles
        .iter()
        .map(|(name, role)| of_role(name, role))
        .collect();
    let permissions: Vec<Value> = permissions.iter().map(of_permissions).collect();
    json!({
        "account": account.as_ref().map(ToString::to_string),
        "notes": notes,
        "roles": roles,
        "policies": permissions,
        "repositoryPolicyStatements": of_repositories(repositories),
    })
}

fn of_role(name: &str, role: &HandoffRole) -> Value {
    let HandoffRole {
        path,
        description,
        trust,
        profile,
        longest_session,
        boundary,
        attached,
        exists,
    } = role;
    json!({
        "name": name,
        "path": path,
        "description": description,
        "trust": document(trust),
        "instanceProfile": profile,
        "maxSessionSeconds": longest_session,
        "permissionsBoundary": boundary,
        "managedPolicies": attached,
        "exists": exists,
    })
}

fn of_permissions(permissions: &Permissions) -> Value {
    let Permissions {
        grant,
        name,
        document: policy,
        roles,
        others,
    } = permissions;
    json!({
        "grant": grant.to_string(),
        "name": name,
        "roles": roles,
        "alsoFor": others,
        "document": document(policy),
    })
}

/// Returns statements for repository policies, to add to the statements that are there.
pub fn of_repositories(all: &[Repositories]) -> Value {
    all.iter().map(of_some_repositories).collect()
}

fn of_some_repositories(repositories: &Repositories) -> Value {
    let Repositories {
        grant,
        region,
        patterns: _,
        statements: of,
    } = repositories;
    json!({
        "grant": grant.to_string(),
        "region": region,
        "repositories": repositories.patterns(),
        "statements": statements(of),
    })
}

/// Returns statements as a list.
pub fn statements<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Value {
    document(&Document::of(statements.into_iter().cloned()))["Statement"].take()
}
