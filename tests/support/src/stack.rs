//! The local stack as a child process: `tests/support/stack.py`.

use crate::aws::Aws;
use crate::process::Identity;
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

/// The addresses and files of a stack, as `stack.py` prints them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The cluster admin's kubeconfig.
    pub kubeconfig: PathBuf,
    /// The API server's URL.
    pub server: String,
    /// The certificate of the API server's CA.
    pub ca: PathBuf,
    /// The value of `AWS_ENDPOINT_URL`.
    pub aws_endpoint: String,
    /// The value of `HTTP_PROXY`: the proxy to `<account>.dkr.ecr.<region>.amazonaws.com`.
    pub registry_proxy: String,
    /// The API server's audit log, in JSON lines.
    pub audit_log: PathBuf,
    /// Every call to the emulation, in JSON lines.
    pub aws_call_log: PathBuf,
    /// The folder of the processes' logs.
    pub logs: PathBuf,
    /// The client programs.
    pub bin: Programs,
    /// The stack's own process.
    pub pid: u32,
    /// The node, in an entire cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeInfo>,
}

/// The interface of a node, independent of the tool that created it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeInfo {
    /// A command that loads an image into the node; the archive's path is its last argument.
    pub load_image: Vec<String>,
    /// The file with the credentials that the instance's metadata service would return, in the
    /// format of a `credential_process`.
    pub instance_credentials: PathBuf,
    /// A command that restarts the kubelet.
    pub restart_kubelet: Vec<String>,
    /// ECR's credential provider for kubelets.
    pub credential_provider: PathBuf,
}

/// The clients that people use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Programs {
    pub kubectl: PathBuf,
    pub helm: PathBuf,
    pub crane: PathBuf,
}

/// A running stack. It ends when this value is dropped, and when our process ends.
#[derive(Debug)]
pub struct Stack {
    /// The addresses and files of the stack.
    pub info: Info,
    folder: PathBuf,
    /// `None` if dropping this value must not end the stack.
    _process: Option<EndsWithUs>,
}

impl Stack {
    /// Starts a stack that writes below `target/stacks/<name>`, or `<name>-2` if that is in use.
    ///
    /// # Errors
    /// When it does not start; standard error shows the reason.
    pub fn start(name: &str) -> Result<Self> {
        Self::start_in(&free_folder(name)?)
    }

    /// Starts a stack that writes only into this folder; files of an earlier stack there are
    /// removed.
    ///
    /// # Errors
    /// When it does not start; standard error shows the reason.
    pub fn start_in(folder: &Path) -> Result<Self> {
        Self::start_by(&mut up(folder), folder)
    }

    /// Starts an entire cluster, with a node: `tests/support/node`. The node uses plain HTTP for
    /// the hosts in `plain_registries`.
    ///
    /// # Errors
    /// When it does not start; standard error shows the reason.
    pub fn start_with_node(
        folder: &Path,
        plain_registries: &[String],
        by_kind: bool,
    ) -> Result<Self> {
        let mut command = Command::new("python3");
        command
            .current_dir(crate::repository_root().join("tests/support"))
            .stdout(Stdio::piped());
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["-m", "node", "up", "--dir"])
            .arg(folder)
            .args(by_kind.then_some("--kind"));
        for registry in plain_registries {
            command.args(["--plain-registry", registry]);
        }
        Self::start_by(&mut command, folder)
    }

    fn start_by(command: &mut Command, folder: &Path) -> Result<Self> {
        let (info, process) = spawn(command)?;
        clear(folder);
        Ok(Self {
            info,
            folder: folder.to_owned(),
            _process: Some(process),
        })
    }

    /// Starts a stack that keeps running when our process ends.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_to_stay(folder: &Path) -> Result<Self> {
        // Everything that must be built is built now, so that the developer sees the progress.
        let tools = Command::new(crate::repository_root().join("tools/install"))
            .stdout(Stdio::null())
            .status();
        ensure!(
            tools.context("tools/install cannot be started")?.success(),
            "tools/install failed; see its output above"
        );
        std::fs::create_dir_all(folder)?;
        // The child does not get our standard error: a process that reads that to its end would
        // wait for the end of the stack.
        let said = folder.join("stack.log");
        let mut command = up(folder);
        command
            .arg("--detach")
            .stdin(Stdio::null())
            .stderr(File::create(&said)?);
        let mut child = command.spawn().context("python3 cannot be started")?;
        let info = first_line(&mut child).with_context(|| {
            std::fs::read_to_string(&said).unwrap_or_else(|error| error.to_string())
        })?;
        clear(folder);
        Ok(Self {
            info,
            folder: folder.to_owned(),
            _process: None,
        })
    }

    /// Attaches to a stack that another process started. `json` is the line that the process
    /// printed.
    ///
    /// # Errors
    /// When the text is not such a line.
    pub fn attach(json: &str) -> Result<Self> {
        let info: Info = serde_json::from_str(json).context("this is not what stack.py prints")?;
        let folder = info
            .logs
            .parent()
            .context("the logs' folder has no parent")?
            .to_owned();
        Ok(Self {
            info,
            folder,
            _process: None,
        })
    }

    /// Uses the AWS of another stack from now on; its own AWS is then unused. The other stack must
    /// outlive it.
    pub(crate) fn use_aws_of(&mut self, other: &Self) {
        let Info {
            aws_endpoint,
            registry_proxy,
            aws_call_log,
            ..
        } = &other.info;
        self.info.aws_endpoint.clone_from(aws_endpoint);
        self.info.registry_proxy.clone_from(registry_proxy);
        self.info.aws_call_log.clone_from(aws_call_log);
    }

    /// Returns the AWS clients of an account's root.
    pub fn aws(&self, account: &str) -> Aws {
        Aws::root(&self.info.aws_endpoint, account)
    }

    /// Returns the folder of the stack's files; logs of other processes that use the stack belong
    /// there, too.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the identity of its process, to find and end it later.
    pub fn identity(&self) -> Identity {
        Identity::of(self.info.pid)
    }

    /// Creates a temporary folder.
    pub(crate) fn scratch(&self) -> Result<tempfile::TempDir> {
        let parent = self.folder.join("scratch");
        std::fs::create_dir_all(&parent)?;
        Ok(tempfile::tempdir_in(parent)?)
    }

    /// Returns `host:port` of the emulation.
    pub(crate) fn aws_authority(&self) -> &str {
        self.info.aws_endpoint.trim_start_matches("http://")
    }
}

/// A child process that ends when this value is dropped, and when our process ends.
#[derive(Debug)]
struct EndsWithUs(Child);

impl Drop for EndsWithUs {
    fn drop(&mut self) {
        drop(self.0.stdin.take()); // the child ends with this pipe
        let _ = self.0.wait();
    }
}

/// The AWS emulation without a cluster. It ends when this value is dropped, and when our process
/// ends.
#[derive(Debug)]
pub struct AwsAlone {
    endpoint: String,
    _process: EndsWithUs,
}

/// What `stack.py aws` prints.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AwsInfo {
    aws_endpoint: String,
}

impl AwsAlone {
    /// Starts the emulation, which writes below `target/stacks/<name>`.
    ///
    /// # Errors
    /// When it does not start; standard error shows the reason.
    pub fn start(name: &str) -> Result<Self> {
        let (info, process) = spawn::<AwsInfo>(&mut stack_py("aws", &free_folder(name)?))?;
        Ok(Self {
            endpoint: info.aws_endpoint,
            _process: process,
        })
    }

    /// Returns the AWS clients of an account's root.
    pub fn aws(&self, account: &str) -> Aws {
        Aws::root(&self.endpoint, account)
    }

    /// Returns the value of `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

/// The API server and etcd, without controllers and AWS. They end when this value is dropped, and
/// when our process ends.
#[derive(Debug)]
pub struct ApiServerAlone {
    kubeconfig: PathBuf,
    _process: EndsWithUs,
}

/// What `stack.py api-server` prints.
#[derive(Deserialize)]
struct ApiServerInfo {
    kubeconfig: PathBuf,
}

impl ApiServerAlone {
    /// Starts the API server, which writes below `target/stacks/<name>`.
    ///
    /// # Errors
    /// When it does not start; standard error shows the reason.
    pub fn start(name: &str) -> Result<Self> {
        let mut command = stack_py("api-server", &free_folder(name)?);
        let (info, process) = spawn::<ApiServerInfo>(&mut command)?;
        Ok(Self {
            kubeconfig: info.kubeconfig,
            _process: process,
        })
    }

    /// Returns the cluster admin's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }
}

/// Starts a process that prints one line of JSON once it is ready, and ends when its standard input
/// does.
fn spawn<T: DeserializeOwned>(command: &mut Command) -> Result<(T, EndsWithUs)> {
    let child = command.stdin(Stdio::piped()).spawn();
    let mut process = EndsWithUs(child.context("python3 cannot be started")?);
    let info = first_line(&mut process.0)?;
    Ok((info, process))
}

fn up(folder: &Path) -> Command {
    stack_py("up", folder)
}

fn stack_py(subcommand: &str, folder: &Path) -> Command {
    let mut command = Command::new("python3");
    let script = crate::repository_root().join("tests/support/stack.py");
    command
        .arg(script)
        .args([subcommand, "--dir"])
        .arg(folder)
        .stdout(Stdio::piped());
    command
}

fn first_line<T: DeserializeOwned>(child: &mut Child) -> Result<T> {
    let stdout = child.stdout.take().context("no standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    if line.is_empty() {
        bail!("the local stack did not start; see the output of stack.py");
    }
    serde_json::from_str(&line)
        .with_context(|| format!("stack.py did not print its addresses: {line}"))
}

/// Removes our files from an earlier stack in the folder (stack.py removes its own): caches of a
/// cluster that does not exist any more.
fn clear(folder: &Path) {
    for left in ["home", "scratch"] {
        let _ = std::fs::remove_dir_all(folder.join(left));
    }
}

/// Returns `target/stacks/<name>`, or the first of `<name>-2`, … that no running stack uses.
fn free_folder(name: &str) -> Result<PathBuf> {
    static TAKEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let parent = crate::repository_root().join("target/stacks");
    let mut taken = TAKEN.lock().expect("nothing panics while it holds this");
    for number in 1.. {
        let folder = parent.join(if number == 1 {
            name.to_owned()
        } else {
            format!("{name}-{number}")
        });
        std::fs::create_dir_all(&folder)?;
        // stack.py holds this lock while it runs.
        let lock = File::options()
            .create(true)
            .append(true)
            .open(folder.join("lock"))?;
        if lock.try_lock().is_ok() && taken.insert(folder.clone()) {
            return Ok(folder);
        }
    }
    unreachable!("a stack for every number")
}
