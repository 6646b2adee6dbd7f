//! Order, fairness, and a simulation of many grants in accounts that AWS throttles.

use super::*;
use crate::aws::rate_limit::{Bucket, Buckets};
use crate::controller::state::pending::Pending;
use futures::FutureExt;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

fn work(urgency: Priority, tenant: &str) -> Work {
    Work {
        urgency,
        tenant: tenant.into(),
    }
}

/// Lets these wait for a slot in a busy account, and returns the order in which they get one.
async fn order(
    slots: &Slots,
    waiting: &[(Priority, &'static str)],
) -> Vec<(Priority, &'static str)> {
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut busy = Vec::new();
    for _ in 0..at_most(Priority::Revocation, slots.0.of_each) {
        busy.push(
            rate_limit::with(
                work(Priority::Revocation, "before"),
                slots.enter("a", false),
            )
            .await,
        );
    }
    let mut tasks = Vec::new();
    for (urgency, tenant) in waiting.iter().copied() {
        let (slots, order) = (slots.clone(), order.clone());
        tasks.push(tokio::spawn(rate_limit::with(
            work(urgency, tenant),
            async move {
                let slot = slots.enter("a", false).await;
                order.lock().unwrap().push((urgency, tenant));
                // The next one is served only after this one.
                sleep(Duration::from_secs(1)).await;
                drop(slot);
            },
        )));
        yield_now().await;
    }
    drop(busy);
    for task in tasks {
        task.await.unwrap();
    }
    Arc::try_unwrap(order).unwrap().into_inner().unwrap()
}

#[tokio::test(start_paused = true)]
async fn slots_go_to_revocations_changes_retries_and_resyncs_in_order() {
    use Priority::{Change, Resync, Retry, Revocation};
    let waiting = [
        (Resync, "x"),
        (Retry, "x"),
        (Change, "x"),
        (Revocation, "x"),
    ];
    let served = order(&Slots::new(1), &waiting).await;
    assert_eq!(
        served,
        [
            (Revocation, "x"),
            (Change, "x"),
            (Retry, "x"),
            (Resync, "x")
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn many_grants_of_a_namespace_do_not_delay_other_namespaces() {
    let mut waiting = vec![(Priority::Retry, "many"); 30];
    waiting.push((Priority::Retry, "one"));
    let served = order(&Slots::new(1), &waiting).await;
    let place = served
        .iter()
        .position(|(_, tenant)| *tenant == "one")
        .unwrap();
    assert!(place <= 2, "{place}");
}

#[tokio::test(start_paused = true)]
async fn many_changes_do_not_block_a_resync_for_ever() {
    let mut waiting = vec![(Priority::Resync, "quiet")];
    waiting.extend(vec![(Priority::Change, "loud"); 50]);
    let served = order(&Slots::new(1), &waiting).await;
    let place = served
        .iter()
        .position(|(urgency, _)| *urgency == Priority::Resync)
        .unwrap();
    assert!(place <= 8, "{place}");
}

/// Urgent work arrives as fast as it is served.
#[rstest::rstest]
#[case(Priority::Change, Priority::Resync)]
#[case(Priority::Change, Priority::Retry)]
#[case(Priority::Revocation, Priority::Change)]
#[case(Priority::Revocation, Priority::Resync)]
#[tokio::test(start_paused = true)]
async fn constant_urgent_work_blocks_no_other_work_for_ever(
    #[case] stream: Priority,
    #[case] quiet: Priority,
) {
    let slots = Slots::new(4);
    for number in 0..20_u64 {
        let slots = slots.clone();
        tokio::spawn(rate_limit::with(work(stream, "loud"), async move {
            loop {
                let slot = slots.enter("a", false).await;
                // Their ends are spread, so that one slot at a time becomes free.
                sleep(Duration::from_millis(1_000 + number * 7)).await;
                drop(slot);
            }
        }));
    }
    sleep(Duration::from_secs(10)).await;
    let waits = rate_limit::with(work(quiet, "quiet"), slots.enter("a", false));
    assert!(
        tokio::time::timeout(Duration::from_secs(60), waits)
            .await
            .is_ok(),
        "{quiet:?} waits for ever"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_slots_are_reserved_for_work_of_higher_priority() {
    let slots = Slots::new(4);
    let enter =
        |urgency| rate_limit::with(work(urgency, "x"), slots.enter("a", false)).now_or_never();
    for _ in 0..20 {
        let resyncs: Vec<_> = std::iter::from_fn(|| enter(Priority::Resync)).collect();
        assert_eq!(resyncs.len(), 3);
        let changes: Vec<_> = std::iter::from_fn(|| enter(Priority::Change)).collect();
        assert_eq!(changes.len(), 1);
        let revocations: Vec<_> = std::iter::from_fn(|| enter(Priority::Revocation)).collect();
        assert_eq!(revocations.len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_resync_that_is_deleted_becomes_a_revocation() {
    let (slots, pending) = (Slots::new(4), Pending::default());
    for _ in 0..300 {
        let slots = slots.clone();
        tokio::spawn(rate_limit::with(
            work(Priority::Change, "loud"),
            async move {
                let slot = slots.enter("a", false).await;
                sleep(Duration::from_secs(10)).await;
                drop(slot);
            },
        ));
    }
    yield_now().await;
    let key = ("team".to_owned(), "grant".to_owned());
    let now = Arc::new(Mutex::new(Priority::Resync));
    let waits = {
        let (slots, now, waiting) = (slots.clone(), now.clone(), pending.wait(key.clone()));
        let plan = move || Some((work(*now.lock().unwrap(), "team"), "a".to_owned()));
        tokio::spawn(async move { slots.first(plan, &waiting).await })
    };
    sleep(Duration::from_secs(1)).await;
    // Another change of the grant does not make it more urgent.
    pending.changed(&key);
    sleep(Duration::from_secs(1)).await;
    assert!(!waits.is_finished());
    *now.lock().unwrap() = Priority::Revocation;
    pending.changed(&key);
    let slot = tokio::time::timeout(Duration::from_secs(1), waits)
        .await
        .expect("it is a revocation now")
        .unwrap();
    assert!(slot.is_some());
}

#[tokio::test(start_paused = true)]
async fn first_slot_of_work_is_used_only_for_its_account() {
    let slots = Slots::new(1);
    let free = |account| {
        rate_limit::with(work(Priority::Change, "x"), slots.enter(account, false))
            .now_or_never()
            .is_some()
    };
    beginning_with(Some(slots.enter("a", false).await), async {
        assert!(!free_outside(&slots, "a").await);
        let first = slots.enter("a", false).await;
        drop(first);
        assert!(free("a"));
    })
    .await;
    beginning_with(Some(slots.enter("a", false).await), async {
        let _other = slots.enter("b", false).await;
        assert!(free_outside(&slots, "a").await);
    })
    .await;
    beginning_with(Some(slots.enter("a", false).await), async {
        give_back();
        assert!(free_outside(&slots, "a").await);
    })
    .await;
    beginning_with(Some(slots.enter("a", false).await), async {}).await;
    assert!(slots.0.lines.lock().unwrap().is_empty());
}

/// Returns whether other work gets a slot of the account at once.
async fn free_outside(slots: &Slots, account: &'static str) -> bool {
    let slots = slots.clone();
    tokio::spawn(async move { slots.enter(account, false).now_or_never().is_some() })
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn waiting_revocation_makes_work_on_its_documents_urgent() {
    let slots = Slots::new(1);
    let busy = rate_limit::with(work(Priority::Change, "x"), slots.enter("a", false)).await;
    let enter = |urgency, for_all| {
        let slots = slots.clone();
        tokio::spawn(rate_limit::with(work(urgency, "x"), async move {
            slots.enter("a", for_all).await
        }))
    };
    let document = enter(Priority::Resync, true);
    let change = enter(Priority::Change, false);
    yield_now().await;
    let revoking = slots.revoking("a");
    // A revocation may begin although the account is busy, and so may the work that it waits for.
    let got = document.await.unwrap();
    drop((got, busy));
    drop(change.await.unwrap());
    drop(revoking);
    assert!(
        slots.0.lines.lock().unwrap().is_empty(),
        "an account without work is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn busy_account_delays_no_other_and_aborted_waits_hold_no_slot() {
    let slots = Slots::new(2);
    let _busy = [slots.enter("a", false).await, slots.enter("a", false).await];
    let waits = tokio::time::timeout(Duration::from_secs(60), slots.enter("a", false));
    assert!(waits.await.is_err());
    drop(slots.enter("b", false).await);
    drop(_busy);
    let _all = [slots.enter("a", false).await, slots.enter("a", false).await];
}

/// A service that admits this number of calls per second.
struct Service {
    rate: f64,
    level: Mutex<(f64, Instant)>,
    calls: AtomicUsize,
}

impl Service {
    fn new(rate: f64) -> Arc<Self> {
        Arc::new(Self {
            rate,
            level: Mutex::new((rate, Instant::now())),
            calls: AtomicUsize::new(0),
        })
    }

    /// Returns whether the call was not throttled.
    async fn call(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let admitted = {
            let mut level = self.level.lock().unwrap();
            let tokens = (level.0 + level.1.elapsed().as_secs_f64() * self.rate).min(self.rate);
            *level = (
                tokens - if tokens >= 1.0 { 1.0 } else { 0.0 },
                Instant::now(),
            );
            tokens >= 1.0
        };
        sleep(Duration::from_millis(30)).await;
        admitted
    }
}

/// The number of calls for the article's grant.
const CALLS: usize = 11;

/// Makes one call. As long as it is throttled, it is sent again within its timeout, as
/// `aws::interceptor` makes the SDK do.
async fn call(bucket: &Bucket, service: &Service) -> bool {
    let begun = Instant::now();
    for attempt in 0..4_u32 {
        let longest = Duration::from_millis(7_500).saturating_sub(begun.elapsed());
        if bucket.turn(false, longest).await.is_err() {
            return false;
        }
        if service.call().await {
            return true;
        }
        bucket.throttled();
        sleep(Duration::from_secs(2_u64.pow(attempt)).mul_f64(fastrand::f64())).await;
    }
    false
}

/// Works for a grant until it is done, and returns how long that took.
async fn grant(
    slots: Slots,
    account: String,
    bucket: Arc<Bucket>,
    service: Arc<Service>,
) -> Duration {
    let begun = Instant::now();
    for failures in 1..30_u32 {
        let slot = slots.enter(&account, false).await;
        let mut done = 0;
        while done < CALLS && call(&bucket, &service).await {
            done += 1;
        }
        drop(slot);
        if done == CALLS {
            break;
        }
        let pause = Duration::from_secs(2_u64.pow(failures.min(8)));
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
    }
    begun.elapsed()
}

/// 300 new grants in four accounts that admit few calls a second.
#[rstest::rstest]
#[case(5.0)]
#[case(2.0)]
#[tokio::test(start_paused = true)]
async fn throttled_accounts_delay_no_other_account(#[case] rate: f64) {
    let (slots, buckets) = (Slots::new(4), Buckets::default());
    let services: BTreeMap<String, Arc<Service>> = (0..4)
        .map(|account| (account.to_string(), Service::new(rate)))
        .collect();
    let begin = |urgency, account: &str, service: &Arc<Service>| {
        let bucket = buckets.of(account, "iam");
        let grant = grant(slots.clone(), account.to_owned(), bucket, service.clone());
        tokio::spawn(rate_limit::with(work(urgency, "team"), grant))
    };
    let mut all = Vec::new();
    for number in 0..300 {
        let (account, service) = services.iter().nth(number % services.len()).unwrap();
        all.push(begin(Priority::Change, account, service));
    }
    sleep(Duration::from_secs(20)).await;
    let in_idle = begin(Priority::Change, "idle", &Service::new(1_000.0))
        .await
        .unwrap();
    assert!(
        in_idle < Duration::from_secs(2),
        "{in_idle:?}: a grant in an idle account"
    );
    let deleted = begin(Priority::Revocation, "0", &services["0"])
        .await
        .unwrap();
    assert!(
        deleted < Duration::from_secs(30),
        "{deleted:?}: a deletion in a throttled account"
    );
    for grant in all {
        grant.await.unwrap();
    }
    let calls: usize = services
        .values()
        .map(|service| service.calls.load(Ordering::Relaxed))
        .sum();
    let each = calls as f64 / 301.0;
    assert!(each < CALLS as f64 * 1.25, "{each} calls per grant");
}
