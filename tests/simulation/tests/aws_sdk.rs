//! The in-memory AWS, called by the real SDK and by the operator's own calls.

use aws_sdk_iam::error::ProvideErrorMetadata;
use registry_grants::clock::WallClock;
use serde_json::{Value, json};
use simulation::aws::{Denied, Rate, Service, Settings, World};
use std::time::Duration;

mod aws_sdk {
    pub mod faults;
    pub mod operator;
    pub mod speed;
}

const A: &str = "111111111111";
const B: &str = "222222222222";
const OPERATOR: &str = "333333333333";
const REGION: &str = "us-east-1";

fn clock() -> WallClock {
    WallClock::starting_at("2026-01-01T00:00:00Z".parse().expect("a time"))
}

fn world() -> World {
    world_with(|_| {})
}

fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = Settings::new(clock());
    change(&mut settings);
    let world = World::new(settings);
    for account in [A, B, OPERATOR] {
        world.add_account(account);
    }
    world
}

fn trust(principal: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": principal, "Action": ["sts:AssumeRole", "sts:TagSession"]}]})
    .to_string()
}

fn ec2() -> String {
    trust(&json!({"Service": "ec2.amazonaws.com"}))
}

fn pull(principal: &Value) -> String {
    json!({"Version": "2012-10-17", "Statement": [
        {"Sid": "s", "Effect": "Allow", "Principal": principal, "Action": "ecr:BatchGetImage"}]})
    .to_string()
}

struct Clients {
    iam: aws_sdk_iam::Client,
    sts: aws_sdk_sts::Client,
    ecr: aws_sdk_ecr::Client,
}

impl Clients {
    fn of(world: &World, credentials: aws_credential_types::Credentials) -> Self {
        let config = world.sdk_config(credentials, Duration::from_secs(30), clock());
        Self {
            iam: aws_sdk_iam::Client::new(&config),
            sts: aws_sdk_sts::Client::new(&config),
            ecr: aws_sdk_ecr::Client::new(&config),
        }
    }

    fn root(world: &World, account: &str) -> Self {
        Self::of(world, world.root(account).credentials())
    }

    /// Returns the clients of a new role in the account.
    fn role(world: &World, account: &str, name: &str) -> Self {
        let root = world.root(account);
        root.create_role(name, &ec2()).expect("a new role");
        Self::of(world, root.session(name, 3600, &[]).expect("a session"))
    }

    /// Returns the principals in the first statement of a role's trust policy.
    async fn trusted(&self, role: &str) -> Value {
        let read = self.iam.get_role().role_name(role).send().await;
        let role = read.expect("it exists").role.expect("a role");
        let document = role.assume_role_policy_document.expect("a document");
        let decoded = percent_encoding::percent_decode_str(&document).decode_utf8_lossy();
        let document: Value = serde_json::from_str(&decoded).expect("JSON");
        document["Statement"][0]["Principal"]["AWS"].clone()
    }
}

/// Returns the code of a call that fails.
fn code<T, E: ProvideErrorMetadata>(result: Result<T, E>) -> String {
    let Err(error) = result else {
        panic!("the call succeeded")
    };
    error.code().unwrap_or("no code").to_owned()
}

#[tokio::test(start_paused = true)]
async fn role_comes_back_as_it_was_made() {
    let world = world();
    let iam = Clients::role(&world, A, "admin").iam;
    let tag = aws_sdk_iam::types::Tag::builder().key("k").value("a + b");
    let tag = tag.build().expect("key and value");
    let call = iam.create_role().role_name("role");
    let call = call.path("/registry-grants/").description("a & <b>");
    let call = call.assume_role_policy_document(ec2()).tags(tag.clone());
    let made = call.max_session_duration(7200).send().await;
    let made = made.expect("a new role").role.expect("a role");
    let read = iam.get_role().role_name("role").send().await;
    let read = read.expect("it exists").role.expect("a role");
    assert_eq!(read.role_id, made.role_id);
    assert!(read.role_id.starts_with("AROA"), "{}", read.role_id);
    let arn = format!("arn:aws:iam::{A}:role/registry-grants/role");
    assert_eq!(read.arn, arn);
    assert_eq!(read.description.as_deref(), Some("a & <b>"));
    assert_eq!(read.max_session_duration, Some(7200));
    assert_eq!(read.tags, Some(vec![tag]));
    let listed = iam.list_roles().path_prefix("/registry-grants/");
    let roles = listed.send().await.expect("a list").roles;
    assert_eq!((roles.len(), roles[0].tags.clone()), (1, None));
}

#[tokio::test(start_paused = true)]
async fn deleted_principal_shows_as_its_id_even_if_made_again() {
    let world = world();
    let (a, b) = (world.root(A), world.root(B));
    let arn = b.create_role("caller", &ec2()).expect("a new role");
    let id = world.read(|state| state.role(B, "caller").expect("the role").id.clone());
    a.create_role("role", &trust(&json!({"AWS": arn})))
        .expect("a new role");
    a.create_repository(REGION, "app").expect("a repository");
    let text = pull(&json!({"AWS": [arn, B]}));
    a.set_repository_policy(REGION, "app", &text)
        .expect("a policy");
    let clients = Clients::root(&world, A);
    assert_eq!(clients.trusted("role").await, json!(arn));
    b.delete_role("caller").expect("it exists");
    b.create_role("caller", &ec2()).expect("a new role");
    assert_eq!(clients.trusted("role").await, json!(id));
    let read = clients.ecr.get_repository_policy().repository_name("app");
    let text = read.send().await.expect("a policy").policy_text;
    let text = text.expect("a text");
    let policy: Value = serde_json::from_str(&text).expect("JSON");
    let root = format!("arn:aws:iam::{B}:root");
    let principals = &policy["Statement"][0]["Principal"]["AWS"];
    assert_eq!(*principals, json!([id, root]));
    // A document that names the dead ID is refused, even if the statement is foreign.
    let again = clients.ecr.set_repository_policy().repository_name("app");
    let refused = again.policy_text(text).send().await.expect_err("a refusal");
    assert_eq!(refused.code(), Some("InvalidParameterException"));
    let message = refused.message().unwrap_or_default();
    assert!(message.contains("Principal"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn unknown_principals_are_refused_by_each_service() {
    let world = world();
    let clients = Clients::root(&world, A);
    let a = world.root(A);
    a.create_repository(REGION, "app").expect("a repository");
    world.configure(B, |settings| settings.closed = true);
    for principal in [
        format!("arn:aws:iam::{A}:role/none"),
        format!("arn:aws:iam::{B}:root"),
        "999999999999".to_owned(),
        "AROAAAAAAAAAAAAAAAAAA".to_owned(),
        "nobody".to_owned(),
    ] {
        let principal = json!({"AWS": principal});
        let create = clients.iam.create_role().role_name("r");
        let create = create.assume_role_policy_document(trust(&principal));
        let refused = code(create.send().await);
        assert_eq!(refused, "MalformedPolicyDocument", "{principal}");
        let set = clients.ecr.set_repository_policy().repository_name("app");
        let refused = code(set.policy_text(pull(&principal)).send().await);
        assert_eq!(refused, "InvalidParameterException", "{principal}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_come_in_pages() {
    let world = world_with(|settings| settings.page = 3);
    let root = world.root(A);
    for number in 0..10 {
        let (role, repository) = (format!("role-{number}"), format!("app-{number}"));
        root.create_role(&role, &ec2()).expect("a new role");
        root.create_repository(REGION, &repository)
            .expect("a repository");
    }
    let clients = Clients::root(&world, A);
    let roles = clients.iam.list_roles().into_paginator().items().send();
    let roles: Result<Vec<_>, _> = roles.collect().await;
    assert_eq!(roles.expect("all pages").len(), 10);
    let found = clients.ecr.describe_repositories().into_paginator();
    let found: Result<Vec<_>, _> = found.items().send().collect().await;
    assert_eq!(found.expect("all pages").len(), 10);
    let details = clients.iam.get_account_authorization_details();
    let pages: Result<Vec<_>, _> = details.into_paginator().send().collect().await;
    let pages = pages.expect("all pages");
    let roles = pages.iter().map(|page| page.role_detail_list().len());
    assert_eq!((pages.len() > 3, roles.sum::<usize>()), (true, 10));
}

#[tokio::test(start_paused = true)]
async fn region_that_is_not_enabled_refuses_the_credentials() {
    let world = world();
    let describe = async |region: &'static str| {
        let credentials = world.root(A).credentials();
        let config = world.sdk_config(credentials, Duration::from_secs(30), clock());
        let region = aws_sdk_ecr::config::Region::new(region);
        let config = config.into_builder().region(region).build();
        let client = aws_sdk_ecr::Client::new(&config);
        client.describe_repositories().send().await
    };
    let refused = code(describe("ap-east-1").await);
    assert_eq!(refused, "UnrecognizedClientException");
    world.configure(A, |settings| {
        settings.opted_in.insert("ap-east-1".into());
    });
    describe("ap-east-1").await.expect("an enabled region");
    let unresolved = describe("us-esat-1").await.expect_err("no host");
    let text = aws_sdk_iam::error::DisplayErrorContext(&unresolved).to_string();
    assert!(text.contains("dns error"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_refused_in_another_partition() {
    let world = world();
    world.add_account_in("444444444444", "aws-cn");
    let list = async |account: &str| {
        let credentials = world.root(account).credentials();
        let config = world.sdk_config(credentials, Duration::from_secs(30), clock());
        let region = aws_sdk_iam::config::Region::new("cn-north-1");
        let config = config.into_builder().region(region).build();
        let client = aws_sdk_iam::Client::new(&config);
        client.list_roles().send().await
    };
    list("444444444444").await.expect("its own partition");
    assert_eq!(code(list(A).await), "InvalidClientTokenId");
}

#[tokio::test(start_paused = true)]
async fn session_ends_at_its_time() {
    let world = world();
    let clients = Clients::role(&world, A, "role");
    let identity = clients.sts.get_caller_identity().send().await;
    let arn = identity.expect("a session").arn.expect("an ARN");
    assert_eq!(arn, format!("arn:aws:sts::{A}:assumed-role/role/platform"));
    tokio::time::advance(Duration::from_secs(3600)).await;
    let identity = clients.sts.get_caller_identity().send().await;
    assert_eq!(code(identity), "ExpiredToken");
    let described = clients.ecr.describe_repositories().send().await;
    assert_eq!(code(described), "ExpiredTokenException");
}

#[tokio::test(start_paused = true)]
async fn denied_action_is_refused_in_awss_words() {
    let world = world();
    let clients = Clients::role(&world, A, "role");
    world.deny(A, "iam:Get*", Denied::NotAllowed);
    world.deny(A, "ecr:*", Denied::ByServiceControlPolicy);
    let get = async || clients.iam.get_role().role_name("role").send().await;
    let refused = get().await.expect_err("a refusal");
    let expected = "User: arn:aws:sts::111111111111:assumed-role/role/platform is not authorized to perform: iam:GetRole on resource: role role because no identity-based policy allows the iam:GetRole action";
    assert_eq!(refused.message(), Some(expected));
    let described = clients.ecr.describe_repositories().send().await;
    assert_eq!(code(described), "AccessDeniedException");
    clients.iam.list_roles().send().await.expect("allowed");
    world.allow_all(A);
    get().await.expect("allowed");
}

#[tokio::test(start_paused = true)]
async fn bucket_throttles_one_service_of_one_account() {
    let world = world();
    let (a, b) = (Clients::root(&world, A), Clients::root(&world, B));
    let rate = Rate {
        per_second: 1.0,
        burst: 2.0,
    };
    world.throttle(A, Service::Iam, Some(rate));
    let list = async |clients: &Clients| clients.iam.list_roles().send().await;
    list(&a).await.expect("the first token");
    list(&a).await.expect("the second token");
    assert_eq!(code(list(&a).await), "Throttling");
    list(&b).await.expect("another account");
    let other = a.ecr.describe_repositories().send().await;
    other.expect("another service");
    tokio::time::advance(Duration::from_secs(1)).await;
    list(&a).await.expect("a new token");
}

struct Trusting {
    world: World,
    role: String,
}

impl Trusting {
    /// Creates a role that trusts the operator's role with an external ID and two tags.
    fn new() -> Self {
        let world = world();
        let operator = world.root(OPERATOR);
        let arn = operator
            .create_role("operator", &ec2())
            .expect("a new role");
        let document = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:AssumeRole",
             "Condition": {"StringEquals": {"sts:ExternalId": "secret"}}},
            {"Effect": "Allow", "Principal": {"AWS": arn}, "Action": "sts:TagSession",
             "Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": ["cluster", "grant"]}}}]});
        let root = world.root(A);
        let role = root
            .create_role("management", &document.to_string())
            .expect("a new role");
        Self { world, role }
    }

    /// Returns a session of the operator's role with these transitive tags.
    fn session(&self, tags: &[(&str, &str, bool)]) -> aws_sdk_sts::Client {
        let root = self.world.root(OPERATOR);
        let session = root.session("operator", 3600, tags).expect("a session");
        Clients::of(&self.world, session).sts
    }

    /// Assumes the role; returns the access key's ID, or the code and text of the refusal.
    async fn assume(
        &self,
        sts: &aws_sdk_sts::Client,
        external_id: &str,
        tag: Option<&str>,
    ) -> Result<String, (String, String)> {
        let tag = tag.map(|key| {
            let tag = aws_sdk_sts::types::Tag::builder().key(key).value("x");
            vec![tag.build().expect("key and value")]
        });
        let call = sts.assume_role().role_arn(&self.role).set_tags(tag);
        let call = call.role_session_name("test").external_id(external_id);
        match call.send().await {
            Ok(assumed) => Ok(assumed.credentials.expect("credentials").access_key_id),
            Err(error) => Err((
                error.code().unwrap_or_default().to_owned(),
                error.message().unwrap_or_default().to_owned(),
            )),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn assume_role_asks_the_trust_policy() {
    let trusting = Trusting::new();
    let sts = trusting.session(&[]);
    let (code, _) = trusting
        .assume(&sts, "wrong", None)
        .await
        .expect_err("no trust");
    assert_eq!(code, "AccessDenied");
    let allowed = trusting.assume(&sts, "secret", Some("grant")).await;
    allowed.expect("trusted");
    let refused = trusting.assume(&sts, "secret", Some("other")).await;
    let (code, text) = refused.expect_err("another tag");
    assert_eq!(code, "AccessDenied");
    assert!(text.contains("sts:TagSession"), "{text}");
    // A recreated role is another principal, and its old sessions end.
    let operator = trusting.world.root(OPERATOR);
    operator.delete_role("operator").expect("it exists");
    operator
        .create_role("operator", &ec2())
        .expect("a new role");
    let dead = trusting.assume(&sts, "secret", None).await;
    assert_eq!(dead.expect_err("no session").0, "InvalidClientTokenId");
    let sts = trusting.session(&[]);
    let refused = trusting.assume(&sts, "secret", None).await;
    assert_eq!(refused.expect_err("no trust").0, "AccessDenied");
}

#[tokio::test(start_paused = true)]
async fn transitive_tag_goes_along_and_cannot_be_set_again() {
    let trusting = Trusting::new();
    let tagged = trusting.session(&[("cluster", "c", true)]);
    let key = trusting.assume(&tagged, "secret", None).await;
    let key = key.expect("trusted");
    let inherited = trusting
        .world
        .read(|state| state.session(&key).expect("the session").tags.clone());
    assert_eq!(inherited, [("cluster".to_owned(), "c".to_owned())].into());
    let again = trusting.assume(&tagged, "secret", Some("Cluster")).await;
    assert_eq!(again.expect_err("a conflict").0, "InvalidParameterValue");
    let large = trusting.session(&[("cluster", &"x".repeat(390), true)]);
    let refused = trusting.assume(&large, "secret", None).await;
    assert_eq!(refused.expect_err("no room").0, "PackedPolicyTooLarge");
}

#[tokio::test(start_paused = true)]
async fn same_seed_gives_the_same_answers() {
    async fn run(seed: u64) -> String {
        let world = world_with(|settings| {
            settings.seed = seed;
            settings.rewords = true;
        });
        let clients = Clients::role(&world, A, "role");
        let root = world.root(A);
        root.create_repository(REGION, "app").expect("a repository");
        let text = pull(&json!({"AWS": [A, B, OPERATOR]}));
        let set = clients.ecr.set_repository_policy().repository_name("app");
        let set = set.policy_text(text).send().await.expect("a policy");
        let role = clients.iam.get_role().role_name("role").send().await;
        format!("{set:?} {:?}", role.expect("it exists"))
    }
    assert_eq!(run(1).await, run(1).await);
    assert_ne!(run(1).await, run(2).await);
}
