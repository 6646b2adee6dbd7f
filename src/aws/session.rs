//! Sessions: one for each account and namespace if a role is assumed, otherwise one for each
//! account. The credentials of each were verified to be for that account.

use super::answer::Incomplete;
use super::error::{AwsError, CallSite, ErrorKind};
use super::interceptor::{AssumedRole, Observer};
use super::rate_limit::Buckets;
use super::server_clock::ServerClock;
use super::session_tags::{Reported, WithTagsThatFit};
use crate::api::account::{AWSAccountSpec, AssumeRole, Credentials, Partition};
use crate::api::conditions::Reason;
use crate::clock::WallClock;
use crate::grant::names::session_name;
use crate::grant::ownership::{TAG_INSTALLATION, TAG_NAMESPACE};
use crate::grant::{AccountId, Problem};
use crate::policy::Installation;
use crate::policy::arn::Arn;
use crate::telemetry::metrics::Metrics;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{Region, SdkConfig};
use aws_sdk_sts::config::SharedCredentialsProvider;
use k8s_openapi::jiff::Timestamp;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// How long a session is used before its credentials are verified again. The account behind
/// credentials does not change while they work, so this only bounds the effect of surprises.
const VERIFIED_FOR: Duration = Duration::from_secs(3600);

/// The maximum age of a verification that proves that a region's refusal of the credentials is
/// about the region.
const VERIFIED_A_MOMENT_AGO: Duration = Duration::from_secs(60);

/// How long a failure to get a session is returned to other callers without another attempt.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The time after which an unused session may be dropped: its namespace may be gone.
const IDLE_FOR: Duration = Duration::from_secs(7200);

/// The sessions in all accounts.
pub struct Aws {
    ambient: SdkConfig,
    installation: Installation,
    call_timeout: Duration,
    metrics: Metrics,
    clock: WallClock,
    buckets: Arc<Buckets>,
    sessions: Mutex<HashMap<Key, (Arc<Slot>, Instant)>>,
    tags_left_out: Reported,
}

/// An account, and the namespace of the grants that the session is for.
type Key = (AccountId, Option<String>);

/// One session. The lock is held while connecting, so that many grants of one account and namespace
/// connect once.
type Slot = tokio::sync::Mutex<Option<Session>>;

struct Session {
    identity: Identity,
    since: Instant,
    account: Result<Arc<Account>, Problem>,
}

/// The part of an account's spec that a session depends on.
#[derive(PartialEq)]
struct Identity {
    credentials: Option<Credentials>,
    partition: Partition,
}

impl Session {
    /// Returns whether the session can still be used for this identity. A failure is remembered for
    /// a moment. Otherwise each of many grants that wait for an unreachable account would try
    /// again, and keep the other accounts' grants waiting.
    fn holds_for(&self, identity: &Identity) -> bool {
        let longest = match &self.account {
            Ok(account) if account.dead.load(Ordering::Relaxed) => return false,
            Ok(_) => VERIFIED_FOR,
            Err(_) => FAILED_FOR,
        };
        self.identity == *identity && self.since.elapsed() < longest
    }
}

/// An account with verified credentials, in which the operator may work.
pub struct Account {
    /// The account's ID.
    pub id: AccountId,
    /// The ARN of the operator's identity there.
    pub caller_arn: String,
    pub(super) iam: aws_sdk_iam::Client,
    clock: ServerClock,
    config: SdkConfig,
    observer: Arc<Observer>,
    dead: AtomicBool,
    verified: tokio::sync::Mutex<Instant>,
    ecr: Mutex<HashMap<String, aws_sdk_ecr::Client>>,
}

impl Aws {
    /// Creates the sessions of this installation. `ambient` has the operator's own credentials, and
    /// must not retry calls. `call_timeout` bounds an entire call, including its wait for the rate
    /// limit.
    pub fn new(
        ambient: SdkConfig,
        installation: &Installation,
        call_timeout: Duration,
        metrics: Metrics,
        clock: WallClock,
    ) -> Self {
        Self {
            ambient,
            installation: installation.clone(),
            call_timeout,
            metrics,
            clock,
            buckets: Arc::default(),
            sessions: Mutex::default(),
            tags_left_out: Reported::default(),
        }
    }

    /// Returns a session in the account, verified by `sts:GetCallerIdentity`. If it is for the
    /// grants of one namespace, CloudTrail shows the namespace in its name and its tags. (With
    /// ambient credentials, all namespaces share one session.)
    ///
    /// # Errors
    /// When there are no credentials, or they are for another account.
    pub async fn account(
        &self,
        id: &AccountId,
        spec: &AWSAccountSpec,
        namespace: Option<&str>,
    ) -> Result<Arc<Account>, Problem> {
        let namespace = namespace.filter(|_| spec.credentials.is_some());
        let slot = self.slot((id.clone(), namespace.map(String::from)));
        let mut session = slot.lock().await;
        let identity = Identity {
            credentials: spec.credentials.clone(),
            partition: spec.partition,
        };
        if let Some(current) = &*session
            && current.holds_for(&identity)
        {
            return current.account.clone();
        }
        let account = self.connect(id, spec, namespace).await.map(Arc::new);
        *session = Some(Session {
            identity,
            since: Instant::now(),
            account: account.clone(),
        });
        account
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut sessions = self.sessions.lock().expect("no panic while held");
        if !sessions.contains_key(&key) {
            sessions.retain(|_, (_, asked)| asked.elapsed() < IDLE_FOR);
        }
        let (slot, asked) = sessions
            .entry(key)
            .or_insert_with(|| (Arc::default(), Instant::now()));
        *asked = Instant::now();
        slot.clone()
    }

    async fn connect(
        &self,
        id: &AccountId,
        spec: &AWSAccountSpec,
        namespace: Option<&str>,
    ) -> Result<Account, Problem> {
        let ambient = self.ambient_in(spec.partition);
        let observer = Observer::of(id, &self.metrics, &self.buckets, self.call_timeout);
        let unlimited = match &spec.credentials {
            None => ambient,
            Some(Credentials { assume_role }) => {
                let role = RoleToAssume {
                    config: &ambient,
                    role: assume_role,
                    observer: &observer,
                    installation: &self.installation,
                    namespace,
                };
                let credentials = self.role_credentials(id, &role).await;
                // All clients of the account share it: one AssumeRole serves IAM, STS and ECR in
                // every region, and is renewed early.
                let cache = aws_sdk_sts::config::IdentityCache::lazy().build();
                ambient
                    .to_builder()
                    .credentials_provider(credentials)
                    .identity_cache(cache)
                    .build()
            }
        };
        let config = observer.paced(unlimited);
        let clock = ServerClock::new(self.clock.clone());
        let caller_arn = verify(id, spec.partition, &config, &observer).await?;
        Ok(Account {
            id: id.clone(),
            caller_arn,
            iam: clock.set_by(&observer.iam(&config)),
            clock,
            config,
            observer,
            dead: AtomicBool::new(false),
            verified: tokio::sync::Mutex::new(Instant::now()),
            ecr: Mutex::default(),
        })
    }

    /// Returns the ambient configuration, in its region if that is in the partition, otherwise in
    /// the partition's home region.
    fn ambient_in(&self, partition: Partition) -> SdkConfig {
        let region = match self.ambient.region() {
            Some(region) if partition.has_region(region.as_ref()) => region.clone(),
            Some(_) | None => Region::new(partition.home_region()),
        };
        self.ambient.to_builder().region(region).build()
    }

    /// Returns the credentials of a role. They carry the namespace as a tag if there is room for
    /// it.
    async fn role_credentials(
        &self,
        id: &AccountId,
        role: &RoleToAssume<'_>,
    ) -> SharedCredentialsProvider {
        let Some(namespace) = role.namespace else {
            return SharedCredentialsProvider::new(role.credentials(None).await);
        };
        SharedCredentialsProvider::new(WithTagsThatFit {
            account: id.clone(),
            with_namespace: role.credentials(Some(namespace)).await,
            without_namespace: role.credentials(None).await,
            too_large: AtomicBool::new(false),
            reported: self.tags_left_out.clone(),
        })
    }
}

/// A role that the operator assumes with the ambient credentials.
struct RoleToAssume<'a> {
    config: &'a SdkConfig,
    role: &'a AssumeRole,
    observer: &'a Arc<Observer>,
    installation: &'a Installation,
    /// The namespace in the session's name.
    namespace: Option<&'a str>,
}

impl RoleToAssume<'_> {
    /// Returns the credentials of the role, with this namespace as a session tag.
    async fn credentials(&self, namespace_tag: Option<&str>) -> AssumedRole {
        let mut provider = AssumeRoleProvider::builder(&self.role.role_arn)
            .configure(self.config)
            .session_name(session_name(self.installation, self.namespace))
            .tags(session_tags(self.installation, namespace_tag));
        if let Some(external_id) = &self.role.external_id {
            provider = provider.external_id(external_id);
        }
        self.observer.credentials(provider.build().await)
    }
}

fn session_tags(
    installation: &Installation,
    namespace: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut tags = vec![(TAG_INSTALLATION, installation.to_string())];
    if let Some(namespace) = namespace {
        tags.push((TAG_NAMESPACE, namespace.to_owned()));
    }
    tags
}

/// Verifies that the credentials are for the intended account and partition. The operator writes
/// nothing in an account before that.
async fn verify(
    id: &AccountId,
    partition: Partition,
    config: &SdkConfig,
    observer: &Arc<Observer>,
) -> Result<String, Problem> {
    let (account, arn) = identity(id, config, observer).await?;
    let in_partition = Arn::is_in(&arn, partition.name());
    if account == id.as_str() && in_partition {
        return Ok(arn);
    }
    Err(Problem::new(
        Reason::WrongAccount,
        format!(
            "the operator's credentials for account {id} (partition {}) are {arn}: correct spec.credentials of AWSAccount {id}; nothing was written",
            partition.name()
        ),
    ))
}

/// Returns the account and the ARN of the credentials.
async fn identity(
    id: &AccountId,
    config: &SdkConfig,
    observer: &Arc<Observer>,
) -> Result<(String, String), AwsError> {
    let at = CallSite {
        account: id.clone(),
        region: None,
        action: "sts:GetCallerIdentity",
        resource: "the operator's credentials".into(),
    };
    let answer = observer.sts(config).get_caller_identity().send().await;
    let caller = match answer {
        Ok(caller) => caller,
        Err(error) => {
            let fault = AwsError::of(at, &error);
            observer.failed(&fault);
            return Err(fault);
        }
    };
    match (caller.account, caller.arn) {
        (Some(account), Some(arn)) => Ok((account, arn)),
        _ => Err(AwsError::incomplete(
            at,
            &Incomplete::Missing("Account".into()),
        )),
    }
}

impl Account {
    /// Counts a failure. If the credentials were refused, because the role was recreated or its
    /// token has expired, the session is not used again.
    pub(super) fn noted(&self, fault: AwsError) -> AwsError {
        if fault.class == ErrorKind::Credentials {
            self.dead.store(true, Ordering::Relaxed);
        }
        self.observer.failed(&fault);
        fault
    }

    /// Counts a failure of a call in a region, which the account may not have enabled: there, AWS
    /// refuses valid credentials. If STS refuses them as well, the failure is classified as one of
    /// the credentials.
    pub(super) async fn noted_in_region(&self, fault: AwsError) -> AwsError {
        if fault.class == ErrorKind::Region && !self.is_still_verified().await {
            return self.noted(AwsError {
                class: ErrorKind::Credentials,
                ..fault
            });
        }
        self.noted(fault)
    }

    /// Returns whether STS accepted the credentials within the last minute, and asks it otherwise.
    /// If STS does not answer, its last answer counts.
    async fn is_still_verified(&self) -> bool {
        let mut verified = self.verified.lock().await;
        if verified.elapsed() < VERIFIED_A_MOMENT_AGO {
            return true;
        }
        match identity(&self.id, &self.config, &self.observer).await {
            Ok((account, _)) if account == self.id.as_str() => {
                *verified = Instant::now();
                true
            }
            Ok(_) => false,
            Err(fault) => fault.class != ErrorKind::Credentials,
        }
    }

    /// Returns the time according to IAM's last answer.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the ECR client of a region.
    pub(super) fn ecr_in(&self, region: &str) -> aws_sdk_ecr::Client {
        // Tenants choose the regions, so the number of clients needs a bound.
        const AT_MOST: usize = 64;
        let mut clients = self.ecr.lock().expect("no panic while held");
        if clients.len() >= AT_MOST && !clients.contains_key(region) {
            clients.clear();
        }
        clients
            .entry(region.to_owned())
            .or_insert_with(|| self.new_ecr_in(region))
            .clone()
    }

    fn new_ecr_in(&self, region: &str) -> aws_sdk_ecr::Client {
        let region = Region::new(region.to_owned());
        let config = self.config.to_builder().region(region).build();
        self.observer.ecr(&config)
    }
}

#[cfg(test)]
impl Account {
    /// Creates an account whose clients have this configuration.
    pub(super) fn with(config: SdkConfig) -> Self {
        let id: AccountId = "111111111111".parse().unwrap();
        let observer = Observer::of(
            &id,
            &Metrics::default(),
            &Arc::default(),
            Duration::from_secs(10),
        );
        let config = observer.paced(config);
        Self {
            id,
            caller_arn: String::new(),
            iam: observer.iam(&config),
            clock: ServerClock::new(WallClock::system()),
            config,
            observer,
            dead: AtomicBool::new(false),
            verified: tokio::sync::Mutex::new(Instant::now()),
            ecr: Mutex::default(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Relaxed)
    }

    pub(super) async fn verified_long_ago(&self) {
        *self.verified.lock().await -= VERIFIED_A_MOMENT_AGO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Returns the hosts at which the SDK calls IAM, STS and ECR in a region: from the SDK's own
    /// data, without a network.
    async fn hosts(region: &str) -> [String; 3] {
        use aws_sdk_ecr::config::endpoint as ecr;
        use aws_sdk_iam::config::endpoint as iam;
        use aws_sdk_sts::config::endpoint as sts;
        use ecr::ResolveEndpoint as _;
        use iam::ResolveEndpoint as _;
        use sts::ResolveEndpoint as _;
        let iam_in = iam::Params::builder().region(region).build().unwrap();
        let sts_in = sts::Params::builder().region(region).build().unwrap();
        let ecr_in = ecr::Params::builder().region(region).build().unwrap();
        [
            iam::DefaultResolver::new()
                .resolve_endpoint(&iam_in)
                .await
                .unwrap(),
            sts::DefaultResolver::new()
                .resolve_endpoint(&sts_in)
                .await
                .unwrap(),
            ecr::DefaultResolver::new()
                .resolve_endpoint(&ecr_in)
                .await
                .unwrap(),
        ]
        .map(|endpoint| endpoint.url().trim_start_matches("https://").to_owned())
    }

    #[rstest]
    #[case(Partition::Aws, ["iam.amazonaws.com", "sts.us-east-1.amazonaws.com", "api.ecr.us-east-1.amazonaws.com"])]
    #[case(
        Partition::AwsCn,
        ["iam.cn-north-1.amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn", "api.ecr.cn-north-1.amazonaws.com.cn"]
    )]
    #[case(
        Partition::AwsUsGov,
        ["iam.us-gov.amazonaws.com", "sts.us-gov-west-1.amazonaws.com", "api.ecr.us-gov-west-1.amazonaws.com"]
    )]
    #[case(
        Partition::AwsEusc,
        ["iam.eusc-de-east-1.amazonaws.eu", "sts.eusc-de-east-1.amazonaws.eu", "api.ecr.eusc-de-east-1.amazonaws.eu"]
    )]
    #[tokio::test]
    async fn services_are_called_within_their_partition(
        #[case] partition: Partition,
        #[case] expected: [&str; 3],
    ) {
        let hosts = hosts(partition.home_region()).await;
        assert_eq!(hosts, expected);
        for host in hosts {
            // The registries' host names have the same suffix as the API's.
            assert!(
                host.ends_with(&format!(".{}", partition.dns_suffix())),
                "{host}"
            );
        }
    }
}
