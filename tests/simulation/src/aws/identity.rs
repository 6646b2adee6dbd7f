//! Who calls, and the IDs and keys that AWS hands out.

use super::answer::ApiError;
use super::entities::Session;
use super::request::Service;
use super::state::State;
use jiff::Timestamp;
use std::sync::Arc;

/// The caller of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// The account's root, as which tests set up an account. It may do everything there.
    Root {
        /// The account.
        account: String,
        /// The root's ARN.
        arn: String,
    },
    /// A role's session.
    Session(Arc<Session>, Names),
}

/// The ARNs of a session and its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The ARN of the session.
    pub session: String,
    /// The ARN of the role.
    pub role: String,
}

impl Caller {
    /// Returns the caller with these credentials.
    pub(super) fn of(
        state: &State,
        access_key: &str,
        token: Option<&str>,
        now: Timestamp,
    ) -> Result<Self, Unaccepted> {
        if access_key.len() == 12
            && let Some(account) = state.account(access_key)
        {
            return Ok(Self::Root {
                arn: format!("arn:{}:iam::{}:root", account.partition, account.id),
                account: account.id.clone(),
            });
        }
        let session = state.session(access_key).ok_or(Unaccepted::Unknown)?;
        if token != Some(session.token.as_str()) {
            return Err(Unaccepted::Unknown);
        }
        if session.expires <= now {
            return Err(Unaccepted::Expired);
        }
        let account = state
            .account(&session.account)
            .filter(|account| !account.settings.closed)
            .ok_or(Unaccepted::Unknown)?;
        // Credentials of a deleted role are refused, also where the role was made again.
        let role = state.arn_of(&session.role_id).ok_or(Unaccepted::Unknown)?;
        let partition = account.partition;
        let Session {
            account,
            role: name,
            name: session_name,
            ..
        } = &**session;
        let arn = format!("arn:{partition}:sts::{account}:assumed-role/{name}/{session_name}");
        Ok(Self::Session(session.clone(), Names { session: arn, role }))
    }

    /// Returns the caller's account.
    pub fn account(&self) -> &str {
        match self {
            Self::Root { account, .. } => account,
            Self::Session(session, _) => &session.account,
        }
    }

    /// Returns the caller's ARN; of a session, the session's own.
    pub fn arn(&self) -> &str {
        match self {
            Self::Root { arn, .. } => arn,
            Self::Session(_, names) => &names.session,
        }
    }
}

/// The reason that credentials are not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unaccepted {
    Unknown,
    Expired,
}

impl Unaccepted {
    /// Returns the error of a service.
    pub fn error(self, service: Service) -> ApiError {
        let (query, json, message) = match self {
            Self::Unknown => (
                "InvalidClientTokenId",
                "UnrecognizedClientException",
                "The security token included in the request is invalid.",
            ),
            Self::Expired => (
                "ExpiredToken",
                "ExpiredTokenException",
                "The security token included in the request is expired",
            ),
        };
        match service {
            Service::Iam | Service::Sts => ApiError::new(403, query, message),
            Service::Ecr => ApiError::new(400, json, message),
        }
    }
}

/// IDs and keys: different each time, and the same for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Ids(fastrand::Rng);

impl Ids {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// Returns a unique ID with this prefix, such as `AROA`.
    pub fn unique(&mut self, prefix: &str) -> String {
        format!("{prefix}{}", self.characters(17))
    }

    /// Returns the ID of a session's access key.
    pub fn access_key(&mut self) -> String {
        format!("ASIA{}", self.characters(16))
    }

    /// Returns a secret.
    pub fn secret(&mut self) -> String {
        self.characters(40)
    }

    /// Returns a session token.
    pub fn token(&mut self) -> String {
        format!("FwoGZX{}", self.characters(120))
    }

    /// Returns the ID of a request.
    pub fn request(&mut self) -> String {
        let digits = format!("{:032x}", self.0.u128(..));
        let parts = [
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..],
        ];
        parts.join("-")
    }

    fn characters(&mut self, count: usize) -> String {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        std::iter::repeat_with(|| char::from(ALPHABET[self.0.usize(..32)]))
            .take(count)
            .collect()
    }
}
