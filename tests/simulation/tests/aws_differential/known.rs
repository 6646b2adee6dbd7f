//! The differences between the two sides that are known, each with its source and with who is
//! right.
//!
//! The random calls avoid these, because they would meet nothing else:
//!
//! - An account's root may not assume roles (AssumeRole API reference). The emulation lets it, as a
//!   stand-in for services, so its sessions begin that way, and ours by `Root::session`.
//! - In the emulation, every number is an account (ours refuses principals of accounts that do not
//!   exist, as AWS does), every region is enabled, and lists of IAM have one page.
//! - UpdateRole with an empty description removes the description here, and keeps it there.
//! - The emulation evaluates identity policies and, across accounts, repository policies. Ours
//!   denies only what a test denies, and refuses every call into another account's registry.

use super::calls::Call;
use serde_json::Value;

/// A known difference.
pub struct Known {
    pub name: &'static str,
    /// What AWS does, and where it says so.
    pub source: &'static str,
    pub right: Right,
    /// Whether one side refuses what the other does, or by another code.
    pub of_outcome: bool,
    /// Removes the difference from the contents of both answers, ours first; returns whether it
    /// was there.
    pub erase: fn(&Call, &mut Value, &mut Value) -> bool,
}

/// Which side does what AWS does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Ours,
    Unverified,
}

pub const KNOWN: &[Known] = &[
    Known {
        name: "empty fields of a role",
        source: "IAM leaves out a description that was never given, and only GetRole says something about the last use (API reference, sample answers)",
        right: Right::Ours,
        of_outcome: false,
        erase: |_, ours, theirs| {
            let names = ["Description", "RoleLastUsed"];
            let here = remove_empty(ours, &names);
            remove_empty(theirs, &names) || here
        },
    },
    Known {
        name: "a policy's document is checked before its name and its policy",
        source: "The emulation's authors measured that PutRolePolicy finds the role first; assumed for managed policies",
        right: Right::Unverified,
        of_outcome: true,
        erase: |call, ours, theirs| {
            ["CreatePolicy", "CreatePolicyVersion"].contains(&call.operation)
                && [
                    "NoSuchEntity",
                    "AccessDenied",
                    "EntityAlreadyExists",
                    "LimitExceeded",
                ]
                .iter()
                .any(|code| ours == code)
                && (theirs == "MalformedPolicyDocument" || theirs == "LimitExceeded")
        },
    },
    Known {
        name: "permission in another account's registry is checked before the parameters",
        source: "AWS checks a request against the API's model before it authorizes it (as the SDKs do); assumed for ECR",
        right: Right::Unverified,
        of_outcome: true,
        erase: |call, ours, theirs| {
            call.has("registryId")
                && ours == "InvalidParameterException"
                && theirs == "AccessDeniedException"
        },
    },
    Known {
        name: "names of roles ignore case in every call",
        source: "IAM quotas: names are not distinguished by case; that a lookup by another case succeeds is assumed",
        right: Right::Unverified,
        of_outcome: true,
        erase: |call, ours, theirs| {
            let is_upper = |value: &Value| value.as_str().is_some_and(|name| name.starts_with('R'));
            let mut named = call
                .parameters
                .iter()
                .filter(|(name, _)| *name == "RoleName");
            named.any(|(_, value)| is_upper(value))
                && ours != "NoSuchEntity"
                && theirs == "NoSuchEntity"
        },
    },
];

/// Removes empty texts with these names; returns whether there were any.
fn remove_empty(value: &mut Value, names: &[&str]) -> bool {
    match value {
        Value::Object(fields) => {
            let before = fields.len();
            fields.retain(|name, field| !(names.contains(&name.as_str()) && field == ""));
            let mut removed = fields.len() < before;
            for field in fields.values_mut() {
                removed |= remove_empty(field, names);
            }
            removed
        }
        Value::Array(items) => {
            let removed = items.iter_mut().map(|item| remove_empty(item, names));
            removed.filter(|removed| *removed).count() > 0
        }
        _ => false,
    }
}
