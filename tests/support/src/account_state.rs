//! The state of an account that grants can change, as plain data: tests compare it before and
//! after, and list the differences.

use crate::aws::{Aws, failed};
use crate::document::Document;
use anyhow::{Context, Result};
use aws_sdk_ecr as ecr;
use aws_sdk_ecr::error::ProvideErrorMetadata;
use aws_sdk_iam::types::{PolicyScopeType, Tag};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An account's roles, instance profiles, own managed policies and repository policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountState {
    /// Items by name.
    pub roles: BTreeMap<String, Role>,
    /// Items by name.
    pub instance_profiles: BTreeMap<String, InstanceProfile>,
    /// The account's own managed policies: the default version's document by ARN.
    pub managed_policies: BTreeMap<String, Document>,
    /// Every repository by `region/name`, with its policy if it has one.
    pub repositories: BTreeMap<String, Option<Document>>,
}

/// A role with its policies, tags and boundary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Role {
    pub arn: String,
    /// The unique ID, which changes if the role is recreated.
    pub id: String,
    pub path: String,
    pub description: String,
    pub max_session_seconds: i32,
    pub boundary: Option<String>,
    pub trust: Document,
    pub inline: BTreeMap<String, Document>,
    /// ARNs of the managed policies attached.
    pub attached: BTreeSet<String>,
    pub tags: BTreeMap<String, String>,
}

/// An instance profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct InstanceProfile {
    pub arn: String,
    pub id: String,
    pub path: String,
    pub roles: BTreeSet<String>,
    pub tags: BTreeMap<String, String>,
}

impl AccountState {
    /// Reads the state as the account's root, with the repositories of these regions.
    ///
    /// # Errors
    /// When a call fails, or a document is not JSON.
    pub async fn read(root: &Aws, regions: &[&str]) -> Result<Self> {
        let mut repositories = BTreeMap::new();
        for region in regions {
            let client = root.ecr_in(region);
            for name in repository_names(&client).await? {
                let policy = repository_policy(&client, &name).await?;
                repositories.insert(format!("{region}/{name}"), policy);
            }
        }
        Ok(Self {
            roles: roles(root).await?,
            instance_profiles: instance_profiles(root).await?,
            managed_policies: managed_policies(root).await?,
            repositories,
        })
    }

    /// Returns the state with other names: replaces the first text of each pair by the second,
    /// everywhere. Also removes the IDs that AWS assigned, so that the state can be compared with
    /// another account's.
    ///
    /// # Errors
    /// When the result is not a valid state, because one of the texts was also part of something
    /// else.
    pub fn renamed(&self, names: &[(&str, &str)]) -> Result<Self> {
        let mut text = serde_json::to_string(self)?;
        for (name, other) in names {
            text = text.replace(name, other);
        }
        let mut renamed: Self =
            serde_json::from_str(&text).with_context(|| format!("renaming {names:?}"))?;
        renamed.roles.values_mut().for_each(|role| role.id.clear());
        renamed
            .instance_profiles
            .values_mut()
            .for_each(|profile| profile.id.clear());
        Ok(renamed)
    }

    /// Returns the differences, one line each, for people; empty if both are equal.
    pub fn differences(&self, after: &Self) -> Vec<String> {
        if self == after {
            return vec![];
        }
        let mut found = vec![];
        let json = |state: &Self| serde_json::to_value(state).expect("plain data");
        compare("", &json(self), &json(after), &mut found);
        found
    }
}

fn compare(place: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(other)) => {
            for key in one.keys().chain(other.keys()).collect::<BTreeSet<_>>() {
                let place = if place.is_empty() {
                    key.clone()
                } else {
                    format!("{place} › {key}")
                };
                match (one.get(key), other.get(key)) {
                    (Some(before), Some(after)) => compare(&place, before, after, found),
                    (Some(before), None) => found.push(format!("{place} is gone; it was {before}")),
                    (None, Some(after)) => found.push(format!("{place} is new: {after}")),
                    (None, None) => {}
                }
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{place} was {before} and is {after}")),
    }
}

async fn roles(root: &Aws) -> Result<BTreeMap<String, Role>> {
    let mut pages = root.iam.list_roles().into_paginator().items().send();
    let mut roles = BTreeMap::new();
    while let Some(listed) = pages.next().await {
        let name = listed.map_err(failed("ListRoles"))?.role_name;
        let role = role(root, &name)
            .await
            .with_context(|| format!("role {name}"))?;
        roles.insert(name, role);
    }
    Ok(roles)
}

async fn role(root: &Aws, name: &str) -> Result<Role> {
    // The list omits tags and the boundary.
    let role = root
        .iam
        .get_role()
        .role_name(name)
        .send()
        .await
        .map_err(failed("GetRole"))?;
    let role = role.role.context("GetRole gave no role")?;
    let mut inline = BTreeMap::new();
    let names = root
        .iam
        .list_role_policies()
        .role_name(name)
        .send()
        .await
        .map_err(failed("ListRolePolicies"))?;
    for policy in names.policy_names {
        let read = root
            .iam
            .get_role_policy()
            .role_name(name)
            .policy_name(&policy)
            .send()
            .await;
        let document = read.map_err(failed("GetRolePolicy"))?.policy_document;
        inline.insert(policy, Document::parse_encoded(&document)?);
    }
    let attached = root
        .iam
        .list_attached_role_policies()
        .role_name(name)
        .send()
        .await;
    let attached = attached
        .map_err(failed("ListAttachedRolePolicies"))?
        .attached_policies
        .unwrap_or_default();
    Ok(Role {
        trust: Document::parse_encoded(
            role.assume_role_policy_document()
                .context("a role without trust policy")?,
        )?,
        boundary: role
            .permissions_boundary
            .and_then(|boundary| boundary.permissions_boundary_arn),
        attached: attached
            .into_iter()
            .filter_map(|policy| policy.policy_arn)
            .collect(),
        tags: plain(role.tags),
        inline,
        arn: role.arn,
        id: role.role_id,
        path: role.path,
        description: role.description.unwrap_or_default(),
        max_session_seconds: role.max_session_duration.unwrap_or_default(),
    })
}

async fn instance_profiles(root: &Aws) -> Result<BTreeMap<String, InstanceProfile>> {
    let mut pages = root
        .iam
        .list_instance_profiles()
        .into_paginator()
        .items()
        .send();
    let mut profiles = BTreeMap::new();
    while let Some(listed) = pages.next().await {
        let name = listed
            .map_err(failed("ListInstanceProfiles"))?
            .instance_profile_name;
        let read = root
            .iam
            .get_instance_profile()
            .instance_profile_name(&name)
            .send()
            .await;
        let profile = read
            .map_err(failed("GetInstanceProfile"))?
            .instance_profile
            .context("no instance profile")?;
        let roles = profile
            .roles
            .into_iter()
            .map(|role| role.role_name)
            .collect();
        let tags = plain(profile.tags);
        profiles.insert(
            name,
            InstanceProfile {
                arn: profile.arn,
                id: profile.instance_profile_id,
                path: profile.path,
                roles,
                tags,
            },
        );
    }
    Ok(profiles)
}

async fn managed_policies(root: &Aws) -> Result<BTreeMap<String, Document>> {
    let mut pages = root
        .iam
        .list_policies()
        .scope(PolicyScopeType::Local)
        .into_paginator()
        .items()
        .send();
    let mut policies = BTreeMap::new();
    while let Some(listed) = pages.next().await {
        let policy = listed.map_err(failed("ListPolicies"))?;
        let (Some(arn), Some(version)) = (policy.arn, policy.default_version_id) else {
            continue;
        };
        let read = root
            .iam
            .get_policy_version()
            .policy_arn(&arn)
            .version_id(version)
            .send()
            .await;
        let document = read
            .map_err(failed("GetPolicyVersion"))?
            .policy_version
            .and_then(|version| version.document);
        policies.insert(
            arn,
            Document::parse_encoded(&document.context("a policy version without document")?)?,
        );
    }
    Ok(policies)
}

async fn repository_names(client: &ecr::Client) -> Result<Vec<String>> {
    let mut pages = client
        .describe_repositories()
        .into_paginator()
        .items()
        .send();
    let mut names = vec![];
    while let Some(listed) = pages.next().await {
        names.extend(
            listed
                .map_err(failed("DescribeRepositories"))?
                .repository_name,
        );
    }
    Ok(names)
}

/// Reads the repository's policy, if it has one.
pub(crate) async fn repository_policy(
    client: &ecr::Client,
    name: &str,
) -> Result<Option<Document>> {
    match client
        .get_repository_policy()
        .repository_name(name)
        .send()
        .await
    {
        Ok(read) => Ok(read.policy_text().map(Document::parse).transpose()?),
        Err(error) if error.code() == Some("RepositoryPolicyNotFoundException") => Ok(None),
        Err(error) => Err(failed(format!("GetRepositoryPolicy of {name}"))(error)),
    }
}

fn plain(tags: Option<Vec<Tag>>) -> BTreeMap<String, String> {
    tags.unwrap_or_default()
        .into_iter()
        .map(|tag| (tag.key, tag.value))
        .collect()
}
