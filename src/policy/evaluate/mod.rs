//! What policies say to a request: IAM's evaluation, as far as it is documented. Pure, like all of
//! the policy library; what the world's state is, the caller says.
//!
//! - `request`: who asks for what, and what is known beside. Not everything is: a verdict may hang
//!   on a condition key.
//! - `verdict`: what comes of it, and why.
//! - `statement`: whether one statement applies: its action, resource, principal and conditions.
//! - `principal`, `condition`, `operator`, `pattern`, `value`: the parts of a statement.
//! - `ternary`: yes, no, or what it depends on.
//! - `near_miss`: which allows nearly apply.
//!
//! Not looked at: organizations' policies (SCPs, RCPs), session policies and VPC endpoints'
//! policies, which can only take access away, and what a service checks beside the policies.
//!
//! Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>.

mod condition;
mod near_miss;
mod operator;
mod pattern;
mod principal;
mod request;
mod statement;
mod ternary;
mod value;
mod verdict;

pub use request::{Principal, PrincipalKind, Request, RequestContext};
pub use verdict::{ButFor, Link, NearMiss, Verdict};

use super::document::{Document, ParseError};
use near_miss::near_misses;
use principal::Names;
use statement::{Effect, Question, Rule, Side, rules};
use std::sync::Arc;
use ternary::{Open, Ternary};

/// A policy that was read: where it hangs, and what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Where it hangs, for people: it is repeated in the verdict.
    pub name: String,
    /// What it says, or why it could not be read; then what rests on it is not known.
    /// Shared: one policy goes into the decisions on many requests.
    pub document: Result<Arc<Document>, String>,
}

impl Named {
    /// A policy that was read.
    pub fn new(name: impl Into<String>, document: impl Into<Arc<Document>>) -> Self {
        Self {
            name: name.into(),
            document: Ok(document.into()),
        }
    }

    /// A policy as it was parsed, or why it could not be.
    pub fn parsed(name: impl Into<String>, document: Result<Document, ParseError>) -> Self {
        Self {
            name: name.into(),
            document: document
                .map(Arc::new)
                .map_err(|error| format!("it cannot be read ({error})")),
        }
    }

    /// A policy that could not be read.
    pub fn unreadable(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            document: Err(why.into()),
        }
    }
}

/// All policies that a request is decided by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The identity's own: inline, attached, and for a user those of its groups.
    pub identity: Vec<Named>,
    /// The identity's permissions boundary.
    pub boundary: Option<Named>,
    /// The resource's: repository policy and registry policy, or the role's trust policy.
    pub resource: Vec<Named>,
}

/// Decides a request.
pub fn evaluate(request: &Request, policies: &Policies) -> Verdict {
    let question = Question {
        request,
        facts: request.facts(),
        bounded: policies.boundary.is_some(),
    };
    let boundary: Vec<&Named> = policies.boundary.iter().collect();
    let sides = Sides {
        identity: weigh(
            policies.identity.iter(),
            Side::Identity,
            Effect::Allow,
            &question,
        )
        .any(),
        boundary: match policies.boundary {
            Some(_) => weigh(
                boundary.iter().copied(),
                Side::Identity,
                Effect::Allow,
                &question,
            )
            .any(),
            None => Ternary::Yes,
        },
        resource: weigh(
            policies.resource.iter(),
            Side::Resource,
            Effect::Allow,
            &question,
        ),
    };
    let on_identity = policies.identity.iter().chain(&policies.boundary);
    let denied = weigh(on_identity, Side::Identity, Effect::Deny, &question).any();
    let denied = denied.or(weigh(
        policies.resource.iter(),
        Side::Resource,
        Effect::Deny,
        &question,
    )
    .any());
    match granted(&question, &sides).and(denied.not()) {
        Ternary::Yes => Verdict::Allowed,
        Ternary::Open(Open { keys, unread }) if unread.is_empty() => Verdict::Depends(keys),
        Ternary::Open(Open { unread, .. }) => Verdict::Unknown(unread.into_iter().collect()),
        Ternary::No => Verdict::Denied(links(&question, &sides, policies)),
    }
}

/// What each side allows.
struct Sides {
    identity: Ternary,
    /// Yes, where there is none.
    boundary: Ternary,
    resource: Names,
}

/// How the principal stands to the resource, which decides whose allow it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A service: there is no identity's policy.
    Service,
    /// Of another account: it takes both.
    Foreign,
    /// Of the same account: one is enough.
    Own,
    /// Of the same account, and the resource is a role, whose trust policy must allow in any case.
    OwnTrust,
}

impl Standing {
    fn of(request: &Request) -> Self {
        let role = request
            .resource
            .splitn(6, ':')
            .nth(5)
            .is_some_and(|resource| resource.starts_with("role/"));
        let assumes = request
            .action
            .get(..4)
            .is_some_and(|service| service.eq_ignore_ascii_case("sts:"));
        match &request.principal.account {
            _ if request.principal.kind == PrincipalKind::Service => Self::Service,
            Some(account) if *account != request.resource_account => Self::Foreign,
            None => Self::Foreign,
            Some(_) if role && assumes => Self::OwnTrust,
            Some(_) => Self::Own,
        }
    }
}

/// Whether the allows there are suffice.
///
/// A permissions boundary limits what the identity's policies allow, and what a resource's policy
/// allows to the role itself; what that allows to a user, to a session, or to everybody, in the
/// same account, it does not limit. Source:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html#access_policies_boundaries-eval-logic>.
fn granted(question: &Question, sides: &Sides) -> Ternary {
    let Sides {
        identity,
        boundary,
        resource,
    } = sides;
    let principal = &question.request.principal;
    // An account's root may do in its account whatever is not denied.
    let root = principal.kind == PrincipalKind::Root;
    let by_identity = if root {
        Ternary::Yes
    } else {
        identity.clone().and(boundary.clone())
    };
    let limit = if principal.kind == PrincipalKind::Role {
        boundary.clone()
    } else {
        Ternary::Yes
    };
    let directly = Ternary::any([
        resource.itself.clone().and(limit),
        resource.session.clone(),
        resource.everybody.clone(),
    ]);
    match Standing::of(question.request) {
        Standing::Service => resource.any(),
        Standing::Foreign => resource.any().and(by_identity),
        Standing::Own => directly.or(by_identity),
        Standing::OwnTrust => directly.or(resource.account.clone().and(by_identity)),
    }
}

/// In which ways the principal is meant by statements of this effect, all policies together.
fn weigh<'a>(
    policies: impl Iterator<Item = &'a Named>,
    side: Side,
    effect: Effect,
    question: &Question,
) -> Names {
    let mut found = Names::NOBODY;
    for Named { name, document } in policies {
        match document {
            Err(why) => {
                let unread = Ternary::unread(format!("{name}: {why}"));
                found = found.join(Names {
                    everybody: unread,
                    ..Names::NOBODY
                });
            }
            Ok(document) => {
                for rule in rules(name, document, side) {
                    found = found.join(rule.applies(effect, question));
                }
            }
        }
    }
    found
}

/// What denies, and what is missing.
fn links(question: &Question, sides: &Sides, policies: &Policies) -> Vec<Link> {
    let Policies {
        identity,
        boundary,
        resource,
    } = policies;
    let identity_rules = || all_rules(identity, Side::Identity);
    let boundary_rules = || all_rules(boundary, Side::Identity);
    let resource_rules = || all_rules(resource, Side::Resource);
    let denying = identity_rules()
        .chain(boundary_rules())
        .chain(resource_rules());
    let denying = denying.filter(|rule| rule.applies(Effect::Deny, question).any() == Ternary::Yes);
    let mut links: Vec<Link> = denying
        .map(|rule| Link::ExplicitDeny {
            policy: rule.policy.to_owned(),
            statement: rule.label,
        })
        .collect();
    if !granted(question, sides).is_no() {
        return links;
    }
    let no_identity = || Link::NoIdentityAllow {
        near: near_misses(identity_rules(), question),
    };
    let no_boundary = || Link::NoBoundaryAllow {
        near: near_misses(boundary_rules(), question),
    };
    let no_resource = || Link::NoResourceAllow {
        near: near_misses(resource_rules(), question),
    };
    let root = question.request.principal.kind == PrincipalKind::Root;
    let lacks_identity = !root && sides.identity.is_no();
    let lacks_boundary = !root && sides.boundary.is_no();
    let lacks_resource = sides.resource.any().is_no();
    match Standing::of(question.request) {
        Standing::Service => links.push(no_resource()),
        Standing::Foreign => {
            links.extend(lacks_identity.then(no_identity));
            links.extend(lacks_boundary.then(no_boundary));
            links.extend(lacks_resource.then(no_resource));
        }
        Standing::Own | Standing::OwnTrust if !sides.resource.itself.is_no() => {
            links.push(no_boundary())
        }
        Standing::Own => {
            links.extend(lacks_identity.then(no_identity));
            links.extend(lacks_boundary.then(no_boundary));
            let nearly = no_resource();
            links.extend(
                matches!(&nearly, Link::NoResourceAllow { near } if !near.is_empty())
                    .then_some(nearly),
            );
        }
        Standing::OwnTrust if lacks_resource => links.push(no_resource()),
        Standing::OwnTrust => {
            links.extend(lacks_identity.then(no_identity));
            links.extend(lacks_boundary.then(no_boundary));
        }
    }
    links
}

fn all_rules<'a>(
    policies: impl IntoIterator<Item = &'a Named>,
    side: Side,
) -> impl Iterator<Item = Rule<'a>> {
    let readable = policies
        .into_iter()
        .filter_map(|policy| Some((&policy.name, policy.document.as_ref().ok()?)));
    readable.flat_map(move |(name, document)| rules(name, document, side))
}
