//! An in-memory AWS: IAM, STS and ECR, as far as the operator calls them.
//!
//! A [`World`] has any number of accounts. It answers the SDK's real requests in AWS's real formats,
//! through [`World::http_client`], so that the SDK and everything that the operator adds to it take
//! part. It has no wall clock, no threads, no I/O and no randomness of its own: the same seed and
//! the same calls give the same answers. [`Faults`] decide what goes wrong, [`Observer`]s see every
//! call and change, and [`Root`] does what a person does in an account.
//!
//! (The SDK itself draws from `fastrand`'s generator of the thread. A simulation seeds that, too.)
//!
//! - `world`: all accounts behind one lock; how a call is carried out.
//! - `state`: the state of all accounts, and the changes by which it becomes another.
//! - `entities`: what an account contains, as plain data.
//! - `history`: named things with their recent past, for reads that lag.
//! - `identity`: who calls, and the IDs and keys that AWS hands out.
//! - `regions`: the regions, and those that an account must enable.
//! - `documents`: policy documents: grammar, stored form, printed form.
//! - `trust`: evaluates trust policies.
//! - `iam`, `sts`, `ecr`: the operations of the services.
//! - `constraints`: the constraints of the API models.
//! - `request`, `answer`: the formats of requests and answers.
//! - `connector`: the SDK's HTTP connector.
//! - `faults`: what goes wrong with a call; `random_faults`: faults by chance, from a seed.
//! - `throttle`: token buckets.
//! - `observe`: what observers see, and the log of calls.
//! - `root`: what a person does in an account.

mod answer;
mod connector;
mod constraints;
pub mod documents;
mod ecr;
pub mod entities;
pub mod faults;
pub mod history;
mod iam;
mod identity;
pub mod observe;
mod random_faults;
pub mod regions;
pub mod request;
mod root;
pub mod state;
mod sts;
mod throttle;
mod trust;
mod world;

pub use answer::ApiError;
pub use documents::Policy;
pub use entities::Denied;
pub use faults::{After, Before, Delivery, Faults, Instead};
pub use observe::{Call, Changed, Observer, Outcome, Record};
pub use random_faults::{Odds, RandomFaults};
pub use request::Service;
pub use root::{Root, SessionTags};
pub use state::{Change, State};
pub use throttle::Rate;
pub(crate) use trust::glob;
pub use world::{Settings, World};
