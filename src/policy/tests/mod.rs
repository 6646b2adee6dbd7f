//! Tests of the policy library, by behaviour. [`documents`] makes documents, [`rewording`] puts
//! them in other words or makes a slip in them; [`evaluator`] decides requests by them, to see that
//! what counts as equal grants the same.

mod canonical;
mod diff;
mod document;
mod documents;
mod ecr;
mod evaluate;
mod evaluate_conditions;
mod evaluate_laws;
mod evaluate_patterns;
mod evaluate_principals;
mod evaluator;
mod keep;
mod laws;
mod records;
mod rewording;
mod search;

use proptest::test_runner::Config;

/// The configuration of a property that is tried on so many inputs in `make test`; where
/// `PROPTEST_CASES` asks for more than proptest's own 256, on as many times more.
pub(crate) fn cases(number: u32) -> Config {
    let asked = u64::from(number) * u64::from(Config::default().cases) / 256;
    Config::with_cases(u32::try_from(asked).unwrap_or(u32::MAX).max(1))
}
