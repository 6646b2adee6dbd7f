//! Runs one seed: the operator, the operations and the faults, on virtual time.

use crate::api_server::{Key, Kind};
use crate::chaos::Chaos;
use crate::entropy;
use crate::environment::Environment;
use crate::oracle::{Invariant, Oracle, Violation};
use crate::replica::{Replica, Start};
use crate::scenario::{
    CONSUMERS, GrantSpec, NAMESPACES, Operation, PERIOD, REGION, REGISTRY, REPOSITORIES, ROLES,
    Scenario,
};
use registry_grants::api::sweep::SweepMode;
use registry_grants::controller::Settings;
use registry_grants::controller::sweep::SweepSettings;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How long the operator may take to converge after the last fault. The longest pause between two
/// attempts is an hour.
const CONVERGENCE: Duration = Duration::from_secs(3 * 3600);

/// The annotation by which an admin confirms a sweep.
const CONFIRM: &str = "registrygrants.dev/confirm-sweep";

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The broken rules.
    pub violations: Vec<Violation>,
    /// The grants at the end.
    pub grants: Vec<Value>,
    /// Each operation, call and request, in the order of their time.
    pub trace: Vec<String>,
    /// How often each kind of fault was caused.
    pub faults: BTreeMap<String, u64>,
    /// How long the operator took to converge, in virtual seconds.
    pub converged_after: u64,
}

/// Runs a seed.
pub fn run(seed: u64) -> Report {
    run_scenario(seed, Scenario::of(seed))
}

/// Runs a scenario with the faults of a seed.
///
/// # Panics
/// When the simulation itself is wrong.
pub fn run_scenario(seed: u64, scenario: Scenario) -> Report {
    entropy::on_virtual_time(seed, async || {
        Run::new(seed, scenario).until_the_end().await
    })
}

struct Run {
    seed: u64,
    scenario: Scenario,
    environment: Environment,
    oracle: Oracle,
    chaos: Chaos,
    replicas: Vec<Replica>,
    /// The number of replicas that were started, for their names.
    started: u64,
    begun: Instant,
    operations: Vec<String>,
}

impl Run {
    fn new(seed: u64, scenario: Scenario) -> Self {
        let environment = Environment::new(seed);
        prepare(&environment);
        let chaos = Chaos::new(seed, scenario.rates);
        environment
            .aws
            .set_faults(Some(std::sync::Arc::new(chaos.clone())));
        environment.api_server.set_faults(chaos.clone());
        Self {
            seed,
            scenario,
            oracle: Oracle::watching(&environment.aws, &environment.api_server),
            environment,
            chaos,
            replicas: Vec::new(),
            started: 0,
            begun: Instant::now(),
            operations: Vec::new(),
        }
    }

    async fn until_the_end(mut self) -> Report {
        for _ in 0..self.scenario.replicas {
            self.start_replica();
        }
        for (at, operation) in std::mem::take(&mut self.scenario.operations) {
            sleep_until(self.begun + at).await;
            self.operations
                .push(format!("{} {operation}", self.environment.clock.now()));
            self.perform(operation).await;
            self.replace_ended();
        }
        sleep_until(self.begun + PERIOD).await;
        self.chaos.stop();
        self.replicas.iter().for_each(Replica::thaw);
        let calm = Instant::now();
        self.converge(calm).await;
        self.report(calm)
    }

    /// Waits until nothing differs from what the grants ask for, or for too long.
    async fn converge(&mut self, calm: Instant) {
        let mut differences = Vec::new();
        while calm.elapsed() < CONVERGENCE {
            self.replace_ended();
            self.confirm_sweep();
            differences = self.oracle.differences();
            if differences.is_empty() {
                return;
            }
            sleep(Duration::from_secs(20)).await;
        }
        for difference in differences {
            self.oracle.report(Invariant::NotConverged, difference);
        }
    }

    /// Does what the operations guide asks an admin to do: confirms the removal of orphans.
    fn confirm_sweep(&self) {
        let api = &self.environment.api_server;
        for account in api.list(Kind::Account) {
            let name = account["metadata"]["name"].as_str().unwrap_or_default();
            let annotated = &account["metadata"]["annotations"][CONFIRM];
            match account["status"]["sweep"]["confirm"].as_str() {
                Some(confirm) if annotated != confirm => {
                    let key = Key::new(Kind::Account, "", name);
                    drop(api.annotate(&key, CONFIRM, Some(confirm)));
                }
                Some(_) | None => {}
            }
        }
    }

    fn report(self, calm: Instant) -> Report {
        self.environment.aws.stop_observing();
        self.environment.api_server.stop_observing();
        let mut trace = self.operations;
        trace.extend(self.environment.aws.calls().iter().map(ToString::to_string));
        let requests = self.environment.api_server.take_log();
        trace.extend(requests.iter().map(ToString::to_string));
        trace.sort_by_key(|line| line.split(' ').next().map(String::from));
        Report {
            seed: self.seed,
            violations: self.oracle.violations(),
            grants: self.environment.api_server.list(Kind::Grant),
            trace,
            faults: self.chaos.caused(),
            converged_after: calm.elapsed().as_secs(),
        }
    }

    fn start_replica(&mut self) {
        self.started += 1;
        let environment = &self.environment;
        self.replicas.push(Replica::start(Start {
            pod: format!("pod-{}", self.started),
            settings: settings(),
            api_server: environment.api_server.clone(),
            aws: environment.aws.clone(),
            credentials: environment.credentials.clone(),
            clock: environment.clock.clone(),
            seed: self.seed.wrapping_mul(1000) + self.started,
        }));
    }

    /// Does what a Deployment does: starts a replica for each that has ended.
    fn replace_ended(&mut self) {
        self.replicas.retain(|replica| !replica.has_ended());
        while self.replicas.len() < self.scenario.replicas {
            self.start_replica();
        }
    }

    async fn perform(&mut self, operation: Operation) {
        let api = &self.environment.api_server;
        let registry = self.environment.aws.root(REGISTRY);
        // What an operation is about may be gone. Then nobody can do it.
        match operation {
            Operation::Apply(spec) => self.apply(&spec),
            Operation::Delete(number) => drop(api.delete(&key(number))),
            Operation::ForceDelete(number) => {
                drop(api.remove_finalizers(&key(number)));
                drop(api.delete(&key(number)));
            }
            Operation::Suspend(number, suspend) => {
                drop(api.edit(&key(number), |grant| {
                    grant["spec"]["suspend"] = json!(suspend)
                }));
            }
            Operation::Allow(all) => self.allow(all),
            Operation::WriteForeign(number, add) => self.write_foreign(number, add),
            Operation::ReplacePolicy(number) => {
                let text = json!({"Version": "2012-10-17", "Statement": [foreign_statement()]});
                let repository = REPOSITORIES[number];
                drop(registry.set_repository_policy(REGION, repository, &text.to_string()));
            }
            Operation::RecreateRole(consumer, role) => {
                let root = self.environment.aws.root(CONSUMERS[consumer]);
                drop(root.delete_role(ROLES[role]));
                drop(root.create_role(ROLES[role], &ec2_trust()));
            }
            Operation::Crash(number) => {
                if number < self.replicas.len() {
                    drop(self.replicas.remove(number));
                }
            }
            Operation::Restart(number) => {
                if let Some(replica) = self.replicas.get_mut(number) {
                    replica.stop();
                }
            }
            Operation::Freeze(number, duration) => {
                if let Some(replica) = self.replicas.get(number) {
                    replica.freeze();
                    replica.thaw_after(duration);
                }
            }
            Operation::ExpireWatches => {
                api.compact(api.revision());
                api.break_watches();
            }
        }
    }

    fn apply(&self, spec: &GrantSpec) {
        let api = &self.environment.api_server;
        let key = key(spec.number);
        let body = grant_spec(spec);
        if api.get(&key).is_some() {
            drop(api.edit(&key, |grant| grant["spec"] = body));
        } else {
            let metadata = json!({"name": key.name, "namespace": key.namespace});
            api.create(Kind::Grant, json!({"metadata": metadata, "spec": body}))
                .expect("the API server admits the grant");
        }
    }

    fn allow(&self, all: bool) {
        let consumers = if all { &CONSUMERS[..] } else { &CONSUMERS[..1] };
        let account = Key::new(Kind::Account, "", REGISTRY);
        let edited = self.environment.api_server.edit(&account, |account| {
            account["spec"]["registry"]["rules"][0]["consumers"] = json!(consumers);
        });
        edited.expect("the API server admits the account");
    }

    /// Adds a foreign statement, or removes it, and keeps all others, as a careful tool does.
    fn write_foreign(&self, number: usize, add: bool) {
        let aws = &self.environment.aws;
        let repository = REPOSITORIES[number];
        let mut statements = aws.read(|state| {
            let found = state.repository(REGISTRY, REGION, repository);
            let policy = found.and_then(|repository| repository.policy.as_ref());
            policy
                .map(|policy| crate::oracle::documents::statements(policy, &|id| state.arn_of(id)))
                .unwrap_or_default()
        });
        statements.retain(|statement| statement["Sid"] != foreign_statement()["Sid"]);
        if add {
            statements.push(foreign_statement());
        }
        let root = aws.root(REGISTRY);
        if statements.is_empty() {
            let parameters = json!({"repositoryName": repository});
            drop(root.ecr(REGION, "DeleteRepositoryPolicy", parameters));
            return;
        }
        let text = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        // ECR refuses it if a statement names a principal that is gone.
        drop(root.set_repository_policy(REGION, repository, &text));
    }
}

fn settings() -> Settings {
    Settings {
        resync_interval: Duration::from_secs(120),
        installation: None,
        concurrency: 4,
        call_timeout: Duration::from_secs(10),
        lease_duration: Some(Duration::from_secs(30)),
        pod_name: None,
        sweep: Some(SweepSettings {
            mode: SweepMode::Remove,
            interval: Duration::from_secs(600),
            unclaimed_for: Duration::from_secs(60),
        }),
    }
}

/// Creates the accounts, their roles and rules, the repositories and the namespaces.
fn prepare(environment: &Environment) {
    let registry = environment.add_account(REGISTRY);
    for repository in REPOSITORIES {
        registry
            .create_repository(REGION, repository)
            .expect("ECR creates the repository");
    }
    environment.open_account(
        REGISTRY,
        json!({"registry": {"rules": [{
            "namespaces": {"names": NAMESPACES}, "repositories": ["*"],
            "maxAccess": "PullPush", "consumers": CONSUMERS,
        }]}}),
    );
    for consumer in CONSUMERS {
        let root = environment.add_account(consumer);
        for role in ROLES {
            root.create_role(role, &ec2_trust())
                .expect("IAM creates the role");
        }
    }
    for namespace in NAMESPACES {
        environment
            .api_server
            .create_namespace(namespace, &json!({}))
            .expect("the API server admits the namespace");
    }
}

fn key(number: usize) -> Key {
    Key::new(
        Kind::Grant,
        GrantSpec::namespace(number),
        &format!("grant-{number}"),
    )
}

fn grant_spec(spec: &GrantSpec) -> Value {
    let repositories: Vec<&str> = REPOSITORIES
        .into_iter()
        .enumerate()
        .filter(|(at, _)| spec.repositories & (1 << at) != 0)
        .map(|(_, name)| name)
        .collect();
    let mut consumer = json!({"accountID": GrantSpec::consumer(spec.number)});
    match spec.role {
        Some(role) => consumer["roles"] = json!([ROLES[role]]),
        None => consumer["wholeAccount"] = json!(true),
    }
    json!({
        "access": if spec.push { "PullPush" } else { "Pull" },
        "paths": ["Direct"],
        "registry": {
            "accountID": REGISTRY, "regions": [REGION], "repositories": repositories,
        },
        "consumer": consumer,
    })
}

fn foreign_statement() -> Value {
    json!({
        "Sid": "SomebodyElse", "Effect": "Allow", "Action": "ecr:BatchGetImage",
        "Principal": {"AWS": format!("arn:aws:iam::{}:root", CONSUMERS[1])},
    })
}

fn ec2_trust() -> String {
    json!({"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"Service": "ec2.amazonaws.com"},
    }]})
    .to_string()
}
