//! Runs the built program in its own folder.
#![allow(dead_code)]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A temporary folder.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(test: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!(
            "{}-{}-{number}-{test}",
            env!("CARGO_CRATE_NAME"),
            std::process::id()
        );
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        fs::write(self.0.join(name), content).unwrap();
        self
    }

    #[cfg(unix)]
    pub fn with_program(self, name: &str, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.with(name, script);
        fs::set_permissions(folder.0.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        folder
    }

    /// Runs the program. Returns exit status, standard output and standard error.
    pub fn run(&self, arguments: &[&str], stdin: &str) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_registry-grants"));
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("KUBECONFIG", self.0.join("kubeconfig"));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A program that does not read standard input may have exited already.
        let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// Returns standard output of a call that must succeed.
    pub fn printed(&self, arguments: &[&str]) -> String {
        let (status, out, err) = self.run(arguments, "");
        assert_eq!(status, 0, "{arguments:?}: {err}");
        out
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns an example.
pub fn example(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.yaml")))
        .unwrap()
}

/// Returns an example, with the accounts of the article's example.
pub fn example_with_accounts(name: &str) -> String {
    let article = example("article");
    if name == "article" {
        return article;
    }
    let accounts = article
        .split("\n---\n")
        .filter(|document| !document.contains("kind: CrossAccountRegistryGrant"));
    accounts
        .map(String::from)
        .chain([example(name)])
        .collect::<Vec<_>>()
        .join("\n---\n")
}
