//! Manifests in files, as a cluster would have them: grants, accounts, and namespaces' labels. No cluster and no AWS.
//!
//! The API server's defaulting and admission rules do not run here. Defaults are the types' own; what admission would refuse is found by
//! [`crate::grant::validate`].

mod documents;

use super::text::plain;
use crate::api::account::RoleSettings;
use crate::api::{AWSAccount, CrossAccountRegistryGrant};
use crate::grant::parse::is_path;
use crate::grant::{AccountId, Directory, GrantName};
use documents::{Input, Object};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The API group of our resources, and its version.
const GROUP: &str = "registrygrants.dev";
const VERSION: &str = "v1alpha1";

/// Which manifests are meant, for a subcommand to flatten into its arguments.
#[derive(clap::Args)]
pub struct Sources {
    /// A file of manifests, YAML or JSON, with one document or several; a folder stands for its .yaml, .yml and .json files; `-` is standard
    /// input. Can be repeated. Grants, AWSAccounts and Namespaces are read, others are passed over.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// The namespace of grants that name none.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Sources {
    /// Reads them all.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read(&self) -> Result<Files, String> {
        Files::read(&self.files, self.namespace.as_deref().unwrap_or("default"))
    }
}

/// What manifests say.
#[derive(Default)]
pub struct Files {
    /// The accounts that were opened to grants.
    pub accounts: BTreeMap<AccountId, Arc<AWSAccount>>,
    /// The grants, each with its namespace.
    pub grants: BTreeMap<GrantName, CrossAccountRegistryGrant>,
    /// The labels of the namespaces that have a manifest, each with the one that the API server gives it.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// What was passed over, for people: lines without control characters.
    pub notes: Vec<String>,
}

/// Every namespace is known: one without a manifest has only its name as a label.
impl Directory for Files {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.accounts.get(id).cloned()
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        Some(self.namespaces.get(namespace).cloned().unwrap_or_else(|| own_label(namespace)))
    }
}

/// The label that the API server gives every namespace.
fn own_label(namespace: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kubernetes.io/metadata.name".into(), namespace.into())])
}

impl Files {
    /// Reads files, folders (not what is in their folders), and standard input where a path is `-`.
    ///
    /// # Errors
    /// Everything that is wrong, a line each: with its file, document and object, and what to do. No line has control characters.
    pub fn read(paths: &[PathBuf], namespace: &str) -> Result<Self, String> {
        Self::of(documents::inputs(paths)?, namespace)
    }

    fn of(inputs: Vec<Input>, namespace: &str) -> Result<Self, String> {
        let mut reading = Reading { files: Self::default(), places: BTreeMap::new(), others: BTreeMap::new() };
        let mut wrong = Vec::new();
        for Input { name, bytes } in inputs {
            let (objects, unreadable) = documents::objects(&name, &bytes);
            wrong.extend(unreadable);
            for object in objects {
                let place = object.place.clone();
                if let Err(problems) = reading.take(object, namespace) {
                    wrong.extend(problems.into_iter().map(|problem| format!("{place}: {}", plain(&problem))));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let Reading { mut files, others, places: _ } = reading;
        let passed_over = others.into_iter().map(|(kind, count)| match count {
            1 => format!("passed over: {kind}"),
            _ => format!("passed over: {kind}, {count} times"),
        });
        files.notes = passed_over.collect();
        Ok(files)
    }
}

struct Reading {
    files: Files,
    /// Where each object was found, by kind and name.
    places: BTreeMap<String, String>,
    /// How many objects of each other kind there were.
    others: BTreeMap<String, usize>,
}

impl Reading {
    fn take(&mut self, object: Object, namespace: &str) -> Result<(), Vec<String>> {
        let Object { api_version, kind, value, place } = object;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        match (group, version, kind.as_str()) {
            (GROUP, VERSION, "CrossAccountRegistryGrant") => {
                let mut grant: CrossAccountRegistryGrant = typed(value)?;
                let namespace = grant.metadata.namespace.get_or_insert_with(|| namespace.to_owned()).clone();
                let namespace = named("metadata.namespace", Some(&namespace))?;
                let name = GrantName { namespace, name: named("metadata.name", grant.metadata.name.as_ref())? };
                self.only_once(format!("{kind} {name}"), &place)?;
                self.files.grants.insert(name, grant);
            }
            (GROUP, VERSION, "AWSAccount") => {
                let account: AWSAccount = typed(value)?;
                let name = named("metadata.name", account.metadata.name.as_ref())?;
                let id = name.parse().map_err(|why| {
                    vec![format!("metadata.name: {why}; an AWSAccount's name is the account's number, quoted")]
                })?;
                settings_admitted(&account.spec.roles)?;
                self.only_once(format!("{kind} {name}"), &place)?;
                self.files.accounts.insert(id, Arc::new(account));
            }
            (GROUP, VERSION, _) => {
                return Err(vec![format!(
                    "kind {kind} is not one of {GROUP}: CrossAccountRegistryGrant and AWSAccount are"
                )]);
            }
            (GROUP, _, _) => {
                return Err(vec![format!("apiVersion {api_version} is not known: {GROUP}/{VERSION} is")]);
            }
            ("", "v1", "Namespace") => {
                let namespace: Namespace = typed(value)?;
                let name = named("metadata.name", namespace.metadata.name.as_ref())?;
                self.only_once(format!("{kind} {name}"), &place)?;
                let mut labels = namespace.labels().clone();
                labels.extend(own_label(&name));
                self.files.namespaces.insert(name, labels);
            }
            _ => *self.others.entry(plain(&format!("{api_version} {kind}"))).or_default() += 1,
        }
        Ok(())
    }

    fn only_once(&mut self, what: String, place: &str) -> Result<(), Vec<String>> {
        match self.places.insert(what, place.to_owned()) {
            None => Ok(()),
            Some(before) => Err(vec![format!("it was given before: {before}; leave one of them out")]),
        }
    }
}

/// A name as the API server takes it: it stands in scripts and templates that are made of grants.
fn named(field: &str, name: Option<&String>) -> Result<String, Vec<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Err(vec![format!("{field} is needed")]) };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    match name.len() <= 253 && name.chars().all(allowed) {
        true => Ok(name.clone()),
        false => {
            Err(vec![format!("{field}: `{name}` is no name: at most 253 lowercase letters, digits, - and . are one")])
        }
    }
}

/// What the definition's rules say of an account's settings, for nothing later checks them.
fn settings_admitted(settings: &RoleSettings) -> Result<(), Vec<String>> {
    let RoleSettings { path, permissions_boundary, max_trust_policy_characters: limit } = settings;
    let letter = |c: char| c.is_ascii_alphanumeric() || "+=,.@_/:-".contains(c);
    let is_policy = |arn: &String| arn.starts_with("arn:") && arn.contains(":policy/") && arn.chars().all(letter);
    let wrong = [
        (!is_path(path), "spec.roles.path: must start and end with /, with letters, digits and + = , . @ - _ between"),
        (
            !permissions_boundary.iter().all(is_policy),
            "spec.roles.permissionsBoundary: must be the ARN of an IAM managed policy",
        ),
        (!(2048..=4096).contains(limit), "spec.roles.maxTrustPolicyCharacters: must be 2048 to 4096"),
    ];
    let wrong: Vec<String> = wrong.into_iter().filter(|(is, _)| *is).map(|(_, why)| why.to_owned()).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// An object in its type. What the type does not know is a mistake, but for the status: that is the operator's, perhaps a newer one's.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Vec<String>> {
    let (mut track, mut unknown) = (serde_path_to_error::Track::new(), Vec::new());
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut |path| {
        // An optional field is `?` here.
        unknown.push(path.to_string().replace(".?", ""));
    }));
    let read = match read {
        Ok(read) => read,
        Err(error) => {
            let (path, why) = (track.path().to_string(), error.to_string());
            let quoted = why.contains("integer `") && why.contains("expected a string");
            let hint = if quoted { "; numbers such as an account's must be quoted" } else { "" };
            return Err(vec![if path == "." { why } else { format!("{path}: {why}{hint}") }]);
        }
    };
    unknown
        .retain(|field| !matches!(field.as_str(), "apiVersion" | "kind" | "status") && !field.starts_with("status."));
    match unknown.is_empty() {
        true => Ok(read),
        false => Err(unknown
            .into_iter()
            .map(|field| format!("unknown field {field}: remove it, or look for a typo"))
            .collect()),
    }
}

#[cfg(test)]
mod tests;
