//! Names that were checked once: whoever holds one of these types need not check again.

use crate::policy::Installation;
use crate::policy::installation::hex;
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
        digits
            .then(|| Self(text.into()))
            .ok_or_else(|| format!("`{text}` is not an AWS account number (12 digits)"))
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
    /// A pattern that was recorded in a status or that a rule has: no more than the characters of
    /// names is asked of it, for what is recorded must be found again even if it would be refused
    /// today.
    pub fn recorded(text: &str) -> Option<Self> {
        let pattern = match text.strip_suffix('*') {
            Some(prefix) => Self::Prefix(prefix.into()),
            None => Self::Name(text.into()),
        };
        let (Self::Prefix(body) | Self::Name(body)) = &pattern;
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '/' || is_separator(c);
        let fits =
            body.chars().all(allowed) && text.len() <= 256 && text.len() >= pattern.shortest();
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

    /// As the definition of a grant has it: what ECR takes as a name, or the beginning of one and a
    /// `*`. A lone `*` is the empty prefix.
    fn from_str(text: &str) -> Result<Self, String> {
        let begins_one = |prefix: &str| {
            let (parents, last) = match prefix.rsplit_once('/') {
                Some((parents, last)) => (Some(parents), last),
                None => (None, prefix),
            };
            parents.is_none_or(|parents| parents.split('/').all(is_name_part))
                && (last.is_empty()
                    || is_name_part(last.strip_suffix(is_separator).unwrap_or(last)))
        };
        let fits = |pattern: &Self| match pattern {
            Self::Name(name) => name.split('/').all(is_name_part),
            Self::Prefix(prefix) => begins_one(prefix),
        };
        let refused =
            || format!("`{text}` is neither a repository name nor a prefix of one that ends in *");
        Self::recorded(text).filter(fits).ok_or_else(refused)
    }
}

/// A part of a repository's name between slashes: lowercase letters and digits, with single `.`,
/// `_` or `-` between them. Source: the ECR API's pattern of `RepositoryName`.
fn is_name_part(part: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
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
    /// A name for something of this grant in AWS: at most `longest` bytes, readable, and with a
    /// hash that keeps it apart from every other grant's, also after truncation.
    pub fn in_aws(&self, installation: &Installation, longest: usize) -> String {
        const DIGITS: usize = 10;
        let hash = hex(&format!("{installation}/{self}"), DIGITS);
        let readable = format!("{}-{}", self.namespace, self.name);
        let readable = beginning(&readable, longest.saturating_sub(DIGITS + 1));
        format!("{}-{hash}", readable.trim_end_matches(['-', '.']))
    }
}

/// The name of the operator's own session for a namespace's grants, or for none in particular, as
/// CloudTrail shows it: at most 64 bytes. A namespace that does not fit is cut, and a hash keeps it
/// apart from the others that begin like it.
pub fn session_name(installation: &Installation, namespace: Option<&str>) -> String {
    const LONGEST: usize = 64;
    const DIGITS: usize = 8;
    let who = namespace.unwrap_or("registry-grants");
    let room = LONGEST.saturating_sub(1 + installation.as_str().len());
    format!("{}@{installation}", bounded(who.to_owned(), room, DIGITS))
}

/// A text of at most so many bytes: a longer one is cut, and a hash keeps it apart from the others
/// that begin like it. The hash has so many hexadecimal digits.
pub fn bounded(text: String, longest: usize, digits: usize) -> String {
    if text.len() <= longest {
        return text;
    }
    let readable = beginning(&text, longest.saturating_sub(digits + 1));
    format!("{readable}-{}", hex(&text, digits))
}

/// The longest beginning of a text that has at most so many bytes and cuts no character in two.
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

    /// As a tag in AWS names it, which anybody who may tag there can write: names are such as
    /// Kubernetes takes.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_label = |label: &str| {
            !label.is_empty()
                && label.bytes().all(is_inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let fits = |(namespace, name): &(&str, &str)| {
            let is_namespace = namespace.len() <= 63 && is_label(namespace);
            is_namespace && name.len() <= 253 && name.split('.').all(is_label)
        };
        let parts = text.split_once('/').filter(fits);
        let parts = parts.map(|(namespace, name)| Self {
            namespace: namespace.into(),
            name: name.into(),
        });
        parts.ok_or_else(|| "not the namespace and name of a grant".into())
    }
}

/// An AWS organization, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Organization {
    /// All of it: its ID.
    Whole(String),
    /// An organizational unit, by its path as in `aws:PrincipalOrgPaths`; with a `*` behind it all
    /// that is below, too.
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
            format!(
                "`{text}` is neither an organization's ID (o-a1b2c3d4e5) nor a path of one (o-a1b2c3d4e5/r-ab12/*)"
            )
        };
        let coded = |part: &str, lengths: std::ops::RangeInclusive<usize>| {
            lengths.contains(&part.len())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let is_id = |part: &str| {
            part.strip_prefix("o-")
                .is_some_and(|code| coded(code, 10..=32))
        };
        let is_root = |part: &str| {
            part.strip_prefix("r-")
                .is_some_and(|code| coded(code, 4..=32))
        };
        let is_unit = |part: &str| {
            let codes = part
                .strip_prefix("ou-")
                .and_then(|codes| codes.split_once('-'));
            codes.is_some_and(|(root, own)| coded(root, 4..=32) && coded(own, 8..=32))
        };
        let Some((id, path)) = text.split_once('/') else {
            return if is_id(text) {
                Ok(Self::Whole(text.into()))
            } else {
                Err(error())
            };
        };
        let inside = path
            .strip_suffix('*')
            .unwrap_or(path)
            .strip_suffix('/')
            .ok_or_else(error)?;
        let mut parts = inside.split('/');
        let fits = is_id(id)
            && parts.next().is_some_and(is_root)
            && parts.all(is_unit)
            && text.len() <= 512;
        if fits {
            Ok(Self::Unit(text.into()))
        } else {
            Err(error())
        }
    }
}

#[cfg(test)]
mod tests;
