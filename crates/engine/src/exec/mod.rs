//! Further processes in running containers. An exec is created, started once, and remembered for a
//! while after its end so that its exit code can be asked for. Called by the facade and by health
//! checks.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use docker_types::exec::{ExecCreateBody, ExecInspect, ExecProcessConfig};
use launch::{Request, Response, Streams};
use tokio::sync::{mpsc, watch};

use crate::container::attach::{AttachStream, Attached};
use crate::container::record::Phase;
use crate::container::{Container, random_id, start, stop};
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::plan;

/// How long the exit code of an exec can be asked for after its end.
const REMEMBERED: Duration = Duration::from_secs(300);

/// How long the end of an exec's output is held back for its exit code.
const EXIT_FOLLOWS: Duration = Duration::from_secs(2);

/// How to start an exec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecStartOptions {
    /// Nobody looks at its output.
    pub detach: bool,
    pub tty: bool,
    /// Rows and columns.
    pub console_size: Option<(u16, u16)>,
    pub detach_keys: Option<String>,
}

#[derive(Debug, Default)]
struct Progress {
    started: bool,
    running: bool,
    pid: i32,
    exit_code: Option<i32>,
}

#[derive(Debug)]
pub(crate) struct Exec {
    id: String,
    container: Arc<Container>,
    body: ExecCreateBody,
    progress: Mutex<Progress>,
    /// The exit code, once there is one.
    done: watch::Sender<Option<i32>>,
}

impl Exec {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `echo hi`, as events show it.
    fn command(&self) -> String {
        let words = self.body.cmd.as_ref().map(|c| c.0.clone()).unwrap_or_default();
        match words.split_first() {
            Some((first, rest)) => format!("{first} {}", rest.join(" ")),
            None => String::new(),
        }
    }

    fn finish(&self, code: i32) -> bool {
        let mut progress = self.progress();
        if progress.exit_code.is_some() {
            return false;
        }
        progress.running = false;
        progress.exit_code = Some(code);
        drop(progress);
        self.done.send_replace(Some(code));
        true
    }

    /// Resolves with the exit code.
    pub(crate) async fn wait(&self) -> i32 {
        let mut done = self.done.subscribe();
        done.wait_for(Option::is_some).await.ok().and_then(|code| *code).unwrap_or(-1)
    }
}

/// Every exec by id.
#[derive(Debug, Default)]
pub(crate) struct Execs {
    map: Mutex<HashMap<String, Arc<Exec>>>,
}

impl Execs {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Exec>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// Not found.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<Exec>> {
        self.lock().get(id).cloned().ok_or_else(|| fail!(NotFound, "No such exec instance: {id}"))
    }

    pub(crate) fn forget(&self, id: &str) {
        if let Some(exec) = self.lock().remove(id) {
            exec.container.live().execs.remove(id);
        }
    }

    /// The shim told of an end.
    pub(crate) fn ended(&self, inner: &Arc<Inner>, id: &str, code: i32) {
        let Ok(exec) = self.get(id) else { return };
        if exec.finish(code) {
            report_end(inner, &exec, code);
        }
    }

    /// The container has ended: so have its execs.
    pub(crate) fn container_ended(&self, inner: &Arc<Inner>, container: &Container) {
        let ids: Vec<String> = container.live().execs.iter().cloned().collect();
        for id in ids {
            let Ok(exec) = self.get(&id) else { continue };
            let was_running = exec.progress().running;
            if was_running && exec.finish(137) {
                report_end(inner, &exec, 137);
            }
        }
    }

    /// The container is removed.
    pub(crate) fn forget_container(&self, container: &Container) {
        let ids = std::mem::take(&mut container.live().execs);
        let mut map = self.lock();
        for id in ids {
            map.remove(&id);
        }
    }

    /// Execs found running when the engine took the container over.
    pub(crate) fn adopt(&self, container: &Arc<Container>, running: &[(String, i32)]) {
        for (id, pid) in running {
            let exec = Exec {
                id: id.clone(),
                container: Arc::clone(container),
                body: ExecCreateBody::default(),
                progress: Mutex::new(Progress { started: true, running: true, pid: *pid, exit_code: None }),
                done: watch::Sender::new(None),
            };
            container.live().execs.insert(id.clone());
            self.lock().insert(id.clone(), Arc::new(exec));
        }
    }
}

fn report_end(inner: &Arc<Inner>, exec: &Arc<Exec>, code: i32) {
    inner.publish_container(&exec.container, "exec_die", [("execID", exec.id.clone()), ("exitCode", code.to_string())]);
    forget_later(inner, exec);
}

fn forget_later(inner: &Arc<Inner>, exec: &Exec) {
    let (inner, id) = (Arc::downgrade(inner), exec.id.clone());
    tokio::spawn(async move {
        tokio::time::sleep(REMEMBERED).await;
        if let Some(inner) = inner.upgrade() {
            inner.execs.forget(&id);
        }
    });
}

/// Refuse when nothing can be executed in the container now.
fn check_running(container: &Container, name: &str) -> Result<()> {
    match container.phase() {
        Phase::Running => Ok(()),
        Phase::Paused => Err(fail!(Conflict, "Container {name} is paused, unpause the container before exec")),
        Phase::Restarting => {
            Err(fail!(Conflict, "Container {name} is restarting, wait until the container is running"))
        }
        _ => Err(container.not_running()),
    }
}

/// Register an exec.
///
/// # Errors
/// Conflict when the container does not run; Invalid without a command.
pub(crate) async fn create(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    name: &str,
    body: ExecCreateBody,
) -> Result<Arc<Exec>> {
    check_running(container, name)?;
    if body.cmd.as_ref().is_none_or(|c| c.is_empty()) {
        return Err(fail!(Invalid, "No exec command specified"));
    }
    if body.cmd.iter().flat_map(|c| c.iter()).chain(body.env.iter().flatten()).any(|w| w.contains('\0')) {
        return Err(fail!(Invalid, "invalid exec argument: a NUL byte cannot be passed to a program"));
    }
    if !body.working_dir.is_empty() && !body.working_dir.starts_with('/') {
        return Err(fail!(
            Invalid,
            "the working directory '{}' is invalid, it needs to be an absolute path",
            body.working_dir
        ));
    }
    if !body.user.is_empty()
        && let Some(pid) = container.pid()
    {
        let (record, spec) = (container.record(), body.user.clone());
        inner
            .blocking("resolve the user of an exec", move || plan::check_user(&record, pid, &spec))
            .await
            .map_err(|e| e.with_kind(types::Kind::Invalid))?;
    }
    let exec = Arc::new(Exec {
        id: random_id(),
        container: Arc::clone(container),
        body,
        progress: Mutex::default(),
        done: watch::Sender::new(None),
    });
    container.live().execs.insert(exec.id.clone());
    inner.execs.lock().insert(exec.id.clone(), Arc::clone(&exec));
    inner.publish_container(container, &format!("exec_create: {}", exec.command()), [("execID", exec.id.clone())]);
    Ok(exec)
}

impl Exec {
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Ask the shim to end it; it may have ended by itself.
    pub(crate) async fn kill(&self) {
        if let Ok(link) = self.container.link() {
            let signal = Request::Signal { exec_id: self.id.clone(), signal: 9 };
            if let Err(error) = link.request(signal, &[]).await {
                tracing::debug!(exec = self.id, %error, "an exec could not be killed");
            }
        }
    }
}

/// Start an exec; gives its streams unless detached. A command that cannot be executed is told in
/// the stream and by its exit code, as Docker does, except when detached.
///
/// # Errors
/// Conflict when it was started before or the container no longer runs.
pub(crate) async fn start(
    inner: &Arc<Inner>,
    exec: &Arc<Exec>,
    options: &ExecStartOptions,
) -> Result<Option<Attached>> {
    let container = &exec.container;
    {
        let mut progress = exec.progress();
        if progress.running {
            return Err(fail!(Conflict, "exec command {} is already running", exec.id));
        }
        if progress.started {
            return Err(fail!(Conflict, "exec command {} has already run", exec.id));
        }
        check_running(container, &container.record().name)?;
        progress.started = true;
        progress.running = true;
    }
    inner.publish_container(container, &format!("exec_start: {}", exec.command()), [("execID", exec.id.clone())]);
    let tty = exec.body.tty;
    match run(inner, exec, options).await {
        Ok(stream) if options.detach => {
            drop(stream);
            Ok(None)
        }
        Ok(Some(fd)) => {
            let exec = Arc::clone(exec);
            // The shim's word of the exit comes over another socket, so the end of the output may overtake it.
            let stream = AttachStream::connected(fd)?.ending_after(async move {
                let _ = tokio::time::timeout(EXIT_FOLLOWS, exec.wait()).await;
            });
            Ok(Some(Attached { tty, stream }))
        }
        Ok(None) => Ok(Some(Attached { tty, stream: AttachStream::ended() })),
        Err((error, code)) => {
            // Nothing ran, so nothing dies: the exit code alone tells of it.
            if exec.finish(code) {
                forget_later(inner, exec);
            }
            if options.detach {
                return Err(error);
            }
            let (tx, rx) = mpsc::channel(1);
            // The channel has room for the one message.
            let _ = tx.try_send(Ok(told(&error.to_string(), tty)));
            Ok(Some(Attached { tty, stream: AttachStream::ended().with_prefix(rx) }))
        }
    }
}

/// An error text as output of the process.
fn told(text: &str, tty: bool) -> Bytes {
    let mut out = Vec::new();
    let line = format!("{text}\r\n");
    if !tty {
        out.extend_from_slice(&[1, 0, 0, 0]);
        out.extend_from_slice(&u32::try_from(line.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    out.extend_from_slice(line.as_bytes());
    out.into()
}

async fn run(
    inner: &Arc<Inner>,
    exec: &Arc<Exec>,
    options: &ExecStartOptions,
) -> std::result::Result<Option<OwnedFd>, (Error, i32)> {
    const FAILED: i32 = 126;
    let failed = |error: Error| (error, FAILED);
    let container = &exec.container;
    let pid = container.pid().ok_or_else(|| failed(container.not_running()))?;
    let link = container.link().map_err(failed)?;
    let size = match (options.console_size, exec.body.console_size.as_deref()) {
        (Some((rows, cols)), _) => [u64::from(rows), u64::from(cols)],
        (None, Some([rows, cols])) => [*rows, *cols],
        _ => [0, 0],
    };
    let (plan, fds) = {
        let (worker, exec, record) = (Arc::clone(inner), Arc::clone(exec), container.record());
        inner
            .blocking("prepare an exec", move || {
                let group = worker.cgroup(&record)?;
                plan::exec_plan(&worker, &record, pid, &exec.id, &exec.body, size, &group)
            })
            .await
            .map_err(failed)?
    };
    let program = exec.body.cmd.as_ref().and_then(|c| c.first().cloned()).unwrap_or_default();
    let bytes = plan.encode().map_err(|e| failed(Error::io("cannot encode an exec plan", e)))?;
    let memfd =
        sys::memfd::sealed("exec-plan", &bytes).map_err(|e| failed(Error::io("cannot hand over an exec plan", e)))?;
    let mut passed = vec![memfd.as_fd()];
    passed.extend(plan::borrow(&fds));
    let streams =
        Streams { stdin: exec.body.attach_stdin, stdout: exec.body.attach_stdout, stderr: exec.body.attach_stderr };
    let wanted = !options.detach && (streams.stdin || streams.stdout || streams.stderr);
    let reply = link.request(Request::Exec { attach: wanted.then_some(streams) }, &passed).await.map_err(failed)?;
    match reply.response {
        Response::ExecStarted { pid } => {
            exec.progress().pid = pid;
            Ok(reply.fds.into_iter().next())
        }
        Response::Failed { stage, errno, detail } => {
            let (text, code, known) = start::launch_error(stage, errno, &detail, &program);
            let message = format!("OCI runtime exec failed: exec failed: unable to start container process: {text}");
            let kind = if known { types::Kind::Invalid } else { types::Kind::Internal };
            Err((Error::new(kind, message), if known { code } else { FAILED }))
        }
        other => Err(failed(fail!(Internal, "the container's shim answered {other:?} to an exec"))),
    }
}

/// New size of its terminal.
///
/// # Errors
/// Conflict before it was started or after it ended.
pub(crate) async fn resize(exec: &Exec, rows: u16, cols: u16) -> Result<()> {
    if !exec.progress().running {
        return Err(fail!(Invalid, "exec process is not started"));
    }
    stop::resize(&exec.container, &exec.id, exec.body.tty, rows, cols).await
}

/// What is known of it.
pub(crate) fn inspect(exec: &Exec) -> ExecInspect {
    let progress = exec.progress();
    let body = &exec.body;
    let words = body.cmd.as_ref().map(|c| c.0.clone()).unwrap_or_default();
    let (entrypoint, arguments) =
        words.split_first().map(|(first, rest)| (first.clone(), rest.to_vec())).unwrap_or_default();
    ExecInspect {
        id: exec.id.clone(),
        running: progress.running,
        exit_code: progress.exit_code.map(i64::from),
        process_config: ExecProcessConfig {
            tty: body.tty,
            entrypoint,
            arguments,
            privileged: Some(body.privileged),
            user: body.user.clone(),
        },
        open_stdin: body.attach_stdin,
        open_stderr: body.attach_stderr,
        open_stdout: body.attach_stdout,
        can_remove: false,
        container_id: exec.container.id().to_owned(),
        detach_keys: body.detach_keys.clone(),
        pid: i64::from(progress.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_as_output() {
        assert_eq!(&told("no", true)[..], b"no\r\n");
        assert_eq!(&told("no", false)[..], b"\x01\0\0\0\0\0\0\x04no\r\n");
    }
}
