//! A handoff as one JSON object.

use super::gather::{Handoff, HandoffRole, Permissions, Repositories};
use crate::policy::{Document, Statement};
use serde_json::{Value, json};

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
        document: of,
        roles,
        others,
    } = permissions;
    json!({"grant": grant.to_string(), "name": name, "roles": roles, "alsoFor": others, "document": document(of)})
}

/// Statements for repositories' policies, to be put beside those that are there.
pub fn of_repositories(all: &[Repositories]) -> Value {
    let one = |one: &Repositories| {
        let Repositories {
            grant,
            region,
            patterns,
            statements: of,
        } = one;
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        json!({"grant": grant.to_string(), "region": region, "repositories": patterns, "statements": statements(of)})
    };
    all.iter().map(one).collect()
}

/// A document prints itself as JSON.
pub fn document(document: &Document) -> Value {
    document.to_string().parse().unwrap_or_default()
}

/// As a list.
pub fn statements<'a>(statements: impl IntoIterator<Item = &'a Statement>) -> Value {
    document(&Document::of(statements.into_iter().cloned()))["Statement"].take()
}
