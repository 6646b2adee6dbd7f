//! The documents as resources: a CloudFormation template, or Terraform's HCL.

use super::arguments::Defaults;
use crate::cli::json::{document as value, pretty};
use crate::grant::operator_role::OperatorRole;
use serde_json::{Value, json};

const ABOUT_ROLE: &str = "The role that the operator registry-grants assumes in this account";
const ABOUT_BOUNDARY: &str =
    "The permissions boundary of the roles that the operator registry-grants creates";
const ABOUT_OPERATOR: &str = "The ARN of the operator's own role";
const ABOUT_EXTERNAL_ID: &str = "The external ID that the operator presents when it assumes the role: spec.credentials.assumeRole.externalID of the AWSAccount";

/// Returns a template for CloudFormation, for a stack or a stack set. JSON is YAML, too.
pub fn cloudformation(management: &OperatorRole, defaults: Defaults<'_>) -> String {
    let mut parameters = json!({"OperatorRoleArn": parameter(ABOUT_OPERATOR, defaults.operator_role_arn, "^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$")});
    if let Some(id) = defaults.external_id {
        parameters["ExternalId"] = parameter(
            ABOUT_EXTERNAL_ID,
            Some(id),
            "^[A-Za-z0-9+=,.@:/_-]{2,1224}$",
        );
    }
    pretty(&json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "The role of the operator registry-grants in this account. It needs CAPABILITY_NAMED_IAM",
        "Parameters": parameters,
        "Resources": {
            "Boundary": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {
                "ManagedPolicyName": management.boundary,
                "Description": ABOUT_BOUNDARY,
                "PolicyDocument": substituted(value(&management.boundary())),
            }},
            "ManagementRole": {"Type": "AWS::IAM::Role", "Properties": {
                "RoleName": management.role,
                "Description": ABOUT_ROLE,
                "AssumeRolePolicyDocument": substituted(value(&management.trust())),
                "Policies": [{"PolicyName": "registry-grants", "PolicyDocument": substituted(value(&management.permissions()))}],
            }},
        },
        "Outputs": {
            "RoleArn": {"Description": "For spec.credentials.assumeRole.roleARN of the AWSAccount", "Value": {"Fn::GetAtt": ["ManagementRole", "Arn"]}},
            "BoundaryArn": {"Description": "For spec.roles.permissionsBoundary of the AWSAccount", "Value": {"Ref": "Boundary"}},
        },
    }))
}

fn parameter(description: &str, default: Option<&str>, pattern: &str) -> Value {
    let mut parameter =
        json!({"Type": "String", "Description": description, "AllowedPattern": pattern});
    if let Some(default) = default {
        parameter["Default"] = default.into();
    }
    parameter
}

/// Wraps texts with placeholders in `Fn::Sub`, without which CloudFormation does not fill them in.
fn substituted(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains("${") => json!({ "Fn::Sub": text }),
        Value::Array(items) => items.into_iter().map(substituted).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, substituted(value)))
            .collect(),
        plain => plain,
    }
}

/// Returns HCL for Terraform, for the account of the AWS provider.
pub fn terraform(management: &OperatorRole, defaults: Defaults<'_>) -> String {
    let OperatorRole { role, boundary, .. } = management;
    let mut variables = variable(
        "operator_role_arn",
        ABOUT_OPERATOR,
        defaults.operator_role_arn,
    );
    if let Some(id) = defaults.external_id {
        variables += &variable("external_id", ABOUT_EXTERNAL_ID, Some(id));
    }
    let [boundary_document, trust, permissions] = [
        management.boundary(),
        management.trust(),
        management.permissions(),
    ]
    .map(|document| encoded(&value(&document)));
    format!(
        r#"# The role of the operator registry-grants in this account.

{variables}data "aws_caller_identity" "registry_grants" {{}}

resource "aws_iam_policy" "registry_grants_boundary" {{
  name        = "{boundary}"
  description = "{ABOUT_BOUNDARY}"
  policy = {boundary_document}
}}

resource "aws_iam_role" "registry_grants" {{
  name        = "{role}"
  description = "{ABOUT_ROLE}"
  assume_role_policy = {trust}
}}

resource "aws_iam_role_policy" "registry_grants" {{
  name = "registry-grants"
  role = aws_iam_role.registry_grants.id
  policy = {permissions}
}}

output "registry_grants_role_arn" {{
  description = "For spec.credentials.assumeRole.roleARN of the AWSAccount"
  value       = aws_iam_role.registry_grants.arn
}}

output "registry_grants_boundary_arn" {{
  description = "For spec.roles.permissionsBoundary of the AWSAccount"
  value       = aws_iam_policy.registry_grants_boundary.arn
}}
"#
    )
}

fn variable(name: &str, description: &str, default: Option<&str>) -> String {
    let default = default
        .map(|default| format!("  default     = \"{default}\"\n"))
        .unwrap_or_default();
    format!(
        "variable \"{name}\" {{\n  type        = string\n  description = \"{description}\"\n{default}}}\n\n"
    )
}

/// Returns a document in HCL, in the form that `terraform fmt` gives it. A JSON object is also an
/// HCL object, in which `${…}` in texts is filled in.
pub fn encoded(document: &Value) -> String {
    let text = pretty(document)
        .replace("\"${var.operator_role_arn}\"", "var.operator_role_arn")
        .replace("\"${var.external_id}\"", "var.external_id");
    // No text in a document contains a quotation mark.
    let lines: Vec<String> = text
        .lines()
        .map(|line| line.replacen("\": ", "\" : ", 1))
        .collect();
    format!("jsonencode({})", lines.join("\n  "))
}
