//! A stack with the chart installed, and the operator as the chart's ServiceAccount.

use crate::accounts::Pair;
use crate::cluster::Cluster;
use crate::emulation::Emulation;
use crate::management::{operator_identity, prepare};
use crate::operator::{Operator, OperatorSettings};
use crate::stack::Stack;
use crate::wait::eventually;
use anyhow::{Result, anyhow, ensure};
use aws_credential_types::Credentials;
use serde_json::json;
use std::cell::RefCell;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

/// The Helm release; the operator's ServiceAccount has the same name.
pub const HELM_RELEASE: &str = "registry-grants";
/// The namespace that the chart is installed into.
pub const OPERATOR_NAMESPACE: &str = "registry-grants";

/// The operator is the authority: what it refuses must reach it, and not be stopped at admission.
const THE_OPERATOR_ALONE: [&str; 1] = ["admissionPolicies.enabled=false"];

/// A stack that is ready for operators: the chart is installed (with no Pod: there is no node), the
/// operator's own role exists.
#[derive(Debug)]
pub struct Installation {
    /// What it stands on.
    pub stack: Stack,
    /// The stack's cluster.
    pub cluster: Cluster,
    credentials: Credentials,
    kubeconfig: PathBuf,
    /// Where operators log.
    log: PathBuf,
}

/// How many tests work at a time on what they share. More of them would wait for the machine, and
/// for nothing else.
const SHARED: usize = 10;

thread_local! {
    /// Each test has a thread of its own, so this is a test's turn, and ends with it.
    static TURN: RefCell<Option<SemaphorePermit<'static>>> = const { RefCell::new(None) };
}

/// Waits until this test may work beside the others on what they share; once for each test, however
/// often it asks.
async fn turn() -> Result<()> {
    static TURNS: Semaphore = Semaphore::const_new(SHARED);
    if TURN.with_borrow(Option::is_none) {
        let turn = TURNS.acquire().await?;
        TURN.set(Some(turn));
    }
    Ok(())
}

/// How many tests have an installation for themselves at a time. Each is an API server and an
/// emulation more, and a machine with two cores has to carry them beside the shared one.
const EXCLUSIVE: usize = 4;

/// An installation that a test has for itself, without operator, grants or accounts. Another test
/// gets it afterwards: to start one takes more CPU than most tests do.
#[derive(Debug)]
pub struct Exclusive {
    installation: Option<Installation>,
    _permit: SemaphorePermit<'static>,
}

static FREE: Mutex<Vec<Installation>> = Mutex::new(Vec::new());

impl Deref for Exclusive {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        self.installation
            .as_ref()
            .expect("taken out only when it is dropped")
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let (Some(installation), Ok(mut free)) = (self.installation.take(), FREE.lock()) {
            free.push(installation);
        }
    }
}

impl Installation {
    /// With a stack of its own, for a test that needs a cluster as no other leaves it, or has it
    /// for longer than a test.
    ///
    /// # Errors
    /// When the stack does not start, or the chart cannot be installed.
    pub async fn start(name: &str) -> Result<Self> {
        Self::on(Stack::start(name)?).await
    }

    /// One for this test alone, as the operator's tests need that end the operator or give it
    /// arguments of their own. Waits while too many other tests have one.
    ///
    /// # Errors
    /// When the stack does not start, or what the test before has left there does not go away.
    pub async fn exclusive() -> Result<Exclusive> {
        static PERMITS: Semaphore = Semaphore::const_new(EXCLUSIVE);
        let permit = PERMITS.acquire().await?;
        let free = FREE
            .lock()
            .map_err(|_| anyhow!("a test panicked while it took an installation"))?
            .pop();
        let installation = match free {
            Some(installation) => installation.cleared().await?,
            None => Self::start("exclusive").await?,
        };
        Ok(Exclusive {
            installation: Some(installation),
            _permit: permit,
        })
    }

    /// Two of them: two clusters. Waits for both at once, for two tests that have one each would
    /// wait for ever.
    ///
    /// # Errors
    /// As for [`Self::exclusive`].
    pub async fn exclusive_pair() -> Result<(Exclusive, Exclusive)> {
        static ONE_TEST: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _alone = ONE_TEST.lock().await;
        Ok((Self::exclusive().await?, Self::exclusive().await?))
    }

    /// Without what a test has left behind: no grants, accounts, Lease or held calls, and a new
    /// log. What is in AWS stays, for each test has accounts of its own.
    async fn cleared(mut self) -> Result<Self> {
        Emulation::of(&self.stack).reset().await?;
        let cluster = &self.cluster;
        for kind in ["carg", "awsaccount"] {
            eventually("what another test left is gone", async || {
                let all = cluster.list("", kind).await?;
                for object in &all {
                    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
                    let (namespace, object) =
                        (text("namespace"), format!("{kind}/{}", text("name")));
                    // It may be gone in between.
                    drop(
                        cluster
                            .merge(
                                namespace,
                                &object,
                                json!({"metadata": {"finalizers": null}}),
                            )
                            .await,
                    );
                    drop(cluster.begin_to_delete(namespace, &object).await);
                }
                ensure!(all.is_empty(), "{} of kind {kind}", all.len());
                Ok(())
            })
            .await?;
        }
        drop(
            cluster
                .begin_to_delete(OPERATOR_NAMESPACE, &format!("lease/{HELM_RELEASE}"))
                .await,
        );
        self.log = (1..)
            .map(|number| self.stack.info.logs.join(format!("operator-{number}.log")))
            .find(|log| !log.exists())
            .expect("a name for every number");
        Ok(self)
    }

    /// The same as the chart comes, with its admission policies.
    ///
    /// # Errors
    /// When the stack does not start, or the chart cannot be installed.
    pub async fn start_with_policies(name: &str) -> Result<Self> {
        let stack = Stack::start(name)?;
        let credentials = operator_identity(&stack).await?;
        Self::with(stack, credentials, &[]).await
    }

    /// On this stack.
    ///
    /// # Errors
    /// When the chart cannot be installed.
    pub async fn on(stack: Stack) -> Result<Self> {
        let credentials = operator_identity(&stack).await?;
        Self::with(stack, credentials, &THE_OPERATOR_ALONE).await
    }

    /// Another installation, in a cluster of its own, that works on this one's AWS, as the same
    /// operator's role: two clusters of one company. This one must outlive it.
    ///
    /// # Errors
    /// When the stack does not start, or the chart cannot be installed.
    pub async fn beside(&self, name: &str) -> Result<Self> {
        Self::with(
            Stack::start(name)?.with_aws_of(&self.stack),
            self.credentials.clone(),
            &THE_OPERATOR_ALONE,
        )
        .await
    }

    async fn with(stack: Stack, credentials: Credentials, values: &[&str]) -> Result<Self> {
        let cluster = Cluster::of(&stack);
        install_chart(&cluster, values).await?;
        let kubeconfig = stack.folder().join("operator.kubeconfig");
        cluster
            .kubeconfig_of(OPERATOR_NAMESPACE, HELM_RELEASE, &kubeconfig)
            .await?;
        let log = stack.info.logs.join("operator.log");
        Ok(Self {
            stack,
            cluster,
            credentials,
            kubeconfig,
            log,
        })
    }

    /// The one that all tests of a process share, with an operator (`binary`, with these arguments)
    /// that runs until the process ends. The first test that asks for it starts it. Waits while
    /// many other tests work there.
    ///
    /// # Errors
    /// When it does not start; the same again for whoever asks later.
    pub async fn shared(binary: impl AsRef<Path>, arguments: &[&str]) -> Result<&'static Self> {
        type Shared = std::result::Result<(Installation, Operator), String>;
        static STARTED: OnceCell<Shared> = OnceCell::const_new();
        let start = async || {
            let installation = Self::start("shared").await?;
            let operator = installation.start_operator(binary, arguments).await?;
            anyhow::Ok((installation, operator))
        };
        turn().await?;
        let shared = STARTED
            .get_or_init(async || start().await.map_err(|error| format!("{error:#}")))
            .await;
        shared
            .as_ref()
            .map(|(installation, _)| installation)
            .map_err(|error| anyhow!("{error}"))
    }

    /// Starts the operator, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_operator(
        &self,
        binary: impl AsRef<Path>,
        arguments: &[&str],
    ) -> Result<Operator> {
        let mut operator = Operator::start(&self.operator_settings(binary, arguments))?;
        operator.ready().await?;
        Ok(operator)
    }

    /// How an operator runs here.
    pub fn operator_settings(
        &self,
        binary: impl AsRef<Path>,
        arguments: &[&str],
    ) -> OperatorSettings {
        OperatorSettings {
            binary: binary.as_ref().to_owned(),
            kubeconfig: self.kubeconfig.clone(),
            ca: self.stack.info.ca.clone(),
            aws_endpoint: self.stack.info.aws_endpoint.clone(),
            credentials: self.credentials.clone(),
            arguments: arguments
                .iter()
                .map(|argument| (*argument).to_owned())
                .collect(),
            log: self.log.clone(),
        }
    }

    /// Where its operators log.
    pub fn operator_log(&self) -> &Path {
        &self.log
    }

    /// Two accounts that nobody else has, with their management roles.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn fresh_pair(&self) -> Result<Pair> {
        let pair = Pair::fresh();
        prepare(&self.stack, &pair).await?;
        Ok(pair)
    }
}

/// `helm install` of the chart in `charts/`, without a Pod, with these values (`key=value`) and
/// otherwise as it stands.
///
/// # Errors
/// When Helm reports failure.
pub async fn install_chart(cluster: &Cluster, values: &[&str]) -> Result<()> {
    let chart = crate::repository_root().join("charts/registry-grants");
    let chart = chart.to_string_lossy();
    let into = ["--namespace", OPERATOR_NAMESPACE, "--create-namespace"];
    let mut arguments = vec![
        "install",
        HELM_RELEASE,
        &*chart,
        "--wait",
        "--timeout",
        "600s",
        "--set",
        "replicaCount=0",
    ];
    arguments.extend(into);
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    cluster.helm(&arguments).await.map(drop)
}
