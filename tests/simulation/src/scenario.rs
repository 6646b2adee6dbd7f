//! What happens in one run: the grants, the replicas, and what people do to them. A seed determines
//! all of it.

use crate::chaos::Rates;
use std::fmt;
use std::time::Duration;

/// The account of the registry.
pub const REGISTRY: &str = "111111111111";
/// The accounts of the consumers.
pub const CONSUMERS: [&str; 2] = ["222222222222", "444444444444"];
/// The region of the repositories.
pub const REGION: &str = "us-east-1";
/// The repositories. Most grants are for the first.
pub const REPOSITORIES: [&str; 2] = ["app", "web"];
/// The namespaces of the tenants.
pub const NAMESPACES: [&str; 2] = ["blue", "green"];
/// The roles in each consumer account that grants may name.
pub const ROLES: [&str; 2] = ["ci", "node"];

/// The period in which operations and faults happen.
pub const PERIOD: Duration = Duration::from_secs(900);

/// One run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The number of replicas at the start.
    pub replicas: usize,
    /// How often something goes wrong by itself.
    pub rates: Rates,
    /// What people do, and when, in this order.
    pub operations: Vec<(Duration, Operation)>,
}

/// Something that people, other tools or the cluster do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A tenant applies a grant, or changes it if it exists.
    Apply(GrantSpec),
    /// A tenant deletes a grant.
    Delete(usize),
    /// Somebody removes the finalizer of a grant and deletes it.
    ForceDelete(usize),
    /// A tenant suspends a grant, or continues it.
    Suspend(usize, bool),
    /// The cluster admin allows all consumers, or only the first.
    Allow(bool),
    /// Somebody adds a statement to a repository's policy, or removes it again.
    WriteForeign(usize, bool),
    /// Somebody replaces a repository's whole policy by a foreign one.
    ReplacePolicy(usize),
    /// Somebody deletes and creates a role of a consumer account again.
    RecreateRole(usize, usize),
    /// A replica crashes, and its Deployment starts another.
    Crash(usize),
    /// A replica gets a stop signal, and its Deployment starts another.
    Restart(usize),
    /// A replica gets no CPU time for this long.
    Freeze(usize, Duration),
    /// All watches break, and their history is gone.
    ExpireWatches,
}

/// The part of a grant's spec that varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantSpec {
    /// The number of the grant, which determines its name, its namespace and its consumer.
    pub number: usize,
    /// Whether it also asks for pushing.
    pub push: bool,
    /// The role that it names; `None`: the whole account.
    pub role: Option<usize>,
    /// The repositories, as a set of bits; at least one.
    pub repositories: usize,
}

impl Scenario {
    /// Returns the run of a seed.
    pub fn of(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let grants = random.usize(1..=5);
        let mut operations: Vec<(Duration, Operation)> = (0..grants)
            .map(|number| {
                let spec = GrantSpec::random(&mut random, number);
                (
                    Duration::from_secs(random.u64(..60)),
                    Operation::Apply(spec),
                )
            })
            .collect();
        for _ in 0..random.usize(..20) {
            let at = Duration::from_millis(random.u64(60_000..900_000));
            operations.push((at, Operation::random(&mut random, grants)));
        }
        operations.sort_by_key(|(at, _)| *at);
        let quiet = random.u8(..4) == 0;
        let most = if quiet { 0.0 } else { 0.3 };
        Self {
            replicas: random.usize(1..=3),
            rates: Rates {
                aws: random.f64() * most,
                api: random.f64() * most / 2.0,
                watch: random.f64() * most / 2.0,
            },
            operations,
        }
    }
}

impl GrantSpec {
    fn random(random: &mut fastrand::Rng, number: usize) -> Self {
        Self {
            number,
            push: random.bool(),
            role: if random.bool() {
                Some(random.usize(..ROLES.len()))
            } else {
                None
            },
            repositories: random.choice([1, 1, 1, 2, 3]).expect("not empty"),
        }
    }

    /// Returns the name of the grant's namespace.
    pub fn namespace(number: usize) -> &'static str {
        NAMESPACES[number % NAMESPACES.len()]
    }

    /// Returns the consumer account.
    pub fn consumer(number: usize) -> &'static str {
        CONSUMERS[(number / 2) % CONSUMERS.len()]
    }
}

impl Operation {
    fn random(random: &mut fastrand::Rng, grants: usize) -> Self {
        let grant = random.usize(..grants);
        let replica = random.usize(..3);
        match random.u8(..20) {
            0..=3 => Self::Apply(GrantSpec::random(random, grant)),
            4..=6 => Self::Delete(grant),
            7 => Self::ForceDelete(grant),
            8 => Self::Suspend(grant, random.bool()),
            9 => Self::Allow(random.bool()),
            10..=11 => Self::WriteForeign(random.usize(..REPOSITORIES.len()), random.bool()),
            12 => Self::ReplacePolicy(random.usize(..REPOSITORIES.len())),
            13 => Self::RecreateRole(random.usize(..CONSUMERS.len()), random.usize(..ROLES.len())),
            14..=15 => Self::Crash(replica),
            16 => Self::Restart(replica),
            17..=18 => Self::Freeze(replica, Duration::from_secs(random.u64(1..90))),
            _ => Self::ExpireWatches,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
