//! Hooks: programs the configuration wants run at points of a container's life, with its state as JSON on their
//! standard input (runtime-spec, "POSIX-platform Hooks"). Run by the runtime itself or by the process that is to
//! become the container's, whichever namespaces the kind of hook is for.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use oci::{Hook, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;

/// Most of a failed hook's output shown.
const MAX_OUTPUT: u64 = 4096;

/// Runs the hooks in order; the first that fails ends it.
///
/// # Errors
/// A sentence that names the hook and has what it printed.
pub(crate) fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<(), String> {
    if hooks.is_empty() {
        return Ok(());
    }
    each(kind, hooks, state).collect()
}

/// Runs every hook in order, whatever becomes of the others; gives a sentence for each that failed.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &State) -> Vec<String> {
    if hooks.is_empty() {
        return Vec::new();
    }
    each(kind, hooks, state).filter_map(Result::err).collect()
}

/// The hooks, each run when it is asked for.
fn each(kind: &str, hooks: &[Hook], state: &State) -> impl Iterator<Item = Result<(), String>> {
    let document = serde_json::to_vec(state).map_err(|error| format!("cannot write the state: {error}"));
    hooks.iter().enumerate().map(move |(at, hook)| {
        let document = document.as_ref().map_err(Clone::clone)?;
        run_one(hook, document).map_err(|why| format!("error running {kind} hook #{at} ({}): {why}", hook.path))
    })
}

fn run_one(hook: &Hook, document: &[u8]) -> Result<(), String> {
    // Memory files, not pipes: a hook need not read what it is given, nor do we have to while it writes.
    let mut input = memory("hook-input")?;
    input.write_all(document).and_then(|()| input.rewind()).map_err(|error| error.to_string())?;
    let mut output = memory("hook-output")?;
    let copy = |file: &File| file.try_clone().map_err(|error| error.to_string());
    let mut command = Command::new(&hook.path);
    if let Some(name) = hook.args.first() {
        command.arg0(name);
    }
    command.args(hook.args.iter().skip(1)).env_clear();
    for item in &hook.env {
        if let Some((key, value)) = item.split_once('=') {
            command.env(key, value);
        }
    }
    command.stdin(Stdio::from(input)).stdout(Stdio::from(copy(&output)?)).stderr(Stdio::from(copy(&output)?));
    let mut child = command.spawn().map_err(|error| format!("cannot be started: {error}"))?;
    let status = match hook.timeout {
        Some(seconds) => {
            let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            match wait(&mut child, limit).map_err(|error| error.to_string())? {
                Some(status) => status,
                None => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(format!("still running after its timeout of {seconds} s"));
                }
            }
        }
        None => child.wait().map_err(|error| error.to_string())?,
    };
    if status.success() {
        return Ok(());
    }
    let mut text = Vec::new();
    let _ = output.rewind().and_then(|()| output.take(MAX_OUTPUT).read_to_end(&mut text));
    Err(format!("{}, output: {}", ended(status), String::from_utf8_lossy(&text).trim_end()))
}

fn memory(name: &str) -> Result<File, String> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map(File::from).map_err(|errno| errno.to_string())
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

/// Waits so long and no longer.
fn wait(child: &mut std::process::Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let pidfd = sys::process::pidfd_open(i32::try_from(child.id()).unwrap_or(-1))?;
    // Later than the clock can tell is never.
    let Some(end) = Instant::now().checked_add(limit) else { return child.wait().map(Some) };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(sys::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
