//! GetAccountAuthorizationDetails: everything about the roles and policies of an account.

use super::super::answer::Xml;
use super::super::entities::{ManagedPolicy, Role};
use super::super::world::Run;
use super::pages::{Page, after_marker};
use super::roles::{self, Extent};
use super::{Answer, date, managed_by_aws, profiles, role_policies};
use std::sync::Arc;

enum Item {
    Role(Arc<Role>),
    Policy(Arc<ManagedPolicy>),
}

pub(super) fn get(run: &mut Run<'_>) -> Answer {
    let filter = run.call.parameters.list("Filter");
    let wants = |kind: &str| filter.is_empty() || filter.contains(&kind);
    let mut items: Vec<(String, Item)> = Vec::new();
    if let Some(account) = run.core.state.account(&run.account) {
        if wants("Role") {
            let roles = account.roles.iter_at(run.seen, "");
            items
                .extend(roles.map(|(key, role)| (format!("role/{key}"), Item::Role(role.clone()))));
        }
        if wants("LocalManagedPolicy") {
            let policies = account.policies.iter_at(run.seen, "");
            items.extend(policies.map(|(_, policy)| keyed(policy.clone())));
        }
        if wants("AWSManagedPolicy") {
            items.extend(managed_by_aws::all(account.partition).map(keyed));
        }
    }
    items.sort_by(|one, other| one.0.cmp(&other.0));
    let keyed = items.iter().map(|(key, item)| (key.as_str(), item));
    let page = Page::of(run, after_marker(run, keyed));
    let mut xml = Xml::default();
    let roles = page.items.iter().filter_map(|item| match item {
        Item::Role(role) => Some(role),
        Item::Policy(_) => None,
    });
    let policies = page.items.iter().filter_map(|item| match item {
        Item::Policy(policy) => Some(policy),
        Item::Role(_) => None,
    });
    xml.0.push_str("<UserDetailList/><GroupDetailList/>");
    xml.list("RoleDetailList", roles, |xml, role| {
        write_role(run, xml, role);
    });
    xml.list("Policies", policies, |xml, policy| {
        write_policy(run, xml, policy);
    });
    page.end(&mut xml);
    Ok(xml)
}

fn keyed(policy: Arc<ManagedPolicy>) -> (String, Item) {
    (format!("policy/{}", policy.arn), Item::Policy(policy))
}

fn write_role(run: &mut Run<'_>, xml: &mut Xml, role: &Role) {
    roles::write(run, xml, role, Extent::Whole);
    let inline: Vec<(&String, String)> = role
        .inline
        .iter()
        .map(|(name, policy)| (name, roles::document(run, policy)))
        .collect();
    xml.list("RolePolicyList", inline, |xml, (name, document)| {
        xml.text("PolicyName", name)
            .text("PolicyDocument", &document);
    });
    xml.list("AttachedManagedPolicies", &role.attached, |xml, arn| {
        role_policies::write_attached(xml, arn);
    });
    let account = run.core.state.account(&run.account);
    let profiles: Vec<_> = account
        .into_iter()
        .flat_map(|account| account.profiles.iter_at(run.seen, ""))
        .filter(|(_, profile)| profile.role.as_ref() == Some(&role.name))
        .map(|(_, profile)| profile.clone())
        .collect();
    xml.list("InstanceProfileList", &profiles, |xml, profile| {
        profiles::write(run, xml, profile, false);
    });
    if role.tags.is_empty() {
        xml.0.push_str("<Tags/>");
    }
}

fn write_policy(run: &mut Run<'_>, xml: &mut Xml, policy: &ManagedPolicy) {
    xml.text("PolicyName", &policy.name)
        .text("PolicyId", &policy.id)
        .text("Arn", &policy.arn)
        .text("Path", &policy.path)
        .value("DefaultVersionId", format_args!("v{}", policy.default))
        .text("CreateDate", &date(policy.created))
        .text("UpdateDate", &date(policy.updated));
    xml.within("PolicyVersionList", |xml| {
        for (number, version) in &policy.versions {
            let document = roles::document(run, &version.document);
            xml.within("member", |xml| {
                xml.text("Document", &document)
                    .value("VersionId", format_args!("v{number}"))
                    .value("IsDefaultVersion", *number == policy.default)
                    .text("CreateDate", &date(version.created));
            });
        }
    });
}
