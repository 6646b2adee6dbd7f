//! What people can do about an error.

use super::super::denial::Denial;
use super::{ASSUME_ROLE, AwsError, ErrorKind};

/// Returns the advice for an error; `None` if its kind says nothing about the cause.
pub(super) fn advice(fault: &AwsError) -> Option<String> {
    let account = &fault.at.account;
    let denial = Denial::of(&fault.detail, fault.at.action, account);
    let text = match fault.class {
        ErrorKind::Denied => denial.to_string(),
        ErrorKind::Region => format!(
            "The operator's credentials were verified, so this is about the region: it may not be enabled in account {account}. Enable it there, or take it out of spec.registry.regions"
        ),
        ErrorKind::Credentials if fault.at.action == ASSUME_ROLE && denial.is_explicit() => {
            denial.to_string()
        }
        ErrorKind::Credentials => format!(
            "Check spec.credentials of AWSAccount {account}: the operator's own identity must be allowed to assume that role, and the role's trust policy must name it, with the same external ID if it asks for one"
        ),
        ErrorKind::Quota => format!(
            "Ask AWS to raise this quota of account {account}, or remove what is not needed"
        ),
        ErrorKind::Exists => {
            "Names are unique without regard to case; choose another in the grant, or remove what is there".into()
        }
        ErrorKind::InUse => "Remove what still holds it".into(),
        ErrorKind::Settling => "If the account or role named does not exist, correct it".into(),
        ErrorKind::Throttled | ErrorKind::Transient => "It is tried again".into(),
        ErrorKind::Unresolved => {
            "The name of AWS's host does not resolve where the operator runs. It is tried again".into()
        }
        ErrorKind::Gone | ErrorKind::Invalid => return None,
    };
    Some(text)
}
