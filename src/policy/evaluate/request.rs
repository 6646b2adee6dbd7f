//! A request, and the known part of its context.

use crate::policy::arn::Arn;
use std::collections::BTreeMap;

/// The principal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The ARN of the role (never of one of its sessions), of the user, or of the account's root;
    /// for a service, its name.
    pub arn: String,
    /// The kind of principal.
    pub kind: PrincipalKind,
    /// The account number; `None` for services.
    pub account: Option<String>,
    /// The unique ID (`AROA…` for roles, `AIDA…` for users), if it is known.
    pub unique_id: Option<String>,
}

/// The kind of a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A role, through one of its sessions.
    Role,
    /// An IAM user.
    User,
    /// An account's root user. In its own account, it may do everything that is not denied. For the
    /// resources of another account, it therefore represents the access that the account can
    /// delegate. (STS does not allow a root user to assume a role. That rule is in no policy, and
    /// is not evaluated here.)
    Root,
    /// An AWS service, by its own name (`lambda.amazonaws.com`).
    Service,
}

impl Principal {
    /// Creates the principal of a role, by its ARN and account.
    pub fn role(
        arn: impl Into<String>,
        account: impl Into<String>,
        unique_id: Option<String>,
    ) -> Self {
        Self {
            arn: arn.into(),
            kind: PrincipalKind::Role,
            account: Some(account.into()),
            unique_id,
        }
    }

    /// Creates the principal of a service, by its name.
    pub fn service(name: impl Into<String>) -> Self {
        Self {
            arn: name.into(),
            kind: PrincipalKind::Service,
            account: None,
            unique_id: None,
        }
    }

    /// Returns the partition in the principal's ARN.
    pub(super) fn partition(&self) -> Option<&str> {
        Arn::partition_of(&self.arn)
    }

    /// Returns the last part of the ARN's path: for roles and users, the name.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The principal that makes the request.
    pub principal: Principal,
    /// The requested action, such as `ecr:BatchGetImage`, in any case.
    pub action: String,
    /// The resource: an ARN, or `*` for an action that takes no resource.
    pub resource: String,
    /// The account that owns the resource; for `*`, the principal's own account.
    pub resource_account: String,
    /// The known condition keys.
    pub context: RequestContext,
}

/// The known condition keys of a request, ignoring case. A key has values, is known to be absent
/// from the request, or is unknown. A key that is not listed is unknown, unless the context is
/// [`closed`](RequestContext::closed).
///
/// Keys that follow from the principal and the resource (`aws:PrincipalArn`,
/// `aws:PrincipalAccount`, `aws:ResourceAccount` and the like) need not be listed. A listed key
/// takes precedence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    keys: BTreeMap<String, ContextValue>,
    closed: bool,
}

/// The state of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContextValue {
    Values(Vec<String>),
    Absent,
    Unknown,
}

impl RequestContext {
    /// Adds a key with its values. Without values, the key counts as absent.
    pub fn with<S: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = S>) -> Self {
        let texts: Vec<String> = values.into_iter().map(Into::into).collect();
        let known = if texts.is_empty() {
            ContextValue::Absent
        } else {
            ContextValue::Values(texts)
        };
        self.keys.insert(key.to_ascii_lowercase(), known);
        self
    }

    /// Adds a key that is known to be absent from the request.
    pub fn without(mut self, key: &str) -> Self {
        self.keys
            .insert(key.to_ascii_lowercase(), ContextValue::Absent);
        self
    }

    /// Marks a key as unknown, even if its value would follow from the principal or the context is
    /// closed.
    pub fn unknown(mut self, key: &str) -> Self {
        self.keys
            .insert(key.to_ascii_lowercase(), ContextValue::Unknown);
        self
    }

    /// Declares that every key that is not listed is absent from the request.
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// Returns the state of a key.
    pub(super) fn get(&self, key: &str) -> &ContextValue {
        let unlisted = if self.closed {
            &ContextValue::Absent
        } else {
            &ContextValue::Unknown
        };
        self.keys.get(&key.to_ascii_lowercase()).unwrap_or(unlisted)
    }
}

impl Request {
    /// Returns the context, including the keys that follow from the principal and the resource.
    /// Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>.
    pub(super) fn facts(&self) -> RequestContext {
        let Self {
            principal,
            resource_account,
            context,
            ..
        } = self;
        let base =
            RequestContext::default().with("aws:ResourceAccount", [resource_account.as_str()]);
        let common = match principal.kind {
            PrincipalKind::Service => base
                .with("aws:PrincipalIsAWSService", ["true"])
                .with("aws:PrincipalServiceName", [principal.arn.as_str()])
                .without("aws:PrincipalArn")
                .without("aws:PrincipalAccount")
                .without("aws:PrincipalOrgID")
                .without("aws:username"),
            PrincipalKind::Role | PrincipalKind::User | PrincipalKind::Root => base
                .with("aws:PrincipalArn", [principal.arn.as_str()])
                .with("aws:PrincipalAccount", principal.account.clone())
                .with("aws:PrincipalIsAWSService", ["false"])
                .without("aws:PrincipalServiceName")
                .without("aws:PrincipalServiceNamesList")
                .without("aws:SourceArn")
                .without("aws:SourceAccount")
                .without("aws:SourceOrgID")
                .without("aws:SourceOrgPaths"),
        };
        let mut known = match (principal.kind, &principal.unique_id) {
            (PrincipalKind::Role, _) => common
                .with("aws:PrincipalType", ["AssumedRole"])
                .without("aws:username"),
            (PrincipalKind::User, id) => {
                let user = common
                    .with("aws:PrincipalType", ["User"])
                    .with("aws:username", [principal.name()]);
                id.iter()
                    .fold(user, |user, id| user.with("aws:userid", [id.as_str()]))
            }
            (PrincipalKind::Root, _) => common
                .with("aws:PrincipalType", ["Account"])
                .without("aws:username"),
            (PrincipalKind::Service, _) => common,
        };
        known.closed = context.closed;
        known.keys.extend(
            context
                .keys
                .iter()
                .map(|(key, value)| (key.clone(), value.clone())),
        );
        known
    }
}
