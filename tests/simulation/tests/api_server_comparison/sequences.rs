//! Random sequences of requests. Each works on its own namespace and accounts.

use crate::contents;
use fastrand::Rng;
use serde_json::{Value, json};

const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// One request.
#[derive(Clone, Debug)]
pub struct Step {
    pub method: &'static str,
    pub path: String,
    pub content_type: &'static str,
    pub body: Option<Value>,
    pub is_metadata_only: bool,
    /// The object that it is about. `None`: a list.
    object: Option<String>,
}

impl Step {
    fn new(
        method: &'static str,
        path: String,
        content_type: &'static str,
        body: Option<Value>,
    ) -> Self {
        Self {
            method,
            path,
            content_type,
            body,
            is_metadata_only: false,
            object: None,
        }
    }

    /// Returns whether it reads a list.
    pub fn is_list(&self) -> bool {
        self.object.is_none()
    }
}

/// Requests, and a watch of what they change.
#[derive(Debug)]
pub struct Sequence {
    pub steps: Vec<Step>,
    /// The path of a watch that begins before the changes.
    pub watch: String,
    /// The name of the object that is created last.
    pub last: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Grant,
    Account,
    Lease,
    Event,
    Namespace,
}

struct Generator {
    rng: Rng,
    namespace: String,
    seed: u64,
    steps: Vec<Step>,
}

/// Returns the sequence of a seed.
pub fn sequence(seed: u64, length: usize) -> Sequence {
    let namespace = format!("seq-{seed}");
    let mut generator = Generator {
        rng: Rng::with_seed(seed),
        namespace: namespace.clone(),
        seed,
        steps: Vec::new(),
    };
    let create = json!({"metadata": {"name": namespace}});
    generator.push("POST", "/api/v1/namespaces".to_owned(), JSON, Some(create));
    let grants = generator.collection(Subject::Grant);
    generator.push("GET", grants.clone(), JSON, None);
    for _ in 0..length {
        generator.step();
    }
    let last = json!({
        "apiVersion": "registrygrants.dev/v1alpha1",
        "kind": "CrossAccountRegistryGrant",
        "metadata": {"name": "last"},
        "spec": {
            "access": "Pull",
            "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
            "consumer": {"accountID": "222222222222", "wholeAccount": true},
        },
    });
    generator.push("POST", grants.clone(), JSON, Some(last));
    Sequence {
        steps: generator.steps,
        watch: format!("{grants}?watch=true&resourceVersion=$version:1&timeoutSeconds=60"),
        last: "last".to_owned(),
    }
}

impl Generator {
    fn push(
        &mut self,
        method: &'static str,
        path: String,
        content_type: &'static str,
        body: Option<Value>,
    ) {
        self.steps.push(Step::new(method, path, content_type, body));
    }

    fn subject(&mut self) -> Subject {
        match self.rng.u8(..20) {
            0..=10 => Subject::Grant,
            11..=14 => Subject::Account,
            15..=17 => Subject::Lease,
            18 => Subject::Event,
            _ => Subject::Namespace,
        }
    }

    fn collection(&self, subject: Subject) -> String {
        let namespace = &self.namespace;
        match subject {
            Subject::Grant => format!(
                "/apis/registrygrants.dev/v1alpha1/namespaces/{namespace}/crossaccountregistrygrants"
            ),
            Subject::Account => "/apis/registrygrants.dev/v1alpha1/awsaccounts".to_owned(),
            Subject::Lease => format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"),
            Subject::Event => format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"),
            Subject::Namespace => "/api/v1/namespaces".to_owned(),
        }
    }

    fn name(&mut self, subject: Subject) -> String {
        let number = self.rng.u64(..2);
        match subject {
            Subject::Account => format!("{:012}", self.seed * 10 + number),
            Subject::Namespace => format!("{}-{number}", self.namespace),
            Subject::Grant | Subject::Lease | Subject::Event => format!("name-{number}"),
        }
    }

    fn types(subject: Subject) -> (&'static str, &'static str) {
        match subject {
            Subject::Grant => ("registrygrants.dev/v1alpha1", "CrossAccountRegistryGrant"),
            Subject::Account => ("registrygrants.dev/v1alpha1", "AWSAccount"),
            Subject::Lease => ("coordination.k8s.io/v1", "Lease"),
            Subject::Event => ("events.k8s.io/v1", "Event"),
            Subject::Namespace => ("v1", "Namespace"),
        }
    }

    /// Returns the number of the last step about an object.
    fn last_about(&self, object: &str) -> Option<usize> {
        let is_about = |step: &Step| step.object.as_deref() == Some(object);
        self.steps.iter().rposition(is_about)
    }

    fn step(&mut self) {
        let subject = self.subject();
        let name = self.name(subject);
        let path = format!("{}/{name}", self.collection(subject));
        let before = self.steps.len();
        match self.rng.u8(..20) {
            0..=4 => self.create(subject, &name),
            5 => self.push("GET", path.clone(), JSON, None),
            6 => self.list(subject, &name),
            7..=9 => self.update(subject, &name, &path),
            10..=12 => self.patch(subject, &path),
            13..=15 => self.apply(subject, &name, &path),
            16..=17 => self.patch_status(subject, &path),
            _ => self.delete(&path),
        }
        let is_metadata_only = self.rng.u8(..8) == 0;
        for step in &mut self.steps[before..] {
            let is_list = step.method == "GET" && !step.path.starts_with(&path);
            step.object = (!is_list).then(|| path.clone());
            step.is_metadata_only = is_metadata_only && step.method == "GET";
        }
    }

    fn object(&mut self, subject: Subject, name: &str) -> Value {
        let (version, kind) = Self::types(subject);
        let mut object = match subject {
            Subject::Grant => json!({"spec": contents::grant_spec(&mut self.rng)}),
            Subject::Account => json!({"spec": contents::account_spec(&mut self.rng, name)}),
            Subject::Lease => json!({"spec": contents::lease_spec(&mut self.rng)}),
            Subject::Event => contents::event(&mut self.rng, &self.namespace),
            Subject::Namespace => json!({}),
        };
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        object["metadata"] = contents::new_metadata(&mut self.rng);
        object["metadata"]["name"] = json!(name);
        object
    }

    fn create(&mut self, subject: Subject, name: &str) {
        let mut object = self.object(subject, name);
        if self.rng.u8(..12) == 0 {
            object["status"] = json!({"observedGeneration": 1});
        }
        let path = self.collection(subject);
        let query = self.query();
        self.push("POST", format!("{path}{query}"), JSON, Some(object));
    }

    /// Returns a query that names a field manager, or none.
    fn query(&mut self) -> &'static str {
        [
            "",
            "?fieldManager=a",
            "?fieldManager=b",
            "?fieldManager=registry-grants",
            "?fieldManager=a&dryRun=All",
        ][self.rng.usize(..5)]
    }

    fn list(&mut self, subject: Subject, name: &str) {
        let collection = self.collection(subject);
        match subject {
            Subject::Account | Subject::Namespace => {
                let path = format!("{collection}?fieldSelector=metadata.name%3D{name}");
                self.push("GET", path, JSON, None);
            }
            _ if self.rng.bool() => {
                let query = self.versioned();
                self.push("GET", format!("{collection}?{query}"), JSON, None);
            }
            Subject::Grant | Subject::Lease | Subject::Event => {
                let first = self.steps.len();
                self.push("GET", format!("{collection}?limit=1"), JSON, None);
                let rest = format!("{collection}?limit=1&continue=$continue:{first}");
                self.push("GET", rest, JSON, None);
            }
        }
    }

    /// Returns the query of a list with a version.
    fn versioned(&mut self) -> String {
        let step = self.rng.usize(..self.steps.len());
        match self.rng.u8(..16) {
            0..=3 => "resourceVersion=0".to_owned(),
            4 => "resourceVersion=0&limit=1".to_owned(),
            5..=8 => format!("resourceVersion=$version:{step}&resourceVersionMatch=NotOlderThan"),
            9..=11 => format!("resourceVersion=$version:{step}&resourceVersionMatch=Exact"),
            12..=13 => format!("resourceVersion=$version:{step}&limit=1"),
            // The real server waits for it for three seconds.
            14 if self.rng.u8(..8) == 0 => "resourceVersion=99999999".to_owned(),
            _ => "resourceVersion=1x".to_owned(),
        }
    }

    fn update(&mut self, subject: Subject, name: &str, path: &str) {
        let mut object = self.object(subject, name);
        let is_status = self.rng.u8(..4) == 0 && has_status(subject);
        if is_status {
            object["status"] = self.status(subject);
        }
        if let Some(last) = self.last_about(path) {
            if self.rng.u8(..6) > 0 {
                object["metadata"]["resourceVersion"] = json!(format!("$version:{last}"));
            }
            if self.rng.bool() {
                object["metadata"]["uid"] = json!(format!("$uid:{last}"));
            }
        }
        let status = if is_status { "/status" } else { "" };
        let query = self.query();
        self.push("PUT", format!("{path}{status}{query}"), JSON, Some(object));
    }

    fn patch(&mut self, subject: Subject, path: &str) {
        let mut patch = json!({});
        if self.rng.bool() {
            patch["metadata"] = contents::metadata_patch(&mut self.rng);
        } else {
            match subject {
                Subject::Grant => patch["spec"] = contents::grant_spec(&mut self.rng),
                Subject::Account => patch["spec"] = json!({"alias": "changed"}),
                Subject::Lease => patch["spec"] = contents::lease_spec(&mut self.rng),
                Subject::Event => patch = contents::event_patch(&mut self.rng),
                Subject::Namespace => patch["spec"] = json!({"finalizers": []}),
            }
        }
        if let Some(last) = self.last_about(path)
            && self.rng.u8(..3) == 0
        {
            patch["metadata"]["resourceVersion"] = json!(format!("$version:{last}"));
            if self.rng.bool() {
                patch["metadata"]["uid"] = json!(format!("$uid:{last}"));
            }
        }
        let query = self.query();
        self.push("PATCH", format!("{path}{query}"), MERGE, Some(patch));
    }

    fn status(&mut self, subject: Subject) -> Value {
        match subject {
            Subject::Grant => contents::grant_status(&mut self.rng),
            Subject::Account => contents::account_status(&mut self.rng),
            Subject::Lease | Subject::Event | Subject::Namespace => json!({"phase": "Odd"}),
        }
    }

    fn apply(&mut self, subject: Subject, name: &str, path: &str) {
        let (version, kind) = Self::types(subject);
        let manager = ["a", "b", "registry-grants"][self.rng.usize(..3)];
        let force = ["", "&force=true", "&force=true"][self.rng.usize(..3)];
        let is_status = has_status(subject) && self.rng.u8(..4) > 0;
        let mut object = if is_status {
            json!({"metadata": {"name": name}, "status": self.status(subject)})
        } else {
            let mut object = self.object(subject, name);
            if self.rng.bool()
                && let Some(spec) = object["spec"].as_object_mut()
            {
                let kept = self.rng.usize(..=spec.len());
                let names: Vec<String> = spec.keys().skip(kept).cloned().collect();
                for name in names {
                    spec.remove(&name);
                }
            }
            object
        };
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        if let Some(last) = self.last_about(path)
            && self.rng.u8(..4) == 0
        {
            object["metadata"]["uid"] = json!(format!("$uid:{last}"));
        }
        let status = if is_status { "/status" } else { "" };
        let path = format!("{path}{status}?fieldManager={manager}{force}");
        self.push("PATCH", path, APPLY, Some(object));
    }

    fn patch_status(&mut self, subject: Subject, path: &str) {
        if !has_status(subject) {
            return self.patch(subject, path);
        }
        let mut patch = json!({"status": self.status(subject)});
        if self.rng.u8(..3) == 0 {
            patch["metadata"] = contents::metadata_patch(&mut self.rng);
        }
        if let Some(last) = self.last_about(path)
            && self.rng.u8(..3) == 0
        {
            patch["metadata"]["resourceVersion"] = json!(format!("$version:{last}"));
        }
        let query = self.query();
        self.push("PATCH", format!("{path}/status{query}"), MERGE, Some(patch));
    }

    fn delete(&mut self, path: &str) {
        let last = self.last_about(path);
        let body = match (last, self.rng.u8(..4)) {
            (Some(last), 0) => Some(json!({"preconditions": {"uid": format!("$uid:{last}")}})),
            (Some(last), 1) => {
                Some(json!({"preconditions": {"resourceVersion": format!("$version:{last}")}}))
            }
            _ => None,
        };
        self.push("DELETE", path.to_owned(), JSON, body);
    }
}

fn has_status(subject: Subject) -> bool {
    matches!(
        subject,
        Subject::Grant | Subject::Account | Subject::Namespace
    )
}
