//! Random trust policies, and the sessions that they allow on each side.

use super::calls::Call;
use super::play::Pair;
use anyhow::{Context, Result};
use aws_credential_types::Credentials;
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_sdk_sts::types::Tag;
use fastrand::Rng;
use serde_json::{Value, json};
use std::time::Duration;

/// The role whose session assumes others, in the first account.
const CALLER: &str = "grants/caller";

/// A session of the caller on each side.
pub struct Sessions {
    ours: aws_sdk_sts::Client,
    theirs: aws_sdk_sts::Client,
}

/// A request for a session.
#[derive(Clone, Debug)]
pub struct Asked {
    pub external_id: Option<&'static str>,
    pub tags: Vec<&'static str>,
    pub seconds: i32,
}

impl Asked {
    pub fn random(rng: &mut Rng) -> Self {
        let tags: &[&[&str]] = &[&[], &[], &[], &["a"], &["a", "b"], &["c"], &["a", "A"]];
        Self {
            external_id: rng
                .choice([None, Some("secret"), Some("secret"), Some("other")])
                .flatten(),
            tags: rng.choice(tags).copied().unwrap_or_default().to_vec(),
            seconds: rng.choice([3600, 3600, 3600, 900, 7200]).unwrap_or(3600),
        }
    }
}

/// Returns a random trust policy that is about the caller, more or less.
pub fn trust(rng: &mut Rng) -> String {
    let statements: Vec<Value> = (0..rng.usize(1..4)).map(|_| statement(rng)).collect();
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

fn statement(rng: &mut Rng) -> Value {
    let principals = [
        json!({"AWS": "arn:aws:iam::{0}:role/grants/caller"}),
        json!({"AWS": ["{0}", "{1}"]}),
        json!({"AWS": "{id:0}"}),
        json!("*"),
        json!({"AWS": "arn:aws:iam::{1}:root"}),
        json!({"Service": "ec2.amazonaws.com"}),
    ];
    let actions = [
        json!("sts:AssumeRole"),
        json!(["sts:AssumeRole", "sts:TagSession"]),
        json!("sts:TagSession"),
        json!("sts:*"),
        json!("STS:assume?ole"),
    ];
    let effect = if rng.u8(..6) == 0 { "Deny" } else { "Allow" };
    let mut statement = json!({
        "Effect": effect,
        "Principal": rng.choice(&principals),
        "Action": rng.choice(&actions),
    });
    if rng.bool() {
        statement["Condition"] = condition(rng);
    }
    statement
}

fn condition(rng: &mut Rng) -> Value {
    let conditions = [
        json!({"StringEquals": {"sts:ExternalId": ["secret", "x"]}}),
        json!({"StringNotEquals": {"sts:ExternalId": "secret"}}),
        json!({"StringLike": {"STS:ExternalID": "sec*"}}),
        json!({"StringEqualsIfExists": {"sts:ExternalId": "secret"}}),
        json!({"Null": {"sts:ExternalId": "true"}}),
        json!({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b", "passed-on"]}}),
        json!({"ForAnyValue:StringEquals": {"aws:TagKeys": ["a"]}}),
        json!({"StringEquals": {"aws:RequestTag/a": "value"}}),
        json!({"StringEquals": {"aws:RequestTag/passed-on": "value"}}),
        json!({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::{0}:role/grants/*"}}),
        json!({"ArnEquals": {"aws:PrincipalArn": "arn:aws:iam::{0}:role/caller"}}),
        json!({"StringEquals": {"aws:PrincipalAccount": "{0}"}}),
        json!({"StringEquals": {"sts:RoleSessionName": "session"}}),
        json!({"DateLessThan": {"aws:TokenIssueTime": "2000-01-01T00:00:00Z"}}),
        json!({"DateGreaterThan": {"aws:CurrentTime": "2000-01-01T00:00:00Z"}}),
        json!({"Bool": {"aws:PrincipalIsAWSService": "false"}}),
    ];
    let one = rng.choice(&conditions).cloned().unwrap_or_default();
    if rng.u8(..4) > 0 {
        return one;
    }
    let mut both = one;
    if let Some(Value::Object(other)) = rng.choice(&conditions) {
        for (operator, keys) in other {
            both[operator] = keys.clone();
        }
    }
    both
}

fn call(operation: &'static str, parameters: Vec<(&'static str, Value)>) -> Call {
    Call {
        account: 0,
        region: "us-east-1",
        service: "iam",
        operation,
        parameters,
    }
}

/// Returns the call that gives a role this trust policy.
pub fn update_trust(role: &str, trust: String) -> Call {
    Call {
        account: 1,
        ..call(
            "UpdateAssumeRolePolicy",
            vec![("RoleName", json!(role)), ("PolicyDocument", json!(trust))],
        )
    }
}

impl Sessions {
    /// Creates the caller and a target, and begins a session of the caller. It passes a tag on if
    /// `passes_on`.
    pub async fn begin(pair: &mut Pair, passes_on: bool) -> Result<Self> {
        let root = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Principal": {"AWS": "{0}"}, "Action": ["sts:AssumeRole", "sts:TagSession"]}]})
        .to_string();
        let all = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
            "Action": "*", "Resource": "*"}]})
        .to_string();
        let caller = vec![
            ("RoleName", json!("caller")),
            ("Path", json!("/grants/")),
            ("AssumeRolePolicyDocument", json!(root)),
        ];
        let permissions = vec![
            ("RoleName", json!("caller")),
            ("PolicyName", json!("all")),
            ("PolicyDocument", json!(all)),
        ];
        let target = vec![
            ("RoleName", json!("target")),
            ("AssumeRolePolicyDocument", json!(root)),
        ];
        let target = Call {
            account: 1,
            ..call("CreateRole", target)
        };
        for call in [
            call("CreateRole", caller),
            call("PutRolePolicy", permissions),
            target,
        ] {
            let (ours, theirs) = pair.play(&call).await?;
            anyhow::ensure!((ours.status, theirs.status) == (200, 200), "{call}");
        }
        let tags: &[(&str, &str, bool)] = if passes_on {
            &[("passed-on", "value", true)]
        } else {
            &[]
        };
        let ours = pair
            .world
            .root(&pair.accounts[0])
            .session("caller", 3600, tags)?;
        let theirs = Self::theirs(pair, passes_on).await?;
        let config = pair.world.sdk_config(
            ours,
            Duration::from_secs(60),
            registry_grants::clock::WallClock::system(),
        );
        Ok(Self {
            ours: aws_sdk_sts::Client::new(&config),
            theirs,
        })
    }

    async fn theirs(pair: &Pair, passes_on: bool) -> Result<aws_sdk_sts::Client> {
        let root = emulated(
            pair,
            Credentials::new(&pair.accounts[0], "root", None, None, "root"),
        );
        let arn = format!("arn:aws:iam::{}:role/{CALLER}", pair.accounts[0]);
        let call = root
            .assume_role()
            .role_arn(arn)
            .role_session_name("platform");
        let call = if passes_on {
            call.tags(tag("passed-on")).transitive_tag_keys("passed-on")
        } else {
            call
        };
        let keys = call.send().await?.credentials.context("credentials")?;
        let token = Some(keys.session_token);
        let keys = Credentials::new(
            keys.access_key_id,
            keys.secret_access_key,
            token,
            None,
            "session",
        );
        Ok(emulated(pair, keys))
    }

    /// Asks both sides for a session of the target; returns the outcomes.
    pub async fn assume(&self, pair: &Pair, asked: &Asked) -> (String, String) {
        (
            outcome(&self.ours, pair, asked).await,
            outcome(&self.theirs, pair, asked).await,
        )
    }
}

fn tag(key: &str) -> Tag {
    let tag = Tag::builder().key(key).value("value").build();
    tag.expect("key and value")
}

async fn outcome(sts: &aws_sdk_sts::Client, pair: &Pair, asked: &Asked) -> String {
    let arn = format!("arn:aws:iam::{}:role/target", pair.accounts[1]);
    let tags: Vec<Tag> = asked.tags.iter().map(|key| tag(key)).collect();
    let call = sts
        .assume_role()
        .role_arn(arn)
        .role_session_name("session")
        .duration_seconds(asked.seconds)
        .set_external_id(asked.external_id.map(String::from))
        .set_tags(Some(tags).filter(|tags| !tags.is_empty()));
    match call.send().await {
        Ok(assumed) => {
            let user = assumed.assumed_role_user.map(|user| user.arn);
            user.unwrap_or_default()
        }
        Err(error) => error.code().unwrap_or("no code").to_owned(),
    }
}

fn emulated(pair: &Pair, credentials: Credentials) -> aws_sdk_sts::Client {
    // The SDK's own client would use a proxy from the developer's environment.
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_sts::Config::builder()
        .behavior_version_latest()
        .http_client(http)
        .endpoint_url(&pair.endpoint)
        .credentials_provider(credentials)
        .region(aws_sdk_sts::config::Region::new("us-east-1"))
        .build();
    aws_sdk_sts::Client::from_conf(config)
}
