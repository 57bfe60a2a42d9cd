//! The report on the second serial line: one line a test, the output of a failed one below it, a
//! line a suite, and the result at the very end. The host takes its absence for a failure.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, tcdrain, tcgetattr, tcsetattr};
use vm_guest::{REPORT_DEVICE, RESULT};

use crate::harness::Outcome;

/// Bytes of a failed test's output that are shown: the end says why.
const SHOWN: usize = 16 << 10;

pub struct Report {
    line: File,
    pub total: Tally,
    suite: Tally,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub left_out: u32,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} left out", self.passed, self.failed, self.left_out)
    }
}

impl Report {
    pub fn open() -> Result<Self> {
        let line = File::options().read(true).write(true).open(REPORT_DEVICE);
        let line = line.with_context(|| format!("cannot open {REPORT_DEVICE}"))?;
        let mut settings = tcgetattr(&line)?;
        settings.make_raw();
        tcsetattr(&line, OptionalActions::Now, &settings)?;
        Ok(Self { line, total: Tally::default(), suite: Tally::default() })
    }

    pub fn say(&mut self, text: &str) -> Result<()> {
        writeln!(self.line, "{text}").context("cannot write the report")
    }

    pub fn outcome(&mut self, suite: &str, test: &str, outcome: &Outcome, took: Duration) -> Result<()> {
        let seconds = took.as_secs_f64();
        match outcome {
            Outcome::Passed => {
                self.suite.passed += 1;
                self.say(&format!("ok   {suite} {test} {seconds:.2} s"))
            }
            Outcome::LeftOut(reason) => {
                self.suite.left_out += 1;
                self.say(&format!("skip {suite} {test}: {reason}"))
            }
            Outcome::Failed(output) => {
                self.suite.failed += 1;
                self.say(&format!("FAIL {suite} {test} {seconds:.2} s"))?;
                let from = output.len().saturating_sub(SHOWN);
                let from = (from..=output.len()).find(|at| output.is_char_boundary(*at)).unwrap_or(0);
                for line in output[from..].lines() {
                    self.say(&format!("     | {line}"))?;
                }
                Ok(())
            }
        }
    }

    /// Closes a suite with a line of its own.
    pub fn suite_ended(&mut self, suite: &str, took: Duration) -> Result<()> {
        let tally = std::mem::take(&mut self.suite);
        self.total.passed += tally.passed;
        self.total.failed += tally.failed;
        self.total.left_out += tally.left_out;
        self.say(&format!("done {suite}: {tally}, {:.1} s", took.as_secs_f64()))
    }

    /// The last line; returns when it has left the machine.
    pub fn end(mut self) -> Result<()> {
        let total = self.total;
        self.say(&format!("{RESULT} {total}"))?;
        tcdrain(&self.line).context("cannot wait for the report's end")
    }
}
