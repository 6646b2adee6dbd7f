//! Account IDs: each test has its own, so that tests run in parallel in one emulation.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The account of the operator's own role. All tests share it: nothing in it changes.
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
    /// Creates a pair that no other test has: 1… is the registry, 2… the consumer. No process
    /// that used the same stack before has it either, which matters for
    /// [`crate::Stack::attach`].
    pub fn fresh() -> Self {
        static NEXT: LazyLock<AtomicU64> =
            LazyLock::new(|| AtomicU64::new(u64::from(std::process::id() % 100_000) * 100_000));
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            registry: format!("1{number:011}"),
            consumer: format!("2{number:011}"),
        }
    }

    /// Returns the accounts of `examples/`.
    pub fn example() -> Self {
        Self {
            registry: EXAMPLE.0.into(),
            consumer: EXAMPLE.1.into(),
        }
    }

    /// Replaces the accounts in a text of `examples/` by these accounts.
    pub fn fill_in(&self, text: &str) -> String {
        text.replace(EXAMPLE.0, &self.registry)
            .replace(EXAMPLE.1, &self.consumer)
    }

    /// Returns `examples/article.yaml` with these accounts, and in this namespace.
    pub fn article(&self, namespace: &str) -> String {
        let text = std::fs::read_to_string(crate::repository_root().join("examples/article.yaml"));
        // The name occurs twice: as the namespace, and as the prefix of the repositories that the
        // rule allows.
        self.fill_in(&text.expect("examples/article.yaml cannot be read"))
            .replace("team-b", namespace)
    }
}
