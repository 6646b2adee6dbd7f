//! Strings with wildcards and policy variables.
//!
//! Matching tracks all positions that the pattern may have reached at once. So for any pattern, it
//! takes at most as many steps as the pattern's length times the text's length.

use super::request::{ContextValue, RequestContext};
use super::ternary::{Causes, Ternary};

/// A parsed pattern, in which known variables are replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// Whether a variable's key is absent from the request. Then nothing equals or matches the
    /// pattern.
    never: bool,
    hangs_on: Causes,
    /// Number of colons before the first variable; `None` if there is no variable.
    variable_after: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    /// A literal colon in the pattern.
    Colon,
    /// `*`.
    Any,
    /// `?`.
    One,
    /// The value of a variable whose key is unknown, absent or has several values.
    Unknown,
}

/// The characters that `*` matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// Any characters.
    Text,
    /// Any characters, but a colon only at the end of a segment. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html#reference_policies_elements_resource_wildcards>.
    Segments,
}

impl Pattern {
    /// Parses a pattern. `wildcards` says whether `*` and `?` are wildcards. Variables are replaced
    /// if a context is given. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>.
    pub(super) fn read(text: &str, wildcards: bool, variables: Option<&RequestContext>) -> Self {
        let mut pattern = Self::default();
        let mut colons = 0;
        let mut rest = text;
        // Determined only once: nothing after the last brace is a variable.
        let after_last_brace = text.rfind('}').map_or(text.len(), |at| text.len() - at - 1);
        while let Some(next) = rest.chars().next() {
            let variables = variables.filter(|_| rest.len() > after_last_brace);
            let variable = variables
                .and_then(|context| Some((context, rest.strip_prefix("${")?.split_once('}')?)));
            if let Some((context, (variable, after))) = variable {
                pattern.put(variable, context, colons);
                rest = after;
                continue;
            }
            rest = &rest[next.len_utf8()..];
            let token = match next {
                '*' if wildcards => Token::Any,
                '?' if wildcards => Token::One,
                ':' => Token::Colon,
                other => Token::Char(other),
            };
            colons += usize::from(token == Token::Colon);
            if token != Token::Any || pattern.tokens.last() != Some(&Token::Any) {
                pattern.tokens.push(token);
            }
        }
        pattern
    }

    /// Appends a variable's value.
    fn put(&mut self, variable: &str, context: &RequestContext, colons: usize) {
        if let "*" | "?" | "$" = variable {
            self.tokens.extend(variable.chars().map(Token::Char));
            return;
        }
        self.variable_after.get_or_insert(colons);
        let (key, default) = match variable.split_once(',') {
            Some((key, default)) => (key.trim(), Some(default.trim().trim_matches('\''))),
            None => (variable.trim(), None),
        };
        match (context.get(key), default) {
            (ContextValue::Values(values), _) => match values.as_slice() {
                [value] => self.tokens.extend(value.chars().map(Token::Char)),
                _ => {
                    self.tokens.push(Token::Unknown);
                    self.hangs_on
                        .unread
                        .insert(format!("the variable {key} has several values"));
                }
            },
            (ContextValue::Absent, Some(default)) => {
                self.tokens.extend(default.chars().map(Token::Char))
            }
            (ContextValue::Absent, None) => {
                self.tokens.push(Token::Unknown);
                self.never = true;
            }
            (ContextValue::Unknown, _) => {
                self.tokens.push(Token::Unknown);
                self.hangs_on.keys.insert(key.to_owned());
            }
        }
    }

    /// Returns the pattern in lower case.
    pub(super) fn lowercase(mut self) -> Self {
        self.tokens = self
            .tokens
            .into_iter()
            .flat_map(|token| match token {
                Token::Char(c) => c.to_lowercase().map(Token::Char).collect(),
                other => vec![other],
            })
            .collect();
        self
    }

    /// Returns whether the pattern has a variable without a value, and a text would match if that
    /// variable had one.
    pub(super) fn would_match(&self, text: &str, reach: Reach) -> bool {
        self.never && Self::like(&self.tokens, text, reach)
    }

    /// Returns the number of colons before the first variable.
    pub(super) fn variable_after(&self) -> Option<usize> {
        self.variable_after
    }

    /// Returns whether a text matches.
    pub(super) fn matches(&self, text: &str, reach: Reach) -> Ternary {
        self.answer(Self::like(&self.tokens, text, reach))
    }

    /// Returns whether an ARN matches in each of its six components; `None` if the pattern has
    /// fewer components. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html#Conditions_ARN>.
    pub(super) fn matches_arn(&self, arn: &str) -> Option<Ternary> {
        let wanted: Vec<&[Token]> = self
            .tokens
            .splitn(6, |token| *token == Token::Colon)
            .collect();
        let actual: Vec<&str> = arn.splitn(6, ':').collect();
        if wanted.len() < 6 {
            return None;
        }
        let like = actual.len() == 6
            && wanted
                .iter()
                .zip(&actual)
                .all(|(wanted, actual)| Self::like(wanted, actual, Reach::Text));
        Some(self.answer(like))
    }

    /// Returns the answer for a match in which unknown variables may have any value.
    fn answer(&self, like: bool) -> Ternary {
        if !like || self.never {
            Ternary::No
        } else if self.hangs_on == Causes::default() {
            Ternary::Yes
        } else {
            Ternary::Unknown(self.hangs_on.clone())
        }
    }

    fn like(pattern: &[Token], text: &str, reach: Reach) -> bool {
        let chars: Vec<char> = text.chars().collect();
        let least = pattern
            .iter()
            .filter(|token| !matches!(token, Token::Any | Token::Unknown))
            .count();
        if least > chars.len() {
            return false;
        }
        // Whether the tokens so far can end at each position in the text.
        let mut ends = vec![false; chars.len() + 1];
        ends[0] = true;
        for (at, token) in pattern.iter().enumerate() {
            let ends_segment = matches!(pattern.get(at + 1), None | Some(Token::Colon));
            let whole = reach == Reach::Text || ends_segment || *token == Token::Unknown;
            let any = match token {
                Token::Char(expected) => one(&mut ends, &chars, |c| c == *expected),
                Token::Colon => one(&mut ends, &chars, |c| c == ':'),
                Token::One => one(&mut ends, &chars, |c| whole || c != ':'),
                Token::Any | Token::Unknown => {
                    for (place, c) in chars.iter().enumerate() {
                        ends[place + 1] |= ends[place] && (whole || *c != ':');
                    }
                    true
                }
            };
            if !any {
                return false;
            }
        }
        ends[chars.len()]
    }
}

/// Advances by one character from each position where it matches. Returns whether any position is
/// left.
fn one(ends: &mut [bool], text: &[char], fits: impl Fn(char) -> bool) -> bool {
    let mut any = false;
    for (place, c) in text.iter().enumerate().rev() {
        ends[place + 1] = ends[place] && fits(*c);
        any |= ends[place + 1];
    }
    ends[0] = false;
    any
}
