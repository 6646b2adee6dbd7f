//! Runs seeds of the simulation.
//!
//! `simulate SEED` prints the trace of one seed and its broken rules; `simulate FROM..TO` prints one
//! line for each seed. Exits with 1 if a rule was broken.

use simulation::run::{Report, run};
use std::process::ExitCode;

fn main() -> ExitCode {
    let argument = std::env::args().nth(1).unwrap_or_default();
    let range = argument.split_once("..");
    let seeds = match range {
        Some((from, to)) => from.parse().and_then(|from| Ok(from..to.parse()?)),
        None => argument.parse::<u64>().map(|seed| seed..seed + 1),
    };
    let Ok(seeds) = seeds else {
        eprintln!("usage: simulate SEED | FROM..TO");
        return ExitCode::FAILURE;
    };
    let mut is_broken = false;
    for seed in seeds {
        let report = run(seed);
        is_broken |= !report.violations.is_empty();
        print(&report, range.is_none());
    }
    if is_broken {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn print(report: &Report, with_trace: bool) {
    if with_trace {
        for line in &report.trace {
            println!("{line}");
        }
        for grant in &report.grants {
            println!("{grant:#}");
        }
    }
    let faults: u64 = report.faults.values().sum();
    println!(
        "seed {}: {} steps, {faults} faults, converged after {} s, {} rules broken",
        report.seed,
        report.trace.len(),
        report.converged_after,
        report.violations.len(),
    );
    for violation in &report.violations {
        println!("  {violation}");
    }
}
