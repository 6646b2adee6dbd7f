//! A handoff as a CloudFormation template. It cannot contain repository policies, because a policy
//! belongs to the resource of its repository.

use super::model::{Handoff, HandoffRole, Permissions, unique};
use super::value::of_repositories;
use crate::cli::json::{document, pretty};
use crate::policy::installation;
use serde_json::{Map, Value, json};

/// Returns the template.
///
/// # Errors
/// When a template cannot create the role, or would create nothing.
pub fn template(handoff: &Handoff) -> Result<String, String> {
    let Handoff {
        account: _,
        notes,
        roles,
        permissions,
        repositories,
    } = handoff;
    let mut resources = Resources::default();
    for (name, role) in roles {
        if role.exists {
            return Err(format!(
                "role {name} is there, and a template would make it anew: use --format cli"
            ));
        }
        resources.add_role(name, role);
    }
    for permissions in permissions {
        resources.add_permissions(permissions, handoff);
    }
    let Resources(resources) = resources;
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

/// A template's resources, by their logical IDs.
#[derive(Default)]
struct Resources(Map<String, Value>);

impl Resources {
    /// Adds a resource of an IAM type.
    fn add(&mut self, id: String, kind: &str, properties: Value) {
        let resource = json!({"Type": format!("AWS::IAM::{kind}"), "Properties": properties});
        self.0.insert(id, resource);
    }

    fn add_role(&mut self, name: &str, role: &HandoffRole) {
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
        if let Some(seconds) = longest_session {
            properties["MaxSessionDuration"] = json!(seconds);
        }
        if let Some(arn) = boundary {
            properties["PermissionsBoundary"] = json!(arn);
        }
        if !attached.is_empty() {
            properties["ManagedPolicyArns"] = json!(attached);
        }
        self.add(logical("Role", name), "Role", properties);
        if let Some(profile) = profile {
            let properties = json!({
                "InstanceProfileName": profile,
                "Path": path,
                "Roles": [{"Ref": logical("Role", name)}],
            });
            self.add(
                logical("InstanceProfile", name),
                "InstanceProfile",
                properties,
            );
        }
    }

    fn add_permissions(&mut self, permissions: &Permissions, handoff: &Handoff) {
        let Permissions {
            grant,
            name,
            document: policy,
            roles,
            others,
        } = permissions;
        let policy = document(policy);
        for role in roles {
            let target = if handoff.has_role(role) {
                json!({"Ref": logical("Role", role)})
            } else {
                json!(role)
            };
            let properties =
                json!({"PolicyName": name, "RoleName": target, "PolicyDocument": policy});
            let id = logical("Policy", &format!("{}{role}", unique(grant, 64)));
            self.add(id, "RolePolicy", properties);
        }
        if let Some(others) = others {
            let properties = json!({
                "ManagedPolicyName": name,
                "Description": format!("For {others}: access to container images of another account"),
                "PolicyDocument": policy,
            });
            let id = logical("ManagedPolicy", &unique(grant, 64));
            self.add(id, "ManagedPolicy", properties);
        }
    }
}

/// Returns a logical ID: only letters and digits, and different for different names.
fn logical(kind: &str, name: &str) -> String {
    let readable: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{kind}{readable}{}", installation::hex(name, 6))
}
