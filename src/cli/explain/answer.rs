//! What a verdict depends on, and the verdict.

use crate::grant::access::Holder;
use crate::policy::evaluate::{Named, Verdict};

/// Everything that a verdict depends on.
pub struct AccessInputs {
    /// The principal that calls.
    pub principal: Holder,
    /// The role that the principal assumes first, if one was named.
    pub role: Option<Holder>,
    /// The repository policy and the registry policy.
    pub registry: Vec<Named>,
}

/// One call with its verdict.
pub struct Call {
    pub who: String,
    pub action: String,
    pub resource: String,
    pub verdict: Verdict,
}

/// The verdict on all calls. The worst call decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whole {
    Allowed,
    Depends,
    Unknown,
    Denied,
}
