//! Writes the finalizer and the status of our resources in the cluster. Each write takes a permit
//! of this replica's term, and ends within it.

use crate::api::grant::CrossAccountRegistryGrantStatus;
use crate::api::{CrossAccountRegistryGrant, FIELD_MANAGER, FINALIZER};
use crate::controller::leadership::{Leadership, WritePermit};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;
use std::future::Future;
use std::time::Duration;

fn api(client: &Client, grant: &CrossAccountRegistryGrant) -> Api<CrossAccountRegistryGrant> {
    Api::namespaced(client.clone(), &grant.namespace().unwrap_or_default())
}

/// Returns whether the grant has our finalizer.
pub fn has_finalizer(grant: &CrossAccountRegistryGrant) -> bool {
    grant
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Adds our finalizer, and returns the grant with it. From then on the grant cannot disappear
/// before its access was revoked.
pub async fn add_finalizer(
    permit: WritePermit,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
) -> Result<CrossAccountRegistryGrant, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.push(FINALIZER.into());
    set_finalizers(permit, client, grant, finalizers).await
}

/// Removes our finalizer, so that a deleted grant may disappear. If the grant was written since it
/// was read (by the operator's own status update, for instance), it is read again.
///
/// # Errors
/// When the API server refuses. Also when the spec has changed, or the grant has a record again:
/// then the next reconcile decides.
pub async fn remove_finalizer(
    leadership: &Leadership,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
) -> Result<(), Error> {
    const ATTEMPTS: u32 = 3;
    let mut current = grant.clone();
    let mut attempt = 1;
    loop {
        let finalizers = current
            .finalizers()
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .cloned()
            .collect();
        let permit = permitted(leadership)?;
        let conflict = match set_finalizers(permit, client, &current, finalizers).await {
            Err(Error::Api(status)) if status.is_not_found() => return Ok(()),
            Err(Error::Api(status)) if status.is_conflict() && attempt < ATTEMPTS => {
                Error::Api(status)
            }
            other => return other.map(drop),
        };
        match in_time(api(client, grant).get_opt(&grant.name_any())).await? {
            Some(found) if found.uid() == grant.uid() && !has_finalizer(&found) => return Ok(()),
            Some(found) if found.uid() == grant.uid() && may_still_go(grant, &found) => {
                current = found
            }
            Some(found) if found.uid() == grant.uid() => return Err(conflict),
            Some(_) | None => return Ok(()),
        }
        attempt += 1;
    }
}

/// Returns whether a decision on a grant still applies to its current version: the spec is the
/// same, and a grant that is not deleted has no record to guard.
fn may_still_go(decided: &CrossAccountRegistryGrant, now: &CrossAccountRegistryGrant) -> bool {
    let has_record = now
        .status
        .as_ref()
        .is_some_and(|status| status.applied.is_some());
    let is_deleted = decided.meta().deletion_timestamp.is_some();
    now.meta().generation == decided.meta().generation && (is_deleted || !has_record)
}

/// Replaces the entire list of finalizers. The patch contains the resource version of the list that
/// was read, so that finalizers of others are never lost.
async fn set_finalizers(
    permit: WritePermit,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
    finalizers: Vec<String>,
) -> Result<CrossAccountRegistryGrant, Error> {
    let patch = json!({
        "metadata": { "resourceVersion": grant.resource_version(), "uid": grant.uid(), "finalizers": finalizers }
    });
    let (api, name, parameters) = (api(client, grant), grant.name_any(), PatchParams::default());
    let write = async { api.patch(&name, &parameters, &Patch::Merge(patch)).await };
    in_term(permit, write).await
}

/// Writes a grant's status.
pub async fn grant_status(
    permit: WritePermit,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
    status: &CrossAccountRegistryGrantStatus,
) -> Result<(), Error> {
    self::status(permit, api(client, grant), grant, status).await
}

/// Writes an entire status by server-side apply: fields that are not in it any more are removed.
pub async fn status<K>(
    permit: WritePermit,
    api: Api<K>,
    object: &K,
    status: &impl Serialize,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    status_as(FIELD_MANAGER, permit, api, object, status).await
}

/// Writes one field manager's part of a status. Fields that are not in it any more are removed, and
/// fields of other managers stay.
pub async fn status_as<K>(
    manager: &str,
    permit: WritePermit,
    api: Api<K>,
    object: &K,
    status: &impl Serialize,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": { "uid": object.uid() },
        "status": status,
    });
    let parameters = PatchParams::apply(manager).force();
    let write = async {
        api.patch_status(&object.name_any(), &parameters, &Patch::Apply(patch))
            .await
    };
    in_term(permit, write).await.map(drop)
}

/// Replaces one part of a status by a merge patch. If the stored CRD does not know the part yet,
/// the API server drops it, which must not hold up anything. An object that is gone needs no write.
pub async fn status_part<K>(
    manager: &str,
    permit: WritePermit,
    api: Api<K>,
    object: &K,
    status: &impl Serialize,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({ "metadata": { "uid": object.uid() }, "status": status });
    let parameters = PatchParams {
        field_manager: Some(manager.into()),
        ..PatchParams::default()
    };
    let write = async {
        api.patch_status(&object.name_any(), &parameters, &Patch::Merge(patch))
            .await
    };
    match in_term(permit, write).await {
        Err(Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// Limits the time of a read: without an answer, it holds up one grant for a while, and not for
/// ever.
pub async fn in_time<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    const LIMIT: Duration = Duration::from_secs(15);
    match tokio::time::timeout(LIMIT, read).await {
        Ok(answered) => answered,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

/// Permits one write in the cluster, if this replica leads.
///
/// # Errors
/// When it does not, or its Lease is about to run out.
pub fn permitted(leadership: &Leadership) -> Result<WritePermit, Error> {
    leadership
        .write_permit()
        .map_err(|problem| Error::Service(problem.message.into()))
}

/// Runs a write in the cluster. Its time limit is the one that the Lease leaves room for, as for a
/// call to AWS.
async fn in_term<T>(
    permit: WritePermit,
    write: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let deadline = permit.deadline();
    match permit.carry(tokio::time::timeout_at(deadline, write)).await {
        Ok(answered) => answered,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::client::Body;
    use serde_json::Value;
    use std::sync::{Arc, Mutex};

    fn grant(version: &str, generation: i64, status: &Value) -> CrossAccountRegistryGrant {
        serde_json::from_value(json!({
            "apiVersion": "registrygrants.dev/v1alpha1", "kind": "CrossAccountRegistryGrant",
            "metadata": {
                "name": "g", "namespace": "team", "uid": "1", "resourceVersion": version, "generation": generation,
                "finalizers": ["other/one", FINALIZER],
            },
            "spec": {
                "access": "Pull", "paths": ["Direct"],
                "registry": {"accountID": "111111111111", "regions": ["us-east-1"], "repositories": ["app"]},
                "consumer": {"accountID": "222222222222", "wholeAccount": true},
            },
            "status": status,
        }))
        .unwrap()
    }

    /// Removes the finalizer of a grant that was read at version 1, from an API server that has
    /// `stored`. Returns the finalizers there afterwards.
    async fn removed(stored: CrossAccountRegistryGrant) -> (Result<(), Error>, Vec<String>) {
        let stored = Arc::new(Mutex::new(serde_json::to_value(stored).unwrap()));
        let server = stored.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let stored = server.clone();
            async move {
                let is_patch = request.method() == http::Method::PATCH;
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut stored = stored.lock().unwrap();
                let mut code = 200;
                if is_patch {
                    let patch: Value = serde_json::from_slice(&body).unwrap();
                    if patch["metadata"]["resourceVersion"] == stored["metadata"]["resourceVersion"]
                    {
                        stored["metadata"]["finalizers"] = patch["metadata"]["finalizers"].clone();
                    } else {
                        code = 409;
                    }
                }
                let conflict = json!({"status": "Failure", "reason": "Conflict", "message": "modified", "code": 409});
                let answer = if code == 409 {
                    conflict
                } else {
                    stored.clone()
                };
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, std::convert::Infallible>(
                    http::Response::builder().status(code).body(answer).unwrap(),
                )
            }
        });
        let client = Client::new(service, "default");
        let leadership = Leadership::always(Duration::from_secs(10));
        let result = remove_finalizer(&leadership, &client, &grant("1", 1, &json!({}))).await;
        let finalizers =
            serde_json::from_value(stored.lock().unwrap()["metadata"]["finalizers"].clone())
                .unwrap();
        (result, finalizers)
    }

    #[tokio::test]
    async fn finalizer_is_removed_despite_a_newer_status() {
        let (result, finalizers) = removed(grant("2", 1, &json!({}))).await;
        result.unwrap();
        assert_eq!(finalizers, ["other/one"]);
    }

    #[tokio::test]
    async fn finalizer_stays_after_a_change_or_with_a_new_record() {
        let applied =
            json!({"applied": {"repositories": [{"region": "us-east-1", "patterns": ["app"]}]}});
        for stored in [grant("2", 2, &json!({})), grant("2", 1, &applied)] {
            let (result, finalizers) = removed(stored).await;
            assert!(
                matches!(&result, Err(Error::Api(status)) if status.is_conflict()),
                "{result:?}"
            );
            assert_eq!(finalizers.len(), 2);
        }
    }
}
