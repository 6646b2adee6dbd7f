//! Instance profiles.

use super::super::answer::{ApiError, Xml};
use super::super::entities::{InstanceProfile, Tags};
use super::super::state::{Change, key};
use super::super::world::Run;
use super::pages::{Page, marker};
use super::roles::{self, Extent};
use super::{Answer, arn, date, over, path, quota, write_tags};
use std::collections::BTreeSet;
use std::sync::Arc;

fn seen(run: &Run<'_>) -> Result<Arc<InstanceProfile>, ApiError> {
    let name = run.text("InstanceProfileName");
    run.core
        .state
        .account(&run.account)
        .and_then(|account| account.profiles.at(&key(name), run.seen))
        .cloned()
        .ok_or_else(|| missing(name))
}

fn present(run: &Run<'_>) -> Result<Arc<InstanceProfile>, ApiError> {
    seen(run)?;
    let name = run.text("InstanceProfileName");
    run.core
        .state
        .profile(&run.account, name)
        .cloned()
        .ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::no_such_entity(format!("Instance Profile {name} cannot be found."))
}

fn change(
    run: &mut Run<'_>,
    change: impl FnOnce(&Run<'_>, &mut InstanceProfile) -> Result<(), ApiError>,
) -> Answer {
    let mut profile = InstanceProfile::clone(&*present(run)?);
    change(run, &mut profile)?;
    put(run, profile.name.clone(), Some(profile));
    Ok(Xml::default())
}

fn put(run: &mut Run<'_>, name: String, profile: Option<InstanceProfile>) {
    let change = Change::Profile {
        account: run.account.clone(),
        name,
        to: profile.map(Arc::new),
    };
    run.commit(&change);
}

pub(super) fn create(run: &mut Run<'_>) -> Answer {
    let name = run.text("InstanceProfileName").to_owned();
    if run.core.state.profile(&run.account, &name).is_some() {
        return Err(ApiError::exists(format!(
            "Instance Profile {name} already exists."
        )));
    }
    let limit = quota(run, |quotas| quotas.instance_profiles);
    let account = run.core.state.account(&run.account);
    if account.is_some_and(|account| account.profiles.len() >= limit) {
        return Err(over("InstanceProfilesPerAccount", limit));
    }
    let tags = with_tags(run, Tags::new())?;
    let path = path(run);
    let profile = InstanceProfile {
        arn: arn(run, "instance-profile", &path, &name),
        id: run.core.ids.unique("AIPA"),
        created: run.now,
        role: None,
        name,
        path,
        tags,
    };
    let mut xml = Xml::default();
    xml.within("InstanceProfile", |xml| write(run, xml, &profile, true));
    put(run, profile.name.clone(), Some(profile));
    Ok(xml)
}

pub(super) fn get(run: &mut Run<'_>) -> Answer {
    let profile = seen(run)?;
    let mut xml = Xml::default();
    xml.within("InstanceProfile", |xml| write(run, xml, &profile, true));
    Ok(xml)
}

pub(super) fn delete(run: &mut Run<'_>) -> Answer {
    let profile = present(run)?;
    if profile.role.is_some() {
        return Err(ApiError::conflict(
            "Cannot delete entity, must remove roles from instance profile first.",
        ));
    }
    put(run, profile.name.clone(), None);
    Ok(Xml::default())
}

pub(super) fn add_role(run: &mut Run<'_>) -> Answer {
    change(run, |run, profile| {
        let role = roles::present(run, run.text("RoleName"))?;
        if profile.role.is_some() {
            return Err(ApiError::limit(
                "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1",
            ));
        }
        profile.role = Some(role.name.clone());
        Ok(())
    })
}

pub(super) fn remove_role(run: &mut Run<'_>) -> Answer {
    change(run, |run, profile| {
        let name = run.text("RoleName");
        let is_there = profile
            .role
            .as_deref()
            .is_some_and(|role| key(role) == key(name));
        if !is_there {
            return Err(ApiError::no_such_entity(format!(
                "The role with name {name} cannot be found."
            )));
        }
        profile.role = None;
        Ok(())
    })
}

pub(super) fn list(run: &mut Run<'_>) -> Answer {
    let prefix = run
        .call
        .parameters
        .text("PathPrefix")
        .unwrap_or("/")
        .to_owned();
    listed(run, |profile| profile.path.starts_with(&prefix))
}

pub(super) fn list_for_role(run: &mut Run<'_>) -> Answer {
    let role = roles::seen(run, run.text("RoleName"))?;
    listed(run, |profile| profile.role.as_ref() == Some(&role.name))
}

fn listed(run: &mut Run<'_>, which: impl Fn(&InstanceProfile) -> bool) -> Answer {
    let page = match run.core.state.account(&run.account) {
        Some(account) => {
            let profiles = account.profiles.iter_at(run.seen, &marker(run));
            let wanted = profiles
                .filter(|(_, profile)| which(profile))
                .map(|(key, profile)| (key.to_owned(), profile.clone()));
            Page::of(run, wanted)
        }
        None => Page::of(run, std::iter::empty()),
    };
    let mut xml = Xml::default();
    xml.list("InstanceProfiles", &page.items, |xml, profile| {
        write(run, xml, profile, false);
    });
    page.end(&mut xml);
    Ok(xml)
}

pub(super) fn tag(run: &mut Run<'_>) -> Answer {
    change(run, |run, profile| {
        profile.tags = with_tags(run, std::mem::take(&mut profile.tags))?;
        Ok(())
    })
}

/// Adds the call's tags. Unlike a role's, the keys of an instance profile's tags respect case.
fn with_tags(run: &Run<'_>, mut tags: Tags) -> Result<Tags, ApiError> {
    let new = run.call.parameters.tags();
    let keys: BTreeSet<&String> = new.iter().map(|(key, _)| key).collect();
    if keys.len() < new.len() {
        return Err(roles::duplicate_keys());
    }
    tags.extend(new);
    roles::check_tags(run, &tags)?;
    Ok(tags)
}

pub(super) fn untag(run: &mut Run<'_>) -> Answer {
    change(run, |run, profile| {
        for key in run.call.parameters.list("TagKeys") {
            profile.tags.remove(key);
        }
        Ok(())
    })
}

pub(super) fn list_tags(run: &mut Run<'_>) -> Answer {
    let profile = seen(run)?;
    Ok(roles::tag_page(run, &profile.tags))
}

/// Writes an instance profile; lists leave out its tags.
pub(super) fn write(run: &mut Run<'_>, xml: &mut Xml, profile: &InstanceProfile, is_whole: bool) {
    xml.text("InstanceProfileName", &profile.name)
        .text("InstanceProfileId", &profile.id)
        .text("Arn", &profile.arn)
        .text("Path", &profile.path)
        .text("CreateDate", &date(profile.created));
    let role = profile.role.as_deref();
    let role = role.and_then(|name| roles::seen(run, name).ok());
    xml.list("Roles", role, |xml, role| {
        roles::write(run, xml, &role, Extent::Inside);
    });
    if is_whole && !profile.tags.is_empty() {
        write_tags(xml, &profile.tags);
    }
}
