//! Parses the values of flags.

use crate::api::account::Partition;
use crate::api::grant::ManagedPolicy;
use crate::grant::AccountId;
use crate::grant::parse::{is_external_id, is_iam_name, is_path};
use crate::grant::partition::is_region;
use crate::policy::arn::Arn;
use serde::de::DeserializeOwned;

pub fn partition(text: &str) -> Result<Partition, String> {
    named(text).ok_or_else(|| "must be aws, aws-cn, aws-us-gov or aws-eusc".into())
}

pub fn managed_policy(text: &str) -> Result<ManagedPolicy, String> {
    named(text).ok_or_else(|| {
        "must be AmazonEC2ContainerRegistryPowerUser, AmazonEC2ContainerRegistryPullOnly or AmazonEC2ContainerRegistryReadOnly".into()
    })
}

/// Parses a name of an enum, as in the custom resources.
fn named<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_value(text.into()).ok()
}

pub fn role_arn(text: &str) -> Result<String, String> {
    let fits = if let Some(Arn {
        partition: in_partition,
        service: "iam",
        region: "",
        account,
        resource,
    }) = Arn::parse(text)
    {
        partition(in_partition).is_ok()
            && account.parse::<AccountId>().is_ok()
            && resource
                .strip_prefix("role/")
                .is_some_and(|role| role.split('/').all(|part| is_iam_name(part, 512)))
    } else {
        false
    };
    checked(
        text,
        fits,
        "must be the ARN of a role, such as arn:aws:iam::333333333333:role/registry-grants-operator",
    )
}

pub fn external_id(text: &str) -> Result<String, String> {
    checked(
        text,
        is_external_id(text),
        "must be 2 to 1,224 letters, digits and + = , . @ : / - _",
    )
}

/// Parses a tag key as the STS API defines it, but without characters that form a pattern or a
/// placeholder, or that a template would not treat as text.
pub fn session_tag_key(text: &str) -> Result<String, String> {
    let fits = (1..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.:/=+-@".contains(c));
    checked(
        text,
        fits,
        "must be 1 to 128 letters, digits and _ . : / = + - @",
    )
}

/// Parses the path. `/` is refused, because all roles of the account are under it, and the operator
/// could change each of them.
pub fn path(text: &str) -> Result<String, String> {
    let fits = is_path(text) && text != "/" && text.len() <= 512;
    checked(
        text,
        fits,
        "must begin and end with /, with a name between: the operator owns everything under it",
    )
}

pub fn role_name(text: &str) -> Result<String, String> {
    checked(
        text,
        is_iam_name(text, 64),
        "must be at most 64 letters, digits and + = , . @ - _",
    )
}

pub fn policy_name(text: &str) -> Result<String, String> {
    checked(
        text,
        is_iam_name(text, 128),
        "must be at most 128 letters, digits and + = , . @ - _",
    )
}

pub fn region(text: &str) -> Result<String, String> {
    checked(
        text,
        is_region(text),
        "is not a region's name, such as us-east-1",
    )
}

fn checked(text: &str, fits: bool, otherwise: &str) -> Result<String, String> {
    if fits {
        Ok(text.to_owned())
    } else {
        Err(otherwise.to_owned())
    }
}
