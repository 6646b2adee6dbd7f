//! Direct access to the API server. Tests read, wait and apply many times, and a kubectl process
//! for each of these costs more CPU than the reconciliation that it waits for.

use crate::wait::{BOUND, Waiting};
use anyhow::{Context, Result, anyhow, bail, ensure};
use futures::StreamExt;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
    TypeMeta, ValidationDirective,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::watch_object;
use kube::{Client, Config};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::{OnceCell, mpsc};

/// The pause after a failed watch, before the next one.
const PAUSE: Duration = Duration::from_millis(200);
/// The annotation in which kubectl stores the last applied object, to detect removed fields the
/// next time.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A client with the cluster admin's credentials. Clones share it.
#[derive(Clone)]
pub(crate) struct ApiServer {
    kubeconfig: PathBuf,
    /// The user to impersonate, if any.
    user: Option<String>,
    client: Arc<OnceCell<Client>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("kubeconfig", &self.kubeconfig)
            .finish_non_exhaustive()
    }
}

/// Returns the runtime of the client's connections. Each test has its own runtime, and a connection
/// that one test opened must work in the next.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder
            .worker_threads(1)
            .thread_name("api-server")
            .enable_all()
            .build()
            .expect("threads can be started")
    })
}

async fn run<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    runtime().spawn(work).await?
}

impl ApiServer {
    pub(crate) fn of(kubeconfig: PathBuf) -> Self {
        Self {
            kubeconfig,
            user: None,
            client: Arc::default(),
        }
    }

    /// Returns a client that impersonates this user.
    pub(crate) fn as_user(&self, user: &str) -> Self {
        Self {
            kubeconfig: self.kubeconfig.clone(),
            user: Some(user.to_owned()),
            client: Arc::default(),
        }
    }

    async fn client(&self) -> Result<Client> {
        let connect = async || {
            let kubeconfig = Kubeconfig::read_from(&self.kubeconfig)?;
            let user = self.user.clone();
            run(async move {
                let mut config =
                    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
                        .await?;
                // A proxy from the developer's environment does not reach our loopback address.
                config.proxy_url = None;
                config.auth_info.impersonate = user;
                Ok(Client::try_from(config)?)
            })
            .await
        };
        self.client.get_or_try_init(connect).await.cloned()
    }

    async fn api(&self, namespace: &str, kind: &Kind) -> Result<Api<DynamicObject>> {
        let client = self.client().await?;
        Ok(match kind.namespaced {
            true => Api::namespaced_with(client, namespace, &kind.resource),
            false => Api::all_with(client, &kind.resource),
        })
    }

    pub(crate) async fn get(&self, namespace: &str, kind: &Kind, name: &str) -> Result<Value> {
        let (api, name) = (self.api(namespace, kind).await?, name.to_owned());
        run(async move { Ok(serde_json::to_value(api.get(&name).await?)?) }).await
    }

    pub(crate) async fn list(&self, namespace: &str, kind: &Kind) -> Result<Vec<Value>> {
        let api = if namespace.is_empty() {
            Api::all_with(self.client().await?, &kind.resource)
        } else {
            self.api(namespace, kind).await?
        };
        let ApiResource {
            api_version, kind, ..
        } = kind.resource.clone();
        let types = TypeMeta { api_version, kind };
        run(async move {
            let mut found = api.list(&ListParams::default()).await?;
            // Objects in a list lack `apiVersion` and `kind`, but manifests need them.
            found
                .items
                .iter_mut()
                .for_each(|object| object.types = Some(types.clone()));
            Ok(found
                .items
                .iter()
                .map(serde_json::to_value)
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Returns the API of an object, and the object's name.
    async fn api_of(&self, object: &Value) -> Result<(Api<DynamicObject>, String)> {
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let kind =
            kind(text("/kind")).with_context(|| format!("unknown kind {}", text("/kind")))?;
        let (name, namespace) = (text("/metadata/name"), text("/metadata/namespace"));
        ensure!(
            !name.is_empty() && kind.namespaced != namespace.is_empty(),
            "{name:?} in {namespace:?} is not an object"
        );
        Ok((self.api(namespace, &kind).await?, name.to_owned()))
    }

    /// Applies objects in their order, as `kubectl apply` does: removes fields that only the last
    /// applied object had, and refuses unknown fields.
    pub(crate) async fn apply(&self, objects: Vec<Value>) -> Result<()> {
        let mut applied = Vec::new();
        for mut object in objects {
            let (api, name) = self.api_of(&object).await?;
            let text = object.to_string();
            object["metadata"]["annotations"][LAST_APPLIED] = json!(text);
            applied.push((api, name, object));
        }
        run(async move {
            for (api, name, object) in applied {
                apply(&api, &name, object)
                    .await
                    .with_context(|| format!("{name} was not applied"))?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn merge(
        &self,
        namespace: &str,
        kind: &Kind,
        name: &str,
        patch: Value,
    ) -> Result<Value> {
        let (api, name) = (self.api(namespace, kind).await?, name.to_owned());
        run(async move {
            let patched = api
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
            Ok(serde_json::to_value(patched)?)
        })
        .await
    }

    /// Changes the status of an object by a JSON merge patch.
    pub(crate) async fn merge_status(
        &self,
        namespace: &str,
        kind: &Kind,
        name: &str,
        patch: Value,
    ) -> Result<()> {
        let api = self.api(namespace, kind).await?;
        patch_status(api, name.to_owned(), patch, PatchParams::default()).await
    }

    /// Has the API server check a merge patch of a status. Nothing is stored.
    pub(crate) async fn check_status(
        &self,
        namespace: &str,
        kind: &Kind,
        name: &str,
        patch: Value,
    ) -> Result<()> {
        let api = self.api(namespace, kind).await?;
        let parameters = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        patch_status(api, name.to_owned(), patch, parameters).await
    }

    /// Has the API server check whether it would create the object. Nothing is stored.
    pub(crate) async fn check_creation(&self, object: Value) -> Result<()> {
        let (api, _) = self.api_of(&object).await?;
        run(async move { create(&api, &object, true).await }).await
    }

    /// Sends a GET request for this path.
    pub(crate) async fn get_path(&self, path: &str) -> Result<Value> {
        let client = self.client().await?;
        let request = http::Request::get(path).body(Vec::new())?;
        run(async move { Ok(client.request(request).await?) }).await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let client = self.client().await?;
        let request = http::Request::post(path)
            .header("Content-Type", "application/json")
            .body(body.to_string().into_bytes())?;
        run(async move { Ok(client.request(request).await?) }).await
    }

    /// Creates a token of a ServiceAccount that is valid for a day.
    pub(crate) async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<String> {
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"expirationSeconds": 24 * 3600, "audiences": []},
        });
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let answer = self.post(&path, &request).await?;
        let token = answer["status"]["token"].as_str();
        Ok(token.context("the answer has no token")?.to_owned())
    }

    /// Asks whether the user of this client may do something, like `kubectl auth can-i`.
    pub(crate) async fn may(&self, attributes: Value) -> Result<bool> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.post(path, &review).await?;
        answer["status"]["allowed"]
            .as_bool()
            .with_context(|| format!("no answer: {answer}"))
    }

    pub(crate) async fn delete(&self, namespace: &str, kind: &Kind, name: &str) -> Result<()> {
        let (api, name) = (self.api(namespace, kind).await?, name.to_owned());
        run(async move {
            Ok(api
                .delete(&name, &DeleteParams::default())
                .await
                .map(drop)?)
        })
        .await
    }

    /// Waits until `check` accepts the present object (`None` while it does not exist); returns the
    /// result of `check`.
    pub(crate) async fn wait<T>(
        &self,
        namespace: &str,
        kind: &Kind,
        name: &str,
        mut check: impl FnMut(Option<&Value>) -> Result<T>,
    ) -> Result<T> {
        let (api, watched) = (self.api(namespace, kind).await?, name.to_owned());
        let (send, mut receive) = mpsc::channel(16);
        // The task ends when `receive` is dropped.
        runtime().spawn(async move {
            let mut events = pin!(watch_object(api, &watched));
            while let Some(event) =
                tokio::select! { event = events.next() => event, () = send.closed() => None }
            {
                let failed = event.is_err();
                if send.send(event).await.is_err() {
                    return;
                }
                if failed {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        let mut missing = anyhow!("the API server has not said what it is");
        let looking = async {
            while let Some(event) = receive.recv().await {
                let checked = match event {
                    Ok(object) => check(
                        object
                            .map(|object| serde_json::to_value(&object))
                            .transpose()?
                            .as_ref(),
                    ),
                    Err(error) => Err(error.into()),
                };
                match checked {
                    Ok(found) => return Ok(found),
                    Err(error) => missing = error,
                }
            }
            bail!("the watch has ended")
        };
        match tokio::time::timeout(BOUND, looking).await {
            Ok(ended) => ended,
            Err(_) => Err(Waiting {
                what: format!("{namespace}/{name}"),
                bound: BOUND,
                missing,
            }
            .into()),
        }
    }
}

async fn apply(api: &Api<DynamicObject>, name: &str, object: Value) -> Result<()> {
    let Some(present) = api.get_opt(name).await? else {
        return create(api, &object, false).await;
    };
    let last = present
        .metadata
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(LAST_APPLIED));
    let last: Value = last.map_or(Ok(Value::Null), |text| serde_json::from_str(text))?;
    let parameters = PatchParams {
        field_validation: Some(ValidationDirective::Strict),
        ..PatchParams::default()
    };
    api.patch(
        name,
        &parameters,
        &Patch::Merge(with_removals(&last, object)),
    )
    .await?;
    Ok(())
}

async fn patch_status(
    api: Api<DynamicObject>,
    name: String,
    patch: Value,
    parameters: PatchParams,
) -> Result<()> {
    run(async move {
        api.patch_status(&name, &parameters, &Patch::Merge(patch))
            .await?;
        Ok(())
    })
    .await
}

/// Creates an object, and refuses unknown fields.
async fn create(api: &Api<DynamicObject>, object: &Value, dry_run: bool) -> Result<()> {
    let create = kube::core::Request::new(api.resource_url());
    let parameters = PostParams {
        dry_run,
        ..PostParams::default()
    };
    let mut create = create.create(&parameters, object.to_string().into_bytes())?;
    *create.uri_mut() = format!("{}&fieldValidation=Strict", create.uri()).parse()?;
    api.clone()
        .into_client()
        .request::<DynamicObject>(create)
        .await?;
    Ok(())
}

/// Returns the API server's message if it refused a request; any other failure stays an error.
pub(crate) fn refusal<T>(result: Result<T>) -> Result<Option<String>> {
    let Err(error) = result else {
        return Ok(None);
    };
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        _ => Err(error),
    }
}

/// Returns a JSON merge patch to `object` that removes the fields that only `last` has.
fn with_removals(last: &Value, mut object: Value) -> Value {
    if let (Value::Object(last), Value::Object(object)) = (last, &mut object) {
        for (key, last) in last {
            match object.get_mut(key) {
                Some(present) => *present = with_removals(last, present.take()),
                None => drop(object.insert(key.clone(), Value::Null)),
            }
        }
    }
    object
}

/// A kind of objects, and whether it is namespaced.
pub(crate) struct Kind {
    resource: ApiResource,
    namespaced: bool,
}

/// Finds a kind by one of its usual names; `None` for kinds that only kubectl resolves.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    let (group, version, kind, plural, namespaced) = match name {
        "carg" | "CrossAccountRegistryGrant" => (
            "registrygrants.dev",
            "v1alpha1",
            "CrossAccountRegistryGrant",
            "crossaccountregistrygrants",
            true,
        ),
        "awsaccount" | "awsaccounts" | "AWSAccount" => (
            "registrygrants.dev",
            "v1alpha1",
            "AWSAccount",
            "awsaccounts",
            false,
        ),
        "pod" => ("", "v1", "Pod", "pods", true),
        "event" => ("", "v1", "Event", "events", true),
        "namespace" | "Namespace" => ("", "v1", "Namespace", "namespaces", false),
        "lease" => ("coordination.k8s.io", "v1", "Lease", "leases", true),
        "crd" => (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        ),
        "RoleBinding" => (
            "rbac.authorization.k8s.io",
            "v1",
            "RoleBinding",
            "rolebindings",
            true,
        ),
        "validatingadmissionpolicy" | "ValidatingAdmissionPolicy" => (
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicy",
            "validatingadmissionpolicies",
            false,
        ),
        "validatingadmissionpolicybinding" | "ValidatingAdmissionPolicyBinding" => (
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingAdmissionPolicyBinding",
            "validatingadmissionpolicybindings",
            false,
        ),
        _ => return None,
    };
    let group_version = kube::api::GroupVersionKind::gvk(group, version, kind);
    Some(Kind {
        resource: ApiResource::from_gvk_with_plural(&group_version, plural),
        namespaced,
    })
}

#[cfg(test)]
mod tests {
    use super::with_removals;
    use serde_json::json;

    #[test]
    fn field_missing_from_the_new_object_is_removed() {
        let last = json!({"spec": {"a": 1, "b": {"c": 2, "d": 3}, "list": [1, 2]}});
        let object = json!({"spec": {"b": {"c": 4}, "list": [2], "new": true}});
        let patch =
            json!({"spec": {"a": null, "b": {"c": 4, "d": null}, "list": [2], "new": true}});
        assert_eq!(with_removals(&last, object), patch);
    }
}
