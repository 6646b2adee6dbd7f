//! Random calls. Names come from small pools, so that calls meet what others made.

use super::calls::Call;
use super::documents;
use fastrand::Rng;
use serde_json::{Map, Value, json};

/// The random calls of one seed.
pub struct Sequence {
    rng: Rng,
    made: usize,
}

type Parameters = Vec<(&'static str, Value)>;

impl Sequence {
    pub fn new(seed: u64) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            made: 0,
        }
    }

    pub fn next_call(&mut self) -> Call {
        self.made += 1;
        let rng = &mut self.rng;
        // The first calls make something that the others can meet.
        let (service, operation) = match (self.made, rng.u8(..100)) {
            (1..=3, _) => ("iam", "CreateRole"),
            (4, _) => ("ecr", "CreateRepository"),
            (5, _) => ("iam", "CreateInstanceProfile"),
            (6, _) => ("iam", "CreatePolicy"),
            (_, 0..70) => ("iam", pick(rng, &IAM)),
            _ => ("ecr", pick(rng, &ECR)),
        };
        let parameters = if self.made <= 3 {
            first_role(self.made)
        } else if service == "iam" {
            iam(rng, operation)
        } else {
            ecr(rng, operation)
        };
        let region = if service == "ecr" && rng.u8(..10) == 0 {
            "eu-central-1"
        } else {
            "us-east-1"
        };
        Call {
            account: usize::from(self.made > 6 && rng.u8(..10) == 0),
            region,
            service,
            operation,
            parameters,
        }
    }
}

/// Operations, those that are called more often several times.
const IAM: [&str; 48] = [
    "CreateRole",
    "CreateRole",
    "CreateRole",
    "GetRole",
    "GetRole",
    "GetRole",
    "GetRole",
    "ListRoles",
    "UpdateRole",
    "DeleteRole",
    "DeleteRole",
    "UpdateAssumeRolePolicy",
    "UpdateAssumeRolePolicy",
    "UpdateAssumeRolePolicy",
    "PutRolePermissionsBoundary",
    "DeleteRolePermissionsBoundary",
    "TagRole",
    "UntagRole",
    "ListRoleTags",
    "PutRolePolicy",
    "PutRolePolicy",
    "PutRolePolicy",
    "GetRolePolicy",
    "DeleteRolePolicy",
    "ListRolePolicies",
    "AttachRolePolicy",
    "AttachRolePolicy",
    "DetachRolePolicy",
    "ListAttachedRolePolicies",
    "CreateInstanceProfile",
    "CreateInstanceProfile",
    "GetInstanceProfile",
    "DeleteInstanceProfile",
    "AddRoleToInstanceProfile",
    "AddRoleToInstanceProfile",
    "RemoveRoleFromInstanceProfile",
    "ListInstanceProfiles",
    "ListInstanceProfilesForRole",
    "TagInstanceProfile",
    "UntagInstanceProfile",
    "ListInstanceProfileTags",
    "CreatePolicy",
    "GetPolicy",
    "DeletePolicy",
    "CreatePolicyVersion",
    "GetPolicyVersion",
    "SetDefaultPolicyVersion",
    "ListPolicyVersions",
];

const ECR: [&str; 16] = [
    "CreateRepository",
    "DescribeRepositories",
    "GetRepositoryPolicy",
    "GetRepositoryPolicy",
    "GetRepositoryPolicy",
    "SetRepositoryPolicy",
    "SetRepositoryPolicy",
    "SetRepositoryPolicy",
    "SetRepositoryPolicy",
    "SetRepositoryPolicy",
    "DeleteRepositoryPolicy",
    "GetRegistryPolicy",
    "PutRegistryPolicy",
    "PutRegistryPolicy",
    "DeleteRegistryPolicy",
    "DeleteRepository",
];

fn pick(rng: &mut Rng, from: &[&'static str]) -> &'static str {
    from[rng.usize(..from.len())]
}

/// Returns the parameters of a role that can be created.
fn first_role(number: usize) -> Parameters {
    let principal = json!({"Service": "ec2.amazonaws.com"});
    let statement = json!({"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"});
    let trust = json!({"Version": "2012-10-17", "Statement": [statement]});
    vec![
        ("RoleName", json!(format!("r{}", number - 1))),
        ("AssumeRolePolicyDocument", json!(trust.to_string())),
        ("Path", json!(if number == 2 { "/grants/" } else { "/" })),
    ]
}

fn iam(rng: &mut Rng, operation: &str) -> Parameters {
    if operation.contains("InstanceProfile") {
        profile(rng, operation)
    } else if operation.contains("Policy") && !operation.contains("Role") {
        managed(rng, operation)
    } else {
        role(rng, operation)
    }
}

fn role(rng: &mut Rng, operation: &str) -> Parameters {
    if operation == "ListRoles" {
        return path_prefix(rng);
    }
    let mut parameters = vec![("RoleName", role_name(rng))];
    match operation {
        "CreateRole" => {
            parameters.push(("AssumeRolePolicyDocument", json!(documents::trust(rng))));
            parameters.extend(path(rng));
            if rng.u8(..3) == 0 {
                parameters.push(("Tags", tags(rng)));
            }
            if rng.u8(..5) == 0 {
                parameters.push(("Description", text(rng)));
            }
            if rng.u8(..6) == 0 {
                parameters.push(("MaxSessionDuration", seconds(rng)));
            }
            if rng.u8(..8) == 0 {
                parameters.push(("PermissionsBoundary", policy_arn(rng)));
            }
        }
        "UpdateRole" => {
            parameters.push(("MaxSessionDuration", seconds(rng)));
            if rng.bool() {
                parameters.push(("Description", text(rng)));
            }
        }
        "UpdateAssumeRolePolicy" => {
            parameters.push(("PolicyDocument", json!(documents::trust(rng))));
        }
        "PutRolePermissionsBoundary" => parameters.push(("PermissionsBoundary", policy_arn(rng))),
        "TagRole" => parameters.push(("Tags", tags(rng))),
        "UntagRole" => parameters.push(("TagKeys", keys(rng))),
        "PutRolePolicy" => {
            parameters.push(("PolicyName", policy_name(rng)));
            parameters.push(("PolicyDocument", json!(documents::identity(rng))));
        }
        "GetRolePolicy" | "DeleteRolePolicy" => parameters.push(("PolicyName", policy_name(rng))),
        "AttachRolePolicy" | "DetachRolePolicy" => parameters.push(("PolicyArn", policy_arn(rng))),
        _ => {}
    }
    parameters
}

fn profile(rng: &mut Rng, operation: &str) -> Parameters {
    match operation {
        "ListInstanceProfiles" => return path_prefix(rng),
        "ListInstanceProfilesForRole" => return vec![("RoleName", role_name(rng))],
        _ => {}
    }
    let name = format!("f{}", rng.u8(..5) / 4);
    let mut parameters = vec![("InstanceProfileName", json!(name))];
    match operation {
        "CreateInstanceProfile" => {
            parameters.extend(path(rng));
            if rng.bool() {
                parameters.push(("Tags", tags(rng)));
            }
        }
        "AddRoleToInstanceProfile" | "RemoveRoleFromInstanceProfile" => {
            parameters.push(("RoleName", role_name(rng)));
        }
        "TagInstanceProfile" => parameters.push(("Tags", tags(rng))),
        "UntagInstanceProfile" => parameters.push(("TagKeys", keys(rng))),
        _ => {}
    }
    parameters
}

fn managed(rng: &mut Rng, operation: &str) -> Parameters {
    match operation {
        "CreatePolicy" => vec![
            ("PolicyName", json!(format!("m{}", rng.u8(..6) / 5))),
            ("PolicyDocument", json!(documents::identity(rng))),
        ],
        "CreatePolicyVersion" => vec![
            ("PolicyArn", policy_arn(rng)),
            ("PolicyDocument", json!(documents::identity(rng))),
            ("SetAsDefault", json!(rng.bool())),
        ],
        "GetPolicyVersion" | "SetDefaultPolicyVersion" => {
            let version = rng.choice(["v1", "v2", "v3", "v7", "x"]);
            vec![
                ("PolicyArn", policy_arn(rng)),
                ("VersionId", json!(version)),
            ]
        }
        _ => vec![("PolicyArn", policy_arn(rng))],
    }
}

fn ecr(rng: &mut Rng, operation: &str) -> Parameters {
    match operation {
        "GetRegistryPolicy" | "DeleteRegistryPolicy" => return vec![],
        "PutRegistryPolicy" => return vec![("policyText", json!(documents::registry(rng)))],
        "DescribeRepositories" => {
            return match rng.u8(..4) {
                0 => vec![("repositoryNames", json!([repository(rng)]))],
                1 => vec![("maxResults", json!(rng.u16(..3)))],
                _ => vec![],
            };
        }
        _ => {}
    }
    let mut parameters = vec![("repositoryName", repository(rng))];
    if rng.u8(..4) == 0 && operation != "CreateRepository" {
        parameters.push((
            "registryId",
            json!(rng.choice(["{0}", "{0}", "{0}", "{1}", "1"])),
        ));
    }
    if operation == "SetRepositoryPolicy" {
        parameters.push(("policyText", json!(documents::repository(rng))));
    }
    parameters
}

fn role_name(rng: &mut Rng) -> Value {
    match rng.u8(..60) {
        0 => json!("a b"),
        1 => json!("x".repeat(65)),
        2 => json!(""),
        3 => json!("R0"),
        4..30 => json!("r0"),
        number => json!(format!("r{}", number % 3)),
    }
}

fn policy_name(rng: &mut Rng) -> Value {
    json!(rng.choice(["p0", "p0", "p0", "p1"]))
}

fn policy_arn(rng: &mut Rng) -> Value {
    let arn = match rng.u8(..10) {
        0..3 => "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly",
        3 => "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
        4 => "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryNone",
        5..9 => return json!(format!("arn:aws:iam::{{0}}:policy/m{}", rng.u8(..6) / 5)),
        _ if rng.u8(..4) > 0 => "arn:aws:iam::{0}:policy/m0",
        _ => "short",
    };
    json!(arn)
}

fn repository(rng: &mut Rng) -> Value {
    let name = match rng.u8(..30) {
        0 => "App",
        1 => "a..b",
        2 => "none",
        3..6 => "team/app",
        _ => "app",
    };
    json!(name)
}

fn path(rng: &mut Rng) -> Option<(&'static str, Value)> {
    let path = match rng.u8(..8) {
        0..3 => "/grants/",
        3 => "/",
        4 if rng.bool() => "no-slashes",
        _ => return None,
    };
    Some(("Path", json!(path)))
}

fn path_prefix(rng: &mut Rng) -> Parameters {
    match rng.u8(..4) {
        0 => vec![("PathPrefix", json!("/grants/"))],
        1 => vec![("PathPrefix", json!("/g"))],
        2 if rng.bool() => vec![("PathPrefix", json!("g"))],
        _ => vec![],
    }
}

fn tags(rng: &mut Rng) -> Value {
    let mut tags = Map::new();
    for _ in 0..rng.usize(1..4) {
        let key = rng.choice(["a", "A", "b", "registrygrants.dev/grant"]);
        let value = rng.choice([
            "",
            "x",
            "x",
            "x",
            "team-b/app",
            "team-b/app",
            "a + b",
            "a & b",
        ]);
        tags.insert(key.unwrap_or_default().into(), json!(value));
    }
    Value::Object(tags)
}

fn keys(rng: &mut Rng) -> Value {
    json!([rng.choice(["a", "A", "b", "registrygrants.dev/grant"])])
}

fn text(rng: &mut Rng) -> Value {
    json!(rng.choice(["plain", "a & <b>", "ümlaut", "two\nlines"]))
}

fn seconds(rng: &mut Rng) -> Value {
    json!(rng.choice([3600, 7200, 43_200, 60, 50_000]))
}
