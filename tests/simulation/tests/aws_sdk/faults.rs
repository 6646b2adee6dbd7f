//! Faults, lag and observers.

use crate::{A, B, Clients, REGION, code, ec2, pull, world};
use serde_json::json;
use simulation::aws::{
    After, ApiError, Before, Call, Change, Changed, Delivery, Faults, Instead, Observer, Odds,
    Outcome, RandomFaults, Record, Service, State, World,
};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Faults of one operation.
struct On {
    operation: &'static str,
    before: Before,
    after: After,
}

impl Faults for On {
    fn before(&self, call: &Call) -> Before {
        if call.operation == self.operation {
            self.before.clone()
        } else {
            Before::default()
        }
    }

    fn after(&self, call: &Call, _: &Outcome) -> After {
        if call.operation == self.operation {
            self.after.clone()
        } else {
            After::default()
        }
    }
}

fn set(world: &World, operation: &'static str, before: Before, after: After) {
    world.set_faults(Some(Arc::new(On {
        operation,
        before,
        after,
    })));
}

async fn create(world: &World, name: &str) -> Result<(), Option<String>> {
    use aws_sdk_iam::error::ProvideErrorMetadata;
    let call = Clients::root(world, A).iam.create_role().role_name(name);
    match call.assume_role_policy_document(ec2()).send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code().map(String::from)),
    }
}

fn exists(world: &World, name: &str) -> bool {
    world.read(|state| state.role(A, name).is_some())
}

#[tokio::test(start_paused = true)]
async fn fault_before_a_call_keeps_it_from_taking_effect() {
    let world = world();
    let error = ApiError::internal(Service::Iam);
    for (instead, code) in [
        (Instead::Reset, None),
        (Instead::Error(error), Some("ServiceFailure")),
        (Instead::Answer(200, "<html/>".into()), None),
        (Instead::Unresolved, None),
        (Instead::Silence, None),
    ] {
        let before = Before {
            instead: Some(instead),
            ..Before::default()
        };
        set(&world, "CreateRole", before, After::default());
        let failed = create(&world, "role").await.expect_err("a failure");
        assert_eq!(failed.as_deref(), code);
        assert!(!exists(&world, "role"));
    }
    let done = |record: &Record| record.outcome == Outcome::Done;
    assert_eq!(
        world.calls().iter().filter(|record| done(record)).count(),
        0
    );
}

#[tokio::test(start_paused = true)]
async fn fault_after_a_call_hides_its_effect() {
    let world = world();
    for (name, delivery) in [
        ("lost", Delivery::Lost),
        ("cut", Delivery::Truncated(40)),
        ("garbage", Delivery::Replaced(502, "bad gateway".into())),
        ("silence", Delivery::Silence),
    ] {
        let after = After {
            delivery,
            ..After::default()
        };
        set(&world, "CreateRole", Before::default(), after);
        let failed = create(&world, name).await.expect_err(name);
        assert_eq!(failed, None, "{name}");
        assert!(exists(&world, name), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn delays_pass_on_virtual_time() {
    let world = world();
    let delay = Duration::from_secs(20);
    let before = Before {
        delay,
        ..Before::default()
    };
    let after = After {
        delay,
        ..After::default()
    };
    set(&world, "CreateRole", before, after);
    let begun = tokio::time::Instant::now();
    create(&world, "slow")
        .await
        .expect_err("a timeout after 30 s");
    assert!(exists(&world, "slow"));
    assert_eq!(begun.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn lagging_call_sees_the_earlier_state() {
    let world = world();
    let (a, b) = (Clients::root(&world, A), Clients::root(&world, B));
    let root = world.root(B);
    root.create_repository(REGION, "app").expect("a repository");
    tokio::time::advance(Duration::from_secs(60)).await;
    let arn = world
        .root(A)
        .create_role("role", &ec2())
        .expect("a new role");
    let lag = Before {
        lag: Duration::from_secs(5),
        ..Before::default()
    };
    set(&world, "GetRole", lag.clone(), After::default());
    let get = async || a.iam.get_role().role_name("role").send().await;
    assert_eq!(code(get().await), "NoSuchEntity");
    set(&world, "SetRepositoryPolicy", lag, After::default());
    get().await.expect("no lag any more");
    let write = async || {
        let write = b.ecr.set_repository_policy().repository_name("app");
        let text = pull(&json!({"AWS": arn}));
        write.policy_text(text).send().await
    };
    assert_eq!(code(write().await), "InvalidParameterException");
    tokio::time::advance(Duration::from_secs(5)).await;
    write().await.expect("the new role is known");
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn before_change(&self, state: &State, changed: &Changed<'_>) {
        self.note("before", state, changed);
    }

    fn after_change(&self, state: &State, changed: &Changed<'_>) {
        self.note("after", state, changed);
    }

    fn called(&self, _: &State, record: &Record) {
        let line = format!("called {}", record.call.action());
        self.0.lock().expect("no panic").push(line);
    }
}

impl Seen {
    fn note(&self, when: &str, state: &State, changed: &Changed<'_>) {
        let Change::Role { account, name, .. } = changed.change else {
            return;
        };
        let exists = state.role(account, name).is_some();
        let by = changed.by.map_or("a test", |call| &call.operation);
        let line = format!("{when} {name} by {by}: {exists}");
        self.0.lock().expect("no panic").push(line);
    }
}

#[tokio::test(start_paused = true)]
async fn observer_sees_the_state_before_and_after_each_change() {
    let world = world();
    let seen = Arc::new(Seen::default());
    world.observe(seen.clone());
    let root = world.root(A);
    root.create_role("role", &ec2()).expect("a new role");
    let iam = Clients::root(&world, A).iam;
    let deleted = iam.delete_role().role_name("role").send().await;
    deleted.expect("it exists");
    let expected = [
        "before role by a test: false",
        "after role by a test: true",
        "before role by DeleteRole: true",
        "after role by DeleteRole: false",
        "called iam:DeleteRole",
    ];
    assert_eq!(*seen.0.lock().expect("no panic"), expected);
}

#[tokio::test(start_paused = true)]
async fn random_faults_are_the_same_for_the_same_seed() {
    async fn run(seed: u64) -> Vec<String> {
        let world = world();
        let odds = Odds {
            throttled: 0.1,
            failed: 0.1,
            reset: 0.1,
            lost: 0.1,
            silent: 0.0,
            cut: 0.1,
            replaced: 0.1,
            delayed: 0.5,
            longest_delay: Duration::from_secs(5),
            lagging: 0.5,
            longest_lag: Duration::from_secs(60),
        };
        world.set_faults(Some(Arc::new(RandomFaults::new(seed, odds))));
        for number in 0..40 {
            let _ = create(&world, &format!("r{}", number % 10)).await;
        }
        world.calls().iter().map(Record::to_string).collect()
    }
    let first = run(1).await;
    assert_eq!(first, run(1).await);
    assert_ne!(first, run(2).await);
    let ends = |end: &str| first.iter().filter(|line| line.ends_with(end)).count();
    assert!(ends(": done") > 3 && ends(": Throttling") > 0, "{first:#?}");
}
