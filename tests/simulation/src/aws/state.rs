//! The state of all accounts. Everything changes by [`Change`]s, one at a time.

use super::documents::{Policy, UnknownPrincipal};
use super::entities::{
    AccountSettings, InstanceProfile, ManagedPolicy, Repository, Role, Session, User,
};
use super::history::Slots;
use super::regions::Region;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The state of all accounts.
#[derive(Clone, Debug, Default)]
pub struct State {
    accounts: BTreeMap<String, Account>,
    /// Every role and user that ever existed, by unique ID.
    principals: BTreeMap<String, PrincipalRecord>,
    sessions: BTreeMap<String, Arc<Session>>,
}

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account's number.
    pub id: String,
    /// The partition, for instance `aws`.
    pub partition: &'static str,
    /// What applies to the whole account.
    pub settings: Arc<AccountSettings>,
    /// The roles by their names in lower case.
    pub roles: Slots<Role>,
    /// The users by their names in lower case.
    pub users: Slots<User>,
    /// The instance profiles by their names in lower case.
    pub profiles: Slots<InstanceProfile>,
    /// The customer-managed policies by ARN.
    pub policies: Slots<ManagedPolicy>,
    /// The registries by region.
    pub registries: BTreeMap<String, Registry>,
}

/// The registry of an account in one region.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// The repositories by name.
    pub repositories: Slots<Repository>,
    /// The registry's own policy, under an empty name.
    pub policy: Slots<Policy>,
}

/// A role or user, whether or not it still exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalRecord {
    /// The ARN.
    pub arn: String,
    /// When it was created.
    pub created: Timestamp,
    /// Whether it was deleted.
    pub deleted: bool,
}

/// One change of the state.
#[derive(Clone, Debug)]
pub enum Change {
    /// A role is created, changed or deleted.
    Role {
        /// The account.
        account: String,
        /// The role's name.
        name: String,
        /// The new state; `None` if it is deleted.
        to: Option<Arc<Role>>,
    },
    /// A user is created or deleted.
    User {
        /// The account.
        account: String,
        /// The user's name.
        name: String,
        /// The new state; `None` if it is deleted.
        to: Option<Arc<User>>,
    },
    /// An instance profile is created, changed or deleted.
    Profile {
        /// The account.
        account: String,
        /// The profile's name.
        name: String,
        /// The new state; `None` if it is deleted.
        to: Option<Arc<InstanceProfile>>,
    },
    /// A customer-managed policy is created, changed or deleted.
    ManagedPolicy {
        /// The account.
        account: String,
        /// The policy's ARN.
        arn: String,
        /// The new state; `None` if it is deleted.
        to: Option<Arc<ManagedPolicy>>,
    },
    /// A repository or its policy is created, changed or deleted.
    Repository {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The repository's name.
        name: String,
        /// The new state; `None` if it is deleted.
        to: Option<Arc<Repository>>,
    },
    /// A registry's own policy is written or deleted.
    RegistryPolicy {
        /// The account.
        account: String,
        /// The region.
        region: String,
        /// The new policy; `None` if it is deleted.
        to: Option<Arc<Policy>>,
    },
    /// A session begins.
    Session(Arc<Session>),
    /// An account's settings change.
    Settings {
        /// The account.
        account: String,
        /// The new settings.
        to: Arc<AccountSettings>,
    },
}

impl State {
    /// Returns an account.
    pub fn account(&self, id: &str) -> Option<&Account> {
        self.accounts.get(id)
    }

    /// Iterates over all accounts, by number.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Returns a role, by its name in any case.
    pub fn role(&self, account: &str, name: &str) -> Option<&Arc<Role>> {
        self.account(account)?.roles.get(&key(name))
    }

    /// Returns an instance profile, by its name in any case.
    pub fn profile(&self, account: &str, name: &str) -> Option<&Arc<InstanceProfile>> {
        self.account(account)?.profiles.get(&key(name))
    }

    /// Returns a repository.
    pub fn repository(&self, account: &str, region: &str, name: &str) -> Option<&Arc<Repository>> {
        let registry = self.account(account)?.registries.get(region)?;
        registry.repositories.get(name)
    }

    /// Returns a registry's own policy.
    pub fn registry_policy(&self, account: &str, region: &str) -> Option<&Arc<Policy>> {
        self.account(account)?
            .registries
            .get(region)?
            .policy
            .get("")
    }

    /// Returns a session by the ID of its access key, even if it has expired.
    pub fn session(&self, access_key: &str) -> Option<&Arc<Session>> {
        self.sessions.get(access_key)
    }

    /// Returns the role or user with a unique ID, whether or not it still exists.
    pub fn principal(&self, id: &str) -> Option<&PrincipalRecord> {
        self.principals.get(id)
    }

    /// Returns the ARN of a unique ID; `None` if it is none, or its role or user is deleted.
    pub fn arn_of(&self, id: &str) -> Option<String> {
        self.principals
            .get(id)
            .filter(|record| !record.deleted)
            .map(|record| record.arn.clone())
    }

    /// Returns the ARN of a unique ID as a reader of that time sees it: the IDs of what was created
    /// since are shown as they are.
    pub(super) fn arn_of_at(&self, id: &str, time: Timestamp) -> Option<String> {
        self.principals
            .get(id)
            .filter(|record| !record.deleted && record.created <= time)
            .map(|record| record.arn.clone())
    }

    /// Returns the form in which AWS stores a principal that a document of this partition names,
    /// as far as it was visible at that time.
    pub(super) fn stored_principal(
        &self,
        principal: &str,
        partition: &str,
        time: Timestamp,
    ) -> Result<String, UnknownPrincipal> {
        let unknown = || UnknownPrincipal(principal.to_owned());
        if principal == "*" {
            return Ok(principal.to_owned());
        }
        if let Some(account) = self.open(principal) {
            let root = format!("arn:{}:iam::{}:root", account.partition, account.id);
            return (account.partition == partition)
                .then_some(root)
                .ok_or_else(unknown);
        }
        if let Some(record) = self.principals.get(principal) {
            let is_visible = !record.deleted && record.created <= time;
            return is_visible.then(|| principal.to_owned()).ok_or_else(unknown);
        }
        let parts: Vec<&str> = principal.splitn(6, ':').collect();
        let [_, of, service, _, account, resource] = parts[..] else {
            return Err(unknown());
        };
        let account = self
            .open(account)
            .filter(|account| account.partition == of && of == partition)
            .ok_or_else(unknown)?;
        if service == "sts" || resource == "root" {
            return Ok(principal.to_owned());
        }
        account
            .principal_at(principal, resource, time)
            .ok_or_else(unknown)
    }

    fn open(&self, id: &str) -> Option<&Account> {
        self.account(id).filter(|account| !account.settings.closed)
    }

    /// Adds an account.
    pub(super) fn add(&mut self, id: &str, partition: &'static str) {
        let account = Account {
            id: id.to_owned(),
            partition,
            settings: Arc::default(),
            roles: Slots::default(),
            users: Slots::default(),
            profiles: Slots::default(),
            policies: Slots::default(),
            registries: BTreeMap::new(),
        };
        self.accounts.insert(id.to_owned(), account);
    }

    /// Applies a change.
    pub(super) fn apply(&mut self, change: &Change, now: Timestamp) {
        match change {
            Change::Role { account, name, to } => {
                let to = to.clone();
                let identity = to.as_ref().map(|role| (role.id.clone(), role.arn.clone()));
                let before = self.role(account, name).map(|role| role.id.clone());
                self.remember(before, identity, now);
                self.change(account, |account| account.roles.put(&key(name), now, to));
            }
            Change::User { account, name, to } => {
                let to = to.clone();
                let identity = to.as_ref().map(|user| (user.id.clone(), user.arn.clone()));
                let before = self
                    .account(account)
                    .and_then(|account| account.users.get(&key(name)))
                    .map(|user| user.id.clone());
                self.remember(before, identity, now);
                self.change(account, |account| account.users.put(&key(name), now, to));
            }
            Change::Profile { account, name, to } => {
                let to = to.clone();
                self.change(account, |account| account.profiles.put(&key(name), now, to));
            }
            Change::ManagedPolicy { account, arn, to } => {
                let to = to.clone();
                self.change(account, |account| account.policies.put(arn, now, to));
            }
            Change::Repository {
                account,
                region,
                name,
                to,
            } => self.registry(account, region, |registry| {
                registry.repositories.put(name, now, to.clone());
            }),
            Change::RegistryPolicy {
                account,
                region,
                to,
            } => self.registry(account, region, |registry| {
                registry.policy.put("", now, to.clone());
            }),
            Change::Session(session) => self.begin(session.clone(), now),
            Change::Settings { account, to } => {
                self.change(account, |account| account.settings = to.clone());
            }
        }
    }

    fn begin(&mut self, session: Arc<Session>, now: Timestamp) {
        // A client that still uses credentials long after their end gets the same refusal.
        if self.sessions.len() % 256 == 255 {
            self.sessions.retain(|_, session| session.expires > now);
        }
        self.sessions.insert(session.access_key.clone(), session);
    }

    fn change(&mut self, id: &str, change: impl FnOnce(&mut Account)) {
        change(self.accounts.get_mut(id).expect("the account of a change"));
    }

    fn registry(&mut self, id: &str, region: &str, change: impl FnOnce(&mut Registry)) {
        self.change(id, |account| {
            change(account.registries.entry(region.to_owned()).or_default());
        });
    }

    fn remember(&mut self, before: Option<String>, now: Option<(String, String)>, at: Timestamp) {
        match (before, now) {
            (Some(before), None) => {
                if let Some(record) = self.principals.get_mut(&before) {
                    record.deleted = true;
                }
            }
            (None, Some((id, arn))) => {
                let record = PrincipalRecord {
                    arn,
                    created: at,
                    deleted: false,
                };
                self.principals.insert(id, record);
            }
            _ => {}
        }
    }
}

impl Account {
    /// Returns whether the account may use a region.
    pub(super) fn has_enabled(&self, region: &Region) -> bool {
        self.partition == region.partition
            && (!region.opt_in || self.settings.opted_in.contains(region.name))
    }

    /// Returns the unique ID of the role or user with exactly this ARN.
    fn principal_at(&self, arn: &str, resource: &str, time: Timestamp) -> Option<String> {
        let name = key(resource.rsplit('/').next()?);
        if resource.starts_with("role/") {
            let role = self.roles.at(&name, time)?;
            return (role.arn == arn).then(|| role.id.clone());
        }
        let user = self.users.at(&name, time)?;
        (user.arn == arn).then(|| user.id.clone())
    }
}

/// Returns the form of a name in which it is unique.
pub(super) fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}
