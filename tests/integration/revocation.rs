//! A revocation is done when the document read back contains nothing that no live grant asks for:
//! whatever else there is in the cluster, and whenever the operator starts. Each test has the
//! operator to itself, to end it and start it.

use crate::support::case::{Case, GRANT, OPERATOR, condition};
use anyhow::{Context, Result, ensure};
use local_stack::{Document, Installation, Operator, eventually};
use serde_json::{Value, json};

/// Nothing but what a test does makes it work. No test here waits for the sweep.
const QUIET: [&str; 4] = [
    "--resync-interval=1h",
    "--leader-election=false",
    "--sweep=off",
    "--log-level=info,registry_grants=debug",
];

/// The operator of one test.
pub struct Running<'a> {
    installation: &'a Installation,
    pub operator: Option<Operator>,
}

impl<'a> Running<'a> {
    pub async fn begin(installation: &'a Installation) -> Result<(Self, Case<'a>)> {
        let mut running = Self {
            installation,
            operator: None,
        };
        let case = Case::on(installation).await?;
        case.open().await?;
        running.start().await?;
        Ok((running, case))
    }

    pub async fn start(&mut self) -> Result<()> {
        self.operator = Some(self.installation.start_operator(OPERATOR, &QUIET).await?);
        Ok(())
    }

    pub fn stop(&mut self) -> Result<()> {
        let operator = self.operator.take().context("it does not run")?;
        ensure!(operator.terminate()?.success(), "it did not end well");
        Ok(())
    }

    pub fn end(mut self) -> Result<()> {
        self.stop()
    }
}

/// Access by the repository's policy alone.
pub fn direct(changes: Value) -> Value {
    let spec = json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": {"instanceRole": null}});
    crate::support::case::merged(spec, changes)
}

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

/// Two grants that ask for the same as the first one, and never had anything: nothing is written
/// for them.
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

pub async fn delete(case: &Case<'_>, grant: &str, wait: &str) -> Result<()> {
    let arguments = [
        "delete",
        grant,
        "--namespace",
        &case.namespace,
        wait,
        "--timeout=180s",
    ];
    case.cluster().kubectl(&arguments).await.map(drop)
}

#[tokio::test]
async fn deleted_grants_access_is_revoked_beside_frozen_grants() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (running, case) = Running::begin(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    delete(&case, GRANT, "--wait=true").await?;
    nothing_is_left(&case).await?;
    running.end()
}

#[tokio::test]
async fn restart_before_deletion_gives_access_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    running.stop()?;
    running.start().await?;
    delete(&case, GRANT, "--wait=true").await?;
    nothing_is_left(&case).await?;
    running.end()
}

#[tokio::test]
async fn deletion_before_restart_gives_access_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(direct(json!({}))).await?;
    frozen_beside(&case).await?;
    running.stop()?;
    // Its spec is changed as well: what it had is by the spec before.
    case.apply(&case.grant(direct(json!({"access": "Pull"}))))
        .await?;
    delete(&case, GRANT, "--wait=false").await?;
    running.start().await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    nothing_is_left(&case).await?;
    running.end()
}

/// The cluster is lost and comes back from a backup, without status. The operator must not run.
async fn restored_without_status(case: &Case<'_>, grant: &str) -> Result<()> {
    let mut saved = case.cluster().get(&case.namespace, grant).await?;
    let none = r#"{"metadata":{"finalizers":null}}"#;
    case.cluster()
        .kubectl(&[
            "patch",
            grant,
            "--namespace",
            &case.namespace,
            "--type=merge",
            "--patch",
            none,
        ])
        .await?;
    delete(case, grant, "--wait=true").await?;
    let kept = ["name", "namespace", "finalizers"];
    saved["metadata"]
        .as_object_mut()
        .context("no metadata")?
        .retain(|key, _| kept.contains(&key.as_str()));
    saved.as_object_mut().context("no object")?.remove("status");
    case.apply(&saved).await
}

/// The cluster is lost while the grant is suspended, and comes back without status; the operator
/// does not run. Returns the repository's policy.
async fn suspended_and_restored(running: &mut Running<'_>, case: &Case<'_>) -> Result<Document> {
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
    running.stop()?;
    restored_without_status(case, GRANT).await?;
    Ok(before)
}

#[tokio::test]
async fn frozen_grant_regains_its_lost_record_and_can_be_revoked() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    let before = suspended_and_restored(&mut running, &case).await?;
    running.start().await?;
    // Another grant on the repository, which writes its policy, and asks for the same in part.
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
    let events = case
        .cluster()
        .kubectl(&["get", "events", "--namespace", &case.namespace])
        .await?;
    ensure!(
        events.contains("RecordFound"),
        "no Event tells of it: {events}"
    );
    delete(&case, "carg/other", "--wait=true").await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(before.same_meaning(&after), "{before:?} became {after:?}");
    // From now on it is revoked as any other.
    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    case.not_ready("NotAdmitted").await?;
    eventually("it is revoked", async || nothing_is_left(&case).await).await?;
    running.end()
}

/// Has the API server refuse a record for the grant of this case, until the returned policy is
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
        r#"{"status":{"applied":{"repositories":[{"region":"us-east-1","patterns":["x"]}]}}}"#;
    let patch = [
        "patch",
        GRANT,
        "--namespace",
        &case.namespace,
        "--subresource=status",
        "--type=merge",
        "--patch",
        record,
    ];
    eventually("the API server refuses records", async || {
        let tried = case
            .cluster()
            .try_kubectl(&[&patch[..], &["--dry-run=server"]].concat(), None)
            .await?;
        ensure!(tried.stderr.contains("no records here"), "{}", tried.stderr);
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
    delete(case, "carg/other", "--wait=true").await?;
    let after = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(before.same_meaning(&after), "{before:?} became {after:?}");
    Ok(())
}

/// Gives the grant of this case managed fields that the API server takes and no parser of the
/// operator does.
pub async fn make_fields_unparsable(case: &Case<'_>) -> Result<()> {
    const BEYOND_THE_PARSER: &str = "9999-12-31T23:59:59Z";
    let mut fields =
        case.cluster().get(&case.namespace, GRANT).await?["metadata"]["managedFields"].take();
    fields[0]["time"] = json!(BEYOND_THE_PARSER);
    let patch =
        json!({"metadata": {"annotations": {"example.com/a": "b"}, "managedFields": fields}})
            .to_string();
    let arguments = [
        "patch",
        GRANT,
        "--namespace",
        &case.namespace,
        "--type=merge",
        "-o=json",
        "--show-managed-fields",
        "--patch",
        &patch,
    ];
    let stored = case.cluster().kubectl(&arguments).await?;
    ensure!(
        stored.contains(BEYOND_THE_PARSER),
        "the API server did not keep it: {stored}"
    );
    Ok(())
}

/// One tenant's grant whose status is not accepted holds up nobody else on its repository, and
/// loses nothing.
#[tokio::test]
async fn record_rejected_by_the_api_server_blocks_no_other_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    let before = suspended_and_restored(&mut running, &case).await?;
    let refusing = records_are_refused(&case).await?;
    running.start().await?;
    another_comes_and_goes(&case, &before).await?;
    for object in refusing {
        case.cluster().kubectl(&["delete", object]).await?;
    }
    delete(&case, GRANT, "--wait=true").await?;
    nothing_is_left(&case).await?;
    running.end()
}

/// The same where the API server takes the record, and nobody here can parse what it answers.
#[tokio::test]
async fn unparsable_fields_of_a_recordless_grant_block_no_other_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    let before = suspended_and_restored(&mut running, &case).await?;
    make_fields_unparsable(&case).await?;
    running.start().await?;
    another_comes_and_goes(&case, &before).await?;
    delete(&case, GRANT, "--wait=true").await?;
    nothing_is_left(&case).await?;
    running.end()
}

/// What comes back over a restart is not taken for what a frozen grant had before its record was
/// lost.
#[tokio::test]
async fn access_written_back_over_a_restart_goes_to_no_frozen_grant() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(direct(json!({}))).await?;
    case.apply(&case.grant_named("paused", direct(json!({"suspend": true}))))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, "carg/paused", is("Suspended"))
        .await?;
    let app = case.repository("app");
    let read = app.policy(case.stack()).await?.context("no policy")?;
    delete(&case, GRANT, "--wait=true").await?;
    running.stop()?;
    app.set_policy(case.stack(), &read).await?;
    running.start().await?;
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
    running.end()
}

/// The same for one that is enforced: by its finalizer it is found when it is deleted, so what it
/// asks for may stay.
#[tokio::test]
async fn grant_that_never_gets_a_record_blocks_no_other_revocation() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (running, case) = Running::begin(&installation).await?;
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
    delete(&case, "carg/other", "--wait=true").await?;
    for object in refusing {
        case.cluster().kubectl(&["delete", object]).await?;
    }
    case.reconcile().await?;
    case.ready().await?;
    delete(&case, GRANT, "--wait=true").await?;
    nothing_is_left(&case).await?;
    running.end()
}

#[tokio::test]
async fn recordless_grant_that_is_not_admitted_is_found_by_its_spec() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(json!({})).await?;
    running.stop()?;
    restored_without_status(&case, GRANT).await?;
    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    running.start().await?;
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
    running.end()
}

#[tokio::test]
async fn recordless_frozen_grant_is_found_by_its_spec_on_deletion() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(json!({})).await?;
    case.apply(&case.grant(json!({"suspend": true}))).await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, is("Suspended"))
        .await?;
    running.stop()?;
    restored_without_status(&case, GRANT).await?;
    delete(&case, GRANT, "--wait=false").await?;
    running.start().await?;
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
    running.end()
}

#[tokio::test]
async fn access_written_back_while_the_operator_is_down_is_removed() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let (mut running, case) = Running::begin(&installation).await?;
    case.granted(direct(json!({}))).await?;
    let app = case.repository("app");
    let read = app.policy(case.stack()).await?.context("no policy")?;
    delete(&case, GRANT, "--wait=true").await?;
    let account = case
        .cluster()
        .get("", &format!("awsaccount/{}", case.pair.registry))
        .await?;
    let recorded = &account["status"]["recentlyRevoked"][0];
    ensure!(
        recorded["repository"] == "app" && recorded["region"] == crate::support::case::REGION,
        "{}",
        account["status"]
    );
    running.stop()?;
    // Somebody who had read the policy before writes it back.
    app.set_policy(case.stack(), &read).await?;
    running.start().await?;
    eventually("it is taken out", async || nothing_is_left(&case).await).await?;
    running.end()
}
