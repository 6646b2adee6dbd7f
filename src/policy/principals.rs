//! The principals to which a statement applies. Callers of one kind can be joined into one
//! statement without granting access to any other principal, so that hundreds of accounts fit into
//! one document.

use super::arn::Arn;
use super::document::Statement;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::fmt;

/// The callers to which a statement of ours applies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PrincipalSet {
    kind: PrincipalSetKind,
    principals: BTreeSet<String>,
    /// The values of the kind's condition.
    condition_values: BTreeSet<String>,
    /// The account that is excluded, if the principal is `*`.
    excluded_account: Option<String>,
}

/// The way in which callers are identified. Callers of one kind differ only in values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalSetKind {
    /// By ARN. An account's root covers every identity that the account itself allows.
    Named,
    /// By their account's root and an ARN that matches one of a list. Each ARN contains its
    /// account, so joining two widens neither.
    NamedLike,
    /// By the organization to which their account belongs.
    InOrganization,
    /// By the organizational unit; each path contains its organization.
    InUnit,
    /// An AWS service, on behalf of resources that match a list of ARNs. Each ARN contains its
    /// service and account.
    ServiceFor,
}

impl PrincipalSetKind {
    /// Returns the operator and key of the condition that accompanies the principal.
    fn condition(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Named => None,
            Self::NamedLike => Some(("ArnLike", "aws:PrincipalArn")),
            Self::InOrganization => Some(("StringEquals", "aws:PrincipalOrgID")),
            // The key is multivalued: it has one path for each organization to which the account
            // belongs, which is at most one.
            Self::InUnit => Some(("ForAnyValue:StringLike", "aws:PrincipalOrgPaths")),
            // AWS documents access for Lambda in this form:
            // https://docs.aws.amazon.com/AmazonECR/latest/userguide/repository-policy-examples.html
            Self::ServiceFor => Some(("StringLike", "aws:SourceArn")),
        }
    }

    /// Returns the values of that condition in a statement.
    fn values_in(self, statement: &Statement) -> Option<&Value> {
        let (operator, key) = self.condition()?;
        statement.condition(operator, key)
    }

    /// Returns the kind's part of the text that a Sid is derived from.
    pub(super) fn shape(self) -> String {
        self.condition()
            .map(|(operator, key)| format!("{operator} {key}"))
            .unwrap_or_default()
    }
}

impl PrincipalSet {
    fn new(
        kind: PrincipalSetKind,
        principals: impl IntoIterator<Item = String>,
        condition_values: impl IntoIterator<Item = String>,
    ) -> Self {
        Self {
            kind,
            principals: principals.into_iter().collect(),
            condition_values: condition_values.into_iter().collect(),
            excluded_account: None,
        }
    }

    /// Creates a set of these principals, by ARN.
    pub fn named(arns: impl IntoIterator<Item = String>) -> Self {
        Self::new(PrincipalSetKind::Named, arns, [])
    }

    /// Creates a set of the principals of one account whose ARN matches one of these, which must
    /// belong to that account. Narrowing by condition survives a role's recreation, and no role
    /// needs to exist when the policy is written.
    pub fn named_like(root: String, arns: impl IntoIterator<Item = String>) -> Self {
        Self::new(PrincipalSetKind::NamedLike, [root], arns)
    }

    /// Creates a set of all principals whose account is in one of these organizations (by ID),
    /// except those of the account that owns the resource. In that account, a resource policy that
    /// names everyone is sufficient by itself, without the identity's own policies. Source:
    /// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html#principal-anonymous>.
    pub fn in_organizations(ids: impl IntoIterator<Item = String>, owner: &str) -> Self {
        Self {
            excluded_account: Some(owner.into()),
            ..Self::new(PrincipalSetKind::InOrganization, ["*".into()], ids)
        }
    }

    /// Creates a set of all principals whose account is in one of these organizational units (by
    /// path, with the organization's ID), except those of the account that owns the resource.
    pub fn in_units(paths: impl IntoIterator<Item = String>, owner: &str) -> Self {
        Self {
            excluded_account: Some(owner.into()),
            ..Self::new(PrincipalSetKind::InUnit, ["*".into()], paths)
        }
    }

    /// Creates a set for a service, on behalf of resources whose ARN matches one of these.
    pub fn service_for(service: &str, sources: impl IntoIterator<Item = String>) -> Self {
        Self::new(PrincipalSetKind::ServiceFor, [service.into()], sources)
    }

    /// Returns the kind.
    pub fn kind(&self) -> PrincipalSetKind {
        self.kind
    }

    /// Returns the principals: ARNs, `*`, or a service.
    pub fn principals(&self) -> &BTreeSet<String> {
        &self.principals
    }

    /// Returns the values of the condition; none if there is no condition.
    pub fn condition_values(&self) -> &BTreeSet<String> {
        &self.condition_values
    }

    /// Returns the account that is excluded.
    pub fn excluded_account(&self) -> Option<&str> {
        self.excluded_account.as_deref()
    }

    /// Returns whether a joint statement for these and the other callers grants access to no
    /// further ones. If a root accompanies ARNs, each ARN must belong to one of the set's own
    /// roots: a statement that we did not write may have `*` or another account's root there. With
    /// any other condition, every principal is paired with every value, so the principals must be
    /// the same.
    pub(super) fn can_join(&self, others: &Self) -> bool {
        let widens_nothing = match self.kind {
            PrincipalSetKind::Named => true,
            PrincipalSetKind::NamedLike => self.is_exact() && others.is_exact(),
            PrincipalSetKind::InOrganization
            | PrincipalSetKind::InUnit
            | PrincipalSetKind::ServiceFor => self.principals == others.principals,
        };
        self.kind == others.kind
            && self.excluded_account == others.excluded_account
            && widens_nothing
    }

    fn is_exact(&self) -> bool {
        self.condition_values
            .iter()
            .all(|arn| self.has_root_of(arn))
    }

    /// Returns whether the set names the root of the principal's account.
    pub(super) fn has_root_of(&self, principal: &str) -> bool {
        Arn::root_of(principal).is_some_and(|root| self.principals.contains(&root))
    }

    /// Adds other callers of the same kind. Callers of another kind are ignored.
    pub(super) fn join(&mut self, others: &Self) {
        if self.kind == others.kind && self.excluded_account == others.excluded_account {
            self.principals.extend(others.principals.iter().cloned());
            self.condition_values
                .extend(others.condition_values.iter().cloned());
        }
    }
}

impl PrincipalSet {
    /// Reads the callers of a statement that [`Statement::to`] created; returns `None` for any
    /// other.
    pub fn of(statement: &Statement) -> Option<Self> {
        let principal = statement.0.get("Principal")?;
        let service = principal.get("Service");
        let principals = texts(
            service
                .or_else(|| principal.get("AWS"))
                .unwrap_or(principal),
        )?;
        let kinds = [
            PrincipalSetKind::NamedLike,
            PrincipalSetKind::InOrganization,
            PrincipalSetKind::InUnit,
            PrincipalSetKind::ServiceFor,
        ];
        let kind = kinds
            .into_iter()
            .find(|kind| kind.values_in(statement).is_some())
            .unwrap_or(PrincipalSetKind::Named);
        let condition_values = match kind.values_in(statement) {
            Some(values) => texts(values)?,
            None => BTreeSet::new(),
        };
        let excluded_account = statement
            .condition("StringNotEquals", "aws:PrincipalAccount")
            .and_then(Value::as_str);
        let callers = Self {
            kind,
            principals,
            condition_values,
            excluded_account: excluded_account.map(String::from),
        };
        // Any further restriction in the statement would be lost.
        let bare = Statement::allow([""; 0]).to(&callers);
        ["Principal", "Condition"]
            .into_iter()
            .all(|key| only(statement, key).meaning() == only(&bare, key).meaning())
            .then_some(callers)
    }

    /// Splits the callers into single ones. Each has one principal and, if there is a condition,
    /// one of its values.
    pub fn each(&self) -> Vec<Self> {
        let mut singles = Vec::new();
        for principal in &self.principals {
            match self.kind {
                PrincipalSetKind::Named => singles.push(self.single(principal, None)),
                // Each ARN belongs to the root of its own account.
                PrincipalSetKind::NamedLike => singles.extend(
                    self.condition_values
                        .iter()
                        .filter(|arn| Arn::root_of(arn).is_none_or(|root| root == *principal))
                        .map(|arn| self.single(principal, Some(arn))),
                ),
                PrincipalSetKind::InOrganization
                | PrincipalSetKind::InUnit
                | PrincipalSetKind::ServiceFor => singles.extend(
                    self.condition_values
                        .iter()
                        .map(|value| self.single(principal, Some(value))),
                ),
            }
        }
        singles
    }

    fn single(&self, principal: &str, value: Option<&String>) -> Self {
        Self {
            kind: self.kind,
            principals: [principal.to_owned()].into(),
            condition_values: value.cloned().into_iter().collect(),
            excluded_account: self.excluded_account.clone(),
        }
    }

    /// Returns whether these callers include the other ones, value by value.
    pub fn has(&self, other: &Self) -> bool {
        self.kind == other.kind
            && self.excluded_account == other.excluded_account
            && other.principals.is_subset(&self.principals)
            && other.condition_values.is_subset(&self.condition_values)
    }

    /// Returns whether a statement for these callers also applies to this single caller, however it
    /// is identified: an account's root comprises its roles.
    pub fn comprise(&self, one: &Self) -> bool {
        let Some(principal) = one.principals.first() else {
            return false;
        };
        let value = one.condition_values.first();
        let value = value.map(String::as_str).unwrap_or_default();
        let named = self.principals.contains(principal);
        // A foreign statement may limit the members of an organization to a principal of it.
        let members = (named || self.principals.contains("*"))
            && (self.excluded_account.is_none() || self.excluded_account == one.excluded_account);
        match (self.kind, one.kind) {
            (PrincipalSetKind::Named, PrincipalSetKind::Named) => {
                named || self.has_root_of(principal)
            }
            (PrincipalSetKind::Named, PrincipalSetKind::NamedLike) => named,
            (PrincipalSetKind::NamedLike, PrincipalSetKind::NamedLike) => {
                named && self.is_like(value)
            }
            (PrincipalSetKind::NamedLike, PrincipalSetKind::Named) => {
                principal.contains(":role/")
                    && self.has_root_of(principal)
                    && self.is_like(principal)
            }
            (PrincipalSetKind::InOrganization, PrincipalSetKind::InOrganization) => {
                members && self.condition_values.contains(value)
            }
            (PrincipalSetKind::InOrganization, PrincipalSetKind::InUnit) => {
                members
                    && value
                        .split('/')
                        .next()
                        .is_some_and(|organization| self.condition_values.contains(organization))
            }
            (PrincipalSetKind::InUnit, PrincipalSetKind::InUnit) => members && self.is_like(value),
            (PrincipalSetKind::ServiceFor, PrincipalSetKind::ServiceFor) => {
                named && self.is_like(value)
            }
            (
                PrincipalSetKind::Named | PrincipalSetKind::NamedLike,
                PrincipalSetKind::InOrganization
                | PrincipalSetKind::InUnit
                | PrincipalSetKind::ServiceFor,
            )
            | (
                PrincipalSetKind::InOrganization | PrincipalSetKind::ServiceFor,
                PrincipalSetKind::Named | PrincipalSetKind::NamedLike,
            )
            | (
                PrincipalSetKind::InUnit,
                PrincipalSetKind::Named
                | PrincipalSetKind::NamedLike
                | PrincipalSetKind::InOrganization
                | PrincipalSetKind::ServiceFor,
            )
            | (PrincipalSetKind::InOrganization, PrincipalSetKind::ServiceFor)
            | (
                PrincipalSetKind::ServiceFor,
                PrincipalSetKind::InOrganization | PrincipalSetKind::InUnit,
            ) => false,
        }
    }

    /// Returns whether a text matches one of the values of the condition.
    fn is_like(&self, text: &str) -> bool {
        self.condition_values.contains(text)
            || self
                .condition_values
                .iter()
                .any(|pattern| like(pattern, text))
    }

    /// Removes the other callers. Returns `None` if none are left.
    pub fn without(&self, others: &Self) -> Option<Self> {
        if self.kind != others.kind || self.excluded_account != others.excluded_account {
            return Some(self.clone());
        }
        let left: BTreeSet<String> = &self.condition_values - &others.condition_values;
        let principals: BTreeSet<String> = match self.kind {
            PrincipalSetKind::Named => &self.principals - &others.principals,
            // A root stays as long as one of its account's roles does.
            PrincipalSetKind::NamedLike => self
                .principals
                .iter()
                .filter(|root| {
                    left.iter()
                        .any(|arn| Arn::account_of(arn) == Arn::account_of(root))
                })
                .cloned()
                .collect(),
            PrincipalSetKind::InOrganization
            | PrincipalSetKind::InUnit
            | PrincipalSetKind::ServiceFor
                if left.is_empty() =>
            {
                BTreeSet::new()
            }
            PrincipalSetKind::InOrganization
            | PrincipalSetKind::InUnit
            | PrincipalSetKind::ServiceFor => self.principals.clone(),
        };
        (!principals.is_empty()).then_some(Self {
            kind: self.kind,
            principals,
            condition_values: left,
            excluded_account: self.excluded_account.clone(),
        })
    }
}

impl fmt::Display for PrincipalSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.condition_values.is_empty() {
            &self.principals
        } else {
            &self.condition_values
        };
        f.write_str(
            &shown
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        )
    }
}

/// Returns a statement of a single element of this one.
fn only(statement: &Statement, key: &str) -> Statement {
    let element = statement.0.get(key);
    let entry = element.map(|value| (key.to_owned(), value.clone()));
    Statement(Map::from_iter(entry))
}

fn texts(value: &Value) -> Option<BTreeSet<String>> {
    match value {
        Value::String(text) => Some([text.clone()].into()),
        Value::Array(list) => list
            .iter()
            .map(|text| text.as_str().map(String::from))
            .collect(),
        _ => None,
    }
}

impl Statement {
    /// Sets the callers. Must be called before other conditions are added.
    pub fn to(self, callers: &PrincipalSet) -> Self {
        let PrincipalSet {
            kind,
            principals,
            condition_values,
            excluded_account,
        } = callers;
        let mut statement = match kind {
            PrincipalSetKind::ServiceFor => principals
                .iter()
                .fold(self, |statement, service| statement.to_service(service)),
            PrincipalSetKind::Named
            | PrincipalSetKind::NamedLike
            | PrincipalSetKind::InOrganization
            | PrincipalSetKind::InUnit => self.to_principals(principals),
        };
        if let Some((operator, key)) = kind.condition() {
            statement = statement.only_if(operator, key, condition_values);
        }
        excluded_account
            .iter()
            .fold(statement, |statement, account| {
                statement.only_if("StringNotEquals", "aws:PrincipalAccount", [account])
            })
    }
}

/// Returns whether a text matches a pattern in which `*` matches any characters, as in `ArnLike`.
pub fn like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("ci/*", "ci/deployer", true)]
    #[case("ci/*", "ci/a/b", true)]
    #[case("ci/*", "cd/x", false)]
    #[case("*/node", "a/node", true)]
    #[case("*/node", "a/node2", false)]
    #[case("a*b*c", "a-b-b-c", true)]
    #[case("a*b*c", "a-c", false)]
    #[case("aa*a", "aa", false)]
    #[case("node", "node", true)]
    fn star_in_pattern_matches_any_characters(
        #[case] pattern: &str,
        #[case] text: &str,
        #[case] fits: bool,
    ) {
        assert_eq!(like(pattern, text), fits);
    }

    #[test]
    fn callers_of_different_services_cannot_be_joined() {
        let service = |name: &str, source: &str| PrincipalSet::service_for(name, [source.into()]);
        let lambda = service("lambda.amazonaws.com", "arn:aws:lambda:r:2:function:*");
        let another = service("lambda.amazonaws.com", "arn:aws:lambda:r:3:function:*");
        let ecs = service("ecs.amazonaws.com", "arn:aws:lambda:r:2:function:*");
        assert!(lambda.can_join(&another));
        assert!(!lambda.can_join(&ecs));
    }

    #[test]
    fn joining_callers_of_another_kind_changes_nothing() {
        let mut narrowed = PrincipalSet::named_like(
            "arn:aws:iam::2:root".into(),
            ["arn:aws:iam::2:role/ci".into()],
        );
        let before = narrowed.clone();
        narrowed.join(&PrincipalSet::in_organizations(["o-1".into()], "1"));
        assert_eq!(narrowed, before);
    }
}
