//! Every condition type and every reason that a status can have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::fmt;

/// A condition of a `CrossAccountRegistryGrant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The grant is in force: every condition below that applies is true.
    Ready,
    /// The accounts exist as `AWSAccount`s and admit the grant, and the operator's credentials
    /// belong to them.
    AccountsReady,
    /// The role in the registry account is in its desired state.
    RoleReady,
    /// Every repository's policy grants the access.
    RepositoryPoliciesReady,
    /// The instance role in the consumer account is in its desired state.
    ConsumerReady,
    /// Present while the operator is working on the grant or will retry (kstatus).
    Reconciling,
    /// Present while only a change by a person can help (kstatus).
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

/// Why a condition has its status: identifiers of one word for people and alerts. The condition's
/// message has the details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Everything asked for is in place on both sides.
    Granted,
    /// The registry's side is in place. The consumer account is not managed, or no instance role
    /// was requested there.
    RegistrySideReady,
    /// This part is in place.
    InPlace,
    /// This part was not requested.
    NotRequested,
    /// The consumer account has no `AWSAccount`, so the operator writes and checks nothing there.
    NotManaged,
    /// The operator's credentials belong to the intended account.
    CredentialsVerified,
    /// The operator is reconciling this generation.
    Progressing,
    /// The grant is suspended: nothing is written or checked, and what was applied stays.
    Suspended,
    /// Mode `Observe`: nothing is written, and `status.pending` shows the planned changes.
    Observing,
    /// The grant is being deleted, and its access is being revoked.
    Revoking,
    /// The registry account has no `AWSAccount`.
    AccountNotFound,
    /// No rule of the `AWSAccount` admits the grant.
    NotAdmitted,
    /// The resource itself is invalid.
    Invalid,
    /// The operator's credentials belong to another account than the intended one.
    WrongAccount,
    /// The operator has no credentials for the account.
    CredentialsUnavailable,
    /// AWS denied a call of the operator in that account.
    AccessDenied,
    /// A region does not accept the operator's credentials, which were verified: the account has
    /// most likely not enabled it.
    RegionNotEnabled,
    /// A named repository does not exist.
    RepositoryNotFound,
    /// A role that a grant is to extend does not exist.
    RoleNotFound,
    /// A role that others own does not have the tag by which they consent.
    ConsentMissing,
    /// Everything that this grant writes is in place, but the policies that were read deny access
    /// by a requested path.
    PathDenied,
    /// A role or instance profile of that name exists, or has another path, and does not belong to
    /// this grant.
    Conflict,
    /// A repository policy is not a valid policy document, so the operator does not change it.
    UnreadablePolicy,
    /// Another tool keeps replacing a repository policy, and so undoes what is granted.
    ContestedPolicy,
    /// Another operator with this installation's ID writes in the account, so no new access is
    /// granted there.
    SecondWriter,
    /// AWS refuses every write of a repository policy or a role's trust policy because of something
    /// in it, such as a foreign statement that names a deleted principal.
    BlockedPolicy,
    /// A policy document would be longer than AWS allows.
    PolicyTooLarge,
    /// A quota of the account is exhausted.
    QuotaExceeded,
    /// AWS throttled the operator's calls.
    Throttled,
    /// AWS could not be reached, or failed.
    Unavailable,
    /// The name of an AWS host does not resolve in a region that this version knows, so name
    /// resolution fails where the operator runs.
    HostNotResolved,
    /// The name of an AWS host does not resolve, and this version does not know the region.
    RegionNotFound,
    /// What was just created is not visible everywhere in AWS yet.
    Settling,
    /// AWS refused a request as malformed.
    Rejected,
    /// Something else still uses what should be removed.
    StillInUse,
}

impl Reason {
    /// Returns true if the operator has lost access to a place in AWS, and waiting does not help.
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

    /// Returns true if only a change by a person can help: of the resource, of the account, or in
    /// AWS.
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
