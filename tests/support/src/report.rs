//! Steps with progress output, and the table at the end.

use anyhow::Result;
use std::cell::RefCell;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Runner of steps that records their results.
pub struct Report {
    began: Instant,
    rows: RefCell<Vec<Row>>,
    logs: PathBuf,
}

struct Row {
    title: String,
    result: Came,
    took: Duration,
}

#[derive(Clone, Copy, PartialEq)]
enum Came {
    Ok,
    Failed,
    Skipped,
}

/// A step's value, for the steps that need it.
pub struct Done<T> {
    title: String,
    value: Option<T>,
}

impl<T> Done<T> {
    /// Returns the value.
    ///
    /// # Errors
    /// When the step failed or was skipped; a step that passes this on counts as skipped.
    pub fn need(&self) -> Result<&T> {
        self.value
            .as_ref()
            .ok_or_else(|| Missing(self.title.clone()).into())
    }

    /// Returns the value, if there is one.
    pub fn into_value(self) -> Option<T> {
        self.value
    }
}

#[derive(Debug)]
struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "it needs the step \"{}\", which was not done", self.0)
    }
}

impl std::error::Error for Missing {}

impl Report {
    /// Creates an empty report. `logs` is the folder that the output names if a step fails.
    pub fn new(logs: PathBuf) -> Self {
        Self {
            began: Instant::now(),
            rows: RefCell::default(),
            logs,
        }
    }

    /// Runs a step, which reports its progress with [`say`].
    pub async fn step<T>(&self, title: &str, work: impl Future<Output = Result<T>>) -> Done<T> {
        println!("\n── {title}");
        let began = Instant::now();
        let result = work.await;
        let took = began.elapsed();
        let (came, value) = match result {
            Ok(value) => (Came::Ok, Some(value)),
            Err(error) => match error.downcast_ref::<Missing>() {
                Some(missing) => {
                    println!("   SKIPPED: {missing}");
                    (Came::Skipped, None)
                }
                None => {
                    println!("   FAILED after {:.1} s: {error:#}", took.as_secs_f64());
                    println!("   logs: {}", self.logs.display());
                    (Came::Failed, None)
                }
            },
        };
        self.rows.borrow_mut().push(Row {
            title: title.to_owned(),
            result: came,
            took,
        });
        Done {
            title: title.to_owned(),
            value,
        }
    }

    /// Prints the table; returns whether all steps succeeded.
    pub fn finish(&self) -> bool {
        let rows = self.rows.borrow();
        let width = rows
            .iter()
            .map(|row| row.title.chars().count())
            .max()
            .unwrap_or_default();
        println!("\n  #  {:width$}  result     time", "step");
        for (number, row) in rows.iter().enumerate() {
            let result = match row.result {
                Came::Ok => "ok",
                Came::Failed => "FAILED",
                Came::Skipped => "skipped",
            };
            println!(
                "{:3}  {:width$}  {result:7} {:6.1} s",
                number + 1,
                row.title,
                row.took.as_secs_f64()
            );
        }
        let count = |result| rows.iter().filter(|row| row.result == result).count();
        let (ok, failed, skipped) = (count(Came::Ok), count(Came::Failed), count(Came::Skipped));
        println!(
            "     {ok} ok, {failed} failed, {skipped} skipped, in {:.1} s",
            self.began.elapsed().as_secs_f64()
        );
        if failed + skipped > 0 {
            println!("     logs: {}", self.logs.display());
        }
        failed + skipped == 0
    }
}

/// Prints a line of progress.
pub fn say(line: impl std::fmt::Display) {
    println!("   {line}");
}
