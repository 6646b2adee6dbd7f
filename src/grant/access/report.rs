//! Combines the findings on the calls of one path into one verdict and one text.

use crate::api::grant::AccessVerdict;
use crate::policy::evaluate::{ButFor, Link, NearMiss, Request, Verdict};
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

#[derive(Debug, Default)]
struct Missing {
    who: String,
    calls: BTreeSet<String>,
    on: BTreeSet<String>,
}

/// Maximum number of links and names in a text. People fix the first ones and check again.
const TOLD: usize = 3;

impl Findings {
    /// Records the verdict on one call.
    ///
    /// `unread`: the reasons why policies that others share could not be read. If a shared policy
    /// has a statement that is not understood, the statement is foreign and is not quoted.
    pub fn note(
        &mut self,
        who: &str,
        request: &Request,
        repository: Option<&str>,
        verdict: &Verdict,
        unread: &[String],
    ) {
        match verdict {
            Verdict::Allowed => {}
            Verdict::Depends(keys) => self.depends.extend(keys.iter().cloned()),
            Verdict::Unknown(why) => self.unknown.extend(why.iter().map(|why| told(why, unread))),
            Verdict::Denied(links) => links.iter().for_each(|link| {
                let why = why(request, repository.is_some(), link);
                let key = format!("{who} {why}");
                if !self.missing.contains_key(&key) {
                    self.order.push(key.clone());
                }
                let missing = self.missing.entry(key).or_default();
                missing.who = who.to_owned();
                missing.calls.insert(request.action.clone());
                missing.on.extend(repository.map(|name| name.to_owned()));
            }),
        }
    }

    /// Records a missing link, in words.
    pub fn denied(&mut self, why: String) {
        self.order.push(why.clone());
        self.missing.insert(why, Missing::default());
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
    pub fn told(self) -> (AccessVerdict, Option<String>) {
        if !self.order.is_empty() {
            let texts: Vec<String> = self
                .order
                .iter()
                .take(TOLD)
                .filter_map(|key| self.text(key))
                .collect();
            let more = self.order.len().saturating_sub(TOLD);
            let more = if more > 0 {
                format!("; and {more} more")
            } else {
                String::new()
            };
            return (
                AccessVerdict::Denied,
                Some(format!("{}{more}", texts.join("; "))),
            );
        }
        let joined = |texts: &BTreeSet<String>| {
            texts
                .iter()
                .take(TOLD)
                .cloned()
                .collect::<Vec<_>>()
                .join("; ")
        };
        match (self.unknown.is_empty(), self.depends.is_empty()) {
            (false, _) => (AccessVerdict::Unknown, Some(joined(&self.unknown))),
            (true, false) => (
                AccessVerdict::Depends,
                Some(format!("depends on {}", joined(&self.depends))),
            ),
            (true, true) => (AccessVerdict::Allowed, None),
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
fn told(why: &str, unread: &[String]) -> String {
    let shared = ["the policy of repository", "the registry's own policy"]
        .into_iter()
        .find(|name| why.starts_with(name));
    match shared {
        Some(name) if !unread.iter().any(|known| known == why) => {
            format!("a statement of {name} is not understood")
        }
        Some(_) | None => why.to_owned(),
    }
}

fn some_of(names: &BTreeSet<String>) -> String {
    let first: Vec<&str> = names.iter().take(TOLD).map(String::as_str).collect();
    match names.len().saturating_sub(TOLD) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
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
                "the trust policy of role {} does not let it in{}",
                request.resource,
                nearly(near, true)
            )
        }
        Link::ExplicitDeny { policy, statement } => {
            format!("statement {statement} of {policy} denies it")
        }
    }
}

fn nearly(near: &[NearMiss], own: bool) -> String {
    let told = near.iter().filter_map(|NearMiss { policy: _, statement, but_for }| match but_for {
        ButFor::Condition { operator, key, .. } if own => {
            Some(format!("statement {statement} would, but for its condition {operator} {key}"))
        }
        ButFor::Stale { unique_id } if own => Some(format!(
            "statement {statement} names {unique_id}, the ID of a principal that was deleted: one of the same name that is made anew has another"
        )),
        ButFor::OtherPath { named } if own => Some(format!("statement {statement} names {named}, which has another path")),
        ButFor::Condition { .. } | ButFor::Stale { .. } | ButFor::OtherPath { .. } | ButFor::Resource { .. } => None,
    });
    let told: BTreeSet<String> = told.collect();
    if told.is_empty() {
        String::new()
    } else {
        format!(" ({})", some_of(&told))
    }
}
