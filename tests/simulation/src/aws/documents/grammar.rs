//! What AWS refuses when a document is written: syntax, and what each kind of document may contain.
//!
//! Sources: the grammar of the IAM user guide, the errors that AWS documents, and the emulation's
//! `policy_documents.py`, which states the same rules in Python.

use super::strict;
use serde_json::{Map, Value};

/// The kind of a document, which determines what it may contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An inline or managed policy.
    Identity,
    /// A role's trust policy.
    Trust,
    /// The policy of a repository.
    Repository,
    /// The policy of a registry.
    Registry,
}

/// The reason that a document is refused, in AWS's words where they are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed(pub String);

type Checked = Result<(), Malformed>;

fn malformed<T>(message: impl Into<String>) -> Result<T, Malformed> {
    Err(Malformed(message.into()))
}

fn syntax<T>() -> Result<T, Malformed> {
    malformed("Syntax errors in policy.")
}

const VERSIONS: [&str; 2] = ["2008-10-17", "2012-10-17"];

const STATEMENT_KEYS: [&str; 9] = [
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

const OPERATORS: [&str; 26] = [
    "stringequals",
    "stringnotequals",
    "stringequalsignorecase",
    "stringnotequalsignorecase",
    "stringlike",
    "stringnotlike",
    "arnequals",
    "arnnotequals",
    "arnlike",
    "arnnotlike",
    "ipaddress",
    "notipaddress",
    "binaryequals",
    "bool",
    "numericequals",
    "numericnotequals",
    "numericlessthan",
    "numericlessthanequals",
    "numericgreaterthan",
    "numericgreaterthanequals",
    "dateequals",
    "datenotequals",
    "datelessthan",
    "datelessthanequals",
    "dategreaterthan",
    "dategreaterthanequals",
];

/// Parses and checks a document.
///
/// # Errors
/// When AWS would refuse it for any reason other than a principal that does not exist.
pub fn check(kind: Kind, text: &str) -> Result<Value, Malformed> {
    let document = parse(text)?;
    match kind {
        Kind::Identity => check_identity(&document)?,
        Kind::Trust => check_trust(&document)?,
        Kind::Repository => check_repository(&document)?,
        Kind::Registry => check_registry(&document)?,
    }
    Ok(document)
}

/// Returns `X` and `[X]` as the same list.
pub fn as_list(value: Option<&Value>) -> &[Value] {
    match value {
        None => &[],
        Some(Value::Array(list)) => list,
        Some(one) => std::slice::from_ref(one),
    }
}

/// Returns the statements of a document.
pub fn statements(document: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    as_list(document.get("Statement"))
        .iter()
        .filter_map(Value::as_object)
}

fn parse(text: &str) -> Result<Value, Malformed> {
    let Some(document @ Value::Object(_)) = strict::parse(text) else {
        return malformed("This policy contains invalid Json");
    };
    let fields = document.as_object().expect("just matched");
    let version = fields.get("Version").unwrap_or(&Value::Null);
    let has_statements = match fields.get("Statement") {
        Some(Value::Object(one)) => !one.is_empty(),
        Some(Value::Array(list)) => !list.is_empty(),
        _ => false,
    };
    let known = |key: &String| ["Version", "Id", "Statement"].contains(&key.as_str());
    let is_version = version.is_null() && !fields.contains_key("Version")
        || version
            .as_str()
            .is_some_and(|text| VERSIONS.contains(&text));
    if !fields.keys().all(known) || !is_version || !has_statements {
        return syntax();
    }
    for statement in as_list(fields.get("Statement")) {
        check_statement(statement)?;
    }
    Ok(document)
}

fn check_statement(statement: &Value) -> Checked {
    let Value::Object(statement) = statement else {
        return syntax();
    };
    let known = |key: &String| STATEMENT_KEYS.contains(&key.as_str());
    let effect = statement.get("Effect").and_then(Value::as_str);
    if !statement.keys().all(known)
        || !matches!(effect, Some("Allow" | "Deny"))
        || statement.get("Sid").is_some_and(|sid| !sid.is_string())
    {
        return syntax();
    }
    for (one, other) in [
        ("Action", "NotAction"),
        ("Resource", "NotResource"),
        ("Principal", "NotPrincipal"),
    ] {
        if statement.contains_key(one) && statement.contains_key(other) {
            return syntax();
        }
    }
    let Some(actions) = statement.get("Action").or(statement.get("NotAction")) else {
        return malformed("Missing required field Action");
    };
    check_actions(as_list(Some(actions)))?;
    for field in ["Principal", "NotPrincipal"] {
        if let Some(principal) = statement.get(field) {
            check_principal(principal)?;
        }
    }
    statement.get("Condition").map_or(Ok(()), check_condition)
}

fn check_actions(actions: &[Value]) -> Checked {
    if actions.is_empty() {
        return syntax();
    }
    for action in actions {
        let Some(action) = action.as_str() else {
            return syntax();
        };
        let vendor = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let name = |c: char| c.is_ascii_alphanumeric() || c == '*' || c == '?';
        let is_action = action == "*"
            || action.split_once(':').is_some_and(|(service, operation)| {
                !service.is_empty()
                    && service.chars().all(vendor)
                    && !operation.is_empty()
                    && operation.chars().all(name)
            });
        if !is_action {
            return malformed(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
            );
        }
    }
    Ok(())
}

fn check_principal(principal: &Value) -> Checked {
    if principal == "*" {
        return Ok(());
    }
    let Some(kinds) = principal.as_object().filter(|kinds| !kinds.is_empty()) else {
        return syntax();
    };
    for (kind, names) in kinds {
        let names = as_list(Some(names));
        let known = ["AWS", "Service", "Federated", "CanonicalUser"].contains(&kind.as_str());
        if !known || names.is_empty() || !names.iter().all(Value::is_string) {
            return syntax();
        }
    }
    for service in as_list(kinds.get("Service"))
        .iter()
        .filter_map(Value::as_str)
    {
        if !is_service(service) {
            return malformed(format!(
                "Invalid principal in policy: \"SERVICE\":\"{service}\""
            ));
        }
    }
    Ok(())
}

fn is_service(name: &str) -> bool {
    let ends = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];
    ends.iter()
        .filter_map(|end| name.strip_suffix(end))
        .any(|start| {
            let allowed =
                |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-';
            !start.is_empty() && start.chars().all(allowed)
        })
}

fn check_condition(condition: &Value) -> Checked {
    let Some(condition) = condition.as_object() else {
        return syntax();
    };
    for (operator, keys) in condition {
        if !is_operator(operator) {
            return malformed(format!("Invalid Condition type : {operator}."));
        }
        let Some(keys) = keys.as_object().filter(|keys| !keys.is_empty()) else {
            return syntax();
        };
        let plain = |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        if !keys.values().all(|values| match values {
            Value::Null => true,
            values => as_list(Some(values)).iter().all(plain),
        }) {
            return syntax();
        }
    }
    Ok(())
}

fn is_operator(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    if lower == "null" {
        return true;
    }
    let base = lower
        .strip_prefix("forallvalues:")
        .or_else(|| lower.strip_prefix("foranyvalue:"))
        .unwrap_or(&lower);
    let base = base.strip_suffix("ifexists").unwrap_or(base);
    OPERATORS.contains(&base)
}

fn check_sids(document: &Value) -> Checked {
    let mut sids: Vec<&str> = statements(document)
        .filter_map(|statement| statement.get("Sid")?.as_str())
        .filter(|sid| !sid.is_empty())
        .collect();
    if !sids
        .iter()
        .all(|sid| sid.chars().all(|c| c.is_ascii_alphanumeric()))
    {
        return malformed(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        );
    }
    sids.sort_unstable();
    if sids.windows(2).any(|pair| pair[0] == pair[1]) {
        return malformed("Statement IDs (SID) in a single policy must be unique.");
    }
    Ok(())
}

fn resources(statement: &Map<String, Value>) -> &[Value] {
    as_list(statement.get("Resource").or(statement.get("NotResource")))
}

fn is_resource(resource: &Value) -> bool {
    resource
        .as_str()
        .is_some_and(|text| text == "*" || text.starts_with("arn:"))
}

fn check_identity(document: &Value) -> Checked {
    check_sids(document)?;
    for statement in statements(document) {
        if statement.contains_key("Principal") || statement.contains_key("NotPrincipal") {
            return malformed("Policy document should not specify a principal.");
        }
        let resources = resources(statement);
        if resources.is_empty() {
            return malformed("Policy statement must contain resources.");
        }
        if let Some(wrong) = resources.iter().find(|resource| !is_resource(resource)) {
            return malformed(format!(
                "Resource {} must be in ARN format or \"*\".",
                wrong.as_str().unwrap_or_default()
            ));
        }
    }
    Ok(())
}

fn check_trust(document: &Value) -> Checked {
    let not_principal = |statement: &&Map<String, Value>| statement.contains_key("NotPrincipal");
    let mut excluding = statements(document).filter(not_principal);
    if let Some(first) = excluding.next() {
        let allows = |statement: &Map<String, Value>| statement["Effect"] == "Allow";
        return malformed(if allows(first) || excluding.any(allows) {
            "Allow with NotPrincipal is not allowed."
        } else {
            "AssumeRole policy must not contain NotPrincipal field."
        });
    }
    check_sids(document)?;
    for statement in statements(document) {
        if !statement.contains_key("Principal") {
            return malformed("Missing required field Principal");
        }
        if statement.contains_key("Resource") || statement.contains_key("NotResource") {
            return malformed("Has prohibited field Resource");
        }
        let of_sts = |action: &Value| {
            action
                .as_str()
                .is_some_and(|action| action.to_ascii_lowercase().starts_with("sts:"))
        };
        if !as_list(statement.get("Action")).iter().all(of_sts) {
            return malformed("AssumeRole policy may only specify STS AssumeRole actions.");
        }
    }
    Ok(())
}

fn actions(statement: &Map<String, Value>) -> impl Iterator<Item = String> {
    as_list(statement.get("Action").or(statement.get("NotAction")))
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_ascii_lowercase)
}

fn has_principal(statement: &Map<String, Value>) -> bool {
    statement.contains_key("Principal") || statement.contains_key("NotPrincipal")
}

fn check_repository(document: &Value) -> Checked {
    // Sids are free text here: the ECR console writes some with spaces.
    let is_valid = |statement: &Map<String, Value>| {
        let of_repositories = |action: String| {
            (action == "*" || action.starts_with("ecr:")) && action != "ecr:getauthorizationtoken"
        };
        has_principal(statement)
            && !statement.contains_key("Resource")
            && !statement.contains_key("NotResource")
            && actions(statement).all(of_repositories)
    };
    if statements(document).all(is_valid) {
        return Ok(());
    }
    malformed("Invalid repository policy provided")
}

fn check_registry(document: &Value) -> Checked {
    let is_valid = |statement: &Map<String, Value>| {
        let resources = resources(statement);
        has_principal(statement)
            && !resources.is_empty()
            && resources.iter().all(is_resource)
            && actions(statement).all(|action| action == "*" || action.starts_with("ecr:"))
    };
    if statements(document).all(is_valid) {
        return Ok(());
    }
    malformed("Invalid registry policy provided")
}
