//! Collects what one account's admin adds: the operator's own documents, under names and Sids that
//! no operator treats as its own.

use super::model::{Handoff, HandoffRole, Permissions, Repositories, neutral, unique};
use super::select::{GrantSide, Selection};
use super::validated::validated;
use crate::cli::manifests::Files;
use crate::cli::terminal::plain;
use crate::grant::desired::{DesiredInstance, DesiredRole, MAX_OWN_INLINE_CHARACTERS};
use crate::grant::model::{Consumer, Identities};
use crate::grant::operator_role::MAX_MANAGED_CHARACTERS;
use crate::grant::ownership::Owner;
use crate::grant::{AccountId, Grant, GrantName, RepositoryPattern};
use crate::policy::repository::retain::unowned_statements;
use crate::policy::{Document, Installation, Statement};
use std::collections::BTreeSet;

/// The prefix of the Sids. An operator does not change such statements, and a grant can replace
/// them (`replaceSids`).
const MARK: &str = "HandedOff";

/// Collects the handoff for one account.
///
/// # Errors
/// When it is not clear for which account, or when grants are invalid, not admitted, or exceed a
/// limit of AWS: all problems, one per line.
pub fn gather(
    files: &Files,
    asked: Option<&AccountId>,
    installation: Option<&Installation>,
) -> Result<Handoff, String> {
    let Selection { account, grants } = Selection::of(files, asked)?;
    let mut handoff = Handoff {
        account: account.clone(),
        ..Handoff::default()
    };
    let mut wrong = Vec::new();
    for selected in grants {
        let added = validated(files, &selected, account.as_ref(), installation).and_then(|grant| {
            match selected.side {
                GrantSide::Registry => handoff.add_registry(&grant),
                GrantSide::Consumer => handoff.add_consumer(&grant),
            }
        });
        for why in added.err().into_iter().flatten() {
            wrong.push(format!("{}: {}", selected.name, plain(&why)));
        }
    }
    if wrong.is_empty() {
        Ok(handoff)
    } else {
        Err(wrong.join("\n"))
    }
}

impl Handoff {
    /// Adds what the consumer's roles need.
    fn add_consumer(&mut self, grant: &Grant) -> Result<(), Vec<String>> {
        self.note(&grant.name, &grant.summary());
        self.note(
            &grant.name,
            &format!("the images are at {}", grant.registry_hosts().join(", ")),
        );
        self.note_registry_role(grant);
        let instance_role = self.add_instance_role(grant)?;
        let (mut roles, mut others) = named_and_other_roles(&grant.consumer);
        if let Consumer::Account {
            who: Identities::WholeAccount,
            ..
        } = &grant.consumer
        {
            if instance_role.is_some() {
                self.note(
                    &grant.name,
                    "other roles of the account need the same policy to get access",
                );
            } else {
                others.push(ANY_ROLE);
            }
        }
        roles.extend(instance_role);
        if matches!(grant.consumer, Consumer::Account { lambda: true, .. }) {
            self.note(
                &grant.name,
                "Lambda itself needs nothing in this account; the roles that create its functions need the policy",
            );
        }
        let others = (!others.is_empty()).then(|| others.join(", "));
        self.add_permissions(&grant.name, grant.consumer_permissions(), roles, others)
    }

    /// Adds the registry's role, and the statements for its repository policies.
    fn add_registry(&mut self, grant: &Grant) -> Result<(), Vec<String>> {
        self.note(&grant.name, &grant.summary());
        if let Some(role) = grant.desired(&owner(grant)).registry_role {
            let name = role.name.clone();
            let inline = role.inline.clone();
            let trust = role.trust.clone();
            self.add_role(role, trust, None)?;
            if let Some((_, document)) = inline {
                self.add_permissions(&grant.name, document, [name].into(), None)?;
            }
        }
        for region in &grant.regions {
            let seed = grant.name.to_string();
            let statements = unowned_statements(MARK, &seed, &grant.contributions(region, true));
            if !statements.is_empty() {
                self.repositories.push(Repositories {
                    grant: grant.name.clone(),
                    region: region.clone(),
                    patterns: grant.repositories.clone(),
                    statements,
                });
            }
        }
        if grant
            .repositories
            .iter()
            .any(|pattern| matches!(pattern, RepositoryPattern::Prefix(_)))
        {
            self.note(
                &grant.name,
                "for repositories that are created later, apply the handoff again",
            );
        }
        if !grant.replaces.is_empty() {
            let sids: Vec<&str> = grant.replaces.iter().map(String::as_str).collect();
            self.note(
                &grant.name,
                &format!(
                    "after that, statements with Sid {} can be removed from the repository policies",
                    sids.join(", ")
                ),
            );
        }
        Ok(())
    }

    fn note(&mut self, grant: &GrantName, note: &str) {
        self.notes.push(plain(&format!("{grant}: {note}")));
    }

    /// Notes how the registry's role is assumed, if the grant has one.
    fn note_registry_role(&mut self, grant: &Grant) {
        let Some(role) = &grant.role else {
            return;
        };
        let external = role
            .external_id
            .as_ref()
            .map(|id| format!(" with the external ID {id}"))
            .unwrap_or_default();
        self.note(
            &grant.name,
            &format!(
                "assume {}{external}, for at most {} seconds",
                role.identity.arn(),
                role.max_session_seconds
            ),
        );
    }

    /// Adds the instance role that the grant asks for, and returns its name.
    fn add_instance_role(&mut self, grant: &Grant) -> Result<Option<String>, Vec<String>> {
        let Some(DesiredInstance {
            role,
            profile,
            extends,
        }) = grant.desired(&owner(grant)).instance
        else {
            return Ok(None);
        };
        let name = role.name.clone();
        if extends {
            self.note(
                &grant.name,
                &format!("role {name} exists; its trust policy does not change"),
            );
            return Ok(Some(name));
        }
        self.note(
            &grant.name,
            &format!(
                "create the role under the path {}, because the registry identifies it by its full ARN",
                role.path
            ),
        );
        let trust = role.trust.clone().sid(format!("{MARK}InstanceTrust"));
        let without_policy = DesiredRole {
            inline: None,
            ..role
        };
        self.add_role(without_policy, trust, profile)?;
        Ok(Some(name))
    }

    fn add_role(
        &mut self,
        role: DesiredRole,
        trust: Statement,
        profile: Option<String>,
    ) -> Result<(), Vec<String>> {
        // The operator's tags are left out, because they would mark the role as an operator's.
        // Policies are added separately.
        let DesiredRole {
            account: _,
            name,
            path,
            description,
            trust: _,
            lets_in: _,
            adopts,
            max_trust_characters,
            max_session_seconds,
            boundary,
            inline: _,
            attached,
            tags: _,
        } = role;
        let trust = Document::of([trust]);
        fits(
            &trust,
            max_trust_characters,
            &format!("the trust policy of role {name}"),
        )?;
        let role = HandoffRole {
            path,
            description,
            trust,
            profile,
            longest_session: max_session_seconds,
            boundary,
            attached,
            exists: adopts,
        };
        if let Some(known) = self.roles.get(&name) {
            let is_same = known.path == role.path
                && known.trust == role.trust
                && known.profile == role.profile;
            return if is_same {
                Ok(())
            } else {
                Err(vec![format!(
                    "another grant asks for a different role {name}; give one of them another name"
                )])
            };
        }
        self.roles.insert(name, role);
        Ok(())
    }

    fn add_permissions(
        &mut self,
        grant: &GrantName,
        document: Document,
        roles: BTreeSet<String>,
        others: Option<String>,
    ) -> Result<(), Vec<String>> {
        let limit = if others.is_some() {
            MAX_MANAGED_CHARACTERS
        } else {
            MAX_OWN_INLINE_CHARACTERS
        };
        fits(&document, limit, "the permissions")?;
        let name = format!("registry-grants-handoff-{}", unique(grant, 100));
        self.permissions.push(Permissions {
            grant: grant.clone(),
            name,
            document,
            roles,
            others,
        });
        Ok(())
    }
}

const ANY_ROLE: &str = "every role that needs access";

/// Returns the names of the roles that the grant names exactly, and descriptions of those that the
/// admin chooses. For a whole account, both are empty.
fn named_and_other_roles(consumer: &Consumer) -> (BTreeSet<String>, Vec<&str>) {
    let mut named = BTreeSet::new();
    let mut others = Vec::new();
    match consumer {
        Consumer::Account {
            who: Identities::Roles(arns),
            ..
        } => {
            for arn in arns {
                let role = arn
                    .split_once(":role/")
                    .map_or(arn.as_str(), |(_, role)| role);
                if role.contains('*') {
                    others.push(role);
                } else {
                    named.insert(role.rsplit('/').next().unwrap_or(role).to_owned());
                }
            }
        }
        Consumer::Account {
            who: Identities::WholeAccount,
            ..
        } => {}
        Consumer::Organization(_) => others.push(ANY_ROLE),
    }
    (named, others)
}

/// Returns an owner for the desired state. Its tags and names are not part of a handoff.
fn owner(grant: &Grant) -> Owner {
    Owner::of(grant.name.clone(), "", &neutral())
}

fn fits(document: &Document, limit: usize, what: &str) -> Result<(), Vec<String>> {
    let characters = document.characters();
    if characters > limit {
        return Err(vec![format!(
            "{what} would have {characters} characters; the limit of AWS is {limit}. Name fewer repositories, regions or roles, or use prefixes"
        )]);
    }
    Ok(())
}
