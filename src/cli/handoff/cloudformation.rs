//! A handoff as a CloudFormation template. A repository's policy cannot be in it: that belongs to
//! the repository's own resource.

use super::super::iam_policy::print::pretty;
use super::gather::{Handoff, HandoffRole, Permissions, unique};
use super::value::{document, of_repositories};
use serde_json::{Map, Value, json};

/// # Errors
/// When there is nothing that a template can make.
pub fn template(handoff: &Handoff) -> Result<String, String> {
    let Handoff {
        account: _,
        notes,
        roles,
        permissions,
        repositories,
    } = handoff;
    let mut resources = Map::new();
    for (name, role) in roles {
        if role.exists {
            return Err(format!(
                "role {name} is there, and a template would make it anew: use --format cli"
            ));
        }
        of_role(name, role, &mut resources);
    }
    let made = |role: &String| roles.contains_key(role);
    permissions
        .iter()
        .for_each(|permissions| of_permissions(permissions, made, &mut resources));
    if resources.is_empty() {
        return Err("there are only statements for policies that belong to resources which are there, and CloudFormation cannot add to those: use --format cli or json".into());
    }
    let mut metadata = json!({ "Notes": notes });
    if !repositories.is_empty() {
        metadata["AddByHand"]["RepositoryPolicyStatements"] = of_repositories(repositories);
    }
    Ok(pretty(&json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Access to container images of another account, as registry-grants hands it off. It names IAM resources: CAPABILITY_NAMED_IAM",
        "Metadata": metadata,
        "Resources": resources,
    })))
}

fn of_role(name: &str, role: &HandoffRole, resources: &mut Map<String, Value>) {
    let HandoffRole {
        path,
        description,
        trust,
        profile,
        longest_session,
        boundary,
        attached,
        exists: _,
    } = role;
    let mut properties = json!({
        "RoleName": name,
        "Path": path,
        "Description": description,
        "AssumeRolePolicyDocument": document(trust),
    });
    let optional = [
        ("MaxSessionDuration", longest_session.map(Value::from)),
        ("PermissionsBoundary", boundary.clone().map(Value::from)),
        (
            "ManagedPolicyArns",
            (!attached.is_empty()).then(|| json!(attached)),
        ),
    ];
    for (key, value) in optional {
        value.into_iter().for_each(|value| properties[key] = value);
    }
    resources.insert(
        logical("Role", name),
        json!({"Type": "AWS::IAM::Role", "Properties": properties}),
    );
    if let Some(profile) = profile {
        resources.insert(
            logical("InstanceProfile", name),
            json!({"Type": "AWS::IAM::InstanceProfile", "Properties": {
                "InstanceProfileName": profile,
                "Path": path,
                "Roles": [{"Ref": logical("Role", name)}],
            }}),
        );
    }
}

fn of_permissions(
    permissions: &Permissions,
    made: impl Fn(&String) -> bool,
    resources: &mut Map<String, Value>,
) {
    let Permissions {
        grant,
        name,
        document: of,
        roles,
        others,
    } = permissions;
    for role in roles {
        let on = if made(role) {
            json!({"Ref": logical("Role", role)})
        } else {
            json!(role)
        };
        let properties =
            json!({"PolicyName": name, "RoleName": on, "PolicyDocument": document(of)});
        let id = logical("Policy", &format!("{}{role}", unique(grant, 64)));
        resources.insert(
            id,
            json!({"Type": "AWS::IAM::RolePolicy", "Properties": properties}),
        );
    }
    if let Some(others) = others {
        let properties = json!({
            "ManagedPolicyName": name,
            "Description": format!("For {others}: access to container images of another account"),
            "PolicyDocument": document(of),
        });
        let id = logical("ManagedPolicy", &unique(grant, 64));
        resources.insert(
            id,
            json!({"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}),
        );
    }
}

/// A logical ID: letters and digits alone, and different for different names.
fn logical(kind: &str, name: &str) -> String {
    let readable: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!(
        "{kind}{readable}{}",
        crate::policy::installation::hex(name, 6)
    )
}
