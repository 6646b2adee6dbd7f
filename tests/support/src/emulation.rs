//! The emulation's controls: AWS calls held back on demand, and what no AWS call can bring about or
//! ask.

use crate::accounts::Pair;
use crate::http::request;
use crate::session::{Outcome, Repository};
use crate::stack::Stack;
use crate::wait::{eventually, eventually_of};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

/// A call by an AWS service, on behalf of something in an account.
#[derive(Clone, Debug)]
pub struct ServiceCall<'a> {
    /// For instance `lambda.amazonaws.com`.
    pub service: &'a str,
    /// For instance `ecr:BatchGetImage`.
    pub action: &'a str,
    /// The repository that it is about.
    pub repository: &'a Repository,
    /// `aws:SourceArn`: for what the service calls, for instance a function.
    pub source_arn: &'a str,
    /// `aws:SourceAccount`: whose that is.
    pub source_account: &'a str,
}

/// Controls of one stack's emulation.
#[derive(Clone, Debug)]
pub struct Emulation {
    authority: String,
}

impl Emulation {
    /// Of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self {
            authority: stack.aws_authority().to_owned(),
        }
    }

    /// Has the next call of this action by this (the caller's) account held: received, and not
    /// carried out until [`Self::release`]. When its client goes away it never is.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn hold(&self, account: &str, action: &str) -> Result<()> {
        self.ask(
            "POST",
            "hold",
            &json!({"account": account, "action": action}),
        )
        .await
        .map(drop)
    }

    /// Lets such calls go, and holds no more of them.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn release(&self, account: &str, action: &str) -> Result<()> {
        self.ask(
            "POST",
            "release",
            &json!({"account": account, "action": action}),
        )
        .await
        .map(drop)
    }

    /// Waits until such a call is held.
    ///
    /// # Errors
    /// When none comes.
    pub async fn until_held(&self, account: &str, action: &str) -> Result<()> {
        self.until(account, action, true).await
    }

    /// Waits until no such call is held: its client is gone, or it was released.
    ///
    /// # Errors
    /// When one stays.
    pub async fn until_not_held(&self, account: &str, action: &str) -> Result<()> {
        self.until(account, action, false).await
    }

    /// Has whoever works in these accounts stopped right after the `writes`-th write that he
    /// succeeds with from now on, in both together: that write is carried out, but neither its
    /// answer nor any further call comes through until [`Self::resume`]. Of a call whose client
    /// goes away meanwhile nothing is carried out. The accounts' roots are not stopped.
    ///
    /// # Errors
    /// When the emulation does not answer, or `writes` is 0.
    pub async fn stop_after(&self, pair: &Pair, writes: usize) -> Result<()> {
        self.ask(
            "POST",
            "stop",
            &json!({"accounts": [pair.registry, pair.consumer], "after": writes}),
        )
        .await
        .map(drop)
    }

    /// Waits until the work in all these accounts is stopped.
    ///
    /// # Errors
    /// When some of them never see so many writes.
    pub async fn until_stopped(&self, pairs: &[&Pair]) -> Result<()> {
        eventually_of(
            pairs.len(),
            "the work is stopped in all accounts",
            async || {
                let stopped = self.ask("GET", "stopped", &Value::Null).await?;
                let stopped = stopped.as_array().context("no list")?;
                let has = |pair: &&Pair| stopped.contains(&json!([pair.registry, pair.consumer]));
                let missing: Vec<_> = pairs.iter().filter(|pair| !has(pair)).collect();
                ensure!(missing.is_empty(), "not in {missing:?}");
                Ok(())
            },
        )
        .await
    }

    /// Lets the work in these accounts go on.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn resume(&self, pair: &Pair) -> Result<()> {
        self.ask(
            "POST",
            "resume",
            &json!({"accounts": [pair.registry, pair.consumer]}),
        )
        .await
        .map(drop)
    }

    /// Lets all go on that is held or stopped, and forgets what was to be.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn reset(&self) -> Result<()> {
        self.ask("POST", "reset", &json!({})).await.map(drop)
    }

    /// Makes the account a member of an organization, at this path in it (`o-…/r-…/ou-…/`); `None`:
    /// of none.
    ///
    /// # Errors
    /// When the path is none.
    pub async fn join_organization(&self, account: &str, path: Option<&str>) -> Result<()> {
        self.ask(
            "POST",
            "organizations",
            &json!({"account": account, "path": path}),
        )
        .await
        .map(drop)
    }

    /// Whether the repository's policy, as it is now, lets the service in; decided by the evaluator
    /// that decides all other calls.
    ///
    /// # Errors
    /// When there is no such repository.
    pub async fn service_may(&self, call: &ServiceCall<'_>) -> Result<Outcome<()>> {
        let ServiceCall {
            service,
            action,
            repository,
            source_arn,
            source_account,
        } = call;
        let Repository {
            account,
            region,
            name,
        } = repository;
        let arn = format!("arn:aws:ecr:{region}:{account}:repository/{name}");
        let asked = json!({"service": service, "action": action, "repository": arn, "sourceArn": source_arn, "sourceAccount": source_account});
        let answer = self.ask("POST", "service-may", &asked).await?;
        Ok(match answer["decision"].as_str() {
            Some("Allow") => Outcome::Allowed(()),
            _ => Outcome::Denied(format!(
                "{service} on behalf of {source_arn}: {action} on {arn}: {answer}"
            )),
        })
    }

    /// Puts a text in place of the repository's policy as it stands, also one that ECR would not
    /// take.
    ///
    /// # Errors
    /// When there is no such repository.
    pub async fn plant_policy(&self, repository: &Repository, text: &str) -> Result<()> {
        let Repository {
            account,
            region,
            name,
        } = repository;
        let asked = json!({"account": account, "region": region, "repository": name, "text": text});
        self.ask("POST", "plant-policy", &asked).await.map(drop)
    }

    /// Closes an account: AWS refuses every policy that names it or anything in it, and those that
    /// are there already stay.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn close_account(&self, account: &str) -> Result<()> {
        self.ask("POST", "close-account", &json!({ "account": account }))
            .await
            .map(drop)
    }

    async fn until(&self, account: &str, action: &str, wanted: bool) -> Result<()> {
        let call = json!({"account": account, "action": action});
        let state = if wanted { "held" } else { "held no longer" };
        eventually(
            &format!("{action} of account {account} is {state}"),
            async || {
                let held = self.ask("GET", "held", &Value::Null).await?;
                let is_held = held.as_array().is_some_and(|held| held.contains(&call));
                ensure!(is_held == wanted, "held are {held}");
                Ok(())
            },
        )
        .await
    }

    async fn ask(&self, method: &str, what: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, answer) =
            request(method, &self.authority, &format!("/_stack/{what}"), &body).await?;
        if status != 200 {
            bail!("the emulation answered {status} to {what}: {answer}");
        }
        Ok(serde_json::from_str(&answer)?)
    }
}
