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
    let everybody = Names {
        everybody: Ternary::Yes,
        ..Names::NOBODY
    };
    if element == "*" {
        return Ok(everybody);
    }
    let shape = || "Principal is not of the documented shape".to_owned();
    let mut found = Names::NOBODY;
    for (kind, texts) in element.as_object().ok_or_else(shape)? {
        for text in strings(texts).ok_or_else(shape)? {
            found = found.join(match (kind.as_str(), principal.kind) {
                ("AWS", _) if text == "*" => everybody.clone(),
                ("AWS", _) => aws(text, principal),
                ("Service", PrincipalKind::Service) => Names {
                    itself: Ternary::of(text == principal.arn),
                    ..Names::NOBODY
                },
                ("Service" | "Federated" | "CanonicalUser", _) => Names::NOBODY,
                (other, _) => {
                    return Err(format!(
                        "{other:?} is no kind of principal that is known here"
                    ));
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
    let nobody = Names::NOBODY;
    let prefix = match kind {
        PrincipalKind::Role => "AROA",
        PrincipalKind::User => "AIDA",
        PrincipalKind::Root => "",
        PrincipalKind::Service => return nobody,
    };
    if !prefix.is_empty() && text.starts_with(prefix) {
        return match unique_id {
            Some(id) if id == text => Names {
                itself: Ternary::Yes,
                ..nobody
            },
            Some(_) => Names {
                alike: vec![Alike::Stale(text.into())],
                ..nobody
            },
            None => Names {
                itself: Ternary::hangs_on(UNIQUE_ID),
                ..nobody
            },
        };
    }
    if text == arn {
        return Names {
            itself: Ternary::Yes,
            ..nobody
        };
    }
    if text == account {
        return of_account(*kind);
    }
    let Some(named) = Arn::parse_leniently(text) else {
        return nobody;
    };
    if named.account != account || Some(named.partition) != principal.partition() {
        return nobody;
    }
    match (named.service, named.resource.split_once('/'), kind) {
        ("iam", None, kind) if named.resource == "root" => of_account(*kind),
        ("sts", Some(("assumed-role", session)), PrincipalKind::Role) => {
            match session.split_once('/') {
                Some((role, _)) if role == principal.name() => Names {
                    session: Ternary::hangs_on(SESSION),
                    ..nobody
                },
                _ => nobody,
            }
        }
        ("iam", Some(("role", path)), PrincipalKind::Role)
        | ("iam", Some(("user", path)), PrincipalKind::User)
            if path.rsplit('/').next() == Some(principal.name()) =>
        {
            Names {
                alike: vec![Alike::OtherPath(text.into())],
                ..nobody
            }
        }
        _ => nobody,
    }
}

/// Returns how an account's root ARN names a principal: the root itself directly, and every other
/// principal of the account by its account.
fn of_account(kind: PrincipalKind) -> Names {
    match kind {
        PrincipalKind::Root => Names {
            itself: Ternary::Yes,
            ..Names::NOBODY
        },
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
    let listed = itself.or(session.clone());
    let uncertain = |why: &str| Ternary::unread(format!("NotPrincipal {why}"));
    let listed = match deny {
        true => listed.clone().and(complete.clone().or(uncertain(
            "lists a principal without its account or session",
        ))),
        false => {
            listed.or(account.and(uncertain("with Allow lists an account, not the principal")))
        }
    };
    Ok(listed.or(everybody).not())
}
