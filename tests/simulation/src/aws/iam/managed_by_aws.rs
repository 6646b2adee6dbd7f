//! AWS's own managed policies for ECR. Their documents are those of the AWS managed policy
//! reference, as the emulation states them.

use super::super::documents::Policy;
use super::super::entities::{ManagedPolicy, PolicyVersion, Tags};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::LazyLock;

const PULL: [&str; 12] = [
    "ecr:GetAuthorizationToken",
    "ecr:BatchCheckLayerAvailability",
    "ecr:GetDownloadUrlForLayer",
    "ecr:GetRepositoryPolicy",
    "ecr:DescribeRepositories",
    "ecr:ListImages",
    "ecr:DescribeImages",
    "ecr:BatchGetImage",
    "ecr:GetLifecyclePolicy",
    "ecr:GetLifecyclePolicyPreview",
    "ecr:ListTagsForResource",
    "ecr:DescribeImageScanFindings",
];

const PUSH: [&str; 4] = [
    "ecr:InitiateLayerUpload",
    "ecr:UploadLayerPart",
    "ecr:CompleteLayerUpload",
    "ecr:PutImage",
];

const PULL_ONLY: [&str; 4] = [
    "ecr:GetAuthorizationToken",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
    "ecr:BatchImportUpstreamImage",
];

static POLICIES: LazyLock<BTreeMap<String, Arc<ManagedPolicy>>> = LazyLock::new(|| {
    let push_and_pull = [&PULL[..], &PUSH[..]].concat();
    let all = [
        ("PullOnly", &PULL_ONLY[..], 1),
        ("ReadOnly", &PULL[..], 3),
        ("PowerUser", &push_and_pull[..], 3),
        ("FullAccess", &["ecr:*", "cloudtrail:LookupEvents"][..], 1),
    ];
    all.into_iter()
        .map(|(name, actions, version)| policy(name, actions, version))
        .map(|policy| (policy.name.clone(), Arc::new(policy)))
        .collect()
});

fn policy(name: &str, actions: &[&str], default: u32) -> ManagedPolicy {
    let statement = json!({"Effect": "Allow", "Action": actions, "Resource": "*"});
    let document = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
    let version = PolicyVersion {
        document: Policy::planted(&document),
        created: Timestamp::UNIX_EPOCH,
    };
    let name = format!("AmazonEC2ContainerRegistry{name}");
    ManagedPolicy {
        path: "/".into(),
        arn: String::new(),
        id: format!("ANPA{:0>17}", name.len()),
        created: Timestamp::UNIX_EPOCH,
        updated: Timestamp::UNIX_EPOCH,
        description: String::new(),
        versions: [(default, version)].into(),
        default,
        next: default + 1,
        tags: Tags::new(),
        name,
    }
}

/// Returns the policy with this ARN in a partition.
pub(super) fn find(partition: &str, arn: &str) -> Option<Arc<ManagedPolicy>> {
    let name = arn.strip_prefix(&prefix(partition))?;
    let policy = POLICIES.get(name)?;
    let arn = arn.to_owned();
    Some(Arc::new(ManagedPolicy {
        arn,
        ..ManagedPolicy::clone(policy)
    }))
}

/// Returns all of them in a partition.
pub(super) fn all(partition: &str) -> impl Iterator<Item = Arc<ManagedPolicy>> {
    let prefix = prefix(partition);
    POLICIES.values().map(move |policy| {
        Arc::new(ManagedPolicy {
            arn: format!("{prefix}{}", policy.name),
            ..ManagedPolicy::clone(policy)
        })
    })
}

/// Returns whether an ARN is one of AWS's policies.
pub(super) fn is_of_aws(arn: &str) -> bool {
    arn.split(':').nth(4) == Some("aws")
}

fn prefix(partition: &str) -> String {
    format!("arn:{partition}:iam::aws:policy/")
}
