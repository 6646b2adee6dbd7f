//! The permissions on roles of others, which `iam-policy` prints on request: they suffice, and
//! without any one action something fails and names it.

use crate::support::case::{Case, GRANT, OPERATOR, condition, document};
use crate::support::flags::NO_RESYNC;
use crate::support::foreign_roles::{adoption_consent, earlier_trust_statement};
use crate::support::operator_documents::{generated, texts, without};
use anyhow::{Context, Result, ensure};
use aws_sdk_iam::types::Tag;
use futures::future::try_join_all;
use local_stack::{IamCalls as _, MANAGEMENT_ROLE};
use serde_json::{Value, json};

/// An action of a statement, in the registry's or the consumer's document.
#[derive(Clone, Debug)]
struct Lack {
    in_registry: bool,
    sid: String,
    action: String,
}

fn permissions(account: &str, in_registry: bool) -> Result<Value> {
    let flags = if in_registry {
        ["--account=registry", "--allow-adopt"]
    } else {
        ["--account=consumer", "--allow-extend"]
    };
    Ok(serde_json::from_str(&generated(account, &flags, None)?)?)
}

/// Returns every action that these flags add.
fn lacks() -> Result<Vec<Lack>> {
    let mut lacks = Vec::new();
    for in_registry in [true, false] {
        let document = permissions("111111111111", in_registry)?;
        let statements = document["Statement"]
            .as_array()
            .context("no statements")?
            .clone();
        let of_others = |statement: &Value| {
            statement["Sid"]
                .as_str()
                .is_some_and(|sid| sid.contains("Adopt") || sid.contains("Consenting"))
        };
        for statement in statements.into_iter().filter(of_others) {
            let sid = statement["Sid"].as_str().unwrap_or_default().to_owned();
            let lack = |action| Lack {
                in_registry,
                sid: sid.clone(),
                action,
            };
            lacks.extend(texts(&statement["Action"]).into_iter().map(lack));
        }
    }
    Ok(lacks)
}

#[tokio::test]
async fn missing_action_on_foreign_roles_is_named() -> Result<()> {
    let installation = local_stack::Installation::exclusive().await?;
    let lacks = lacks()?;
    ensure!(
        lacks.len() > 10,
        "the documents were not understood: {lacks:?}"
    );
    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let lives = lacks.into_iter().map(Some).chain([None]).enumerate();
    try_join_all(lives.map(|(number, lack)| live(&installation, number, lack)))
        .await
        .map(drop)
}

/// An entire life with all permissions except one must end with a condition that names the action.
/// With all permissions, it completes.
async fn live(
    installation: &local_stack::Installation,
    number: usize,
    lack: Option<Lack>,
) -> Result<()> {
    let namespace = format!("life-of-others-{number}");
    installation.cluster.create_namespace(&namespace).await?;
    let case = Case {
        installation,
        pair: installation.fresh_pair().await?,
        namespace,
    };
    for (account, in_registry) in [(&case.pair.registry, true), (&case.pair.consumer, false)] {
        let mut allowed = permissions(account, in_registry)?;
        if let Some(lack) = lack.as_ref().filter(|lack| lack.in_registry == in_registry) {
            allowed = without(allowed, &lack.sid, &lack.action);
        }
        case.stack()
            .aws(account)
            .iam
            .put_inline_policy(MANAGEMENT_ROLE, MANAGEMENT_ROLE, allowed.to_string())
            .await?;
    }
    case.repository("app").create(case.stack()).await?;
    let rule =
        json!({"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"], "allowRetain": true});
    case.apply(&case.registry_account(json!({"registry": {"rules": [case.rule(rule)]}})))
        .await?;
    let rule = json!({"namespaces": {"names": [case.namespace]}, "roles": ["nodes/*"], "management": ["Extend"], "allowRetain": true});
    case.apply(&case.consumer_account(json!({"consumer": {"rules": [rule]}})))
        .await?;
    make_by_hand(&case, true).await?;

    let plain = json!({
        "registry": {"role": {"name": "by-hand", "adopt": true, "path": "/"}},
        "consumer": {"wholeAccount": null, "instanceRole": {"name": "worker", "management": "Extend", "path": "/nodes/"}},
    });
    let with = |role: Value| {
        crate::support::case::merged(plain.clone(), json!({"registry": {"role": role}}))
    };
    let changed = with(
        json!({"managedPolicies": ["AmazonEC2ContainerRegistryPowerUser"], "maxSessionSeconds": 7200}),
    );
    let mut denied = false;
    for spec in [plain.clone(), changed, plain.clone()] {
        denied = denied || reaches(&case, &spec, lack.as_ref()).await?;
    }
    denied = denied || ends(&case, lack.as_ref()).await?;
    if !denied {
        make_by_hand(&case, false).await?;
        let retained = crate::support::case::merged(plain, json!({"deletionPolicy": "Retain"}));
        denied =
            reaches(&case, &retained, lack.as_ref()).await? || ends(&case, lack.as_ref()).await?;
    }
    ensure!(
        denied == lack.is_some(),
        "with all but {lack:?} it was denied: {denied}"
    );
    Ok(())
}

/// Creates the foreign roles. The consumer's stays when the grant is deleted.
async fn make_by_hand(case: &Case<'_>, workers: bool) -> Result<()> {
    let trusts = |service: &str| {
        document(
            json!({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}),
        )
    };
    let tag = |key: &str, value: &str| {
        Tag::builder()
            .key(format!("registrygrants.dev/{key}"))
            .value(value)
            .build()
    };
    let iam = case.stack().aws(&case.pair.registry).iam;
    let create = iam
        .create_role()
        .role_name("by-hand")
        .assume_role_policy_document(trusts("ssm.amazonaws.com"));
    create
        .tags(tag("allow-adopt", &adoption_consent(case).await?)?)
        .send()
        .await?;
    let all = document(json!({"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}));
    iam.put_inline_policy("by-hand", "all", all).await?;
    if workers {
        let iam = case.stack().aws(&case.pair.consumer).iam;
        let create = iam.create_role().role_name("worker").path("/nodes/");
        let ssm = json!({"Effect": "Allow", "Principal": {"Service": "ssm.amazonaws.com"}, "Action": "sts:AssumeRole"});
        let trust = json!({"Version": "2012-10-17", "Statement": [ssm, earlier_trust_statement(case).await?]});
        let create = create.assume_role_policy_document(trust.to_string());
        create.tags(tag("allow-extend", "true")?).send().await?;
    }
    Ok(())
}

/// Applies the grant, and waits until it is Ready in its current generation, or denied. Returns
/// whether it was denied.
async fn reaches(case: &Case<'_>, spec: &Value, lack: Option<&Lack>) -> Result<bool> {
    case.apply(&case.grant(spec.clone())).await?;
    let found = case
        .cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            let ready = condition(grant, "Ready").context("no condition Ready yet")?;
            let current = ready["observedGeneration"] == grant["metadata"]["generation"];
            let settled = ready["status"] == "True" || is_denied(grant);
            ensure!(current && settled, "not settled: {ready}");
            Ok(())
        })
        .await?;
    names(&found, lack)
}

/// Deletes the grant and waits until it is gone, or its revocation denied.
async fn ends(case: &Case<'_>, lack: Option<&Lack>) -> Result<bool> {
    case.begin_to_delete().await?;
    let denied = local_stack::eventually("gone or denied", async || {
        let grants = case.cluster().list(&case.namespace, "carg").await?;
        match grants.first() {
            None => Ok(None),
            Some(grant) if is_denied(grant) => Ok(Some(grant.clone())),
            Some(grant) => anyhow::bail!("still there: {}", grant["status"]["conditions"]),
        }
    })
    .await?;
    denied.map_or(Ok(false), |grant| names(&grant, lack))
}

fn is_denied(grant: &Value) -> bool {
    condition(grant, "Ready").is_some_and(|ready| ready["reason"] == "AccessDenied")
}

/// Returns whether an action of the grant was denied. It must be the missing one, and be named.
fn names(grant: &Value, lack: Option<&Lack>) -> Result<bool> {
    if !is_denied(grant) {
        return Ok(false);
    }
    let message = condition(grant, "Ready")
        .map(|ready| ready["message"].to_string())
        .unwrap_or_default();
    let lack = lack.with_context(|| format!("denied with everything: {message}"))?;
    ensure!(
        message.contains(&lack.action),
        "without {lack:?} it says {message}"
    );
    Ok(true)
}
