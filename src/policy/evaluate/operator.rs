//! Condition operators: the values that they compare, and how. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>.

use super::pattern::{Pattern, Reach};
use super::request::RequestContext;
use super::ternary::Ternary;
use super::value::{Network, compare_numbers, date, decimal};
use std::cmp::Ordering;

/// An operator, with its prefix and suffix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operator {
    pub(super) set: Option<Set>,
    pub(super) compares: Compares,
    pub(super) negated: bool,
    pub(super) if_exists: bool,
}

/// The values of a key that must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    AnyValue,
    AllValues,
}

/// The type of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compares {
    Text,
    TextIgnoringCase,
    Likeness,
    Numbers(Order),
    Dates(Order),
    Ternary,
    Binary,
    Address,
    Arn,
    /// Whether the key is in the request at all.
    Presence,
}

impl Compares {
    /// Returns what a value must be, for an error about one that is not.
    fn kind(self) -> &'static str {
        match self {
            Self::Ternary | Self::Presence => "boolean",
            Self::Numbers(_) => "number",
            Self::Dates(_) => "date",
            Self::Address => "IP address or range",
            Self::Text | Self::TextIgnoringCase | Self::Likeness | Self::Binary | Self::Arn => {
                "text"
            }
        }
    }
}

/// The required relation of the request's value to the policy's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn fits(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Operator {
    /// Parses an operator, ignoring case. Returns `None` if there is no such operator.
    pub(super) fn read(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let (set, name) = match name.split_once(':') {
            Some(("foranyvalue", name)) => (Some(Set::AnyValue), name),
            Some(("forallvalues", name)) => (Some(Set::AllValues), name),
            Some(_) => return None,
            None => (None, name.as_str()),
        };
        let (name, if_exists) = name
            .strip_suffix("ifexists")
            .map_or((name, false), |name| (name, true));
        let (compares, negated) = match name {
            "stringequals" => (Compares::Text, false),
            "stringnotequals" => (Compares::Text, true),
            "stringequalsignorecase" => (Compares::TextIgnoringCase, false),
            "stringnotequalsignorecase" => (Compares::TextIgnoringCase, true),
            "stringlike" => (Compares::Likeness, false),
            "stringnotlike" => (Compares::Likeness, true),
            "numericequals" => (Compares::Numbers(Order::Equal), false),
            "numericnotequals" => (Compares::Numbers(Order::Equal), true),
            "numericlessthan" => (Compares::Numbers(Order::Less), false),
            "numericlessthanequals" => (Compares::Numbers(Order::LessOrEqual), false),
            "numericgreaterthan" => (Compares::Numbers(Order::Greater), false),
            "numericgreaterthanequals" => (Compares::Numbers(Order::GreaterOrEqual), false),
            "dateequals" => (Compares::Dates(Order::Equal), false),
            "datenotequals" => (Compares::Dates(Order::Equal), true),
            "datelessthan" => (Compares::Dates(Order::Less), false),
            "datelessthanequals" => (Compares::Dates(Order::LessOrEqual), false),
            "dategreaterthan" => (Compares::Dates(Order::Greater), false),
            "dategreaterthanequals" => (Compares::Dates(Order::GreaterOrEqual), false),
            "bool" => (Compares::Ternary, false),
            "binaryequals" => (Compares::Binary, false),
            "ipaddress" => (Compares::Address, false),
            "notipaddress" => (Compares::Address, true),
            "arnequals" | "arnlike" => (Compares::Arn, false),
            "arnnotequals" | "arnnotlike" => (Compares::Arn, true),
            "null" if set.is_none() && !if_exists => (Compares::Presence, false),
            _ => return None,
        };
        Some(Self {
            set,
            compares,
            negated,
            if_exists,
        })
    }
}

/// A value in a condition, parsed for its operator.
pub(super) enum ConditionValue {
    Text(Pattern),
    TextIgnoringCase(Pattern),
    Number(Order, String),
    Date(Order, i128),
    Binary(String),
    Address(Network),
    Arn(Pattern),
    Presence(bool),
}

impl ConditionValue {
    /// Parses a value for an operator.
    ///
    /// # Errors
    /// When the operator cannot compare with the value.
    pub(super) fn read(
        compares: Compares,
        text: &str,
        variables: Option<&RequestContext>,
    ) -> Result<Self, String> {
        Self::parse(compares, text, variables)
            .ok_or_else(|| format!("{text:?} is not a valid {}", compares.kind()))
    }

    fn parse(compares: Compares, text: &str, variables: Option<&RequestContext>) -> Option<Self> {
        match compares {
            Compares::Text => Some(Self::Text(Pattern::read(text, false, variables))),
            Compares::TextIgnoringCase => Some(Self::ignoring_case(text, variables)),
            Compares::Likeness => Some(Self::Text(Pattern::read(text, true, variables))),
            Compares::Ternary if variables.is_some() && text.contains("${") => {
                Some(Self::ignoring_case(text, variables))
            }
            Compares::Ternary => truth(text).map(|_| Self::ignoring_case(text, variables)),
            Compares::Numbers(order) => decimal(text).map(|_| Self::Number(order, text.into())),
            Compares::Dates(order) => date(text).map(|date| Self::Date(order, date)),
            Compares::Binary => Some(Self::Binary(text.into())),
            Compares::Address => Network::read(text).map(Self::Address),
            Compares::Arn => Some(Self::Arn(Pattern::read(text, true, variables))),
            Compares::Presence => truth(text).map(Self::Presence),
        }
    }

    fn ignoring_case(text: &str, variables: Option<&RequestContext>) -> Self {
        Self::TextIgnoringCase(Pattern::read(text, false, variables).lowercase())
    }

    /// Returns whether a value of the request matches.
    pub(super) fn fits(&self, actual: &str) -> Ternary {
        match self {
            Self::Text(pattern) => pattern.matches(actual, Reach::Text),
            Self::TextIgnoringCase(pattern) => pattern.matches(&actual.to_lowercase(), Reach::Text),
            Self::Number(order, wanted) => Ternary::of(
                compare_numbers(actual, wanted).is_some_and(|ordering| order.fits(ordering)),
            ),
            Self::Date(order, wanted) => {
                Ternary::of(date(actual).is_some_and(|date| order.fits(date.cmp(wanted))))
            }
            Self::Binary(wanted) => Ternary::of(wanted == actual),
            Self::Address(network) => Ternary::of(network.contains(actual)),
            // The meaning of a shortened ARN is documented only for resources.
            Self::Arn(pattern) => pattern.matches_arn(actual).unwrap_or_else(|| {
                let shortened = Ternary::unread("a condition compares with an incomplete ARN");
                pattern.matches(actual, Reach::Text).and(shortened)
            }),
            Self::Presence(absent) => Ternary::of(!absent),
        }
    }
}

fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}
