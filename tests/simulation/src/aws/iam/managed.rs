//! Managed policies and their versions.

use super::super::answer::{ApiError, Xml};
use super::super::documents::{Kind, Policy};
use super::super::entities::{ManagedPolicy, PolicyVersion, Tags};
use super::super::state::Change;
use super::super::world::Run;
use super::pages::{Page, after_marker};
use super::role_policies::characters;
use super::{Answer, arn, date, managed_by_aws, over, path, quota, roles, write_tags};
use std::sync::Arc;

const MOST_VERSIONS: usize = 5;

/// Returns the policy with this ARN, as the call sees it.
pub(super) fn find(run: &Run<'_>, arn: &str) -> Option<Arc<ManagedPolicy>> {
    let account = run.core.state.account(&run.account)?;
    match managed_by_aws::find(account.partition, arn) {
        Some(policy) => Some(policy),
        None => account.policies.at(arn, run.seen).cloned(),
    }
}

fn named(run: &Run<'_>) -> Result<Arc<ManagedPolicy>, ApiError> {
    let arn = run.text("PolicyArn");
    find(run, arn).ok_or_else(|| ApiError::no_such_entity(format!("Policy {arn} was not found.")))
}

/// Checks that a permissions boundary exists.
pub(super) fn boundary(run: &Run<'_>, arn: &str) -> Result<String, ApiError> {
    if arn.splitn(6, ':').count() < 6 {
        return Err(ApiError::validation("Invalid ARN:  Could not be parsed!"));
    }
    match find(run, arn) {
        Some(_) => Ok(arn.to_owned()),
        None => Err(ApiError::no_such_entity(format!(
            "Scope ARN: {arn} does not exist or is not attachable."
        ))),
    }
}

pub(super) fn create(run: &mut Run<'_>) -> Answer {
    let name = run.text("PolicyName").to_owned();
    let account = run.core.state.account(&run.account);
    let same = |other: &ManagedPolicy| other.name.eq_ignore_ascii_case(&name);
    if account.is_some_and(|account| account.policies.iter().any(|(_, other)| same(other))) {
        return Err(ApiError::exists(format!(
            "A policy called {name} already exists. Duplicate names are not allowed."
        )));
    }
    let document = document(run)?;
    let limit = quota(run, |quotas| quotas.policies);
    if account_policies(run) >= limit {
        return Err(over("PoliciesPerAccount", limit));
    }
    let tags: Tags = run.call.parameters.tags().into_iter().collect();
    let path = path(run);
    let policy = ManagedPolicy {
        arn: arn(run, "policy", &path, &name),
        id: run.core.ids.unique("ANPA"),
        created: run.now,
        updated: run.now,
        description: run.text("Description").to_owned(),
        versions: [(1, version(run, document))].into(),
        default: 1,
        next: 2,
        name,
        path,
        tags,
    };
    let mut xml = Xml::default();
    xml.within("Policy", |xml| write(run, xml, &policy));
    put(run, policy.arn.clone(), Some(policy));
    Ok(xml)
}

fn account_policies(run: &Run<'_>) -> usize {
    let account = run.core.state.account(&run.account);
    account.map_or(0, |account| account.policies.len())
}

fn version(run: &Run<'_>, document: Policy) -> PolicyVersion {
    PolicyVersion {
        document,
        created: run.now,
    }
}

fn document(run: &Run<'_>) -> Result<Policy, ApiError> {
    let policy = roles::policy(run, Kind::Identity, run.text("PolicyDocument"))?;
    let limit = quota(run, |quotas| quotas.managed_characters);
    if characters(&policy) > limit {
        return Err(over("PolicySize", limit));
    }
    Ok(policy)
}

fn put(run: &mut Run<'_>, arn: String, policy: Option<ManagedPolicy>) {
    let change = Change::ManagedPolicy {
        account: run.account.clone(),
        arn,
        to: policy.map(Arc::new),
    };
    run.commit(&change);
}

/// Changes a policy of the account; AWS's own cannot be changed.
fn change(
    run: &mut Run<'_>,
    change: impl FnOnce(&Run<'_>, &mut ManagedPolicy) -> Result<(), ApiError>,
) -> Result<ManagedPolicy, ApiError> {
    let mut policy = ManagedPolicy::clone(&*own(run)?);
    change(run, &mut policy)?;
    policy.updated = run.now;
    put(run, policy.arn.clone(), Some(policy.clone()));
    Ok(policy)
}

fn own(run: &Run<'_>) -> Result<Arc<ManagedPolicy>, ApiError> {
    let arn = run.text("PolicyArn");
    if managed_by_aws::is_of_aws(arn) {
        let message = format!("Policy {arn} is managed by AWS.");
        return Err(ApiError::new(403, "AccessDenied", message));
    }
    named(run)
}

pub(super) fn get(run: &mut Run<'_>) -> Answer {
    let policy = named(run)?;
    let mut xml = Xml::default();
    xml.within("Policy", |xml| write(run, xml, &policy));
    Ok(xml)
}

pub(super) fn delete(run: &mut Run<'_>) -> Answer {
    let policy = own(run)?;
    let (attached, as_boundary) = uses(run, &policy.arn);
    if attached + as_boundary > 0 {
        return Err(ApiError::conflict(
            "Cannot delete a policy attached to entities.",
        ));
    }
    if policy.versions.len() > 1 {
        return Err(ApiError::conflict(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.",
        ));
    }
    put(run, policy.arn.clone(), None);
    Ok(Xml::default())
}

/// Counts the roles to which a policy is attached, and those whose boundary it is.
fn uses(run: &Run<'_>, arn: &str) -> (usize, usize) {
    let Some(account) = run.core.state.account(&run.account) else {
        return (0, 0);
    };
    account.roles.iter().fold((0, 0), |counts, (_, role)| {
        (
            counts.0 + usize::from(role.attached.contains(arn)),
            counts.1 + usize::from(role.boundary.as_deref() == Some(arn)),
        )
    })
}

pub(super) fn list(run: &mut Run<'_>) -> Answer {
    let parameters = &run.call.parameters;
    let scope = parameters.text("Scope").unwrap_or("All");
    let prefix = parameters.text("PathPrefix").unwrap_or("/");
    let mut found: Vec<Arc<ManagedPolicy>> = Vec::new();
    if let Some(account) = run.core.state.account(&run.account) {
        if scope != "AWS" {
            found.extend(
                account
                    .policies
                    .iter_at(run.seen, "")
                    .map(|(_, policy)| policy.clone()),
            );
        }
        if scope != "Local" {
            found.extend(managed_by_aws::all(account.partition));
        }
    }
    found.retain(|policy| policy.path.starts_with(prefix));
    found.sort_by(|one, other| one.arn.cmp(&other.arn));
    let keyed = found.iter().map(|policy| (policy.arn.as_str(), policy));
    let page = Page::of(run, after_marker(run, keyed));
    let mut xml = Xml::default();
    xml.list("Policies", &page.items, |xml, policy| {
        write(run, xml, policy)
    });
    page.end(&mut xml);
    Ok(xml)
}

pub(super) fn create_version(run: &mut Run<'_>) -> Answer {
    let has = own(run)?.versions.len();
    if has >= MOST_VERSIONS {
        return Err(ApiError::limit(
            "A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version.",
        ));
    }
    let document = document(run)?;
    let changed = change(run, |run, policy| {
        policy.versions.insert(policy.next, version(run, document));
        if run.call.parameters.flag("SetAsDefault") {
            policy.default = policy.next;
        }
        policy.next += 1;
        Ok(())
    })?;
    let number = changed.next - 1;
    let mut xml = Xml::default();
    xml.within("PolicyVersion", |xml| {
        write_version(xml, &changed, number);
    });
    Ok(xml)
}

fn number(run: &Run<'_>, policy: &ManagedPolicy) -> Result<u32, ApiError> {
    let id = run.text("VersionId");
    id.strip_prefix('v')
        .and_then(|digits| digits.parse().ok())
        .filter(|number| policy.versions.contains_key(number))
        .ok_or_else(|| {
            ApiError::no_such_entity(format!(
                "Policy {} version {id} does not exist or is not attachable.",
                policy.arn
            ))
        })
}

pub(super) fn get_version(run: &mut Run<'_>) -> Answer {
    let policy = named(run)?;
    let number = number(run, &policy)?;
    let document = roles::document(run, &policy.versions[&number].document);
    let mut xml = Xml::default();
    xml.within("PolicyVersion", |xml| {
        xml.text("Document", &document);
        write_version(xml, &policy, number);
    });
    Ok(xml)
}

pub(super) fn delete_version(run: &mut Run<'_>) -> Answer {
    change(run, |run, policy| {
        let number = number(run, policy)?;
        if number == policy.default {
            return Err(ApiError::conflict(
                "Cannot delete the default version of a policy.",
            ));
        }
        policy.versions.remove(&number);
        Ok(())
    })?;
    Ok(Xml::default())
}

pub(super) fn set_default_version(run: &mut Run<'_>) -> Answer {
    change(run, |run, policy| {
        policy.default = number(run, policy)?;
        Ok(())
    })?;
    Ok(Xml::default())
}

pub(super) fn list_versions(run: &mut Run<'_>) -> Answer {
    let policy = named(run)?;
    let ids: Vec<(String, u32)> = policy
        .versions
        .keys()
        .map(|number| (format!("{number:09}"), *number))
        .collect();
    let keyed = ids.iter().map(|(key, number)| (key.as_str(), *number));
    let page = Page::of(run, after_marker(run, keyed));
    let mut xml = Xml::default();
    xml.list("Versions", &page.items, |xml, number| {
        write_version(xml, &policy, *number);
    });
    page.end(&mut xml);
    Ok(xml)
}

fn write_version(xml: &mut Xml, policy: &ManagedPolicy, number: u32) {
    xml.value("VersionId", format_args!("v{number}"))
        .value("IsDefaultVersion", number == policy.default);
    if let Some(version) = policy.versions.get(&number) {
        xml.text("CreateDate", &date(version.created));
    }
}

fn write(run: &Run<'_>, xml: &mut Xml, policy: &ManagedPolicy) {
    let (attached, as_boundary) = uses(run, &policy.arn);
    xml.text("PolicyName", &policy.name)
        .text("PolicyId", &policy.id)
        .text("Arn", &policy.arn)
        .text("Path", &policy.path)
        .value("DefaultVersionId", format_args!("v{}", policy.default))
        .value("AttachmentCount", attached)
        .value("PermissionsBoundaryUsageCount", as_boundary)
        .value("IsAttachable", true)
        .text("CreateDate", &date(policy.created))
        .text("UpdateDate", &date(policy.updated));
    if !policy.description.is_empty() {
        xml.text("Description", &policy.description);
    }
    if !policy.tags.is_empty() {
        write_tags(xml, &policy.tags);
    }
}
