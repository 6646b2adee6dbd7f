//! Who asks for what, and what is known of the circumstances.

use std::collections::BTreeMap;

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The ARN of the role (never of one of its sessions), of the user, or of the account's root; a
    /// service's name.
    pub arn: String,
    /// What it is.
    pub kind: PrincipalKind,
    /// The account's number; none for services.
    pub account: Option<String>,
    /// The unique ID (`AROA…` for roles, `AIDA…` for users), if it is known.
    pub unique_id: Option<String>,
}

/// What a principal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrincipalKind {
    /// A role, by a session of it.
    Role,
    /// An IAM user.
    User,
    /// An account's root user. It may do in its account whatever is not denied there, so for
    /// another account's resources it stands for what the account can delegate. (That STS lets no
    /// root user assume a role is a rule of STS, which no policy states; it is not looked at here.)
    Root,
    /// An AWS service, by its own name (`lambda.amazonaws.com`).
    Service,
}

impl Principal {
    /// A role of an account, by its ARN.
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

    /// A service, by its name.
    pub fn service(name: impl Into<String>) -> Self {
        Self {
            arn: name.into(),
            kind: PrincipalKind::Service,
            account: None,
            unique_id: None,
        }
    }

    /// The partition that its ARN names.
    pub(super) fn partition(&self) -> Option<&str> {
        self.arn.split(':').nth(1)
    }

    /// The last part of its ARN's path: its name, for roles and users.
    pub(super) fn name(&self) -> &str {
        self.arn.rsplit('/').next().unwrap_or_default()
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub principal: Principal,
    /// For what: `ecr:BatchGetImage`, in letters of any case.
    pub action: String,
    /// On what: an ARN, or `*` for an action that takes no resource.
    pub resource: String,
    /// The account that owns the resource; for `*`, the principal's own.
    pub resource_account: String,
    /// What is known beside.
    pub context: RequestContext,
}

/// What is known of a request's condition keys, whose letters' case is of no matter. A key has
/// values, is known not to be in the request, or is not known; and of a key that is not listed
/// nothing is known, unless the context is [`closed`](Context::closed).
///
/// What follows from the principal and the resource (`aws:PrincipalArn`, `aws:PrincipalAccount`,
/// `aws:ResourceAccount` and the like) need not be listed; what is listed goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestContext {
    keys: BTreeMap<String, ContextValue>,
    closed: bool,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContextValue {
    Values(Vec<String>),
    Absent,
    Unknown,
}

impl RequestContext {
    /// A key with its values. Without any it counts as absent.
    pub fn with<S: Into<String>>(mut self, key: &str, values: impl IntoIterator<Item = S>) -> Self {
        let values: Vec<String> = values.into_iter().map(Into::into).collect();
        let known = if values.is_empty() {
            ContextValue::Absent
        } else {
            ContextValue::Values(values)
        };
        self.keys.insert(key.to_ascii_lowercase(), known);
        self
    }

    /// A key that the request is known not to have.
    pub fn without(mut self, key: &str) -> Self {
        self.keys
            .insert(key.to_ascii_lowercase(), ContextValue::Absent);
        self
    }

    /// A key of which nothing is known, although it would follow from the principal or the context
    /// is closed.
    pub fn unknown(mut self, key: &str) -> Self {
        self.keys
            .insert(key.to_ascii_lowercase(), ContextValue::Unknown);
        self
    }

    /// Where every key that is not listed is known not to be in the request.
    pub fn closed(mut self) -> Self {
        self.closed = true;
        self
    }

    /// What is known of a key.
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
    /// The context with what follows from the principal and the resource. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>.
    pub(super) fn facts(&self) -> RequestContext {
        let Self {
            principal,
            resource_account,
            context,
            ..
        } = self;
        let one = |value: &str| [value.to_owned()];
        let known = RequestContext::default().with("aws:ResourceAccount", one(resource_account));
        let known = match principal.kind {
            PrincipalKind::Service => known
                .with("aws:PrincipalIsAWSService", ["true"])
                .with("aws:PrincipalServiceName", one(&principal.arn))
                .without("aws:PrincipalArn")
                .without("aws:PrincipalAccount")
                .without("aws:PrincipalOrgID")
                .without("aws:username"),
            PrincipalKind::Role | PrincipalKind::User | PrincipalKind::Root => known
                .with("aws:PrincipalArn", one(&principal.arn))
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
            (PrincipalKind::Role, _) => known
                .with("aws:PrincipalType", ["AssumedRole"])
                .without("aws:username"),
            (PrincipalKind::User, id) => {
                let known = known
                    .with("aws:PrincipalType", ["User"])
                    .with("aws:username", one(principal.name()));
                id.iter()
                    .fold(known, |known, id| known.with("aws:userid", one(id)))
            }
            (PrincipalKind::Root, _) => known
                .with("aws:PrincipalType", ["Account"])
                .without("aws:username"),
            (PrincipalKind::Service, _) => known,
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
