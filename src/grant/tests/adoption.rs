//! Adoption of a foreign role: only if its owner consents to exactly this grant of exactly this
//! installation.

use super::drift::as_made;
use super::resources::{Cluster, grant_with_plain_role, now, owner};
use crate::api::conditions::Reason;
use crate::grant::desired::DesiredRole;
use crate::grant::diff::{Step, registry_role};
use crate::grant::ownership::{Owner, TAG_ALLOW_ADOPT};
use crate::grant::{GrantName, Problem};

fn taking_over() -> DesiredRole {
    let desired = Cluster::of_the_article()
        .desired(&grant_with_plain_role(|_| {}))
        .registry_role
        .unwrap();
    DesiredRole {
        adopts: true,
        ..desired
    }
}

/// Returns the steps for a foreign role with this consent.
fn with_consent(owner: &Owner, consent: &str) -> Result<Vec<Step>, Problem> {
    let mut role = as_made(&taking_over(), owner);
    role.tags = [(TAG_ALLOW_ADOPT.to_owned(), consent.to_owned())].into();
    registry_role(&taking_over(), Some(&role), owner, now())
}

/// Returns the tag value that a refusal asks for.
fn asked(refused: Problem) -> String {
    assert_eq!(refused.reason, Reason::Conflict);
    let (_, value) = refused
        .message
        .rsplit_once(&format!("must tag it {TAG_ALLOW_ADOPT}="))
        .expect("no tag to set");
    value.to_owned()
}

#[test]
fn consent_names_the_installation_and_the_grant() {
    let consent = asked(with_consent(&owner(), "").unwrap_err());
    assert_eq!(
        consent,
        format!("{}/{}", owner().installation, owner().grant)
    );
    assert!(with_consent(&owner(), &consent).is_ok());
    for other in [
        "true",
        "0000000000ff/team-b/miq-devops",
        &format!("{}/team-b/other", owner().installation),
    ] {
        assert!(with_consent(&owner(), other).is_err(), "{other}");
    }
}

#[test]
fn consent_without_an_installation_is_refused_naming_the_tag() {
    let earlier = owner().grant.to_string();
    let refused = with_consent(&owner(), &earlier).unwrap_err();
    assert!(
        refused.message.contains(&format!(
            "{TAG_ALLOW_ADOPT}={earlier} does not name this installation"
        )),
        "{refused:?}"
    );
    assert!(with_consent(&owner(), &asked(refused)).is_ok());
}

#[test]
fn consent_to_the_longest_names_fits_a_tag() {
    let grant = |name: &str| GrantName {
        namespace: "n".repeat(63),
        name: name.repeat(190),
    };
    let consent = |name: &str| {
        let owner = Owner {
            grant: grant(name),
            ..owner()
        };
        let consent = asked(with_consent(&owner, "").unwrap_err());
        assert!(with_consent(&owner, &consent).is_ok());
        consent
    };
    assert!(consent("a").len() <= 256);
    assert_ne!(consent("a"), consent("b"));
}
