//! Evaluates policies for a request: IAM's evaluation logic, as far as it is documented. Pure, like
//! the entire policy library; the caller provides the state of the world.
//!
//! - `request`: the principal, action and resource of a request, and its known context. The context
//!   may be incomplete, so a verdict may depend on a condition key.
//! - `verdict`: the result of an evaluation, and its reasons.
//! - `statement`: decides whether one statement applies: its action, resource, principal and
//!   conditions.
//! - `principal`, `condition`, `operator`, `pattern`, `value`: the parts of a statement.
//! - `ternary`: yes, no, or unknown, with the causes.
//! - `near_miss`: finds allows that nearly apply.
//!
//! Not evaluated: the policies of organizations (SCPs, RCPs), session policies and policies of VPC
//! endpoints, which can only remove access, and checks that a service makes in addition to
//! policies.
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

use super::arn::Arn;
use super::document::Document;
use super::parse_error::ParseError;
use near_miss::near_misses;
use principal::Names;
use statement::{Effect, Question, Rule, Side, rules};
use std::sync::Arc;
use ternary::{Causes, Ternary};

/// A policy with a name that says where it is attached.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Where the policy is attached, for people; repeated in the verdict.
    pub name: String,
    /// The document, or the reason why it could not be read. In that case, everything that depends
    /// on it is unknown. Shared, because one policy is used in decisions on many requests.
    pub document: Result<Arc<Document>, String>,
}

impl Named {
    /// Creates a policy from a document that was read.
    pub fn new(name: impl Into<String>, document: impl Into<Arc<Document>>) -> Self {
        Self {
            name: name.into(),
            document: Ok(document.into()),
        }
    }

    /// Creates a policy from the result of parsing it.
    pub fn parsed(name: impl Into<String>, document: Result<Document, ParseError>) -> Self {
        Self {
            name: name.into(),
            document: document
                .map(Arc::new)
                .map_err(|error| format!("it cannot be read ({error})")),
        }
    }

    /// Creates a policy that could not be read.
    pub fn unreadable(name: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            document: Err(why.into()),
        }
    }
}

/// All policies that decide a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// The identity's policies: inline, attached, and for a user those of its groups.
    pub identity: Vec<Named>,
    /// The identity's permissions boundary.
    pub boundary: Option<Named>,
    /// The resource's policies: repository policy and registry policy, or the role's trust policy.
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
    let on_resource = policies.resource.iter();
    let denied = weigh(on_identity, Side::Identity, Effect::Deny, &question)
        .any()
        .or(weigh(on_resource, Side::Resource, Effect::Deny, &question).any());
    match granted(&question, &sides).and(denied.not()) {
        Ternary::Yes => Verdict::Allowed,
        Ternary::Unknown(Causes { keys, unread }) if unread.is_empty() => Verdict::Depends(keys),
        Ternary::Unknown(Causes { unread, .. }) => Verdict::Unknown(unread.into_iter().collect()),
        Ternary::No => Verdict::Denied(links(&question, &sides, policies)),
    }
}

/// The result of the `Allow` statements of each side.
struct Sides {
    identity: Ternary,
    /// `Yes` if there is no boundary.
    boundary: Ternary,
    resource: Names,
}

/// Relation of the principal to the resource, which determines whose allow is required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    /// A service: it has no identity policy.
    Service,
    /// In another account: identity and resource must both allow.
    Foreign,
    /// In the same account: one allow is sufficient.
    Own,
    /// In the same account, and the resource is a role, whose trust policy must allow in any case.
    OwnTrust,
}

impl Relation {
    fn of(request: &Request) -> Self {
        let role = Arn::parse_leniently(&request.resource)
            .is_some_and(|arn| arn.resource.starts_with("role/"));
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

/// Decides whether the existing allows are sufficient.
///
/// A permissions boundary limits the access that the identity's policies allow, and the access that
/// a resource policy allows to the role itself. It does not limit the access that a resource policy
/// in the same account allows to a user, a session, or everyone. Source:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html#access_policies_boundaries-eval-logic>.
fn granted(question: &Question, sides: &Sides) -> Ternary {
    let Sides {
        identity,
        boundary,
        resource,
    } = sides;
    let principal = &question.request.principal;
    // In its own account, a root may do everything that is not denied.
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
    match Relation::of(question.request) {
        Relation::Service => resource.any(),
        Relation::Foreign => resource.any().and(by_identity),
        Relation::Own => directly.or(by_identity),
        Relation::OwnTrust => directly.or(resource.account.clone().and(by_identity)),
    }
}

/// Returns the ways in which statements with this effect apply to the principal, across all
/// policies.
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

/// Returns the statements that deny the request, and the allows that are missing.
fn links(question: &Question, sides: &Sides, policies: &Policies) -> Vec<Link> {
    let Policies {
        identity,
        boundary,
        resource,
    } = policies;
    let denying = all_rules(identity, Side::Identity)
        .chain(all_rules(boundary, Side::Identity))
        .chain(all_rules(resource, Side::Resource))
        .filter(|rule| rule.applies(Effect::Deny, question).any() == Ternary::Yes);
    let mut links: Vec<Link> = denying
        .map(|rule| Link::ExplicitDeny {
            policy: rule.policy.to_owned(),
            statement: rule.label,
        })
        .collect();
    if granted(question, sides).is_no() {
        links.extend(missing_allows(question, sides, policies));
    }
    links
}

/// Returns the allows that are missing, where the existing ones are not sufficient.
fn missing_allows(question: &Question, sides: &Sides, policies: &Policies) -> Vec<Link> {
    let root = question.request.principal.kind == PrincipalKind::Root;
    let lacks_identity = !root && sides.identity.is_no();
    let lacks_boundary = !root && sides.boundary.is_no();
    let lacks_resource = sides.resource.any().is_no();
    let mut links = Vec::new();
    match Relation::of(question.request) {
        Relation::Service => links.push(policies.no_resource_allow(question)),
        Relation::Foreign => {
            if lacks_identity {
                links.push(policies.no_identity_allow(question));
            }
            if lacks_boundary {
                links.push(policies.no_boundary_allow(question));
            }
            if lacks_resource {
                links.push(policies.no_resource_allow(question));
            }
        }
        Relation::Own | Relation::OwnTrust if !sides.resource.itself.is_no() => {
            links.push(policies.no_boundary_allow(question));
        }
        Relation::OwnTrust if lacks_resource => links.push(policies.no_resource_allow(question)),
        relation @ (Relation::Own | Relation::OwnTrust) => {
            if lacks_identity {
                links.push(policies.no_identity_allow(question));
            }
            if lacks_boundary {
                links.push(policies.no_boundary_allow(question));
            }
            // One allow is sufficient here, so this one is reported only if it nearly exists.
            if relation == Relation::Own {
                let near = near_misses(all_rules(&policies.resource, Side::Resource), question);
                if !near.is_empty() {
                    links.push(Link::NoResourceAllow { near });
                }
            }
        }
    }
    links
}

impl Policies {
    fn no_identity_allow(&self, question: &Question) -> Link {
        Link::NoIdentityAllow {
            near: near_misses(all_rules(&self.identity, Side::Identity), question),
        }
    }

    fn no_boundary_allow(&self, question: &Question) -> Link {
        Link::NoBoundaryAllow {
            near: near_misses(all_rules(&self.boundary, Side::Identity), question),
        }
    }

    fn no_resource_allow(&self, question: &Question) -> Link {
        Link::NoResourceAllow {
            near: near_misses(all_rules(&self.resource, Side::Resource), question),
        }
    }
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
