//! A handoff as a script of AWS CLI commands.

use super::gather::{Handoff, HandoffRole, Permissions, Repositories};
use super::value::statements;
use crate::grant::RepositoryPattern;

/// Puts statements into a document that others write as well: read immediately before it is
/// written, with theirs kept.
const BESIDE: &str = r#"# Puts statements beside those that a document has, in place of those with the same Sids.
beside() {
  jq --compact-output --argjson new "$1" '.Statement = ([(.Statement // []) |
    if type == "array" then .[] else . end | select(.Sid as $sid | $new | all(.Sid != $sid))] + $new)'
}

"#;
const TO_REPOSITORY: &str = r#"# A repository's policy is replaced as a whole, so what others wrote into it is read first and kept. Region, repository, statements.
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
trap 'rm -f "$errors"' EXIT

"#;

pub fn script(handoff: &Handoff) -> String {
    let Handoff {
        account,
        notes,
        roles,
        permissions,
        repositories,
    } = handoff;
    let mut out = String::from("#!/bin/sh\n");
    let whose = account.as_ref().map_or_else(
        || "an account of the organization".into(),
        |id| format!("account {id}"),
    );
    out += &format!(
        "# For the admin of {whose}, with the AWS CLI{}.\n",
        if needs_jq(handoff) { " and jq" } else { "" }
    );
    out.extend(notes.iter().map(|note| format!("# - {note}\n")));
    out += "set -eu\n\n";
    if let Some(id) = account {
        out += "caller=$(aws sts get-caller-identity --query Account --output text)\n";
        out += &format!(
            "[ \"$caller\" = {id} ] || {{ echo \"these credentials are for account $caller, not {id}\" >&2; exit 1; }}\n\n"
        );
    }
    if needs_jq(handoff) {
        out += BESIDE;
    }
    if !repositories.is_empty() {
        out += TO_REPOSITORY;
    }
    roles
        .iter()
        .for_each(|(name, role)| out += &of_role(name, role));
    permissions
        .iter()
        .for_each(|permissions| out += &of_permissions(permissions));
    repositories
        .iter()
        .for_each(|repositories| out += &of_repositories(repositories));
    out.truncate(out.trim_end().len());
    out + "\n"
}

fn needs_jq(handoff: &Handoff) -> bool {
    !handoff.repositories.is_empty()
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
    let (name, trust) = (quoted(name), quoted(&trust.to_string()));
    let mut lines = Vec::new();
    match exists {
        true => lines.push(format!(
            "aws iam update-assume-role-policy --role-name {name} --policy-document {trust}"
        )),
        false => {
            let session = longest_session
                .map(|seconds| format!(" --max-session-duration {seconds}"))
                .unwrap_or_default();
            let boundary = boundary
                .as_ref()
                .map(|arn| format!(" --permissions-boundary {}", quoted(arn)))
                .unwrap_or_default();
            let (path, description) = (quoted(path), quoted(description));
            lines.push(format!(
                "aws iam create-role --role-name {name} --path {path} --description {description}{session}{boundary} \\\n  --assume-role-policy-document {trust}"
            ));
        }
    }
    lines.extend(attached.iter().map(|arn| {
        format!(
            "aws iam attach-role-policy --role-name {name} --policy-arn {}",
            quoted(arn)
        )
    }));
    if let Some(profile) = profile {
        let profile = quoted(profile);
        lines.push(format!(
            "aws iam create-instance-profile --instance-profile-name {profile} --path {}",
            quoted(path)
        ));
        lines
            .push(format!("aws iam add-role-to-instance-profile --instance-profile-name {profile} --role-name {name}"));
    }
    lines.join("\n") + "\n\n"
}

fn of_permissions(permissions: &Permissions) -> String {
    let Permissions {
        grant: _,
        name,
        document,
        roles,
        others,
    } = permissions;
    let (name, document) = (quoted(name), quoted(&document.to_string()));
    let inline = roles.iter().map(|role| {
        format!(
            "aws iam put-role-policy --role-name {} --policy-name {name} \\\n  --policy-document {document}\n\n",
            quoted(role)
        )
    });
    let managed = others.iter().map(|others| {
        format!(
            "# For {others}: attach it to each by\n#   aws iam attach-role-policy --role-name ROLE --policy-arn ARN\naws iam create-policy --policy-name {name} --query Policy.Arn --output text \\\n  --policy-document {document}\n\n"
        )
    });
    inline.chain(managed).collect()
}

fn of_repositories(repositories: &Repositories) -> String {
    let Repositories {
        grant: _,
        region,
        patterns,
        statements: of,
    } = repositories;
    let statements = quoted(&statements(of).to_string());
    let region = quoted(region);
    let each = patterns.iter().map(|pattern| match pattern {
        RepositoryPattern::Name(name) => format!("to_repository {region} {} {statements}\n\n", quoted(name)),
        RepositoryPattern::Prefix(prefix) => {
            let query = quoted(&format!("repositories[?starts_with(repositoryName, '{prefix}')].repositoryName"));
            format!(
                "repositories=$(aws ecr describe-repositories --region {region} --query {query} --output text)\nfor repository in $repositories; do\n  to_repository {region} \"$repository\" {statements}\ndone\n\n"
            )
        }
    });
    each.collect()
}

/// As one word of a shell, whatever it is.
fn quoted(text: &str) -> String {
    let harmless = |c: char| c.is_ascii_alphanumeric() || "-_./:@+,".contains(c);
    match !text.is_empty() && text.chars().all(harmless) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}
