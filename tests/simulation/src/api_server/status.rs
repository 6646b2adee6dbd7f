//! Failures of requests, as `Status` objects of the API.

use serde_json::{Value, json};

/// Failure of a request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) code: u16,
    pub(super) reason: &'static str,
    pub(super) message: String,
    details: Value,
    /// The continuation of an expired list.
    pub(super) continuation: Option<String>,
}

/// One violation of a validation rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Violation {
    pub(super) field: String,
    pub(super) reason: ViolationKind,
    pub(super) message: String,
}

/// Kind of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ViolationKind {
    Duplicate,
    Forbidden,
    Invalid,
    NotSupported,
    Required,
    TooLong,
    TooMany,
    WrongType,
}

impl ViolationKind {
    fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "FieldValueDuplicate",
            Self::Forbidden => "FieldValueForbidden",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Required => "FieldValueRequired",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::WrongType => "FieldValueTypeInvalid",
        }
    }
}

impl Violation {
    pub(super) fn new(field: &str, reason: ViolationKind, message: impl Into<String>) -> Self {
        Self {
            field: field.to_owned(),
            reason,
            message: message.into(),
        }
    }

    pub(super) fn invalid(field: &str, value: &Value, why: &str) -> Self {
        Self::new(
            field,
            ViolationKind::Invalid,
            format!("Invalid value: {value}: {why}"),
        )
    }

    pub(super) fn required(field: &str, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self::new(field, ViolationKind::Required, message)
    }
}

/// The resource of a failure: its group and plural name.
pub(super) type GroupResource<'a> = (&'a str, &'a str);

fn qualified((group, resource): GroupResource<'_>) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

fn details((group, resource): GroupResource<'_>, name: &str) -> Value {
    let mut details = json!({"name": name, "kind": resource});
    if !group.is_empty() {
        details["group"] = json!(group);
    }
    details
}

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Value::Null,
            continuation: None,
        }
    }

    pub(super) fn not_found(resource: GroupResource<'_>, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource));
        Self {
            details: details(resource, name),
            ..Self::new(404, "NotFound", message)
        }
    }

    /// Returns the answer to an unknown path.
    pub(super) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource";
        Self {
            details: json!({}),
            ..Self::new(404, "NotFound", message)
        }
    }

    pub(super) fn already_exists(
        resource: GroupResource<'_>,
        name: &str,
        is_deleting: bool,
    ) -> Self {
        let prefix = if is_deleting {
            "object is being deleted: "
        } else {
            ""
        };
        let message = format!("{prefix}{} {name:?} already exists", qualified(resource));
        Self {
            details: details(resource, name),
            ..Self::new(409, "AlreadyExists", message)
        }
    }

    pub(super) fn conflict(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            qualified(resource)
        );
        Self {
            details: details(resource, name),
            ..Self::new(409, "Conflict", message)
        }
    }

    /// Returns the conflict of a write with an older version.
    pub(super) fn modified(resource: GroupResource<'_>, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, name, why)
    }

    /// Returns the conflict of an apply with other field managers: for each, its description and
    /// the field.
    pub(super) fn field_conflicts(conflicts: &[(String, String)]) -> Self {
        let causes: Vec<Value> = conflicts
            .iter()
            .map(|(manager, field)| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {manager}"),
                    "field": field,
                })
            })
            .collect();
        let plural = if conflicts.len() == 1 { "" } else { "s" };
        let listed: Vec<String> = conflicts
            .iter()
            .map(|(manager, field)| format!("conflict with {manager}: {field}"))
            .collect();
        let message = format!(
            "Apply failed with {} conflict{plural}: {}",
            conflicts.len(),
            listed.join("\n")
        );
        Self {
            details: json!({"causes": causes}),
            ..Self::new(409, "Conflict", message)
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// Returns a failure that the server reports as it is, without a known reason.
    pub(super) fn unknown(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self {
            details: json!({}),
            ..Self::new(405, "MethodNotAllowed", message)
        }
    }

    pub(super) fn forbidden(resource: GroupResource<'_>, name: &str, why: &str) -> Self {
        let message = format!("{} {name:?} is forbidden: {why}", qualified(resource));
        Self {
            details: details(resource, name),
            ..Self::new(403, "Forbidden", message)
        }
    }

    /// Returns the refusal to create something in a namespace that is being deleted.
    pub(super) fn terminating(resource: GroupResource<'_>, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut failure = Self::forbidden(resource, name, &why);
        failure.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        failure
    }

    pub(super) fn invalid(group: &str, kind: &str, name: &str, violations: &[Violation]) -> Self {
        let mut listed: Vec<String> = Vec::new();
        for Violation { field, message, .. } in violations {
            let text = format!("{field}: {message}");
            if !listed.contains(&text) {
                listed.push(text);
            }
        }
        let text = match listed.as_slice() {
            [single] => single.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let causes: Vec<Value> = violations
            .iter()
            .map(
                |Violation {
                     field,
                     reason,
                     message,
                 }| {
                    json!({"reason": reason.reason(), "message": message, "field": field})
                },
            )
            .collect();
        let mut details = json!({"name": name, "group": group, "kind": kind, "causes": causes});
        if let Some(fields) = details.as_object_mut() {
            fields.retain(|_, value| value != "");
        }
        let what = qualified((group, kind));
        Self {
            details,
            ..Self::new(
                422,
                "Invalid",
                format!("{what} {name:?} is invalid: {text}"),
            )
        }
    }

    /// Returns that a resource version is not available any more.
    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// Returns that a resource version is newer than the server's. Only kinds with a watch cache
    /// say when to try again.
    pub(super) fn too_new(requested: u64, current: u64, is_cached: bool) -> Self {
        let message = format!("Too large resource version: {requested}, current: {current}");
        let mut details = json!({
            "causes": [{
                "reason": "ResourceVersionTooLarge",
                "message": "Too large resource version",
            }],
        });
        if is_cached {
            details["retryAfterSeconds"] = json!(1);
        }
        Self {
            details,
            ..Self::new(504, "Timeout", format!("Timeout: {message}"))
        }
    }

    /// Returns the failure that a fault asks for.
    pub(super) fn injected(code: u16, retry_after: Option<u64>) -> Self {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden"),
            409 => (
                "Conflict",
                "Operation cannot be fulfilled: the object has been modified",
            ),
            429 => (
                "TooManyRequests",
                "Too many requests, please try again later.",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "Timeout: request did not complete within the allotted timeout",
            ),
            _ => (
                "InternalError",
                "Internal error occurred: etcdserver: request timed out",
            ),
        };
        let details =
            retry_after.map_or(Value::Null, |seconds| json!({"retryAfterSeconds": seconds}));
        Self {
            details,
            ..Self::new(code, reason, message)
        }
    }

    /// Returns the seconds after which the client may try again.
    pub(super) fn retry_after(&self) -> Option<u64> {
        self.details["retryAfterSeconds"].as_u64()
    }

    /// Returns the `Status` object.
    pub(super) fn to_value(&self) -> Value {
        let mut metadata = json!({});
        if let Some(continuation) = &self.continuation {
            metadata["continue"] = json!(continuation);
        }
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !self.details.is_null() {
            status["details"] = self.details.clone();
        }
        status
    }
}
