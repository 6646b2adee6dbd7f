//! Requests of clients: what a method, a path, parameters and headers ask for.

use super::kinds::Kind;
use super::status::Failure;
use super::store::Key;
use http::{Method, Request, header};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads all objects, or a page of them.
    List,
    /// Follows changes.
    Watch,
    /// Creates an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes a part of an object by a merge patch.
    Patch,
    /// Applies a configuration (server-side apply).
    Apply,
    /// Deletes an object.
    Delete,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Apply => "apply",
            Self::Delete => "delete",
        })
    }
}

impl Verb {
    /// Returns whether a request with this verb can change the store.
    pub fn writes(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Update | Self::Patch | Self::Apply | Self::Delete => true,
        }
    }
}

/// One request, as faults, observers and the log see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number of the request, in the order of arrival.
    pub number: u64,
    /// The client's identity.
    pub client: String,
    /// What it does.
    pub verb: Verb,
    /// The kind of the objects.
    pub kind: Kind,
    /// The namespace; empty for all namespaces, and for kinds that have none.
    pub namespace: String,
    /// The object's name; empty for lists and watches.
    pub name: String,
    /// Whether the request is for the subresource `status`.
    pub is_status: bool,
    /// The requested resource version; empty if there is none.
    pub resource_version: String,
}

impl Call {
    /// Returns the key of the object.
    pub fn key(&self) -> Key {
        Key::new(self.kind, &self.namespace, &self.name)
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            number,
            client,
            verb,
            kind,
            namespace,
            name,
            is_status,
            resource_version: _,
        } = self;
        let status = if *is_status { "/status" } else { "" };
        let place = [namespace.as_str(), name.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("/");
        write!(
            f,
            "#{number} {client} {verb} {}{status} {place}",
            kind.plural()
        )
    }
}

/// A request, parsed.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) verb: Verb,
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) is_status: bool,
    pub(super) parameters: BTreeMap<String, String>,
    /// Whether only the metadata of objects is wanted.
    pub(super) is_metadata_only: bool,
    user_agent: String,
    body: Vec<u8>,
}

impl Parsed {
    /// Parses a request, whose body has arrived.
    ///
    /// # Errors
    /// When the server has no such path, method or content type.
    pub(super) fn of(request: &Request<()>, body: Vec<u8>) -> Result<Self, Failure> {
        let uri = request.uri();
        let parameters = parameters(uri.query().unwrap_or_default());
        let path = Path::of(uri.path()).ok_or_else(Failure::no_such_path)?;
        let text = |name: header::HeaderName| {
            let value = request.headers().get(name);
            let value = value.and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let is_watch = parameters
            .get("watch")
            .is_some_and(|watch| watch == "true" || watch == "1");
        let content_type = text(header::CONTENT_TYPE);
        let verb = verb(request.method(), &path, is_watch, &content_type)?;
        Ok(Self {
            verb,
            kind: path.kind,
            namespace: path.namespace,
            name: path.name,
            is_status: path.is_status,
            parameters,
            is_metadata_only: text(header::ACCEPT).contains("as=PartialObjectMetadata"),
            user_agent: text(header::USER_AGENT),
            body,
        })
    }

    /// Returns a request of the simulation itself.
    pub(super) fn direct(verb: Verb, key: &Key, is_status: bool, body: &Value) -> Self {
        let body = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        Self {
            verb,
            kind: key.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
            is_status,
            parameters: BTreeMap::new(),
            is_metadata_only: false,
            user_agent: "simulation".to_owned(),
            body,
        }
    }

    pub(super) fn call(&self, number: u64, client: &str) -> Call {
        Call {
            number,
            client: client.to_owned(),
            verb: self.verb,
            kind: self.kind,
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            is_status: self.is_status,
            resource_version: self.parameter("resourceVersion").to_owned(),
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::new(self.kind, &self.namespace, &self.name)
    }

    /// Returns a parameter; empty if there is none.
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.parameter("dryRun") == "All"
    }

    /// Returns the field manager: the parameter, or else the client's program.
    pub(super) fn manager(&self) -> &str {
        match self.parameter("fieldManager") {
            "" => self.user_agent.split('/').next().unwrap_or_default(),
            given => given,
        }
    }

    /// Returns the body as an object.
    pub(super) fn object(&self) -> Result<Value, Failure> {
        let parsed: Result<Value, _> = serde_json::from_slice(&self.body);
        let why = match parsed {
            Ok(object) if object.is_object() => return Ok(object),
            Ok(_) => "it is no object".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(Failure::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why}",
            self.kind.name()
        )))
    }

    /// Returns the body of a deletion, which may be missing.
    pub(super) fn options(&self) -> Result<Value, Failure> {
        if self.body.is_empty() {
            return Ok(Value::Null);
        }
        self.object()
    }
}

fn verb(method: &Method, path: &Path, is_watch: bool, content_type: &str) -> Result<Verb, Failure> {
    let is_named = !path.name.is_empty();
    let content_type = content_type.split(';').next().unwrap_or_default();
    Ok(match (method.as_str(), is_named, path.is_status) {
        ("GET", false, _) if is_watch => Verb::Watch,
        ("GET", false, _) => Verb::List,
        ("GET", true, _) => Verb::Get,
        ("POST", false, _) if path.may_create() => Verb::Create,
        ("PUT", true, _) => Verb::Update,
        ("DELETE", true, false) => Verb::Delete,
        ("PATCH", true, _) => match content_type {
            "application/apply-patch+yaml" => Verb::Apply,
            "application/merge-patch+json" => Verb::Patch,
            other => {
                return Err(Failure::unsupported(format!(
                    "the body of the request was in an unknown format - this simulation accepts application/merge-patch+json and application/apply-patch+yaml, not {other:?}"
                )));
            }
        },
        _ => return Err(Failure::method_not_allowed()),
    })
}

fn parameters(query: &str) -> BTreeMap<String, String> {
    let pairs = form_urlencoded::parse(query.as_bytes()).into_owned();
    pairs.collect()
}

#[derive(Debug)]
struct Path {
    kind: Kind,
    namespace: String,
    name: String,
    is_status: bool,
}

impl Path {
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        let kind_of = |plural: &str| {
            Kind::ALL.into_iter().find(|kind| {
                kind.group() == group && kind.version() == version && kind.plural() == plural
            })
        };
        // The path of a namespace itself looks like the start of a path within it.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() && rest != ["status"] => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (kind, name, is_status) = match rest {
            [plural] => (kind_of(plural)?, "", false),
            [plural, name] => (kind_of(plural)?, *name, false),
            [plural, name, "status"] => (kind_of(plural)?, *name, true),
            _ => return None,
        };
        let fits = kind.is_namespaced() || namespace.is_empty();
        let is_complete = name.is_empty() || kind.is_namespaced() != namespace.is_empty();
        let has_subresource = !is_status || kind.has_status();
        (fits && is_complete && has_subresource).then(|| Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            is_status,
        })
    }

    fn may_create(&self) -> bool {
        self.kind.is_namespaced() != self.namespace.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(method: &str, uri: &str) -> Result<(Verb, Key), u16> {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header("Content-Type", "application/merge-patch+json")
            .body(())
            .unwrap();
        Parsed::of(&request, Vec::new())
            .map(|parsed| (parsed.verb, parsed.key()))
            .map_err(|failure| failure.code)
    }

    #[test]
    fn paths_and_methods_name_verb_and_object() {
        let grants = "/apis/registrygrants.dev/v1alpha1/namespaces/team/crossaccountregistrygrants";
        let grant = Key::new(Kind::Grant, "team", "web");
        let status = format!("{grants}/web/status");
        assert_eq!(parsed("PATCH", &status), Ok((Verb::Patch, grant.clone())));
        assert_eq!(
            parsed("DELETE", &format!("{grants}/web")),
            Ok((Verb::Delete, grant))
        );
        let all = "/apis/registrygrants.dev/v1alpha1/crossaccountregistrygrants?watch=true";
        assert_eq!(
            parsed("GET", all),
            Ok((Verb::Watch, Key::new(Kind::Grant, "", "")))
        );
        let namespace = Key::new(Kind::Namespace, "", "team");
        assert_eq!(
            parsed("GET", "/api/v1/namespaces/team"),
            Ok((Verb::Get, namespace))
        );
        assert_eq!(parsed("GET", "/api/v1/namespaces/team/pods"), Err(404));
        assert_eq!(parsed("POST", all), Err(405));
    }
}
