//! The accounts and the cluster before anybody applies a grant.

use crate::api_server::{ApiServer, Kind};
use crate::aws::{Root, Settings, World};
use crate::replica::NAMESPACE;
use aws_credential_types::Credentials;
use registry_grants::clock::WallClock;
use serde_json::{Value, json};

/// The account of the operator.
pub const OPERATOR_ACCOUNT: &str = "333333333333";
/// The role in each account that the operator assumes.
pub const MANAGEMENT_ROLE: &str = "registry-grants";
/// The operator's own role.
pub const OPERATOR_ROLE: &str = "registry-grants-operator";
/// The external ID that the management roles ask for.
pub const EXTERNAL_ID: &str = "registry-grants-simulation";

/// A cluster and AWS, with one time.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The time of day, for both and for the operator.
    pub clock: WallClock,
    /// The cluster.
    pub api_server: ApiServer,
    /// AWS.
    pub aws: World,
    /// The operator's credentials.
    pub credentials: Credentials,
}

impl Environment {
    /// Creates a cluster, and AWS with the operator's account. `seed` determines their IDs and the
    /// wording of documents.
    pub fn new(seed: u64) -> Self {
        let start = "2026-01-01T00:00:00Z".parse().expect("a time");
        let clock = WallClock::starting_at(start);
        let aws = World::new(Settings {
            seed,
            rewords: true,
            ..Settings::new(clock.clone())
        });
        let root = aws.add_account(OPERATOR_ACCOUNT);
        let trust = trust(&json!({"AWS": OPERATOR_ACCOUNT}), None);
        root.create_role(OPERATOR_ROLE, &trust)
            .expect("IAM creates the operator's role");
        let credentials = root
            .session(OPERATOR_ROLE, 12 * 3600, &[])
            .expect("the role exists");
        let api_server = ApiServer::new(seed, clock.clone());
        api_server
            .create_namespace(NAMESPACE, &json!({}))
            .expect("the API server admits the namespace");
        Self {
            clock,
            api_server,
            aws,
            credentials,
        }
    }

    /// Adds an AWS account with its management role.
    pub fn add_account(&self, id: &str) -> Root {
        let root = self.aws.add_account(id);
        let operator = format!("arn:aws:iam::{OPERATOR_ACCOUNT}:role/{OPERATOR_ROLE}");
        let trust = trust(&json!({"AWS": operator}), Some(EXTERNAL_ID));
        root.create_role(MANAGEMENT_ROLE, &trust)
            .expect("IAM creates the management role");
        root
    }

    /// Opens an account to the operator: creates its `AWSAccount` with this spec, besides the
    /// credentials.
    pub fn open_account(&self, id: &str, mut spec: Value) {
        spec["credentials"] = json!({"assumeRole": {
            "roleARN": format!("arn:aws:iam::{id}:role/{MANAGEMENT_ROLE}"),
            "externalID": EXTERNAL_ID,
        }});
        let account = json!({"metadata": {"name": id}, "spec": spec});
        self.api_server
            .create(Kind::Account, account)
            .expect("the API server admits the account");
    }
}

/// Returns a trust policy for one principal.
fn trust(principal: &Value, external_id: Option<&str>) -> String {
    let mut statement = json!({
        "Effect": "Allow",
        "Principal": principal,
        "Action": ["sts:AssumeRole", "sts:TagSession"],
    });
    if let Some(external_id) = external_id {
        statement["Condition"] = json!({"StringEquals": {"sts:ExternalId": external_id}});
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}
