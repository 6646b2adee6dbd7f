//! The cluster, as people use it: by kubectl and Helm.

use crate::command::{Finished, run};
use crate::stack::Stack;
use crate::wait::{BOUND, bound_of, eventually};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A cluster, with the admin's credentials.
#[derive(Clone, Debug)]
pub struct Cluster {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
    server: String,
    ca: PathBuf,
    home: PathBuf,
}

impl Cluster {
    /// Of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self {
            kubectl: stack.info.bin.kubectl.clone(),
            helm: stack.info.bin.helm.clone(),
            kubeconfig: stack.info.kubeconfig.clone(),
            server: stack.info.server.clone(),
            ca: stack.info.ca.clone(),
            home: stack.folder().join("home"),
        }
    }

    /// Runs kubectl; gives back its standard output.
    ///
    /// # Errors
    /// When kubectl reports failure.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.try_kubectl(arguments, None).await?.ok()
    }

    /// Runs kubectl, which may fail. `input` is its standard input.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Result<Finished> {
        run(&self.kubectl, arguments, &self.home, &[("KUBECONFIG", self.kubeconfig.as_os_str())], input).await
    }

    /// Runs Helm; gives back its standard output.
    ///
    /// # Errors
    /// When Helm reports failure.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let variables = [("KUBECONFIG", self.kubeconfig.as_os_str())];
        run(&self.helm, arguments, &self.home, &variables, None).await?.ok()
    }

    /// Applies YAML, as `kubectl apply` does by default: unknown fields are refused.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn apply(&self, yaml: &str) -> Result<()> {
        self.try_kubectl(&["apply", "-f", "-"], Some(yaml)).await?.ok().map(drop)
    }

    /// Applies YAML that is to be refused; gives back what the person reads.
    ///
    /// # Errors
    /// When it is accepted, or the API server could not be asked.
    pub async fn refused(&self, yaml: &str) -> Result<String> {
        let applied = self.try_kubectl(&["apply", "-f", "-"], Some(yaml)).await?;
        if applied.success {
            bail!("expected to be refused, but it was accepted: {}", applied.stdout.trim());
        }
        if applied.stderr.contains("connection refused") || applied.stderr.contains("Unable to connect") {
            bail!("the API server could not be asked: {}", applied.stderr);
        }
        Ok(applied.stderr)
    }

    /// Makes a namespace.
    ///
    /// # Errors
    /// When it exists, or the API server cannot be asked.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        self.kubectl(&["create", "namespace", name]).await.map(drop)
    }

    /// An object, for instance `get("team-b", "carg/miq-devops")`. For cluster-scoped kinds the namespace does not matter.
    ///
    /// # Errors
    /// When it is not there.
    pub async fn get(&self, namespace: &str, object: &str) -> Result<Value> {
        let text = self.kubectl(&["get", object, "--namespace", namespace, "--output", "json"]).await?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {object}"))
    }

    /// Waits for a condition, for instance `"Ready"` or `"Ready=False"`, with `kubectl wait`; gives back the object.
    ///
    /// # Errors
    /// When the condition does not come; the error shows the object's status.
    pub async fn wait_for_condition(&self, namespace: &str, object: &str, condition: &str) -> Result<Value> {
        self.wait(namespace, object, &format!("condition={condition}")).await?;
        self.get(namespace, object).await
    }

    /// All objects of a kind in a namespace, in one request.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let text = self.kubectl(&["get", kind, "--namespace", namespace, "--output", "json"]).await?;
        let mut list: Value = serde_json::from_str(&text).with_context(|| format!("kubectl get {kind}"))?;
        Ok(serde_json::from_value(list["items"].take())?)
    }

    /// Waits for a condition of all objects of a kind that are in the namespace now; gives them back. One kubectl for all of them.
    ///
    /// # Errors
    /// When the condition does not come; the error shows the status of some that lack it.
    pub async fn wait_for_all(&self, namespace: &str, kind: &str, condition: &str) -> Result<Vec<Value>> {
        let bound = bound_of(self.list(namespace, kind).await?.len()).as_secs();
        let (what, timeout) = (format!("--for=condition={condition}"), format!("--timeout={bound}s"));
        let waited =
            self.try_kubectl(&["wait", kind, "--all", "--namespace", namespace, &what, &timeout], None).await?;
        let all = self.list(namespace, kind).await?;
        if waited.success {
            return Ok(all);
        }
        let has = |object: &Value| {
            let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|found| found["type"] == condition && found["status"] == "True")
        };
        let lacking: Vec<&Value> = all.iter().filter(|object| !has(object)).collect();
        let some: Vec<String> = lacking
            .iter()
            .take(3)
            .map(|object| format!("{} is {:#}", object["metadata"]["name"], object["status"]))
            .collect();
        let (command, said) = (&waited.command, waited.stderr.lines().last().unwrap_or_default());
        bail!("`{command}` failed: {said}\n{} of {} lack it; {}", lacking.len(), all.len(), some.join("\n"))
    }

    /// Waits until the object is gone, with `kubectl wait`.
    ///
    /// # Errors
    /// When it stays.
    pub async fn wait_until_gone(&self, namespace: &str, object: &str) -> Result<()> {
        self.wait(namespace, object, "delete").await
    }

    async fn wait(&self, namespace: &str, object: &str, what: &str) -> Result<()> {
        let (what, timeout) = (format!("--for={what}"), format!("--timeout={}s", BOUND.as_secs()));
        let waited = self.try_kubectl(&["wait", object, "--namespace", namespace, &what, &timeout], None).await?;
        if waited.success {
            return Ok(());
        }
        let (command, said) = (&waited.command, waited.stderr.trim());
        let seen = match self.get(namespace, object).await {
            Ok(object) => {
                format!("it is {:#}", serde_json::json!({"metadata": brief(&object), "status": object["status"]}))
            }
            Err(error) => format!("{error:#}"),
        };
        bail!("`{command}` failed: {said}\n{seen}")
    }

    /// Waits until `check` accepts the object; what it says otherwise is what is missing. Gives back the object.
    ///
    /// # Errors
    /// When it never does; the error shows the object's status.
    pub async fn wait_until(
        &self,
        namespace: &str,
        object: &str,
        mut check: impl FnMut(&Value) -> Result<()>,
    ) -> Result<Value> {
        eventually(object, async || {
            let found = self.get(namespace, object).await?;
            check(&found).with_context(|| format!("its status is {:#}", found["status"]))?;
            Ok(found)
        })
        .await
    }

    /// Writes a kubeconfig with a token of a ServiceAccount, as its Pod would have it.
    ///
    /// # Errors
    /// When there is no such ServiceAccount.
    pub async fn kubeconfig_of(&self, namespace: &str, service_account: &str, file: &Path) -> Result<()> {
        let create = ["create", "token", service_account, "--namespace", namespace, "--duration", "24h"];
        let token = self.kubectl(&create).await?;
        // JSON is YAML.
        let configuration = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stack",
            "clusters": [{"name": "stack", "cluster": {"server": self.server, "certificate-authority": self.ca}}],
            "users": [{"name": service_account, "user": {"token": token.trim()}}],
            "contexts": [{"name": "stack", "context": {"cluster": "stack", "user": service_account, "namespace": namespace}}],
        });
        std::fs::write(file, format!("{configuration:#}\n")).with_context(|| file.display().to_string())
    }
}

fn brief(object: &Value) -> Value {
    let metadata = &object["metadata"];
    ["generation", "finalizers", "deletionTimestamp"]
        .iter()
        .map(|key| ((*key).to_owned(), metadata[key].clone()))
        .collect()
}
