//! A handoff as Terraform's HCL. It cannot contain repository policies, because the resource
//! `aws_ecr_repository_policy` is the entire policy.

use super::model::{Handoff, HandoffRole, Permissions, Repositories, unique};
use crate::cli::iam_policy::templates::encoded;
use crate::cli::json::document;
use crate::policy::{Document, installation};
use serde_json::Value;

/// Returns the configuration.
pub fn hcl(handoff: &Handoff) -> String {
    let Handoff {
        account: _,
        notes: _,
        roles,
        permissions,
        repositories,
    } = handoff;
    let mut header = vec![format!(
        "# Access to container images of another account, for {}.",
        handoff.recipient()
    )];
    header.extend(handoff.comments());
    let mut blocks = vec![header.join("\n")];
    for (name, role) in roles {
        blocks.extend(of_role(name, role));
    }
    for permissions in permissions {
        blocks.extend(of_permissions(permissions, handoff));
    }
    blocks.extend(repositories.iter().map(of_repositories));
    blocks.join("\n\n") + "\n"
}

fn of_role(name: &str, role: &HandoffRole) -> Vec<String> {
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
    let id = label(name);
    let role_name = format!("aws_iam_role.{id}.name");
    let mut blocks = Vec::new();
    if *exists {
        blocks.push(format!(
            "import {{\n  to = aws_iam_role.{id}\n  id = {}\n}}",
            quoted(name)
        ));
    }
    let mut plain = vec![
        ("name", quoted(name)),
        ("path", quoted(path)),
        ("description", quoted(description)),
    ];
    plain.extend(longest_session.map(|seconds| ("max_session_duration", seconds.to_string())));
    plain.extend(
        boundary
            .as_ref()
            .map(|arn| ("permissions_boundary", quoted(arn))),
    );
    let trust = format!("  assume_role_policy = {}\n", encoded(&document(trust)));
    blocks.push(resource("role", &id, &(attributes(&plain) + &trust)));
    for arn in attached {
        let attachment = attributes(&[("role", role_name.clone()), ("policy_arn", quoted(arn))]);
        let name = label(arn.rsplit('/').next().unwrap_or(arn));
        blocks.push(resource(
            "role_policy_attachment",
            &format!("{id}_{name}"),
            &attachment,
        ));
    }
    if let Some(profile) = profile {
        let profile = attributes(&[
            ("name", quoted(profile)),
            ("path", quoted(path)),
            ("role", role_name),
        ]);
        blocks.push(resource("instance_profile", &id, &profile));
    }
    blocks
}

fn of_permissions(permissions: &Permissions, handoff: &Handoff) -> Vec<String> {
    let Permissions {
        grant,
        name,
        document: policy,
        roles,
        others,
    } = permissions;
    let id = label(&unique(grant, 64));
    let policy = format!("  policy = {}\n", encoded(&document(policy)));
    let mut blocks = Vec::new();
    for role in roles {
        let target = if handoff.has_role(role) {
            format!("aws_iam_role.{}.id", label(role))
        } else {
            quoted(role)
        };
        let plain = attributes(&[("name", quoted(name)), ("role", target)]);
        let label = format!("{id}_{}", label(role));
        blocks.push(resource("role_policy", &label, &(plain + &policy)));
    }
    if let Some(others) = others {
        let plain = attributes(&[
            ("name", quoted(name)),
            ("description", quoted(&format!("For {others}"))),
        ]);
        blocks.push(format!(
            "# For {others}: attach it to each.\n{}",
            resource("policy", &id, &(plain + &policy))
        ));
        blocks.push(format!(
            "output \"{id}_policy_arn\" {{\n  value = aws_iam_policy.{id}.arn\n}}"
        ));
    }
    blocks
}

/// Returns an output with statements, which the admin adds to the resources of the policies.
fn of_repositories(repositories: &Repositories) -> String {
    let Repositories {
        grant,
        region,
        patterns: _,
        statements,
    } = repositories;
    let name = format!("handed_off_{}_{}", label(&unique(grant, 64)), label(region));
    format!(
        "# Add these statements to the policies of {} in {region}: list this output in source_policy_documents of their aws_iam_policy_document, because a repository has only one policy.\noutput \"{name}\" {{\n  value = {}\n}}",
        repositories.patterns().join(", "),
        encoded(&document(&Document::of(statements.iter().cloned())))
    )
}

/// Returns a resource of an IAM type; the body is whole lines.
fn resource(kind: &str, id: &str, body: &str) -> String {
    format!("resource \"aws_iam_{kind}\" \"{id}\" {{\n{body}}}")
}

/// Returns attributes as lines, in the form that `terraform fmt` gives them.
fn attributes(all: &[(&str, String)]) -> String {
    let width = all
        .iter()
        .map(|(key, _)| key.len())
        .max()
        .unwrap_or_default();
    all.iter()
        .map(|(key, value)| format!("  {key:width$} = {value}\n"))
        .collect()
}

/// Returns a name for HCL that differs for different texts.
fn label(text: &str) -> String {
    let mut readable: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if readable.starts_with(|c: char| c.is_ascii_digit()) {
        readable.insert(0, '_');
    }
    if readable == text {
        readable
    } else {
        format!("{readable}_{}", installation::hex(text, 6))
    }
}

fn quoted(text: &str) -> String {
    Value::from(text)
        .to_string()
        .replace("${", "$${")
        .replace("%{", "%%{")
}
