//! The labels. None of them takes its values from grants or repositories: an account is one of the
//! cluster's `AWSAccount`s, the others come from the code.

use prometheus_client::encoding::EncodeLabelSet;

/// Of which AWS account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfAccount {
    /// The account's number.
    pub account: String,
}

impl From<&str> for OfAccount {
    fn from(account: &str) -> Self {
        Self {
            account: account.into(),
        }
    }
}

/// Of which task of the operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfTask {
    /// Its name.
    pub task: &'static str,
}

/// Of which account's service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfService {
    /// The account's number.
    pub account: String,
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
}

/// Of which account's region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfRegion {
    /// The account's number.
    pub account: String,
    /// The region.
    pub region: String,
}

/// Which kind of call to AWS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfOperation {
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
    /// The operation's name in the service's API.
    pub operation: String,
}

/// Calls to AWS that ended in one way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfCall {
    /// The account's number.
    pub account: String,
    /// `ecr`, `iam` or `sts`.
    pub service: &'static str,
    /// The operation's name in the service's API.
    pub operation: String,
    /// `ok`, or the kind of failure.
    pub result: &'static str,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfResult {
    /// One of the code's words.
    pub result: &'static str,
}

/// What the condition `Ready` says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfReady {
    /// `True`, `False` or `Unknown`.
    pub ready: String,
    /// Its reason.
    pub reason: String,
}

/// Which operator this is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
pub struct OfBuild {
    /// Its version.
    pub version: &'static str,
}
