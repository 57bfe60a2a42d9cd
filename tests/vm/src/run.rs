//! Runs what the plan lists: suites one after another, the tests of each on as many threads as there
//! are processors, as `cargo test` does.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use vm_guest::{PAYLOAD, PLAN, Plan, Suite};

use crate::harness::{self, Outcome};
use crate::mounts;
use crate::report::Report;

pub fn run() -> Result<()> {
    let text = fs::read_to_string(PLAN).with_context(|| format!("cannot read {PLAN}"))?;
    let plan: Plan = serde_json::from_str(&text).context("the plan cannot be read")?;
    for directory in &plan.directories {
        let inside = directory.strip_prefix("/").context("the plan names a relative directory")?;
        mounts::bind(&Path::new(PAYLOAD).join(inside), directory)?;
    }
    let mut report = Report::open()?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    report.say(&format!("kernel {release}, up {} s", uptime.split_whitespace().next().unwrap_or("?")))?;
    for suite in &plan.suites {
        run_suite(&plan, suite, &mut report)?;
    }
    report.end()
}

fn run_suite(plan: &Plan, suite: &Suite, report: &mut Report) -> Result<()> {
    let begin = Instant::now();
    let tests = match harness::list(plan, suite) {
        Ok(tests) => tests,
        Err(error) => {
            report.outcome(&suite.name, "--list", &Outcome::Failed(format!("{error:#}")), begin.elapsed())?;
            return report.suite_ended(&suite.name, begin.elapsed());
        }
    };
    if tests.is_empty() && !suite.words.is_empty() {
        return Ok(());
    }
    let queue = Mutex::new(VecDeque::from(tests));
    let next = || queue.lock().ok()?.pop_front();
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for worker in 0..workers {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                let output = std::env::temp_dir().join(format!("vm-output-{worker}"));
                while let Some(test) = next() {
                    let begin = Instant::now();
                    let outcome = harness::run(plan, suite, &test, &output)
                        .unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
                    if sender.send((test, outcome, begin.elapsed())).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (test, outcome, took) in outcomes {
            report.outcome(&suite.name, &test, &outcome, took)?;
        }
        report.suite_ended(&suite.name, begin.elapsed())
    })
}
