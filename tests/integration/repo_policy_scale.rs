//! Many grants on one repository share one document of 10,240 characters, and take few writes.
//! These tests have installations of their own, because hundreds of grants would occupy the shared
//! operator. The largest crowds exist before the operator starts, so that the speed of the test
//! does not decide how many come at a time.

use crate::support::case::{Case, OPERATOR, condition, list};
use crate::support::flags::{self, NO_RESYNC};
use anyhow::{Context, Result, anyhow, ensure};
use local_stack::{CallLog, Document, Installation, Mark, eventually_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The limit of ECR.
const MOST_CHARACTERS: usize = 10_240;
/// The limit on writes, however many grants are applied at once.
const MOST_WRITES: usize = 25;
/// Grants of as many consumer accounts on repository `app` of one registry account.
struct Crowd<'a> {
    case: Case<'a>,
    /// Consumer accounts by the grant's name. The grants are applied in the order of their names,
    /// which is then the order of their age.
    consumers: BTreeMap<String, String>,
    log: CallLog,
    mark: Mark,
}

impl<'a> Crowd<'a> {
    /// Applies them as one list. `consumer` has the fields besides the account's number.
    async fn apply(installation: &'a Installation, count: usize, consumer: Value) -> Result<Self> {
        let case = Case::on(installation).await?;
        case.repository("app").create(case.stack()).await?;
        let prefix = format!("9{}", &case.pair.consumer[4..]);
        let consumers: BTreeMap<String, String> = (0..count)
            .map(|number| (format!("g{number:03}"), format!("{prefix}{number:03}")))
            .collect();
        let admitted: Vec<&String> = consumers.values().collect();
        let rule = case.rule(json!({"consumers": admitted}));
        let grant = |(name, account): (&String, &String)| {
            let consumer = crate::support::case::merged(
                consumer.clone(),
                json!({"accountID": account, "instanceRole": null}),
            );
            let changes =
                json!({"paths": ["Direct"], "registry": {"role": null}, "consumer": consumer});
            case.grant_named(name, changes)
        };
        let mut all: Vec<Value> = consumers.iter().map(grant).collect();
        all.push(case.registry_account(json!({"registry": {"rules": [rule]}})));
        let log = CallLog::of(case.stack());
        let mark = log.mark()?;
        case.apply(&list(all)).await?;
        Ok(Self {
            case,
            consumers,
            log,
            mark,
        })
    }

    async fn all_ready(&self) -> Result<()> {
        let ready = self
            .case
            .cluster()
            .wait_for_all(&self.case.namespace, "carg", "Ready")
            .await?;
        ensure!(
            ready.len() == self.consumers.len(),
            "{} grants are Ready",
            ready.len()
        );
        Ok(())
    }

    /// Checks that they were written to the policy together.
    fn few_writes(&self) -> Result<()> {
        let calls = self.log.of_operator(self.mark)?;
        let mine = calls
            .iter()
            .filter(|call| call.account == self.case.pair.registry);
        let count = |action: &str| mine.clone().filter(|call| call.action == action).count();
        let (writes, reads) = (count("SetRepositoryPolicy"), count("GetRepositoryPolicy"));
        ensure!(
            writes <= MOST_WRITES,
            "{writes} writes (and {reads} reads) for {} grants",
            self.consumers.len()
        );
        Ok(())
    }

    /// Returns the accounts that the repository's policy names, and its size in characters.
    async fn named(&self) -> Result<(BTreeSet<String>, usize)> {
        let policy = self
            .case
            .repository("app")
            .policy(self.case.stack())
            .await?
            .context("no policy")?;
        let mut named = BTreeSet::new();
        for statement in policy.without_statement("filler").statements() {
            let principals = statement["Principal"]["AWS"].clone();
            let principals = if principals.is_string() {
                vec![principals]
            } else {
                serde_json::from_value(principals)?
            };
            let account =
                |principal: &Value| principal.as_str()?.split(':').nth(4).map(str::to_owned);
            for principal in &principals {
                named.insert(
                    account(principal)
                        .with_context(|| format!("{principal} is no account's root"))?,
                );
            }
        }
        Ok((named, policy.to_string().chars().count()))
    }

    fn accounts<'n>(&self, grants: impl IntoIterator<Item = &'n String>) -> BTreeSet<String> {
        grants
            .into_iter()
            .map(|grant| self.consumers[grant].clone())
            .collect()
    }

    /// Returns the names of the grants that are Ready, and of those that do not fit, once each
    /// grant is in one of these states and the policy matches.
    async fn settled(&self, gone: &[&String]) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
        eventually_of(
            self.consumers.len(),
            "each grant is Ready or has no room",
            async || {
                let (mut ready, mut left_out) = (BTreeSet::new(), BTreeSet::new());
                for grant in self
                    .case
                    .cluster()
                    .list(&self.case.namespace, "carg")
                    .await?
                {
                    let name = grant["metadata"]["name"]
                        .as_str()
                        .context("a grant without name")?
                        .to_owned();
                    let found = condition(&grant, "Ready")
                        .with_context(|| format!("{name}: no condition yet"))?;
                    match (found["status"].as_str(), found["reason"].as_str()) {
                        (Some("True"), _) => ready.insert(name),
                        (Some("False"), Some("PolicyTooLarge")) => left_out.insert(name),
                        _ => return Err(anyhow!("{name} is {found}")),
                    };
                }
                ensure!(
                    ready.len() + left_out.len() + gone.len() == self.consumers.len(),
                    "some are not there"
                );
                let (named, _) = self.named().await?;
                let untrue: Vec<_> = self
                    .accounts(&ready)
                    .symmetric_difference(&named)
                    .cloned()
                    .collect();
                ensure!(
                    untrue.is_empty(),
                    "in the policy or Ready, but not both: {untrue:?}"
                );
                Ok((ready, left_out))
            },
        )
        .await
    }

    async fn delete(&self, grant: &str) -> Result<()> {
        self.case.delete_named(&format!("carg/{grant}")).await
    }
}

#[tokio::test]
async fn grants_of_250_accounts_fit_one_policy_and_take_few_writes() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let crowd = Crowd::apply(&installation, 250, json!({})).await?;
    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    crowd.all_ready().await?;
    let (named, characters) = crowd.named().await?;
    ensure!(
        named == crowd.accounts(crowd.consumers.keys()),
        "the policy names {named:?}"
    );
    ensure!(characters <= MOST_CHARACTERS, "{characters} characters");
    let few_writes = crowd.few_writes();

    let gone = "g100".to_owned();
    crowd.delete(&gone).await?;
    let (left, _) = crowd.named().await?;
    ensure!(
        left == &named - &crowd.accounts([&gone]),
        "more or less than one account was taken out: {left:?}"
    );
    few_writes
}

#[tokio::test]
async fn grants_to_roles_of_100_accounts_fit_one_policy() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let crowd = Crowd::apply(
        &installation,
        100,
        json!({"wholeAccount": null, "roles": ["ci/deployer"]}),
    )
    .await?;
    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    crowd.all_ready().await?;
    let (named, characters) = crowd.named().await?;
    ensure!(
        named == crowd.accounts(crowd.consumers.keys()),
        "the policy names {named:?}"
    );
    ensure!(characters <= MOST_CHARACTERS, "{characters} characters");
    let policy = crowd
        .case
        .repository("app")
        .policy(crowd.case.stack())
        .await?
        .context("no policy")?
        .to_string();
    let narrowed = |account: &String| policy.contains(&format!("{account}:role/ci/deployer"));
    ensure!(
        crowd.consumers.values().all(narrowed),
        "not each is narrowed to its role: {policy}"
    );
    crowd.few_writes()
}

#[tokio::test]
async fn burst_of_grants_on_a_running_operator_takes_few_writes() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let _operator = installation.start_operator(OPERATOR, &NO_RESYNC).await?;
    let narrow = json!({"wholeAccount": null, "roles": ["ci/deployer"]});
    let crowds = tokio::try_join!(
        Crowd::apply(&installation, 100, json!({})),
        Crowd::apply(&installation, 60, narrow)
    )?;
    for (what, crowd) in [
        ("whole accounts", crowds.0),
        ("narrowed to roles", crowds.1),
    ] {
        crowd.all_ready().await?;
        let (named, _) = crowd.named().await?;
        ensure!(
            named == crowd.accounts(crowd.consumers.keys()),
            "{what}: the policy names {named:?}"
        );
        crowd.few_writes().context(what)?;
    }
    Ok(())
}

#[tokio::test]
async fn grants_that_do_not_fit_displace_no_others() -> Result<()> {
    let installation = Installation::exclusive().await?;
    let crowd = Crowd::apply(&installation, 90, json!({})).await?;
    // Foreign statements use most of the space, so that fewer grants fill it.
    let filler = json!({"Sid": "filler", "Effect": "Deny", "Principal": {"AWS": "arn:aws:iam::444444444444:root"},
        "Action": "ecr:DeleteRepository", "Condition": {"StringEquals": {"aws:PrincipalTag/x": "x".repeat(8_700)}}});
    let full = Document(json!({"Version": "2012-10-17", "Statement": [filler]}));
    crowd
        .case
        .repository("app")
        .set_policy(crowd.case.stack(), &full)
        .await?;
    // A grant without space is reconciled again while the test waits.
    let flags = flags::resync_every("--resync-interval=15s");
    let _operator = installation.start_operator(OPERATOR, &flags).await?;
    let (ready, left_out) = crowd.settled(&[]).await?;
    let next = left_out
        .first()
        .context("all of them fit: this takes more grants")?;
    // An older grant that asks again does not displace others either.
    let members = crowd.named().await?.0;
    crowd.case.reconcile_named(&format!("carg/{next}")).await?;
    ensure!(
        crowd.named().await?.0 == members,
        "{next} has pushed out another grant"
    );
    ensure!(
        crowd.named().await?.1 <= MOST_CHARACTERS,
        "more than ECR takes"
    );

    let gone = ready
        .iter()
        .nth(3)
        .context("next to none of them fit")?
        .clone();
    crowd.delete(&gone).await?;
    let (now_ready, still_out) = crowd.settled(&[&gone]).await?;
    let expected: BTreeSet<String> = ready
        .iter()
        .filter(|name| **name != gone)
        .chain([next])
        .cloned()
        .collect();
    ensure!(
        now_ready == expected,
        "not {next} alone came in for {gone}; still out are {still_out:?}"
    );
    Ok(())
}
