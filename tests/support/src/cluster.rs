//! The cluster: through kubectl and Helm, as people use it, and directly if a test only reads,
//! waits or applies.

use crate::api_server::{ApiServer, Kind, kind, refusal};
use crate::command::{Finished, run};
use crate::stack::Stack;
use crate::wait::{eventually, eventually_of};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
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
    api_server: ApiServer,
}

impl Cluster {
    /// Returns the cluster of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self {
            kubectl: stack.info.bin.kubectl.clone(),
            helm: stack.info.bin.helm.clone(),
            kubeconfig: stack.info.kubeconfig.clone(),
            server: stack.info.server.clone(),
            ca: stack.info.ca.clone(),
            home: stack.folder().join("home"),
            api_server: ApiServer::of(stack.info.kubeconfig.clone()),
        }
    }

    /// Runs kubectl; returns its standard output.
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
        run(
            &self.kubectl,
            arguments,
            &self.home,
            &[("KUBECONFIG", self.kubeconfig.as_os_str())],
            input,
        )
        .await
    }

    /// Runs Helm; returns its standard output.
    ///
    /// # Errors
    /// When Helm reports failure.
    pub async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let variables = [("KUBECONFIG", self.kubeconfig.as_os_str())];
        run(&self.helm, arguments, &self.home, &variables, None)
            .await?
            .ok()
    }

    /// Applies a manifest; unknown fields are refused. JSON (an object or a `List`) of the kinds
    /// that tests use often is sent directly to the API server, everything else through kubectl.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        let objects = match serde_json::from_str::<Value>(manifest) {
            Ok(list) if list["kind"] == "List" => {
                list["items"].as_array().cloned().unwrap_or_default()
            }
            Ok(object) => vec![object],
            Err(_) => Vec::new(),
        };
        let is_known = |object: &Value| object["kind"].as_str().and_then(kind).is_some();
        if objects.is_empty() || !objects.iter().all(is_known) {
            return self
                .try_kubectl(&["apply", "-f", "-"], Some(manifest))
                .await?
                .ok()
                .map(drop);
        }
        self.api_server.apply(objects).await
    }

    /// Applies an object that must be refused, in JSON; returns the API server's message.
    ///
    /// # Errors
    /// When it is accepted, or the API server does not answer.
    pub async fn refused(&self, object: &Value) -> Result<String> {
        refusal(self.api_server.apply(vec![object.clone()]).await)?
            .context("expected to be refused, but it was accepted")
    }

    /// Returns the API server's message if it would refuse to create this object. Nothing is stored.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn would_refuse(&self, object: &Value) -> Result<Option<String>> {
        refusal(self.api_server.check_creation(object.clone()).await)
    }

    /// Returns the same cluster with the credentials of another user for direct requests, as
    /// `kubectl --as` does.
    pub fn as_user(&self, user: &str) -> Self {
        Self {
            api_server: self.api_server.as_user(user),
            ..self.clone()
        }
    }

    /// Returns whether the user of this cluster may do something, as `kubectl auth can-i` does.
    /// `resource` has the form `RESOURCE[.GROUP][/SUBRESOURCE]`.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn may(&self, namespace: &str, verb: &str, resource: &str) -> Result<bool> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let attributes = json!({
            "namespace": namespace, "verb": verb,
            "group": group, "resource": resource, "subresource": subresource,
        });
        self.api_server.may(attributes).await
    }

    /// Gives a user the permissions of a ClusterRole in a namespace.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn bind_role(&self, namespace: &str, role: &str, user: &str) -> Result<()> {
        let group = "rbac.authorization.k8s.io";
        let binding = json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "RoleBinding",
            "metadata": {"name": user, "namespace": namespace},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        });
        self.api_server.apply(vec![binding]).await
    }

    /// Waits for an Event on an object (empty: on any) that contains all these words. The operator
    /// publishes an Event after it has written the status. Returns all Events on the object, a line
    /// each: type, reason and message.
    ///
    /// # Errors
    /// When there is no such Event within the bound.
    pub async fn event(&self, namespace: &str, object: &str, words: &[&str]) -> Result<String> {
        eventually(&format!("an Event with {words:?}"), async || {
            let lines = self.events(namespace, object).await?;
            let is_it = |line: &String| words.iter().all(|word| line.contains(word));
            ensure!(lines.iter().any(is_it), "there are only {lines:?}");
            Ok(lines.join("\n"))
        })
        .await
    }

    async fn events(&self, namespace: &str, object: &str) -> Result<Vec<String>> {
        let wanted = object.split_once('/').map(|(_, name)| name);
        let is_about =
            |event: &&Value| wanted.is_none_or(|name| event["involvedObject"]["name"] == name);
        let line = |event: &Value| {
            ["type", "reason", "message"]
                .map(|key| event[key].as_str().unwrap_or_default())
                .join(" ")
        };
        let events = self.list(namespace, "event").await?;
        Ok(events.iter().filter(is_about).map(line).collect())
    }

    /// Adds labels to an object; `null` removes one.
    ///
    /// # Errors
    /// When the object does not exist.
    pub async fn label(&self, namespace: &str, object: &str, labels: Value) -> Result<()> {
        let patch = json!({"metadata": {"labels": labels}});
        self.merge(namespace, object, patch).await.map(drop)
    }

    /// Changes the status of an object by a JSON merge patch.
    ///
    /// # Errors
    /// When the object does not exist, or the change is refused.
    pub async fn merge_status(&self, namespace: &str, object: &str, patch: Value) -> Result<()> {
        let (kind, name) = known(object)?;
        self.api_server
            .merge_status(namespace, &kind, name, patch)
            .await
            .with_context(|| format!("{namespace}/{object}"))
    }

    /// Returns the API server's message if it would refuse such a change of the status. Nothing is
    /// stored.
    ///
    /// # Errors
    /// When the object does not exist.
    pub async fn would_refuse_status(
        &self,
        namespace: &str,
        object: &str,
        patch: Value,
    ) -> Result<Option<String>> {
        let (kind, name) = known(object)?;
        refusal(
            self.api_server
                .check_status(namespace, &kind, name, patch)
                .await,
        )
    }

    /// Sends a GET request for this path.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub(crate) async fn get_path(&self, path: &str) -> Result<Value> {
        self.api_server.get_path(path).await
    }

    /// Creates a namespace if it does not exist.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn create_namespace(&self, name: &str) -> Result<()> {
        self.api_server
            .apply(vec![
                json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
            ])
            .await
    }

    /// Reads an object, for instance `get("team-b", "carg/miq-devops")`. For cluster-scoped kinds
    /// the namespace does not matter.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn get(&self, namespace: &str, object: &str) -> Result<Value> {
        let (kind, name) = known(object)?;
        self.api_server
            .get(namespace, &kind, name)
            .await
            .with_context(|| format!("{namespace}/{object}"))
    }

    /// Lists all objects of a kind in a namespace, or in all namespaces if `namespace` is empty.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn list(&self, namespace: &str, kind: &str) -> Result<Vec<Value>> {
        let known =
            crate::api_server::kind(kind).with_context(|| format!("unknown kind {kind}"))?;
        self.api_server
            .list(namespace, &known)
            .await
            .with_context(|| format!("{kind} in {namespace}"))
    }

    /// Changes an object by a JSON merge patch; returns the object.
    ///
    /// # Errors
    /// When the object does not exist, or the change is refused.
    pub async fn merge(&self, namespace: &str, object: &str, patch: Value) -> Result<Value> {
        let (kind, name) = known(object)?;
        self.api_server
            .merge(namespace, &kind, name, patch)
            .await
            .with_context(|| format!("{namespace}/{object}"))
    }

    /// Requests an object's deletion.
    ///
    /// # Errors
    /// When it does not exist.
    pub async fn begin_to_delete(&self, namespace: &str, object: &str) -> Result<()> {
        let (kind, name) = known(object)?;
        self.api_server
            .delete(namespace, &kind, name)
            .await
            .with_context(|| format!("{namespace}/{object}"))
    }

    /// Deletes an object and waits until it is gone.
    ///
    /// # Errors
    /// When it does not exist, or is not deleted in time.
    pub async fn delete(&self, namespace: &str, object: &str) -> Result<()> {
        self.begin_to_delete(namespace, object).await?;
        self.wait_until_gone(namespace, object).await
    }

    /// Deletes all objects of a kind in a namespace and waits until they are gone.
    ///
    /// # Errors
    /// When one of them is not deleted in time.
    pub async fn delete_all(&self, namespace: &str, kind: &str) -> Result<()> {
        ensure!(!namespace.is_empty(), "not in all namespaces");
        let name = |object: &Value| {
            format!(
                "{kind}/{}",
                object["metadata"]["name"].as_str().unwrap_or_default()
            )
        };
        let all: Vec<String> = self.list(namespace, kind).await?.iter().map(name).collect();
        for object in &all {
            self.begin_to_delete(namespace, object).await?;
        }
        for object in &all {
            self.wait_until_gone(namespace, object).await?;
        }
        Ok(())
    }

    /// Waits for a condition, for instance `"Ready"` or `"Ready=False"`; returns the object in that
    /// state.
    ///
    /// # Errors
    /// When the condition is not met in time; the error shows the object's status.
    pub async fn wait_for_condition(
        &self,
        namespace: &str,
        object: &str,
        condition: &str,
    ) -> Result<Value> {
        let (kind, status) = condition.split_once('=').unwrap_or((condition, "True"));
        self.wait_until(namespace, object, |found| {
            ensure!(has_condition(found, kind, status), "not {condition} yet");
            Ok(())
        })
        .await
    }

    /// Waits for a condition of all objects of a kind in the namespace; returns the objects.
    ///
    /// # Errors
    /// When the condition is not met in time; the error shows the status of some objects that do
    /// not meet it.
    pub async fn wait_for_all(
        &self,
        namespace: &str,
        kind: &str,
        condition: &str,
    ) -> Result<Vec<Value>> {
        let count = self.list(namespace, kind).await?.len();
        eventually_of(
            count,
            &format!("all {kind} in {namespace} are {condition}"),
            async || {
                let all = self.list(namespace, kind).await?;
                let lacking: Vec<&Value> = all
                    .iter()
                    .filter(|object| !has_condition(object, condition, "True"))
                    .collect();
                let shown = |object: &&&Value| {
                    format!("{} is {:#}", object["metadata"]["name"], object["status"])
                };
                let some: Vec<String> = lacking
                    .iter()
                    .take(3)
                    .map(|object| shown(&object))
                    .collect();
                ensure!(
                    lacking.is_empty(),
                    "{} of {} do not meet it; {}",
                    lacking.len(),
                    all.len(),
                    some.join("\n")
                );
                Ok(all)
            },
        )
        .await
    }

    /// Waits until the object does not exist any more.
    ///
    /// # Errors
    /// When it is not deleted in time.
    pub async fn wait_until_gone(&self, namespace: &str, object: &str) -> Result<()> {
        let (kind, name) = known(object)?;
        let check = |found: Option<&Value>| match found {
            None => Ok(()),
            Some(found) => bail!(
                "it is {:#}",
                json!({"metadata": brief(found), "status": found["status"]})
            ),
        };
        self.api_server.wait(namespace, &kind, name, check).await
    }

    /// Waits until `check` accepts the object; its error names the missing state. Returns the
    /// object.
    ///
    /// # Errors
    /// When it does not accept the object in time; the error shows the object's status.
    pub async fn wait_until(
        &self,
        namespace: &str,
        object: &str,
        mut check: impl FnMut(&Value) -> Result<()>,
    ) -> Result<Value> {
        let (kind, name) = known(object)?;
        let check = |found: Option<&Value>| {
            let found = found.context("it is not there")?;
            check(found).with_context(|| format!("its status is {:#}", found["status"]))?;
            Ok(found.clone())
        };
        self.api_server.wait(namespace, &kind, name, check).await
    }

    /// Writes a kubeconfig with a token of a ServiceAccount, like the one that its Pod would have.
    ///
    /// # Errors
    /// When the ServiceAccount does not exist.
    pub async fn kubeconfig_of(
        &self,
        namespace: &str,
        service_account: &str,
        file: &Path,
    ) -> Result<()> {
        let token = self
            .api_server
            .service_account_token(namespace, service_account)
            .await?;
        // JSON is YAML.
        let configuration = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stack",
            "clusters": [{"name": "stack", "cluster": {"server": self.server, "certificate-authority": self.ca}}],
            "users": [{"name": service_account, "user": {"token": token}}],
            "contexts": [{"name": "stack", "context": {"cluster": "stack", "user": service_account, "namespace": namespace}}],
        });
        std::fs::write(file, format!("{configuration:#}\n"))
            .with_context(|| file.display().to_string())
    }
}

fn known(object: &str) -> Result<(Kind, &str)> {
    let (of, name) = object
        .split_once('/')
        .with_context(|| format!("{object} is not KIND/NAME"))?;
    Ok((
        kind(of).with_context(|| format!("unknown kind {of}"))?,
        name,
    ))
}

/// Checks a condition as `kubectl wait` does: a condition of an earlier generation does not count.
fn has_condition(object: &Value, kind: &str, status: &str) -> bool {
    let generation = object["metadata"]["generation"].as_i64();
    let is_current = |condition: &Value| {
        let observed = condition["observedGeneration"]
            .as_i64()
            .or(object["status"]["observedGeneration"].as_i64());
        observed.is_none() || observed >= generation
    };
    let conditions = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    conditions
        .into_iter()
        .any(|found| found["type"] == kind && found["status"] == status && is_current(found))
}

fn brief(object: &Value) -> Value {
    let metadata = &object["metadata"];
    ["generation", "finalizers", "deletionTimestamp"]
        .iter()
        .map(|key| ((*key).to_owned(), metadata[key].clone()))
        .collect()
}
