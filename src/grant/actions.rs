//! The ECR actions that an access stands for. Source:
//! <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html> and the pull
//! actions beside it.

use crate::api::grant::Access;
use std::collections::BTreeSet;

/// The registry token: its own action without resource, needed in the identity policy of whoever
/// asks for the token.
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

/// What the Lambda service does by itself to fetch a function's image. Source:
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policy-examples.html>.
const LAMBDA: [&str; 2] = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"];

/// The actions on repositories that an access allows.
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

/// The actions on repositories that the Lambda service needs.
pub fn of_lambda() -> BTreeSet<String> {
    LAMBDA.map(String::from).into()
}
