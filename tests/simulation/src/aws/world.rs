//! The world: all accounts, behind one lock.

use super::answer::ApiError;
use super::entities::{AccountSettings, Denied};
use super::faults::Faults;
use super::identity::{Caller, Ids, Unaccepted};
use super::observe::{Call, CallLog, Changed, Observer, Outcome, Record};
use super::request::{Arrived, Service};
use super::root::Root;
use super::state::{Change, State};
use super::throttle::{Rate, Throttles};
use super::{constraints, ecr, iam, regions, sts};
use jiff::{SignedDuration, Timestamp};
use registry_grants::clock::WallClock;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How a world behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// AWS's time of day.
    pub clock: WallClock,
    /// The seed of IDs and of the wording of documents.
    pub seed: u64,
    /// Whether documents come back with their lists in another order, and with lists of one as
    /// their element or the reverse. Each read chooses again.
    pub rewords: bool,
    /// The most items on a page of a list, whatever the caller asks for: AWS may send fewer.
    pub page: usize,
    /// Whether ECR refuses a principal of an account that has not enabled the repository's region,
    /// as was reported.
    pub principals_need_region: bool,
    /// How many calls the log keeps.
    pub log: usize,
}

impl Settings {
    /// Returns the settings of a world that does what AWS does on a good day.
    pub fn new(clock: WallClock) -> Self {
        Self {
            clock,
            seed: 0,
            rewords: false,
            page: 1000,
            principals_need_region: false,
            log: 10_000,
        }
    }
}

/// All accounts of AWS. Clones are the same world.
#[derive(Clone, Debug)]
pub struct World(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    core: Mutex<Core>,
    faults: Mutex<Option<Arc<dyn Faults>>>,
}

/// What the lock protects.
#[derive(Debug)]
pub(super) struct Core {
    pub state: State,
    pub settings: Settings,
    pub ids: Ids,
    pub wording: fastrand::Rng,
    observers: Vec<Arc<dyn Observer>>,
    throttles: Throttles,
    log: CallLog,
    calls: u64,
}

/// The body of an answer, and the ID of its request.
#[derive(Clone, Debug)]
pub(super) struct Answered {
    pub status: u16,
    pub body: String,
    pub request_id: String,
}

impl World {
    /// Creates a world without accounts.
    pub fn new(settings: Settings) -> Self {
        let core = Core {
            state: State::default(),
            ids: Ids::new(settings.seed),
            wording: fastrand::Rng::with_seed(settings.seed ^ 0x776f_7264),
            observers: Vec::new(),
            throttles: Throttles::default(),
            log: CallLog::new(settings.log),
            calls: 0,
            settings,
        };
        Self(Arc::new(Inner {
            core: Mutex::new(core),
            faults: Mutex::default(),
        }))
    }

    /// Adds an account in the partition `aws`, and returns its root.
    pub fn add_account(&self, id: &str) -> Root {
        self.add_account_in(id, "aws")
    }

    /// Adds an account in a partition, and returns its root.
    pub fn add_account_in(&self, id: &str, partition: &'static str) -> Root {
        self.core().state.add(id, partition);
        self.root(id)
    }

    /// Returns an account's root, for what a person does there.
    pub fn root(&self, account: &str) -> Root {
        Root::new(self.clone(), account)
    }

    /// Reads the state.
    pub fn read<R>(&self, read: impl FnOnce(&State) -> R) -> R {
        read(&self.core().state)
    }

    /// Returns AWS's time.
    pub fn now(&self) -> Timestamp {
        self.core().settings.clock.now()
    }

    /// Has everything that happens from now on observed.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.core().observers.push(observer);
    }

    /// Ends all observation. An observer that holds this world would keep it for ever.
    pub fn stop_observing(&self) {
        self.core().observers.clear();
    }

    /// Replaces the hook that decides what goes wrong; `None` if nothing does.
    pub fn set_faults(&self, faults: Option<Arc<dyn Faults>>) {
        *self.0.faults.lock().expect("no panic while held") = faults;
    }

    /// Limits the calls of an account to a service from now on; `None` removes the limit.
    pub fn throttle(&self, account: &str, service: Service, rate: Option<Rate>) {
        let mut core = self.core();
        let now = core.settings.clock.now();
        core.throttles.set(account, service, rate, now);
    }

    /// Returns the last calls, oldest first.
    pub fn calls(&self) -> Vec<Record> {
        self.core().log.records()
    }

    /// Returns how many calls arrived.
    pub fn call_count(&self) -> u64 {
        self.core().calls
    }

    /// Changes an account's settings.
    ///
    /// # Panics
    /// When the account does not exist.
    pub fn configure(&self, account: &str, change: impl FnOnce(&mut AccountSettings)) {
        let mut core = self.core();
        let mut settings = core
            .state
            .account(account)
            .map(|account| AccountSettings::clone(&account.settings))
            .unwrap_or_default();
        change(&mut settings);
        let change = Change::Settings {
            account: account.to_owned(),
            to: Arc::new(settings),
        };
        core.commit(None, &change);
    }

    /// Denies an action (`iam:CreateRole`, `ecr:*`, `*`) to all identities of an account.
    pub fn deny(&self, account: &str, action: &str, how: Denied) {
        self.configure(account, |settings| {
            settings.denied.push((action.to_owned(), how));
        });
    }

    /// Ends all denials of an account.
    pub fn allow_all(&self, account: &str) {
        self.configure(account, |settings| settings.denied.clear());
    }

    pub(super) fn core(&self) -> MutexGuard<'_, Core> {
        self.0.core.lock().expect("no panic while held")
    }

    pub(super) fn faults(&self) -> Option<Arc<dyn Faults>> {
        self.0.faults.lock().expect("no panic while held").clone()
    }
}

impl Core {
    /// Registers a call.
    pub fn arrive(&mut self, arrived: &Arrived) -> Call {
        let now = self.settings.clock.now();
        let token = arrived.token.as_deref();
        let caller = Caller::of(&self.state, &arrived.access_key, token, now).ok();
        self.calls += 1;
        Call {
            number: self.calls,
            time: now,
            service: arrived.service,
            region: arrived.region.clone(),
            operation: arrived.operation.clone(),
            account: caller
                .as_ref()
                .map(|caller| caller.account().to_owned())
                .unwrap_or_default(),
            caller: caller
                .map(|caller| caller.arn().to_owned())
                .unwrap_or_default(),
            access_key: arrived.access_key.clone(),
            parameters: arrived.parameters.clone(),
        }
    }

    /// Carries a call out.
    pub fn carry_out(
        &mut self,
        call: &Call,
        token: Option<&str>,
        lag: Duration,
    ) -> (Answered, Outcome) {
        let request_id = self.ids.request();
        let result = self
            .caller(call, token)
            .and_then(|caller| self.perform(call, &caller, lag, &request_id));
        let (status, body, outcome) = match result {
            Ok(body) => (200, body, Outcome::Done),
            Err(error) => {
                let body = error.body(call.service, &request_id);
                (error.status, body, Outcome::Refused(error))
            }
        };
        self.decided(call, outcome.clone());
        let answered = Answered {
            status,
            body,
            request_id,
        };
        (answered, outcome)
    }

    /// Answers a call with an error without carrying it out.
    pub fn refuse(&mut self, call: &Call, error: ApiError) -> (Answered, Outcome) {
        let request_id = self.ids.request();
        let answered = Answered {
            status: error.status,
            body: error.body(call.service, &request_id),
            request_id,
        };
        let outcome = Outcome::Refused(error);
        self.decided(call, outcome.clone());
        (answered, outcome)
    }

    /// Records the outcome of a call.
    pub fn decided(&mut self, call: &Call, outcome: Outcome) {
        let record = Record {
            call: call.clone(),
            decided: self.settings.clock.now(),
            outcome,
        };
        for observer in &self.observers {
            observer.called(&self.state, &record);
        }
        self.log.push(record);
    }

    fn caller(&mut self, call: &Call, token: Option<&str>) -> Result<Caller, ApiError> {
        let service = call.service;
        let now = self.settings.clock.now();
        let caller = Caller::of(&self.state, &call.access_key, token, now)
            .map_err(|unaccepted| unaccepted.error(service))?;
        if !self.throttles.admit(caller.account(), service, now) {
            return Err(ApiError::throttled(service));
        }
        let account = self.state.account(caller.account());
        let region = regions::named(&call.region);
        let has_region = account.zip(region).is_some_and(|(account, region)| {
            // IAM is one for all regions of a partition.
            account.has_enabled(region)
                || (service == Service::Iam && account.partition == region.partition)
        });
        if !has_region {
            return Err(Unaccepted::Unknown.error(service));
        }
        Ok(caller)
    }

    fn perform(
        &mut self,
        call: &Call,
        caller: &Caller,
        lag: Duration,
        request_id: &str,
    ) -> Result<String, ApiError> {
        constraints::check(call.service, &call.operation, &call.parameters)?;
        let now = self.settings.clock.now();
        let lag = SignedDuration::try_from(lag).unwrap_or(SignedDuration::MAX);
        let mut run = Run {
            seen: now.checked_sub(lag).unwrap_or(Timestamp::MIN),
            account: caller.account().to_owned(),
            core: self,
            call,
            by_test: false,
            now,
        };
        match call.service {
            Service::Iam => {
                run.check_permission(caller)?;
                let answer = iam::perform(&mut run)?;
                Ok(answer.answer(Service::Iam, &call.operation, request_id))
            }
            Service::Sts => {
                let answer = sts::perform(&mut run, caller)?;
                Ok(answer.answer(Service::Sts, &call.operation, request_id))
            }
            Service::Ecr => ecr::perform(&mut run, caller).map(|answer| answer.to_string()),
        }
    }

    /// Carries out what a test does directly, as an account's root.
    pub fn by_root(&mut self, call: &Call) -> Result<(), ApiError> {
        constraints::check(call.service, &call.operation, &call.parameters)?;
        let caller = Caller::Root {
            account: call.account.clone(),
            arn: call.caller.clone(),
        };
        let now = self.settings.clock.now();
        let mut run = Run {
            seen: now,
            account: call.account.clone(),
            core: self,
            call,
            by_test: true,
            now,
        };
        match call.service {
            Service::Iam => iam::perform(&mut run).map(drop),
            Service::Sts => sts::perform(&mut run, &caller).map(drop),
            Service::Ecr => ecr::perform(&mut run, &caller).map(drop),
        }
    }

    /// Changes the state. The observers see it before and after.
    pub fn commit(&mut self, by: Option<&Call>, change: &Change) {
        let changed = Changed {
            time: self.settings.clock.now(),
            by,
            change,
        };
        for observer in &self.observers {
            observer.before_change(&self.state, &changed);
        }
        self.state.apply(change, changed.time);
        for observer in &self.observers {
            observer.after_change(&self.state, &changed);
        }
    }
}

/// A call while it is carried out.
pub(super) struct Run<'a> {
    pub core: &'a mut Core,
    pub call: &'a Call,
    /// The account in which the call works.
    pub account: String,
    /// Whether a test makes the call directly.
    pub by_test: bool,
    pub now: Timestamp,
    /// The time of the state that the call sees.
    pub seen: Timestamp,
}

impl Run<'_> {
    pub fn commit(&mut self, change: &Change) {
        let by = (!self.by_test).then_some(self.call);
        self.core.commit(by, change);
    }

    /// Returns a text that [`constraints`] has found to be there.
    pub fn text(&self, name: &str) -> &str {
        self.call.parameters.text(name).unwrap_or_default()
    }

    fn check_permission(&self, caller: &Caller) -> Result<(), ApiError> {
        let Caller::Session(..) = caller else {
            return Ok(());
        };
        let action = self.call.action();
        let settings = self
            .core
            .state
            .account(caller.account())
            .map(|account| &account.settings);
        match settings.and_then(|settings| settings.denial(&action)) {
            None => Ok(()),
            Some(denied) => Err(iam::denied(self, caller, &action, denied)),
        }
    }
}
