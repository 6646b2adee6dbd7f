//! The sweep finds what no grant claims, reports it, and removes it where that is enabled.

use crate::support::case::{Case, OPERATOR, assert_unchanged, document, resource};
use crate::support::flags::{self, FAST_RESYNC};
use anyhow::{Context, Result, ensure};
use local_stack::{
    AccountState, AuditLog, Aws, CallLog, IamCalls as _, Installation, Operator, REGION, eventually,
};
use serde_json::{Value, json};

const MARK: &str = "registrygrants.dev/installation";

/// An operator that sweeps often, or not at all.
async fn operator(installation: &Installation, sweep: &str) -> Result<Operator> {
    let sweep = format!("--sweep={sweep}");
    let more = [&sweep, "--sweep-interval=2s", "--sweep-unclaimed-for=2s"];
    let flags = flags::with(&FAST_RESYNC, &more);
    installation.start_operator(OPERATOR, &flags).await
}

/// Removes a grant's finalizer by hand while no operator runs that could revoke its access.
async fn let_go(case: &Case<'_>, grant: &str) -> Result<()> {
    case.cluster()
        .merge(
            &case.namespace,
            grant,
            json!({"metadata": {"finalizers": null}}),
        )
        .await?;
    case.cluster().delete(&case.namespace, grant).await
}

/// Waits until the account's status reports this about the last sweep.
async fn sweep_status(
    case: &Case<'_>,
    account: &str,
    check: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let is_so = |account: &Value| {
        ensure!(check(&account["status"]["sweep"]), "not yet");
        Ok(())
    };
    let mut found = case
        .cluster()
        .wait_until("default", &format!("awsaccount/{account}"), is_so)
        .await?;
    Ok(found["status"]["sweep"].take())
}

/// Waits until the operator has swept the account this many times more.
async fn swept(case: &Case<'_>, account: &str, times: usize) -> Result<()> {
    let log = CallLog::of(case.stack());
    let mark = log.mark()?;
    eventually("it is swept", async || {
        let calls = log.of_operator(mark)?;
        let looks = calls
            .iter()
            .filter(|call| call.account == account && call.action == "ListRoles")
            .count();
        // The last sweep may not have ended.
        ensure!(looks > times, "{looks} times");
        Ok(())
    })
    .await
}

/// Creates a role under the operator's path that its account may assume, with these tags.
async fn role(root: &Aws, account: &str, name: &str, tags: &[(&str, &str)]) -> Result<()> {
    let trust = json!({"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{account}:root")}, "Action": "sts:AssumeRole"});
    let mut create = root
        .iam
        .create_role()
        .role_name(name)
        .path("/registry-grants/");
    for (key, value) in tags {
        create = create.tags(aws_tag(key, value)?);
    }
    create
        .assume_role_policy_document(document(trust))
        .send()
        .await?;
    Ok(())
}

fn aws_tag(key: &str, value: &str) -> Result<aws_sdk_iam::types::Tag> {
    Ok(aws_sdk_iam::types::Tag::builder()
        .key(key)
        .value(value)
        .build()?)
}

fn arns(sweep: &Value) -> Vec<&str> {
    sweep["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["arn"].as_str())
        .collect()
}

async fn annotate(case: &Case<'_>, account: &str, confirm: &str) -> Result<()> {
    let patch = json!({"metadata": {"annotations": {"registrygrants.dev/confirm-sweep": confirm}}});
    case.cluster()
        .merge("", &format!("awsaccount/{account}"), patch)
        .await
        .map(drop)
}

/// One grant on many repositories, and one whose finalizer is removed.
async fn scene(case: &Case<'_>) -> Result<()> {
    for number in 0..20 {
        case.repository(&format!("team/{number}"))
            .create(case.stack())
            .await?;
    }
    case.apply_accounts().await?;
    let registry = json!({"repositories": ["team/*"]});
    let stays = json!({"registry": registry, "consumer": {"instanceRole": {"name": "node-stays"}}});
    case.apply(&case.grant_named("stays", stays)).await?;
    case.granted(json!({})).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/stays", "Ready")
        .await
        .map(drop)
}

/// Grants that never had access and name the orphans: one is suspended, and no rule admits the
/// other.
async fn hiding(case: &Case<'_>) -> Result<()> {
    for (name, suspend, consumer) in [
        ("suspended", true, case.pair.consumer.as_str()),
        ("refused", false, "999999999999"),
    ] {
        let spec = json!({
            "suspend": suspend,
            "access": "Pull",
            "registry": {"accountID": case.pair.registry, "regions": [REGION], "repositories": ["app"], "role": {"name": "pusher-grant"}},
            "consumer": {"accountID": consumer, "roles": ["somebody"]},
        });
        case.apply(&resource(
            "CrossAccountRegistryGrant",
            json!({"name": name, "namespace": case.namespace}),
            spec,
        ))
        .await?;
    }
    Ok(())
}

/// Returns the state without the orphans.
fn without_what_was_let_go(before: &(AccountState, AccountState)) -> (AccountState, AccountState) {
    let (mut registry, mut consumer) = before.clone();
    registry.roles.remove("pusher-grant");
    registry.repositories.insert(format!("{REGION}/app"), None);
    consumer.roles.remove("node");
    consumer.instance_profiles.remove("node");
    (registry, consumer)
}

#[tokio::test]
async fn orphans_are_reported_and_removed_only_where_enabled() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    let (registry, consumer) = (case.pair.registry.clone(), case.pair.consumer.clone());
    let first = operator(&installation, "off").await?;
    scene(&case).await?;
    first.terminate()?;
    let ours = case.registry().await?.roles["pusher-grant"].tags.clone();
    let mine = ours.get(MARK).context("no mark")?;
    // A foreign role under our path, one of another installation, and one of ours with a foreign
    // policy.
    let root = case.stack().aws(&registry);
    let gone = ("registrygrants.dev/grant", "nobody/gone");
    role(&root, &registry, "somebodys", &[]).await?;
    role(
        &root,
        &registry,
        "anothers",
        &[(MARK, "ffffffffffff"), gone],
    )
    .await?;
    role(&root, &registry, "used", &[(MARK, mine), gone]).await?;
    let policy = document(json!({"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}));
    root.iam.put_inline_policy("used", "theirs", policy).await?;
    let_go(&case, "carg/grant").await?;
    hiding(&case).await?;
    let before = case.accounts().await?;

    let reporting = operator(&installation, "report").await?;
    let report = sweep_status(&case, &registry, |sweep| sweep["found"] == 3).await?;
    ensure!(
        report["kept"] == 1 && report["mode"] == "Report" && report["regions"] == json!([REGION]),
        "{report}"
    );
    let expected = [
        format!("arn:aws:ecr:{REGION}:{registry}:repository/app"),
        format!("arn:aws:iam::{registry}:role/registry-grants/pusher-grant"),
        format!("arn:aws:iam::{registry}:role/registry-grants/used"),
    ];
    ensure!(arns(&report) == expected, "{report}");
    ensure!(
        report["items"][1]["grant"] == format!("{}/grant", case.namespace),
        "{report}"
    );
    ensure!(
        report["items"][2]["kept"]
            .as_str()
            .is_some_and(|why| why.contains("`theirs`")),
        "{report}"
    );
    let report = sweep_status(&case, &consumer, |sweep| sweep["found"] == 2).await?;
    ensure!(
        arns(&report)
            .iter()
            .all(|arn| arn.ends_with("/registry-grants/node")),
        "{report}"
    );
    let audit = AuditLog::of(case.stack());
    let mark = audit.mark()?;
    swept(&case, &registry, 2).await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    let writes = audit.of_operator(mark).await?;
    ensure!(
        !writes
            .iter()
            .any(|write| write.resource.starts_with("awsaccounts")),
        "said again: {writes:?}"
    );
    let metrics = reporting.metrics().await?;
    ensure!(
        metrics.contains(&format!(
            "registry_grants_sweep_found{{account=\"{registry}\"}} 3"
        )),
        "{metrics}"
    );
    let events = case
        .cluster()
        .event("default", &format!("awsaccount/{registry}"), &["Unclaimed"])
        .await?;
    ensure!(!events.contains("pusher-grant"), "{events}");
    reporting.terminate()?;

    let removing = operator(&installation, "remove").await?;
    sweep_status(&case, &registry, |sweep| {
        sweep["mode"] == "Remove" && sweep["found"] == 1
    })
    .await?;
    // Two of the four roles and profiles in the consumer's account are more than a tenth, so an
    // admin must confirm.
    let asked = sweep_status(&case, &consumer, |sweep| {
        sweep["mode"] == "Remove" && sweep["confirm"].is_string()
    })
    .await?;
    let confirm = asked["confirm"].as_str().unwrap_or_default().to_owned();
    ensure!(
        confirm.starts_with("2-")
            && asked["message"]
                .as_str()
                .is_some_and(|m| m.contains(&confirm)),
        "{asked}"
    );
    annotate(&case, &consumer, "2-00000000").await?;
    swept(&case, &consumer, 2).await?;
    ensure!(
        case.consumer().await? == before.1,
        "removed without its being confirmed"
    );
    annotate(&case, &consumer, &confirm).await?;
    sweep_status(&case, &consumer, |sweep| sweep["found"] == 0).await?;
    assert_unchanged(&without_what_was_let_go(&before), &case.accounts().await?)?;
    let metrics = removing.metrics().await?;
    for (account, removed) in [(&registry, 2), (&consumer, 2)] {
        let line =
            format!("registry_grants_sweep_removed_total{{account=\"{account}\"}} {removed}");
        ensure!(metrics.contains(&line), "{metrics}");
    }
    case.cluster()
        .event("default", &format!("awsaccount/{consumer}"), &["Swept"])
        .await
        .map(drop)
}

#[tokio::test]
async fn cluster_without_grants_reports_orphans_and_removes_nothing() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    let first = operator(&installation, "remove").await?;
    case.apply_accounts().await?;
    case.granted(json!({})).await?;
    sweep_status(&case, &case.pair.registry, |sweep| {
        sweep["regions"] == json!([REGION])
    })
    .await?;
    first.terminate()?;
    let_go(&case, "carg/grant").await?;
    let before = case.accounts().await?;
    let _second = operator(&installation, "remove").await?;
    for account in [&case.pair.registry, &case.pair.consumer] {
        let report = sweep_status(&case, account, |sweep| sweep["found"] == 2).await?;
        ensure!(
            report["message"]
                .as_str()
                .is_some_and(|message| message.contains("this cluster has no grants")),
            "{report}"
        );
        swept(&case, account, 3).await?;
    }
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn disabled_sweep_makes_no_calls_and_reports_nothing() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    let first = operator(&installation, "report").await?;
    case.apply_accounts().await?;
    case.granted(json!({})).await?;
    sweep_status(&case, &case.pair.registry, Value::is_object).await?;
    first.terminate()?;
    let log = CallLog::of(case.stack());
    let mark = log.mark()?;
    let _second = operator(&installation, "off").await?;
    sweep_status(&case, &case.pair.registry, Value::is_null).await?;
    case.writes_during_three_reconciles().await?;
    let asked: Vec<_> = log
        .of_operator(mark)?
        .into_iter()
        .filter(|call| call.action.starts_with("List"))
        .collect();
    let for_sweeps = |action: &str| ["ListRoles", "ListInstanceProfiles"].contains(&action);
    ensure!(
        !asked.iter().any(|call| for_sweeps(&call.action)),
        "{asked:?}"
    );
    Ok(())
}

#[tokio::test]
async fn unreadable_grant_keeps_its_resources() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    let registry = case.pair.registry.clone();
    let first = operator(&installation, "off").await?;
    scene(&case).await?;
    first.terminate()?;
    case.make_unreadable().await?;
    // Other orphans stay, too, because the claims of the unreadable grant are unknown.
    let mark = case.registry().await?.roles["pusher-grant"].tags[MARK].clone();
    let tags = [
        (MARK, mark.as_str()),
        ("registrygrants.dev/grant", "nobody/gone"),
    ];
    role(&case.stack().aws(&registry), &registry, "left", &tags).await?;
    let before = case.accounts().await?;

    let _second = operator(&installation, "remove").await?;
    let report = sweep_status(&case, &registry, |sweep| sweep["found"] == 2).await?;
    ensure!(
        arns(&report)
            .iter()
            .all(|arn| !arn.contains("pusher-grant")),
        "{report}"
    );
    ensure!(
        report["message"]
            .as_str()
            .is_some_and(|message| message.contains("cannot read")),
        "{report}"
    );
    swept(&case, &registry, 3).await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn leader_alone_sweeps() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    let arguments = [
        "--sweep-interval=2s",
        "--lease-duration=20s",
        "--aws-call-timeout=3s",
    ];
    let leader = installation.start_operator(OPERATOR, &arguments).await?;
    sweep_status(&case, &case.pair.registry, Value::is_object).await?;
    let standby = installation.start_operator(OPERATOR, &arguments).await?;
    swept(&case, &case.pair.registry, 3).await?;
    let line = format!(
        "registry_grants_sweep_found{{account=\"{}\"}} 0",
        case.pair.registry
    );
    ensure!(
        leader.metrics().await?.contains(&line),
        "the leader does not sweep"
    );
    ensure!(
        !standby.metrics().await?.contains(&line),
        "the standby sweeps"
    );
    leader.terminate()?;
    eventually("the other one takes over", async || {
        let metrics = standby.metrics().await?;
        ensure!(metrics.contains(&line), "{metrics}");
        Ok(())
    })
    .await
}
