//! A stack with the chart installed, and the operator as the chart's ServiceAccount.

use crate::accounts::Pair;
use crate::cluster::Cluster;
use crate::emulation::Emulation;
use crate::management::{operator_identity, prepare};
use crate::operator::{Operator, OperatorSettings};
use crate::stack::{Info, Stack};
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

/// Admission must not stop grants that the operator refuses: the operator is the authority, so
/// tests send them to it.
const THE_OPERATOR_ALONE: [&str; 1] = ["admissionPolicies.enabled=false"];

/// A stack that is ready for operators: the chart is installed (without a Pod, because there is no
/// node) and the operator's own role exists.
#[derive(Debug)]
pub struct Installation {
    /// The stack of the installation.
    pub stack: Stack,
    /// The stack's cluster.
    pub cluster: Cluster,
    credentials: Credentials,
    kubeconfig: PathBuf,
    /// The log file of the operators.
    log: PathBuf,
}

/// The number of tests that use the shared installation at a time. More of them would only wait for
/// the machine.
const SHARED: usize = 10;

thread_local! {
    /// Each test has its own thread, so this permit belongs to one test and ends with it.
    static TURN: RefCell<Option<SemaphorePermit<'static>>> = const { RefCell::new(None) };
}

/// Waits until this test may use the shared installation. Waits only once for each test, even if it
/// is called again.
async fn turn() -> Result<()> {
    static TURNS: Semaphore = Semaphore::const_new(SHARED);
    if TURN.with_borrow(Option::is_none) {
        let turn = TURNS.acquire().await?;
        TURN.set(Some(turn));
    }
    Ok(())
}

/// The number of tests that have their own installation at a time. Each installation adds an API
/// server and an emulation, and a machine with two cores must run them in addition to the shared
/// one.
const EXCLUSIVE: usize = 3;

/// An installation for one test, without operator, grants or accounts. Another test reuses it
/// afterwards, because to start an installation takes more CPU than most tests do.
#[derive(Debug)]
pub struct Exclusive {
    installation: Option<Installation>,
    /// Its own AWS and operator's credentials, while it uses those of another installation.
    own: Option<(Info, Credentials)>,
    _permit: SemaphorePermit<'static>,
}

static FREE: Mutex<Vec<Installation>> = Mutex::new(Vec::new());

impl Deref for Exclusive {
    type Target = Installation;

    fn deref(&self) -> &Installation {
        self.installation
            .as_ref()
            .expect("taken only when it is dropped")
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        if let (Some(mut installation), Ok(mut free)) = (self.installation.take(), FREE.lock()) {
            if let Some((info, credentials)) = self.own.take() {
                installation.stack.info = info;
                installation.credentials = credentials;
            }
            free.push(installation);
        }
    }
}

impl Exclusive {
    fn use_aws_of(&mut self, other: &Installation) {
        if let Some(installation) = &mut self.installation {
            let credentials = other.credentials.clone();
            self.own = Some((
                installation.stack.info.clone(),
                std::mem::replace(&mut installation.credentials, credentials),
            ));
            installation.stack.use_aws_of(&other.stack);
        }
    }
}

impl Installation {
    /// Starts an installation with its own stack, for a test that needs an unused cluster, or needs
    /// one for longer than a test.
    ///
    /// # Errors
    /// When the stack does not start, or the chart cannot be installed.
    pub async fn start(name: &str) -> Result<Self> {
        Self::on(Stack::start(name)?).await
    }

    /// Returns an installation for this test alone, for tests that stop the operator or need
    /// special arguments. Waits while too many other tests have one.
    ///
    /// # Errors
    /// When the stack does not start, or the objects of the previous test are not deleted in time.
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
            own: None,
            _permit: permit,
        })
    }

    /// Returns two of them: two clusters of one company. The second one uses the AWS of the first
    /// one, with the same operator role. Only one test at a time may wait for two, because two
    /// tests that have one each would deadlock.
    ///
    /// # Errors
    /// As for [`Self::exclusive`].
    pub async fn exclusive_pair() -> Result<(Exclusive, Exclusive)> {
        static ONE_TEST: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _alone = ONE_TEST.lock().await;
        let (first, mut second) = (Self::exclusive().await?, Self::exclusive().await?);
        second.use_aws_of(&first);
        Ok((first, second))
    }

    /// Removes the previous test's grants, accounts, Lease and held calls, and starts a new log.
    /// Resources in AWS stay, because each test has its own accounts.
    async fn cleared(mut self) -> Result<Self> {
        Emulation::of(&self.stack).reset().await?;
        let cluster = &self.cluster;
        for kind in ["carg", "awsaccount"] {
            eventually("the objects of the previous test are gone", async || {
                let all = cluster.list("", kind).await?;
                for object in &all {
                    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
                    let (namespace, object) =
                        (text("namespace"), format!("{kind}/{}", text("name")));
                    // It may have been deleted in between.
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

    /// Starts an installation with the chart's defaults, including its admission policies.
    ///
    /// # Errors
    /// When the stack does not start, or the chart cannot be installed.
    pub async fn start_with_policies(name: &str) -> Result<Self> {
        let stack = Stack::start(name)?;
        let credentials = operator_identity(&stack).await?;
        Self::with(stack, credentials, &[]).await
    }

    /// Creates an installation on this stack.
    ///
    /// # Errors
    /// When the chart cannot be installed.
    pub async fn on(stack: Stack) -> Result<Self> {
        let credentials = operator_identity(&stack).await?;
        Self::with(stack, credentials, &THE_OPERATOR_ALONE).await
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

    /// Returns the installation that all tests of a process share, with an operator (`binary`, with
    /// these arguments) that runs until the process ends. The first caller starts it. Waits while
    /// many other tests use it.
    ///
    /// # Errors
    /// When it does not start; later callers get the same error.
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

    /// Returns the settings for an operator in this installation.
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

    /// Returns the log file of its operators.
    pub fn operator_log(&self) -> &Path {
        &self.log
    }

    /// Creates two accounts that no other test has, with their management roles.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn fresh_pair(&self) -> Result<Pair> {
        let pair = Pair::fresh();
        prepare(&self.stack, &pair).await?;
        Ok(pair)
    }
}

/// Runs `helm install` for the chart in `charts/`, without a Pod, with these values (`key=value`)
/// and otherwise with its defaults.
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
