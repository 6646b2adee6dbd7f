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
    /// A pattern that was recorded in a status or that a rule has: no more than the characters of names is asked of it, for what is recorded must
    /// be found again even if it would be refused today.
    pub fn recorded(text: &str) -> Option<Self> {
        let pattern = match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Name(text.into()),
        };
        let (Self::Prefix(body) | Self::Name(body)) = &pattern;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/' || is_separator(c);
        let fits = body.chars().all(allowed) && text.len() <= 256 && text.len() >= pattern.shortest();
        fits.then_some(pattern)
    }

    fn shortest(&self) -> usize {
        match self {
            Self::Name(_) => 2,
            Self::Prefix(_) => 1,
        }
    }

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

    /// As the definition of a grant has it: what ECR takes as a name, or the beginning of one and a `*`. A lone `*` is the empty prefix.
    fn from_str(text: &str) -> Result<Self, String> {
        let begins_one = |prefix: &str| {
            let (parents, last) = match prefix.rsplit_once('/') {
                Some((parents, last)) => (Some(parents), last),
                None => (None, prefix),
            };
            parents.is_none_or(|parents| parents.split('/').all(is_name_part))
                && (last.is_empty() || is_name_part(last.strip_suffix(is_separator).unwrap_or(last)))
        };
        let fits = |pattern: &Self| match pattern {
            Self::Name(name) => name.split('/').all(is_name_part),
            Self::Prefix(prefix) => begins_one(prefix),
        };
        let refused = || format!("`{text}` is neither a repository name nor a prefix of one that ends in *");
        Self::recorded(text).filter(fits).ok_or_else(refused)
    }
}

/// A part of a repository's name between slashes: lowercase letters and digits, with single `.`, `_` or `-` between them.
/// Source: the ECR API's pattern of `RepositoryName`.
fn is_name_part(part: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    part.split(is_separator).all(word)
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
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
    use crate::api::admission::refusals_of_grant;
    use proptest::prelude::*;
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
    #[case("team--b/web")]
    #[case("team__b/web")]
    #[case("team-b//web")]
    #[case("/team-b/web")]
    #[case("team-b/web/")]
    #[case("-web")]
    #[case("web-")]
    #[case("team-b/web.-x")]
    #[case("quay/foo__bar")]
    #[case("web:latest")]
    #[case("/*")]
    #[case("web--*")]
    #[case("team-b//*")]
    #[case("-*")]
    fn what_is_no_repository_pattern_is_refused(#[case] text: &str) {
        assert!(text.parse::<RepositoryPattern>().is_err());
    }

    #[rstest]
    #[case("a/b/c/d/e/f")]
    #[case("1web")]
    #[case("team_b/we.b")]
    #[case("team-b/*")]
    #[case("team-b/web-*")]
    #[case("team-b/web_*")]
    #[case("w*")]
    #[case("*")]
    fn what_ecr_takes_is_a_repository_pattern(#[case] text: &str) {
        assert_eq!(text.parse::<RepositoryPattern>().unwrap().to_string(), text);
    }

    /// Pieces of names, and what is wrong between them.
    fn pieces() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            proptest::sample::select(vec!["a", "web", "0", ".", "_", "-", "/", "*", "A", ":"]),
            0..7,
        )
        .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn files_and_the_cluster_take_the_same_repositories(text in pieces()) {
            let grant = serde_json::json!({"metadata": {"name": "x"}, "spec": {
                "access": "Pull",
                "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": [text]},
                "consumer": {"accountID": "222222222222", "wholeAccount": true},
            }});
            let refusals = refusals_of_grant(grant);
            // A grant of everything is refused by itself.
            prop_assert_eq!(text.parse::<RepositoryPattern>().is_ok() && text != "*", refusals.is_empty(), "{:?}", refusals);
        }
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
