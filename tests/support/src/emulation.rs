//! The emulation's controls: they hold AWS calls back, and cause or read states that no AWS call
//! can.

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
    /// The repository of the call.
    pub repository: &'a Repository,
    /// `aws:SourceArn`: the resource for which the service calls, for instance a function.
    pub source_arn: &'a str,
    /// `aws:SourceAccount`: the account of that resource.
    pub source_account: &'a str,
}

/// Controls of one stack's emulation.
#[derive(Clone, Debug)]
pub struct Emulation {
    authority: String,
}

impl Emulation {
    /// Returns the controls of a stack's emulation.
    pub fn of(stack: &Stack) -> Self {
        Self {
            authority: stack.aws_authority().to_owned(),
        }
    }

    /// Holds the next call of this action by this account (the caller's): the emulation receives
    /// it, but does not execute it until [`Self::release`]. If its client disconnects before, the
    /// call is never executed.
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

    /// Releases such calls, and holds no more of them.
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
    /// When there is no such call in time.
    pub async fn until_held(&self, account: &str, action: &str) -> Result<()> {
        self.until(account, action, true).await
    }

    /// Waits until no such call is held: its client has disconnected, or the call was released.
    ///
    /// # Errors
    /// When a call is still held.
    pub async fn until_not_held(&self, account: &str, action: &str) -> Result<()> {
        self.until(account, action, false).await
    }

    /// Stops all callers in these accounts right after their `writes`-th successful write from now
    /// on, counted in both accounts together. That write is executed, but its answer and any
    /// further call are held until [`Self::resume`]. A held call is not executed if its client
    /// disconnects meanwhile. The accounts' roots are not stopped.
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
    /// When some of them do not get so many writes in time.
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

    /// Resumes the work in these accounts.
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

    /// Resumes everything that is held or stopped, and cancels all pending requests to hold or
    /// stop.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn reset(&self) -> Result<()> {
        self.ask("POST", "reset", &json!({})).await.map(drop)
    }

    /// Makes the account a member of an organization, at this path in it (`o-…/r-…/ou-…/`);
    /// `None` removes it from its organization.
    ///
    /// # Errors
    /// When the path is invalid.
    pub async fn join_organization(&self, account: &str, path: Option<&str>) -> Result<()> {
        self.ask(
            "POST",
            "organizations",
            &json!({"account": account, "path": path}),
        )
        .await
        .map(drop)
    }

    /// Returns whether the repository's present policy allows the service's call. The evaluator is
    /// the one that decides all other calls.
    ///
    /// # Errors
    /// When the repository does not exist.
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

    /// Replaces the repository's policy by a text, even one that ECR would refuse.
    ///
    /// # Errors
    /// When the repository does not exist.
    pub async fn plant_policy(&self, repository: &Repository, text: &str) -> Result<()> {
        let Repository {
            account,
            region,
            name,
        } = repository;
        let asked = json!({"account": account, "region": region, "repository": name, "text": text});
        self.ask("POST", "plant-policy", &asked).await.map(drop)
    }

    /// Closes an account: from now on, AWS refuses every policy that names it or anything in it,
    /// but existing policies stay.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn close_account(&self, account: &str) -> Result<()> {
        self.ask("POST", "close-account", &json!({ "account": account }))
            .await
            .map(drop)
    }

    /// Has the operator's calls of this action in the account answered with this status and body;
    /// `None` has them executed again.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn answer_with(
        &self,
        account: &str,
        action: &str,
        answer: Option<(u16, &str)>,
    ) -> Result<()> {
        let mut asked = json!({"account": account, "action": action});
        if let Some((status, body)) = answer {
            asked["status"] = json!(status);
            asked["body"] = json!(body);
        }
        self.ask("POST", "answer", &asked).await.map(drop)
    }

    /// Has IAM and ECR accept only so many calls of the account in a second.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn throttle(&self, account: &str, per_second: u32) -> Result<()> {
        let asked = json!({"account": account, "perSecond": per_second});
        self.ask("POST", "throttle", &asked).await.map(drop)
    }

    async fn until(&self, account: &str, action: &str, wanted: bool) -> Result<()> {
        let call = json!({"account": account, "action": action});
        let state = if wanted { "held" } else { "no longer held" };
        eventually(
            &format!("{action} of account {account} is {state}"),
            async || {
                let held = self.ask("GET", "held", &Value::Null).await?;
                let is_held = held.as_array().is_some_and(|held| held.contains(&call));
                ensure!(is_held == wanted, "held calls: {held}");
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
