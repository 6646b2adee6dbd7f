//! Combines the findings on the calls of one path into one verdict and one text.

use crate::api::grant::AccessVerdict;
use crate::policy::evaluate::{ButFor, Link, NearMiss, Request, Verdict};
use crate::text::list_some;
use std::collections::{BTreeMap, BTreeSet};

/// Findings on the calls of one path.
#[derive(Debug, Default)]
pub struct Findings {
    /// Missing links: the principal and the reason, with the calls and repositories concerned.
    /// `order` lists them in the order in which they were found.
    missing: BTreeMap<String, Missing>,
    order: Vec<String>,
    unknown: BTreeSet<String>,
    depends: BTreeSet<String>,
}

/// Call that a client makes.
#[derive(Clone, Copy)]
pub struct JudgedCall<'a> {
    /// The principal that makes the call.
    pub who: &'a str,
    /// The request.
    pub request: &'a Request,
    /// The repository that the call is on, whose policy others share.
    pub repository: Option<&'a str>,
}

#[derive(Debug, Default)]
struct Missing {
    who: String,
    calls: BTreeSet<String>,
    on: BTreeSet<String>,
}

/// Maximum number of links and names in a text. People fix the first ones and check again.
const LISTED: usize = 3;

impl Findings {
    /// Records the verdict on one call.
    ///
    /// `unread`: the reasons why policies that others share could not be read. If a shared policy
    /// has a statement that is not understood, the statement is foreign and is not quoted.
    pub fn note(&mut self, call: &JudgedCall<'_>, verdict: &Verdict, unread: &[String]) {
        match verdict {
            Verdict::Allowed => {}
            Verdict::Depends(keys) => self.depends.extend(keys.iter().cloned()),
            Verdict::Unknown(why) => self
                .unknown
                .extend(why.iter().map(|why| disclosable(why, unread))),
            Verdict::Denied(links) => {
                for link in links {
                    self.note_missing(call, link);
                }
            }
        }
    }

    fn note_missing(&mut self, call: &JudgedCall<'_>, link: &Link) {
        let JudgedCall {
            who,
            request,
            repository,
        } = call;
        let why = why(request, repository.is_some(), link);
        let missing = self.missing(format!("{who} {why}"));
        missing.who = (*who).to_owned();
        missing.calls.insert(request.action.clone());
        missing.on.extend(repository.map(str::to_owned));
    }

    /// Records a missing link, in words.
    pub fn denied(&mut self, why: String) {
        self.missing(why);
    }

    /// Returns the missing link of this key, which counts once.
    fn missing(&mut self, key: String) -> &mut Missing {
        if !self.missing.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.missing.entry(key).or_default()
    }

    /// Records what could not be read, in words.
    pub fn unknown(&mut self, why: String) {
        self.unknown.insert(why);
    }

    /// Records what access depends on, in words.
    pub fn depends(&mut self, on: String) {
        self.depends.insert(on);
    }

    /// Returns the verdict, with a text unless access is allowed.
    pub fn verdict(self) -> (AccessVerdict, Option<String>) {
        if !self.order.is_empty() {
            let texts = self.order.iter().filter_map(|key| self.text(key));
            let text = list_some(texts, LISTED, "; ", |more| format!("; and {more} more"));
            (AccessVerdict::Denied, Some(text))
        } else if !self.unknown.is_empty() {
            (AccessVerdict::Unknown, Some(first_of(&self.unknown)))
        } else if !self.depends.is_empty() {
            let text = format!("depends on {}", first_of(&self.depends));
            (AccessVerdict::Depends, Some(text))
        } else {
            (AccessVerdict::Allowed, None)
        }
    }

    fn text(&self, key: &str) -> Option<String> {
        let Missing { who, calls, on } = self.missing.get(key)?;
        if who.is_empty() {
            return Some(key.to_owned());
        }
        let why = key.strip_prefix(who.as_str()).unwrap_or(key).trim_start();
        let calls = some_of(calls);
        let on = if on.is_empty() {
            String::new()
        } else {
            format!(" on {}", some_of(on))
        };
        Some(format!("{who} lacks {calls}{on}: {why}"))
    }
}

/// Describes what could not be read or understood, limited to what tenants may know.
fn disclosable(why: &str, unread: &[String]) -> String {
    let shared = ["the policy of repository", "the registry's own policy"]
        .into_iter()
        .find(|name| why.starts_with(name));
    match shared {
        Some(name) if !unread.iter().any(|known| known == why) => {
            format!("the operator cannot evaluate a statement of {name}")
        }
        Some(_) | None => why.to_owned(),
    }
}

fn some_of(names: &BTreeSet<String>) -> String {
    list_some(names, LISTED, ", ", |more| format!(" and {more} more"))
}

/// Returns the first texts, without the number of the others.
fn first_of(texts: &BTreeSet<String>) -> String {
    list_some(texts, LISTED, "; ", |_| String::new())
}

/// Explains which link is missing, and where. `shared`: the resource's policy is shared with
/// others, whose statements are not disclosed to this grant.
fn why(request: &Request, shared: bool, link: &Link) -> String {
    let account = request.principal.account.as_deref().unwrap_or_default();
    match link {
        Link::NoIdentityAllow { near } => {
            format!(
                "no policy of the role allows it in account {account}{}",
                nearly(near, true)
            )
        }
        Link::NoBoundaryAllow { near } => {
            format!(
                "the role's permissions boundary in account {account} does not allow it{}",
                nearly(near, true)
            )
        }
        Link::NoResourceAllow { near } if shared => {
            format!(
                "the repository's policy in account {} does not allow it{}",
                request.resource_account,
                nearly(near, false)
            )
        }
        Link::NoResourceAllow { near } => {
            format!(
                "the trust policy of role {} does not allow it{}",
                request.resource,
                nearly(near, true)
            )
        }
        Link::ExplicitDeny { policy, statement } => {
            format!("statement {statement} of {policy} denies it")
        }
    }
}

/// Describes in brackets the statements that nearly allow it. `own`: their texts may be disclosed.
fn nearly(near: &[NearMiss], own: bool) -> String {
    if !own {
        return String::new();
    }
    let misses: BTreeSet<String> = near.iter().filter_map(near_miss).collect();
    if misses.is_empty() {
        String::new()
    } else {
        format!(" ({})", some_of(&misses))
    }
}

fn near_miss(near: &NearMiss) -> Option<String> {
    let NearMiss {
        policy: _,
        statement,
        but_for,
    } = near;
    match but_for {
        ButFor::Condition { operator, key, .. } => Some(format!(
            "statement {statement} would allow it except for its condition {operator} {key}"
        )),
        ButFor::Stale { unique_id } => Some(format!(
            "statement {statement} names {unique_id}, the unique ID of a deleted principal: a new principal of the same name has another ID"
        )),
        ButFor::OtherPath { named } => Some(format!(
            "statement {statement} names {named}, which has another path"
        )),
        ButFor::Resource { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_recorded_twice_is_reported_once() {
        let mut findings = Findings::default();
        for _ in 0..2 {
            findings.denied("role a does not exist".into());
        }
        let reported = (AccessVerdict::Denied, Some("role a does not exist".into()));
        assert_eq!(findings.verdict(), reported);
    }
}
