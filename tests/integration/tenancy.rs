//! The rules of `AWSAccount`s decide which namespace may grant what to whom; the operator enforces
//! them.

mod attempts;
mod table;

use self::table::{Outcome, Row, SECRETS, for_somebody_else, rows};
use crate::support::case::{Case, GRANT, OPERATOR, assert_unchanged, condition, list};
use crate::support::flags::NO_RESYNC;
use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use local_stack::{AccountState, Installation, eventually_of};
use serde_json::{Value, json};

/// The number of rows that are set up at a time.
const AT_A_TIME: usize = 4;

/// A row with its own accounts and namespace.
struct Tried<'a> {
    case: Case<'a>,
    row: Row,
    before: (AccountState, AccountState),
}

impl<'a> Tried<'a> {
    async fn prepared(installation: &'a Installation, row: fn(&Case<'_>) -> Row) -> Result<Self> {
        let case = Case::on(installation).await?;
        for name in ["app", "team/web", "theirs/app"] {
            case.repository(name).create(case.stack()).await?;
        }
        let row = row(&case);
        let before = case.accounts().await?;
        Ok(Self { case, row, before })
    }

    fn accounts(&self) -> [Value; 2] {
        let (registry, consumer) = for_somebody_else();
        let with = |rules: &[Value], other: Value| json!({"rules": rules.iter().cloned().chain([other]).collect::<Vec<_>>()});
        [
            self.case
                .registry_account(json!({"registry": with(&self.row.registry, registry)})),
            self.case
                .consumer_account(json!({"consumer": with(&self.row.consumer, consumer)})),
        ]
    }

    fn grant(&self) -> Value {
        self.case
            .grant_named(self.row.tried, self.row.asked.clone())
    }

    /// Returns status, reason and message of `Ready`, once they are for this generation and not
    /// transient.
    fn verdict(&self, grant: &Value) -> Result<(String, String, String)> {
        let ready = condition(grant, "Ready").context("no condition Ready yet")?;
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        ensure!(text("status") != "Unknown", "{ready}");
        Ok((text("status"), text("reason"), text("message")))
    }
}

#[tokio::test]
async fn tenant_gets_only_what_one_rule_admits_and_learns_no_other() -> Result<()> {
    ensure!(rows().len() >= 40, "only {} rows", rows().len());
    let installation = Installation::shared(OPERATOR, &NO_RESYNC).await?;
    let prepared = rows()
        .into_iter()
        .map(|row| Tried::prepared(installation, row));
    let tried: Vec<_> = futures::stream::iter(prepared)
        .buffered(AT_A_TIME)
        .try_collect()
        .await?;
    let cluster = &installation.cluster;
    cluster
        .apply(&list(tried.iter().flat_map(Tried::accounts)).to_string())
        .await?;
    let (malformed, judged): (Vec<_>, Vec<_>) = tried
        .iter()
        .partition(|tried| matches!(tried.row.expected, Outcome::Malformed(_)));
    for tried in &malformed {
        let Outcome::Malformed(why) = tried.row.expected else {
            continue;
        };
        let message = cluster.refused(&tried.grant()).await?;
        ensure!(message.contains(why), "{}: {message}", tried.row.tried);
    }
    cluster
        .apply(&list(judged.iter().map(|tried| tried.grant())).to_string())
        .await?;

    let grants = eventually_of(judged.len(), "all are judged", async || {
        let items = cluster.list("", "carg").await?;
        let of = |tried: &Tried<'_>| {
            let is_own =
                |grant: &&Value| grant["metadata"]["namespace"] == tried.case.namespace.as_str();
            let grant = items.iter().find(is_own).context("no grant")?.clone();
            tried.verdict(&grant).with_context(|| tried.row.tried)?;
            Ok::<_, anyhow::Error>(grant)
        };
        judged
            .iter()
            .map(|tried| of(tried))
            .collect::<Result<Vec<_>>>()
    })
    .await?;
    let events = cluster.list("", "event").await?;
    for (tried, grant) in judged.iter().zip(&grants) {
        let name = tried.row.tried;
        let (status, reason, message) = tried.verdict(grant)?;
        let (wanted, why) = match tried.row.expected {
            Outcome::Granted | Outcome::Malformed(_) => {
                ensure!(status == "True", "{name}: {reason}: {message}");
                continue;
            }
            Outcome::Refused(reason, why) => (reason, why),
        };
        ensure!(
            status == "False" && reason == wanted && message.contains(why),
            "{name}: {status} {reason}: {message}"
        );
        let about =
            |event: &&Value| event["involvedObject"]["namespace"] == tried.case.namespace.as_str();
        let told: Vec<&Value> = events.iter().filter(about).collect();
        let tells = |event: &&&Value| {
            event["type"] == "Warning"
                && event["reason"] == wanted
                && event["message"].to_string().contains(why)
        };
        ensure!(
            told.iter().any(|event| tells(&event)),
            "{name}: no Event tells: {told:?}"
        );
        let everything_told = format!("{}{told:?}", grant["status"]);
        for secret in SECRETS {
            ensure!(
                !everything_told.contains(secret),
                "{name}: {secret} is told: {everything_told}"
            );
        }
        // A refused grant leaves nothing in AWS, and conflicting resources in AWS do not change.
        if wanted != "ConsentMissing" && wanted != "Conflict" {
            assert_unchanged(&tried.before, &tried.case.accounts().await?).with_context(|| name)?;
        }
    }
    for tried in &malformed {
        assert_unchanged(&tried.before, &tried.case.accounts().await?)
            .with_context(|| tried.row.tried)?;
    }
    Ok(())
}

#[tokio::test]
async fn grant_without_an_account_waits_until_there_is_one() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    let before = case.accounts().await?;
    case.apply(&case.grant(json!({}))).await?;
    let message = case.not_ready("AccountNotFound").await?;
    ensure!(
        message.contains(&format!("AWSAccount {}", case.pair.registry))
            && message.contains("cluster admin"),
        "{message}"
    );
    assert_unchanged(&before, &case.accounts().await?)?;
    case.apply(&case.consumer_account(json!({}))).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn grant_to_an_unmanaged_account_states_what_it_needs() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    let before = case.consumer().await?;
    let grant = case.granted(json!({})).await?;
    let (ready, consumer) = (
        condition(&grant, "Ready").context("no Ready")?,
        condition(&grant, "ConsumerReady").context("no ConsumerReady")?,
    );
    ensure!(ready["reason"] == "RegistrySideReady", "{ready}");
    ensure!(
        consumer["status"] == "Unknown" && consumer["reason"] == "NotManaged",
        "{consumer}"
    );
    let message = consumer["message"].as_str().unwrap_or_default();
    ensure!(
        message.contains("ecr:GetAuthorizationToken") && message.contains("sts:AssumeRole"),
        "{message}"
    );
    ensure!(
        case.consumer().await? == before,
        "something was written in the consumer's account"
    );
    case.admin_session("admin")
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    Ok(())
}

#[tokio::test]
async fn narrowed_rules_revoke_what_they_no_longer_admit() -> Result<()> {
    let case = Case::with_accounts().await?;
    let before = case.accounts().await?;
    case.granted(json!({})).await?;
    case.apply(&case.registry_account(
        json!({"registry": {"rules": [case.rule(json!({"maxAccess": "Pull"}))]}}),
    ))
    .await?;
    case.not_ready("NotAdmitted").await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(grant["status"]["applied"].is_null(), "not revoked yet");
            Ok(())
        })
        .await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn namespace_selected_by_label_loses_access_with_the_label() -> Result<()> {
    let case = Case::with_accounts().await?;
    let by_label =
        json!({"namespaces": {"names": null, "selector": {"matchLabels": {"registry": "open"}}}});
    case.apply(&case.registry_account(json!({"registry": {"rules": [case.rule(by_label)]}})))
        .await?;
    case.apply(&case.grant(json!({}))).await?;
    case.not_ready("NotAdmitted").await?;
    case.label_namespace(json!({"registry": "open"})).await?;
    case.ready().await?;
    case.label_namespace(json!({"registry": null})).await?;
    case.not_ready("NotAdmitted").await.map(drop)
}

#[tokio::test]
async fn deleted_account_keeps_its_grants_access() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let granted = case.accounts().await?;
    // In the middle of a reconcile that already has its session.
    let emulation = local_stack::Emulation::of(case.stack());
    emulation.hold(&case.pair.registry, "GetRole").await?;
    case.annotate(GRANT, "reconcile", "now").await?;
    emulation.until_held(&case.pair.registry, "GetRole").await?;
    case.cluster()
        .delete("", &format!("awsaccount/{}", case.pair.registry))
        .await?;
    emulation.release(&case.pair.registry, "GetRole").await?;
    case.not_ready("AccountNotFound").await?;
    assert_unchanged(&granted, &case.accounts().await?)?;
    case.apply(&case.registry_account(json!({}))).await?;
    case.ready().await.map(drop)
}

#[tokio::test]
async fn invalid_spec_keeps_granted_access_while_a_rule_admits_it() -> Result<()> {
    let case = Case::with_accounts().await?;
    case.granted(json!({})).await?;
    let granted = case.accounts().await?;
    // Only the operator can know that this region is in another partition than the account.
    case.apply(&case.grant(json!({"registry": {"regions": ["cn-north-1"]}})))
        .await?;
    let message = case.not_ready("Invalid").await?;
    ensure!(
        message.contains("cn-north-1") && message.contains("spec.registry.regions"),
        "{message}"
    );
    assert_unchanged(&granted, &case.accounts().await?)?;
    case.instance()
        .await?
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;

    case.apply(&case.registry_account(json!({"registry": {"rules": []}})))
        .await?;
    case.cluster()
        .wait_until(&case.namespace, GRANT, |grant| {
            ensure!(grant["status"]["applied"].is_null(), "not revoked yet");
            Ok(())
        })
        .await?;
    ensure!(
        case.repository("app").policy(case.stack()).await?.is_none(),
        "a wrong spec escaped the narrowed rule"
    );
    Ok(())
}

#[tokio::test]
async fn instance_role_keeps_access_when_its_account_is_unmanaged() -> Result<()> {
    let case = Case::new().await?;
    case.repository("app").create(case.stack()).await?;
    case.apply(&case.registry_account(json!({}))).await?;
    // With another path than the default, which is the only known path of an unmanaged account.
    let rules =
        json!([{"namespaces": {"names": [case.namespace]}, "roles": ["registry-grants/nodes/*"]}]);
    let account =
        json!({"roles": {"path": "/registry-grants/nodes/"}, "consumer": {"rules": rules}});
    case.apply(&case.consumer_account(account)).await?;
    let grant = case
        .granted(json!({"consumer": {"wholeAccount": null}}))
        .await?;
    let role = grant["status"]["consumer"]["roleARN"]
        .as_str()
        .context("no role")?
        .to_owned();
    let instance = local_stack::Session::of_instance(case.stack(), &role)
        .await?
        .allowed()?;
    instance
        .push(&case.repository("app"), "v1")
        .await?
        .allowed()?;
    let before = case.accounts().await?;
    case.cluster()
        .delete("", &format!("awsaccount/{}", case.pair.consumer))
        .await?;
    case.not_ready("AccountNotFound").await?;
    case.reconcile().await?;
    case.reconcile().await?;
    assert_unchanged(&before, &case.accounts().await?)?;
    instance
        .push(&case.repository("app"), "v2")
        .await?
        .allowed()?;
    Ok(())
}
