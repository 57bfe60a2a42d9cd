//! One test at a time, each in a process of its own: the end, the output and the time of a test are
//! then its own, whatever it does to its process. Output goes to a file, since a container left over
//! would keep a pipe open.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};
use vm_guest::{Plan, Suite};

/// How one test ended.
pub enum Outcome {
    Passed,
    /// It said itself that it cannot run here, or the plan did.
    LeftOut(String),
    Failed(String),
}

/// What a test says, at the start of a line, when it passes without having tested anything.
const LEAVES_OUT: [&str; 2] = ["skipped:", "left out:"];

/// Names of the suite's tests in its own order.
pub fn list(plan: &Plan, suite: &Suite) -> Result<Vec<String>> {
    let all = names(plan, suite, &[])?;
    let passed_over = if suite.ignored { Vec::new() } else { names(plan, suite, &["--ignored"])? };
    let wanted = |name: &String| {
        !passed_over.contains(name)
            && (suite.words.is_empty() || suite.words.iter().any(|word| name.contains(word.as_str())))
    };
    Ok(all.into_iter().filter(wanted).collect())
}

fn names(plan: &Plan, suite: &Suite, args: &[&str]) -> Result<Vec<String>> {
    let mut command = program(plan, suite);
    command.args(["--list", "--format", "terse"]).args(args);
    let output = command.output().with_context(|| format!("cannot run {}", suite.program.display()))?;
    if !output.status.success() {
        bail!("{} lists no tests: {}", suite.program.display(), String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

fn program(plan: &Plan, suite: &Suite) -> Command {
    let mut command = Command::new(&suite.program);
    command.current_dir(&suite.directory).envs(&plan.environment).stdin(Stdio::null());
    command
}

/// Runs the test to its end or to its limit.
pub fn run(plan: &Plan, suite: &Suite, name: &str, output: &Path) -> Result<Outcome> {
    if let Some(reason) = suite.left_out.get(name) {
        return Ok(Outcome::LeftOut(reason.clone()));
    }
    let file = File::create(output).with_context(|| format!("cannot make {}", output.display()))?;
    let mut command = program(plan, suite);
    command.args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"]);
    command.stdout(file.try_clone()?).stderr(file).process_group(0);
    let mut child = command.spawn().with_context(|| format!("cannot run {}", suite.program.display()))?;
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begin.elapsed() > Duration::from_secs(suite.limit) {
            break None;
        }
        sleep(Duration::from_millis(5));
    };
    if status.is_none()
        && let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    {
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = child.wait();
    }
    let text = String::from_utf8_lossy(&fs::read(output)?).into_owned();
    Ok(match status {
        None => Outcome::Failed(format!("{text}\nstill running after {} s: killed", suite.limit)),
        Some(status) if status.success() => {
            let reason = text.lines().find_map(|line| {
                LEAVES_OUT.iter().find_map(|word| line.trim_start().strip_prefix(word)).map(str::trim)
            });
            reason.map_or(Outcome::Passed, |reason| Outcome::LeftOut(reason.to_owned()))
        }
        Some(status) => match status.signal() {
            Some(signal) => Outcome::Failed(format!("{text}\nkilled by signal {signal}")),
            None => Outcome::Failed(text),
        },
    })
}
