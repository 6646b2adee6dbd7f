//! The Sids of our statements. They are the only mark by which an installation recognises its own
//! statements in a document that others write as well.
//!
//! A Sid consists of `RegistryGrants`, 12 hex digits of the installation, and 8 hex digits derived
//! from the access that the statement allows: its actions and the shape of its condition, but never
//! its principals, so that a statement keeps its Sid as grants come and go. IAM accepts only
//! letters and digits here, hence the fixed widths without separators.

use super::document::{Document, Statement};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

const MARK: &str = "RegistryGrants";
const GROUP_DIGITS: usize = 8;

/// ID of one running operator in one cluster: 12 lowercase hex digits, in every tag and Sid that it
/// owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Installation(String);

impl Installation {
    const DIGITS: usize = 12;

    /// Returns the installation of the cluster whose `kube-system` namespace has this UID.
    pub fn of_cluster(kube_system_uid: &str) -> Self {
        Self(hex(kube_system_uid, Self::DIGITS))
    }

    /// Returns whether the statement belongs to this installation.
    pub fn owns(&self, statement: &Statement) -> bool {
        let Some(rest) = statement.sid_text().and_then(|sid| sid.strip_prefix(MARK)) else {
            return false;
        };
        let Some(group) = rest.strip_prefix(self.0.as_str()) else {
            return false;
        };
        group.len() == GROUP_DIGITS
            && group
                .bytes()
                .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }

    /// Returns the Sid of our statement for the access that `group` describes.
    pub fn sid(&self, group: &str) -> String {
        format!("{MARK}{}{}", self.0, hex(group, GROUP_DIGITS))
    }

    /// Returns the 12 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Document {
    /// Returns the statements of this installation.
    pub fn ours(&self, installation: &Installation) -> impl Iterator<Item = &Statement> {
        self.statements
            .iter()
            .filter(|statement| installation.owns(statement))
    }

    /// Returns the document without the statements of this installation.
    pub fn without_ours(mut self, installation: &Installation) -> Self {
        self.statements
            .retain(|statement| !installation.owns(statement));
        self
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Installation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = text.len() == Self::DIGITS
            && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| Self(text.into()))
            .ok_or_else(|| "an installation ID is 12 hex digits, 0-9 and a-f".into())
    }
}

/// Returns the first hex digits of the text's SHA-256.
pub fn hex(text: &str, digits: usize) -> String {
    let mut out: String = Sha256::digest(text.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    out.truncate(digits);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn installation_owns_only_its_own_statements() {
        let mine = Installation::of_cluster("a");
        let theirs = Installation::of_cluster("b");
        let statement = Statement::allow(["ecr:PutImage"]).sid(mine.sid("group"));
        assert!(mine.owns(&statement));
        assert!(!theirs.owns(&statement));
    }

    #[rstest]
    #[case("RegistryGrants")]
    #[case("RegistryGrantsMyOwn")]
    #[case("new statement")]
    #[case("RegistryGrants0123456789ab")]
    #[case("RegistryGrants0123456789abDEADBEEF")]
    #[case("RegistryGrants0123456789ab012345678")]
    fn sid_similar_to_ours_is_foreign(#[case] sid: &str) {
        let mine: Installation = "0123456789ab".parse().unwrap();
        assert!(!mine.owns(&Statement::allow(["ecr:PutImage"]).sid(sid)));
    }
}
