//! IAM: roles, instance profiles and managed policies, as the operator and its tests call them.
//!
//! - `roles`: roles, their trust policies, boundaries and tags.
//! - `role_policies`: inline and attached policies of roles.
//! - `profiles`: instance profiles.
//! - `managed`: managed policies and their versions.
//! - `managed_by_aws`: AWS's own managed policies for ECR.
//! - `details`: the report about a whole account.
//! - `pages`: lists in pages.

mod details;
mod managed;
mod managed_by_aws;
mod pages;
mod profiles;
mod role_policies;
mod roles;

use super::answer::{ApiError, Xml};
use super::documents::{Malformed, UnknownPrincipal, Written};
use super::entities::{Denied, Tags};
use super::identity::Caller;
use super::world::Run;
use jiff::Timestamp;

type Answer = Result<Xml, ApiError>;

/// Carries out an operation.
pub(super) fn perform(run: &mut Run<'_>) -> Answer {
    match run.call.operation.as_str() {
        "CreateRole" => roles::create(run),
        "GetRole" => roles::get(run),
        "ListRoles" => roles::list(run),
        "UpdateRole" => roles::update(run),
        "DeleteRole" => roles::delete(run),
        "UpdateAssumeRolePolicy" => roles::update_trust(run),
        "PutRolePermissionsBoundary" => roles::put_boundary(run),
        "DeleteRolePermissionsBoundary" => roles::delete_boundary(run),
        "TagRole" => roles::tag(run),
        "UntagRole" => roles::untag(run),
        "ListRoleTags" => roles::list_tags(run),
        "PutRolePolicy" => role_policies::put(run),
        "GetRolePolicy" => role_policies::get(run),
        "DeleteRolePolicy" => role_policies::delete(run),
        "ListRolePolicies" => role_policies::list(run),
        "AttachRolePolicy" => role_policies::attach(run),
        "DetachRolePolicy" => role_policies::detach(run),
        "ListAttachedRolePolicies" => role_policies::list_attached(run),
        "CreateInstanceProfile" => profiles::create(run),
        "GetInstanceProfile" => profiles::get(run),
        "DeleteInstanceProfile" => profiles::delete(run),
        "AddRoleToInstanceProfile" => profiles::add_role(run),
        "RemoveRoleFromInstanceProfile" => profiles::remove_role(run),
        "ListInstanceProfiles" => profiles::list(run),
        "ListInstanceProfilesForRole" => profiles::list_for_role(run),
        "TagInstanceProfile" => profiles::tag(run),
        "UntagInstanceProfile" => profiles::untag(run),
        "ListInstanceProfileTags" => profiles::list_tags(run),
        "CreatePolicy" => managed::create(run),
        "GetPolicy" => managed::get(run),
        "DeletePolicy" => managed::delete(run),
        "ListPolicies" => managed::list(run),
        "CreatePolicyVersion" => managed::create_version(run),
        "GetPolicyVersion" => managed::get_version(run),
        "DeletePolicyVersion" => managed::delete_version(run),
        "SetDefaultPolicyVersion" => managed::set_default_version(run),
        "ListPolicyVersions" => managed::list_versions(run),
        "GetAccountAuthorizationDetails" => details::get(run),
        other => Err(ApiError::new(
            400,
            "InvalidAction",
            format!("Could not find operation {other} for version 2010-05-08"),
        )),
    }
}

/// Returns the error of a denied call.
pub(super) fn denied(run: &Run<'_>, caller: &Caller, action: &str, denied: Denied) -> ApiError {
    let parameters = &run.call.parameters;
    let named = [
        ("InstanceProfileName", "instance profile"),
        ("RoleName", "role"),
        ("PolicyArn", "policy"),
        ("PathPrefix", "path"),
    ];
    let resource = named
        .into_iter()
        .find_map(|(name, kind)| Some(format!("{kind} {}", parameters.text(name)?)))
        .unwrap_or_else(|| "*".into());
    let message = format!(
        "User: {} is not authorized to perform: {action} on resource: {resource} {}",
        caller.arn(),
        denied.reason(action)
    );
    ApiError::new(403, "AccessDenied", message)
}

/// Returns the error of a document that was not stored.
fn refused(written: Written) -> ApiError {
    match written {
        Written::Malformed(Malformed(message)) => ApiError::malformed(message),
        Written::Unknown(UnknownPrincipal(name)) => {
            ApiError::malformed(format!("Invalid principal in policy: \"AWS\":\"{name}\""))
        }
    }
}

/// Percent-encodes a document as IAM does (RFC 3986).
fn encoded(text: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SET: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    utf8_percent_encode(text, SET).to_string()
}

/// Returns a time as IAM prints it.
pub(super) fn date(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}

fn write_tags(xml: &mut Xml, tags: &Tags) {
    xml.list("Tags", tags, |member, (key, value)| {
        member.text("Key", key).text("Value", value);
    });
}

fn path(run: &Run<'_>) -> String {
    run.call.parameters.text("Path").unwrap_or("/").to_owned()
}

/// Builds the ARN of something in the call's account.
fn arn(run: &Run<'_>, kind: &str, path: &str, name: &str) -> String {
    let account = run.core.state.account(&run.account);
    let partition = account.map_or("aws", |account| account.partition);
    format!("arn:{partition}:iam::{}:{kind}{path}{name}", run.account)
}

/// Returns the quota that `of` selects.
fn quota(run: &Run<'_>, of: impl Fn(&super::entities::Quotas) -> usize) -> usize {
    run.core
        .state
        .account(&run.account)
        .map_or(usize::MAX, |account| of(&account.settings.quotas))
}

fn over(quota: &str, limit: usize) -> ApiError {
    ApiError::limit(format!("Cannot exceed quota for {quota}: {limit}"))
}
