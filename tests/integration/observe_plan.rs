//! Mode `Observe` and the subcommand `plan` show what would be done, and write nothing.

use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged, condition, list};
use crate::support::command_line::{in_cluster, run};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use local_stack::{
    AuditLog, CallLog, IamCalls as _, Installation, REGION, by_operation, eventually,
};
use serde_json::{Value, json};

fn observing(grant: &Value) -> Result<()> {
    let ready = condition(grant, "Ready").context("no condition Ready yet")?;
    let current = grant["status"]["observedGeneration"] == grant["metadata"]["generation"];
    ensure!(
        current && ready["reason"] == "Observing",
        "not observed yet: {ready}"
    );
    Ok(())
}

/// Returns the plan as text, with the accounts' names instead of their numbers.
fn pending(case: &Case<'_>, grant: &Value) -> Vec<String> {
    let items = grant["status"]["pending"]["items"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    items
        .iter()
        .filter_map(Value::as_str)
        .map(|item| plain(case, item))
        .collect()
}

fn plain(case: &Case<'_>, text: &str) -> String {
    text.replace(&case.pair.registry, "REGISTRY")
        .replace(&case.pair.consumer, "CONSUMER")
}

#[tokio::test]
async fn observed_grant_reports_pending_changes_and_writes_nothing() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    let log = CallLog::of(case.stack());
    let mark = log.mark()?;
    case.apply(&case.grant(json!({"mode": "Observe"}))).await?;
    let grant = case
        .cluster()
        .wait_until(&case.namespace, GRANT, observing)
        .await?;
    let told = pending(&case, &grant);
    ensure!(
        told.len() == 7 && grant["status"]["pending"]["changes"] == 7,
        "{told:#?}"
    );
    for expected in [
        "create role node in account CONSUMER",
        "add role node to instance profile node in account CONSUMER",
        "create role pusher-grant in account REGISTRY",
        "set the policy of repository app in account REGISTRY, us-east-1",
    ] {
        ensure!(
            told.iter().any(|item| item == expected),
            "not `{expected}`: {told:#?}"
        );
    }
    let denied = grant["status"]["access"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|told| told["verdict"] == "Denied");
    ensure!(denied.count() == 4, "{:#}", grant["status"]["access"]);
    let writes: Vec<String> = log
        .of_operator(mark)?
        .into_iter()
        .filter(|call| [&case.pair.registry, &case.pair.consumer].contains(&&call.account))
        .map(|call| call.action)
        .filter(|action| {
            !["Get", "List", "Describe", "Assume"]
                .iter()
                .any(|read| action.starts_with(read))
        })
        .collect();
    ensure!(writes.is_empty(), "it wrote: {writes:?}");
    assert_unchanged(&before, &case.accounts().await?)?;

    // The operator does what the plan shows.
    case.granted(json!({})).await?;
    let made = case.accounts().await?;

    // Back in mode Observe: what is applied stays, whatever the spec says.
    case.apply(&case.grant(json!({"mode": "Observe", "access": "Pull"})))
        .await?;
    let grant = case
        .cluster()
        .wait_until(&case.namespace, GRANT, observing)
        .await?;
    ensure!(
        pending(&case, &grant)
            .iter()
            .any(|item| item.contains("policy of repository app")),
        "{grant:#}"
    );
    assert_unchanged(&made, &case.accounts().await?)?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn plan_shows_what_is_done_and_is_empty_afterwards() -> Result<()> {
    let installation = Installation::exclusive().await?;
    // With its own name, which determines the names in AWS.
    let case = Case {
        installation: &installation,
        pair: installation.fresh_pair().await?,
        namespace: "team-plan".into(),
    };
    installation
        .cluster
        .create_namespace(&case.namespace)
        .await?;
    case.apply_accounts().await?;
    let id = "0123456789ab";
    let arguments = [&NO_RESYNC[..], &["--installation", id]].concat();
    let _operator = installation.start_operator(OPERATOR, &arguments).await?;
    let manifests = list(vec![
        case.registry_account(json!({})),
        case.consumer_account(json!({})),
        case.grant(json!({})),
    ]);
    let plan = ["plan", "-f", "-", "--installation", id];
    let fresh = run(&case, &plan, &manifests).await?;
    ensure!(fresh.status == 2, "{fresh:?}");
    insta::assert_snapshot!("plan_of_a_fresh_grant", plain(&case, &fresh.stdout));

    case.granted(json!({})).await?;
    let done = run(&case, &plan, &manifests).await?;
    ensure!(done.status == 0, "{done:?}");
    insta::assert_snapshot!("plan_with_nothing_to_do", plain(&case, &done.stdout));
    let done = run(
        &case,
        &[&plan[..], &["--complete"]].concat(),
        &in_cluster(&case).await?,
    )
    .await?;
    ensure!(done.status == 0, "{done:?}");

    // Somebody allows another account, removes a policy, and widens the repository's policy.
    let registry = case.stack().aws(&case.pair.registry);
    let trust = json!({"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": format!("arn:aws:iam::{}:root", case.pair.registry)}}});
    registry
        .iam
        .set_trust_policy("pusher-grant", trust.to_string())
        .await?;
    let app = case.repository("app");
    let policy = app.policy(case.stack()).await?.context("no policy")?;
    let widened = policy.to_string().replace(
        "\"ecr:PutImage\",",
        "\"ecr:PutImage\",\"ecr:DeleteRepository\",",
    );
    ensure!(widened != policy.to_string(), "{policy}");
    app.set_policy(
        case.stack(),
        &local_stack::Document(serde_json::from_str(&widened)?),
    )
    .await?;
    let drift = run(&case, &plan, &manifests).await?;
    ensure!(drift.status == 2, "{drift:?}");
    let moment = without_moments(&drift.stdout);
    insta::assert_snapshot!("plan_with_drift", plain(&case, &moment));
    let json = run(
        &case,
        &[&plan[..], &["--output", "json"]].concat(),
        &manifests,
    )
    .await?
    .json()?;
    ensure!(
        json["grants"][0]["changes"]
            .as_array()
            .is_some_and(|changes| changes.len() >= 2),
        "{json:#}"
    );

    case.reconcile().await?;
    let done = run(&case, &plan, &manifests).await?;
    ensure!(
        done.status == 0,
        "applying the plan leaves something: {done:?}"
    );

    let retained = deleting_with_retain(in_cluster(&case).await?)?;
    let retained = run(&case, &plan, &retained).await?;
    ensure!(retained.status == 2, "{retained:?}");
    insta::assert_snapshot!("plan_of_a_retained_grant", plain(&case, &retained.stdout));
    Ok(())
}

/// Returns the manifests of a grant that is being deleted with `deletionPolicy: Retain`, which the
/// accounts allow.
fn deleting_with_retain(mut list: Value) -> Result<Value> {
    for item in list["items"].as_array_mut().context("no list")? {
        if item["kind"] == "CrossAccountRegistryGrant" {
            item["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            item["spec"]["deletionPolicy"] = json!("Retain");
        }
        for side in ["registry", "consumer"] {
            if let Some(rule) = item["spec"][side].pointer_mut("/rules/0") {
                rule["allowRetain"] = json!(true);
            }
        }
    }
    Ok(list)
}

/// Returns the text with all times, such as `2026-01-01T00:00:00Z`, replaced by the same one.
fn without_moments(text: &str) -> String {
    let is_moment = |word: &&str| {
        word.len() == 20 && word.ends_with('Z') && word.contains('T') && word.starts_with("20")
    };
    let words: Vec<&str> = text
        .split(|c: char| c.is_whitespace() || c == '"')
        .filter(is_moment)
        .collect();
    words.iter().fold(text.to_owned(), |text, moment| {
        text.replace(moment, "MOMENT")
    })
}

#[tokio::test]
async fn plan_reports_refusals_and_keeps_other_grants_access() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": {"instanceRole": null}})).await?;
    let policy = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    let sid = policy.statements()[0]["Sid"]
        .as_str()
        .context("no Sid")?
        .to_owned();
    let id = &sid["RegistryGrants".len()..][..12];
    // The policy contains another grant, which is in no file.
    let second = case.grant_named(
        "second",
        json!({"paths": ["Direct"], "registry": {"role": null},
        "consumer": {"wholeAccount": null, "roles": ["ci/*"], "instanceRole": null}}),
    );
    let accounts = [
        case.registry_account(json!({})),
        case.consumer_account(json!({})),
    ];
    let manifests = list([&accounts[..], &[second]].concat());
    let output = run(
        &case,
        &["plan", "-f", "-", "--installation", id, "--output", "json"],
        &manifests,
    )
    .await?;
    let after = output.json()?["grants"][0]["changes"][0]["policy"]["after"].clone();
    ensure!(
        output.status == 2
            && after["Statement"]
                .as_array()
                .is_some_and(|all| all.len() == 2),
        "{output:?}"
    );

    let wide = case.grant_named("wide", json!({"registry": {"repositories": ["other/*"]}}));
    let output = run(
        &case,
        &["plan", "-f", "-", "--installation", id],
        &list([&accounts[..], &[wide]].concat()),
    )
    .await?;
    ensure!(
        output.status == 1 && output.stdout.contains("NotAdmitted"),
        "{output:?}"
    );
    Ok(())
}

#[tokio::test]
async fn hundred_idle_reconciles_write_nothing() -> Result<()> {
    const GRANTS: usize = 10;
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let _operator = installation
        .start_operator(
            OPERATOR,
            &["--resync-interval=1s", "--leader-election=false"],
        )
        .await?;
    let grants = (0..GRANTS).map(|n| {
        case.grant_named(
            &format!("g{n}"),
            json!({"consumer": {"instanceRole": {"name": format!("node{n}")}}}),
        )
    });
    case.apply(&list(grants)).await?;
    let ready = case
        .cluster()
        .wait_for_all(&case.namespace, "carg", "Ready")
        .await?;
    ensure!(ready.len() == GRANTS, "{} grants", ready.len());
    let (log, audit) = (CallLog::of(case.stack()), AuditLog::of(case.stack()));
    // Each grant reports Granted once it was reconciled again.
    let looks = |mark| -> Result<usize> {
        let calls = log.of_operator(mark)?;
        Ok(calls
            .iter()
            .filter(|call| call.account == case.pair.registry && call.action == "GetRole")
            .count())
    };
    let start = log.mark()?;
    eventually("each was looked at again", async || {
        ensure!(looks(start)? >= 2 * GRANTS, "{} looks", looks(start)?);
        Ok(())
    })
    .await?;
    let (calls, writes) = (log.mark()?, audit.mark()?);
    eventually("a hundred looks", async || {
        ensure!(looks(calls)? >= 100, "{} looks", looks(calls)?);
        Ok(())
    })
    .await?;
    let objects = format!("{}/", case.namespace);
    let written: Vec<_> = audit
        .of_operator(writes)
        .await?
        .into_iter()
        .filter(|write| write.object.starts_with(&objects))
        .collect();
    ensure!(written.is_empty(), "written to the API server: {written:?}");
    let operations = by_operation(&log.of_operator(calls)?);
    let in_aws: Vec<_> = operations
        .keys()
        .filter(|name| {
            !["Get", "List", "Describe", "Assume"]
                .iter()
                .any(|read| name.contains(read))
        })
        .collect();
    ensure!(in_aws.is_empty(), "written to AWS: {in_aws:?} in {REGION}");
    Ok(())
}
