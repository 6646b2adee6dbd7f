//! The constraints of the API models: required parameters, lengths, characters and ranges. A
//! request outside of them is refused before anything else happens.

use super::answer::ApiError;
use super::request::{Parameters, Service};
use serde_json::Value;

/// What a text parameter must be like.
struct Text {
    name: &'static str,
    min: usize,
    max: usize,
    is_valid: fn(&str) -> bool,
}

const fn text(name: &'static str, min: usize, max: usize, is_valid: fn(&str) -> bool) -> Text {
    Text {
        name,
        min,
        max,
        is_valid,
    }
}

fn any(_: &str) -> bool {
    true
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn words(text: &str) -> bool {
    text.chars().all(is_word)
}

fn document(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}'))
}

fn description(text: &str) -> bool {
    text.chars()
        .all(|c| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{7e}' | '\u{a1}'..='\u{ff}'))
}

fn path(text: &str) -> bool {
    text == "/"
        || (text.len() > 2
            && text.starts_with('/')
            && text.ends_with('/')
            && text.chars().all(|c| matches!(c, '\u{21}'..='\u{7e}')))
}

fn path_prefix(text: &str) -> bool {
    text.starts_with('/') && text.chars().all(|c| matches!(c, '\u{21}'..='\u{7f}'))
}

fn policy_path(text: &str) -> bool {
    let Some(inner) = text.strip_suffix('/') else {
        return false;
    };
    inner.is_empty()
        || inner
            .strip_prefix('/')
            .is_some_and(|inner| inner.split('/').all(|part| !part.is_empty() && words(part)))
}

fn version_id(text: &str) -> bool {
    text.strip_prefix('v').is_some_and(|digits| {
        !digits.starts_with('0') && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
    })
}

fn external_id(text: &str) -> bool {
    text.chars().all(|c| is_word(c) || c == ':' || c == '/')
}

fn tag(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c))
}

fn registry_id(text: &str) -> bool {
    text.len() == 12 && text.chars().all(|c| c.is_ascii_digit())
}

/// Returns whether a text is a repository's name: parts of lower-case letters and digits, joined by
/// slashes, with separators (a dot, one or two underscores, hyphens) only between them.
fn repository(text: &str) -> bool {
    text.split('/').all(|part| {
        let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let mut separators = part.split(alphanumeric).filter(|gap| !gap.is_empty());
        part.starts_with(alphanumeric)
            && part.ends_with(alphanumeric)
            && separators
                .all(|gap| matches!(gap, "." | "_" | "__") || gap.chars().all(|c| c == '-'))
    })
}

const QUERY: [Text; 15] = [
    text("RoleName", 1, 64, words),
    text("PolicyName", 1, 128, words),
    text("InstanceProfileName", 1, 128, words),
    text("AssumeRolePolicyDocument", 1, 131_072, document),
    text("PolicyDocument", 1, 131_072, document),
    text("Description", 0, 1000, description),
    text("PermissionsBoundary", 20, 2048, any),
    text("PolicyArn", 20, 2048, any),
    text("PathPrefix", 1, 512, path_prefix),
    text("VersionId", 0, usize::MAX, version_id),
    text("Marker", 1, 320, any),
    text("RoleArn", 20, 2048, any),
    text("RoleSessionName", 2, 64, words),
    text("ExternalId", 2, 1224, external_id),
    text("Path", 1, 512, path),
];

const JSON: [Text; 3] = [
    text("repositoryName", 2, 256, repository),
    text("registryId", 0, usize::MAX, registry_id),
    text("policyText", 0, 10_240, any),
];

const NUMBERS: [(&str, i64, i64); 4] = [
    ("MaxItems", 1, 1000),
    ("MaxSessionDuration", 3600, 43_200),
    ("DurationSeconds", 900, 43_200),
    ("maxResults", 1, 1000),
];

/// Returns the parameters that an operation requires.
fn required(operation: &str) -> &'static [&'static str] {
    match operation {
        "CreateRole" => &["RoleName", "AssumeRolePolicyDocument"],
        "GetRole"
        | "DeleteRole"
        | "UpdateRole"
        | "DeleteRolePermissionsBoundary"
        | "ListRoleTags"
        | "ListRolePolicies"
        | "ListAttachedRolePolicies"
        | "ListInstanceProfilesForRole" => &["RoleName"],
        "TagRole" => &["RoleName", "Tags"],
        "UntagRole" => &["RoleName", "TagKeys"],
        "UpdateAssumeRolePolicy" => &["RoleName", "PolicyDocument"],
        "PutRolePermissionsBoundary" => &["RoleName", "PermissionsBoundary"],
        "PutRolePolicy" => &["RoleName", "PolicyName", "PolicyDocument"],
        "GetRolePolicy" | "DeleteRolePolicy" => &["RoleName", "PolicyName"],
        "AttachRolePolicy" | "DetachRolePolicy" => &["RoleName", "PolicyArn"],
        "CreateInstanceProfile"
        | "GetInstanceProfile"
        | "DeleteInstanceProfile"
        | "ListInstanceProfileTags" => &["InstanceProfileName"],
        "AddRoleToInstanceProfile" | "RemoveRoleFromInstanceProfile" => {
            &["InstanceProfileName", "RoleName"]
        }
        "TagInstanceProfile" => &["InstanceProfileName", "Tags"],
        "UntagInstanceProfile" => &["InstanceProfileName", "TagKeys"],
        "CreatePolicy" => &["PolicyName", "PolicyDocument"],
        "GetPolicy" | "DeletePolicy" | "ListPolicyVersions" => &["PolicyArn"],
        "CreatePolicyVersion" => &["PolicyArn", "PolicyDocument"],
        "GetPolicyVersion" | "DeletePolicyVersion" | "SetDefaultPolicyVersion" => {
            &["PolicyArn", "VersionId"]
        }
        "AssumeRole" => &["RoleArn", "RoleSessionName"],
        "CreateRepository"
        | "DeleteRepository"
        | "GetRepositoryPolicy"
        | "DeleteRepositoryPolicy" => &["repositoryName"],
        "SetRepositoryPolicy" => &["repositoryName", "policyText"],
        "PutRegistryPolicy" => &["policyText"],
        _ => &[],
    }
}

/// Checks a call's parameters.
pub(super) fn check(
    service: Service,
    operation: &str,
    parameters: &Parameters,
) -> Result<(), ApiError> {
    let violation = required(operation)
        .iter()
        .find(|name| !is_given(parameters, name))
        .map(|name| ((*name).to_owned(), "not be null".to_owned()))
        .or_else(|| texts(service, operation, parameters))
        .or_else(|| numbers(parameters))
        .or_else(|| tags(service, parameters));
    match violation {
        None => Ok(()),
        Some((name, constraint)) if service == Service::Ecr => Err(ApiError::invalid_parameter(
            format!("Invalid parameter at '{name}' failed to satisfy constraint: '{constraint}'"),
        )),
        Some((name, constraint)) => Err(ApiError::validation(format!(
            "1 validation error detected: Value at '{}' failed to satisfy constraint: Member must {constraint}",
            lower_first(&name)
        ))),
    }
}

type Violation = Option<(String, String)>;

fn is_given(parameters: &Parameters, name: &str) -> bool {
    match name {
        "Tags" => !parameters.tags().is_empty() || parameters.has(name),
        "TagKeys" => !parameters.list(name).is_empty() || parameters.has(name),
        _ => parameters.has(name),
    }
}

fn texts(service: Service, operation: &str, parameters: &Parameters) -> Violation {
    let constraints = if service == Service::Ecr {
        &JSON[..]
    } else {
        &QUERY[..]
    };
    for constraint in constraints {
        let Some(value) = parameters.text(constraint.name) else {
            continue;
        };
        let is_valid = match (constraint.name, operation) {
            ("Path", "CreatePolicy")
            | ("PathPrefix", "ListPolicies" | "ListAttachedRolePolicies") => policy_path,
            _ => constraint.is_valid,
        };
        if let Some(violated) = outside(value, constraint, is_valid) {
            return Some((constraint.name.to_owned(), violated));
        }
    }
    let names = parameters.list("repositoryNames");
    let wrong = names.into_iter().find(|name| !repository(name))?;
    Some((
        wrong.to_owned(),
        "satisfy regular expression pattern".into(),
    ))
}

fn outside(value: &str, constraint: &Text, is_valid: fn(&str) -> bool) -> Option<String> {
    let length = value.chars().count();
    if length < constraint.min {
        return Some(format!(
            "have length greater than or equal to {}",
            constraint.min
        ));
    }
    if length > constraint.max {
        return Some(format!(
            "have length less than or equal to {}",
            constraint.max
        ));
    }
    (!is_valid(value)).then(|| "satisfy regular expression pattern".to_owned())
}

fn numbers(parameters: &Parameters) -> Violation {
    NUMBERS.iter().find_map(|(name, min, max)| {
        let number = match parameters {
            Parameters::Form(form) => form.get(*name)?.parse().unwrap_or(i64::MIN),
            Parameters::Json(map) => map.get(*name).and_then(Value::as_i64)?,
        };
        let violated = if number < *min {
            format!("have value greater than or equal to {min}")
        } else if number > *max {
            format!("have value less than or equal to {max}")
        } else {
            return None;
        };
        Some(((*name).to_owned(), violated))
    })
}

fn tags(service: Service, parameters: &Parameters) -> Violation {
    const MOST: usize = 50;
    if service == Service::Ecr {
        return None;
    }
    let tags = parameters.tags();
    let keys = parameters.list("TagKeys");
    if tags.len() > MOST || keys.len() > MOST {
        return Some((
            "Tags".into(),
            format!("have length less than or equal to {MOST}"),
        ));
    }
    let key = |text: &str| (1..=128).contains(&text.chars().count()) && tag(text);
    let value = |text: &str| text.chars().count() <= 256 && tag(text);
    let is_valid = tags.iter().all(|(k, v)| key(k) && value(v)) && keys.into_iter().all(key);
    (!is_valid).then(|| ("Tags".into(), "satisfy regular expression pattern".into()))
}

fn lower_first(name: &str) -> String {
    let mut characters = name.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_repositories_follow_the_model() {
        for valid in ["app", "team/app", "a.b_c__d--e/f0", "00"] {
            assert!(repository(valid), "{valid}");
        }
        for invalid in [
            "", "App", "a/", "/a", "a..b", "a___b", "a-", "a._b", "a//b", "a b",
        ] {
            assert!(!repository(invalid), "{invalid}");
        }
    }

    #[test]
    fn paths_follow_the_model() {
        for valid in ["/", "/a/", "/a/b/"] {
            assert!(path(valid) && policy_path(valid), "{valid}");
        }
        for invalid in ["", "a", "/a", "a/", "/a b/"] {
            assert!(!path(invalid) && !policy_path(invalid), "{invalid}");
        }
        assert!(path("//a/") && !policy_path("//a/"));
    }
}
