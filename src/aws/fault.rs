//! What an error of AWS means: classified once, here, by its code. `AccessDenied` and `Throttling` are not modelled in the SDK, so
//! codes are compared as text.

use super::pace::HeldBack;
use super::unresolved::is_unresolved;
use crate::api::conditions::Reason;
use crate::grant::partition::unknown_region;
use crate::grant::{AccountId, Problem};
use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::RequestId;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use std::error::Error;
use std::fmt;

/// What kind of failure it was, and so what may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
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
pub(super) const HELD_BACK: &str = "HeldBack";

impl Class {
    /// What it is called in the metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Throttled => "throttled",
            Self::Transient => "unavailable",
            Self::Unresolved => "unresolved",
            Self::Settling => "settling",
            Self::Credentials => "credentials",
            Self::Denied => "denied",
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
pub struct Fault {
    /// What kind of failure.
    pub class: Class,
    /// The error's code.
    pub code: String,
    pub(super) at: At,
    pub(super) detail: String,
}

/// Which call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The account it was made in.
    pub account: AccountId,
    /// The region, for regional services.
    pub region: Option<String>,
    /// The IAM action that the call needs, such as `iam:CreateRole`.
    pub action: &'static str,
    /// What it was about.
    pub resource: String,
}

impl Fault {
    /// Classifies an SDK error, and logs it.
    pub fn of<E>(at: At, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let (fault, request_id) = Self::classified(at, error);
        fault.log(request_id.as_deref().unwrap_or_default());
        fault
    }

    /// The request's ID is for the log alone: it differs each time, and a status must not.
    fn log(&self, request_id: &str) {
        let Self { class, code, at: At { account, region, action, resource }, detail } = self;
        // That something is not there is most often the answer that was asked for.
        match class {
            Class::Gone => {
                tracing::debug!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}");
            }
            _ => tracing::warn!(%account, region, action, resource, code, request_id, "AWS call failed: {detail}"),
        }
    }

    /// The fault, and the ID of the request where AWS answered.
    fn classified<E>(at: At, error: &SdkError<E, HttpResponse>) -> (Self, Option<String>)
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(service) => {
                let meta = service.err().meta();
                let code = meta.code().unwrap_or("Unknown").to_owned();
                let message = meta.message().unwrap_or("AWS gave no message");
                let class = class_of(&code, message, status);
                (Self { class, code, at, detail: without_session(message) }, meta.request_id().map(String::from))
            }
            other => match (held_back(other), assume_role_error(other)) {
                (true, _) => {
                    let (class, code, detail) = (Class::Throttled, HELD_BACK.into(), HeldBack.to_string());
                    (Self { class, code, at, detail }, None)
                }
                (false, Some(AssumeRoleFailed { code, message, request_id })) => {
                    let class = class_of_session(&code, &message);
                    (Self { class, code, at: At { action: "sts:AssumeRole", ..at }, detail: message }, request_id)
                }
                (false, None) => {
                    let no_credentials = no_credentials(other) && !unreachable_sts(other);
                    let class = match no_credentials {
                        true => Class::Credentials,
                        false if is_unresolved(other) => Class::Unresolved,
                        false => Class::Transient,
                    };
                    (Self { class, code: variant(other).into(), at, detail: chain(other) }, None)
                }
            },
        }
    }
}

/// AWS's text without the names of sessions: those that the operator has are called after tenants' namespaces, and what one of them met is told to others
/// who wait for the same.
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

impl Fault {
    /// Whether what was named does not exist.
    pub fn is_gone(&self) -> bool {
        self.class == Class::Gone
    }
}

/// The table of codes. Sources: the services' API references, "Common errors" and each operation's errors.
fn class_of(code: &str, message: &str, status: Option<u16>) -> Class {
    let names_principal = message.to_lowercase().contains("principal");
    match code {
        _ if code.starts_with("Throttl") || code.starts_with("TooManyRequests") || code == "RequestLimitExceeded" => {
            Class::Throttled
        }
        _ if code.starts_with("ConcurrentModification") => Class::Transient,
        "ServerException"
        | "ServiceFailure"
        | "ServiceFailureException"
        | "InternalFailure"
        | "ServiceUnavailable"
        | "RequestTimeout"
        | "RequestExpired" => Class::Transient,
        _ if status.is_some_and(|status| status >= 500) => Class::Transient,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken" => Class::Credentials,
        _ if code.starts_with("AccessDenied") || code == "UnauthorizedOperation" || code == "OptInRequired" => {
            Class::Denied
        }
        _ if code.starts_with("LimitExceeded") => Class::Quota,
        "NoSuchEntity"
        | "RepositoryNotFoundException"
        | "RepositoryPolicyNotFoundException"
        | "RegistryPolicyNotFoundException" => Class::Gone,
        "EntityAlreadyExists" => Class::Exists,
        "DeleteConflict" => Class::InUse,
        // A principal that was just made is unknown for seconds; a mistyped one for ever. Both get this one code.
        "MalformedPolicyDocument" | "InvalidParameterException" if names_principal => Class::Settling,
        // Without a code it was not AWS that answered, but something on the way.
        _ if status == Some(429) => Class::Throttled,
        _ if status == Some(403) => Class::Denied,
        _ => Class::Invalid,
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { class, code, at: At { account, region, action, resource }, detail } = self;
        let place = region.as_ref().map(|region| format!(", {region}")).unwrap_or_default();
        write!(f, "{action} on {resource} in account {account}{place} failed with {code}: {detail}")?;
        match class {
            Class::Denied => write!(f, ". Allow {action} to the operator's role in account {account}"),
            Class::Credentials => write!(
                f,
                ". Check spec.credentials of AWSAccount {account}: the operator's own identity must be allowed to assume that role, and the role's trust policy must name it, with the same external ID if it asks for one"
            ),
            Class::Quota => {
                write!(f, ". Ask AWS to raise this quota of account {account}, or remove what is not needed")
            }
            Class::Exists => write!(
                f,
                ". Names are unique without regard to case; choose another in the grant, or remove what is there"
            ),
            Class::InUse => write!(f, ". Remove what still holds it"),
            Class::Settling => write!(f, ". If the account or role named does not exist, correct it"),
            Class::Throttled | Class::Transient => write!(f, ". It is tried again"),
            Class::Unresolved => {
                write!(f, ". The name of AWS's host does not resolve where the operator runs. It is tried again")
            }
            Class::Gone | Class::Invalid => Ok(()),
        }?;
        match region.as_deref().and_then(unknown_region) {
            Some(warning) => write!(f, ". Check spec.registry.regions: {warning}"),
            None => Ok(()),
        }
    }
}

impl Error for Fault {}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        let reason = match fault.class {
            Class::Throttled => Reason::Throttled,
            Class::Transient => Reason::Unavailable,
            Class::Unresolved if fault.at.region.as_deref().and_then(unknown_region).is_some() => {
                Reason::RegionNotFound
            }
            Class::Unresolved => Reason::HostNotResolved,
            Class::Settling | Class::Gone => Reason::Settling,
            Class::Credentials => Reason::CredentialsUnavailable,
            Class::Denied => Reason::AccessDenied,
            Class::Quota => Reason::QuotaExceeded,
            Class::Exists => Reason::Conflict,
            Class::InUse => Reason::StillInUse,
            Class::Invalid => Reason::Rejected,
        };
        Self::new(reason, fault.to_string())
    }
}

/// The answer of `sts:AssumeRole`, where a call failed because its credentials could not be had.
struct AssumeRoleFailed {
    code: String,
    message: String,
    request_id: Option<String>,
}

fn assume_role_error(error: &(dyn Error + 'static)) -> Option<AssumeRoleFailed> {
    let found = causes(error).find_map(|cause| cause.downcast_ref::<AssumeRoleError>())?;
    let text = |text: Option<&str>| text.unwrap_or("unknown").to_owned();
    Some(AssumeRoleFailed {
        code: text(found.meta().code()),
        message: text(found.meta().message()),
        request_id: found.meta().request_id().map(String::from),
    })
}

/// The role is in that account, but its trust policy and the operator's own permissions both decide.
fn class_of_session(code: &str, message: &str) -> Class {
    match class_of(code, message, None) {
        Class::Throttled => Class::Throttled,
        Class::Transient => Class::Transient,
        _ => Class::Credentials,
    }
}

/// What it means that a role could not be assumed.
pub(super) fn class_of_assume_role(error: &(dyn Error + 'static)) -> Class {
    match assume_role_error(error) {
        Some(AssumeRoleFailed { code, message, .. }) => class_of_session(&code, &message),
        None if unreachable_sts(error) => Class::Transient,
        None => Class::Credentials,
    }
}

fn held_back(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| cause.is::<HeldBack>())
}

/// Whether credentials could not be had because STS did not answer.
fn unreachable_sts(error: &(dyn Error + 'static)) -> bool {
    let cause = causes(error).find_map(|cause| cause.downcast_ref::<SdkError<AssumeRoleError, HttpResponse>>());
    cause.is_some_and(|cause| matches!(cause, SdkError::TimeoutError(_) | SdkError::DispatchFailure(_)))
}

fn no_credentials(error: &(dyn Error + 'static)) -> bool {
    use aws_credential_types::provider::error::CredentialsError;
    causes(error).any(|cause| cause.is::<CredentialsError>())
}

pub(super) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let current = next?;
        next = current.source();
        Some(current)
    })
}

/// Every cause's text, once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
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
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn for_whom_a_session_was_is_not_told() {
        let told = without_session(
            "User: arn:aws:sts::111111111111:assumed-role/registry-grants/team-a@0123456789ab is not authorized to perform: iam:GetPolicy",
        );
        assert_eq!(
            told,
            "User: arn:aws:sts::111111111111:assumed-role/registry-grants is not authorized to perform: iam:GetPolicy"
        );
    }

    #[rstest]
    #[case("Throttling", "Rate exceeded", 400, Class::Throttled)]
    #[case("TooManyRequestsException", "", 429, Class::Throttled)]
    #[case("LimitExceeded", "Cannot exceed quota for RolesPerAccount", 409, Class::Quota)]
    #[case("AccessDenied", "", 403, Class::Denied)]
    #[case("AccessDeniedException", "", 400, Class::Denied)]
    #[case("ConcurrentModification", "", 409, Class::Transient)]
    #[case("SomethingNew", "", 503, Class::Transient)]
    #[case("SomethingNew", "", 400, Class::Invalid)]
    #[case("MalformedPolicyDocument", "Invalid principal in policy: \"AWS\":\"x\"", 400, Class::Settling)]
    #[case("MalformedPolicyDocument", "Syntax errors in policy.", 400, Class::Invalid)]
    #[case("NoSuchEntity", "", 404, Class::Gone)]
    #[case("RepositoryPolicyNotFoundException", "", 400, Class::Gone)]
    #[case("ExpiredToken", "", 403, Class::Credentials)]
    fn errors_are_classified_by_code(
        #[case] code: &str,
        #[case] message: &str,
        #[case] status: u16,
        #[case] class: Class,
    ) {
        assert_eq!(class_of(code, message, Some(status)), class);
    }
}
