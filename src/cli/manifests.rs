//! Reads manifests from files as a cluster would: grants, accounts, and labels of namespaces. It
//! uses neither a cluster nor AWS.
//!
//! - `documents`: splits files into objects, each with its place.
//!
//! The types supply the defaults. The API server's validation rules apply to the files: an account
//! is checked when it is read, a grant when it is evaluated, so that an invalid grant does not hide
//! the others. A cluster's admission policies are not known here. [`crate::grant::validate`]
//! applies the accounts' rules, as in the operator.

mod documents;

use super::terminal::{note, plain};
use crate::api::admission::{refusals_of_account, refusals_of_grant};
use crate::api::conditions::Reason;
use crate::api::{AWSAccount, CrossAccountRegistryGrant, GROUP};
use crate::grant::{AccountId, AccountLookup, GrantName, Problem};
use documents::{Input, Object, ParsedInput};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The version of our resources.
const VERSION: &str = "v1alpha1";

/// The files to read, for a subcommand to flatten into its arguments.
#[derive(clap::Args)]
pub struct FileNames {
    /// A file of manifests, YAML or JSON, with one document or several. A folder stands for its
    /// .yaml, .yml and .json files, `-` for standard input. Can be repeated. Grants, AWSAccounts
    /// and Namespaces are read; other objects are skipped.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// The manifests to read, for subcommands that read no cluster.
#[derive(clap::Args)]
pub struct Sources {
    #[command(flatten)]
    pub names: FileNames,

    /// The namespace of grants without one. Unset: `default`.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Sources {
    /// Reads all files.
    ///
    /// # Errors
    /// As [`Files::read`].
    pub fn read(&self) -> Result<Files, String> {
        Files::read(
            &self.names.files,
            self.namespace.as_deref().unwrap_or("default"),
        )
    }
}

/// The content of the manifests.
#[derive(Default)]
pub struct Files {
    /// The accounts.
    pub accounts: BTreeMap<AccountId, Arc<AWSAccount>>,
    /// The grants, each with its namespace.
    pub grants: BTreeMap<GrantName, CrossAccountRegistryGrant>,
    /// The labels of the namespaces that have a manifest, including the label that the API server
    /// adds.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The grants that the API server would refuse, with the reason.
    pub invalid: BTreeMap<GrantName, Problem>,
    /// The kinds of objects that were skipped, for people: lines without control characters.
    pub notes: Vec<String>,
}

/// Every namespace exists. Without a manifest, it has only its name as a label.
impl AccountLookup for Files {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        self.accounts.get(id).cloned()
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        Some(
            self.namespaces
                .get(namespace)
                .cloned()
                .unwrap_or_else(|| own_label(namespace)),
        )
    }
}

/// Returns the label that the API server adds to every namespace.
fn own_label(namespace: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kubernetes.io/metadata.name".into(), namespace.into())])
}

impl Files {
    /// Reads files, folders (but not their subfolders), and standard input for `-`.
    ///
    /// # Errors
    /// All problems, one per line, each with its file, document and object, and what to do. No line
    /// has control characters.
    pub fn read(paths: &[PathBuf], namespace: &str) -> Result<Self, String> {
        Self::of(documents::inputs(paths)?, namespace)
    }

    fn of(inputs: Vec<Input>, namespace: &str) -> Result<Self, String> {
        let mut reading = Reading {
            files: Self::default(),
            places: BTreeMap::new(),
            others: BTreeMap::new(),
        };
        let mut wrong = Vec::new();
        for Input { name, bytes } in inputs {
            let parsed = ParsedInput::of(&name, &bytes);
            wrong.extend(parsed.wrong);
            for object in parsed.objects {
                let place = object.place.clone();
                for problem in reading.take(object, namespace).err().into_iter().flatten() {
                    wrong.push(format!("{place}: {}", plain(&problem)));
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong.join("\n"));
        }
        let Reading {
            mut files,
            others,
            places: _,
        } = reading;
        for (kind, count) in others {
            files.notes.push(match count {
                1 => format!("skipped: {kind}"),
                _ => format!("skipped: {kind}, {count} times"),
            });
        }
        Ok(files)
    }

    /// Prints the notes to standard error.
    pub fn print_notes(&self) {
        self.notes.iter().for_each(note);
    }
}

struct Reading {
    files: Files,
    /// The place of each object, by kind and name.
    places: BTreeMap<String, String>,
    /// The number of objects of each other kind.
    others: BTreeMap<String, usize>,
}

impl Reading {
    /// Adds an object to what was read.
    fn take(&mut self, object: Object, namespace: &str) -> Result<(), Vec<String>> {
        let (group, version) = object
            .api_version
            .split_once('/')
            .unwrap_or(("", &object.api_version));
        match (group, version, object.kind.as_str()) {
            (GROUP, VERSION, "CrossAccountRegistryGrant") => self.take_grant(object, namespace),
            (GROUP, VERSION, "AWSAccount") => self.take_account(object),
            (GROUP, VERSION, kind) => Err(vec![format!(
                "kind {kind} does not exist in {GROUP}; use CrossAccountRegistryGrant or AWSAccount"
            )]),
            (GROUP, _, _) => Err(vec![format!(
                "apiVersion {} is not supported; use {GROUP}/{VERSION}",
                object.api_version
            )]),
            ("", "v1", "Namespace") => self.take_namespace(object),
            _ => {
                let kind = plain(&format!("{} {}", object.api_version, object.kind));
                *self.others.entry(kind).or_default() += 1;
                Ok(())
            }
        }
    }

    fn take_grant(&mut self, object: Object, namespace: &str) -> Result<(), Vec<String>> {
        let mut grant: CrossAccountRegistryGrant = typed(object.value.clone())?;
        let namespace = grant
            .metadata
            .namespace
            .get_or_insert_with(|| namespace.to_owned());
        let name = GrantName {
            namespace: namespace_named("metadata.namespace", Some(&*namespace))?,
            name: named("metadata.name", grant.metadata.name.as_ref())?,
        };
        self.only_once(format!("{} {name}", object.kind), &object.place)?;
        let refusals = refusals_of_grant(object.value);
        if !refusals.is_empty() {
            let problem = Problem::new(Reason::Invalid, refusals.join("; "));
            self.files.invalid.insert(name.clone(), problem);
        }
        self.files.grants.insert(name, grant);
        Ok(())
    }

    fn take_account(&mut self, object: Object) -> Result<(), Vec<String>> {
        let account: AWSAccount = typed(object.value.clone())?;
        let name = named("metadata.name", account.metadata.name.as_ref())?;
        let id = name.parse().map_err(|why| {
            vec![format!(
                "metadata.name: {why}; an AWSAccount's name is the account's number, quoted"
            )]
        })?;
        let refusals = refusals_of_account(object.value);
        if !refusals.is_empty() {
            return Err(refusals);
        }
        self.only_once(format!("{} {name}", object.kind), &object.place)?;
        self.files.accounts.insert(id, Arc::new(account));
        Ok(())
    }

    fn take_namespace(&mut self, object: Object) -> Result<(), Vec<String>> {
        let namespace: Namespace = typed(object.value)?;
        let name = namespace_named("metadata.name", namespace.metadata.name.as_ref())?;
        let mut labels = namespace.labels().clone();
        labels.extend(own_label(&name));
        // The namespace may be repeated in each file of grants that are in it.
        if self.files.namespaces.get(&name) != Some(&labels) {
            self.only_once(format!("{} {name}", object.kind), &object.place)?;
        }
        self.files.namespaces.insert(name, labels);
        Ok(())
    }

    fn only_once(&mut self, what: String, place: &str) -> Result<(), Vec<String>> {
        if let Some(before) = self.places.insert(what, place.to_owned()) {
            return Err(vec![format!(
                "it is a duplicate of {before}; remove one of them"
            )]);
        }
        Ok(())
    }
}

/// Checks a name as the API server does (a DNS subdomain). Names are printed in scripts and
/// templates that are generated from grants.
fn named(field: &str, name: Option<&String>) -> Result<String, Vec<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(vec![format!("{field} is required")]);
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(vec![format!(
            "{field}: `{name}` is not a name: it must have at most 253 lowercase letters and digits, with - and . between them"
        )]);
    }
    Ok(name.clone())
}

/// Checks a namespace's name: a DNS label.
fn namespace_named(field: &str, name: Option<&String>) -> Result<String, Vec<String>> {
    let name = named(field, name)?;
    if name.len() > 63 || !is_label(&name) {
        return Err(vec![format!(
            "{field}: `{name}` is not a namespace's name: it must have at most 63 lowercase letters and digits, with - between them"
        )]);
    }
    Ok(name)
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// Deserializes an object. A field that the type does not know is an error, except in the status,
/// which a newer version of the operator may have written.
fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Vec<String>> {
    let mut track = serde_path_to_error::Track::new();
    let mut unknown = Vec::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    let read = T::deserialize(serde_ignored::Deserializer::new(tracked, &mut |path| {
        // The path has a `?` for each optional field.
        unknown.push(path.to_string().replace(".?", ""));
    }))
    .map_err(|error| vec![misread(&track.path().to_string(), &error.to_string())])?;
    unknown.retain(|field| {
        !matches!(field.as_str(), "apiVersion" | "kind" | "status") && !field.starts_with("status.")
    });
    if unknown.is_empty() {
        return Ok(read);
    }
    Err(unknown
        .into_iter()
        .map(|field| format!("unknown field {field}: remove it, or check its spelling"))
        .collect())
}

/// Explains why a field could not be read, with a hint if only its quotes are missing.
fn misread(path: &str, why: &str) -> String {
    if path == "." {
        return why.to_owned();
    }
    let lacks_quotes = why.contains("integer `") && why.contains("expected a string");
    let hint = if lacks_quotes {
        "; numbers such as an account's must be quoted"
    } else {
        ""
    };
    format!("{path}: {why}{hint}")
}

#[cfg(test)]
mod tests;
