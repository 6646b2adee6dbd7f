//! Names that were checked once: whoever holds one of these types need not check again.

use crate::policy::Installation;
use crate::policy::sid::hex;
use std::fmt;
use std::str::FromStr;

/// An AWS account's number: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AccountId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Self(text.into())).ok_or_else(|| format!("`{text}` is not an AWS account number (12 digits)"))
    }
}

/// A repository's name, or a prefix of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryPattern {
    /// Exactly this repository.
    Name(String),
    /// Every repository whose name begins so; the empty prefix is every repository.
    Prefix(String),
}

impl RepositoryPattern {
    /// Whether the pattern means this repository.
    pub fn matches(&self, repository: &str) -> bool {
        match self {
            Self::Name(name) => name == repository,
            Self::Prefix(prefix) => repository.starts_with(prefix),
        }
    }

    /// Whether everything that `other` means is meant by this pattern, too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(own), Self::Name(name)) => own == name,
            (Self::Name(_), Self::Prefix(_)) => false,
            (Self::Prefix(prefix), Self::Name(text) | Self::Prefix(text)) => text.starts_with(prefix),
        }
    }
}

impl fmt::Display for RepositoryPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl FromStr for RepositoryPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (body, prefix) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-' | b'/');
        if !body.bytes().all(allowed) || text.len() > 256 || (!prefix && body.len() < 2) {
            return Err(format!("`{text}` is neither a repository name nor a prefix of one that ends in *"));
        }
        Ok(if prefix { Self::Prefix(body.into()) } else { Self::Name(body.into()) })
    }
}

/// Which grant: namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantName {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

impl GrantName {
    /// A name for something of this grant in AWS: at most `longest` characters, readable, and with a hash that keeps it apart
    /// from every other grant's, also after truncation.
    pub fn in_aws(&self, installation: &Installation, longest: usize) -> String {
        const DIGITS: usize = 10;
        let hash = hex(&format!("{installation}/{self}"), DIGITS);
        let mut readable = format!("{}-{}", self.namespace, self.name);
        readable.truncate(longest - DIGITS - 1);
        format!("{}-{hash}", readable.trim_end_matches(['-', '.']))
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Whether a text is like a pattern in which `*` stands for any characters, as in `ArnLike`.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("team-b/web", "team-b/web", true)]
    #[case("team-b/web", "team-b/web2", false)]
    #[case("team-b/*", "team-b/web", true)]
    #[case("team-b/*", "team-b/*", true)]
    #[case("team-b/*", "team-b/x*", true)]
    #[case("team-b/*", "team-*", false)]
    #[case("team-b/*", "team-bad/web", false)]
    #[case("team-b/web", "team-b/*", false)]
    #[case("*", "anything/*", true)]
    fn a_rule_covers_only_what_lies_inside_it(#[case] rule: &str, #[case] asked: &str, #[case] covered: bool) {
        let pattern = |text: &str| text.parse::<RepositoryPattern>().unwrap();
        assert_eq!(pattern(rule).covers(&pattern(asked)), covered);
    }

    #[rstest]
    #[case("UPPER")]
    #[case("a*b")]
    #[case("*a")]
    #[case("")]
    #[case("a")]
    #[case("a b")]
    fn what_is_no_repository_pattern_is_refused(#[case] text: &str) {
        assert!(text.parse::<RepositoryPattern>().is_err());
    }

    #[rstest]
    #[case("11111111111")]
    #[case("1111111111111")]
    #[case("11111111111a")]
    #[case("١١١١١١١١١١١١")]
    fn what_is_no_account_number_is_refused(#[case] text: &str) {
        assert!(text.parse::<AccountId>().is_err());
    }

    #[rstest]
    #[case("ci/*", "ci/deployer", true)]
    #[case("ci/*", "ci/a/b", true)]
    #[case("ci/*", "cd/x", false)]
    #[case("*/node", "a/node", true)]
    #[case("*/node", "a/node2", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c", false)]
    #[case("aa*a", "aa", false)]
    #[case("node", "node", true)]
    fn a_star_stands_for_any_characters(#[case] pattern: &str, #[case] text: &str, #[case] fits: bool) {
        assert_eq!(like(pattern, text), fits);
    }

    #[test]
    fn names_in_aws_stay_apart_when_truncated() {
        let installation = Installation::of_cluster("x");
        let name = |name: &str| GrantName { namespace: "n".repeat(63), name: name.into() }.in_aws(&installation, 64);
        assert!(name("a").len() <= 64);
        assert_ne!(name("a"), name("b"));
    }
}
