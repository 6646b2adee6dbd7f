//! Manifests in files, as a cluster would have them: grants, accounts, and namespaces' labels. No
//! cluster and no AWS.
//!
//! - `documents`: takes files apart into objects, each with its place.
//!
//! Defaults are the types' own. What the API server would refuse is refused here by the same
//! definitions: an account when it is read, a grant where it is judged, so that it does not hide
//! what the others are. What admission policies of a cluster ask besides is not known here; the
//! accounts' rules are held by [`crate::grant::validate`], as in the operator.

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

/// Which files are meant, for a subcommand to flatten into its arguments.
#[derive(clap::Args)]
pub struct FileNames {
    /// A file of manifests, YAML or JSON, with one document or several; a folder stands for its
    /// .yaml, .yml and .json files; `-` is standard input. Can be repeated. Grants, AWSAccounts and
    /// Namespaces are read, others are passed over.
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// Which manifests are meant, where no cluster is asked.
#[derive(clap::Args)]
pub struct Sources {
    #[command(flatten)]
    pub names: FileNames,

    /// The namespace of grants that name none. Unset: `default`.
    #[arg(short = 'n', long, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
}

impl Sources {
    /// Reads them all.
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

/// What manifests say.
#[derive(Default)]
pub struct Files {
    /// The accounts that were opened to grants.
    pub accounts: BTreeMap<AccountId, Arc<AWSAccount>>,
    /// The grants, each with its namespace.
    pub grants: BTreeMap<GrantName, CrossAccountRegistryGrant>,
    /// The labels of the namespaces that have a manifest, each with the one that the API server
    /// gives it.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Why the API server would refuse a grant, for those that it would.
    pub invalid: BTreeMap<GrantName, Problem>,
    /// What was passed over, for people: lines without control characters.
    pub notes: Vec<String>,
}

/// Every namespace is known: one without a manifest has only its name as a label.
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

/// The label that the API server gives every namespace.
fn own_label(namespace: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("kubernetes.io/metadata.name".into(), namespace.into())])
}

impl Files {
    /// Reads files, folders (not what is in their folders), and standard input where a path is `-`.
    ///
    /// # Errors
    /// Everything that is wrong, a line each: with its file, document and object, and what to do.
    /// No line has control characters.
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
                1 => format!("passed over: {kind}"),
                _ => format!("passed over: {kind}, {count} times"),
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
    /// Where each object was found, by kind and name.
    places: BTreeMap<String, String>,
    /// How many objects of each other kind there were.
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
                "kind {kind} is not one of {GROUP}: CrossAccountRegistryGrant and AWSAccount are"
            )]),
            (GROUP, _, _) => Err(vec![format!(
                "apiVersion {} is not known: {GROUP}/{VERSION} is",
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
                "it was given before: {before}; leave one of them out"
            )]);
        }
        Ok(())
    }
}

/// Checks a name as the API server does (a DNS subdomain). Names are printed in scripts and
/// templates that are generated from grants.
fn named(field: &str, name: Option<&String>) -> Result<String, Vec<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(vec![format!("{field} is needed")]);
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(vec![format!(
            "{field}: `{name}` is no name: at most 253 lowercase letters and digits, with - and . between them, are one"
        )]);
    }
    Ok(name.clone())
}

/// Checks a namespace's name: a DNS label.
fn namespace_named(field: &str, name: Option<&String>) -> Result<String, Vec<String>> {
    let name = named(field, name)?;
    if name.len() > 63 || !is_label(&name) {
        return Err(vec![format!(
            "{field}: `{name}` is no namespace's name: at most 63 lowercase letters and digits, with - between them, are one"
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
        .map(|field| format!("unknown field {field}: remove it, or look for a typo"))
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
