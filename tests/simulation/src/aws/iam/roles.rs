//! Roles, their trust policies, boundaries and tags.

use super::super::answer::{ApiError, Xml};
use super::super::documents::{Kind, Policy, Print};
use super::super::entities::{Role, Tags};
use super::super::state::{Change, key};
use super::super::world::Run;
use super::pages::{Page, after_marker, marker};
use super::{Answer, arn, date, encoded, managed, over, path, quota, refused, write_tags};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Returns the role that the call names, as the call sees it.
pub(super) fn seen(run: &Run<'_>, name: &str) -> Result<Arc<Role>, ApiError> {
    run.core
        .state
        .account(&run.account)
        .and_then(|account| account.roles.at(&key(name), run.seen))
        .cloned()
        .ok_or_else(|| missing(name))
}

/// Returns the present state of a role that the call sees.
pub(super) fn present(run: &Run<'_>, name: &str) -> Result<Arc<Role>, ApiError> {
    seen(run, name)?;
    run.core
        .state
        .role(&run.account, name)
        .cloned()
        .ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::no_such_entity(format!("The role with name {name} cannot be found."))
}

/// Changes the role that the call names.
pub(super) fn change(
    run: &mut Run<'_>,
    change: impl FnOnce(&Run<'_>, &mut Role) -> Result<(), ApiError>,
) -> Answer {
    let mut role = Role::clone(&*present(run, run.text("RoleName"))?);
    change(run, &mut role)?;
    put(run, role);
    Ok(Xml::default())
}

fn put(run: &mut Run<'_>, role: Role) {
    let change = Change::Role {
        account: run.account.clone(),
        name: role.name.clone(),
        to: Some(Arc::new(role)),
    };
    run.commit(&change);
}

pub(super) fn create(run: &mut Run<'_>) -> Answer {
    let name = run.text("RoleName").to_owned();
    if run.core.state.role(&run.account, &name).is_some() {
        return Err(ApiError::exists(format!(
            "Role with name {name} already exists."
        )));
    }
    let trust = trust(run, run.text("AssumeRolePolicyDocument"))?;
    let boundary = run
        .call
        .parameters
        .text("PermissionsBoundary")
        .map(|arn| managed::boundary(run, arn))
        .transpose()?;
    let tags = with_tags(run, Tags::new())?;
    let limit = quota(run, |quotas| quotas.roles);
    let account = run.core.state.account(&run.account);
    if account.is_some_and(|account| account.roles.len() >= limit) {
        return Err(over("RolesPerAccount", limit));
    }
    let path = path(run);
    let parameters = &run.call.parameters;
    let role = Role {
        arn: arn(run, "role", &path, &name),
        id: run.core.ids.unique("AROA"),
        created: run.now,
        description: parameters.text("Description").map(String::from),
        max_session_seconds: parameters.number("MaxSessionDuration").unwrap_or(3600),
        inline: BTreeMap::new(),
        attached: BTreeSet::new(),
        name,
        path,
        boundary,
        trust,
        tags,
    };
    let mut xml = Xml::default();
    xml.within("Role", |xml| write(run, xml, &role, Extent::Whole));
    put(run, role);
    Ok(xml)
}

pub(super) fn get(run: &mut Run<'_>) -> Answer {
    let role = seen(run, run.text("RoleName"))?;
    let mut xml = Xml::default();
    xml.within("Role", |xml| {
        write(run, xml, &role, Extent::Whole);
        xml.0.push_str("<RoleLastUsed/>");
    });
    Ok(xml)
}

pub(super) fn list(run: &mut Run<'_>) -> Answer {
    let prefix = run.call.parameters.text("PathPrefix").unwrap_or("/");
    let page = match run.core.state.account(&run.account) {
        Some(account) => {
            let roles = account.roles.iter_at(run.seen, &marker(run));
            let under = roles
                .filter(|(_, role)| role.path.starts_with(prefix))
                .map(|(key, role)| (key.to_owned(), role.clone()));
            Page::of(run, under)
        }
        None => Page::of(run, std::iter::empty()),
    };
    let mut xml = Xml::default();
    xml.list("Roles", &page.items, |xml, role| {
        write(run, xml, role, Extent::Listed);
    });
    page.end(&mut xml);
    Ok(xml)
}

pub(super) fn update(run: &mut Run<'_>) -> Answer {
    change(run, |run, role| {
        let parameters = &run.call.parameters;
        if let Some(text) = parameters.text("Description") {
            role.description = Some(text.to_owned());
        }
        if let Some(seconds) = parameters.number("MaxSessionDuration") {
            role.max_session_seconds = seconds;
        }
        Ok(())
    })
}

pub(super) fn delete(run: &mut Run<'_>) -> Answer {
    let name = run.text("RoleName").to_owned();
    let role = present(run, &name)?;
    let in_use = if run.core.state.account(&run.account).is_some_and(|account| {
        let has =
            |role: &Option<String>| role.as_deref().is_some_and(|role| key(role) == key(&name));
        account
            .profiles
            .iter()
            .any(|(_, profile)| has(&profile.role))
    }) {
        Some("must remove roles from instance profile first.")
    } else if !role.attached.is_empty() {
        Some("must detach all policies first.")
    } else if !role.inline.is_empty() {
        Some("must delete policies first.")
    } else {
        None
    };
    if let Some(first) = in_use {
        return Err(ApiError::conflict(format!("Cannot delete entity, {first}")));
    }
    let change = Change::Role {
        account: run.account.clone(),
        name: role.name.clone(),
        to: None,
    };
    run.commit(&change);
    Ok(Xml::default())
}

pub(super) fn update_trust(run: &mut Run<'_>) -> Answer {
    present(run, run.text("RoleName"))?;
    let trust = trust(run, run.text("PolicyDocument"))?;
    change(run, |_, role| {
        role.trust = trust;
        Ok(())
    })
}

fn trust(run: &Run<'_>, text: &str) -> Result<Policy, ApiError> {
    let policy = policy(run, Kind::Trust, text)?;
    let limit = quota(run, |quotas| quotas.trust_characters);
    if text.chars().count() > limit {
        return Err(over("ACLSizePerRole", limit));
    }
    Ok(policy)
}

/// Stores a document of the call's account.
pub(super) fn policy(run: &Run<'_>, kind: Kind, text: &str) -> Result<Policy, ApiError> {
    let state = &run.core.state;
    let partition = state
        .account(&run.account)
        .map_or("aws", |account| account.partition);
    let stored_as = |principal: &str| state.stored_principal(principal, partition, run.seen);
    Policy::write(kind, text, &stored_as).map_err(refused)
}

pub(super) fn put_boundary(run: &mut Run<'_>) -> Answer {
    change(run, |run, role| {
        role.boundary = Some(managed::boundary(run, run.text("PermissionsBoundary"))?);
        Ok(())
    })
}

pub(super) fn delete_boundary(run: &mut Run<'_>) -> Answer {
    change(run, |_, role| match role.boundary.take() {
        Some(_) => Ok(()),
        None => Err(ApiError::no_such_entity(format!(
            "Principal {} does not have scope",
            role.id
        ))),
    })
}

pub(super) fn tag(run: &mut Run<'_>) -> Answer {
    change(run, |run, role| {
        role.tags = with_tags(run, std::mem::take(&mut role.tags))?;
        Ok(())
    })
}

/// Adds the call's tags. A role's keys ignore case, and a new value also changes the key's case.
fn with_tags(run: &Run<'_>, mut tags: Tags) -> Result<Tags, ApiError> {
    let new = run.call.parameters.tags();
    let keys: BTreeSet<String> = new.iter().map(|(tag, _)| key(tag)).collect();
    if keys.len() < new.len() {
        return Err(duplicate_keys());
    }
    tags.retain(|tag, _| !keys.contains(&key(tag)));
    tags.extend(new);
    check_tags(run, &tags)?;
    Ok(tags)
}

pub(super) fn duplicate_keys() -> ApiError {
    ApiError::new(
        400,
        "InvalidInput",
        "Duplicate tag keys found. Please note that Tag keys are case insensitive.",
    )
}

pub(super) fn check_tags(run: &Run<'_>, tags: &Tags) -> Result<(), ApiError> {
    let limit = quota(run, |quotas| quotas.tags);
    if tags.len() > limit {
        return Err(over("TagsPerResource", limit));
    }
    Ok(())
}

pub(super) fn untag(run: &mut Run<'_>) -> Answer {
    change(run, |run, role| {
        let keys: BTreeSet<String> = run
            .call
            .parameters
            .list("TagKeys")
            .into_iter()
            .map(key)
            .collect();
        role.tags.retain(|tag, _| !keys.contains(&key(tag)));
        Ok(())
    })
}

pub(super) fn list_tags(run: &mut Run<'_>) -> Answer {
    let role = seen(run, run.text("RoleName"))?;
    Ok(tag_page(run, &role.tags))
}

/// Writes a page of tags.
pub(super) fn tag_page(run: &Run<'_>, tags: &Tags) -> Xml {
    let all = tags.iter().map(|(key, value)| (key.as_str(), (key, value)));
    let page = Page::of(run, after_marker(run, all));
    let mut xml = Xml::default();
    xml.list("Tags", &page.items, |xml, (key, value)| {
        xml.text("Key", key).text("Value", value);
    });
    page.end(&mut xml);
    xml
}

/// How much of a role an answer contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it.
    Whole,
    /// Without tags and boundary, as in lists.
    Listed,
    /// The role of an instance profile: only what identifies it, and its trust policy.
    Inside,
}

/// Writes a role.
pub(super) fn write(run: &mut Run<'_>, xml: &mut Xml, role: &Role, extent: Extent) {
    xml.text("Path", &role.path)
        .text("RoleName", &role.name)
        .text("RoleId", &role.id)
        .text("Arn", &role.arn)
        .text("CreateDate", &date(role.created));
    let document = document(run, &role.trust);
    xml.text("AssumeRolePolicyDocument", &document);
    if extent == Extent::Inside {
        return;
    }
    if let Some(description) = &role.description {
        xml.text("Description", description);
    }
    xml.value("MaxSessionDuration", role.max_session_seconds);
    if extent == Extent::Listed {
        return;
    }
    if let Some(boundary) = &role.boundary {
        xml.within("PermissionsBoundary", |xml| {
            xml.text("PermissionsBoundaryType", "PermissionsBoundaryPolicy")
                .text("PermissionsBoundaryArn", boundary);
        });
    }
    if !role.tags.is_empty() {
        write_tags(xml, &role.tags);
    }
}

/// Returns a document as IAM prints it, percent-encoded.
pub(super) fn document(run: &mut Run<'_>, policy: &Policy) -> String {
    let core = &mut *run.core;
    let (state, seen) = (&core.state, run.seen);
    let arn_of = |id: &str| state.arn_of_at(id, seen);
    let reworded = core.settings.rewords.then_some(&mut core.wording);
    let print = Print {
        arn_of: &arn_of,
        reworded,
    };
    encoded(&policy.minified(print))
}
