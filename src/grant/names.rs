//! Names that are checked once. A value of one of these types needs no further check.

use crate::policy::Installation;
use crate::policy::installation::hex;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// AWS account ID: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// Returns the digits.
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
        digits
            .then(|| Self(text.into()))
            .ok_or_else(|| format!("`{text}` is not an AWS account number (12 digits)"))
    }
}

/// Repository name, or a prefix of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RepositoryPattern {
    /// Exactly this repository.
    Name(String),
    /// Every repository whose name begins with this prefix; the empty prefix matches every
    /// repository.
    Prefix(String),
}

impl RepositoryPattern {
    /// Parses a pattern that a status records or that a rule has. It requires no more than the
    /// characters of names and a length: a recorded pattern must be found again even if it would be
    /// refused today.
    pub fn recorded(text: &str) -> Option<Self> {
        let pattern = match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Name(text.into()),
        };
        let (Self::Prefix(body) | Self::Name(body)) = &pattern;
        let fits = body.chars().all(is_repository_character)
            && (pattern.shortest()..=256).contains(&text.len());
        if fits { Some(pattern) } else { None }
    }

    /// Returns the length of the shortest pattern of this kind.
    fn shortest(&self) -> usize {
        match self {
            Self::Name(_) => 2,
            Self::Prefix(_) => 1,
        }
    }

    /// Returns whether ECR accepts the name, or a name that begins with the prefix.
    fn is_valid(&self) -> bool {
        match self {
            Self::Name(name) => name.split('/').all(is_name_part),
            Self::Prefix(prefix) => begins_a_name(prefix),
        }
    }

    /// Returns whether the pattern matches this repository.
    pub fn matches(&self, repository: &str) -> bool {
        match self {
            Self::Name(name) => name == repository,
            Self::Prefix(prefix) => repository.starts_with(prefix),
        }
    }

    /// Returns whether this pattern matches everything that `other` matches.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name(own), Self::Name(name)) => own == name,
            (Self::Name(_), Self::Prefix(_)) => false,
            (Self::Prefix(prefix), Self::Name(text) | Self::Prefix(text)) => {
                text.starts_with(prefix)
            }
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

    /// Parses a pattern in the form that the CRD of a grant defines: a name that ECR accepts, or
    /// the beginning of one followed by `*`. A lone `*` is the empty prefix.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::recorded(text).filter(Self::is_valid).ok_or_else(|| {
            format!("`{text}` is neither a repository name nor a prefix of one that ends in *")
        })
    }
}

/// Returns whether a repository name may begin like this. The last part may end in a separator.
fn begins_a_name(prefix: &str) -> bool {
    match prefix.rsplit_once('/') {
        Some((parents, last)) => parents.split('/').all(is_name_part) && begins_a_part(last),
        None => begins_a_part(prefix),
    }
}

fn begins_a_part(text: &str) -> bool {
    text.is_empty() || is_name_part(text.strip_suffix(is_separator).unwrap_or(text))
}

/// Returns whether this is a valid part of a repository name between slashes: lowercase letters and
/// digits, with single `.`, `_` or `-` between them. Source: the ECR API's pattern of
/// `RepositoryName`.
fn is_name_part(part: &str) -> bool {
    part.split(is_separator)
        .all(|word| !word.is_empty() && is_lower_alphanumeric(word))
}

fn is_lower_alphanumeric(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

fn is_repository_character(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/' || is_separator(c)
}

fn is_separator(c: char) -> bool {
    matches!(c, '.' | '_' | '-')
}

/// Namespace and name of a grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantName {
    /// The namespace.
    pub namespace: String,
    /// The name in it.
    pub name: String,
}

/// Whose access a repository policy contains for this installation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Contributor {
    /// Grants that the operator cannot read or has not seen yet. It keeps their access.
    UnknownGrants,
    /// A grant.
    Grant(GrantName),
}

impl GrantName {
    /// Returns a name for a resource of this grant in AWS. It has at most `longest` bytes and is
    /// readable. A hash distinguishes it from every other grant's name, even after truncation.
    pub fn in_aws(&self, installation: &Installation, longest: usize) -> String {
        const DIGITS: usize = 10;
        let hash = hex(&format!("{installation}/{self}"), DIGITS);
        let name = format!("{}-{}", self.namespace, self.name);
        let readable = beginning(&name, longest.saturating_sub(DIGITS + 1));
        format!("{}-{hash}", readable.trim_end_matches(['-', '.']))
    }
}

/// Returns the name of the operator's own session, as CloudTrail shows it, for the grants of a
/// namespace or of none in particular. It has at most 64 bytes. A namespace that does not fit is
/// cut, and a hash distinguishes it from others that begin in the same way.
pub fn session_name(installation: &Installation, namespace: Option<&str>) -> String {
    const LONGEST: usize = 64;
    const DIGITS: usize = 8;
    let who = namespace.unwrap_or("registry-grants");
    let room = LONGEST.saturating_sub(1 + installation.as_str().len());
    format!("{}@{installation}", bounded(who.to_owned(), room, DIGITS))
}

/// Limits a text to `longest` bytes. A longer text is cut, and a hash of `digits` hexadecimal
/// digits distinguishes it from others that begin in the same way.
pub fn bounded(text: String, longest: usize, digits: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let readable = beginning(&text, longest.saturating_sub(digits + 1));
    format!("{readable}-{}", hex(&text, digits))
}

/// Returns the longest prefix of a text that has at most `bytes` bytes and splits no character.
fn beginning(text: &str, bytes: usize) -> &str {
    let end = text
        .char_indices()
        .map(|(at, character)| at + character.len_utf8())
        .take_while(|end| *end <= bytes)
        .last();
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

impl fmt::Display for GrantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl FromStr for GrantName {
    type Err = String;

    /// Parses the name from a tag in AWS. Anyone who may tag the resource can write the tag, so
    /// only names that Kubernetes accepts are valid.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if is_namespace(namespace) && is_object_name(name) => {
                Ok(Self {
                    namespace: namespace.into(),
                    name: name.into(),
                })
            }
            _ => Err("not the namespace and name of a grant".into()),
        }
    }
}

fn is_namespace(text: &str) -> bool {
    text.len() <= 63 && is_label(text)
}

fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Returns whether this is a label of a DNS name, which Kubernetes requires.
fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// AWS organization, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Organization {
    /// The entire organization, by its ID.
    Whole(String),
    /// An organizational unit, by its path as in `aws:PrincipalOrgPaths`. With a `*` at the end it
    /// includes everything below the unit.
    Unit(String),
}

impl Organization {
    /// Returns whether this includes every account that `other` includes.
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

    /// Parses an ID or path as the Organizations API defines it.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            None if is_organization_id(text) => Ok(Self::Whole(text.into())),
            Some((id, path))
                if is_organization_id(id) && is_unit_path(path) && text.len() <= 512 =>
            {
                Ok(Self::Unit(text.into()))
            }
            _ => Err(format!(
                "`{text}` is neither an organization's ID (o-a1b2c3d4e5) nor a path of one (o-a1b2c3d4e5/r-ab12/*)"
            )),
        }
    }
}

fn is_organization_id(text: &str) -> bool {
    text.strip_prefix("o-")
        .is_some_and(|code| is_code(code, 10..=32))
}

/// Returns whether this is a path below an organization: a root, then units. It ends in `/`, or in
/// `/*`.
fn is_unit_path(path: &str) -> bool {
    let Some(inside) = path.strip_suffix('*').unwrap_or(path).strip_suffix('/') else {
        return false;
    };
    let mut parts = inside.split('/');
    parts.next().is_some_and(is_root) && parts.all(is_unit)
}

fn is_root(text: &str) -> bool {
    text.strip_prefix("r-")
        .is_some_and(|code| is_code(code, 4..=32))
}

fn is_unit(text: &str) -> bool {
    text.strip_prefix("ou-")
        .and_then(|codes| codes.split_once('-'))
        .is_some_and(|(root, own)| is_code(root, 4..=32) && is_code(own, 8..=32))
}

fn is_code(text: &str, lengths: RangeInclusive<usize>) -> bool {
    lengths.contains(&text.len()) && is_lower_alphanumeric(text)
}

#[cfg(test)]
mod tests;
