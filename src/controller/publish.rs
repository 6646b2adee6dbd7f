//! Writes to our resources in the cluster: the finalizer, and the status. Each has a permit of this replica's term, and ends within it.

use super::Context;
use super::leadership::Leadership;
use crate::api::grant::CrossAccountRegistryGrantStatus;
use crate::api::{CrossAccountRegistryGrant, FIELD_MANAGER, FINALIZER};
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

/// Whether the grant carries our finalizer.
pub fn has_finalizer(grant: &CrossAccountRegistryGrant) -> bool {
    grant.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// Adds our finalizer, and returns the grant with it: from then on the grant cannot vanish before what it gave was taken back.
pub async fn add_finalizer(
    leadership: &Leadership,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
) -> Result<CrossAccountRegistryGrant, Error> {
    let mut finalizers = grant.finalizers().to_vec();
    finalizers.push(FINALIZER.into());
    set_finalizers(leadership, client, grant, finalizers).await
}

/// Removes our finalizer: the grant may go.
pub async fn remove_finalizer(context: &Context, grant: &CrossAccountRegistryGrant) -> Result<(), Error> {
    let finalizers = grant.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    match set_finalizers(&context.world.leadership, &context.client, grant, finalizers).await {
        Err(Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// The list is replaced whole, so the version that it was read at goes with it: other people's finalizers are never lost.
async fn set_finalizers(
    leadership: &Leadership,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
    finalizers: Vec<String>,
) -> Result<CrossAccountRegistryGrant, Error> {
    let patch = json!({
        "metadata": { "resourceVersion": grant.resource_version(), "uid": grant.uid(), "finalizers": finalizers }
    });
    let (api, name, parameters) = (api(client, grant), grant.name_any(), PatchParams::default());
    let write = async { api.patch(&name, &parameters, &Patch::Merge(patch)).await };
    in_term(leadership, write).await
}

/// Writes a grant's status.
pub async fn grant_status(
    leadership: &Leadership,
    client: &Client,
    grant: &CrossAccountRegistryGrant,
    status: &CrossAccountRegistryGrantStatus,
) -> Result<(), Error> {
    self::status(leadership, api(client, grant), grant, status).await
}

/// Writes a status whole, by server-side apply: what is not in it any more is removed.
pub async fn status<K>(leadership: &Leadership, api: Api<K>, object: &K, status: &impl Serialize) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    status_as(FIELD_MANAGER, leadership, api, object, status).await
}

/// Writes what one field manager has to say in a status: what it does not say any more is removed, what others say stays.
pub async fn status_as<K>(
    manager: &str,
    leadership: &Leadership,
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
    let write = async { api.patch_status(&object.name_any(), &parameters, &Patch::Apply(patch)).await };
    in_term(leadership, write).await.map(drop)
}

/// Replaces one part of a status by a merge patch. Where the stored definition does not know the part yet, the API server drops it: that must hold up
/// nothing. An object that is gone needs none.
pub async fn status_part<K>(
    manager: &str,
    leadership: &Leadership,
    api: Api<K>,
    object: &K,
    status: &impl Serialize,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let patch = json!({ "metadata": { "uid": object.uid() }, "status": status });
    let parameters = PatchParams { field_manager: Some(manager.into()), ..PatchParams::default() };
    let write = async { api.patch_status(&object.name_any(), &parameters, &Patch::Merge(patch)).await };
    match in_term(leadership, write).await {
        Err(Error::Api(status)) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

/// A read that is not answered holds up one grant for a while, and not for ever.
pub async fn in_time<T>(read: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    const LIMIT: Duration = Duration::from_secs(15);
    match tokio::time::timeout(LIMIT, read).await {
        Ok(answered) => answered,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}

/// Makes a write in the cluster while this replica leads. Its bound is the one that the Lease leaves room for, as for a call to AWS.
async fn in_term<T>(leadership: &Leadership, write: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let permit = leadership.may_write().map_err(|problem| Error::Service(problem.message.into()))?;
    let deadline = permit.deadline();
    match permit.carry(tokio::time::timeout_at(deadline, write)).await {
        Ok(answered) => answered,
        Err(elapsed) => Err(Error::Service(Box::new(elapsed))),
    }
}
