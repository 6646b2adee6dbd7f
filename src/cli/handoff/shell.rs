//! A handoff as a script of AWS CLI commands.

use super::model::{Handoff, HandoffRole, Permissions, Repositories};
use super::value::statements;
use crate::grant::RepositoryPattern;

/// Adds statements to a document that others write as well. The script reads the document
/// immediately before it writes it, and keeps the statements of others.
const BESIDE: &str = r#"# Adds statements to a document, and replaces those with the same Sids.
beside() {
  jq --compact-output --argjson new "$1" '.Statement = ([(.Statement // []) |
    if type == "array" then .[] else . end | select(.Sid as $sid | $new | all(.Sid != $sid))] + $new)'
}"#;
const TO_REPOSITORY: &str = r#"# A repository policy is replaced as a whole, so the statements of others are read first and kept. Arguments: region, repository, statements.
to_repository() {
  if policy=$(aws ecr get-repository-policy --region "$1" --repository-name "$2" --query policyText --output text 2>"$errors"); then
    :
  elif grep -q RepositoryPolicyNotFoundException "$errors"; then
    policy='{"Version":"2012-10-17"}'
  else
    cat "$errors" >&2
    return 1
  fi
  policy=$(printf '%s' "$policy" | beside "$3")
  aws ecr set-repository-policy --region "$1" --repository-name "$2" --policy-text "$policy" >/dev/null
}
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT"#;

/// Returns the script.
pub fn script(handoff: &Handoff) -> String {
    let Handoff {
        account,
        notes: _,
        roles,
        permissions,
        repositories,
    } = handoff;
    let needs_jq = !repositories.is_empty();
    let mut header = vec![
        "#!/bin/sh".to_owned(),
        format!(
            "# For the admin of {}. Needs the AWS CLI{}.",
            handoff.recipient(),
            if needs_jq { " and jq" } else { "" }
        ),
    ];
    header.extend(handoff.comments());
    header.push("set -eu".to_owned());
    let mut blocks = vec![header.join("\n")];
    if let Some(id) = account {
        blocks.push(format!(
            "caller=$(aws sts get-caller-identity --query Account --output text)\n[ \"$caller\" = {id} ] || {{ echo \"these credentials are for account $caller, not {id}\" >&2; exit 1; }}"
        ));
    }
    if needs_jq {
        blocks.push(BESIDE.to_owned());
        blocks.push(TO_REPOSITORY.to_owned());
    }
    blocks.extend(roles.iter().map(|(name, role)| of_role(name, role)));
    blocks.extend(permissions.iter().flat_map(of_permissions));
    blocks.extend(repositories.iter().flat_map(of_repositories));
    blocks.join("\n\n") + "\n"
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
    let name = quoted(name);
    let path = quoted(path);
    let trust = quoted(&trust.to_string());
    let mut lines = Vec::new();
    if *exists {
        lines.push(format!(
            "aws iam update-assume-role-policy --role-name {name} --policy-document {trust}"
        ));
    } else {
        let session = longest_session
            .map(|seconds| format!(" --max-session-duration {seconds}"))
            .unwrap_or_default();
        let boundary = boundary
            .as_ref()
            .map(|arn| format!(" --permissions-boundary {}", quoted(arn)))
            .unwrap_or_default();
        let description = quoted(description);
        lines.push(format!(
            "aws iam create-role --role-name {name} --path {path} --description {description}{session}{boundary} \\\n  --assume-role-policy-document {trust}"
        ));
    }
    for arn in attached {
        lines.push(format!(
            "aws iam attach-role-policy --role-name {name} --policy-arn {}",
            quoted(arn)
        ));
    }
    if let Some(profile) = profile {
        let profile = quoted(profile);
        lines.push(format!(
            "aws iam create-instance-profile --instance-profile-name {profile} --path {path}"
        ));
        lines.push(format!(
            "aws iam add-role-to-instance-profile --instance-profile-name {profile} --role-name {name}"
        ));
    }
    lines.join("\n")
}

fn of_permissions(permissions: &Permissions) -> Vec<String> {
    let Permissions {
        grant: _,
        name,
        document,
        roles,
        others,
    } = permissions;
    let name = quoted(name);
    let document = quoted(&document.to_string());
    let mut commands = Vec::new();
    for role in roles {
        commands.push(format!(
            "aws iam put-role-policy --role-name {} --policy-name {name} \\\n  --policy-document {document}",
            quoted(role)
        ));
    }
    if let Some(others) = others {
        commands.push(format!(
            "# For {others}: attach it to each with\n#   aws iam attach-role-policy --role-name ROLE --policy-arn ARN\naws iam create-policy --policy-name {name} --query Policy.Arn --output text \\\n  --policy-document {document}"
        ));
    }
    commands
}

fn of_repositories(repositories: &Repositories) -> Vec<String> {
    let Repositories {
        grant: _,
        region,
        patterns,
        statements: of,
    } = repositories;
    let statements = quoted(&statements(of).to_string());
    let region = quoted(region);
    let mut commands = Vec::new();
    for pattern in patterns {
        commands.push(match pattern {
            RepositoryPattern::Name(name) => {
                format!("to_repository {region} {} {statements}", quoted(name))
            }
            RepositoryPattern::Prefix(prefix) => {
                let query = quoted(&format!(
                    "repositories[?starts_with(repositoryName, '{prefix}')].repositoryName"
                ));
                format!(
                    "repositories=$(aws ecr describe-repositories --region {region} --query {query} --output text)\nfor repository in $repositories; do\n  to_repository {region} \"$repository\" {statements}\ndone"
                )
            }
        });
    }
    commands
}

/// Quotes a text as one word for a shell.
fn quoted(text: &str) -> String {
    let is_harmless = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:@+,".contains(c));
    if is_harmless {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
