//! From grants to what one account's admin adds: the operator's own documents, under names and Sids
//! that no operator takes for its own.

use super::super::manifests::Files;
use super::super::terminal::plain;
use crate::api::CrossAccountRegistryGrant;
use crate::api::account::{AWSAccount, AWSAccountSpec, ConsumerRule, ConsumerSide, Namespaces};
use crate::api::grant::Management;
use crate::grant::desired::{DesiredInstance, DesiredRole, MAX_OWN_INLINE_CHARACTERS};
use crate::grant::model::{Consumer, Identities};
use crate::grant::operator_role::MAX_MANAGED_CHARACTERS;
use crate::grant::ownership::Owner;
use crate::grant::{AccountId, AccountLookup, Grant, GrantName, RepositoryPattern, validate};
use crate::policy::repository::retain::unowned_statements;
use crate::policy::{Document, Installation, Statement};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How the Sids begin. An operator leaves such statements alone, and a grant can take their place
/// (`replaceSids`).
const MARK: &str = "HandedOff";
/// Stands for the operator's where nothing that is printed depends on it.
const NEUTRAL: &str = "000000000000";

/// What one account's admin adds.
#[derive(Default)]
pub struct Handoff {
    /// The account; none where it is any account of an organization.
    pub account: Option<AccountId>,
    /// Who does what, and what to mind. Without control characters.
    pub notes: Vec<String>,
    /// Roles, by their names.
    pub roles: BTreeMap<String, HandoffRole>,
    /// Permissions, each of one grant.
    pub permissions: Vec<Permissions>,
    /// Statements for repositories' policies.
    pub repositories: Vec<Repositories>,
}

/// A role as the operator would make it, but for its tags.
#[derive(PartialEq)]
pub struct HandoffRole {
    pub path: String,
    pub description: String,
    pub trust: Document,
    /// The instance profile that holds it.
    pub profile: Option<String>,
    /// In seconds.
    pub longest_session: Option<i32>,
    pub boundary: Option<String>,
    /// ARNs of managed policies.
    pub attached: BTreeSet<String>,
    /// Whether it is there, and becomes what is said here.
    pub exists: bool,
}

/// A policy for roles.
pub struct Permissions {
    pub grant: GrantName,
    /// Its name; IAM takes it for inline policies and managed ones.
    pub name: String,
    pub document: Document,
    /// The roles that are known by name.
    pub roles: BTreeSet<String>,
    /// For whom else it is, in words: then a managed policy, for the admin to attach.
    pub others: Option<String>,
}

/// One grant's statements for repositories of a region.
pub struct Repositories {
    pub grant: GrantName,
    pub region: String,
    pub patterns: BTreeSet<RepositoryPattern>,
    pub statements: Vec<Statement>,
}

/// A name that is unique among all grants, of letters, digits, `-` and `.`.
pub fn unique(grant: &GrantName, longest: usize) -> String {
    grant.in_aws(&neutral(), longest)
}

fn neutral() -> Installation {
    Installation::of_cluster(NEUTRAL)
}

/// Which side of a grant the account is.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Registry,
    Consumer,
}

/// # Errors
/// When it is not clear for which account, or the grants are wrong, not admitted, or more than AWS
/// takes: everything, a line each.
pub fn gather(
    files: &Files,
    asked: Option<&AccountId>,
    installation: Option<&Installation>,
) -> Result<Handoff, String> {
    let (account, sides) = concerned(files, asked)?;
    let mut handoff = Handoff {
        account: account.clone(),
        ..Handoff::default()
    };
    let mut wrong = Vec::new();
    for (name, resource, side) in sides {
        let taken =
            understood(files, name, resource, account.as_ref(), installation).and_then(|grant| {
                match side {
                    Side::Registry => handoff.add_registry(&grant),
                    Side::Consumer => handoff.add_consumer(&grant),
                }
            });
        wrong.extend(
            taken
                .err()
                .into_iter()
                .flatten()
                .map(|why| format!("{name}: {}", plain(&why))),
        );
    }
    if wrong.is_empty() {
        Ok(handoff)
    } else {
        Err(wrong.join("\n"))
    }
}

type Concerned<'a> = Vec<(&'a GrantName, &'a CrossAccountRegistryGrant, Side)>;

/// The account, and the grants that concern it.
fn concerned<'a>(
    files: &'a Files,
    asked: Option<&AccountId>,
) -> Result<(Option<AccountId>, Concerned<'a>), String> {
    if files.grants.is_empty() {
        return Err("there is no CrossAccountRegistryGrant in these manifests".into());
    }
    let all = || files.grants.iter();
    // One without either is wrong, and will be told so.
    let of_organization =
        |resource: &CrossAccountRegistryGrant| resource.spec.consumer.account_id.is_none();
    let organizations = || {
        all()
            .filter(|(_, resource)| of_organization(resource))
            .map(|(n, r)| (n, r, Side::Consumer))
    };
    let of = |id: &AccountId| -> Concerned<'a> {
        let id = id.as_str();
        let sides = |(name, resource): (&'a GrantName, &'a CrossAccountRegistryGrant)| {
            let registry = (resource.spec.registry.account_id == id).then_some((
                name,
                resource,
                Side::Registry,
            ));
            let is_consumer = resource.spec.consumer.account_id.as_deref() == Some(id);
            registry
                .into_iter()
                .chain(is_consumer.then_some((name, resource, Side::Consumer)))
        };
        all().flat_map(sides).collect()
    };
    if let Some(id) = asked {
        let named = of(id);
        let found: Concerned = if named.is_empty() {
            organizations().collect()
        } else {
            named
        };
        return match found.is_empty() {
            true => Err(format!(
                "--account {id}: no grant in these manifests names this account"
            )),
            false => Ok((Some(id.clone()), found)),
        };
    }
    let mut wrong = Vec::new();
    let numbers: BTreeSet<&String> = all()
        .filter_map(|(_, resource)| resource.spec.consumer.account_id.as_ref())
        .collect();
    let parsed = numbers.into_iter().filter_map(|number| {
        number
            .parse::<AccountId>()
            .map_err(|why| wrong.push(plain(&why)))
            .ok()
    });
    let unmanaged: BTreeSet<AccountId> = parsed
        .filter(|id| !files.accounts.contains_key(id))
        .collect();
    if !wrong.is_empty() {
        return Err(format!("spec.consumer.accountID: {}", wrong.join("; ")));
    }
    let organizations: Concerned = organizations().collect();
    match (unmanaged.iter().collect::<Vec<_>>().as_slice(), organizations.is_empty()) {
        ([], true) => Err("every consumer account has an AWSAccount here: the operator writes there itself. --account names an account nevertheless".into()),
        ([], false) => Ok((None, organizations)),
        ([id], true) => Ok((Some((*id).clone()), of(id).into_iter().filter(|(_, _, side)| *side == Side::Consumer).collect())),
        (several, _) => {
            let ids: Vec<&str> = several.iter().map(|id| id.as_str()).collect();
            let besides = if organizations.is_empty() { "" } else { ", or the accounts of an organization" };
            Err(format!("it is for several: {}{besides}. Say which by --account", ids.join(", ")))
        }
    }
}

/// The consumer account as if its rules admitted what the grant asks there, and nothing else
/// changed.
struct AsIfManaged<'a> {
    files: &'a Files,
    stands_in: Option<(AccountId, Arc<AWSAccount>)>,
}

impl AccountLookup for AsIfManaged<'_> {
    fn account(&self, id: &AccountId) -> Option<Arc<AWSAccount>> {
        let stand_in = self
            .stands_in
            .iter()
            .find(|(account, _)| account == id)
            .map(|(_, account)| account.clone());
        self.files.account(id).or(stand_in)
    }

    fn namespace_labels(&self, namespace: &str) -> Option<BTreeMap<String, String>> {
        self.files.namespace_labels(namespace)
    }
}

fn understood(
    files: &Files,
    name: &GrantName,
    resource: &CrossAccountRegistryGrant,
    account: Option<&AccountId>,
    installation: Option<&Installation>,
) -> Result<Grant, Vec<String>> {
    let spec = &resource.spec;
    let registry = spec
        .registry
        .account_id
        .parse()
        .ok()
        .and_then(|id| files.account(&id));
    let stands_in = account.map(|id| {
        let rule = ConsumerRule {
            namespaces: Namespaces {
                names: vec![name.namespace.clone()],
                selector: None,
            },
            roles: vec!["*".into()],
            management: vec![Management::Create, Management::Extend],
            allow_retain: true,
        };
        let partition = registry
            .map(|account| account.spec.partition)
            .unwrap_or_default();
        let consumer = Some(ConsumerSide { rules: vec![rule] });
        (
            id.clone(),
            Arc::new(AWSAccount::new(
                id.as_str(),
                AWSAccountSpec {
                    partition,
                    consumer,
                    ..AWSAccountSpec::default()
                },
            )),
        )
    });
    let directory = AsIfManaged {
        files,
        stands_in: stands_in.filter(|(id, _)| spec.registry.account_id != id.as_str()),
    };
    let neutral = neutral();
    let grant =
        validate(name, spec, &directory, installation.unwrap_or(&neutral)).map_err(|problems| {
            problems
                .into_iter()
                .map(|problem| format!("{}: {}", problem.reason, problem.message))
                .collect::<Vec<_>>()
        })?;
    if let Some(problem) = files.invalid.get(name) {
        return Err(vec![format!("{}: {}", problem.reason, problem.message)]);
    }
    let named = spec
        .registry
        .role
        .as_ref()
        .is_some_and(|role| role.name.is_some());
    match grant.role.is_some() && !named && installation.is_none() {
        true => Err(vec!["the grant leaves the name of the registry's role to the operator, whose installation ID is in it: give --installation, the tag registrygrants.dev/installation on its roles; or set spec.registry.role.name".into()]),
        false => Ok(grant),
    }
}

impl Handoff {
    /// What the consumer's roles need.
    fn add_consumer(&mut self, grant: &Grant) -> Result<(), Vec<String>> {
        self.note(&grant.name, &grant.summary());
        self.note(
            &grant.name,
            &format!("the images are under {}", grant.registry_hosts().join(", ")),
        );
        if let Some(role) = &grant.role {
            let external = role
                .external_id
                .as_ref()
                .map(|id| format!(" with the external ID {id}"))
                .unwrap_or_default();
            self.note(
                &grant.name,
                &format!(
                    "{} is assumed{external}, for {} seconds at most",
                    role.identity.arn(),
                    role.max_session_seconds
                ),
            );
        }
        let mut roles = BTreeSet::new();
        if let Some(DesiredInstance {
            role,
            profile,
            extends,
        }) = grant.desired(&owner(grant)).instance
        {
            roles.insert(role.name.clone());
            if extends {
                self.note(
                    &grant.name,
                    &format!(
                        "role {} is there; its trust policy stays as it is",
                        role.name
                    ),
                );
            } else {
                self.note(
                    &grant.name,
                    &format!(
                        "the role must be made under the path {}: the registry lets it in by its whole ARN",
                        role.path
                    ),
                );
                let trust = role.trust.clone().sid(format!("{MARK}InstanceTrust"));
                self.role(
                    DesiredRole {
                        inline: None,
                        ..role
                    },
                    trust,
                    profile,
                )?;
            }
        }
        let mut others = Vec::new();
        match &grant.consumer {
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
                        roles.insert(role.rsplit('/').next().unwrap_or(role).to_owned());
                    }
                }
            }
            Consumer::Account {
                who: Identities::WholeAccount,
                ..
            } if roles.is_empty() => others.push("any role that is to have it"),
            Consumer::Account {
                who: Identities::WholeAccount,
                ..
            } => {
                self.note(
                    &grant.name,
                    "other roles of the account get access by the same policy",
                );
            }
            Consumer::Organization(_) => others.push("any role that is to have it"),
        }
        if matches!(grant.consumer, Consumer::Account { lambda: true, .. }) {
            self.note(
                &grant.name,
                "Lambda itself needs nothing here; who creates its functions is among the roles",
            );
        }
        let others = (!others.is_empty()).then(|| others.join(", "));
        self.permissions(&grant.name, grant.consumer_permissions(), roles, others)
    }

    /// The registry's role, and what its repositories' policies get.
    fn add_registry(&mut self, grant: &Grant) -> Result<(), Vec<String>> {
        self.note(&grant.name, &grant.summary());
        if let Some(role) = grant.desired(&owner(grant)).registry_role {
            let (trust, inline, name) =
                (role.trust.clone(), role.inline.clone(), role.name.clone());
            self.role(role, trust, None)?;
            if let Some((_, document)) = inline {
                self.permissions(&grant.name, document, [name].into(), None)?;
            }
        }
        for region in &grant.regions {
            let seed = grant.name.to_string();
            let statements = unowned_statements(MARK, &seed, &grant.contributions(region, true));
            if !statements.is_empty() {
                let (region, patterns) = (region.clone(), grant.repositories.clone());
                self.repositories.push(Repositories {
                    grant: grant.name.clone(),
                    region,
                    patterns,
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
                "repositories that are created later get their statements by doing this again",
            );
        }
        if !grant.replaces.is_empty() {
            let sids: Vec<&str> = grant.replaces.iter().map(String::as_str).collect();
            self.note(
                &grant.name,
                &format!(
                    "statements with Sid {} can go from the repositories' policies then",
                    sids.join(", ")
                ),
            );
        }
        Ok(())
    }

    fn note(&mut self, grant: &GrantName, note: &str) {
        self.notes.push(plain(&format!("{grant}: {note}")));
    }

    fn role(
        &mut self,
        role: DesiredRole,
        trust: Statement,
        profile: Option<String>,
    ) -> Result<(), Vec<String>> {
        // Tags would make it an operator's; policies follow by themselves.
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
        match self.roles.get(&name) {
            Some(known)
                if known.path != role.path
                    || known.trust != role.trust
                    || known.profile != role.profile =>
            {
                Err(vec![format!(
                    "another grant asks for role {name}, and not for the same; give one of them another name"
                )])
            }
            Some(_) => Ok(()),
            None => {
                self.roles.insert(name, role);
                Ok(())
            }
        }
    }

    fn permissions(
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

/// Nothing of it is printed: tags and names are the operator's.
fn owner(grant: &Grant) -> Owner {
    Owner::of(grant.name.clone(), "", &neutral())
}

fn fits(document: &Document, limit: usize, what: &str) -> Result<(), Vec<String>> {
    let characters = document.characters();
    match characters > limit {
        true => Err(vec![format!(
            "{what} would have {characters} characters; AWS takes {limit}. Name fewer repositories, regions or roles, or prefixes"
        )]),
        false => Ok(()),
    }
}
