//! Steps that all run, also when one fails, and the summary at their end.

use crate::output::say;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Good,
    /// Not as it should: the whole run fails.
    Failed,
    /// It was not run; the note says why.
    Skipped,
}

/// One line of the summary.
struct Step {
    name: String,
    outcome: Outcome,
    took: Duration,
    note: String,
}

/// The steps so far.
pub struct Steps {
    done: Vec<Step>,
    start: Instant,
}

impl Default for Steps {
    fn default() -> Self {
        Self { done: Vec::new(), start: Instant::now() }
    }
}

impl Steps {
    /// Runs a step. False when it failed.
    pub fn run(&mut self, name: &str, command: Result<Command>) -> Result<bool> {
        self.run_with(name, command, || Ok(String::new()))
    }

    /// Runs a step whose line in the summary ends with what `note` finds afterwards.
    pub fn run_with(&mut self, name: &str, command: Result<Command>, note: impl FnOnce() -> Result<String>) -> Result<bool> {
        say(&format!("\n=== {name}"));
        let start = Instant::now();
        let good = command?.status().with_context(|| format!("run step {name}"))?.success();
        let outcome = if good { Outcome::Good } else { Outcome::Failed };
        self.done.push(Step { name: name.to_owned(), outcome, took: start.elapsed(), note: note()? });
        Ok(good)
    }

    /// A step that this machine cannot do, or that makes no sense after a failure.
    pub fn skip(&mut self, name: &str, why: &str) {
        self.done.push(Step { name: name.to_owned(), outcome: Outcome::Skipped, took: Duration::ZERO, note: why.to_owned() });
    }

    /// Prints a line for each step, and what the process should end with.
    pub fn summary(&self) -> ExitCode {
        say("\n=== summary");
        for Step { name, outcome, took, note } in &self.done {
            let word = match outcome {
                Outcome::Good => "ok",
                Outcome::Failed => "FAIL",
                Outcome::Skipped => "skip",
            };
            say(format!("{word:>4}  {name:<42} {:>7.1} s  {note}", took.as_secs_f64()).trim_end());
        }
        let failed = self.done.iter().filter(|step| step.outcome == Outcome::Failed).count();
        let verdict = if failed == 0 { "all good".to_owned() } else { format!("{failed} failed") };
        say(&format!("      {verdict} in {:.0} s", self.start.elapsed().as_secs_f64()));
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_failed_step_fails_the_run_and_a_skipped_one_does_not() {
        let mut steps = Steps::default();
        assert!(steps.run("good", Ok(Command::new("true"))).unwrap());
        steps.skip("skipped", "there is no such program");
        assert_eq!(format!("{:?}", steps.summary()), format!("{:?}", ExitCode::SUCCESS));
        assert!(!steps.run("bad", Ok(Command::new("false"))).unwrap());
        assert!(steps.run("goes on", Ok(Command::new("true"))).unwrap());
        assert_eq!(format!("{:?}", steps.summary()), format!("{:?}", ExitCode::FAILURE));
    }
}
