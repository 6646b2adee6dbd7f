//! Account numbers: each test has its own, so that tests run side by side in one emulation.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The account whose role the operator itself has. The same for all tests: nothing in it changes.
pub const OPERATOR_ACCOUNT: &str = "333333333333";

/// The registry account and the consumer account of `examples/`.
const EXAMPLE: (&str, &str) = ("111111111111", "222222222222");

/// A registry account (A) and a consumer account (B).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// A: owns the repositories.
    pub registry: String,
    /// B: pushes and pulls.
    pub consumer: String,
}

impl Pair {
    /// A pair that nobody else has: 1… is the registry, 2… the consumer. Also not a process that
    /// used the same stack before, which is possible with [`crate::Stack::attach`].
    pub fn fresh() -> Self {
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(u64::from(std::process::id() % 100_000) * 100_000));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            registry: format!("1{number:011}"),
            consumer: format!("2{number:011}"),
        }
    }

    /// The accounts of `examples/`.
    pub fn example() -> Self {
        Self {
            registry: EXAMPLE.0.into(),
            consumer: EXAMPLE.1.into(),
        }
    }

    /// A text of `examples/` with these accounts instead of its own.
    pub fn fill_in(&self, text: &str) -> String {
        text.replace(EXAMPLE.0, &self.registry)
            .replace(EXAMPLE.1, &self.consumer)
    }

    /// `examples/article.yaml` with these accounts, and in this namespace.
    pub fn article(&self, namespace: &str) -> String {
        let text = std::fs::read_to_string(crate::repository_root().join("examples/article.yaml"));
        // Twice the name: as the namespace, and as the prefix of repositories that the rule opens.
        self.fill_in(&text.expect("examples/article.yaml cannot be read"))
            .replace("team-b", namespace)
    }
}
