//! Terms, permits, and the election with a simulated Lease, in virtual time.

use super::*;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio::time::sleep;

const BOUND: Duration = Duration::from_secs(10);
const LEASE: Duration = Duration::from_secs(30);

/// An API server with one Lease.
#[derive(Clone, Default)]
struct Server(Arc<Simulated>);

#[derive(Default)]
struct Simulated {
    lease: Mutex<Option<Lease>>,
    version: AtomicUsize,
    refuses: AtomicBool,
    silent: AtomicBool,
}

impl Server {
    async fn answers(&self) -> Result<(), Error> {
        if self.0.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match self.0.refuses.load(Ordering::SeqCst) {
            true => Err(Error::Service("connection refused".into())),
            false => Ok(()),
        }
    }

    fn store(&self, lease: &Lease) -> Lease {
        let mut lease = lease.clone();
        lease.metadata.resource_version =
            Some(self.0.version.fetch_add(1, Ordering::SeqCst).to_string());
        *self.0.lease.lock().unwrap() = Some(lease.clone());
        lease
    }

    fn holder(&self) -> Option<String> {
        self.0
            .lease
            .lock()
            .unwrap()
            .as_ref()?
            .spec
            .as_ref()?
            .holder_identity
            .clone()
    }
}

impl Leases for Server {
    async fn read(&self) -> Result<Option<Lease>, Error> {
        self.answers().await?;
        Ok(self.0.lease.lock().unwrap().clone())
    }

    async fn create(&self, lease: &Lease) -> Result<Lease, Error> {
        self.answers().await?;
        Ok(self.store(lease))
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, Error> {
        self.answers().await?;
        let stored = self
            .0
            .lease
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|lease| lease.metadata.resource_version.clone());
        if stored != lease.metadata.resource_version {
            return Err(Error::Service("the Lease was changed".into()));
        }
        Ok(self.store(lease))
    }
}

/// A replica, and the terms in which it has led.
struct Replica {
    telemetry: Telemetry,
    stop: Arc<Notify>,
    terms: Arc<Mutex<Vec<Arc<Leadership>>>>,
    running: Arc<AtomicUsize>,
    ended: tokio::task::JoinHandle<()>,
}

/// Guard that counts running work.
struct Runs(Arc<AtomicUsize>);

impl Drop for Runs {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Replica {
    /// Starts a replica whose work never ends by itself, and whose writes take this long.
    fn start(server: &Server, name: &str, write: Duration) -> Self {
        let telemetry = Telemetry::default();
        let stop = Arc::new(Notify::new());
        let (terms, running) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::<AtomicUsize>::default(),
        );
        let pulse = telemetry.liveness.pulse("the election", LEASE * 3);
        let election = Election::new(
            server.clone(),
            name.into(),
            LEASE,
            pulse,
            crate::clock::WallClock::system(),
        );
        let stopped: Stop = {
            let stop = stop.clone();
            async move { stop.notified().await }.boxed().shared()
        };
        let (all, runs, told) = (terms.clone(), running.clone(), telemetry.clone());
        let ended = tokio::spawn(async move {
            let work = |leadership: Arc<Leadership>| {
                runs.fetch_add(1, Ordering::SeqCst);
                all.lock().unwrap().push(leadership.clone());
                let (runs, readiness) = (Runs(runs.clone()), told.readiness.clone());
                async move {
                    let _runs = runs;
                    readiness.set(Stage::Leads);
                    loop {
                        match leadership.write_permit() {
                            Ok(permit) => permit.carry(sleep(write)).await,
                            Err(_) => sleep(Duration::from_secs(1)).await,
                        }
                    }
                }
            };
            take_part(election, BOUND, &told, stopped, work)
                .await
                .unwrap();
        });
        Self {
            telemetry,
            stop,
            terms,
            running,
            ended,
        }
    }

    fn terms(&self) -> Vec<Arc<Leadership>> {
        self.terms.lock().unwrap().clone()
    }

    fn ready(&self) -> (u16, String) {
        let (status, text) = self.telemetry.readiness.status();
        (status.as_u16(), text)
    }
}

#[tokio::test(start_paused = true)]
async fn no_write_begins_that_could_outlive_the_lease() {
    let leadership = Leadership::none(BOUND);
    assert!(leadership.write_permit().is_err());
    leadership.extend(Instant::now() + Duration::from_secs(9));
    assert!(leadership.write_permit().is_err());
    leadership.extend(Instant::now() + Duration::from_secs(60));
    let permit = leadership.write_permit().unwrap();
    assert_eq!(
        permit.deadline(),
        Instant::now() + BOUND,
        "one bound for all writes"
    );
    assert!(Leadership::always(BOUND).write_permit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn ended_term_permits_no_writes() {
    let leadership = Leadership::always(BOUND);
    leadership.end();
    leadership.extend(Instant::now() + LEASE * 100);
    assert!(leadership.write_permit().is_err());
}

#[tokio::test(start_paused = true)]
async fn write_counts_until_it_ends_or_is_abandoned() {
    let leadership = Arc::new(Leadership::always(BOUND));
    let permit = leadership.write_permit().unwrap();
    assert!(leadership.idle().now_or_never().is_none());
    let write = tokio::spawn(permit.carry(sleep(Duration::from_secs(3))));
    tokio::task::yield_now().await;
    write.abort();
    let _ = write.await;
    assert!(leadership.idle().now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn outage_longer_than_the_lease_ends_only_the_term() {
    let server = Server::default();
    let replica = Replica::start(&server, "one", Duration::from_secs(2));
    sleep(Duration::from_secs(60)).await;
    assert_eq!((replica.terms().len(), replica.ready().0), (1, 200));
    server.0.refuses.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(10)).await;
    let (status, text) = replica.ready();
    assert!(
        status == 503 && text.contains("leading") && text.contains("cannot be reached"),
        "{text}"
    );
    sleep(Duration::from_secs(110)).await;
    let first = replica.terms().remove(0);
    assert!(first.write_permit().is_err());
    assert_eq!(
        replica.running.load(Ordering::SeqCst),
        0,
        "the work of the old term continues"
    );
    let (status, text) = replica.ready();
    assert!(status == 503 && text.contains("standing by"), "{text}");

    server.0.refuses.store(false, Ordering::SeqCst);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(
        replica.terms().len(),
        2,
        "it leads again within a third of the Lease"
    );
    assert!(first.write_permit().is_err(), "the old term writes again");
    assert!(replica.terms()[1].write_permit().is_ok());
    assert_eq!(
        (replica.running.load(Ordering::SeqCst), replica.ready().0),
        (1, 200)
    );
    assert!(!replica.ended.is_finished());
}

#[tokio::test(start_paused = true)]
async fn leader_that_lost_its_lease_stands_by_and_leads_again() {
    let server = Server::default();
    let first = Replica::start(&server, "one", Duration::from_secs(2));
    sleep(Duration::from_secs(20)).await;
    let second = Replica::start(&server, "two", Duration::from_secs(2));
    sleep(Duration::from_secs(20)).await;
    assert_eq!(
        second.ready(),
        (200, "ready: standing by, another replica leads\n".into())
    );
    // The holder is replaced, as after a pause that was longer than its Lease.
    let mut lease = server.0.lease.lock().unwrap().clone().unwrap();
    lease.spec.as_mut().unwrap().holder_identity = Some("two".into());
    server.store(&lease);
    sleep(Duration::from_secs(20)).await;
    assert!(first.terms()[0].write_permit().is_err());
    assert_eq!(second.terms().len(), 1);
    second.stop.notify_one();
    sleep(Duration::from_secs(30)).await;
    assert!(second.ended.is_finished());
    assert_eq!(first.terms().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn stopped_leader_finishes_its_write_and_releases_the_lease() {
    for silent in [false, true] {
        let server = Server::default();
        let replica = Replica::start(&server, "one", Duration::from_secs(9));
        sleep(Duration::from_secs(12)).await;
        let leadership = replica.terms().remove(0);
        server.0.silent.store(silent, Ordering::SeqCst);
        let told = Instant::now();
        replica.stop.notify_one();
        sleep(Duration::from_secs(1)).await;
        assert!(leadership.write_permit().is_err(), "another step is begun");
        assert!(
            leadership.idle().now_or_never().is_none(),
            "the write that had begun is given up"
        );
        replica.ended.await.unwrap();
        assert!(
            told.elapsed() <= BOUND + Duration::from_secs(5),
            "{:?}",
            told.elapsed()
        );
        assert_eq!(server.holder().is_none(), !silent, "the Lease is returned");
    }
}

#[tokio::test(start_paused = true)]
async fn write_that_hangs_delays_the_stop_only_to_its_limit() {
    let leadership = Leadership::always(BOUND);
    let stop: Stop = std::future::ready(()).boxed().shared();
    let begun = Instant::now();
    let stuck = async {
        let permit = leadership.write_permit().unwrap();
        permit.carry(std::future::pending::<()>()).await;
    };
    let never = std::future::pending::<()>();
    // Polled once before the stop is noticed, whatever the order.
    let mut stuck = std::pin::pin!(stuck);
    let _ = futures::poll!(&mut stuck);
    assert!(until_over(&leadership, stuck, &stop, never).await.is_none());
    assert_eq!(begun.elapsed(), BOUND);
}

#[tokio::test(start_paused = true)]
async fn standby_reports_an_unreachable_api_server() {
    let server = Server::default();
    server.0.silent.store(true, Ordering::SeqCst);
    let replica = Replica::start(&server, "one", BOUND);
    sleep(Duration::from_secs(7)).await;
    let (status, text) = replica.ready();
    assert!(status == 503 && text.contains("did not answer"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_at_the_stop_signal_is_not_awaited() {
    // It is a matter of chance which of the two is seen first.
    for _ in 0..50 {
        let stop: Stop = std::future::ready(()).boxed().shared();
        let never = std::future::pending::<()>();
        let begun = Instant::now();
        let leadership = Leadership::always(BOUND);
        assert!(
            until_over(&leadership, stop.clone(), &stop, never)
                .await
                .is_none()
        );
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    }
}
