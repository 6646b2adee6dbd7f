//! The conditions' types and reasons: every one that a status can carry stands here, and nowhere
//! else.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::fmt;

/// A condition of a `CrossAccountRegistryGrant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The grant holds: everything below that was asked for is true.
    Ready,
    /// The accounts are known, admit the grant, and the operator's credentials are for them.
    AccountsReady,
    /// The role in the registry account is as it should be.
    RoleReady,
    /// Every repository's policy grants the access.
    RepositoryPoliciesReady,
    /// The instance role in the consumer account is as it should be.
    ConsumerReady,
    /// Present while the operator is at work or will try again (kstatus).
    Reconciling,
    /// Present while only a person's change can help (kstatus).
    Stalled,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Returns the condition of this type.
pub fn find<'a>(
    conditions: impl IntoIterator<Item = &'a Condition>,
    kind: ConditionType,
) -> Option<&'a Condition> {
    let kind = kind.to_string();
    conditions
        .into_iter()
        .find(|condition| condition.type_ == kind)
}

/// Why a condition has its status. One-word identifiers for people and for alerts; the condition's
/// message has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Everything asked for is in place on both sides.
    Granted,
    /// The registry's side is in place; the consumer's account is not managed, or no role is kept
    /// there.
    RegistrySideReady,
    /// This part is in place.
    InPlace,
    /// This part was not asked for.
    NotRequested,
    /// The consumer's account has no `AWSAccount`, so nothing is written or checked there.
    NotManaged,
    /// The operator's credentials are for the account meant.
    CredentialsVerified,
    /// The operator is at work on this generation.
    Progressing,
    /// The grant is suspended: nothing is written or checked, and what was applied stays.
    Suspended,
    /// Mode `Observe`: nothing is written, and what would be done is in `status.pending`.
    Observing,
    /// The grant is being deleted, and its access revoked.
    Revoking,
    /// The registry's account has no `AWSAccount`.
    AccountNotFound,
    /// No rule of the `AWSAccount` admits the grant.
    NotAdmitted,
    /// The resource itself is wrong.
    Invalid,
    /// The operator's credentials are for another account than the one meant.
    WrongAccount,
    /// The operator has no credentials for the account.
    CredentialsUnavailable,
    /// AWS refused a call of the operator in that account.
    AccessDenied,
    /// A region does not accept the operator's credentials, which were verified: the account has
    /// most likely not enabled it.
    RegionNotEnabled,
    /// A named repository does not exist.
    RepositoryNotFound,
    /// A role that a grant is to extend does not exist.
    RoleNotFound,
    /// A role that others made does not carry the tag by which they consent.
    ConsentMissing,
    /// All that this grant writes is in place, and still the policies that were read deny access by
    /// a path that was asked for.
    PathDenied,
    /// A role, instance profile or path of that name exists and is not this grant's.
    Conflict,
    /// A repository's policy cannot be read as a policy document, so it is left alone.
    UnreadablePolicy,
    /// Somebody else keeps replacing a repository's policy, and with it undoes what is granted.
    ContestedPolicy,
    /// Another operator with this installation's ID writes in the account, so nothing new is
    /// granted there.
    SecondWriter,
    /// AWS refuses every write of a repository's policy or a role's trust policy because of
    /// something in it, such as a foreign statement that names a deleted principal.
    BlockedPolicy,
    /// A policy document would be longer than AWS allows.
    PolicyTooLarge,
    /// A quota of the account is used up.
    QuotaExceeded,
    /// AWS slowed the operator down.
    Throttled,
    /// AWS could not be reached, or failed.
    Unavailable,
    /// The name of AWS's host does not resolve in a region that this version knows: name resolution
    /// fails where the operator runs.
    HostNotResolved,
    /// The name of AWS's host does not resolve, and this version knows no such region.
    RegionNotFound,
    /// What was just made is not visible everywhere in AWS yet.
    Settling,
    /// AWS refused a request as malformed.
    Rejected,
    /// Something else holds what should be removed.
    StillInUse,
}

impl Reason {
    /// Whether the operator cannot get at a place in AWS, and waiting does not help.
    pub fn shuts_out(self) -> bool {
        match self {
            Self::AccountNotFound
            | Self::WrongAccount
            | Self::CredentialsUnavailable
            | Self::AccessDenied
            | Self::RegionNotEnabled
            | Self::RegionNotFound => true,
            Self::Granted
            | Self::RegistrySideReady
            | Self::InPlace
            | Self::NotRequested
            | Self::NotManaged
            | Self::CredentialsVerified
            | Self::Progressing
            | Self::Suspended
            | Self::Observing
            | Self::Revoking
            | Self::NotAdmitted
            | Self::Invalid
            | Self::RepositoryNotFound
            | Self::RoleNotFound
            | Self::ConsentMissing
            | Self::PathDenied
            | Self::Conflict
            | Self::UnreadablePolicy
            | Self::ContestedPolicy
            | Self::SecondWriter
            | Self::BlockedPolicy
            | Self::PolicyTooLarge
            | Self::QuotaExceeded
            | Self::Throttled
            | Self::Unavailable
            | Self::HostNotResolved
            | Self::Settling
            | Self::Rejected
            | Self::StillInUse => false,
        }
    }

    /// Whether only a change by a person can help: of the resource, of the account, or in AWS.
    pub fn needs_a_person(self) -> bool {
        match self {
            Self::AccountNotFound
            | Self::NotAdmitted
            | Self::Invalid
            | Self::WrongAccount
            | Self::AccessDenied
            | Self::RegionNotEnabled
            | Self::RegionNotFound
            | Self::ConsentMissing
            | Self::PathDenied
            | Self::Conflict
            | Self::UnreadablePolicy
            | Self::ContestedPolicy
            | Self::SecondWriter
            | Self::BlockedPolicy
            | Self::PolicyTooLarge
            | Self::QuotaExceeded
            | Self::Rejected
            | Self::StillInUse => true,
            Self::Granted
            | Self::RegistrySideReady
            | Self::InPlace
            | Self::NotRequested
            | Self::NotManaged
            | Self::CredentialsVerified
            | Self::CredentialsUnavailable
            | Self::Progressing
            | Self::Suspended
            | Self::Observing
            | Self::Revoking
            | Self::RepositoryNotFound
            | Self::RoleNotFound
            | Self::Throttled
            | Self::Unavailable
            | Self::HostNotResolved
            | Self::Settling => false,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
