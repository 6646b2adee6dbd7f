//! Tests of the readers with answers that AWS never gives: each must become a transient error,
//! never a fact.

use super::ecr::PolicyRead;
use super::error::{AwsError, ErrorKind};
use super::session::Account;
use super::write_permit::{Leadership, WritePermit};
use crate::api::conditions::Reason;
use crate::grant::Problem;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use proptest::prelude::*;
use rstest::rstest;
use std::fmt;
use std::sync::{Arc, Mutex};

/// Returns a configuration for tests that make no calls.
pub fn offline_config() -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .build()
}

/// A stand-in for AWS: returns a status and a body for an operation's name and a request's body.
type Answers = dyn Fn(&str, &str) -> (u16, Vec<u8>) + Send + Sync;

/// An HTTP connector with canned answers, and the operations that were called.
#[derive(Clone)]
struct Canned {
    answers: Arc<Answers>,
    calls: Arc<Mutex<Vec<String>>>,
}

impl fmt::Debug for Canned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Canned")
    }
}

impl HttpConnector for Canned {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let body = String::from_utf8_lossy(request.body().bytes().unwrap_or_default()).into_owned();
        let target = request
            .headers()
            .get("x-amz-target")
            .and_then(|target| target.rsplit_once('.'));
        let action = || {
            body.split('&')
                .find_map(|pair| pair.strip_prefix("Action="))
        };
        let operation = target
            .map(|(_, name)| name)
            .or_else(action)
            .unwrap_or_default()
            .to_owned();
        let (status, answer) = (self.answers)(&operation, &body);
        self.calls.lock().unwrap().push(operation);
        let mut response = HttpResponse::new(status.try_into().unwrap(), SdkBody::from(answer));
        response
            .headers_mut()
            .insert("content-type", "application/x-amz-json-1.1");
        HttpConnectorFuture::ready(Ok(response))
    }
}

/// Creates an account whose AWS gives these answers, and the list of calls that it gets.
fn account(
    answers: impl Fn(&str, &str) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> (Account, Arc<Mutex<Vec<String>>>) {
    let canned = Canned {
        answers: Arc::new(answers),
        calls: Arc::default(),
    };
    let calls = canned.calls.clone();
    let connector = SharedHttpConnector::new(canned);
    let client = SharedHttpClient::new(http_client_fn(
        move |_: &HttpConnectorSettings, _: &RuntimeComponents| connector.clone(),
    ));
    let credentials =
        SharedCredentialsProvider::new(Credentials::new("AKIA", "secret", None, None, "test"));
    let config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(credentials)
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .http_client(client)
        .build();
    (Account::with(config), calls)
}

fn permit() -> WritePermit {
    let leadership = Leadership::always(std::time::Duration::from_secs(10));
    leadership.write_permit().unwrap()
}

fn always(status: u16, answer: &'static str) -> Account {
    account(move |_, _| (status, answer.into())).0
}

fn result(operation: &str, result: &str) -> (u16, Vec<u8>) {
    let answer = format!(
        "<{operation}Response><{operation}Result>{result}</{operation}Result></{operation}Response>"
    );
    (200, answer.into())
}

const NO_TAGS: &str = "<Role><Path>/registry-grants/</Path><RoleName>r</RoleName><RoleId>AROA1</RoleId><Arn>arn:aws:iam::111111111111:role/registry-grants/r</Arn><AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument></Role>";
const NO_PROFILE_TAGS: &str = "<InstanceProfile><InstanceProfileName>p</InstanceProfileName><Arn>arn:aws:iam::111111111111:instance-profile/p</Arn><Roles/></InstanceProfile>";

/// Creates an IAM with one role and one instance profile, whose answers leave the tags out. `tags`
/// is its answer to calls about tags.
fn iam_without_tags(tags: (u16, &'static str)) -> (Account, Arc<Mutex<Vec<String>>>) {
    account(move |operation, _| match operation {
        "GetRole" => result(operation, NO_TAGS),
        "GetInstanceProfile" => result(operation, NO_PROFILE_TAGS),
        "ListRolePolicies" => result(operation, "<PolicyNames/><IsTruncated>false</IsTruncated>"),
        "ListAttachedRolePolicies" => result(
            operation,
            "<AttachedPolicies/><IsTruncated>false</IsTruncated>",
        ),
        _ if tags.0 == 200 => result(operation, tags.1),
        _ => (tags.0, tags.1.into()),
    })
}

fn assert_transient<T: fmt::Debug>(read: Result<T, AwsError>) {
    let fault = read.expect_err("the answer must not be used");
    assert_eq!(fault.class, ErrorKind::Transient, "{fault}");
    assert_eq!(Problem::from(fault).reason, Reason::Unavailable);
}

const MALFORMED: [&str; 8] = [
    "",
    "{}",
    "null",
    "<html>busy</html>",
    r#"{"__type":"RepositoryPolicyNotFoundException","message":"none"}"#,
    r#"{"registryId":"111111111111","repositoryName":"other","policyText":"{}"}"#,
    r#"{"registryId":"111111111111","repositoryName":"app"}"#,
    "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>",
];

#[tokio::test]
async fn malformed_answer_to_a_read_is_a_transient_error() {
    for answer in MALFORMED {
        let account = always(200, answer);
        assert_transient(account.repository_policy("us-east-1", "app").await);
        assert_transient(account.repositories("us-east-1").await);
        assert_transient(account.role("r").await);
        assert_transient(account.role_tags("r").await);
        assert_transient(account.instance_profile("p").await);
        assert_transient(account.profiles_of("r").await);
        assert_transient(account.roles_under("/registry-grants/").await);
        assert_transient(account.instance_profiles_under("/registry-grants/").await);
        let registry = account
            .registry_policy("us-east-1")
            .await
            .expect("that there is none was not said");
        assert!(registry.document.is_err());
        assert!(
            account
                .managed_policy("arn:aws:iam::111111111111:policy/p")
                .await
                .document
                .is_err()
        );
    }
}

#[tokio::test]
async fn malformed_answer_to_a_write_is_a_transient_error() {
    use crate::grant::diff::Step;
    for answer in MALFORMED {
        let account = always(200, answer);
        assert_transient(
            account
                .set_repository_policy(
                    "us-east-1",
                    "app",
                    &crate::policy::Document::of([]),
                    permit(),
                )
                .await,
        );
        assert_transient(
            account
                .delete_repository_policy("us-east-1", "app", permit())
                .await,
        );
        assert_transient(
            account
                .apply(Step::DeleteRole { role: "r".into() }, permit())
                .await,
        );
        assert_transient(
            account
                .apply(
                    Step::DeleteInlinePolicy {
                        role: "r".into(),
                        policy: "p".into(),
                    },
                    permit(),
                )
                .await,
        );
        assert_transient(
            account
                .apply(Step::DeleteProfile { name: "p".into() }, permit())
                .await,
        );
    }
}

#[rstest]
#[case(200, "<html>")]
#[case(302, "")]
#[case(400, "")]
#[case(403, "<html>Forbidden by the proxy</html>")]
#[case(404, "not found")]
#[case(502, "")]
#[tokio::test]
async fn error_without_a_code_is_transient(#[case] status: u16, #[case] answer: &'static str) {
    let account = always(status, answer);
    assert_transient(account.repository_policy("us-east-1", "app").await);
    assert_transient(account.role("r").await);
    assert_transient(
        account
            .apply(
                crate::grant::diff::Step::DeleteRole { role: "r".into() },
                permit(),
            )
            .await,
    );
}

#[tokio::test]
async fn absence_is_proven_by_an_error_code() {
    const NO_POLICY: &str = r#"{"__type":"RepositoryPolicyNotFoundException","message":"none"}"#;
    assert_eq!(
        always(400, NO_POLICY)
            .repository_policy("us-east-1", "app")
            .await,
        Ok(PolicyRead::NoPolicy)
    );
    assert_transient(
        always(500, NO_POLICY)
            .repository_policy("us-east-1", "app")
            .await,
    );
    const NO_ROLE: &str = "<ErrorResponse><Error><Code>NoSuchEntity</Code></Error></ErrorResponse>";
    assert_eq!(always(404, NO_ROLE).role("r").await, Ok(None));
    assert_eq!(always(404, NO_ROLE).instance_profile("p").await, Ok(None));
}

#[tokio::test]
async fn missing_tags_are_read_by_a_second_call() {
    const OURS: &str = "<Tags><member><Key>registrygrants.dev/installation</Key><Value>0123456789ab</Value></member></Tags><IsTruncated>false</IsTruncated>";
    let (account, calls) = iam_without_tags((200, OURS));
    let role = account.role("r").await.unwrap().unwrap();
    assert_eq!(role.tags["registrygrants.dev/installation"], "0123456789ab");
    let profile = account.instance_profile("p").await.unwrap().unwrap();
    assert_eq!(
        profile.tags["registrygrants.dev/installation"],
        "0123456789ab"
    );
    let asked = |name: &str| {
        calls
            .lock()
            .unwrap()
            .iter()
            .filter(|call| *call == name)
            .count()
    };
    assert_eq!(
        (asked("ListRoleTags"), asked("ListInstanceProfileTags")),
        (1, 1)
    );
    // These callers do not depend on the tags.
    account.role_with_tags_as_given("r").await.unwrap();
    account.role_tags("r").await.unwrap();
    assert_eq!(asked("ListRoleTags"), 1);
}

#[tokio::test]
async fn missing_tags_need_a_second_answer() {
    let (account, _) = iam_without_tags((200, "<IsTruncated>false</IsTruncated>"));
    assert_transient(account.role("r").await);
    assert_transient(account.instance_profile("p").await);
    let (account, _) = iam_without_tags((200, "<Tags/><IsTruncated>false</IsTruncated>"));
    assert!(account.role("r").await.unwrap().unwrap().tags.is_empty());
    assert!(
        account
            .instance_profile("p")
            .await
            .unwrap()
            .unwrap()
            .tags
            .is_empty()
    );
    const DENIED: &str = "<ErrorResponse><Error><Code>AccessDenied</Code><Message>is not authorized to perform: iam:ListRoleTags</Message></Error></ErrorResponse>";
    let (account, _) = iam_without_tags((403, DENIED));
    let fault = account.role("r").await.unwrap_err();
    assert_eq!(fault.class, ErrorKind::Denied);
    assert!(
        fault.to_string().contains("llow iam:ListRoleTags"),
        "{fault}"
    );
}

#[tokio::test]
async fn disabled_region_keeps_the_session() {
    const REFUSED: &str = r#"{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}"#;
    const REFUSED_EVERYWHERE: &str =
        "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
    let (account, calls) = account(|operation, _| match operation {
        "GetCallerIdentity" => (403, REFUSED_EVERYWHERE.into()),
        _ => (400, REFUSED.into()),
    });
    for _ in 0..5 {
        let fault = account
            .repository_policy("ap-east-1", "app")
            .await
            .unwrap_err();
        assert_eq!(fault.class, ErrorKind::Region, "{fault}");
        assert!(account.is_alive(), "the session is in use still");
    }
    assert_eq!(
        calls.lock().unwrap().len(),
        5,
        "the credentials were verified a moment ago"
    );
    // The credentials were verified long ago and may have become invalid everywhere, so STS is
    // asked.
    account.verified_long_ago().await;
    let fault = account
        .repository_policy("ap-east-1", "app")
        .await
        .unwrap_err();
    assert_eq!(fault.class, ErrorKind::Credentials, "{fault}");
    assert!(!account.is_alive(), "the next call gets a new session");
}

proptest! {
    #![proptest_config(crate::policy::tests::cases(64))]

    /// Checks that no reader panics, for any answer.
    #[test]
    fn reading_any_answer_never_panics(
        status in prop_oneof![Just(200_u16), 200..600_u16],
        answer in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[<>/a-zA-Z{}\\[\\]\":,& ;#%]{0,200}".prop_map(String::into_bytes),
        ],
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let wrapped = answer.clone();
            let (account, _) = account(move |operation, _| match wrapped.first() {
                Some(first) if first % 2 == 0 => result(operation, &String::from_utf8_lossy(&wrapped)),
                _ => (status, wrapped.clone()),
            });
            let _ = account.repository_policy("us-east-1", "app").await;
            let _ = account.repositories("us-east-1").await;
            let _ = account.role("r").await;
            let _ = account.instance_profile("p").await;
            let _ = account.profiles_of("r").await;
            let _ = account.roles_under("/").await;
            let _ = account.managed_policy("arn:aws:iam::111111111111:policy/p").await;
            let _ = account.registry_policy("us-east-1").await;
        });
    }
}
