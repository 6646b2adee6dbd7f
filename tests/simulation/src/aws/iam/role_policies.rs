//! Inline and attached policies of roles.

use super::super::answer::{ApiError, Xml};
use super::super::documents::{Kind, Policy};
use super::super::world::Run;
use super::pages::{Page, after_marker};
use super::{Answer, managed, over, quota, roles};

pub(super) fn put(run: &mut Run<'_>) -> Answer {
    roles::change(run, |run, role| {
        let policy = roles::policy(run, Kind::Identity, run.text("PolicyDocument"))?;
        let name = run.text("PolicyName");
        let others = role.inline.iter().filter(|(other, _)| *other != name);
        let size: usize = others.map(|(_, other)| characters(other)).sum();
        let limit = quota(run, |quotas| quotas.inline_characters);
        if size + characters(&policy) > limit {
            return Err(ApiError::limit(format!(
                "Maximum policy size of {limit} bytes exceeded for role {}",
                role.name
            )));
        }
        role.inline.insert(name.to_owned(), policy);
        Ok(())
    })
}

/// Counts the characters of an identity policy; white space does not count.
pub(super) fn characters(policy: &Policy) -> usize {
    policy.sent.chars().filter(|c| !c.is_whitespace()).count()
}

pub(super) fn get(run: &mut Run<'_>) -> Answer {
    let role = roles::seen(run, run.text("RoleName"))?;
    let name = run.text("PolicyName").to_owned();
    let policy = role.inline.get(&name).ok_or_else(|| missing(&name))?;
    let mut xml = Xml::default();
    xml.text("RoleName", &role.name).text("PolicyName", &name);
    xml.text("PolicyDocument", &roles::document(run, policy));
    Ok(xml)
}

fn missing(name: &str) -> ApiError {
    ApiError::no_such_entity(format!("The role policy with name {name} cannot be found."))
}

pub(super) fn delete(run: &mut Run<'_>) -> Answer {
    roles::change(run, |run, role| {
        let name = run.text("PolicyName");
        role.inline
            .remove(name)
            .map(drop)
            .ok_or_else(|| missing(name))
    })
}

pub(super) fn list(run: &mut Run<'_>) -> Answer {
    let role = roles::seen(run, run.text("RoleName"))?;
    let names = role.inline.keys().map(|name| (name.as_str(), name));
    let page = Page::of(run, after_marker(run, names));
    let mut xml = Xml::default();
    xml.within("PolicyNames", |list| {
        for name in &page.items {
            list.text("member", name);
        }
    });
    page.end(&mut xml);
    Ok(xml)
}

pub(super) fn attach(run: &mut Run<'_>) -> Answer {
    roles::change(run, |run, role| {
        let arn = run.text("PolicyArn");
        if managed::find(run, arn).is_none() {
            return Err(ApiError::no_such_entity(format!(
                "Policy {arn} does not exist or is not attachable."
            )));
        }
        let limit = quota(run, |quotas| quotas.policies_per_role);
        if !role.attached.contains(arn) && role.attached.len() >= limit {
            return Err(over("PoliciesPerRole", limit));
        }
        role.attached.insert(arn.to_owned());
        Ok(())
    })
}

pub(super) fn detach(run: &mut Run<'_>) -> Answer {
    roles::change(run, |run, role| {
        let arn = run.text("PolicyArn");
        if role.attached.remove(arn) {
            return Ok(());
        }
        Err(ApiError::no_such_entity(format!(
            "Policy {arn} was not found."
        )))
    })
}

pub(super) fn list_attached(run: &mut Run<'_>) -> Answer {
    let role = roles::seen(run, run.text("RoleName"))?;
    let prefix = run.call.parameters.text("PathPrefix").unwrap_or("/");
    let under = |arn: &&String| {
        let path = arn.split_once(":policy").map_or("", |(_, path)| path);
        path.starts_with(prefix)
    };
    let arns = role
        .attached
        .iter()
        .filter(under)
        .map(|arn| (arn.as_str(), arn));
    let page = Page::of(run, after_marker(run, arns));
    let mut xml = Xml::default();
    xml.list("AttachedPolicies", &page.items, |xml, arn| {
        write_attached(xml, arn);
    });
    page.end(&mut xml);
    Ok(xml)
}

/// Writes a policy that is attached.
pub(super) fn write_attached(xml: &mut Xml, arn: &str) {
    let name = arn.rsplit('/').next().unwrap_or_default();
    xml.text("PolicyName", name).text("PolicyArn", arn);
}
