//! A request of the SDK: which call it is, whose, and its parameters.

use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A service of AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Identity and Access Management.
    Iam,
    /// Security Token Service.
    Sts,
    /// Elastic Container Registry.
    Ecr,
}

impl Service {
    /// Returns the service's prefix in the names of actions.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Iam => "iam",
            Self::Sts => "sts",
            Self::Ecr => "ecr",
        }
    }

    pub(super) fn namespace(self) -> &'static str {
        match self {
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Ecr => "",
        }
    }

    /// Returns the service of a signing scope.
    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Iam, Self::Sts, Self::Ecr]
            .into_iter()
            .find(|service| service.prefix() == name)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.prefix())
    }
}

/// The parameters of a call, whatever its format.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameters {
    /// The form of IAM and STS: `Tags.member.1.Key=…`.
    Form(BTreeMap<String, String>),
    /// The JSON of ECR.
    Json(Map<String, Value>),
}

impl Parameters {
    /// Parses a form; `Action` and `Version` are no parameters.
    pub(super) fn of_form(body: &[u8]) -> Self {
        let pairs = form_urlencoded::parse(body)
            .filter(|(name, _)| name != "Action" && name != "Version")
            .map(|(name, value)| (name.into_owned(), value.into_owned()));
        Self::Form(pairs.collect())
    }

    /// Parses JSON; `None` if it is not an object.
    pub(super) fn of_json(body: &[u8]) -> Option<Self> {
        if body.is_empty() {
            return Some(Self::Json(Map::new()));
        }
        match serde_json::from_slice(body) {
            Ok(Value::Object(map)) => Some(Self::Json(map)),
            _ => None,
        }
    }

    /// Returns a text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self {
            Self::Form(form) => form.get(name).map(String::as_str),
            Self::Json(map) => map.get(name)?.as_str(),
        }
    }

    /// Returns a number; `None` also if it is none.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self {
            Self::Form(form) => form.get(name)?.parse().ok(),
            Self::Json(map) => map.get(name)?.as_i64(),
        }
    }

    /// Returns whether a flag is set.
    pub fn flag(&self, name: &str) -> bool {
        match self {
            Self::Form(form) => form.get(name).is_some_and(|value| value == "true"),
            Self::Json(map) => map.get(name).and_then(Value::as_bool).unwrap_or_default(),
        }
    }

    /// Returns whether the parameter is given.
    pub fn has(&self, name: &str) -> bool {
        match self {
            Self::Form(form) => form.contains_key(name),
            Self::Json(map) => map.get(name).is_some_and(|value| !value.is_null()),
        }
    }

    /// Returns the texts of a list.
    pub fn list(&self, name: &str) -> Vec<&str> {
        match self {
            Self::Form(form) => (1..)
                .map_while(|index| form.get(&format!("{name}.member.{index}")))
                .map(String::as_str)
                .collect(),
            Self::Json(map) => map
                .get(name)
                .and_then(Value::as_array)
                .map(|list| list.iter().filter_map(Value::as_str).collect())
                .unwrap_or_default(),
        }
    }

    /// Returns the keys and values of the list `Tags` (`tags` in JSON).
    pub fn tags(&self) -> Vec<(String, String)> {
        match self {
            Self::Form(form) => (1..)
                .map_while(|index| {
                    let key = form.get(&format!("Tags.member.{index}.Key"))?;
                    let value = form.get(&format!("Tags.member.{index}.Value"));
                    Some((key.clone(), value.cloned().unwrap_or_default()))
                })
                .collect(),
            Self::Json(map) => {
                let text = |tag: &Value, field| tag.get(field)?.as_str().map(String::from);
                map.get("tags")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(|tag| {
                        Some((text(tag, "Key")?, text(tag, "Value").unwrap_or_default()))
                    })
                    .collect()
            }
        }
    }
}

/// A call as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub service: Service,
    /// The region of the signing scope; `us-east-1` for IAM.
    pub region: String,
    pub operation: String,
    pub access_key: String,
    pub token: Option<String>,
    pub parameters: Arc<Parameters>,
}

/// What a request says about itself in its headers.
pub(super) struct Headers<'a> {
    pub authorization: &'a str,
    pub token: Option<&'a str>,
    pub target: Option<&'a str>,
}

impl Arrived {
    /// Reads a request.
    ///
    /// # Errors
    /// Says what is missing. The SDK never sends such a request.
    pub fn read(headers: &Headers<'_>, body: &[u8]) -> Result<Self, String> {
        let scope = headers
            .authorization
            .split_once("Credential=")
            .and_then(|(_, rest)| rest.split(',').next())
            .ok_or("the request is not signed")?;
        let parts: Vec<&str> = scope.split('/').collect();
        let [access_key, _date, region, service, _end] = parts[..] else {
            return Err(format!("{scope} is no signing scope"));
        };
        let service =
            Service::named(service).ok_or_else(|| format!("there is no service {service}"))?;
        let (operation, parameters) = match headers.target {
            Some(target) => {
                let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
                let parameters =
                    Parameters::of_json(body).ok_or("the body is not a JSON object")?;
                (operation, parameters)
            }
            None => {
                let operation = form_urlencoded::parse(body)
                    .find(|(name, _)| name == "Action")
                    .map(|(_, value)| value.into_owned())
                    .ok_or("the form has no Action")?;
                (operation, Parameters::of_form(body))
            }
        };
        Ok(Self {
            service,
            region: region.to_owned(),
            operation,
            access_key: access_key.to_owned(),
            token: headers.token.map(String::from),
            parameters: Arc::new(parameters),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_has_lists_and_tags() {
        let form = Parameters::of_form(
            b"Action=TagRole&RoleName=a%2Bb&Tags.member.1.Key=k&Tags.member.1.Value=v+w&Tags.member.2.Key=l&TagKeys.member.1=x",
        );
        assert_eq!(form.text("RoleName"), Some("a+b"));
        assert_eq!(
            form.tags(),
            [("k", "v w"), ("l", "")].map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(form.list("TagKeys"), ["x"]);
        assert!(!form.has("Action"));
    }
}
