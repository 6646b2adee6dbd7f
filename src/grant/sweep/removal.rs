//! Plans the removal of a grant's leftovers, entirely or not at all. Resources that others use,
//! too, stay as they are.

use crate::api::grant::{ManagedPolicy, OnDelete};
use crate::grant::diff::{
    Departure, ENDED_SESSIONS, Sharers, Step, without_instance, without_registry_role,
};
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::grant::ownership::Owner;
use crate::text::list_some;
use std::collections::BTreeSet;

/// Role with the instance profile that it is in, or either alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// The former owner.
    pub owner: Owner,
    /// The role and its name.
    pub role: Option<(String, Role)>,
    /// The profile and its name.
    pub profile: Option<(String, InstanceProfile)>,
    /// Whether the account's instance profiles were read: a role that is in one cannot be removed
    /// without it.
    pub profiles_known: bool,
}

/// Pairs each profile with the role in it, if the same grant left both. `profiles` is `None` if
/// they were not read.
pub fn leftovers(
    roles: Vec<(String, Role, Owner)>,
    profiles: Option<Vec<(String, InstanceProfile, Owner)>>,
) -> Vec<Leftover> {
    let profiles_known = profiles.is_some();
    let mut profiles = profiles.unwrap_or_default();
    let mut all = Vec::new();
    for (name, role, owner) in roles {
        let position = profiles.iter().position(|(_, profile, its)| {
            its.grant == owner.grant && profile.roles.contains(&name)
        });
        all.push(Leftover {
            owner,
            role: Some((name, role)),
            profile: position.map(|at| {
                let (name, profile, _) = profiles.remove(at);
                (name, profile)
            }),
            profiles_known,
        });
    }
    all.extend(profiles.into_iter().map(|(name, profile, owner)| Leftover {
        owner,
        role: None,
        profile: Some((name, profile)),
        profiles_known,
    }));
    all
}

impl Leftover {
    /// Returns the ARNs of the role and the profile.
    pub fn arns(&self) -> impl Iterator<Item = &str> {
        let role = self.role.iter().map(|(_, role)| role.arn.as_str());
        role.chain(self.profile.iter().map(|(_, profile)| profile.arn.as_str()))
    }

    /// Returns the steps that remove all of it.
    ///
    /// # Errors
    /// The reason why it stays.
    pub fn removal(&self) -> Result<Vec<Step>, String> {
        let Self {
            owner,
            role,
            profile,
            profiles_known,
        } = self;
        let tags = role
            .iter()
            .map(|(_, role)| &role.tags)
            .chain(profile.iter().map(|(_, profile)| &profile.tags));
        if !tags.into_iter().all(|tags| owner.owns(tags)) {
            return Err("its tags have changed".into());
        }
        let role_name = role.as_ref().map(|(name, _)| name.as_str());
        if let Some((_, profile)) = profile
            && let Some(other) = profile
                .roles
                .iter()
                .find(|name| Some(name.as_str()) != role_name)
        {
            return Err(format!(
                "it contains role {other}, which the sweep does not remove"
            ));
        }
        match role {
            Some((name, role)) if is_registry_role(self, role) => registry_role(name, role, owner),
            Some((_, _)) if !profiles_known => {
                Err("the operator does not read instance profiles in this account, because its AWSAccount has no spec.consumer".into())
            }
            Some((_, _)) | None => instance(role.as_ref(), profile.as_ref(), owner),
        }
    }
}

/// Returns whether the role is a registry role. The trust policy of a registry role names accounts
/// or roles. The trust policy of an instance role names EC2, in a statement that has our Sid.
fn is_registry_role(leftover: &Leftover, role: &Role) -> bool {
    let Ok(trust) = &role.trust else { return false };
    let [statement] = trust.statements.as_slice() else {
        return false;
    };
    leftover.profile.is_none()
        && statement.is_for_aws_principals_alone()
        && !leftover.owner.installation.owns(statement)
}

/// Plans the removal of a registry role. While its grant existed, everything else on the role was
/// drift. Without the grant nothing shows that any more, so a role with foreign policies stays.
fn registry_role(name: &str, role: &Role, owner: &Owner) -> Result<Vec<Step>, String> {
    let ours = owner.policy_name();
    let inline = role
        .inline
        .keys()
        .filter(|policy| **policy != ours && *policy != ENDED_SESSIONS);
    let attached = role
        .attached
        .iter()
        .filter(|arn| !ManagedPolicy::is_one(arn));
    let others: Vec<&str> = inline.chain(attached).map(String::as_str).collect();
    if !others.is_empty() {
        return Err(carries(&others));
    }
    // If anything else holds the role, IAM refuses the deletion and reports that.
    Ok(without_registry_role(name, Some(role), &BTreeSet::new(), owner).0)
}

fn instance(
    role: Option<&(String, Role)>,
    profile: Option<&(String, InstanceProfile)>,
    owner: &Owner,
) -> Result<Vec<Step>, String> {
    let observed = Instance {
        role: role.map(|(_, role)| role.clone()),
        profile: profile.map(|(_, profile)| profile.clone()),
        ..Instance::default()
    };
    let role_name = role.map(|(name, _)| name.as_str()).unwrap_or_default();
    let profile_name = profile.map(|(name, _)| name.as_str());
    let nobody = Sharers::default();
    let (steps, left) = without_instance(
        role_name,
        profile_name,
        &observed,
        &Departure {
            owner,
            sharers: &nobody,
            on_delete: OnDelete::DeleteRole,
        },
    );
    if let Some(problem) = left {
        return Err(problem.message);
    }
    let removed = steps
        .iter()
        .filter(|step| matches!(step, Step::DeleteRole { .. } | Step::DeleteProfile { .. }))
        .count();
    if removed == usize::from(role.is_some()) + usize::from(profile.is_some()) {
        return Ok(steps);
    }
    let ours = owner.policy_name();
    let inline = role
        .into_iter()
        .flat_map(|(_, role)| role.inline.keys())
        .filter(|policy| **policy != ours);
    let attached = role.into_iter().flat_map(|(_, role)| &role.attached);
    let others: Vec<&str> = inline.chain(attached).map(String::as_str).collect();
    Err(if others.is_empty() {
        "its trust policy also allows other principals".into()
    } else {
        carries(&others)
    })
}

fn carries(others: &[&str]) -> String {
    const NAMED: usize = 3;
    let names = others.iter().map(|name| format!("`{name}`"));
    let list = list_some(names, NAMED, ", ", |_| ", and more".to_owned());
    format!("it has policies that are not this operator's: {list}")
}
