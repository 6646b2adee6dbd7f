//! Decides whether one statement applies to a request.

use super::condition::{Clause, clauses};
use super::pattern::{Pattern, Reach};
use super::principal::{Names, is_not_among, names, strings};
use super::request::{Request, RequestContext};
use super::ternary::Ternary;
use crate::policy::document::{Document, Statement, VERSION};
use serde_json::Value;

/// The side to which a policy is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The identity (or its boundary): every statement applies to that identity.
    Identity,
    /// The resource: every statement applies to that resource, unless it names others.
    Resource,
}

/// A request, with facts that are the same for all statements.
pub(super) struct Question<'a> {
    pub(super) request: &'a Request,
    pub(super) facts: RequestContext,
    /// Whether the principal has a permissions boundary.
    pub(super) bounded: bool,
}

/// A statement's effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// A statement, with its position in a policy.
pub(super) struct Rule<'a> {
    pub(super) policy: &'a str,
    /// The Sid, or the position from 1.
    pub(super) label: String,
    pub(super) side: Side,
    statement: &'a Statement,
    variables: bool,
    /// The part of the surrounding document that is not understood, if any.
    around: Option<&'static str>,
}

/// The result of each part of a statement for a request. The statement applies if all hold.
pub(super) struct Parts<'a> {
    pub(super) shape: Ternary,
    pub(super) action: Ternary,
    pub(super) resource: Ternary,
    pub(super) names: Names,
    pub(super) clauses: Vec<Clause<'a>>,
    /// Unknown if the condition does not have the documented shape.
    pub(super) condition_shape: Ternary,
}

/// Returns the statements of a document.
pub(super) fn rules<'a>(
    policy: &'a str,
    document: &'a Document,
    side: Side,
) -> impl Iterator<Item = Rule<'a>> {
    let version = document.version();
    let around = match version.as_str() {
        Some("2012-10-17" | "2008-10-17") => {
            let other = document
                .fields
                .keys()
                .any(|key| !matches!(key.as_str(), "Version" | "Id"));
            other.then_some("the document has an unknown element")
        }
        _ => Some("the document has an unknown Version"),
    };
    document
        .statements
        .iter()
        .enumerate()
        .map(move |(at, statement)| Rule {
            policy,
            label: statement
                .sid_text()
                .filter(|sid| !sid.is_empty())
                .map_or_else(|| (at + 1).to_string(), String::from),
            side,
            statement,
            variables: version == VERSION,
            around,
        })
}

impl<'a> Rule<'a> {
    fn element(&self, key: &str) -> Option<&'a Value> {
        self.statement.0.get(key)
    }

    /// Returns whether the statement has this effect. An unknown `Effect` may be either.
    pub(super) fn has_effect(&self, effect: Effect) -> Ternary {
        match (self.element("Effect").and_then(Value::as_str), effect) {
            (Some("Allow"), Effect::Allow) | (Some("Deny"), Effect::Deny) => Ternary::Yes,
            (Some("Allow"), Effect::Deny) | (Some("Deny"), Effect::Allow) => Ternary::No,
            _ => Ternary::unread("Effect is neither Allow nor Deny"),
        }
    }

    /// Returns the ways in which the statement applies to the request. A statement on the
    /// identity's side always applies to the identity itself.
    pub(super) fn applies(&self, effect: Effect, question: &Question) -> Names {
        // Cheap parts first: most statements are about something else.
        let early = self.has_effect(effect).and(self.action(question));
        if early.is_no() {
            return Names::NOBODY;
        }
        let Parts {
            shape,
            action: _,
            resource,
            names,
            clauses,
            condition_shape,
        } = self.parts(effect, question);
        let conditions =
            Ternary::all(clauses.into_iter().map(|clause| clause.holds)).and(condition_shape);
        let rest =
            Ternary::all([early, shape, resource, conditions]).located(|why| self.place(why));
        let Names {
            itself,
            session,
            everybody,
            account,
            alike,
        } = names;
        let [itself, session, everybody, account] = [itself, session, everybody, account]
            .map(|truth| truth.located(|why| self.place(why)).and(rest.clone()));
        Names {
            itself,
            session,
            everybody,
            account,
            alike,
        }
    }

    fn place(&self, why: &str) -> String {
        format!("{}, statement {}: {why}", self.policy, self.label)
    }

    /// Evaluates each part of the statement.
    pub(super) fn parts(&self, effect: Effect, question: &Question) -> Parts<'a> {
        let (clauses, condition_shape) = match self.element("Condition") {
            None => (Vec::new(), Ternary::Yes),
            Some(condition) => match clauses(condition, &question.facts, self.variables) {
                Ok(clauses) => (clauses, Ternary::Yes),
                Err(why) => (Vec::new(), Ternary::unread(why)),
            },
        };
        Parts {
            shape: self.shape(),
            action: self.action(question),
            resource: self.resource(question),
            names: self.names(effect, question),
            clauses,
            condition_shape,
        }
    }

    fn shape(&self) -> Ternary {
        if let Some(why) = self.around {
            return Ternary::unread(why);
        }
        match self.statement.0.keys().find(|key| !self.knows(key)) {
            Some(key) => Ternary::unread(format!("the element {key:?} is unknown")),
            None => Ternary::Yes,
        }
    }

    fn knows(&self, element: &str) -> bool {
        match element {
            "Sid" | "Effect" | "Action" | "NotAction" | "Resource" | "NotResource"
            | "Condition" => true,
            "Principal" | "NotPrincipal" => self.side == Side::Resource,
            _ => false,
        }
    }

    /// Evaluates one of a pair of elements, such as `Action` and `NotAction`.
    fn element_or_not(&self, element: &str, matches: impl Fn(&str) -> Ternary) -> Option<Ternary> {
        let negation = format!("Not{element}");
        let (value, negated) = match (self.element(element), self.element(&negation)) {
            (Some(_), Some(_)) => {
                return Some(Ternary::unread(format!(
                    "it has both {element} and {negation}"
                )));
            }
            (Some(value), None) => (value, false),
            (None, Some(value)) => (value, true),
            (None, None) => return None,
        };
        let Some(texts) = strings(value) else {
            return Some(Ternary::unread(format!(
                "{element} is not of the documented shape"
            )));
        };
        let any = Ternary::any(texts.into_iter().map(matches));
        Some(if negated { any.not() } else { any })
    }

    fn action(&self, question: &Question) -> Ternary {
        let asked = question.request.action.to_ascii_lowercase();
        self.element_or_not("Action", |text| {
            Pattern::read(&text.to_ascii_lowercase(), true, None).matches(&asked, Reach::Text)
        })
        .unwrap_or_else(|| Ternary::unread("it has no Action"))
    }

    /// Evaluates the resource. The policy of a repository or a role need not name its own resource;
    /// other policies must name the resource.
    fn resource(&self, question: &Question) -> Ternary {
        self.element_or_not("Resource", |text| self.matches_resource(text, question))
            .unwrap_or_else(|| match self.side {
                Side::Identity => Ternary::unread("it has no Resource"),
                Side::Resource => Ternary::Yes,
            })
    }

    fn matches_resource(&self, text: &str, question: &Question) -> Ternary {
        let asked = question.request.resource.as_str();
        let variables = self.variables.then_some(&question.facts);
        let pattern = Pattern::read(text, true, variables);
        // It is documented for conditions that a variable without a value matches nothing, but not
        // for `NotResource`.
        if self.element("NotResource").is_some() && pattern.would_match(asked, Reach::Segments) {
            return Ternary::unread("NotResource has a variable without a value");
        }
        let early =
            text.starts_with("arn:") && pattern.variable_after().is_some_and(|colons| colons < 5);
        let sure = if early {
            Ternary::unread("a variable occurs before an ARN's fifth colon")
        } else {
            Ternary::Yes
        };
        let whole = pattern.matches(asked, Reach::Segments).and(sure);
        if whole.is_no() && text.starts_with("arn:") && text.matches(':').count() < 5 {
            return Pattern::read(&format!("{text}:*"), true, variables)
                .matches(asked, Reach::Segments)
                .and(Ternary::unread("Resource is not a complete ARN"));
        }
        whole
    }

    /// Returns the resources that the statement names.
    pub(super) fn resources(&self) -> Vec<String> {
        let value = self
            .element("Resource")
            .or_else(|| self.element("NotResource"));
        value
            .and_then(strings)
            .unwrap_or_default()
            .into_iter()
            .map(String::from)
            .collect()
    }

    fn names(&self, effect: Effect, question: &Question) -> Names {
        if self.side == Side::Identity {
            return Names::itself(Ternary::Yes);
        }
        let principal = &question.request.principal;
        match (self.element("Principal"), self.element("NotPrincipal")) {
            (Some(element), None) => names(element, principal)
                .unwrap_or_else(|why| Names::everybody(Ternary::unread(why))),
            // It is documented only for `"*"` that a boundary does not limit such an allow.
            (None, Some(element)) => {
                let meant =
                    is_not_among(element, principal, effect == Effect::Deny, question.bounded);
                Names::itself(meant.unwrap_or_else(Ternary::unread))
            }
            (Some(_), Some(_)) => {
                Names::everybody(Ternary::unread("it has both Principal and NotPrincipal"))
            }
            (None, None) => Names::everybody(Ternary::unread("it has no Principal")),
        }
    }
}
