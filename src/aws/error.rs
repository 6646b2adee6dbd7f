//! Classifies AWS errors into [`ErrorKind`]s: once, here. (Only callers that search for the cause
//! of a rejected document compare the code as well.)
//!
//! The code of the error decides. The SDK does not model `AccessDenied` and `Throttling`, so codes
//! are compared as text. Three other things count where a code is ambiguous or absent: the HTTP
//! status, whether the service is regional, and whether AWS's text mentions a principal. A failure
//! without an answer is classified by its chain of causes: the rate limit, `sts:AssumeRole`,
//! missing credentials, name resolution, or the connection.
//!
//! This module also logs each error, writes its message with advice for people, and maps its kind
//! to the [`Reason`] of a status.

use super::answer::Incomplete;
use super::causes::{causes, chain};
use super::denial::Denial;
use super::rate_limit::RateLimited;
use super::unresolved::is_unresolved;
use crate::api::conditions::Reason;
use crate::grant::partition::unknown_region;
use crate::grant::{AccountId, Problem};
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use std::error::Error;
use std::fmt;

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

/// The code of a call that was not sent because it got no token from the rate limit in time.
pub(super) const RATE_LIMITED: &str = "HeldBack";
const ASSUME_ROLE: &str = "sts:AssumeRole";
/// The code of an answer that lacks a field that AWS always sends, or that belongs to another
/// request: see [`super::answer`].
pub(super) const INCOMPLETE: &str = "IncompleteAnswer";
/// The code of an error without a code: the answer is not from AWS, or it was cut off.
pub(super) const UNREADABLE: &str = "UnreadableAnswer";

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

/// A failed call: its place, its action and AWS's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsError {
    /// The kind of failure.
    pub class: ErrorKind,
    /// The error's code.
    pub code: String,
    pub(super) at: CallSite,
    pub(super) detail: String,
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

impl AwsError {
    /// Classifies an SDK error and logs it.
    pub fn of<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (fault, request_id) = Self::classified(at, error);
        fault.log(request_id.as_deref().unwrap_or_default());
        fault
    }

    /// Logs the error. The request ID is only for the log: it differs each time, and a status must
    /// not.
    fn log(&self, request_id: &str) {
        let Self {
            class,
            code,
            at:
                CallSite {
                    account,
                    region,
                    action,
                    resource,
                },
            detail,
        } = self;
        // A missing resource is most often the expected answer.
        match class {
            ErrorKind::Gone => {
                tracing::debug!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}");
            }
            _ => {
                tracing::warn!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}")
            }
        }
    }

    /// Classifies an SDK error; also returns the request ID if AWS answered.
    fn classified<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> (Self, Option<String>)
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error
            .raw_response()
            .map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let message = meta.message().unwrap_or("AWS gave no message");
                let fault = match meta.code() {
                    Some(code) => {
                        let class = class_of(code, message, status, at.region.is_some());
                        Self {
                            class,
                            code: code.to_owned(),
                            at,
                            detail: without_session(message),
                        }
                    }
                    None => Self::unreadable(at, status),
                };
                (fault, meta.request_id().map(String::from))
            }
            other => {
                if let Some(incomplete) = incomplete(other) {
                    return (Self::incomplete(at, incomplete), None);
                }
                match (held_back(other), assume_role_error(other)) {
                    (true, _) => {
                        let (class, code, detail) = (
                            ErrorKind::Throttled,
                            RATE_LIMITED.into(),
                            RateLimited.to_string(),
                        );
                        (
                            Self {
                                class,
                                code,
                                at,
                                detail,
                            },
                            None,
                        )
                    }
                    (
                        false,
                        Some(AssumeRoleFailed {
                            code,
                            message,
                            request_id,
                        }),
                    ) => {
                        let (class, at) = (
                            class_of_session(code.as_deref(), &message),
                            CallSite {
                                action: ASSUME_ROLE,
                                ..at
                            },
                        );
                        let fault = match code {
                            Some(code) => Self {
                                class,
                                code,
                                at,
                                detail: message,
                            },
                            None => Self::unreadable(at, None),
                        };
                        (fault, request_id)
                    }
                    (false, None) => {
                        let passes = unreachable_sts(other) || incomplete_credentials(other);
                        let no_credentials = no_credentials(other) && !passes;
                        let class = match no_credentials {
                            true => ErrorKind::Credentials,
                            false if is_unresolved(other) => ErrorKind::Unresolved,
                            false => ErrorKind::Transient,
                        };
                        (
                            Self {
                                class,
                                code: variant(other).into(),
                                at,
                                detail: chain(other),
                            },
                            None,
                        )
                    }
                }
            }
        }
    }
}

impl AwsError {
    /// Builds the error for an answer that is not used. It is transient, and says nothing about the
    /// resource.
    pub(super) fn incomplete(at: CallSite, incomplete: &Incomplete) -> Self {
        Self {
            class: ErrorKind::Transient,
            code: INCOMPLETE.into(),
            at,
            detail: incomplete.to_string(),
        }
    }

    /// Builds the error for an answer without a code. Such an answer came from an intermediary
    /// between AWS and the operator, or was cut off on the way.
    fn unreadable(at: CallSite, status: Option<u16>) -> Self {
        let class = if status == Some(429) {
            ErrorKind::Throttled
        } else {
            ErrorKind::Transient
        };
        let status = status
            .map(|status| format!(" (HTTP status {status})"))
            .unwrap_or_default();
        Self {
            class,
            code: UNREADABLE.into(),
            at,
            detail: format!("the answer{status} cannot be read as one of AWS"),
        }
    }
}

fn incomplete<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Incomplete> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Removes session names from AWS's text. The operator's sessions are named after tenants'
/// namespaces, and other tenants that wait for the same call see the error, too.
fn without_session(message: &str) -> String {
    let word = |word: &str| match word.split_once(":assumed-role/") {
        Some((before, role)) => {
            let role = role.split('/').next().unwrap_or_default();
            format!("{before}:assumed-role/{role}")
        }
        None => word.to_owned(),
    };
    message.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

impl AwsError {
    /// Returns whether AWS answered that the resource does not exist.
    pub fn is_gone(&self) -> bool {
        self.class == ErrorKind::Gone
    }
}

/// Classifies an error that AWS answered with. Sources: the services' API references, "Common
/// errors" and each operation's errors.
///
/// The code decides, with these exceptions: with an HTTP status of 500 or more, every code except
/// those of throttling is transient; in a region that an account has not enabled, `regional`
/// services refuse credentials that are valid everywhere else; and a rejected document is
/// [`ErrorKind::Settling`] if the text mentions a principal.
fn class_of(code: &str, message: &str, status: Option<u16>, regional: bool) -> ErrorKind {
    let names_principal = message.to_lowercase().contains("principal");
    match code {
        _ if code.starts_with("Throttl")
            || code.starts_with("TooManyRequests")
            || code == "RequestLimitExceeded" =>
        {
            ErrorKind::Throttled
        }
        _ if code.starts_with("ConcurrentModification") => ErrorKind::Transient,
        "ServerException"
        | "ServiceFailure"
        | "ServiceFailureException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "RequestExpired" => ErrorKind::Transient,
        _ if status.is_some_and(|status| status >= 500) => ErrorKind::Transient,
        "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "AuthFailure"
        | "OptInRequired"
            if regional =>
        {
            ErrorKind::Region
        }
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken" => ErrorKind::Credentials,
        _ if code.starts_with("AccessDenied")
            || code == "UnauthorizedOperation"
            || code == "OptInRequired" =>
        {
            ErrorKind::Denied
        }
        _ if code.starts_with("LimitExceeded") => ErrorKind::Quota,
        "NoSuchEntity"
        | "RepositoryNotFoundException"
        | "RepositoryPolicyNotFoundException"
        | "RegistryPolicyNotFoundException" => ErrorKind::Gone,
        "EntityAlreadyExists" => ErrorKind::Exists,
        "DeleteConflict" => ErrorKind::InUse,
        // A new principal is unknown for seconds; a mistyped one, forever. Both get this code.
        "MalformedPolicyDocument" | "InvalidParameterException" if names_principal => {
            ErrorKind::Settling
        }
        _ => ErrorKind::Invalid,
    }
}

impl fmt::Display for AwsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            class,
            code,
            at:
                CallSite {
                    account,
                    region,
                    action,
                    resource,
                },
            detail,
        } = self;
        let place = region
            .as_ref()
            .map(|region| format!(", {region}"))
            .unwrap_or_default();
        write!(
            f,
            "{action} on {resource} in account {account}{place} failed with {code}: {detail}"
        )?;
        match class {
            ErrorKind::Denied => write!(f, ". {}", Denial::of(detail, action, account)),
            ErrorKind::Region => write!(
                f,
                ". The operator's credentials were verified, so this is about the region: it may not be enabled in account {account}. Enable it there, or take it out of spec.registry.regions"
            ),
            ErrorKind::Credentials
                if *action == ASSUME_ROLE && Denial::of(detail, action, account).is_explicit() =>
            {
                write!(f, ". {}", Denial::of(detail, action, account))
            }
            ErrorKind::Credentials => write!(
                f,
                ". Check spec.credentials of AWSAccount {account}: the operator's own identity must be allowed to assume that role, and the role's trust policy must name it, with the same external ID if it asks for one"
            ),
            ErrorKind::Quota => {
                write!(
                    f,
                    ". Ask AWS to raise this quota of account {account}, or remove what is not needed"
                )
            }
            ErrorKind::Exists => write!(
                f,
                ". Names are unique without regard to case; choose another in the grant, or remove what is there"
            ),
            ErrorKind::InUse => write!(f, ". Remove what still holds it"),
            ErrorKind::Settling => write!(
                f,
                ". If the account or role named does not exist, correct it"
            ),
            ErrorKind::Throttled | ErrorKind::Transient => write!(f, ". It is tried again"),
            ErrorKind::Unresolved => {
                write!(
                    f,
                    ". The name of AWS's host does not resolve where the operator runs. It is tried again"
                )
            }
            ErrorKind::Gone | ErrorKind::Invalid => Ok(()),
        }?;
        match region.as_deref().and_then(unknown_region) {
            Some(warning) => write!(f, ". Check spec.registry.regions: {warning}"),
            None => Ok(()),
        }
    }
}

impl Error for AwsError {}

impl From<AwsError> for Problem {
    fn from(fault: AwsError) -> Self {
        let reason = match fault.class {
            ErrorKind::Throttled => Reason::Throttled,
            ErrorKind::Transient => Reason::Unavailable,
            ErrorKind::Unresolved
                if fault
                    .at
                    .region
                    .as_deref()
                    .and_then(unknown_region)
                    .is_some() =>
            {
                Reason::RegionNotFound
            }
            ErrorKind::Unresolved => Reason::HostNotResolved,
            ErrorKind::Settling | ErrorKind::Gone => Reason::Settling,
            ErrorKind::Credentials => Reason::CredentialsUnavailable,
            ErrorKind::Denied => Reason::AccessDenied,
            ErrorKind::Region => Reason::RegionNotEnabled,
            ErrorKind::Quota => Reason::QuotaExceeded,
            ErrorKind::Exists => Reason::Conflict,
            ErrorKind::InUse => Reason::StillInUse,
            ErrorKind::Invalid => Reason::Rejected,
        };
        Self::new(reason, fault.to_string())
    }
}

/// The error of `sts:AssumeRole` that made another call fail for lack of credentials.
struct AssumeRoleFailed {
    /// `None` if the answer did not come from STS.
    code: Option<String>,
    message: String,
    request_id: Option<String>,
}

fn assume_role_error(error: &(dyn Error + 'static)) -> Option<AssumeRoleFailed> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<AssumeRoleError>())?;
    Some(AssumeRoleFailed {
        code: found.meta().code().map(String::from),
        message: found
            .meta()
            .message()
            .unwrap_or("AWS gave no message")
            .to_owned(),
        request_id: found.meta().request_id().map(String::from),
    })
}

/// Classifies an error of `sts:AssumeRole`. A refusal is about the credentials, not about
/// permissions in the account: the role is in that account, but its trust policy and the operator's
/// own permissions decide together.
fn class_of_session(code: Option<&str>, message: &str) -> ErrorKind {
    match code.map(|code| class_of(code, message, None, false)) {
        None => ErrorKind::Transient,
        Some(class @ (ErrorKind::Throttled | ErrorKind::Transient)) => class,
        Some(_) => ErrorKind::Credentials,
    }
}

/// Classifies the failure to get credentials from `sts:AssumeRole`, whether or not STS answered.
pub(super) fn class_of_assume_role(error: &(dyn Error + 'static)) -> ErrorKind {
    match assume_role_error(error) {
        Some(AssumeRoleFailed { code, message, .. }) => class_of_session(code.as_deref(), &message),
        None if unreachable_sts(error) || incomplete_credentials(error) => ErrorKind::Transient,
        None => ErrorKind::Credentials,
    }
}

fn held_back(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<RateLimited>())
}

/// Returns whether there are no credentials because STS did not answer.
fn unreachable_sts(error: &(dyn Error + 'static)) -> bool {
    let cause = causes(error)
        .find_map(|cause| cause.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>());
    cause.is_some_and(|cause| {
        matches!(
            cause,
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_)
        )
    })
}

fn no_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<CredentialsError>())
}

/// Returns whether STS answered with success but without credentials. The SDK calls this unhandled.
fn incomplete_credentials(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| matches!(cause.downcast_ref(), Some(CredentialsError::Unhandled(_))))
}

fn variant<E>(error: &SdkError<E, HttpResponse>) -> &'static str {
    match error {
        SdkError::TimeoutError(_) => "Timeout",
        SdkError::DispatchFailure(_) => "NoConnection",
        SdkError::ResponseError(_) => "UnreadableResponse",
        SdkError::ConstructionFailure(_) => "RequestNotBuilt",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests;
