//! ECR actions of each access level. Source:
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html> and the pull
//! actions documented next to it.

use crate::api::grant::Access;
use std::collections::BTreeSet;

/// Action that requests the registry token. It applies to no resource, and the identity policy of
/// the principal that requests the token must allow it.
pub const GET_TOKEN: &str = "ecr:GetAuthorizationToken";

const PULL: [&str; 3] = [
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetDownloadUrlForLayer",
];
const PUSH: [&str; 5] = [
    "ecr:CompleteLayerUpload",
    "ecr:InitiateLayerUpload",
    "ecr:ListImages",
    "ecr:PutImage",
    "ecr:UploadLayerPart",
];

/// Actions that the Lambda service itself performs to fetch a function's image. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policy-examples.html>.
const LAMBDA: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// Returns the repository actions that an access level allows.
pub fn of(access: Access) -> BTreeSet<String> {
    let push: &[&str] = match access {
        Access::Pull => &[],
        Access::PullPush => &PUSH,
    };
    PULL.iter()
        .chain(push)
        .map(|&action| action.to_owned())
        .collect()
}

/// Returns the repository actions that the Lambda service needs.
pub fn of_lambda() -> BTreeSet<String> {
    LAMBDA.map(String::from).into()
}
