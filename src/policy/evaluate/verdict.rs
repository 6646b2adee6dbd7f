//! What comes of an evaluation, and why, in words for people.

use std::collections::BTreeSet;
use std::fmt;

/// What the policies say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is allowed.
    Allowed,
    /// It is denied: everything that denies it, and every allow that is missing. Never empty.
    Denied(Vec<Link>),
    /// It hangs on these condition keys, whose values are not known. Where a policy names a
    /// session, or a unique ID that could be the principal's, that is listed in words.
    Depends(BTreeSet<String>),
    /// It hangs on these policies, which could not be read or hold what is not understood, with the
    /// reason. What else it hangs on is not told.
    Unknown(Vec<String>),
}

/// Something that stands between a principal and what it asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// None of the identity's policies allows it.
    NoIdentityAllow {
        /// Statements that nearly do.
        near: Vec<NearMiss>,
    },
    /// The resource's policy does not allow it. In the resource's own account, where the identity's
    /// allow would do as well, it is only listed if it nearly does.
    NoResourceAllow {
        /// Statements that nearly do.
        near: Vec<NearMiss>,
    },
    /// The permissions boundary does not allow it.
    NoBoundaryAllow {
        /// Statements that nearly do.
        near: Vec<NearMiss>,
    },
    /// A statement denies it.
    ExplicitDeny {
        /// The policy's name.
        policy: String,
        /// The Sid, or the statement's position in the policy, from 1.
        statement: String,
    },
}

/// An allow that would apply but for one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearMiss {
    /// The policy's name.
    pub policy: String,
    /// The Sid, or the statement's position in the policy, from 1.
    pub statement: String,
    /// What is in the way.
    pub but_for: ButFor,
}

/// What is in the way of an allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ButFor {
    /// One condition.
    Condition {
        /// The operator, as it is written.
        operator: String,
        /// The key, as it is written.
        key: String,
        /// The values that the policy names.
        wanted: Vec<String>,
        /// The request's values; none where the key is not in the request.
        actual: Option<Vec<String>>,
    },
    /// The policy names the unique ID of a role or user that is not the principal: mostly of one of
    /// the same name that was deleted.
    Stale {
        /// The ID.
        unique_id: String,
    },
    /// The policy names a principal of the same account and name with another path.
    OtherPath {
        /// Its ARN.
        named: String,
    },
    /// The statement is about other resources.
    Resource {
        /// What it names, by `Resource` or `NotResource`.
        wanted: Vec<String>,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |parts: Vec<String>| parts.join("; ");
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(links) => write!(
                f,
                "denied: {}",
                joined(links.iter().map(Link::to_string).collect())
            ),
            Self::Depends(keys) => write!(f, "depends on {}", list(keys)),
            Self::Unknown(why) => write!(f, "not known: {}", joined(why.clone())),
        }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, near) = match self {
            Self::NoIdentityAllow { near } => ("no policy of the principal allows it", near),
            Self::NoResourceAllow { near } => ("the resource's policy does not allow it", near),
            Self::NoBoundaryAllow { near } => ("the permissions boundary does not allow it", near),
            Self::ExplicitDeny { policy, statement } => {
                return write!(f, "statement {statement} of {policy} denies it");
            }
        };
        f.write_str(what)?;
        match near.as_slice() {
            [] => Ok(()),
            near => {
                let near: Vec<String> = near.iter().map(NearMiss::to_string).collect();
                write!(f, " ({})", near.join("; "))
            }
        }
    }
}

impl fmt::Display for NearMiss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "statement {} of {} {}",
            self.statement, self.policy, self.but_for
        )
    }
}

impl fmt::Display for ButFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Condition {
                operator,
                key,
                wanted,
                actual,
            } => {
                write!(
                    f,
                    "would, but for {operator} {key}: it wants {}, ",
                    list(wanted)
                )?;
                match actual {
                    Some(actual) => write!(f, "and is given {}", list(actual)),
                    None => f.write_str("and the request has none"),
                }
            }
            Self::Stale { unique_id } => write!(
                f,
                "names {unique_id}, another or a deleted principal's unique ID"
            ),
            Self::OtherPath { named } => write!(f, "names {named}, which has another path"),
            Self::Resource { wanted } => write!(f, "is about other resources: {}", list(wanted)),
        }
    }
}

/// Values in words, not more of them than people read.
fn list<'a>(values: impl IntoIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 5;
    let all: Vec<&str> = values.into_iter().map(String::as_str).collect();
    match all.as_slice() {
        [] => "nothing".into(),
        few if few.len() <= SHOWN => few.join(", "),
        many => format!(
            "{} and {} more",
            many[..SHOWN].join(", "),
            many.len() - SHOWN
        ),
    }
}
