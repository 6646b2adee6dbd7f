//! Generates requests and policies from a seed. The simulator accepts them as valid: the condition
//! keys exist, and the documents are well-formed.

use registry_grants::policy::evaluate::{Principal, PrincipalKind};
use serde_json::{Map, Value, json};

/// A request with the policies that apply to it.
pub struct Case {
    pub principal: Principal,
    pub action: &'static str,
    pub on: &'static str,
    pub resource_account: String,
    pub context: Map<String, Value>,
    pub identity: Vec<Value>,
    pub boundary: Option<Value>,
    pub resource: Option<Value>,
}

impl Case {
    fn documents(&self) -> impl Iterator<Item = &Value> {
        self.identity
            .iter()
            .chain(&self.boundary)
            .chain(&self.resource)
    }

    /// Returns whether a document contains this text.
    pub fn says(&self, text: &str) -> bool {
        self.documents()
            .any(|document| document.to_string().contains(text))
    }

    /// Returns whether a document of the first version contains text that is a variable in the
    /// second.
    pub fn has_variables_before_their_time(&self) -> bool {
        let texts = self.documents().map(Value::to_string);
        texts
            .into_iter()
            .any(|text| text.contains("2008-10-17") && text.contains("${"))
    }

    /// Returns whether a statement has this element.
    pub fn has(&self, element: &str) -> bool {
        let statements = self
            .documents()
            .filter_map(|document| document["Statement"].as_array())
            .flatten();
        statements
            .into_iter()
            .any(|statement| statement.get(element).is_some())
    }
}

const OWNER: &str = "111111111111";
const REPOSITORY: &str = "arn:aws:ecr:eu-west-1:111111111111:repository/team/web";
const ROLE: &str = "arn:aws:iam::111111111111:role/grants/target";

const ACTIONS: [&str; 13] = [
    "*",
    "*",
    "*",
    "*",
    "*",
    "ecr:*",
    "ecr:BatchGetImage",
    "ECR:batchget*",
    "ecr:Put?mage",
    "sts:AssumeRole",
    "sts:*",
    "s3:GetObject",
    "ecr:GetAuthorizationToken",
];
const RESOURCES: [&str; 13] = [
    "*",
    "*",
    "*",
    REPOSITORY,
    ROLE,
    "arn:aws:ecr:*:111111111111:repository/*",
    "arn:aws:ecr:*:*:repository/team/w?b",
    "arn:aws:ecr:eu-*:111111111111:repository/other",
    "arn:aws:ecr:*",
    "arn:aws:iam::*:role/grants/*",
    "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/team}/*",
    "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/none, 'team'}/*",
    "arn:aws:ecr:*:*:repository/${aws:PrincipalTag/none}/*",
];
const NAMES: [&str; 12] = [
    "*",
    "111111111111",
    "222222222222",
    "arn:aws:iam::111111111111:root",
    "arn:aws:iam::222222222222:root",
    "arn:aws:iam::333333333333:root",
    "arn:aws:iam::111111111111:role/ci",
    "arn:aws:iam::222222222222:role/ci",
    "arn:aws:iam::222222222222:role/path/ci",
    "arn:aws:iam::111111111111:user/alice",
    "arn:aws:iam::222222222222:user/alice",
    "arn:aws:iam::222222222222:role/CI",
];
const SERVICES: [&str; 2] = ["lambda.amazonaws.com", "ec2.amazonaws.com"];
/// Operators, a key, and values for it.
const CONDITIONS: [(&[&str], &str, &[&str]); 11] = [
    (
        &[
            "StringEquals",
            "StringNotEquals",
            "StringLike",
            "StringNotLike",
            "StringEqualsIgnoreCase",
            "StringNotEqualsIgnoreCase",
            "StringEqualsIfExists",
            "StringNotLikeIfExists",
        ],
        "aws:PrincipalTag/team",
        &[
            "team",
            "TEAM",
            "t*m",
            "te?m",
            "${aws:PrincipalTag/team}",
            "${*}",
            "${*}",
            "x",
        ],
    ),
    (
        &["StringEquals", "StringNotEqualsIfExists", "StringLike"],
        "aws:PrincipalOrgID",
        &["o-1", "o-2", "o-*"],
    ),
    (
        &["StringEquals", "StringNotEquals"],
        "AWS:principalaccount",
        &["111111111111", "222222222222", "${aws:PrincipalAccount}"],
    ),
    (
        &[
            "ArnLike",
            "ArnEquals",
            "ArnNotLike",
            "ArnNotEquals",
            "StringLike",
        ],
        "aws:PrincipalArn",
        &[
            "arn:aws:iam::*:role/*",
            "arn:aws:iam::222222222222:role/ci",
            "arn:aws:iam::222222222222:user/?lice",
            "arn:aws:iam::${aws:PrincipalAccount}:*",
        ],
    ),
    (
        &[
            "IpAddress",
            "NotIpAddress",
            "NotIpAddress",
            "IpAddressIfExists",
        ],
        "aws:SourceIp",
        &[
            "203.0.113.0/24",
            "203.0.113.7",
            "10.0.0.0/8",
            "2001:db8::/32",
            "2001:db8:1::/48",
        ],
    ),
    (
        &["Bool", "BoolIfExists"],
        "aws:SecureTransport",
        &["true", "false"],
    ),
    (
        &[
            "NumericLessThan",
            "NumericLessThanEquals",
            "NumericGreaterThan",
            "NumericGreaterThanEquals",
            "NumericEquals",
            "NumericNotEquals",
            "NumericLessThanIfExists",
        ],
        "aws:MultiFactorAuthAge",
        &["300", "3600", "60"],
    ),
    (
        &[
            "DateLessThan",
            "DateLessThanEquals",
            "DateGreaterThan",
            "DateGreaterThanEquals",
            "DateEquals",
            "DateNotEquals",
        ],
        "aws:CurrentTime",
        &[
            "2024-02-29T12:00:00Z",
            "2024-02-29T11:59:59Z",
            "2030-01-01T00:00:00Z",
        ],
    ),
    (
        &[
            "ForAnyValue:StringLike",
            "ForAllValues:StringLike",
            "ForAnyValue:StringEquals",
            "ForAllValues:StringEquals",
            "ForAnyValue:StringNotEquals",
            "ForAllValues:StringNotLike",
            "ForAnyValue:StringLikeIfExists",
        ],
        "aws:PrincipalOrgPaths",
        &["o-1/r-1/ou-1/", "o-1/r-1/*", "o-2/*", "x"],
    ),
    (&["Null"], "aws:PrincipalTag/team", &["true", "false"]),
    (
        &["StringLike", "StringNotEquals", "StringEqualsIfExists"],
        "aws:SourceVpc",
        &["vpc-1", "vpc-*"],
    ),
];

struct Dice(fastrand::Rng);

impl Dice {
    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.0.usize(..of.len())]
    }

    /// Returns true once in so many calls, on average.
    fn once_in(&mut self, times: u32) -> bool {
        self.0.u32(..times) == 0
    }

    /// Returns one of these values, or a list of a few of them.
    fn some(&mut self, of: &[&str]) -> Value {
        match self.0.u32(..3) {
            0 => json!([self.one(of), self.one(of)]),
            _ => json!(self.one(of)),
        }
    }

    fn condition(&mut self) -> Value {
        let mut block = json!({});
        for _ in 0..self.0.u32(1..=2) {
            let (operators, key, values) = self.one(&CONDITIONS);
            block[self.one(operators)][key] = self.some(values);
        }
        block
    }

    fn statement(&mut self, deny_once_in: u32) -> Map<String, Value> {
        let mut statement = Map::new();
        statement.insert(
            "Effect".into(),
            json!(if self.once_in(deny_once_in) {
                "Deny"
            } else {
                "Allow"
            }),
        );
        let action = if self.once_in(8) {
            "NotAction"
        } else {
            "Action"
        };
        statement.insert(action.into(), self.some(&ACTIONS));
        if self.once_in(3) {
            statement.insert("Condition".into(), self.condition());
        }
        statement
    }

    fn document(&mut self, statements: Vec<Map<String, Value>>) -> Value {
        let version = if self.once_in(8) {
            "2008-10-17"
        } else {
            "2012-10-17"
        };
        json!({ "Version": version, "Statement": statements })
    }

    fn of_identity(&mut self) -> Value {
        let statements = (0..self.0.u32(1..=3)).map(|_| {
            let mut statement = self.statement(9);
            let resource = if self.once_in(8) {
                "NotResource"
            } else {
                "Resource"
            };
            statement.insert(resource.into(), self.some(&RESOURCES));
            statement
        });
        let statements = statements.collect();
        self.document(statements)
    }

    fn of_resource(&mut self) -> Value {
        let statements = (0..self.0.u32(1..=3)).map(|_| {
            let mut statement = self.statement(9);
            let principal = match self.0.u32(..10) {
                0 => json!("*"),
                1 | 2 => json!({ "Service": self.some(&SERVICES) }),
                3 => json!({ "Service": self.one(&SERVICES), "AWS": self.some(&NAMES) }),
                _ => json!({ "AWS": self.some(&NAMES) }),
            };
            let element = if self.once_in(25) {
                "NotPrincipal"
            } else {
                "Principal"
            };
            statement.insert(element.into(), principal);
            statement
        });
        let statements = statements.collect();
        self.document(statements)
    }

    fn principal(&mut self) -> Principal {
        let kind = match self.0.u32(..16) {
            0 => PrincipalKind::Root,
            1 | 2 => return Principal::service(self.one(&SERVICES)),
            3..8 => PrincipalKind::User,
            _ => PrincipalKind::Role,
        };
        let account = self.one(&[OWNER, "222222222222", "222222222222", "333333333333"]);
        let name = match kind {
            PrincipalKind::Role => self.one(&["role/ci", "role/ci", "role/path/ci"]),
            PrincipalKind::User => "user/alice",
            PrincipalKind::Root | PrincipalKind::Service => "root",
        };
        let arn = format!("arn:aws:iam::{account}:{name}");
        Principal {
            arn,
            kind,
            account: Some(account.into()),
            unique_id: Some("AROAEXAMPLEEXAMPLE00".into()),
        }
    }

    /// Adds the keys that our evaluator derives from the principal, because the simulator derives
    /// none.
    fn context(&mut self, principal: &Principal) -> Map<String, Value> {
        let mut context = Map::new();
        if let Some(account) = &principal.account {
            context.insert("aws:PrincipalAccount".into(), json!(account));
            context.insert("aws:PrincipalArn".into(), json!(principal.arn));
        }
        let one_of: [(&str, &[&str]); 7] = [
            ("aws:PrincipalTag/team", &["team", "Team", "*"]),
            ("aws:PrincipalOrgID", &["o-1", "o-3"]),
            (
                "aws:SourceIp",
                &["203.0.113.7", "203.0.114.7", "2001:db8:1::5", "2001:db9::1"],
            ),
            ("aws:SecureTransport", &["true", "false"]),
            ("aws:MultiFactorAuthAge", &["60", "3600"]),
            (
                "aws:CurrentTime",
                &["2024-02-29T12:00:00Z", "2031-01-01T00:00:00Z"],
            ),
            ("aws:SourceVpc", &["vpc-1", "vpc-2"]),
        ];
        for (key, values) in one_of {
            if !self.once_in(3) {
                context.insert(key.into(), json!(self.one(values)));
            }
        }
        if !self.once_in(3) {
            let paths = ["o-1/r-1/ou-1/", "o-3/r-1/ou-1/"];
            context.insert(
                "aws:PrincipalOrgPaths".into(),
                json!(&paths[..self.0.usize(1..=2)]),
            );
        }
        context
    }

    fn case(&mut self) -> Case {
        let principal = self.principal();
        let context = self.context(&principal);
        let (action, on) = match self.0.u32(..8) {
            0 => ("ecr:GetAuthorizationToken", "*"),
            1..4 => ("sts:AssumeRole", ROLE),
            4 => ("ecr:PutImage", REPOSITORY),
            _ => ("ecr:BatchGetImage", REPOSITORY),
        };
        let own = principal.account.clone().filter(|_| on == "*");
        let identity = match principal.kind {
            PrincipalKind::Service => Vec::new(),
            _ => (0..self.0.u32(..=2)).map(|_| self.of_identity()).collect(),
        };
        let bounded = principal.kind != PrincipalKind::Service && self.once_in(4);
        Case {
            boundary: bounded.then(|| self.of_identity()),
            // Every role has a trust policy.
            resource: (on == ROLE || on != "*" && !self.once_in(6)).then(|| self.of_resource()),
            resource_account: own.unwrap_or_else(|| OWNER.into()),
            principal,
            action,
            on,
            context,
            identity,
        }
    }
}

/// Generates this number of cases, which are the same for the same seed.
pub fn cases(seed: u64, count: usize) -> Vec<Case> {
    let mut dice = Dice(fastrand::Rng::with_seed(seed));
    (0..count).map(|_| dice.case()).collect()
}
