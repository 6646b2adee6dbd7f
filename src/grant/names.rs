//! Names that were checked once: whoever holds one of these types need not check again.

use crate::api::CrossAccountRegistryGrant;
use crate::policy::Installation;
use crate::policy::sid::hex;
use kube::ResourceExt;
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

impl GrantName {
    /// A resource's.
    pub fn of(resource: &CrossAccountRegistryGrant) -> Self {
        Self { namespace: resource.namespace().unwrap_or_default(), name: resource.name_any() }
    }
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// An AWS organization, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Organization {
    /// All of it: its ID.
    Whole(String),
    /// An organizational unit, by its path as in `aws:PrincipalOrgPaths`; with a `*` behind it all that is below, too.
    Unit(String),
}

impl Organization {
    /// Whether everybody whom `other` means is meant by this, too.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Whole(own), Self::Whole(id)) => own == id,
            (Self::Whole(own), Self::Unit(path)) => path.split('/').next() == Some(own),
            (Self::Unit(_), Self::Whole(_)) => false,
            (Self::Unit(own), Self::Unit(path)) => match own.strip_suffix('*') {
                Some(above) => path.starts_with(above),
                None => own == path,
            },
        }
    }
}

impl fmt::Display for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Whole(text) | Self::Unit(text)) = self;
        f.write_str(text)
    }
}

impl FromStr for Organization {
    type Err = String;

    /// IDs and paths as the Organizations API defines them.
    fn from_str(text: &str) -> Result<Self, String> {
        let error = || {
            format!("`{text}` is neither an organization's ID (o-a1b2c3d4e5) nor a path of one (o-a1b2c3d4e5/r-ab12/*)")
        };
        let coded = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&part.len()) && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let is_id = |part: &str| part.strip_prefix("o-").is_some_and(|code| coded(code, 10..=32));
        let is_root = |part: &str| part.strip_prefix("r-").is_some_and(|code| coded(code, 4..=32));
        let is_unit = |part: &str| {
            let codes = part.strip_prefix("ou-").and_then(|codes| codes.split_once('-'));
            codes.is_some_and(|(root, own)| coded(root, 4..=32) && coded(own, 8..=32))
        };
        let Some((id, path)) = text.split_once('/') else {
            return if is_id(text) { Ok(Self::Whole(text.into())) } else { Err(error()) };
        };
        let inside = path.strip_suffix('*').unwrap_or(path).strip_suffix('/').ok_or_else(error)?;
        let mut parts = inside.split('/');
        let fits = is_id(id) && parts.next().is_some_and(is_root) && parts.all(is_unit) && text.len() <= 512;
        if fits { Ok(Self::Unit(text.into())) } else { Err(error()) }
    }
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
    #[case("o-a1b2c3d4e5", "o-a1b2c3d4e5", true)]
    #[case("o-a1b2c3d4e5", "o-a1b2c3d4e6", false)]
    #[case("o-a1b2c3d4e5", "o-a1b2c3d4e5/r-ab12/*", true)]
    #[case("o-a1b2c3d4e5", "o-a1b2c3d4e6/r-ab12/*", false)]
    #[case("o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5", false)]
    #[case("o-a1b2c3d4e5/r-ab12/*", "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/", true)]
    #[case("o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*", "o-a1b2c3d4e5/r-ab12/*", false)]
    #[case("o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*", "o-a1b2c3d4e5/r-ab12/ou-ab12-111111112/*", false)]
    #[case("o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/", "o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/*", false)]
    fn an_organization_covers_what_is_inside_it(#[case] rule: &str, #[case] asked: &str, #[case] covered: bool) {
        let organization = |text: &str| text.parse::<Organization>().unwrap();
        assert_eq!(organization(rule).covers(&organization(asked)), covered);
    }

    #[rstest]
    #[case("")]
    #[case("*")]
    #[case("o-*")]
    #[case("o-short")]
    #[case("a1b2c3d4e5")]
    #[case("O-a1b2c3d4e5")]
    #[case("o-a1b2c3d4e5/")]
    #[case("o-a1b2c3d4e5/*")]
    #[case("o-a1b2c3d4e5/r-ab12")]
    #[case("o-a1b2c3d4e5/r-ab12*")]
    #[case("o-a1b2c3d4e5/r-ab12/ou-ab12-11111111*")]
    #[case("o-a1b2c3d4e5/r-ab12/*/ou-ab12-11111111/")]
    #[case("o-a1b2c3d4e5/ou-ab12-11111111/")]
    #[case("o-a1b2c3d4e5/r-ab12/ou-ab12-${x}/")]
    fn what_is_no_organization_is_refused(#[case] text: &str) {
        assert!(text.parse::<Organization>().is_err());
    }

    #[test]
    fn names_in_aws_stay_apart_when_truncated() {
        let installation = Installation::of_cluster("x");
        let name = |name: &str| GrantName { namespace: "n".repeat(63), name: name.into() }.in_aws(&installation, 64);
        assert!(name("a").len() <= 64);
        assert_ne!(name("a"), name("b"));
    }
}
