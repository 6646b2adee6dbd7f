//! The repository policy of grants: created, changed, restored and removed, next to foreign
//! statements.

use crate::support::case::{Case, FastResync, GRANT, condition, list};
use anyhow::{Context, Result, ensure};
use local_stack::{
    AccountState, CallLog, Document, IamCalls as _, Repository, by_operation, eventually,
};
use serde_json::{Value, json};

fn lambda() -> Value {
    json!({
        "Sid": "LambdaECRImageRetrievalPolicy",
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        "Condition": {"StringLike": {"aws:sourceArn": "arn:aws:lambda:us-east-1:222222222222:function:*"}},
    })
}

fn of_other_installation() -> Value {
    json!({
        "Sid": "RegistryGrantsfedcba98765401234567",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::444444444444:root"},
        "Action": "ecr:BatchGetImage",
    })
}

#[tokio::test]
async fn foreign_statements_survive_creation_drift_and_deletion() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, stack) = (case.repository("app"), case.stack());
    let foreign = Document(
        json!({"Version": "2008-10-17", "Statement": [lambda(), of_other_installation()]}),
    );
    app.set_policy(stack, &foreign).await?;
    let foreign = app.policy(stack).await?.context("no policy")?;

    case.granted(json!({})).await?;
    let with_ours = app.policy(stack).await?.context("no policy")?;
    let ours: Vec<Value> = with_ours
        .statements()
        .into_iter()
        .filter(|s| !foreign.statements().contains(s))
        .collect();
    ensure!(
        ours.len() == 1 && with_ours.statements().len() == 3,
        "{with_ours}"
    );

    // Somebody removes our statement and adds another.
    let added = json!({"Sid": "another", "Effect": "Deny", "Principal": "*", "Action": "ecr:DeleteRepository"});
    let foreign = foreign.with_statement(added);
    app.set_policy(stack, &foreign).await?;
    case.reconcile().await?;
    let policy = app.policy(stack).await?.context("no policy")?;
    ensure!(
        policy == foreign.with_statement(ours[0].clone()),
        "{policy}"
    );

    case.delete().await?;
    ensure!(
        app.policy(stack).await? == Some(foreign),
        "{:?}",
        app.policy(stack).await?
    );
    Ok(())
}

#[tokio::test]
async fn grants_share_one_statement_and_are_removed_one_by_one() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, stack) = (case.repository("app"), case.stack());
    let consumers: Vec<String> = (0..12)
        .map(|number| format!("9{}{number:02}", &case.pair.consumer[3..]))
        .collect();
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"consumers": consumers}))]}}),
    ))
    .await?;
    let log = CallLog::of(stack);
    let mark = log.mark()?;
    let grant = |number: usize| {
        let consumer = json!({"accountID": consumers[number], "instanceRole": null});
        let registry = json!({"role": null});
        case.grant_named(
            &format!("g{number}"),
            json!({"paths": ["Direct"], "consumer": consumer, "registry": registry}),
        )
    };
    let all = list((0..12).map(grant));
    case.apply(&all).await?;
    for number in 0..12 {
        case.cluster()
            .wait_for_condition(&case.namespace, &format!("carg/g{number}"), "Ready")
            .await?;
    }
    let policy = app.policy(stack).await?.context("no policy")?;
    ensure!(policy.statements().len() == 1, "{policy}");
    ensure!(
        policy.statements()[0]["Principal"]["AWS"]
            .as_array()
            .is_some_and(|all| all.len() == 12),
        "{policy}"
    );
    let writes = by_operation(&log.of_operator(mark)?)
        .get("ecr:SetRepositoryPolicy")
        .copied()
        .unwrap_or_default();
    ensure!(writes <= 24, "{writes} writes for 12 grants");

    case.delete_named("carg/g3").await?;
    let text = app.policy(stack).await?.context("no policy")?.to_string();
    ensure!(
        !text.contains(&consumers[3]) && text.contains(&consumers[4]),
        "{text}"
    );
    case.delete_all().await?;
    ensure!(
        app.policy(stack).await?.is_none(),
        "the policy is still there"
    );
    Ok(())
}

#[tokio::test]
async fn missing_repository_is_named_and_granted_once_created() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.apply(&case.grant(json!({"registry": {"repositories": ["app", "team/late"]}})))
        .await?;
    let message = case.not_ready("RepositoryNotFound").await?;
    ensure!(
        message.contains("team/late")
            && message.contains(&case.pair.registry)
            && message.contains("Create it"),
        "{message}"
    );
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;

    case.repository("team/late").create(case.stack()).await?;
    let grant = case.ready().await?;
    ensure!(
        grant["status"]["repositories"]["summary"] == "2/2",
        "{}",
        grant["status"]
    );
    case.instance()
        .await?
        .push(&case.repository("team/late"), "v1")
        .await?
        .allowed()?;
    Ok(())
}

#[tokio::test]
async fn prefix_covers_later_repositories_and_no_others() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    case.repository("teammate/x").create(case.stack()).await?;
    let grant = case
        .granted(json!({"registry": {"repositories": ["team/*"]}}))
        .await?;
    ensure!(
        grant["status"]["repositories"]["summary"] == "0/0",
        "{}",
        grant["status"]
    );
    case.repository("team/new").create(case.stack()).await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(
                grant["status"]["repositories"]["summary"] == "1/1",
                "not found yet"
            );
            Ok(())
        })
        .await?;
    case.instance()
        .await?
        .push(&case.repository("team/new"), "v1")
        .await?
        .allowed()?;
    ensure!(
        case.repository("teammate/x")
            .policy(case.stack())
            .await?
            .is_none(),
        "the prefix reached too far"
    );
    Ok(())
}

#[tokio::test]
async fn repositories_and_regions_left_out_of_the_spec_are_revoked() -> Result<()> {
    let case = Case::with_accounts().await?;
    let (app, other) = (case.repository("app"), case.repository("team/other"));
    other.create(case.stack()).await?;
    let in_europe = Repository {
        region: "eu-west-1".into(),
        ..app.clone()
    };
    in_europe.create(case.stack()).await?;
    let wide = json!({"registry": {"repositories": ["app", "team/*"], "regions": ["us-east-1", "eu-west-1"]}});
    case.granted(wide).await?;
    for repository in [&app, &other, &in_europe] {
        ensure!(
            repository.policy(case.stack()).await?.is_some(),
            "{repository:?} was not granted"
        );
    }
    case.granted(json!({})).await?;
    ensure!(
        app.policy(case.stack()).await?.is_some(),
        "what stays was revoked"
    );
    for repository in [&other, &in_europe] {
        ensure!(
            repository.policy(case.stack()).await?.is_none(),
            "{repository:?} is still granted"
        );
    }
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    let claims = &grant["status"]["applied"]["repositories"];
    ensure!(
        *claims == json!([{"region": "us-east-1", "patterns": ["app"]}]),
        "{claims}"
    );
    Ok(())
}

#[tokio::test]
async fn reduced_access_reduces_the_policy() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    case.granted(json!({"access": "Pull"})).await?;
    let policy = case
        .repository("app")
        .policy(case.stack())
        .await?
        .context("no policy")?;
    ensure!(!policy.to_string().contains("PutImage"), "{policy}");
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .denied()?;
    Ok(())
}

#[tokio::test]
async fn full_policy_rejects_the_new_grant_and_stays_unchanged() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let filler = json!({"Sid": "filler", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::444444444444:root"},
        "Action": "ecr:DeleteRepository", "Condition": {"StringEquals": {"aws:PrincipalTag/x": "x".repeat(9_800)}}});
    let full = Document(json!({"Version": "2012-10-17", "Statement": [filler]}));
    app.set_policy(case.stack(), &full).await?;
    let before = app.policy(case.stack()).await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("PolicyTooLarge").await?;
    ensure!(
        message.contains("10,240") && message.contains("app"),
        "{message}"
    );
    ensure!(
        message.contains("To use less space, set wholeAccount instead of roles"),
        "{message}"
    );
    ensure!(
        message.contains("spec.consumer.organization")
            && message.contains("request only path AssumeRole"),
        "{message}"
    );
    ensure!(
        app.policy(case.stack()).await? == before,
        "the policy was changed"
    );
    let grant = case.cluster().get(&case.namespace, GRANT).await?;
    ensure!(
        condition(&grant, "RoleReady").is_some_and(|role| role["status"] == "True"),
        "{}",
        grant["status"]
    );
    Ok(())
}

#[tokio::test]
async fn recreated_registry_role_is_named_in_the_policy_again() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    case.granted(json!({"registry": {"role": {"nameInRepositoryPolicy": true}}}))
        .await?;
    let right = app.policy(case.stack()).await?.context("no policy")?;
    let root = case.stack().aws(&case.pair.registry);
    let state = AccountState::read(&root, &[]).await?;
    for policy in state.roles["pusher-grant"].inline.keys() {
        root.iam
            .delete_inline_policy("pusher-grant", policy)
            .await?;
    }
    root.iam
        .delete_role()
        .role_name("pusher-grant")
        .send()
        .await?;
    case.reconcile().await?;
    eventually("the role is made again and named again", async || {
        let policy = app.policy(case.stack()).await?.context("no policy")?;
        ensure!(
            case.registry().await?.roles.contains_key("pusher-grant"),
            "no role"
        );
        ensure!(
            policy == right && !policy.to_string().contains("AROA"),
            "{policy}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn role_that_cannot_be_created_is_not_named_in_the_policy() -> Result<()> {
    let case = Case::with_accounts().await?;
    let app = case.repository("app");
    let root = case.stack().aws(&case.pair.registry);
    let statement = json!({"Effect": "Allow", "Principal": {"AWS": format!("arn:aws:iam::{}:root", case.pair.registry)}, "Action": "sts:AssumeRole"});
    let create = root
        .iam
        .create_role()
        .role_name("pusher-grant")
        .path("/registry-grants/");
    create
        .assume_role_policy_document(crate::support::case::document(statement))
        .send()
        .await?;
    case.apply(&case.grant(json!({"registry": {"role": {"nameInRepositoryPolicy": true}}})))
        .await?;
    case.not_ready("Conflict").await?;
    let policy = app
        .policy(case.stack())
        .await?
        .context("no policy")?
        .to_string();
    ensure!(
        !policy.contains("pusher-grant"),
        "somebody else's role is named: {policy}"
    );
    let second = json!({"access": "Pull", "paths": ["Direct"], "consumer": {"instanceRole": null}});
    case.apply(&case.grant_named("second", second)).await?;
    case.cluster()
        .wait_for_condition(&case.namespace, "carg/second", "Ready")
        .await?;

    root.iam
        .delete_role()
        .role_name("pusher-grant")
        .send()
        .await?;
    case.ready().await?;
    let policy = app
        .policy(case.stack())
        .await?
        .context("no policy")?
        .to_string();
    ensure!(
        policy.contains("role/registry-grants/pusher-grant"),
        "our own role is not named: {policy}"
    );
    Ok(())
}

#[tokio::test]
async fn settled_grant_is_not_rewritten_for_its_lists_order() -> Result<()> {
    let fast = FastResync::start().await?;
    let case = fast.with_accounts().await?;
    case.granted(json!({"registry": {"repositories": ["team/*", "app"]}}))
        .await?;
    let again = case.writes_during_three_reconciles().await?;
    ensure!(again.is_empty(), "{again:?}");
    Ok(())
}
