//! What an error of AWS means: classified once, here, by its code. `AccessDenied` and `Throttling`
//! are not modelled in the SDK, so codes are compared as text.

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

/// What kind of failure it was, and so what may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Too many calls: back off.
    Throttled,
    /// AWS failed, or could not be reached: try again.
    Transient,
    /// The name of the service's host does not resolve: try again, and check the region.
    Unresolved,
    /// What was just made is not visible everywhere yet: try again soon, for a while.
    Settling,
    /// The operator has no usable credentials.
    Credentials,
    /// Not allowed, by this account.
    Denied,
    /// The credentials are not taken in this region, though they are elsewhere: the account has
    /// most likely not enabled it.
    Region,
    /// A quota is used up.
    Quota,
    /// What was named does not exist.
    Gone,
    /// Something of this name exists already.
    Exists,
    /// It cannot be deleted, because something else holds it.
    InUse,
    /// The request was refused as it is.
    Invalid,
}

/// The code of a call that was not sent, because it would have waited too long for its turn.
pub(super) const RATE_LIMITED: &str = "HeldBack";
const ASSUME_ROLE: &str = "sts:AssumeRole";
/// The code of an answer that lacks what AWS always sends, or belongs to another request: see
/// [`super::answer`].
pub(super) const INCOMPLETE: &str = "IncompleteAnswer";
/// The code of an answer that is not AWS's: neither a success nor an error that has a code.
pub(super) const UNREADABLE: &str = "UnreadableAnswer";

impl ErrorKind {
    /// What it is called in the metrics.
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

/// A failed call: where, what, and how AWS put it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsError {
    /// What kind of failure.
    pub class: ErrorKind,
    /// The error's code.
    pub code: String,
    pub(super) at: CallSite,
    pub(super) detail: String,
}

/// Which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSite {
    /// The account it was made in.
    pub account: AccountId,
    /// The region, for regional services.
    pub region: Option<String>,
    /// The IAM action that the call needs, such as `iam:CreateRole`.
    pub action: &'static str,
    /// What it was about.
    pub resource: String,
}

impl AwsError {
    /// Classifies an SDK error, and logs it.
    pub fn of<E>(at: CallSite, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (fault, request_id) = Self::classified(at, error);
        fault.log(request_id.as_deref().unwrap_or_default());
        fault
    }

    /// The request's ID is for the log alone: it differs each time, and a status must not.
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
        // That something is not there is most often the answer that was asked for.
        match class {
            ErrorKind::Gone => {
                tracing::debug!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}");
            }
            _ => {
                tracing::warn!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}")
            }
        }
    }

    /// The fault, and the ID of the request where AWS answered.
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
    /// An answer that is not used: it passes, and says nothing about what is there.
    pub(super) fn incomplete(at: CallSite, incomplete: &Incomplete) -> Self {
        Self {
            class: ErrorKind::Transient,
            code: INCOMPLETE.into(),
            at,
            detail: incomplete.to_string(),
        }
    }

    /// An answer without a code: it came from something between AWS and the operator, or was cut
    /// off on the way.
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

/// AWS's text without the names of sessions: those that the operator has are called after tenants'
/// namespaces, and what one of them met is told to others who wait for the same.
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
    /// Whether what was named does not exist.
    pub fn is_gone(&self) -> bool {
        self.class == ErrorKind::Gone
    }
}

/// The table of codes. Sources: the services' API references, "Common errors" and each operation's
/// errors. In a region that an account has not enabled, `regional` services refuse credentials that
/// are valid everywhere else.
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
        // A principal that was just made is unknown for seconds; a mistyped one for ever. Both get
        // this one code.
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

/// The answer of `sts:AssumeRole`, where a call failed because its credentials could not be had.
struct AssumeRoleFailed {
    /// `None`: what answered was not STS.
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

/// The role is in that account, but its trust policy and the operator's own permissions both
/// decide.
fn class_of_session(code: Option<&str>, message: &str) -> ErrorKind {
    match code.map(|code| class_of(code, message, None, false)) {
        None => ErrorKind::Transient,
        Some(class @ (ErrorKind::Throttled | ErrorKind::Transient)) => class,
        Some(_) => ErrorKind::Credentials,
    }
}

/// What it means that a role could not be assumed.
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

/// Whether credentials could not be had because STS did not answer.
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

/// Whether STS answered with success and without credentials, which the SDK calls unhandled.
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
