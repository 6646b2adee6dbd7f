//! Checks the time to compare two full policies, as measured by `cargo bench --bench policy`,
//! against its limit.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;

/// The benchmarks by criterion's groups: a full policy and an equivalent one, with the operations
/// that a sync of a repository performs.
const POLICIES: [&str; 2] = ["packed", "mixed"];
const COMPARISON: &str = "canonical forms, equality and difference";
/// The target for a full policy. It applies to the median, so that a short load of the machine does
/// not matter.
const MOST_NANOSECONDS: f64 = 1e6;

/// Prints the median of each comparison in criterion's folder.
///
/// # Errors
/// When one is missing, or over the limit.
pub fn check(criterion: &Path) -> Result<()> {
    println!(
        "\nCanonical forms and difference of two full policies, at most {:.0} µs",
        MOST_NANOSECONDS / 1e3
    );
    let mut is_within = true;
    for policy in POLICIES {
        let median = median(
            &criterion
                .join(policy)
                .join(COMPARISON)
                .join("new/estimates.json"),
        )?;
        let within = median < MOST_NANOSECONDS;
        println!(
            "  {policy:<8} {:>6.0} µs  {}",
            median / 1e3,
            if within { "ok" } else { "OVER THE LIMIT" }
        );
        is_within &= within;
    }
    ensure!(is_within, "over the limit, see above");
    Ok(())
}

/// In nanoseconds.
fn median(file: &Path) -> Result<f64> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("{}: not measured", file.display()))?;
    let estimates: Value =
        serde_json::from_str(&text).with_context(|| file.display().to_string())?;
    estimates["median"]["point_estimate"]
        .as_f64()
        .with_context(|| format!("{}: no median", file.display()))
}
