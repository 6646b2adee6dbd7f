//! Runs the simulation's program on a fixed set of seeds. Each process is deterministic as a whole.

use std::process::{Command, Output};

/// Runs the program for a seed or a range of seeds.
fn simulate(seeds: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_simulate"))
        .arg(seeds)
        .output()
        .expect("the program starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn same_seed_gives_the_same_trace_in_two_processes() {
    for seed in ["3", "9", "19"] {
        let (first, second) = (text(&simulate(seed)), text(&simulate(seed)));
        let difference = first
            .lines()
            .zip(second.lines())
            .find(|(one, other)| one != other);
        assert_eq!(difference, None, "seed {seed}");
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}

/// The ranges run side by side.
#[test]
fn fixed_seeds_break_no_rule() {
    let ranges = ["0..50", "50..100"];
    let outputs = std::thread::scope(|scope| {
        let running = ranges.map(|range| scope.spawn(move || simulate(range)));
        running.map(|output| output.join().expect("it does not panic"))
    });
    for output in outputs {
        let broken: Vec<String> = text(&output)
            .lines()
            .filter(|line| !line.ends_with(" 0 rules broken"))
            .map(String::from)
            .collect();
        assert!(output.status.success(), "{}", broken.join("\n"));
    }
}
