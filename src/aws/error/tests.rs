//! Tests of the classification of errors, and of the advice in their messages.

use super::*;
use rstest::rstest;

#[test]
fn session_name_is_removed_from_messages() {
    let text = without_session(
        "User: arn:aws:sts::111111111111:assumed-role/registry-grants/team-a@0123456789ab is not authorized to perform: iam:GetPolicy",
    );
    assert_eq!(
        text,
        "User: arn:aws:sts::111111111111:assumed-role/registry-grants is not authorized to perform: iam:GetPolicy"
    );
}

#[rstest]
#[case("Throttling", "Rate exceeded", 400, ErrorKind::Throttled)]
#[case("TooManyRequestsException", "", 429, ErrorKind::Throttled)]
#[case(
    "LimitExceeded",
    "Cannot exceed quota for RolesPerAccount",
    409,
    ErrorKind::Quota
)]
#[case("AccessDenied", "", 403, ErrorKind::Denied)]
#[case("AccessDeniedException", "", 400, ErrorKind::Denied)]
#[case("ConcurrentModification", "", 409, ErrorKind::Transient)]
#[case("SomethingNew", "", 503, ErrorKind::Transient)]
#[case("SomethingNew", "", 400, ErrorKind::Invalid)]
#[case(
    "MalformedPolicyDocument",
    "Invalid principal in policy: \"AWS\":\"x\"",
    400,
    ErrorKind::Settling
)]
#[case(
    "MalformedPolicyDocument",
    "Syntax errors in policy.",
    400,
    ErrorKind::Invalid
)]
#[case("NoSuchEntity", "", 404, ErrorKind::Gone)]
#[case("RepositoryPolicyNotFoundException", "", 400, ErrorKind::Gone)]
#[case("ExpiredToken", "", 403, ErrorKind::Credentials)]
fn errors_are_classified_by_code(
    #[case] code: &str,
    #[case] message: &str,
    #[case] status: u16,
    #[case] class: ErrorKind,
) {
    assert_eq!(class_of(code, message, Some(status), false), class);
    assert_eq!(class_of(code, message, Some(status), true), class);
}

#[rstest]
#[case("UnrecognizedClientException", ErrorKind::Credentials)]
#[case("InvalidClientTokenId", ErrorKind::Credentials)]
#[case("OptInRequired", ErrorKind::Denied)]
fn disabled_region_is_not_classified_as_credentials(
    #[case] code: &str,
    #[case] elsewhere: ErrorKind,
) {
    const TEXT: &str = "The security token included in the request is invalid.";
    assert_eq!(class_of(code, TEXT, Some(400), true), ErrorKind::Region);
    assert_eq!(class_of(code, TEXT, Some(400), false), elsewhere);
    let at = |region: Option<&str>| CallSite {
        account: "111111111111".parse().unwrap(),
        region: region.map(String::from),
        action: "ecr:GetRepositoryPolicy",
        resource: "repository app".into(),
    };
    let fault = AwsError {
        class: ErrorKind::Region,
        code: code.into(),
        at: at(Some("ap-east-1")),
        detail: TEXT.into(),
    };
    let text = fault.to_string();
    assert!(
        text.contains("ap-east-1") && text.contains("may not be enabled in account 111111111111"),
        "{text}"
    );
    assert!(!text.contains("spec.credentials"), "{text}");
    assert_eq!(Problem::from(fault).reason, Reason::RegionNotEnabled);
}

#[test]
fn explicit_deny_of_assume_role_advice_omits_the_trust_policy() {
    let at = CallSite {
        account: "111111111111".parse().unwrap(),
        region: None,
        action: ASSUME_ROLE,
        resource: "the operator's credentials".into(),
    };
    let detail = "… is not authorized to perform: sts:AssumeRole with an explicit deny in a service control policy";
    let fault = AwsError {
        class: ErrorKind::Credentials,
        code: "AccessDenied".into(),
        at,
        detail: detail.into(),
    };
    let text = fault.to_string();
    assert!(
        text.contains("service control policy denies") && !text.contains("trust policy must"),
        "{text}"
    );
}

#[rstest]
#[case(Some("AccessDenied"), ErrorKind::Credentials)]
#[case(Some("Throttling"), ErrorKind::Throttled)]
// The answer did not come from STS: it says nothing about the credentials.
#[case(None, ErrorKind::Transient)]
fn assume_role_is_refused_only_by_an_sts_code(
    #[case] code: Option<&str>,
    #[case] class: ErrorKind,
) {
    assert_eq!(class_of_session(code, ""), class);
}

#[test]
fn sts_answer_without_credentials_is_transient() {
    let incomplete = CredentialsError::unhandled("STS credentials must be defined");
    assert_eq!(class_of_assume_role(&incomplete), ErrorKind::Transient);
    assert_eq!(
        class_of_assume_role(&CredentialsError::not_loaded("none")),
        ErrorKind::Credentials
    );
}
