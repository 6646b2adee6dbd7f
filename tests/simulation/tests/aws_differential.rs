//! The in-memory AWS and the emulation that the integration tests use, given the same random calls:
//! both must give the same answers, except for the differences that are listed.

use aws_differential::compare::Comparison;
use aws_differential::generate::Sequence;
use aws_differential::known::KNOWN;
use aws_differential::play::Pair;
use aws_differential::sessions::{self, Asked, Sessions};
use local_stack::AwsAlone;
use std::collections::BTreeMap;

mod aws_differential {
    pub mod calls;
    pub mod compare;
    pub mod documents;
    pub mod generate;
    pub mod known;
    pub mod play;
    pub mod sessions;
}

/// How many sequences are played. `AWS_SEQUENCES` sets another number, `AWS_SEED` other ones.
const SEQUENCES: u64 = 220;
const CALLS: usize = 30;

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test]
async fn random_calls_get_the_answers_of_the_emulation() {
    let emulation = AwsAlone::start("aws-differential").expect("the emulation");
    let first = from_environment("AWS_SEED").unwrap_or(0);
    let count = from_environment("AWS_SEQUENCES").unwrap_or(SEQUENCES);
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    let mut operations: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut failures: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for seed in first..first + count {
        let mut pair = Pair::new(&emulation, seed);
        let mut sequence = Sequence::new(seed);
        let mut history = Vec::new();
        for _ in 0..CALLS {
            let call = sequence.next_call();
            let (ours, theirs) = pair.play(&call).await.expect("two answers");
            history.push(format!("{call} -> {}", ours.outcome()));
            let (all, done) = operations.entry(call.operation).or_default();
            *all += 1;
            *done += usize::from(ours.status == 200);
            let comparison = Comparison::of(&call, &ours, &theirs);
            for name in &comparison.known {
                *met.entry(name).or_default() += 1;
            }
            if let Some(difference) = comparison.difference {
                let history = history.join("\n  ");
                let group = format!(
                    "{}: {} here, {} there",
                    call.operation,
                    ours.outcome(),
                    theirs.outcome()
                );
                let example = format!("sequence {seed}:\n  {history}\n{difference}");
                failures.entry(group).or_insert((0, example)).0 += 1;
            }
            if comparison.ends {
                break;
            }
        }
    }
    println!("calls, and how many succeeded: {operations:?}");
    print_known(&met);
    let shown: Vec<String> = failures
        .iter()
        .map(|(group, (count, example))| format!("{group} ({count} times), as in {example}"))
        .collect();
    assert!(
        failures.is_empty(),
        "differences that are not listed:\n{}",
        shown.join("\n\n")
    );
    let is_stale = |name: &&str| !met.contains_key(name);
    let stale: Vec<&str> = KNOWN
        .iter()
        .map(|known| known.name)
        .filter(is_stale)
        .collect();
    assert!(
        stale.is_empty() || count < SEQUENCES,
        "listed differences that no longer occur: {stale:?}"
    );
}

/// Prints how often each listed difference was met.
fn print_known(met: &BTreeMap<&str, usize>) {
    for known in KNOWN {
        let times = met.get(known.name).copied().unwrap_or_default();
        println!(
            "{times} times: {} (right: {:?}; {})",
            known.name, known.right, known.source
        );
    }
}

/// How many trust policies are tried, each with a few requests.
const TRUST_POLICIES: u64 = 150;

#[tokio::test]
async fn random_trust_policies_allow_what_they_do_in_the_emulation() {
    let emulation = AwsAlone::start("aws-differential-trust").expect("the emulation");
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for passes_on in [false, true] {
        let seed = 1_000_000 + u64::from(passes_on);
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut pair = Pair::new(&emulation, seed);
        let sessions = Sessions::begin(&mut pair, passes_on)
            .await
            .expect("sessions");
        for _ in 0..TRUST_POLICIES {
            let trust = sessions::trust(&mut rng);
            let update = sessions::update_trust("target", trust.clone());
            let (ours, theirs) = pair.play(&update).await.expect("two answers");
            assert_eq!(ours.outcome(), theirs.outcome(), "{trust}");
            for _ in 0..4 {
                let asked = Asked::random(&mut rng);
                let (ours, theirs) = sessions.assume(&pair, &asked).await;
                *outcomes.entry(ours.clone()).or_default() += 1;
                if ours != theirs {
                    differences.push(format!("{trust}\n{asked:?}: {ours} here, {theirs} there"));
                }
            }
        }
    }
    println!("{outcomes:#?}");
    let shown: Vec<String> = differences.iter().take(10).cloned().collect();
    assert!(
        differences.is_empty(),
        "{} differences; the first:\n{}",
        differences.len(),
        shown.join("\n\n")
    );
    let allowed = outcomes
        .iter()
        .filter(|(outcome, _)| outcome.starts_with("arn:"));
    assert!(
        allowed.map(|(_, count)| count).sum::<usize>() > 100,
        "{outcomes:?}"
    );
}
