//! What people can do about an error.

use super::super::denial::Denial;
use super::kind::{ASSUME_ROLE, CallSite, ErrorKind};

/// Returns the advice for an error; `None` if its kind says nothing about the cause.
pub(super) fn advice(kind: ErrorKind, at: &CallSite, detail: &str) -> Option<String> {
    let account = &at.account;
    let denial = Denial::of(detail, at.action, account);
    let text = match kind {
        ErrorKind::Denied => denial.to_string(),
        ErrorKind::Region => format!(
            "The operator's credentials are valid, so the region may not be enabled in account {account}: enable it there, or remove it from spec.registry.regions"
        ),
        ErrorKind::Credentials if at.action == ASSUME_ROLE && denial.is_explicit() => {
            denial.to_string()
        }
        ErrorKind::Credentials => format!(
            "Check spec.credentials of AWSAccount {account}: the operator's own identity must be allowed to assume that role, and the role's trust policy must name it, with the same external ID if it asks for one"
        ),
        ErrorKind::Quota => format!(
            "Ask AWS to raise this quota of account {account}, or remove unused resources"
        ),
        ErrorKind::Exists => {
            "Names in IAM ignore case: choose another name in the grant, or remove the existing resource".into()
        }
        ErrorKind::InUse => "Remove the resource that still uses it".into(),
        ErrorKind::Settling => "If the named account or role does not exist, correct its name".into(),
        ErrorKind::Throttled | ErrorKind::Transient => "The operator will retry".into(),
        ErrorKind::Unresolved => {
            "The host name of the AWS endpoint does not resolve where the operator runs. The operator will retry".into()
        }
        ErrorKind::Gone | ErrorKind::Invalid => return None,
    };
    Some(text)
}
