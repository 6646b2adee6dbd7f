//! The kinds of errors, the codes that callers distinguish, and the place of a call.

use crate::grant::AccountId;

/// The action whose failure is about the operator's credentials.
pub const ASSUME_ROLE: &str = "sts:AssumeRole";

/// The kind of a failure, which determines the remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Too many calls, according to AWS or to the operator's own rate limit: back off.
    Throttled,
    /// AWS failed or could not be reached, the answer cannot be used, or another change was in
    /// progress: try again.
    Transient,
    /// The name of the service's host does not resolve: try again, and check the region.
    Unresolved,
    /// A resource that the call names is not visible: either it is new, or it does not exist. Try
    /// again soon, for a while.
    Settling,
    /// The operator has no usable credentials: there are none, AWS refuses them, or STS refuses
    /// to let the operator assume the role.
    Credentials,
    /// The call is not allowed in this account.
    Denied,
    /// The credentials are refused in this region but accepted elsewhere: most likely, the account
    /// has not enabled the region.
    Region,
    /// A quota is used up.
    Quota,
    /// The named resource does not exist.
    Gone,
    /// A resource of this name exists already.
    Exists,
    /// The resource cannot be deleted because another resource still uses it.
    InUse,
    /// AWS rejected the request itself, or answered with a code that is not listed here.
    Invalid,
}

impl ErrorKind {
    /// Returns the label of this kind in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "unavailable",
            Self::Unresolved => "unresolved",
            Self::Settling => "settling",
            Self::Credentials => "credentials",
            Self::Denied => "denied",
            Self::Region => "region",
            Self::Quota => "quota",
            Self::Gone => "not_found",
            Self::Exists => "exists",
            Self::InUse => "in_use",
            Self::Invalid => "invalid",
        }
    }
}

/// The code of an error, as far as callers distinguish codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// ECR has no such repository.
    RepositoryNotFound,
    /// The repository has no policy.
    RepositoryPolicyNotFound,
    /// IAM refuses the content of a policy.
    MalformedPolicyDocument,
    /// ECR refuses a parameter, most likely the content of a policy.
    InvalidParameter,
    /// The call was not sent, because it got no token from the operator's own rate limit in time.
    RateLimited,
    /// Any other code: the [`ErrorKind`] says all that matters.
    Other,
}

/// The account, region, action and resource of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The account of the call.
    pub account: AccountId,
    /// The region, for regional services.
    pub region: Option<String>,
    /// The IAM action that the call needs, such as `iam:CreateRole`.
    pub action: &'static str,
    /// The resource of the call, for messages.
    pub resource: String,
}
