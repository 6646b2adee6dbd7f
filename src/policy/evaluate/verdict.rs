//! The result of an evaluation and its reasons, in words for people.

use crate::text::list_some;
use std::collections::BTreeSet;
use std::fmt;

/// The decision of the policies on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request is allowed.
    Allowed,
    /// The request is denied. Contains every statement that denies it and every allow that is
    /// missing; never empty.
    Denied(Vec<Link>),
    /// The decision depends on these condition keys, whose values are unknown. If a policy names a
    /// session, or a unique ID that could be the principal's, that is listed in words.
    Depends(BTreeSet<String>),
    /// The decision depends on these policies, which could not be read or contain parts that are
    /// not understood, with the reason. Other unknowns are not listed.
    Unknown(Vec<String>),
}

/// An obstacle between a principal and the requested access.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Link {
    /// None of the identity's policies allows the request.
    NoIdentityAllow {
        /// Statements that nearly allow it.
        near: Vec<NearMiss>,
    },
    /// The resource's policy does not allow the request. In the resource's own account, where an
    /// allow on the identity is sufficient, this is listed only if the policy nearly allows it.
    NoResourceAllow {
        /// Statements that nearly allow it.
        near: Vec<NearMiss>,
    },
    /// The permissions boundary does not allow the request.
    NoBoundaryAllow {
        /// Statements that nearly allow it.
        near: Vec<NearMiss>,
    },
    /// A statement denies the request.
    ExplicitDeny {
        /// The policy's name.
        policy: String,
        /// The Sid, or the statement's position in the policy, from 1.
        statement: String,
    },
}

/// An allow that would apply except for one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NearMiss {
    /// The policy's name.
    pub policy: String,
    /// The Sid, or the statement's position in the policy, from 1.
    pub statement: String,
    /// The obstacle.
    pub but_for: ButFor,
}

/// The obstacle to an allow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ButFor {
    /// One condition.
    Condition {
        /// The operator, as written in the policy.
        operator: String,
        /// The key, as written in the policy.
        key: String,
        /// The values that the policy names.
        wanted: Vec<String>,
        /// The request's values; `None` if the key is not in the request.
        actual: Option<Vec<String>>,
    },
    /// The policy names the unique ID of another role or user, usually of a deleted one with the
    /// same name.
    Stale {
        /// The ID.
        unique_id: String,
    },
    /// The policy names a principal of the same account and name with another path.
    OtherPath {
        /// Its ARN.
        named: String,
    },
    /// The statement applies to other resources.
    Resource {
        /// The resources that it names, in `Resource` or `NotResource`.
        wanted: Vec<String>,
    },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(links) => {
                let texts: Vec<String> = links.iter().map(Link::to_string).collect();
                write!(f, "denied: {}", texts.join("; "))
            }
            Self::Depends(keys) => write!(f, "depends on {}", list(keys)),
            Self::Unknown(why) => write!(f, "not known: {}", why.join("; ")),
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
                let texts: Vec<String> = near.iter().map(NearMiss::to_string).collect();
                write!(f, " ({})", texts.join("; "))
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
                    "would allow it except for {operator} {key}: it requires {}, ",
                    list(wanted)
                )?;
                match actual {
                    Some(actual) => write!(f, "and the request has {}", list(actual)),
                    None => f.write_str("and the request has none"),
                }
            }
            Self::Stale { unique_id } => write!(
                f,
                "names {unique_id}, another or a deleted principal's unique ID"
            ),
            Self::OtherPath { named } => write!(f, "names {named}, which has another path"),
            Self::Resource { wanted } => write!(f, "applies to other resources: {}", list(wanted)),
        }
    }
}

/// Lists values in words, but no more of them than people read.
fn list<'a>(values: impl IntoIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 5;
    let mut values = values.into_iter().peekable();
    if values.peek().is_none() {
        return "nothing".into();
    }
    list_some(values, SHOWN, ", ", |more| format!(" and {more} more"))
}
