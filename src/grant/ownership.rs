//! Ownership of resources in AWS: which grant of which installation a resource belongs to, and the
//! tags that say so.

use super::names::GrantName;
use crate::api::CrossAccountRegistryGrant;
use crate::policy::Installation;
use std::collections::BTreeMap;

/// The tag that names the installation.
pub const TAG_INSTALLATION: &str = "registrygrants.dev/installation";
/// The tag of the operator's own sessions that names the namespace whose grants they serve.
pub const TAG_NAMESPACE: &str = "registrygrants.dev/namespace";
/// The tag that names the grant.
pub const TAG_GRANT: &str = "registrygrants.dev/grant";
/// The tag that names the resource's UID.
pub const TAG_GRANT_UID: &str = "registrygrants.dev/grant-uid";

/// All tags that name the owner.
pub const OUR_TAGS: [&str; 3] = [TAG_INSTALLATION, TAG_GRANT, TAG_GRANT_UID];
/// The tag by which a role's owner allows this operator to put its policy on the role: `true`, or
/// an installation's ID.
pub const TAG_ALLOW_EXTEND: &str = "registrygrants.dev/allow-extend";
/// The tag by which a role's owner allows one grant to adopt the role: the installation's ID and
/// the grant's namespace and name, with `/` between.
pub const TAG_ALLOW_ADOPT: &str = "registrygrants.dev/allow-adopt";

/// Prefix of the UIDs of grants that are in no cluster yet.
const MADE_UP: &str = "manifest:";

/// Owner of a resource in AWS, as its tags name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The installation.
    pub installation: Installation,
    /// The grant.
    pub grant: GrantName,
    /// The resource's UID: it differs after deletion and recreation under the same name.
    pub uid: String,
}

impl Owner {
    /// Returns the owner of what a grant of this name and UID has in AWS. A made-up UID is left
    /// out, because tags in AWS contain no such UIDs.
    pub fn of(grant: GrantName, uid: &str, installation: &Installation) -> Self {
        Self {
            installation: installation.clone(),
            grant,
            uid: if is_made_up(uid) {
                String::new()
            } else {
                uid.to_owned()
            },
        }
    }

    /// Returns the owner of what this resource has in AWS.
    pub fn of_resource(resource: &CrossAccountRegistryGrant, installation: &Installation) -> Self {
        let uid = resource.metadata.uid.as_deref().unwrap_or_default();
        Self::of(GrantName::of(resource), uid, installation)
    }

    /// Returns the owner that tags name; `None` if they name another installation. Anyone who may
    /// tag the resource can write any value, but this operator never wrote a value that is not a
    /// valid grant name.
    pub fn named_by(tags: &BTreeMap<String, String>, installation: &Installation) -> Option<Self> {
        if tags.get(TAG_INSTALLATION).map(String::as_str) != Some(installation.as_str()) {
            return None;
        }
        Some(Self {
            installation: installation.clone(),
            grant: tags.get(TAG_GRANT)?.parse().ok()?,
            uid: tags.get(TAG_GRANT_UID).cloned().unwrap_or_default(),
        })
    }

    /// Returns the tags of the resources that this grant owns.
    pub fn tags(&self) -> BTreeMap<String, String> {
        let mut tags = BTreeMap::from([
            (TAG_INSTALLATION.into(), self.installation.to_string()),
            (TAG_GRANT.into(), self.grant.to_string()),
        ]);
        // A grant that is in no cluster yet has no UID.
        if !self.uid.is_empty() {
            tags.insert(TAG_GRANT_UID.into(), self.uid.clone());
        }
        tags
    }

    /// Returns whether a resource with these tags belongs to this grant. The UID does not count: an
    /// installation has only one grant of a name at a time, and after a restore from backup that
    /// grant has another UID.
    pub fn owns(&self, tags: &BTreeMap<String, String>) -> bool {
        tags.get(TAG_INSTALLATION)
            .is_some_and(|tag| tag == self.installation.as_str())
            && tags
                .get(TAG_GRANT)
                .is_some_and(|tag| *tag == self.grant.to_string())
    }

    /// Returns the name of this grant's inline policies.
    pub fn policy_name(&self) -> String {
        format!(
            "registry-grants-{}",
            self.grant.in_aws(&self.installation, 112)
        )
    }

    /// Returns the Sid of this installation's statement in an instance role's trust policy.
    pub fn trust_sid(&self) -> String {
        self.installation.sid("instance trust")
    }
}

/// Returns a UID for a grant that is in no cluster yet.
pub fn made_up_uid(grant: &GrantName) -> String {
    format!("{MADE_UP}{grant}")
}

fn is_made_up(uid: &str) -> bool {
    uid.starts_with(MADE_UP)
}
