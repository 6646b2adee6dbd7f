//! Tests of the policy library, by behaviour. [`documents`] generates documents. [`rewording`]
//! rewords them or makes a slip in them. [`evaluator`] decides requests by them, to check that
//! documents which count as equal grant the same access.

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

/// Returns the configuration of a property that runs with this many cases in `make test`. If
/// `PROPTEST_CASES` asks for more than proptest's default of 256, the number of cases grows in
/// proportion.
pub(crate) fn cases(number: u32) -> Config {
    let asked = u64::from(number) * u64::from(Config::default().cases) / 256;
    Config::with_cases(u32::try_from(asked).unwrap_or(u32::MAX).max(1))
}
