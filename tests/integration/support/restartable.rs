//! An operator that a test stops and starts again.

use crate::support::case::{Case, OPERATOR};
use crate::support::flags::{self, NO_RESYNC};
use anyhow::{Context, Result, ensure};
use local_stack::{Installation, Operator};

/// Operator of a test with its own installation. It does not sweep, because no such test waits for
/// the sweep.
pub struct Restartable<'a> {
    installation: &'a Installation,
    operator: Option<Operator>,
}

impl<'a> Restartable<'a> {
    /// Applies the accounts of a new case and starts the operator.
    pub async fn with_accounts(installation: &'a Installation) -> Result<(Self, Case<'a>)> {
        let mut operator = Self {
            installation,
            operator: None,
        };
        let case = Case::on(installation).await?;
        case.apply_accounts().await?;
        operator.start().await?;
        Ok((operator, case))
    }

    /// Starts the operator, and waits until it is ready.
    pub async fn start(&mut self) -> Result<()> {
        let flags = flags::with(&NO_RESYNC, &["--sweep=off"]);
        let operator = self.installation.start_operator(OPERATOR, &flags).await?;
        self.operator = Some(operator);
        Ok(())
    }

    /// Stops the operator, which must end without an error.
    pub fn stop(&mut self) -> Result<()> {
        let operator = self.operator.take().context("it does not run")?;
        ensure!(operator.terminate()?.success(), "it did not end well");
        Ok(())
    }

    /// Stops the operator at the end of a test.
    pub fn finish(mut self) -> Result<()> {
        self.stop()
    }

    /// Returns the running process.
    pub fn process(&self) -> Result<&Operator> {
        self.operator.as_ref().context("it does not run")
    }
}
