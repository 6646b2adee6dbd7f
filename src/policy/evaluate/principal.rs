//! Decides whether `Principal` or `NotPrincipal` of a statement applies to a principal. Source:
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html>.

use super::request::{Principal, PrincipalKind};
use super::ternary::Ternary;
use crate::policy::arn::Arn;
use serde_json::Value;

/// The unknown on which a verdict depends if a policy names a session of the requesting role.
pub(super) const SESSION: &str = "the session's name";
/// The unknown on which a verdict depends if a policy names a unique ID and the principal's own is
/// not known.
pub(super) const UNIQUE_ID: &str = "the principal's unique ID";

/// The ways in which a policy names the requesting principal.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// By its own ARN or unique ID, or by its service's name.
    pub(super) itself: Ternary,
    /// By one of its sessions.
    pub(super) session: Ternary,
    /// As everyone.
    pub(super) everybody: Ternary,
    /// By its account, which leaves the decision to the account's own policies.
    pub(super) account: Ternary,
    /// Names that resemble the principal but belong to another: the ID of a deleted role or user,
    /// or an ARN with a different path.
    pub(super) alike: Vec<Alike>,
}

/// A name that resembles the principal but belongs to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Alike {
    Stale(String),
    OtherPath(String),
}

impl Names {
    pub(super) const NOBODY: Self = Self {
        itself: Ternary::No,
        session: Ternary::No,
        everybody: Ternary::No,
        account: Ternary::No,
        alike: Vec::new(),
    };

    /// Creates names of the principal itself.
    pub(super) fn itself(itself: Ternary) -> Self {
        Self {
            itself,
            ..Self::NOBODY
        }
    }

    /// Creates names of everyone.
    pub(super) fn everybody(everybody: Ternary) -> Self {
        Self {
            everybody,
            ..Self::NOBODY
        }
    }

    fn alike(alike: Alike) -> Self {
        Self {
            alike: vec![alike],
            ..Self::NOBODY
        }
    }

    /// Returns whether the principal is named in any of these ways.
    pub(super) fn any(&self) -> Ternary {
        Ternary::any(
            [&self.itself, &self.session, &self.everybody, &self.account].map(Clone::clone),
        )
    }

    pub(super) fn join(self, other: Self) -> Self {
        let Self {
            itself,
            session,
            everybody,
            account,
            mut alike,
        } = self;
        alike.extend(other.alike);
        Self {
            itself: itself.or(other.itself),
            session: session.or(other.session),
            everybody: everybody.or(other.everybody),
            account: account.or(other.account),
            alike,
        }
    }
}

/// Returns the ways in which `Principal` names the principal.
///
/// # Errors
/// When the element does not have the documented shape.
pub(super) fn names(element: &Value, principal: &Principal) -> Result<Names, String> {
    const SHAPE: &str = "Principal is not of the documented shape";
    if element == "*" {
        return Ok(Names::everybody(Ternary::Yes));
    }
    let mut found = Names::NOBODY;
    for (kind, texts) in element.as_object().ok_or(SHAPE)? {
        for text in strings(texts).ok_or(SHAPE)? {
            found = found.join(match (kind.as_str(), principal.kind) {
                ("AWS", _) if text == "*" => Names::everybody(Ternary::Yes),
                ("AWS", _) => aws(text, principal),
                ("Service", PrincipalKind::Service) => {
                    Names::itself(Ternary::of(text == principal.arn))
                }
                ("Service" | "Federated" | "CanonicalUser", _) => Names::NOBODY,
                (other, _) => {
                    return Err(format!("{other:?} is not a known kind of principal"));
                }
            });
        }
    }
    Ok(found)
}

/// Returns a string, or each string of a list.
pub(super) fn strings(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

/// Returns the ways in which one value of `AWS` names a principal.
fn aws(text: &str, principal: &Principal) -> Names {
    let Principal {
        arn,
        kind,
        account: Some(account),
        unique_id,
    } = principal
    else {
        return Names::NOBODY;
    };
    let is_unique_id = match kind {
        PrincipalKind::Role => text.starts_with("AROA"),
        PrincipalKind::User => text.starts_with("AIDA"),
        PrincipalKind::Root => false,
        PrincipalKind::Service => return Names::NOBODY,
    };
    if is_unique_id {
        return by_unique_id(text, unique_id.as_deref());
    }
    if text == arn {
        return Names::itself(Ternary::Yes);
    }
    if text == account {
        return of_account(*kind);
    }
    match Arn::parse_leniently(text) {
        Some(named)
            if named.account == account && Some(named.partition) == principal.partition() =>
        {
            by_arn(text, named, principal)
        }
        _ => Names::NOBODY,
    }
}

/// Returns the ways in which a unique ID names a principal of its kind.
fn by_unique_id(text: &str, own: Option<&str>) -> Names {
    match own {
        Some(id) if id == text => Names::itself(Ternary::Yes),
        Some(_) => Names::alike(Alike::Stale(text.into())),
        None => Names::itself(Ternary::hangs_on(UNIQUE_ID)),
    }
}

/// Returns the ways in which an ARN of the principal's account names it.
fn by_arn(text: &str, named: Arn, principal: &Principal) -> Names {
    match (
        named.service,
        named.resource.split_once('/'),
        principal.kind,
    ) {
        ("iam", None, kind) if named.resource == "root" => of_account(kind),
        ("sts", Some(("assumed-role", session)), PrincipalKind::Role) => {
            match session.split_once('/') {
                Some((role, _)) if role == principal.name() => Names {
                    session: Ternary::hangs_on(SESSION),
                    ..Names::NOBODY
                },
                _ => Names::NOBODY,
            }
        }
        ("iam", Some(("role", path)), PrincipalKind::Role)
        | ("iam", Some(("user", path)), PrincipalKind::User)
            if path.rsplit('/').next() == Some(principal.name()) =>
        {
            Names::alike(Alike::OtherPath(text.into()))
        }
        _ => Names::NOBODY,
    }
}

/// Returns how an account's root ARN names a principal: the root itself directly, and every other
/// principal of the account by its account.
fn of_account(kind: PrincipalKind) -> Names {
    match kind {
        PrincipalKind::Root => Names::itself(Ternary::Yes),
        PrincipalKind::Role | PrincipalKind::User | PrincipalKind::Service => Names {
            account: Ternary::Yes,
            ..Names::NOBODY
        },
    }
}

/// Returns whether `NotPrincipal` applies to the principal, that is, does not list it.
///
/// A `Deny` applies to every principal that is not listed itself, even if its account is listed. A
/// listed principal is exempt only if its account is listed too and, for a role, also its session.
/// Otherwise the statement may still apply, depending on the service. A `Deny` also applies to
/// every principal that has a permissions boundary. Source:
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notprincipal.html>.
///
/// # Errors
/// When the element does not have the documented shape.
pub(super) fn is_not_among(
    element: &Value,
    principal: &Principal,
    deny: bool,
    bounded: bool,
) -> Result<Ternary, String> {
    let Names {
        itself,
        session,
        everybody,
        account,
        alike: _,
    } = names(element, principal)?;
    if deny && bounded {
        return Ok(Ternary::Yes);
    }
    let complete = match principal.kind {
        PrincipalKind::Service | PrincipalKind::Root => Ternary::Yes,
        PrincipalKind::User => account.clone(),
        PrincipalKind::Role => account.clone().and(session.clone()),
    };
    let named = itself.or(session);
    let listed = if deny {
        named.and(complete.or(Ternary::unread(
            "NotPrincipal lists a principal without its account or session",
        )))
    } else {
        named.or(account.and(Ternary::unread(
            "NotPrincipal with Allow lists an account, not the principal",
        )))
    };
    Ok(listed.or(everybody).not())
}
