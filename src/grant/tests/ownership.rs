//! Owners, from resources and from tags.

use super::resources::{installation, owner};
use crate::grant::ownership::{Owner, TAG_GRANT, TAG_GRANT_UID, TAG_INSTALLATION, made_up_uid};
use rstest::rstest;

#[test]
fn owner_named_by_its_own_tags_is_the_same() {
    assert_eq!(
        Owner::named_by(&owner().tags(), &installation()),
        Some(owner())
    );
}

#[rstest]
#[case::no_installation(TAG_INSTALLATION, None)]
#[case::another_installation(TAG_INSTALLATION, Some("ba9876543210"))]
#[case::no_grant(TAG_GRANT, None)]
#[case::no_valid_grant(TAG_GRANT, Some("no-namespace"))]
fn tags_without_installation_or_grant_name_no_owner(
    #[case] tag: &str,
    #[case] value: Option<&str>,
) {
    let mut tags = owner().tags();
    tags.remove(tag);
    tags.extend(value.map(|value| (tag.to_owned(), value.to_owned())));
    assert_eq!(Owner::named_by(&tags, &installation()), None);
}

#[test]
fn made_up_uid_is_in_no_tag() {
    let grant = owner().grant;
    let uid = made_up_uid(&grant);
    let owner = Owner::of(grant, &uid, &installation());
    assert_eq!(owner.uid, "");
    assert!(!owner.tags().contains_key(TAG_GRANT_UID));
}
