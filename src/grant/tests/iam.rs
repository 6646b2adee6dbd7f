//! IAM in memory. It has the rules of the real IAM that determine the order of steps. Like the real
//! one, it also rewrites documents: the returned text is not the text that was sent.

use crate::grant::diff::Step;
use crate::grant::observed::{Instance, InstanceProfile, Role};
use crate::policy::Document;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Roles and instance profiles of one account.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Iam {
    pub roles: BTreeMap<String, Role>,
    pub profiles: BTreeMap<String, InstanceProfile>,
}

impl Iam {
    pub fn with_role(mut self, name: &str, role: Option<Role>) -> Self {
        self.roles.extend(role.map(|role| (name.to_owned(), role)));
        self
    }

    pub fn with_profile(mut self, name: &str, profile: Option<InstanceProfile>) -> Self {
        self.profiles
            .extend(profile.map(|profile| (name.to_owned(), profile)));
        self
    }

    pub fn instance(&self, role: &str, profile: &str) -> Instance {
        Instance {
            role: self.roles.get(role).cloned(),
            profile: self.profiles.get(profile).cloned(),
            ..Instance::default()
        }
    }

    /// Applies steps in their order; every one must be possible.
    #[track_caller]
    pub fn apply(&mut self, steps: &[Step]) {
        for step in steps {
            if let Err(code) = self.call(step) {
                panic!("{code}: {step}, of {steps:#?} in {self:#?}");
            }
        }
    }

    fn call(&mut self, step: &Step) -> Result<(), &'static str> {
        match step.clone() {
            Step::CreateRole {
                name,
                path,
                description: _,
                trust,
                max_session_seconds,
                boundary,
                tags,
            } => {
                let role = Role {
                    arn: format!("arn:aws:iam::111111111111:role{path}{name}"),
                    id: "AROANEW".into(),
                    path,
                    trust: Ok(as_stored(&trust)?),
                    max_session_seconds: max_session_seconds.unwrap_or(3600),
                    boundary,
                    tags,
                    inline: BTreeMap::new(),
                    attached: BTreeSet::new(),
                };
                is_new(self.roles.insert(name, role))?;
            }
            Step::UpdateTrust { role, trust } => {
                has_unique_sids(&trust)?;
                self.role(&role)?.trust = Ok(as_stored(&trust)?);
            }
            Step::UpdateMaxSession { role, seconds } => {
                self.role(&role)?.max_session_seconds = seconds;
            }
            Step::PutBoundary { role, boundary } => self.role(&role)?.boundary = Some(boundary),
            Step::TagRole { role, tags } => self.role(&role)?.tags.extend(tags),
            Step::UntagRole { role, keys } => untag(&mut self.role(&role)?.tags, &keys),
            Step::UntagProfile { name, keys } => untag(&mut self.profile(&name)?.tags, &keys),
            Step::PutInlinePolicy {
                role,
                policy,
                document,
            } => {
                let inline = &mut self.role(&role)?.inline;
                inline.insert(policy, Ok(as_stored(&document)?));
            }
            Step::DeleteInlinePolicy { role, policy } => {
                found(self.role(&role)?.inline.remove(&policy).is_some())?;
            }
            Step::AttachPolicy { role, arn } => drop(self.role(&role)?.attached.insert(arn)),
            Step::DetachPolicy { role, arn } => found(self.role(&role)?.attached.remove(&arn))?,
            Step::DeleteRole { role } => self.delete_role(&role)?,
            Step::CreateProfile { name, path, tags } => self.create_profile(name, &path, tags)?,
            Step::TagProfile { name, tags } => self.profile(&name)?.tags.extend(tags),
            Step::AddRoleToProfile { profile, role } => self.add_to_profile(&profile, role)?,
            Step::RemoveRoleFromProfile { profile, role } => {
                found(self.profile(&profile)?.roles.remove(&role))?;
            }
            Step::DeleteProfile { name } => self.delete_profile(&name)?,
        }
        Ok(())
    }

    fn delete_role(&mut self, name: &str) -> Result<(), &'static str> {
        let role = self.role(name)?;
        let holds = !role.inline.is_empty() || !role.attached.is_empty();
        if holds
            || self
                .profiles
                .values()
                .any(|profile| profile.roles.contains(name))
        {
            return Err("DeleteConflict");
        }
        found(self.roles.remove(name).is_some())
    }

    fn create_profile(
        &mut self,
        name: String,
        path: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<(), &'static str> {
        let profile = InstanceProfile {
            arn: format!("arn:aws:iam::111111111111:instance-profile{path}{name}"),
            tags,
            roles: BTreeSet::new(),
        };
        is_new(self.profiles.insert(name, profile))
    }

    fn add_to_profile(&mut self, profile: &str, role: String) -> Result<(), &'static str> {
        self.role(&role)?;
        let roles = &mut self.profile(profile)?.roles;
        let room = roles.is_empty();
        roles.insert(role);
        if room { Ok(()) } else { Err("LimitExceeded") }
    }

    fn delete_profile(&mut self, name: &str) -> Result<(), &'static str> {
        let empty = self.profile(name)?.roles.is_empty();
        self.profiles.remove(name);
        if empty { Ok(()) } else { Err("DeleteConflict") }
    }

    fn role(&mut self, name: &str) -> Result<&mut Role, &'static str> {
        self.roles.get_mut(name).ok_or("NoSuchEntity")
    }

    fn profile(&mut self, name: &str) -> Result<&mut InstanceProfile, &'static str> {
        self.profiles.get_mut(name).ok_or("NoSuchEntity")
    }
}

fn untag(tags: &mut BTreeMap<String, String>, keys: &BTreeSet<String>) {
    tags.retain(|key, _| !keys.contains(key));
}

fn is_new<T>(before: Option<T>) -> Result<(), &'static str> {
    before.map_or(Ok(()), |_| Err("EntityAlreadyExists"))
}

fn found(found: bool) -> Result<(), &'static str> {
    if found { Ok(()) } else { Err("NoSuchEntity") }
}

/// Returns a document as AWS returns it.
fn as_stored(document: &Document) -> Result<Document, &'static str> {
    if document.statements.is_empty() {
        return Err("MalformedPolicyDocument");
    }
    Ok(reworded(document))
}

/// Rewrites a document with the same meaning: lists in another order, single strings as lists,
/// accounts by their IDs.
pub fn reworded(document: &Document) -> Document {
    let mut whole: Value = serde_json::from_str(&document.to_string()).unwrap();
    for statement in whole["Statement"].as_array_mut().unwrap() {
        for key in ["Action", "Resource"] {
            if let Some(value) = statement.get_mut(key) {
                reword(value);
            }
        }
        for (_, values) in statement
            .get_mut("Principal")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            reword(values);
        }
        for (_, keys) in statement
            .get_mut("Condition")
            .and_then(Value::as_object_mut)
            .into_iter()
            .flatten()
        {
            keys.as_object_mut()
                .into_iter()
                .flatten()
                .for_each(|(_, values)| reword(values));
        }
    }
    Document::parse(&by_number(&whole.to_string())).unwrap()
}

/// Writes `arn:aws:iam::222222222222:root` as `222222222222`, which names the same principal.
fn by_number(text: &str) -> String {
    let mut parts = text.split("\"arn:aws:iam::");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let root = part
            .split_once(":root\"")
            .filter(|(account, _)| account.len() == 12);
        match root {
            Some((account, rest)) => out.extend(["\"", account, "\"", rest]),
            None => out.extend(["\"arn:aws:iam::", part]),
        }
    }
    out
}

fn reword(value: &mut Value) {
    match value {
        Value::Array(list) => list.reverse(),
        one => *one = Value::Array(vec![one.take()]),
    }
}

/// IAM refuses a document in which two statements have the same Sid.
fn has_unique_sids(document: &Document) -> Result<(), &'static str> {
    let sids: Vec<_> = document
        .statements
        .iter()
        .filter_map(|statement| statement.sid_text())
        .collect();
    if sids.iter().collect::<BTreeSet<_>>().len() < sids.len() {
        return Err("MalformedPolicyDocument");
    }
    Ok(())
}
