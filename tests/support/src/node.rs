//! The stack's node, if it has one: its images, and its identity in AWS.

use crate::command::run;
use crate::session::Session;
use crate::stack::{NodeInfo, Stack};
use anyhow::{Context, Result};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The node of a stack that was started with one.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    info: &'a NodeInfo,
    home: &'a Path,
}

impl<'a> Node<'a> {
    /// Returns the node of a stack.
    ///
    /// # Errors
    /// When the stack has none.
    pub fn of(stack: &'a Stack) -> Result<Self> {
        let info = stack
            .info
            .node
            .as_ref()
            .context("this stack was started without a node")?;
        Ok(Self {
            info,
            home: stack.folder(),
        })
    }

    /// Makes the node an EC2 instance with the role of this session. Restarts the kubelet, because
    /// it keeps a registry token for hours.
    ///
    /// # Errors
    /// When the credentials cannot be written, or the kubelet cannot be restarted.
    pub async fn take_identity(&self, session: &Session<'_>) -> Result<()> {
        let keys = session.aws().credentials();
        let credentials = serde_json::json!({
            "Version": 1,
            "AccessKeyId": keys.access_key_id(),
            "SecretAccessKey": keys.secret_access_key(),
            "SessionToken": keys.session_token(),
        });
        std::fs::write(&self.info.instance_credentials, credentials.to_string())?;
        self.run(&self.info.restart_kubelet, None).await
    }

    /// Loads an image into the node, so that Pods can use it without a pull.
    ///
    /// # Errors
    /// When the node does not accept it.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        self.run(&self.info.load_image, Some(archive)).await
    }

    /// Returns the program that is ECR's credential provider for kubelets.
    pub fn credential_provider(&self) -> &'a Path {
        &self.info.credential_provider
    }

    async fn run(&self, command: &[String], argument: Option<&Path>) -> Result<()> {
        let (program, arguments) = command.split_first().context("an empty command")?;
        let arguments = arguments
            .iter()
            .map(AsRef::as_ref)
            .chain(argument.map(Path::as_os_str));
        run(Path::new(program), arguments, self.home, &[], None)
            .await?
            .ok()
            .map(drop)
    }
}

/// Builder of images as archives in a folder: `tests/support/node/images.py`.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
}

impl Images {
    /// Builds into this folder, which must exist.
    pub fn into_folder(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Builds the operator's image from its binary, as the Dockerfile describes.
    ///
    /// # Errors
    /// When the Dockerfile or the binary contains something that the image would not.
    pub async fn operator(&self, binary: &Path, tag: &str) -> Result<PathBuf> {
        self.make("operator", "operator", tag, &[binary]).await
    }

    /// Builds an image to run as a Pod, a different one for each text.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn workload(&self, text: &str) -> Result<PathBuf> {
        self.make(
            "workload",
            text,
            "local/workload:made-here",
            &[Path::new(text)],
        )
        .await
    }

    /// Builds an image of a registry client that gets its tokens itself:
    /// `tests/support/node/push.sh` documents its parameters.
    ///
    /// # Errors
    /// When it cannot be built.
    pub async fn client(
        &self,
        name: &str,
        crane: &Path,
        credential_provider: &Path,
    ) -> Result<PathBuf> {
        self.make("client", "client", name, &[crane, credential_provider])
            .await
    }

    async fn make(&self, what: &str, file: &str, name: &str, from: &[&Path]) -> Result<PathBuf> {
        let archive = self.folder.join(format!("{file}.tar"));
        let support = crate::repository_root().join("tests/support");
        let mut arguments: Vec<&OsStr> = ["-m", "node", "image", what].map(AsRef::as_ref).into();
        arguments.extend(from.iter().map(|path| path.as_os_str()));
        arguments.extend([
            OsStr::new("--name"),
            name.as_ref(),
            "--archive".as_ref(),
            archive.as_os_str(),
        ]);
        let variables = [
            ("PYTHONPATH", support.as_os_str()),
            ("PYTHONDONTWRITEBYTECODE", "1".as_ref()),
        ];
        run(
            Path::new("python3"),
            arguments,
            &self.folder,
            &variables,
            None,
        )
        .await?
        .ok()?;
        Ok(archive)
    }
}
