//! Classifies AWS errors into [`ErrorKind`]s: once, here. Callers that need more than the kind, for
//! instance to search for the cause of a rejected document, ask for the [`ErrorCode`].
//!
//! The code of the error decides. The SDK does not model `AccessDenied` and `Throttling`, so codes
//! are compared as text. Three other things count where a code is ambiguous or absent: the HTTP
//! status, whether the service is regional, and whether AWS's text mentions a principal. A failure
//! without an answer is classified by its chain of causes: the rate limit, `sts:AssumeRole`,
//! missing credentials, name resolution, or the connection.
//!
//! This module also logs each error, writes its message, and maps its kind to the [`Reason`] of a
//! status.
//!
//! - `kind`: the kinds, the codes that callers distinguish, and the place of a call.
//! - `advice`: what people can do about an error, for its message.

use super::answer::Incomplete;
use super::causes::{causes, chain};
use super::rate_limit::RateLimited;
use super::unresolved::is_unresolved;
use crate::api::conditions::Reason;
use crate::grant::Problem;
use crate::grant::partition::unknown_region;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ErrorMetadata, ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use std::error::Error;
use std::fmt;

mod advice;
mod kind;

pub use kind::{CallSite, ErrorCode, ErrorKind};

use kind::ASSUME_ROLE;

/// The code of a call that was not sent because it got no token from the rate limit in time.
const RATE_LIMITED: &str = "HeldBack";
/// The detail of an error for which AWS gave no message.
const NO_MESSAGE: &str = "AWS gave no message";
/// The code of an answer that lacks a field that AWS always sends, or that belongs to another
/// request: see [`super::answer`].
pub(super) const INCOMPLETE: &str = "IncompleteAnswer";
/// The code of an error without a code: the answer is not from AWS, or it was cut off.
pub(super) const UNREADABLE: &str = "UnreadableAnswer";

/// A failed call: its place, its action and AWS's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsError {
    /// The kind of failure.
    pub class: ErrorKind,
    /// The error's code, as AWS or the SDK gave it.
    pub(super) code: String,
    pub(super) at: CallSite,
    pub(super) detail: String,
}

impl AwsError {
    /// Classifies an SDK error and logs it.
    pub fn of<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Classified { fault, request_id } = Classified::of(at, error);
        fault.log(request_id.as_deref().unwrap_or_default());
        fault
    }

    /// Returns the error's code, as far as callers distinguish codes.
    pub fn code(&self) -> ErrorCode {
        match self.code.as_str() {
            "RepositoryNotFoundException" => ErrorCode::RepositoryNotFound,
            "RepositoryPolicyNotFoundException" => ErrorCode::RepositoryPolicyNotFound,
            "MalformedPolicyDocument" => ErrorCode::MalformedPolicyDocument,
            "InvalidParameterException" => ErrorCode::InvalidParameter,
            RATE_LIMITED => ErrorCode::RateLimited,
            _ => ErrorCode::Other,
        }
    }

    /// Returns whether AWS answered that the resource does not exist.
    pub fn is_gone(&self) -> bool {
        self.class == ErrorKind::Gone
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
        if *class == ErrorKind::Gone {
            tracing::debug!(%account, region, action, resource, code, error = detail, request_id, "AWS call failed");
        } else {
            tracing::warn!(%account, region, action, resource, code, error = detail, request_id, "AWS call failed");
        }
    }
}

/// A classified error, with the request ID if AWS answered.
struct Classified {
    fault: AwsError,
    request_id: Option<String>,
}

impl Classified {
    fn of<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        if let SdkError::ServiceError(service) = error {
            let status = service.raw().status().as_u16();
            return Self::of_answer(at, service.err().meta(), status);
        }
        if let Some(incomplete) = incomplete(error) {
            return Self::without_id(AwsError::incomplete(at, incomplete));
        }
        if held_back(error) {
            return Self::without_id(AwsError::rate_limited(at));
        }
        if let Some(failed) = assume_role_error(error) {
            return Self::of_assume_role(at, failed);
        }
        Self::without_id(AwsError::without_answer(at, error))
    }

    fn without_id(fault: AwsError) -> Self {
        Self {
            fault,
            request_id: None,
        }
    }

    /// Classifies an error that AWS answered with.
    fn of_answer(at: CallSite, meta: &ErrorMetadata, status: u16) -> Self {
        let message = meta.message().unwrap_or(NO_MESSAGE);
        let fault = match meta.code() {
            Some(code) => AwsError {
                class: class_of(code, message, Some(status), at.region.is_some()),
                code: code.to_owned(),
                at,
                detail: without_session(message),
            },
            None => AwsError::unreadable(at, Some(status)),
        };
        Self {
            fault,
            request_id: meta.request_id().map(String::from),
        }
    }

    /// Classifies the failure of a call for which the operator could not assume its role.
    fn of_assume_role(call: CallSite, failed: AssumeRoleFailed) -> Self {
        let at = CallSite {
            action: ASSUME_ROLE,
            ..call
        };
        let class = class_of_session(failed.code.as_deref(), &failed.message);
        let fault = match failed.code {
            Some(code) => AwsError {
                class,
                code,
                at,
                detail: failed.message,
            },
            None => AwsError::unreadable(at, None),
        };
        Self {
            fault,
            request_id: failed.request_id,
        }
    }
}

impl AwsError {
    /// Builds the error for a call that got no answer, or one that is not an HTTP response.
    fn without_answer<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: Error + 'static,
    {
        let is_transient = unreachable_sts(error) || incomplete_credentials(error);
        let class = if no_credentials(error) && !is_transient {
            ErrorKind::Credentials
        } else if is_unresolved(error) {
            ErrorKind::Unresolved
        } else {
            ErrorKind::Transient
        };
        Self {
            class,
            code: variant(error).into(),
            at,
            detail: chain(error),
        }
    }

    /// Builds the error for a call that was not sent because it got no token in time.
    fn rate_limited(at: CallSite) -> Self {
        Self {
            class: ErrorKind::Throttled,
            code: RATE_LIMITED.into(),
            at,
            detail: RateLimited.to_string(),
        }
    }

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
        let with_status = status
            .map(|status| format!(" (HTTP status {status})"))
            .unwrap_or_default();
        Self {
            class,
            code: UNREADABLE.into(),
            at,
            detail: format!("the response{with_status} is not a valid response of AWS"),
        }
    }
}

fn incomplete<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Incomplete> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Removes session names from AWS's text. The operator's sessions are named after tenants'
/// namespaces, and other tenants that wait for the same call see the error, too.
fn without_session(message: &str) -> String {
    let words: Vec<String> = message.split(' ').map(without_session_name).collect();
    words.join(" ")
}

/// Shortens a word that is the ARN of a session to that of its role.
fn without_session_name(word: &str) -> String {
    match word.split_once(":assumed-role/") {
        Some((before, session)) => {
            let role = session.split('/').next().unwrap_or_default();
            format!("{before}:assumed-role/{role}")
        }
        None => word.to_owned(),
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
            at,
            detail,
        } = self;
        let CallSite {
            account,
            region,
            action,
            resource,
        } = at;
        let place = region
            .as_ref()
            .map(|region| format!(", {region}"))
            .unwrap_or_default();
        write!(
            f,
            "{action} on {resource} in account {account}{place} failed with {code}: {detail}"
        )?;
        if let Some(advice) = advice::advice(*class, at, detail) {
            write!(f, ". {advice}")?;
        }
        if let Some(warning) = region.as_deref().and_then(unknown_region) {
            write!(f, ". Check spec.registry.regions: {warning}")?;
        }
        Ok(())
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
        message: found.meta().message().unwrap_or(NO_MESSAGE).to_owned(),
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
