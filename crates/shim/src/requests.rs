//! What the daemon asks for, each request answered once.

use std::os::fd::{AsFd, OwnedFd};

use launch::{ExecPlan, FailureStage, LaunchPlan, LogConfig, Request, Response, Snapshot, Streams, WIRE_VERSION};
use runtime::{Failure, Stdio};
use sys::Errno;
use sys::socket::FdListener;

use crate::connection::Incoming;
use crate::log::{Log, LogSettings};
use crate::poller::{Interest, Token};
use crate::server::{Launched, MAIN, OomCounter, Server, failure, write_file};
use crate::task::{ChildStreams, Ordered, Phase, Task};
use crate::zygote::{self, Order, Zygote};

/// Largest plan accepted, in bytes.
const MAX_PLAN: u64 = 16 * 1024 * 1024;
/// Most execs at a time: all their ids fit into one snapshot message.
const MAX_TASKS: usize = 512;
/// Room reserved for an exit record, in bytes.
const RECORD_ROOM: u64 = 4096;
/// Longest id of an exec, in bytes.
const MAX_EXEC_ID: usize = 64;

impl Server {
    pub(crate) fn handle(&mut self, connection: u32, incoming: Incoming) {
        let to = (connection, incoming.frame.seq);
        let fds = incoming.fds;
        let result = match incoming.frame.request {
            Request::Launch { version } => {
                let result = self.launch(to, version, fds);
                if result.is_err() && self.tasks.iter().all(|task| task.pid == 0) && self.exit.is_none() {
                    self.failed = true;
                }
                result
            }
            Request::Exec { attach } => self.exec(to, attach, fds),
            Request::State => {
                let snapshot = self.snapshot();
                self.reply(to, Response::State(snapshot), None);
                Ok(())
            }
            Request::Attach { streams } => self.attach(to, streams),
            Request::Signal { exec_id, signal } => self.signal(to, &exec_id, signal),
            Request::Resize { exec_id, rows, cols } => self.resize(to, &exec_id, rows, cols),
            Request::ReopenLog => {
                let reopened = self.log.as_mut().map_or(Ok(()), Log::reopen);
                match reopened {
                    Ok(()) => {
                        self.reply(to, Response::Done, None);
                        Ok(())
                    }
                    Err(errno) => Err(failure(FailureStage::Log, errno, "open the log file again")),
                }
            }
            Request::Forget => {
                if self.exit.is_some() || self.launched.is_none() {
                    self.forgotten = true;
                    self.reply(to, Response::Done, None);
                    Ok(())
                } else {
                    Err(failure(FailureStage::Protocol, Errno::BUSY, "leave while the container runs"))
                }
            }
        };
        if let Err(failure) = result {
            self.fail(to, failure);
        }
    }

    fn launch(&mut self, to: (u32, u64), version: u32, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        if version != WIRE_VERSION {
            return Err(Failure {
                stage: FailureStage::Protocol,
                errno: Errno::PROTO.raw_os_error(),
                detail: format!(
                    "the daemon speaks version {version} and its shim version {WIRE_VERSION}; install both from one release"
                ),
            });
        }
        if self.launched.is_some() {
            return Err(failure(FailureStage::Protocol, Errno::ALREADY, "launch a second container"));
        }
        let (bytes, _, mut fds) = take_plan(fds)?;
        let plan = LaunchPlan::decode(&bytes).map_err(|error| Failure {
            stage: FailureStage::Protocol,
            errno: 0,
            detail: error.to_string(),
        })?;
        self.listen(&plan)?;
        if let LogConfig::JsonFile { path, max_size, max_files, attrs_json } = &plan.log {
            let settings = LogSettings {
                path: path.clone(),
                max_size: *max_size,
                max_files: *max_files,
                attrs: attrs_json.clone(),
            };
            let log = Log::open(settings)
                .map_err(|errno| failure(FailureStage::Log, errno, &format!("open the log file {path}")))?;
            self.log = Some(log);
        }
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == MAIN) else { return Ok(()) };
        let streams = task
            .prepare_io(plan.io, false, &mut self.null)
            .map_err(|errno| failure(FailureStage::Io, errno, "make the standard streams"))?;
        let spawning = runtime::spawn(&plan, &fds, stdio(&streams), &mut ())?;
        task.begin(spawning, to, None);
        drop(streams);
        let oom = plan.oom_fd.map(usize::from).filter(|index| *index < fds.len());
        let oom = oom.map(|index| OomCounter::new(fds.swap_remove(index)));
        if let Some(launched) = &mut self.launched {
            launched.oom = oom;
        }
        self.watch_start(MAIN);
        // While the child makes its surroundings.
        drop((plan, bytes, fds));
        self.null.prepare();
        self.fork_zygote();
        Ok(())
    }

    /// The second process for execs. What it shares with this one from now on counts half for each, so nothing is
    /// there that is not needed.
    fn fork_zygote(&mut self) {
        self.discard_buffers();
        let Some(Phase::Starting(starting)) = self.task(MAIN).map(|task| &task.phase) else { return };
        let Ok(zygote) = Zygote::fork(starting.spawning.pidfd.as_fd()) else { return };
        if self.poller.add(zygote.socket(), Token::Zygote, Interest::READ).is_ok() {
            self.zygote = Some(zygote);
        }
    }

    fn listen(&mut self, plan: &LaunchPlan) -> Result<(), Failure> {
        let socket = format!("{}/shim.sock", plan.run_dir);
        let io = |what: &'static str| move |errno| failure(FailureStage::Io, errno, what);
        let listener = FdListener::bind(socket.as_ref()).map_err(io("make the control socket in the run directory"))?;
        self.poller.add(listener.as_fd(), Token::Listener, Interest::READ).map_err(io("watch the control socket"))?;
        self.listener = Some(listener);
        let record = write_file(&format!("{}/exit", plan.run_dir), b"").map_err(io("make the exit record"))?;
        // Not every file system can reserve room.
        let _ = rustix::fs::fallocate(&record, rustix::fs::FallocateFlags::KEEP_SIZE, 0, RECORD_ROOM);
        self.launched = Some(Launched {
            container_id: plan.container_id.clone(),
            run_dir: plan.run_dir.clone(),
            started_at_ns: 0,
            oom: None,
            record,
        });
        write_file(&format!("{}/pid", plan.run_dir), format!("{}\n", self.pid).as_bytes())
            .map(drop)
            .map_err(io("write the pid file"))
    }

    fn exec(&mut self, to: (u32, u64), attach: Option<Streams>, fds: Vec<OwnedFd>) -> Result<(), Failure> {
        let (bytes, sealed, mut fds) = take_plan(fds)?;
        let plan = ExecPlan::decode(&bytes).map_err(|error| Failure {
            stage: FailureStage::Protocol,
            errno: 0,
            detail: error.to_string(),
        })?;
        if self.tasks.len() >= MAX_TASKS {
            return Err(failure(FailureStage::Protocol, Errno::AGAIN, "run more execs at a time in this container"));
        }
        if plan.exec_id.len() > MAX_EXEC_ID {
            return Err(failure(FailureStage::Protocol, Errno::NAMETOOLONG, "run an exec under so long an id"));
        }
        if plan.exec_id.is_empty() || self.tasks.iter().any(|task| task.exec_id == plan.exec_id) {
            return Err(failure(FailureStage::Protocol, Errno::EXIST, "run an exec under an id in use"));
        }
        let (id, client) = (self.fresh_id(), self.fresh_id());
        if !matches!(self.task(MAIN).map(|task| &task.phase), Some(Phase::Running { .. })) {
            return Err(failure(FailureStage::NotRunning, Errno::SRCH, "run a process: the container is not running"));
        }
        let Some(zygote) = &mut self.zygote else { return Err(zygote::unavailable(Errno::SRCH, zygote::GONE)) };
        let mut task = Task::new(id, plan.exec_id.clone());
        let io = |errno| failure(FailureStage::Io, errno, "make the standard streams");
        let streams = task.prepare_io(plan.io, attach.is_none(), &mut self.null).map_err(io)?;
        let stream = attach.map(|streams| task.attach(client, streams)).transpose().map_err(io)?;
        let mut passed = vec![sealed];
        if let ChildStreams::Pipes(streams) = streams {
            passed.extend(streams);
        }
        passed.append(&mut fds);
        zygote.order(Order { task: id, fds: passed })?;
        task.phase = Phase::Ordered(Box::new(Ordered { reply: to, stream }));
        self.tasks.push(task);
        Ok(())
    }

    /// Watches the start. The process is there already, so that a lack of watches is no reason to
    /// answer that it is not: it is looked after by the clock then.
    pub(crate) fn watch_start(&mut self, id: u32) {
        if let Some(Phase::Starting(starting)) = self.tasks.iter().find(|task| task.id == id).map(|task| &task.phase)
            && self.poller.add(starting.spawning.status(), Token::Status(id), Interest::READ).is_err()
        {
            self.unwatched = true;
        }
    }

    fn attach(&mut self, to: (u32, u64), streams: Streams) -> Result<(), Failure> {
        let client = self.fresh_id();
        let Some(task) = self.task(MAIN).filter(|task| !matches!(task.phase, Phase::Over)) else {
            return Err(failure(FailureStage::NotRunning, Errno::SRCH, "attach: the container has ended"));
        };
        let stream = task
            .attach(client, streams)
            .map_err(|errno| failure(FailureStage::Io, errno, "make the client's stream"))?;
        self.reply(to, Response::Attached, Some(stream));
        Ok(())
    }

    fn named(&mut self, exec_id: &str) -> Result<&mut Task, Failure> {
        let found = self.tasks.iter_mut().find(|task| task.exec_id == exec_id);
        found.ok_or_else(|| failure(FailureStage::NoSuchExec, Errno::SRCH, "find the exec: it has ended"))
    }

    fn signal(&mut self, to: (u32, u64), exec_id: &str, signal: i32) -> Result<(), Failure> {
        self.named(exec_id)?.signal(signal).map_err(|errno| {
            let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { FailureStage::Io };
            failure(stage, errno, &format!("send signal {signal}"))
        })?;
        self.reply(to, Response::Done, None);
        Ok(())
    }

    fn resize(&mut self, to: (u32, u64), exec_id: &str, rows: u16, cols: u16) -> Result<(), Failure> {
        self.named(exec_id)?
            .resize(rows, cols)
            .map_err(|errno| failure(FailureStage::Console, errno, "resize the terminal"))?;
        self.reply(to, Response::Done, None);
        Ok(())
    }

    fn snapshot(&self) -> Snapshot {
        let running = |task: &&Task| matches!(task.phase, Phase::Running { .. } | Phase::Draining { .. });
        let launched = self.launched.as_ref();
        Snapshot {
            version: WIRE_VERSION,
            container_id: launched.map(|launched| launched.container_id.clone()).unwrap_or_default(),
            shim_pid: self.pid,
            pid: self.tasks.iter().find(|task| task.id == MAIN).map_or(0, |task| task.pid),
            started_at_ns: launched.map_or(0, |launched| launched.started_at_ns),
            exit: self.exit.clone(),
            execs: self
                .tasks
                .iter()
                .filter(|task| task.id != MAIN)
                .filter(running)
                .map(|task| (task.exec_id.clone(), task.pid))
                .collect(),
            log_dropped_lines: self.log.as_ref().map_or(0, Log::dropped),
        }
    }
}

/// The sealed plan is the first descriptor; the plan counts the rest from 0. Gives its content, itself and the rest.
pub(crate) fn take_plan(mut fds: Vec<OwnedFd>) -> Result<(Vec<u8>, OwnedFd, Vec<OwnedFd>), Failure> {
    if fds.is_empty() {
        return Err(failure(FailureStage::Protocol, Errno::BADF, "find the plan: no descriptor came with the request"));
    }
    let plan = fds.remove(0);
    let bytes = sys::memfd::read_sealed(plan.as_fd(), MAX_PLAN)
        .map_err(|errno| failure(FailureStage::Protocol, errno, "read the sealed plan"))?;
    Ok((bytes, plan, fds))
}

fn stdio(streams: &ChildStreams) -> Stdio<'_> {
    match streams {
        ChildStreams::Pipes([stdin, stdout, stderr]) => {
            Stdio::Streams { stdin: stdin.as_fd(), stdout: stdout.as_fd(), stderr: stderr.as_fd() }
        }
        ChildStreams::Terminal { rows, cols } => Stdio::Terminal { rows: *rows, cols: *cols },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_as_many_execs_as_there_may_be_fits_into_a_message() {
        let snapshot = Snapshot {
            version: WIRE_VERSION,
            container_id: "c".repeat(64),
            shim_pid: i32::MAX,
            pid: i32::MAX,
            started_at_ns: i64::MAX,
            exit: None,
            execs: vec![("e".repeat(MAX_EXEC_ID), i32::MAX); MAX_TASKS],
            log_dropped_lines: u64::MAX,
        };
        let reply = launch::ReplyFrame::Response { seq: u64::MAX, response: Response::State(snapshot) };
        assert!(reply.encode().unwrap().len() <= launch::MAX_MESSAGE);
    }
}
