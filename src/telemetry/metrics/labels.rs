//! The label sets. No label takes its values from grants or repositories: an account is one of the
//! cluster's `AWSAccount`s, and the other values come from the code.

use prometheus_client::encoding::EncodeLabelSet;

/// Labels of a metric of an AWS account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfAccount {
    /// The account's ID.
    pub account: String,
}

impl From<&str> for OfAccount {
    fn from(account: &str) -> Self {
        Self {
            account: account.into(),
        }
    }
}

/// Labels of a metric of one of the operator's tasks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfTask {
    /// The task's name.
    pub task: &'static str,
}

/// Labels of a metric of a service in an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfService {
    /// The account's ID.
    pub account: String,
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
}

/// Labels of a metric of a region in an account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfRegion {
    /// The account's ID.
    pub account: String,
    /// The region.
    pub region: String,
}

/// Labels of a metric of an AWS operation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfOperation {
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
    /// The operation's name in the service's API.
    pub operation: String,
}

/// Labels of a metric of calls to AWS with one result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfCall {
    /// The account's ID.
    pub account: String,
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
    /// The operation's name in the service's API.
    pub operation: String,
    /// `ok`, or the kind of failure.
    pub result: &'static str,
}

/// Labels of a metric of reconciles with one result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfResult {
    /// `ready`, `not_ready`, `suspended`, `gone` or `error`.
    pub result: &'static str,
}

/// Labels of a metric of grants with one state of the condition `Ready`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfReady {
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// The condition's reason.
    pub reason: String,
}

/// Labels of the operator's build.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfBuild {
    /// The operator's version.
    pub version: &'static str,
}
