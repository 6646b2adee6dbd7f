//! The operator's access to the accounts: credentials are verified before the first write, and
//! missing permissions are named.

use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged, condition, document, merged};
use crate::support::flags::FAST_RESYNC;
use crate::support::operator_documents::{example, texts, without};
use anyhow::{Context, Result, ensure};
use local_stack::{
    IamCalls as _, Installation, MANAGEMENT_ROLE, OPERATOR_ACCOUNT, OPERATOR_ROLE, Pair,
    repository_root,
};
use serde_json::{Value, json};

#[tokio::test]
async fn credentials_for_another_account_are_detected_before_a_write() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    // Without its own credentials, the account would be accessed with the ambient ones, which are
    // for the operator's own account.
    case.apply(&case.registry_account(json!({"credentials": null})))
        .await?;
    let account = format!("awsaccount/{}", case.pair.registry);
    let none = json!({"spec": {"credentials": null}});
    case.cluster().merge("", &account, none).await?;
    case.apply(&case.grant(json!({"consumer": {"instanceRole": null}})))
        .await?;
    let message = case.not_ready("WrongAccount").await?;
    ensure!(
        message.contains("333333333333") && message.contains("spec.credentials"),
        "{message}"
    );
    case.cluster()
        .event(
            &case.namespace,
            GRANT,
            &["Warning", "WrongAccount", &message],
        )
        .await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    let account = case
        .cluster()
        .wait_until(
            "default",
            &format!("awsaccount/{}", case.pair.registry),
            |account| {
                let ready = condition(account, "Ready").context("no Ready")?;
                ensure!(ready["reason"] == "WrongAccount", "{ready}");
                Ok(())
            },
        )
        .await?;
    ensure!(
        account["status"]["callerARN"].is_null(),
        "{}",
        account["status"]
    );
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn unassumable_role_is_reported_on_account_and_grant() -> Result<()> {
    let case = Case::with_accounts().await?;
    let role = json!({"credentials": {"assumeRole": {"externalID": "another"}}});
    case.apply(&case.registry_account(role)).await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("CredentialsUnavailable").await?;
    ensure!(
        message.contains("sts:AssumeRole")
            && message.contains(&case.pair.registry)
            && message.contains("trust policy"),
        "{message}"
    );
    // The part in the other account is applied nevertheless.
    ensure!(
        case.consumer().await?.roles.contains_key("node"),
        "the consumer's role waits for the registry's account"
    );
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await?;
    let account = case
        .cluster()
        .wait_for_condition(
            "default",
            &format!("awsaccount/{}", case.pair.registry),
            "Ready",
        )
        .await?;
    let caller = account["status"]["callerARN"].as_str().unwrap_or_default();
    ensure!(
        caller.contains(&format!(
            "{}:assumed-role/registry-grants/",
            case.pair.registry
        )),
        "{caller}"
    );
    Ok(())
}

#[tokio::test]
async fn missing_trust_policy_statement_is_reported_on_the_account() -> Result<()> {
    for side in ["registry", "consumer"] {
        let statements = example(&Pair::example(), side, "trust")?["Statement"]
            .as_array()
            .context("no list")?
            .clone();
        ensure!(
            statements.len() == 2,
            "the document was not understood: {statements:?}"
        );
        for statement in statements {
            let (sid, actions) = (
                statement["Sid"].as_str().context("no Sid")?,
                texts(&statement["Action"]),
            );
            let [action] = actions.as_slice() else {
                anyhow::bail!("several actions: {actions:?}")
            };
            let case = Case::new().await?;
            let account = if side == "registry" {
                &case.pair.registry
            } else {
                &case.pair.consumer
            };
            let whole = example(&case.pair, side, "trust")?;
            let trust = async |document: Value| {
                let update = case
                    .stack()
                    .aws(account)
                    .iam
                    .update_assume_role_policy()
                    .role_name(MANAGEMENT_ROLE);
                update.policy_document(document.to_string()).send().await
            };
            trust(without(whole.clone(), sid, action)).await?;
            case.apply(&if side == "registry" {
                case.registry_account(json!({}))
            } else {
                case.consumer_account(json!({}))
            })
            .await?;
            not_entered(&case, account, action)
                .await
                .with_context(|| format!("without {sid} of {side}'s trust"))?;
            trust(whole).await?;
            case.cluster()
                .wait_for_condition("default", &format!("awsaccount/{account}"), "Ready")
                .await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn missing_action_of_the_operators_own_role_is_reported() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let text =
        std::fs::read_to_string(repository_root().join("examples/management-roles/operator.json"))?;
    let whole: Value = serde_json::from_str(&text)?;
    let iam = installation.stack.aws(OPERATOR_ACCOUNT).iam;
    let permit = async |document: Value| {
        let put = iam
            .put_role_policy()
            .role_name(OPERATOR_ROLE)
            .policy_name("registry-grants");
        put.policy_document(document.to_string()).send().await
    };
    let _operator = installation.start_operator(OPERATOR, &FAST_RESYNC).await?;
    let statements = whole["Statement"].as_array().context("no list")?;
    let lacks = statements.iter().flat_map(|statement| {
        texts(&statement["Action"])
            .into_iter()
            .map(|action| (statement["Sid"].as_str().unwrap_or_default(), action))
    });
    let lacks: Vec<_> = lacks.collect();
    ensure!(
        lacks.len() == 2,
        "the document was not understood: {lacks:?}"
    );
    for (sid, action) in lacks {
        let case = Case::on(&installation).await?;
        permit(without(whole.clone(), sid, &action)).await?;
        case.apply_accounts().await?;
        case.apply(&case.grant(json!({}))).await?;
        not_entered(&case, &case.pair.registry, &action).await?;
        not_entered(&case, &case.pair.consumer, &action).await?;
        let message = case.not_ready("CredentialsUnavailable").await?;
        ensure!(
            message.contains(&format!("not authorized to perform: {action} ")),
            "without {action} it says {message}"
        );
        permit(whole.clone()).await?;
        case.ready().await?;
    }
    Ok(())
}

/// Waits until the account reports that the operator has no credentials for it, because this action
/// is denied.
async fn not_entered(case: &Case<'_>, account: &str, action: &str) -> Result<()> {
    let object = format!("awsaccount/{account}");
    let found = case.cluster().wait_until("default", &object, |account| {
        let ready = condition(account, "Ready").context("no Ready")?;
        ensure!(
            ready["status"] == "False" && ready["reason"] == "CredentialsUnavailable",
            "{ready}"
        );
        Ok(())
    });
    let message = condition(&found.await?, "Ready")
        .map(|ready| ready["message"].to_string())
        .unwrap_or_default();
    // AWS's message names the action, whichever side denies it.
    ensure!(
        message.contains(&format!("not authorized to perform: {action} ")),
        "without {action} it says {message}"
    );
    Ok(())
}

#[tokio::test]
async fn missing_permission_is_named_and_recovers_once_granted() -> Result<()> {
    let case = Case::with_accounts().await?;
    let iam = case.stack().aws(&case.pair.registry).iam;
    let deny =
        document(json!({"Effect": "Deny", "Action": "ecr:SetRepositoryPolicy", "Resource": "*"}));
    iam.put_inline_policy("registry-grants", "deny", deny)
        .await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("AccessDenied").await?;
    ensure!(
        message.contains("ecr:SetRepositoryPolicy")
            && message.contains(&case.pair.registry)
            && message.contains("Allow"),
        "{message}"
    );
    iam.delete_inline_policy("registry-grants", "deny").await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn operator_cannot_leave_its_path_or_lift_a_boundary() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    // Returns a session of this test with the operator's own permissions.
    let root = case.stack().aws(&case.pair.registry);
    let permissions = root
        .iam
        .get_role_policy()
        .role_name("registry-grants")
        .policy_name("registry-grants")
        .send()
        .await?;
    let permissions = permissions.policy_document.replace('+', "%2B");
    let decoded = percent_encoding::percent_decode_str(&permissions)
        .decode_utf8()?
        .into_owned();
    let trust = document(
        json!({"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", case.pair.registry)}, "Action": "sts:AssumeRole"}),
    );
    let arn = local_stack::role_with_policy(&root, "twin", trust.clone(), decoded).await?;
    let twin = local_stack::Session::of_root(case.stack(), &case.pair.registry)
        .assume(&arn)
        .await?
        .allowed()?;
    let iam = &twin.aws().iam;
    let denied = |error: Option<&str>| error == Some("AccessDenied");
    use aws_sdk_iam::error::ProvideErrorMetadata;

    let unbounded = iam
        .create_role()
        .role_name("x")
        .path("/registry-grants/")
        .assume_role_policy_document(&trust)
        .send()
        .await;
    ensure!(
        denied(
            unbounded
                .err()
                .and_then(|e| e.code().map(str::to_owned))
                .as_deref()
        ),
        "a role without boundary was made"
    );
    let elsewhere = iam
        .put_role_policy()
        .role_name("twin")
        .policy_name("x")
        .policy_document(document(
            json!({"Effect": "Allow", "Action": "*", "Resource": "*"}),
        ))
        .send()
        .await;
    ensure!(
        denied(
            elsewhere
                .err()
                .and_then(|e| e.code().map(str::to_owned))
                .as_deref()
        ),
        "a foreign role was changed"
    );
    let lifted = iam
        .delete_role_permissions_boundary()
        .role_name("pusher-grant")
        .send()
        .await;
    ensure!(
        denied(
            lifted
                .err()
                .and_then(|e| e.code().map(str::to_owned))
                .as_deref()
        ),
        "a boundary was lifted"
    );
    let admin = iam
        .attach_role_policy()
        .role_name("pusher-grant")
        .policy_arn("arn:aws:iam::aws:policy/AdministratorAccess")
        .send()
        .await;
    ensure!(admin.is_err(), "AdministratorAccess was attached");
    Ok(())
}

#[tokio::test]
async fn session_tag_allows_single_namespaces() -> Result<()> {
    let (case, other) = (Case::new().await?, Case::new().await?);
    case.repository("app").create(case.stack()).await?;
    let namespaces = json!({"names": [case.namespace, other.namespace]});
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"namespaces": namespaces}))]}}),
    ))
    .await?;
    let only = document(json!({
        "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": {"StringNotEqualsIfExists": {"aws:PrincipalTag/registrygrants.dev/namespace": case.namespace}},
    }));
    let iam = case.stack().aws(&case.pair.registry).iam;
    iam.put_inline_policy(MANAGEMENT_ROLE, "only", only).await?;
    let direct = json!({"consumer": {"instanceRole": null}});
    case.granted(direct.clone()).await?;
    let mut of_other = case.grant(merged(
        direct,
        json!({"registry": {"role": {"name": "other"}}}),
    ));
    of_other["metadata"]["namespace"] = json!(other.namespace);
    case.apply(&of_other).await?;
    let message = other.not_ready("AccessDenied").await?;
    // CloudTrail names the session. The status does not, because other tenants that wait for the
    // same session may get its error.
    ensure!(
        message.contains("assumed-role/registry-grants ")
            && !message.contains(&format!("/{}@", other.namespace)),
        "{message}"
    );
    Ok(())
}
