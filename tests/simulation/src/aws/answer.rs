//! Answers in AWS's own formats: XML for IAM and STS, JSON for ECR, and the errors of both.

use super::request::Service;
use std::borrow::Cow;
use std::fmt::Write;

/// An error that AWS answers with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({status}): {message}")]
pub struct ApiError {
    /// The HTTP status.
    pub status: u16,
    /// The error's code.
    pub code: Cow<'static, str>,
    /// The text for people.
    pub message: String,
}

impl ApiError {
    /// Creates an error.
    pub fn new(
        status: u16,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.into(),
        }
    }

    /// IAM's error for what does not exist.
    pub(super) fn no_such_entity(message: impl Into<String>) -> Self {
        Self::new(404, "NoSuchEntity", message)
    }

    /// IAM's error for a name that is taken.
    pub(super) fn exists(message: impl Into<String>) -> Self {
        Self::new(409, "EntityAlreadyExists", message)
    }

    /// IAM's error for a quota that is used up.
    pub(super) fn limit(message: impl Into<String>) -> Self {
        Self::new(409, "LimitExceeded", message)
    }

    /// IAM's error for what is still in use.
    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(409, "DeleteConflict", message)
    }

    /// IAM's error for a document that it refuses.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new(400, "MalformedPolicyDocument", message)
    }

    /// The error of IAM and STS for a request that breaks the API's model.
    pub(super) fn validation(message: impl Into<String>) -> Self {
        Self::new(400, "ValidationError", message)
    }

    /// ECR's error for a parameter that it refuses.
    pub(super) fn invalid_parameter(message: impl Into<String>) -> Self {
        Self::new(400, "InvalidParameterException", message)
    }

    /// The error of a service that admits no further call at the moment.
    pub fn throttled(service: Service) -> Self {
        let code = match service {
            Service::Iam | Service::Sts => "Throttling",
            Service::Ecr => "ThrottlingException",
        };
        Self::new(400, code, "Rate exceeded")
    }

    /// The error of a service that fails, with status 500.
    pub fn internal(service: Service) -> Self {
        let (code, message) = match service {
            Service::Iam => ("ServiceFailure", "Internal failure"),
            Service::Sts => ("InternalFailure", "Internal failure"),
            Service::Ecr => ("ServerException", "Internal server error"),
        };
        Self::new(500, code, message)
    }

    /// The error of a service that is unavailable, with status 503.
    pub fn unavailable() -> Self {
        Self::new(
            503,
            "ServiceUnavailable",
            "Service is unavailable. Please try again later.",
        )
    }

    /// IAM's error while another change of the same resource is in progress.
    pub fn concurrent_modification() -> Self {
        Self::new(
            409,
            "ConcurrentModification",
            "The request was rejected because multiple requests to change this object were submitted simultaneously.",
        )
    }

    /// The body of an answer with this error.
    pub(super) fn body(&self, service: Service, request_id: &str) -> String {
        let Self {
            status,
            code,
            message,
        } = self;
        if service == Service::Ecr {
            return serde_json::json!({"__type": code, "message": message}).to_string();
        }
        let kind = if *status < 500 { "Sender" } else { "Receiver" };
        let mut error = Xml::default();
        error.text("Type", kind).text("Code", code);
        error.text("Message", message);
        format!(
            "<ErrorResponse xmlns=\"{}\"><Error>{}</Error><RequestId>{request_id}</RequestId></ErrorResponse>",
            service.namespace(),
            error.0
        )
    }
}

/// Elements of XML, one after another.
#[derive(Clone, Debug, Default)]
pub(super) struct Xml(pub String);

impl Xml {
    /// Appends an element with a text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
        escape(text, &mut self.0);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// Appends an element with a number or another value that needs no escaping.
    pub fn value(&mut self, name: &str, value: impl std::fmt::Display) -> &mut Self {
        write!(self.0, "<{name}>{value}</{name}>").expect("a string takes any text");
        self
    }

    /// Appends an element with elements inside.
    pub fn within(&mut self, name: &str, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
        fill(self);
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// Appends a list: one `member` for each item.
    pub fn list<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut fill: impl FnMut(&mut Self, T),
    ) -> &mut Self {
        self.within(name, |list| {
            for item in items {
                list.within("member", |member| fill(member, item));
            }
        })
    }

    /// Returns the body of an answer whose result has these elements.
    pub fn answer(&self, service: Service, operation: &str, request_id: &str) -> String {
        // Of the writes without a result, only this one has an element for it.
        let result = if self.0.is_empty() && operation != "UpdateRole" {
            String::new()
        } else {
            format!("<{operation}Result>{}</{operation}Result>", self.0)
        };
        format!(
            "<{operation}Response xmlns=\"{}\">{result}<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{operation}Response>",
            service.namespace()
        )
    }
}

fn escape(text: &str, into: &mut String) {
    for character in text.chars() {
        match character {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\r' => into.push_str("&#13;"),
            other => into.push(other),
        }
    }
}
