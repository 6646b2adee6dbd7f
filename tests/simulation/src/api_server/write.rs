//! Writes: creation, update, patch, apply and deletion.

use super::core::Core;
use super::fields::managers::{self, ApplyProblem, Author, Layout, seconds};
use super::kinds::Kind;
use super::metadata::{self, is_deleting, text};
use super::request::{Call, Parsed, Verb};
use super::schema::validate::undecodable;
use super::schema::{ValueType, complete};
use super::status::{Failure, Violation};
use super::store::Stored;
use super::strategy::{merge_patch, prepare_new, prepare_update};
use super::validation;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answer to a request that succeeded.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    pub(super) content: Content,
}

/// Content of an answer.
#[derive(Debug)]
pub(super) enum Content {
    Stored(Arc<Stored>),
    Value(Value),
}

impl Answer {
    fn stored(code: u16, stored: Arc<Stored>) -> Self {
        let content = Content::Stored(stored);
        Self { code, content }
    }

    fn value(code: u16, value: Value) -> Self {
        let content = Content::Value(value);
        Self { code, content }
    }
}

/// One write, with the state that it changes.
pub(super) struct Write<'a> {
    pub(super) core: &'a mut Core,
    pub(super) call: Option<&'a Call>,
    pub(super) request: &'a Parsed,
}

impl Write<'_> {
    pub(super) fn run(mut self) -> Result<Answer, Failure> {
        match self.request.verb {
            Verb::Create => self.create(),
            Verb::Update => self.update(),
            Verb::Patch => self.patch(),
            Verb::Apply => self.apply(),
            Verb::Delete => self.delete(),
            Verb::Get | Verb::List | Verb::Watch => Err(Failure::method_not_allowed()),
        }
    }

    fn kind(&self) -> Kind {
        self.request.kind
    }

    fn existing(&self) -> Option<Arc<Stored>> {
        self.core.store.get(&self.request.key()).cloned()
    }

    fn not_found(&self) -> Failure {
        Failure::not_found(self.kind().resource(), &self.request.name)
    }

    /// Calls `work` with the layout of the fields.
    fn with_layout<T>(&self, work: impl FnOnce(Layout<'_>) -> T) -> T {
        let kind = self.kind();
        let definition = kind.definition();
        work(Layout {
            schema: &definition.schema,
            api_version: &kind.api_version(),
            ignored: match self.request.is_status {
                true => &definition.ignored_by_status,
                false => &definition.ignored,
            },
            subresource: if self.request.is_status { "status" } else { "" },
            skeleton: &kind.skeleton(),
        })
    }

    fn create(&mut self) -> Result<Answer, Failure> {
        let mut object = self.request.object()?;
        self.check_type(&object)?;
        self.check_decodable(&object)?;
        if let Some(fields) = object["metadata"].as_object_mut() {
            for field in [
                "creationTimestamp",
                "uid",
                "deletionTimestamp",
                "deletionGracePeriodSeconds",
                "selfLink",
            ] {
                fields.remove(field);
            }
        }
        self.complete(&mut object);
        self.set_namespace(&mut object)?;
        self.create_completed(object)
    }

    fn create_completed(&mut self, mut object: Value) -> Result<Answer, Failure> {
        self.check_namespace(&object)?;
        if self.request.verb != Verb::Apply {
            let empty = self.kind().skeleton();
            self.record_update(&empty, &mut object);
        }
        self.store_new(object)
    }

    fn store_new(&mut self, mut object: Value) -> Result<Answer, Failure> {
        let kind = self.kind();
        let has_version = !text(&object, "resourceVersion").is_empty();
        if text(&object, "name").is_empty() && !text(&object, "generateName").is_empty() {
            let suffix = self.core.new_suffix();
            let name = format!("{}{suffix}", text(&object, "generateName"));
            object["metadata"]["name"] = json!(name);
        }
        prepare_new(kind, &mut object);
        object["metadata"]["uid"] = json!(self.core.new_uid());
        object["metadata"]["creationTimestamp"] = json!(seconds(self.core.now()));
        let violations = validation::of_new(kind, &object);
        self.refuse(&object, &violations)?;
        let is_first = self.request.verb == Verb::Create && !self.request.is_dry_run();
        if has_version && is_first {
            return Err(Failure::unknown(
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let mut key = self.request.key();
        key.name = text(&object, "name").to_owned();
        if let Some(stored) = self.core.store.get(&key) {
            let is_deleting = is_deleting(stored.value());
            return Err(Failure::already_exists(
                kind.resource(),
                &key.name,
                is_deleting,
            ));
        }
        if self.request.is_dry_run() {
            return Ok(Answer::value(201, object));
        }
        Ok(Answer::stored(201, self.core.put(self.call, key, object)))
    }

    fn update(&mut self) -> Result<Answer, Failure> {
        let mut object = self.request.object()?;
        self.check_type(&object)?;
        self.check_decodable(&object)?;
        self.complete(&mut object);
        self.check_name(&object)?;
        self.set_namespace(&mut object)?;
        let existing = self.existing();
        let is_created = self.kind().is_created_by_update() && !self.request.is_status;
        if existing.is_none() && !is_created {
            return Err(self.not_found());
        }
        let own_uid = existing
            .as_deref()
            .map_or("", |old| text(old.value(), "uid"));
        let wanted_uid = text(&object, "uid");
        if !wanted_uid.is_empty() && wanted_uid != own_uid {
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: /registry, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {wanted_uid}, UID in object meta: {own_uid}"
            );
            return Err(Failure::conflict(
                self.kind().resource(),
                &self.request.name,
                &why,
            ));
        }
        let Some(existing) = existing else {
            return self.create_completed(object);
        };
        self.record_update(existing.value(), &mut object);
        self.store_update(&existing, object)
    }

    fn patch(&mut self) -> Result<Answer, Failure> {
        let patch = self.request.object()?;
        let existing = self.existing().ok_or_else(|| self.not_found())?;
        let mut object = existing.value().clone();
        merge_patch(&mut object, &patch);
        let wrong = self.undecodable(&object);
        if let Some((field, expected)) = wrong {
            let why = format!("{field}: expected {}", expected.name());
            let violation = Violation::invalid("patch", &patch, &why);
            return Err(Failure::invalid("", "", "", &[violation]));
        }
        self.complete(&mut object);
        self.record_update(existing.value(), &mut object);
        self.set_namespace(&mut object)?;
        self.check_name(&object)?;
        self.store_update(&existing, object)
    }

    fn apply(&mut self) -> Result<Answer, Failure> {
        let manager = self.request.parameter("fieldManager");
        if manager.is_empty() {
            let violation = Violation::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                &[violation],
            ));
        }
        let applied = self.request.object()?;
        let existing = self.existing();
        if existing.is_none() && self.request.is_status {
            return Err(self.not_found());
        }
        self.check_applied(&applied)?;
        let author = Author {
            manager,
            now: self.core.now(),
        };
        let api_version = self.kind().api_version();
        let mut empty = self.kind().skeleton();
        empty["apiVersion"] = json!(api_version);
        empty["kind"] = json!(self.kind().name());
        let live = existing.as_deref().map_or(&empty, Stored::value);
        let force = self.request.parameter("force") == "true";
        let result =
            self.with_layout(|layout| managers::apply(layout, author, (live, &applied), force));
        let mut object = result.map_err(|problem| match problem {
            ApplyProblem::Conflicts(conflicts) => Failure::field_conflicts(&conflicts),
            ApplyProblem::Untyped(why) => Failure::unknown(format!(
                "failed to create typed patch object ({}/{}; {}, Kind={}): {why}",
                text(&applied, "namespace"),
                text(&applied, "name"),
                api_version,
                self.kind().name()
            )),
        })?;
        if let Some((field, expected)) = self.undecodable(&object) {
            return Err(Failure::unknown(format!(
                "failed to convert new object: {field} must be of type {}",
                expected.name()
            )));
        }
        self.complete(&mut object);
        let Some(existing) = existing else {
            return self.create_applied(object);
        };
        self.set_namespace(&mut object)?;
        self.check_name(&object)?;
        self.store_update(&existing, object)
    }

    fn create_applied(&mut self, mut object: Value) -> Result<Answer, Failure> {
        let uid = text(&object, "uid");
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(Failure::conflict(
                self.kind().resource(),
                &self.request.name,
                &why,
            ));
        }
        self.set_namespace(&mut object)?;
        self.check_name(&object)?;
        self.create_completed(object)
    }

    fn check_applied(&self, applied: &Value) -> Result<(), Failure> {
        let (version, kind) = (&applied["apiVersion"], &applied["kind"]);
        if version.is_null() || kind.is_null() {
            return Err(Failure::bad_request(
                "invalid object type: /, Kind=".to_owned(),
            ));
        }
        let expected = (self.kind().api_version(), self.kind().name());
        if (version.as_str(), kind.as_str()) != (Some(&expected.0), Some(expected.1)) {
            return Err(Failure::bad_request(format!(
                "invalid object type: {version}, Kind={kind}; expected: {}, Kind={}",
                expected.0, expected.1
            )));
        }
        if !applied["metadata"]["managedFields"].is_null() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        Ok(())
    }

    fn delete(&mut self) -> Result<Answer, Failure> {
        let kind = self.kind();
        let options = self.request.options()?;
        super::deletion::check_immortal(&self.request.key())?;
        let existing = self.existing().ok_or_else(|| self.not_found())?;
        super::deletion::check_preconditions(kind, existing.value(), &options["preconditions"])?;
        if let Some(marked) = super::deletion::marked(kind, existing.value(), self.core.now()) {
            if self.request.is_dry_run() || &marked == existing.value() {
                return Ok(Answer::value(200, marked));
            }
            let key = self.request.key();
            return Ok(Answer::stored(200, self.core.put(self.call, key, marked)));
        }
        let status = super::deletion::success(kind, existing.value());
        if !self.request.is_dry_run() {
            let key = self.request.key();
            self.core.remove(self.call, key, existing.value().clone());
        }
        Ok(Answer::value(200, status))
    }

    /// Records the field manager of an update.
    fn record_update(&self, live: &Value, object: &mut Value) {
        let author = Author {
            manager: self.request.manager(),
            now: self.core.now(),
        };
        self.with_layout(|layout| managers::record_update(layout, author, live, object));
    }

    /// Returns the first field that Go's decoder refuses, with the expected type.
    fn undecodable(&self, object: &Value) -> Option<(String, ValueType)> {
        let schema = &self.kind().definition().schema;
        match self.kind().is_custom() {
            true => undecodable(
                &schema.properties["metadata"],
                &object["metadata"],
                "metadata",
            ),
            false => undecodable(schema, object, ""),
        }
    }

    /// Stores the new version of an object, as its strategy allows.
    fn store_update(&mut self, existing: &Stored, mut object: Value) -> Result<Answer, Failure> {
        let kind = self.kind();
        let old = existing.value();
        match text(&object, "resourceVersion") {
            "" if !kind.may_lack_version() => {
                let why = "must be specified for an update";
                let violation = Violation::invalid("metadata.resourceVersion", &json!(0), why);
                let (group, plural) = kind.resource();
                let name = &self.request.name;
                return Err(Failure::invalid(group, plural, name, &[violation]));
            }
            "" => {}
            version if version == text(old, "resourceVersion") => {}
            _ => return Err(Failure::modified(kind.resource(), &self.request.name)),
        }
        object["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        prepare_update(kind, self.request.is_status, old, &mut object);
        let violations = validation::of_update(kind, self.request.is_status, &object, old);
        self.refuse(&object, &violations)?;
        managers::with_old_times(old, &mut object);
        let key = self.request.key();
        if super::deletion::completes(kind, old, &object) {
            if !self.request.is_dry_run() {
                // The event of the deletion shows the version that is stored.
                self.core.remove(self.call, key, old.clone());
            }
            return Ok(Answer::value(200, object));
        }
        if &object == old || self.request.is_dry_run() {
            return Ok(Answer::value(200, object));
        }
        Ok(Answer::stored(200, self.core.put(self.call, key, object)))
    }

    fn refuse(&self, object: &Value, violations: &[Violation]) -> Result<(), Failure> {
        if violations.is_empty() {
            return Ok(());
        }
        // The server validates Events as those of the core group.
        let group = match self.kind() {
            Kind::Event => "",
            kind => kind.group(),
        };
        let name = text(object, "name");
        Err(Failure::invalid(
            group,
            self.kind().name(),
            name,
            violations,
        ))
    }

    fn check_type(&self, object: &Value) -> Result<(), Failure> {
        let kind = self.kind();
        let (version, name) = (object["apiVersion"].as_str(), object["kind"].as_str());
        if kind.is_custom() && (version.is_none() || name.is_none()) {
            let missing = if name.is_none() { "Kind" } else { "apiVersion" };
            return Err(Failure::bad_request(format!(
                "the object provided is unrecognized (must be of type {}): Object '{missing}' is missing",
                kind.name()
            )));
        }
        let expected = kind.api_version();
        if let Some(version) = version.filter(|version| *version != expected) {
            return Err(Failure::bad_request(format!(
                "the API version in the data ({version}) does not match the expected API version ({expected})"
            )));
        }
        match name.filter(|name| *name != kind.name()) {
            None => Ok(()),
            Some(name) if kind.is_custom() => {
                let why = format!("must be {}", kind.name());
                let violation = Violation::invalid("kind", &json!(name), &why);
                let object_name = text(object, "name");
                Err(Failure::invalid(
                    kind.group(),
                    name,
                    object_name,
                    &[violation],
                ))
            }
            Some(name) => Err(Failure::bad_request(format!(
                "the kind in the data ({name}) does not match the expected kind ({})",
                kind.name()
            ))),
        }
    }

    fn check_decodable(&self, object: &Value) -> Result<(), Failure> {
        let kind = self.kind();
        match self.undecodable(object) {
            None => Ok(()),
            Some((field, expected)) => Err(Failure::bad_request(format!(
                "{name} in version {:?} cannot be handled as a {name}: {field} must be of type {}",
                kind.version(),
                expected.name(),
                name = kind.name(),
            ))),
        }
    }

    /// Drops what the server does not know, sets defaults and the type.
    fn complete(&self, object: &mut Value) {
        let kind = self.kind();
        let schema = &kind.definition().schema;
        object["apiVersion"] = json!(kind.api_version());
        object["kind"] = json!(kind.name());
        metadata::normalise(schema, kind, object);
        if kind == Kind::Namespace && !text(object, "name").is_empty() {
            let name = text(object, "name").to_owned();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = json!(name);
        }
        if kind.is_custom() {
            complete::prune(schema, object);
            complete::set_defaults(schema, object);
        }
    }

    fn set_namespace(&self, object: &mut Value) -> Result<(), Failure> {
        let wanted = self.request.namespace.as_str();
        let given = text(object, "namespace");
        if given == wanted {
            return Ok(());
        }
        if wanted.is_empty() {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("namespace");
            }
            return Ok(());
        }
        if !given.is_empty() {
            return Err(Failure::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        object["metadata"]["namespace"] = json!(wanted);
        Ok(())
    }

    fn check_name(&self, object: &Value) -> Result<(), Failure> {
        let (given, wanted) = (text(object, "name"), self.request.name.as_str());
        if given == wanted {
            return Ok(());
        }
        Err(Failure::bad_request(match given {
            "" => "name must be provided".to_owned(),
            _ => format!(
                "the name of the object ({given}) does not match the name on the URL ({wanted})"
            ),
        }))
    }

    /// Refuses new objects in namespaces that do not exist or are being deleted.
    fn check_namespace(&self, object: &Value) -> Result<(), Failure> {
        let namespace = self.request.namespace.as_str();
        if namespace.is_empty() {
            return Ok(());
        }
        let Some(stored) = self.core.namespace(namespace) else {
            return Err(Failure::not_found(Kind::Namespace.resource(), namespace));
        };
        if is_deleting(stored.value()) {
            let resource = self.kind().resource();
            return Err(Failure::terminating(
                resource,
                text(object, "name"),
                namespace,
            ));
        }
        Ok(())
    }
}
