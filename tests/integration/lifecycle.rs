//! The life cycle of a grant: suspended, reconciled on request, abandoned, deleted or retained,
//! also next to broken resources.

use crate::support::case::{
    Case, FastResync, GRANT, OPERATOR, assert_unchanged, condition, merged,
};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use aws_sdk_iam::types::Tag;
use local_stack::{IamCalls as _, Installation, eventually};
use serde_json::{Value, json};

async fn suspended(case: &Case<'_>) -> Result<Value> {
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            let ready = condition(grant, "Ready").context("no condition Ready yet")?;
            let current = ready["observedGeneration"] == grant["metadata"]["generation"];
            ensure!(
                current && ready["reason"] == "Suspended",
                "not suspended: {ready}"
            );
            Ok(())
        })
        .await
}

#[tokio::test]
async fn suspended_grant_keeps_its_access_and_changes_nothing() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.repository("team/other").create(case.stack()).await?;
    case.granted(json!({})).await?;
    let before = case.accounts().await?;
    case.apply(&case.grant(json!({"suspend": true, "access": "Pull"})))
        .await?;
    suspended(&case).await?;
    // A manual change of a resource that only this grant has.
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.tag_role()
        .role_name("pusher-grant")
        .tags(Tag::builder().key("by").value("hand").build()?)
        .send()
        .await?;
    iam.update_role()
        .role_name("pusher-grant")
        .max_session_duration(7200)
        .send()
        .await?;
    let touched = case.accounts().await?;

    // Another grant on the same repository is reconciled, and the access of the suspended one
    // stays.
    let other = json!({
        "registry": {"repositories": ["app", "team/other"], "role": null}, "paths": ["Direct"],
        "consumer": {"wholeAccount": null, "instanceRole": null, "roles": ["ci/*"]},
    });
    case.apply(&case.grant_named("other", other)).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    case.reconcile_named("carg/other").await?;
    case.reconcile().await?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    ensure!(
        case.registry().await?.roles == touched.0.roles,
        "a suspended grant's role was written to"
    );
    case.delete_named("carg/other").await?;

    // After the suspension, the operator reverts the change and applies the edits made in the
    // meantime.
    case.granted(json!({"suspend": false, "access": "PullPush"}))
        .await?;
    iam.untag_role()
        .role_name("pusher-grant")
        .tag_keys("by")
        .send()
        .await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn grant_suspended_from_the_start_does_nothing_and_is_deletable() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.apply(&case.grant(json!({"suspend": true}))).await?;
    suspended(&case).await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    case.delete().await?;
    case.granted(json!({})).await?;
    case.apply(&case.grant(json!({"suspend": true}))).await?;
    suspended(&case).await?;
    case.delete().await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn suspended_grant_that_is_no_longer_admitted_is_revoked() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.apply(&case.grant(json!({"suspend": true}))).await?;
    suspended(&case).await?;
    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    case.not_ready("NotAdmitted").await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn reconcile_annotation_triggers_a_reconcile_at_once() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({"registry": {"role": {"nameInRepositoryPolicy": true}}}))
        .await?;
    let right = case.accounts().await?;
    let named = |state: &local_stack::AccountState| state.roles["pusher-grant"].id.clone();

    // A recreated role has another ID, so the repository policy must be written again, too.
    let iam = case.stack().aws(&case.pair.registry).iam;
    for policy in right.0.roles["pusher-grant"].inline.keys() {
        iam.delete_inline_policy("pusher-grant", policy).await?;
    }
    iam.delete_role().role_name("pusher-grant").send().await?;
    let policy = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(
        policy.to_string().contains("AROA"),
        "the emulation does not show the deleted role's ID: {policy}"
    );

    case.annotate(GRANT, "reconcile", "now").await?;
    eventually("the role is back, and named", async || {
        let grant = case.cluster().get(&case.namespace, GRANT).await?;
        ensure!(
            grant["status"]["lastHandledReconcile"] == "now",
            "not handled: {}",
            grant["status"]["conditions"]
        );
        let policy = case
            .repository("app")
            .policy(case.stack())
            .await?
            .context("no policy")?;
        ensure!(
            !policy.to_string().contains("AROA") && policy.to_string().contains("pusher-grant"),
            "{policy}"
        );
        Ok(())
    })
    .await?;
    ensure!(
        named(&case.registry().await?) != named(&right.0),
        "the role was not made anew"
    );
    let session = case.instance().await?;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/pusher-grant",
        case.pair.registry
    );
    session
        .assume(&role)
        .await?
        .allowed()?
        .push(&case.repository("app"), "v2")
        .await?
        .allowed()
        .map(drop)
}

#[tokio::test]
async fn grant_is_abandoned_only_when_its_account_is_unreachable() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;

    // If the operator can access both accounts, the annotation has no effect.
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.create_instance_profile()
        .instance_profile_name("holder")
        .send()
        .await?;
    iam.add_role_to_profile("holder", "pusher-grant").await?;
    case.annotate(GRANT, "abandon", "true").await?;
    case.begin_to_delete().await?;
    let message = case.not_ready("StillInUse").await?;
    ensure!(
        message.contains("holder"),
        "the holder is not named: {message}"
    );

    // The operator can no longer access the registry account.
    let management = case.stack().aws(&case.pair.registry).iam;
    let nobody = crate::support::case::document(
        json!({"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}),
    );
    management
        .set_trust_policy(local_stack::MANAGEMENT_ROLE, nobody)
        .await?;
    case.apply(
        &case.registry_account(
            json!({"credentials": {"assumeRole": {"externalID": "another-one"}}}),
        ),
    )
    .await?;
    case.cluster()
        .wait_until_gone(&case.namespace, GRANT)
        .await?;
    let events = case
        .cluster()
        .event(&case.namespace, "", &["Abandoned"])
        .await?;
    let told = events
        .lines()
        .find(|line| line.contains("Abandoned"))
        .context("no Event tells of it")?;
    ensure!(
        told.contains("pusher-grant") && told.contains(&case.pair.registry),
        "{told}"
    );
    // The access in the other account was revoked nevertheless.
    ensure!(
        !case.consumer().await?.roles.contains_key("node"),
        "the instance role is left"
    );
    ensure!(
        case.registry().await?.roles.contains_key("pusher-grant"),
        "how could it be removed?"
    );
    Ok(())
}

#[tokio::test]
async fn retained_access_stays_without_an_owner() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    let rule = case.rule(json!({"allowRetain": true}));
    case.apply(&case.registry_account(json!({"registry": {"rules": [rule]}})))
        .await?;
    let rule = json!({"namespaces": {"names": [case.namespace]}, "roles": ["registry-grants/*"], "allowRetain": true});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await?;
    let spec =
        json!({"deletionPolicy": "Retain", "registry": {"role": {"nameInRepositoryPolicy": true}}});
    case.granted(spec).await?;
    let session = case.instance().await?;
    session
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;

    let (registry, consumer) = case.accounts().await?;
    for (state, role) in [(&registry, "pusher-grant"), (&consumer, "node")] {
        let role = state.roles.get(role).context("the role is gone")?;
        ensure!(
            !role
                .tags
                .keys()
                .any(|tag| tag.starts_with("registrygrants.dev/")),
            "{role:?}"
        );
        ensure!(
            !role.trust.to_string().contains("RegistryGrants"),
            "{role:?}"
        );
    }
    let policy = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("the policy is gone")?;
    ensure!(!policy.to_string().contains("RegistryGrants"), "{policy}");
    session
        .push(&case.repository("app"), "v2")
        .await?
        .allowed()?;
    let role = format!(
        "arn:aws:iam::{}:role/registry-grants/pusher-grant",
        case.pair.registry
    );
    session
        .assume(&role)
        .await?
        .allowed()?
        .push(&case.repository("app"), "v3")
        .await?
        .allowed()?;

    // Another grant that is created and deleted does not change it.
    let other = json!({
        "registry": {"role": null}, "paths": ["Direct"],
        "consumer": {"wholeAccount": null, "instanceRole": null, "roles": ["ci/*"]},
    });
    case.apply(&case.grant_named("other", other)).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/other", "Ready")
        .await?;
    case.delete_named("carg/other").await?;
    assert_unchanged(&(registry, consumer), &case.accounts().await?)
}

#[tokio::test]
async fn retain_needs_a_rule_that_admits_it_at_deletion_too() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.apply(&case.grant(json!({"deletionPolicy": "Retain"})))
        .await?;
    let message = case.not_ready("NotAdmitted").await?;
    ensure!(message.contains("deletionPolicy Retain"), "{message}");
    // The missing permission to retain access is no reason to revoke it now.
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    case.delete().await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn broken_resources_do_not_block_others() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let case = Case::on(&installation).await?;
    case.apply_accounts().await?;
    // Stored under an earlier version of the definition.
    let broken = merged(
        case.grant_named("broken", json!({})),
        json!({"spec": {"access": 7}}),
    );
    case.without_schema("a broken grant is stored", async || {
        case.apply(&broken).await
    })
    .await?;

    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    // There is also one with a missing repository, and one without an AWSAccount.
    case.apply(&case.grant_named(
        "waiting",
        json!({"registry": {"repositories": ["team/none"]}, "consumer": {"instanceRole": null}}),
    ))
    .await?;
    let nowhere =
        json!({"registry": {"accountID": "888888888888"}, "consumer": {"instanceRole": null}});
    case.apply(&case.grant_named("nowhere", nowhere)).await?;
    case.granted(json!({})).await?;
    case.not_ready_named("carg/waiting", "RepositoryNotFound")
        .await?;
    case.not_ready_named("carg/nowhere", "AccountNotFound")
        .await?;
    case.cluster()
        .event(&case.namespace, "carg/broken", &["Invalid"])
        .await
        .map(drop)
}

#[tokio::test]
async fn namespace_with_a_grant_is_deletable() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.cluster()
        .delete("", &format!("namespace/{}", case.namespace))
        .await?;
    assert_unchanged(&before, &case.accounts().await?)
}

#[tokio::test]
async fn waiting_grants_status_is_not_rewritten() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    case.apply(&case.grant(json!({"registry": {"repositories": ["team/none"]}})))
        .await?;
    case.not_ready("RepositoryNotFound").await?;
    let again = case.writes_during_three_reconciles().await?;
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}
