//! The emulation's controls: AWS calls held back on demand.

use crate::http::request;
use crate::stack::Stack;
use crate::wait::eventually;
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// Controls of one stack's emulation.
#[derive(Clone, Debug)]
pub struct Emulation {
    authority: String,
}

impl Emulation {
    /// Of a stack.
    pub fn of(stack: &Stack) -> Self {
        Self { authority: stack.aws_authority().to_owned() }
    }

    /// Has the next call of this action by this (the caller's) account held: received, and not carried out until [`Self::release`].
    /// When its client goes away it never is.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn hold(&self, account: &str, action: &str) -> Result<()> {
        self.ask("POST", "hold", &json!({"account": account, "action": action})).await.map(drop)
    }

    /// Lets such calls go, and holds no more of them.
    ///
    /// # Errors
    /// When the emulation does not answer.
    pub async fn release(&self, account: &str, action: &str) -> Result<()> {
        self.ask("POST", "release", &json!({"account": account, "action": action})).await.map(drop)
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

    async fn until(&self, account: &str, action: &str, wanted: bool) -> Result<()> {
        let call = json!({"account": account, "action": action});
        let state = if wanted { "held" } else { "held no longer" };
        eventually(&format!("{action} of account {account} is {state}"), async || {
            let held = self.ask("GET", "held", &Value::Null).await?;
            let is_held = held.as_array().is_some_and(|held| held.contains(&call));
            ensure!(is_held == wanted, "held are {held}");
            Ok(())
        })
        .await
    }

    async fn ask(&self, method: &str, what: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, answer) = request(method, &self.authority, &format!("/_stack/{what}"), &body).await?;
        if status != 200 {
            bail!("the emulation answered {status} to {what}: {answer}");
        }
        Ok(serde_json::from_str(&answer)?)
    }
}
