//! A revocation is complete: whatever other grants exist, and whenever the operator is started, no
//! access remains that no live grant asks for.

use crate::support::case::{Case, GRANT, condition, direct};
use crate::support::restartable::Restartable;
use crate::support::unparsable::{kubectl_delete, make_fields_unparsable};
use anyhow::{Context, Result, ensure};
use local_stack::{Document, Installation, REGION, eventually};
use serde_json::{Value, json};

fn is(reason: &'static str) -> impl Fn(&Value) -> Result<()> {
    move |grant| {
        let ready = condition(grant, "Ready").context("no condition Ready yet")?;
        let current = grant["status"]["observedGeneration"] == grant["metadata"]["generation"];
        ensure!(
            current && ready["reason"] == reason,
            "not {reason} yet: {ready}"
        );
        Ok(())
    }
}

/// Two grants that ask for the same as the first one and never had access. Nothing is written for
/// them.
async fn frozen_beside(case: &Case<'_>) -> Result<()> {
    case.apply(&case.grant_named("watching", direct(json!({"mode": "Observe"}))))
        .await?;
    case.apply(&case.grant_named("paused", direct(json!({"suspend": true}))))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, "carg/watching", is("Observing"))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, "carg/paused", is("Suspended"))
        .await
        .map(drop)
}

async fn nothing_is_left(case: &Case<'_>) -> Result<()> {
    let policy = case.repository("app").policy(case.stack()).await?;
    ensure!(policy.is_none(), "it is left: {policy:?}");
    Ok(())
}

#[tokio::test]
async fn deleted_grants_access_is_revoked_beside_frozen_grants() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    case.delete().await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

#[tokio::test]
async fn restart_before_deletion_gives_access_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    operator.stop()?;
    operator.start().await?;
    case.delete().await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

#[tokio::test]
async fn deletion_before_restart_gives_access_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    operator.stop()?;
    // Its spec is changed, too: its access is from the earlier spec.
    case.apply(&case.grant(direct(json!({"access": "Pull"}))))
        .await?;
    case.begin_to_delete().await?;
    operator.start().await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

/// Restores the lost cluster from a backup without status. The operator must not run.
async fn restored_without_status(case: &Case<'_>, grant: &str) -> Result<()> {
    let mut saved = case.cluster().get(&case.namespace, grant).await?;
    let none = json!({"metadata": {"finalizers": null}});
    case.cluster().merge(&case.namespace, grant, none).await?;
    case.delete_named(grant).await?;
    let kept = ["name", "namespace", "finalizers"];
    saved["metadata"]
        .as_object_mut()
        .context("no metadata")?
        .retain(|key, _| kept.contains(&key.as_str()));
    saved.as_object_mut().context("no object")?.remove("status");
    case.apply(&saved).await
}

/// Restores the lost cluster without status while the grant is suspended and the operator does not
/// run. Returns the repository's policy.
async fn suspended_and_restored(
    operator: &mut Restartable<'_>,
    case: &Case<'_>,
) -> Result<Document> {
    case.granted(direct(json!({}))).await?;
    case.apply(&case.grant(direct(json!({"suspend": true}))))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, is("Suspended"))
        .await?;
    let before = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    operator.stop()?;
    restored_without_status(case, GRANT).await?;
    Ok(before)
}

#[tokio::test]
async fn frozen_grant_regains_its_lost_record_and_can_be_revoked() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    let before = suspended_and_restored(&mut operator, &case).await?;
    operator.start().await?;
    // Another grant on the repository, which triggers a write of its policy, and asks for a part of
    // the same access.
    let other = case.grant_named("other", direct(json!({"access": "Pull"})));
    case.apply(&other).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    let recorded = |grant: &Value| {
        let covers = &grant["status"]["applied"]["repositories"];
        ensure!(covers.is_array(), "no record yet: {}", grant["status"]);
        Ok(())
    };
    case.cluster()
        .wait_until(&case.namespace, GRANT, recorded)
        .await?;
    case.cluster()
        .event(&case.namespace, "", &["RecordFound"])
        .await?;
    case.delete_named("carg/other").await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(before.same_meaning(&after), "{before:?} became {after:?}");
    // From now on it is revoked like any other grant.
    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    case.not_ready("NotAdmitted").await?;
    eventually("it is revoked", async || nothing_is_left(&case).await).await?;
    operator.finish()
}

/// Makes the API server refuse a record for the grant of this case until the returned policy is
/// deleted.
async fn records_are_refused(case: &Case<'_>) -> Result<[&'static str; 2]> {
    let admission = |kind: &str, spec: Value| {
        let api_version = "admissionregistration.k8s.io/v1";
        json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "no-records"}, "spec": spec})
    };
    let is_it = format!(
        "object.metadata.namespace == '{}' && object.metadata.name == 'grant'",
        case.namespace
    );
    let resources = json!([{
        "apiGroups": ["registrygrants.dev"],
        "apiVersions": ["*"],
        "operations": ["UPDATE"],
        "resources": ["crossaccountregistrygrants/status"],
    }]);
    let policy = json!({
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": resources},
        "matchConditions": [{"name": "it", "expression": is_it}],
        "validations": [{"expression": "!has(object.status.applied)", "message": "no records here"}],
    });
    case.apply(&admission("ValidatingAdmissionPolicy", policy))
        .await?;
    let binding = json!({"policyName": "no-records", "validationActions": ["Deny"]});
    case.apply(&admission("ValidatingAdmissionPolicyBinding", binding))
        .await?;
    let record =
        json!({"status": {"applied": {"repositories": [{"region": REGION, "patterns": ["x"]}]}}});
    eventually("the API server refuses records", async || {
        let refused = case
            .cluster()
            .would_refuse_status(&case.namespace, GRANT, record.clone())
            .await?
            .context("it takes them")?;
        ensure!(refused.contains("no records here"), "{refused}");
        Ok(())
    })
    .await?;
    Ok([
        "validatingadmissionpolicybinding/no-records",
        "validatingadmissionpolicy/no-records",
    ])
}

/// Another grant on the repository is granted and revoked, and the policy is as before.
async fn another_comes_and_goes(case: &Case<'_>, before: &Document) -> Result<()> {
    case.apply(&case.grant_named("other", direct(json!({"access": "Pull"}))))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    case.delete_named("carg/other").await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(before.same_meaning(&after), "{before:?} became {after:?}");
    Ok(())
}

/// A grant whose status is not accepted does not delay other grants on its repository, and loses no
/// access.
#[tokio::test]
async fn record_rejected_by_the_api_server_blocks_no_other_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    let before = suspended_and_restored(&mut operator, &case).await?;
    let refusing = records_are_refused(&case).await?;
    operator.start().await?;
    another_comes_and_goes(&case, &before).await?;
    for object in refusing {
        case.cluster().delete("", object).await?;
    }
    case.delete().await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

/// The same if the API server accepts the record, but the operator cannot parse the response.
#[tokio::test]
async fn unparsable_fields_of_a_recordless_grant_block_no_other_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    let before = suspended_and_restored(&mut operator, &case).await?;
    make_fields_unparsable(&case).await?;
    operator.start().await?;
    another_comes_and_goes(&case, &before).await?;
    kubectl_delete(&case, GRANT).await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

/// Access that is written back during a restart is not attributed to a frozen grant with a lost
/// record.
#[tokio::test]
async fn access_written_back_over_a_restart_goes_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    case.apply(&case.grant_named("paused", direct(json!({"suspend": true}))))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, "carg/paused", is("Suspended"))
        .await?;
    let app = case.repository("app");
    let read = app.policy(case.stack()).await?.context("no policy")?;
    case.delete().await?;
    operator.stop()?;
    app.set_policy(case.stack(), &read).await?;
    operator.start().await?;
    eventually("it is taken out again", async || {
        ensure!(app.policy(case.stack()).await?.is_none(), "still there");
        Ok(())
    })
    .await?;
    let paused = case.cluster().get(&case.namespace, "carg/paused").await?;
    ensure!(
        paused["status"]["applied"].is_null(),
        "{}",
        paused["status"]
    );
    operator.finish()
}

/// The same for an enforced grant: its deletion finds the access by the finalizer, so it may stay.
#[tokio::test]
async fn grant_that_never_gets_a_record_blocks_no_other_revocation() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (operator, case) = Restartable::with_accounts(&installation).await?;
    case.apply(&case.grant_named("other", direct(json!({}))))
        .await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    case.apply(&case.grant(direct(json!({"suspend": true}))))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, is("Suspended"))
        .await?;
    let refusing = records_are_refused(&case).await?;
    case.apply(&case.grant(direct(json!({"suspend": false}))))
        .await?;
    let guarded = |grant: &Value| {
        ensure!(
            grant["metadata"]["finalizers"].is_array(),
            "no finalizer yet"
        );
        Ok(())
    };
    case.cluster()
        .wait_until(&case.namespace, GRANT, guarded)
        .await?;
    case.delete_named("carg/other").await?;
    for object in refusing {
        case.cluster().delete("", object).await?;
    }
    case.reconcile().await?;
    case.ready().await?;
    case.delete().await?;
    nothing_is_left(&case).await?;
    operator.finish()
}

#[tokio::test]
async fn recordless_grant_that_is_not_admitted_is_found_by_its_spec() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(json!({})).await?;
    operator.stop()?;
    restored_without_status(&case, GRANT).await?;
    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    operator.start().await?;
    case.not_ready("NotAdmitted").await?;
    eventually("it is revoked", async || {
        nothing_is_left(&case).await?;
        let (registry, consumer) = case.accounts().await?;
        ensure!(
            !registry.roles.contains_key("pusher-grant"),
            "the registry's role is left"
        );
        ensure!(
            !consumer.roles.contains_key("node"),
            "the instance role is left"
        );
        Ok(())
    })
    .await?;
    operator.finish()
}

#[tokio::test]
async fn recordless_frozen_grant_is_found_by_its_spec_on_deletion() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(json!({})).await?;
    case.apply(&case.grant(json!({"suspend": true}))).await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, is("Suspended"))
        .await?;
    operator.stop()?;
    restored_without_status(&case, GRANT).await?;
    case.begin_to_delete().await?;
    operator.start().await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    nothing_is_left(&case).await?;
    let (registry, consumer) = case.accounts().await?;
    ensure!(
        !registry.roles.contains_key("pusher-grant"),
        "the registry's role is left"
    );
    ensure!(
        !consumer.roles.contains_key("node"),
        "the instance role is left"
    );
    operator.finish()
}

#[tokio::test]
async fn access_written_back_while_the_operator_is_down_is_removed() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut operator, case) = Restartable::with_accounts(&installation).await?;
    case.granted(direct(json!({}))).await?;
    let app = case.repository("app");
    let read = app.policy(case.stack()).await?.context("no policy")?;
    case.delete().await?;
    let account = case
        .cluster()
        .get("", &format!("awsaccount/{}", case.pair.registry))
        .await?;
    let recorded = &account["status"]["recentlyRevoked"][0];
    ensure!(
        recorded["repository"] == "app" && recorded["region"] == REGION,
        "{}",
        account["status"]
    );
    operator.stop()?;
    // Somebody who had read the policy before writes it back.
    app.set_policy(case.stack(), &read).await?;
    operator.start().await?;
    eventually("it is taken out", async || nothing_is_left(&case).await).await?;
    operator.finish()
}
