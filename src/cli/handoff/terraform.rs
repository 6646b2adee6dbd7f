//! A handoff as Terraform's HCL. A repository's policy cannot be in it: `aws_ecr_repository_policy`
//! is the whole of it.

use super::super::iam_policy::templates::encoded;
use super::gather::{Handoff, HandoffRole, Permissions, Repositories, unique};
use super::value::{document, statements};
use crate::policy::{Document, installation};
use serde_json::Value;

pub fn hcl(handoff: &Handoff) -> String {
    let Handoff {
        account,
        notes,
        roles,
        permissions,
        repositories,
    } = handoff;
    let whose = account.as_ref().map_or_else(
        || "an account of the organization".into(),
        |id| format!("account {id}"),
    );
    let mut out = format!("# Access to container images of another account: for {whose}.\n");
    out.extend(notes.iter().map(|note| format!("# - {note}\n")));
    out += "\n";
    roles
        .iter()
        .for_each(|(name, role)| out += &of_role(name, role));
    let made = |role: &String| roles.contains_key(role);
    permissions
        .iter()
        .for_each(|permissions| out += &of_permissions(permissions, made));
    for repositories in repositories {
        let Repositories {
            grant,
            region,
            patterns,
            statements: of,
        } = repositories;
        let patterns: Vec<String> = patterns.iter().map(ToString::to_string).collect();
        let note = format!(
            "Add this to the policies of {} in {region}: name it in source_policy_documents of their aws_iam_policy_document, for a repository has one policy.",
            patterns.join(", ")
        );
        let name = format!("handed_off_{}_{}", label(&unique(grant, 64)), label(region));
        out += &to_be_merged(&name, &note, &Document::of(of.iter().cloned()));
    }
    out.truncate(out.trim_end().len());
    out + "\n"
}

fn of_role(name: &str, role: &HandoffRole) -> String {
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
    let mut out = String::new();
    if *exists {
        out += &format!(
            "import {{\n  to = aws_iam_role.{id}\n  id = {}\n}}\n\n",
            quoted(name)
        );
    }
    out += &format!("resource \"aws_iam_role\" \"{id}\" {{\n");
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
    out += &attributes(&plain);
    out += &format!(
        "  assume_role_policy = {}\n}}\n\n",
        encoded(&document(trust))
    );
    for arn in attached {
        let attachment = attributes(&[
            ("role", format!("aws_iam_role.{id}.name")),
            ("policy_arn", quoted(arn)),
        ]);
        let name = label(arn.rsplit('/').next().unwrap_or(arn));
        out += &format!(
            "resource \"aws_iam_role_policy_attachment\" \"{id}_{name}\" {{\n{attachment}}}\n\n"
        );
    }
    if let Some(profile) = profile {
        let profile = [
            ("name", quoted(profile)),
            ("path", quoted(path)),
            ("role", format!("aws_iam_role.{id}.name")),
        ];
        out += &format!(
            "resource \"aws_iam_instance_profile\" \"{id}\" {{\n{}}}\n\n",
            attributes(&profile)
        );
    }
    out
}

fn of_permissions(permissions: &Permissions, made: impl Fn(&String) -> bool) -> String {
    let Permissions {
        grant,
        name,
        document: of,
        roles,
        others,
    } = permissions;
    let (id, of) = (label(&unique(grant, 64)), encoded(&document(of)));
    let mut out = String::new();
    for role in roles {
        let on = if made(role) {
            format!("aws_iam_role.{}.id", label(role))
        } else {
            quoted(role)
        };
        let plain = attributes(&[("name", quoted(name)), ("role", on)]);
        let label = format!("{id}_{}", label(role));
        out += &format!(
            "resource \"aws_iam_role_policy\" \"{label}\" {{\n{plain}  policy = {of}\n}}\n\n"
        );
    }
    if let Some(others) = others {
        let plain = attributes(&[
            ("name", quoted(name)),
            ("description", quoted(&format!("For {others}"))),
        ]);
        out += &format!(
            "# For {others}: attach it to each.\nresource \"aws_iam_policy\" \"{id}\" {{\n{plain}  policy = {of}\n}}\n\noutput \"{id}_policy_arn\" {{\n  value = aws_iam_policy.{id}.arn\n}}\n\n"
        );
    }
    out
}

/// A document that belongs into another, which somebody else's resource is.
fn to_be_merged(name: &str, note: &str, of: &Document) -> String {
    let whole: Value = document(of);
    debug_assert_eq!(whole["Statement"], statements(&of.statements));
    format!(
        "# {note}\noutput \"{name}\" {{\n  value = {}\n}}\n\n",
        encoded(&whole)
    )
}

/// In the form that `terraform fmt` gives them.
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

/// An HCL name, different for different texts.
fn label(text: &str) -> String {
    let readable: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let readable = if readable.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{readable}")
    } else {
        readable
    };
    match readable == text {
        true => readable,
        false => format!("{readable}_{}", installation::hex(text, 6)),
    }
}

fn quoted(text: &str) -> String {
    Value::from(text)
        .to_string()
        .replace("${", "$${")
        .replace("%{", "%%{")
}
