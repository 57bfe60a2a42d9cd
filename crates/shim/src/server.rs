//! The shim's one loop: a thread, an epoll instance, and everything it watches.
//!
//! Nothing here blocks: not on the container's output, not on clients, not on daemons. Starts are
//! followed through their status sockets.

use std::os::fd::{AsFd, OwnedFd};

use launch::{Event, ExitRecord, FailureStage, MAX_MESSAGE, ReplyFrame, Response};
use runtime::{Failure, Progress};
use sys::Errno;
use sys::memory::PageBuffer;
use sys::process::{Ended, Reaped};
use sys::socket::{FdListener, FdSocket};

use crate::clock::{monotonic_ns, now_ns};
use crate::confine;
use crate::connection::Connection;
use crate::log::{Log, Stream};
use crate::null::NullDevice;
use crate::poller::{Interest, Poller, Ready, Token};
use crate::task::{Ordered, Phase, QUIET_NS, Read, Starting, Task};
use crate::zygote::{self, Answer, Zygote};

/// Largest single read of output.
const READ_SIZE: usize = 256 * 1024;
/// Idle time after which buffers go back to the kernel.
const RELAX_NS: i64 = 1_000_000_000;
/// How often is looked after what could not be watched.
const RETRY_NS: i64 = 50_000_000;
/// Most ended children taken at once: an exec can have children of its own born as ours (`CLONE_PARENT`),
/// and as fast as they end.
const MAX_REAPED: usize = 256;
/// Reads of each stream when a process has ended: more than a full pipe.
const DRAIN_READS: usize = 32;
/// Longest text of a failure, in bytes.
const MAX_DETAIL: usize = 4096;
/// The container's first process among the tasks.
pub(crate) const MAIN: u32 = 0;

/// What the launch leaves behind for later.
pub(crate) struct Launched {
    pub(crate) container_id: String,
    pub(crate) run_dir: String,
    pub(crate) started_at_ns: i64,
    pub(crate) oom: Option<OomCounter>,
    /// The file of the exit record, empty until the end: there is no making one later, and room is reserved.
    pub(crate) record: OwnedFd,
}

/// The group's count of memory kills, and what it was at the launch.
pub(crate) struct OomCounter {
    fd: OwnedFd,
    base: u64,
}

impl OomCounter {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let base = read_oom_kills(&fd);
        Self { fd, base }
    }

    fn has_killed(&self) -> bool {
        read_oom_kills(&self.fd) > self.base
    }
}

/// The number after `oom_kill` (v1 `memory.oom_control`, v2 `memory.events`); 0 when there is none.
fn read_oom_kills(fd: &OwnedFd) -> u64 {
    let mut buffer = [0u8; 512];
    let len = rustix::io::pread(fd, &mut buffer, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..len]);
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Everything the shim is.
pub(crate) struct Server {
    pub(crate) poller: Poller,
    signals: OwnedFd,
    pub(crate) listener: Option<FdListener>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) log: Option<Log>,
    pub(crate) launched: Option<Launched>,
    pub(crate) exit: Option<ExitRecord>,
    /// The daemon has taken the exit into its own records.
    pub(crate) forgotten: bool,
    /// The launch failed: nothing is left to do.
    pub(crate) failed: bool,
    pub(crate) null: NullDevice,
    /// What makes the processes of execs; gone before the launch, after the container, and when it was killed.
    pub(crate) zygote: Option<Zygote>,
    /// Our own process and user.
    pub(crate) pid: i32,
    uid: u32,
    /// Something could not be watched, so it is looked after every [`RETRY_NS`]. Watches are limited per
    /// user (epoll(7)), and root in a container is the same user: a container can use them up.
    pub(crate) unwatched: bool,
    /// More children have ended than were taken at once.
    reaping: bool,
    next_id: u32,
    buffer: PageBuffer,
    messages: PageBuffer,
    /// When there was last something to do, unless memory has been given back since.
    touched: Option<i64>,
    /// Memory has been given back and nothing happened since.
    resting: bool,
}

impl Server {
    /// Takes the first connection.
    pub(crate) fn new(first: FdSocket) -> Result<Self, Errno> {
        let poller = Poller::new()?;
        let signals = sys::process::signal_fd(&[SIGCHLD])?;
        poller.add(signals.as_fd(), Token::Signal, Interest::READ)?;
        let connection = Connection::new(1, first, &poller)?;
        Ok(Self {
            poller,
            signals,
            listener: None,
            connections: vec![connection],
            tasks: vec![Task::new(MAIN, String::new())],
            log: None,
            launched: None,
            exit: None,
            forgotten: false,
            failed: false,
            null: NullDevice::default(),
            zygote: None,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uid: rustix::process::geteuid().as_raw(),
            unwatched: false,
            reaping: false,
            next_id: 2,
            buffer: PageBuffer::new(READ_SIZE)?,
            messages: PageBuffer::new(MAX_MESSAGE)?,
            touched: Some(monotonic_ns()),
            resting: false,
        })
    }

    /// Serves until nothing is left to do.
    pub(crate) fn run(mut self) -> Result<(), Errno> {
        let mut ready = Vec::new();
        loop {
            let now = monotonic_ns();
            for task in &mut self.tasks {
                self.unwatched |= task.settle(&self.poller, now).is_err();
            }
            self.tasks
                .retain(|task| task.id == MAIN || !(matches!(task.phase, Phase::Over) && task.clients.is_empty()));
            self.connections.retain(|connection| !connection.is_broken());
            if self.is_done() {
                break;
            }
            let rest = std::mem::take(&mut self.resting);
            self.poller.wait(self.deadline().map(|deadline| deadline - now), rest, &mut ready)?;
            for ready in &ready {
                self.dispatch(*ready);
            }
            self.on_time();
        }
        self.clean_up();
        if let Some(zygote) = self.zygote.take() {
            zygote.kill();
            let _ = sys::process::wait_for(zygote.pid);
        }
        Ok(())
    }

    /// A number never used before, for tasks, clients and connections.
    pub(crate) fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    pub(crate) fn task(&mut self, id: u32) -> Option<&mut Task> {
        self.tasks.iter_mut().find(|task| task.id == id)
    }

    fn is_done(&self) -> bool {
        let flushed = self.connections.iter().all(Connection::is_flushed);
        if self.failed || self.forgotten {
            return flushed;
        }
        if !self.connections.is_empty() {
            return false;
        }
        match (&self.exit, &self.launched) {
            (Some(_), _) => self.tasks.iter().all(|task| task.clients.is_empty()),
            // A daemon that goes before it asked for anything leaves nothing to serve.
            (None, None) => true,
            (None, Some(_)) => false,
        }
    }

    fn deadline(&self) -> Option<i64> {
        if self.reaping {
            return Some(0);
        }
        let relax = self.touched.map(|at| at + RELAX_NS);
        let retry = self.unwatched.then(|| monotonic_ns() + RETRY_NS);
        let answer = self.zygote.as_ref().and_then(Zygote::deadline);
        self.tasks.iter().filter_map(Task::deadline).chain(relax).chain(retry).chain(answer).min()
    }

    fn dispatch(&mut self, ready: Ready) {
        match ready.token {
            Token::Signal => self.reap(),
            Token::Zygote => self.hear_zygote(),
            Token::Listener => self.accept(),
            Token::Connection(id) => self.converse(id, ready),
            Token::Stdout(id) => {
                if ready.write
                    && let Some(task) = self.tasks.iter_mut().find(|task| task.id == id && task.tty)
                {
                    task.input_ready(&mut self.buffer, &self.poller);
                }
                if ready.read {
                    self.read_output(id, Stream::Stdout);
                }
            }
            Token::Stderr(id) => self.read_output(id, Stream::Stderr),
            Token::Stdin(id) => {
                if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
                    task.input_ready(&mut self.buffer, &self.poller);
                }
            }
            Token::Status(id) => self.follow_start(id),
            Token::Client { task, client } => {
                let Some(task) = self.tasks.iter_mut().find(|other| other.id == task) else { return };
                if ready.write
                    && !ready.hangup
                    && let Some(client) = task.clients.iter_mut().find(|other| other.id == client)
                {
                    client.flush();
                }
                if ready.read || ready.hangup {
                    task.client_ready(client, ready.hangup, &mut self.buffer, &self.poller);
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok(socket)) = self.listener.as_ref().map(FdListener::accept) {
            // The directory is closed to others already; this holds even if somebody opens it up.
            if socket.peer_uid() != Ok(self.uid) {
                continue;
            }
            let id = self.fresh_id();
            if let Ok(connection) = Connection::new(id, socket, &self.poller) {
                self.connections.push(connection);
            }
        }
    }

    fn converse(&mut self, id: u32, ready: Ready) {
        let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) else { return };
        if ready.write {
            connection.flush(&self.poller);
        }
        if !ready.read {
            return;
        }
        self.touched = Some(monotonic_ns());
        while let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            let Some(incoming) = connection.receive(&mut self.messages) else { break };
            self.handle(id, incoming);
        }
    }

    /// Answers a request, if its connection is still there.
    pub(crate) fn reply(&mut self, to: (u32, u64), response: Response, fd: Option<OwnedFd>) {
        let (id, seq) = to;
        if let Some(connection) = self.connections.iter_mut().find(|connection| connection.id == id) {
            connection.send(&ReplyFrame::Response { seq, response }, fd, &self.poller);
        }
    }

    fn announce(&mut self, event: &Event) {
        for connection in &mut self.connections {
            connection.send(&ReplyFrame::Event(event.clone()), None, &self.poller);
        }
    }

    fn read_output(&mut self, id: u32, stream: Stream) {
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
        let log = if id == MAIN { self.log.as_mut() } else { None };
        if matches!(task.read_output(stream, &mut self.buffer, log, &self.poller), Read::Data) {
            let now = monotonic_ns();
            self.touched = Some(now);
            if let Phase::Draining { quiet_until, .. } = &mut task.phase {
                *quiet_until = now + QUIET_NS;
            }
        }
        if matches!(task.phase, Phase::Draining { .. }) && task.outputs_closed() {
            self.complete(id);
        }
    }

    /// Takes in what a starting task has reported.
    pub(crate) fn follow_start(&mut self, id: u32) {
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
        let Phase::Starting(starting) = &mut task.phase else { return };
        match starting.spawning.advance() {
            // A start of ours asks to be held nowhere.
            Progress::Waiting | Progress::Held(_) => {}
            Progress::Running => self.started(id),
            Progress::Failed(failure) => self.start_failed(id, failure),
        }
    }

    fn take_starting(&mut self, id: u32) -> Option<Starting> {
        let task = self.tasks.iter_mut().find(|task| task.id == id)?;
        match std::mem::replace(&mut task.phase, Phase::Waiting) {
            Phase::Starting(starting) => {
                self.poller.remove(starting.spawning.status());
                Some(*starting)
            }
            other => {
                task.phase = other;
                None
            }
        }
    }

    fn started(&mut self, id: u32) {
        let Some(starting) = self.take_starting(id) else { return };
        let started_at_ns = now_ns();
        let Starting { spawning, reply, stream, ended } = starting;
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
        task.phase = Phase::Running { pidfd: spawning.pidfd };
        let master = match spawning.status.master {
            Some(master) => task.set_master(master),
            None if task.tty => Err(Errno::NOTTY),
            None => Ok(()),
        };
        if master.is_err() {
            // Cannot be: the child hands the terminal over before it is ready. Without it nobody would
            // ever see or stop the program, so it must not stay.
            let _ = task.signal(SIGKILL);
        }
        let response = if id == MAIN {
            if let Some(launched) = &mut self.launched {
                launched.started_at_ns = started_at_ns;
            }
            let mut warnings = spawning.status.warnings;
            self.confine(&mut warnings);
            Response::Started { pid: spawning.pid, started_at_ns, warnings }
        } else {
            Response::ExecStarted { pid: spawning.pid }
        };
        self.reply(reply, response, stream);
        if let Some((code, finished_at_ns)) = ended {
            self.ended(id, code, finished_at_ns);
        }
    }

    /// Gives up what is not needed any more, before the first byte of the container is read.
    fn confine(&mut self, warnings: &mut Vec<String>) {
        let Some(launched) = &self.launched else { return };
        if self.zygote.is_none() {
            warnings.push("no exec will be available: its process could not be created".to_owned());
        }
        let directory = self.log.as_ref().map_or(launched.run_dir.as_str(), Log::directory);
        match confine::enter(directory) {
            Ok(()) => {
                if let Some(log) = &mut self.log {
                    log.directory_is_root();
                }
            }
            Err(errno) => warnings.push(format!("the shim could not close the file system to itself: {errno}")),
        }
        if let Err(errno) = confine::filter_calls() {
            warnings.push(format!("the shim runs without a system call filter: {errno}"));
        }
    }

    /// Takes in what the zygote has answered.
    fn hear_zygote(&mut self) {
        while let Some(zygote) = &mut self.zygote {
            match zygote.answer(&mut self.messages) {
                Ok(Some(answer)) => self.born(answer),
                Ok(None) => break,
                Err(errno) => self.lose_zygote(errno),
            }
        }
        // Whoever ended meanwhile was left alone.
        self.reaping = true;
    }

    fn born(&mut self, answer: Answer) {
        let Answer { task: id, born } = answer;
        let Some(Ordered { reply, stream }) = self.take_ordered(id) else { return };
        match born {
            Ok(spawning) => {
                if let Some(task) = self.task(id) {
                    task.begin(spawning, reply, stream);
                }
                self.watch_start(id);
            }
            Err(failure) => self.unborn(id, reply, failure),
        }
    }

    fn take_ordered(&mut self, id: u32) -> Option<Ordered> {
        let task = self.task(id)?;
        match std::mem::replace(&mut task.phase, Phase::Waiting) {
            Phase::Ordered(ordered) => Some(*ordered),
            other => {
                task.phase = other;
                None
            }
        }
    }

    fn unborn(&mut self, id: u32, reply: (u32, u64), failure: Failure) {
        let poller = &self.poller;
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.close_streams(poller);
            task.phase = Phase::Over;
        }
        self.fail(reply, failure);
    }

    /// There will be no more execs: under the filter no second zygote can be made.
    fn lose_zygote(&mut self, errno: Errno) {
        let Some(zygote) = self.zygote.take() else { return };
        zygote.kill();
        let ordered = |task: &&Task| matches!(task.phase, Phase::Ordered(_));
        let ids: Vec<u32> = self.tasks.iter().filter(ordered).map(|task| task.id).collect();
        for id in ids {
            if let Some(Ordered { reply, .. }) = self.take_ordered(id) {
                self.unborn(id, reply, zygote::unavailable(errno, zygote::GONE));
            }
        }
    }

    fn start_failed(&mut self, id: u32, failure: Failure) {
        let Some(starting) = self.take_starting(id) else { return };
        let poller = &self.poller;
        if let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) {
            task.close_streams(poller);
            task.phase = Phase::Over;
            if starting.ended.is_some() {
                // Reaped: the number is free for others from now on.
                task.pid = 0;
            }
        }
        self.fail(starting.reply, failure);
        if id == MAIN {
            self.failed = true;
        }
    }

    /// Answers that something failed.
    pub(crate) fn fail(&mut self, to: (u32, u64), failure: Failure) {
        let Failure { stage, errno, mut detail } = failure;
        // A longer one would not fit into a message, and the answer be lost with it.
        detail.truncate(detail.floor_char_boundary(MAX_DETAIL));
        self.reply(to, Response::Failed { stage, errno, detail }, None);
    }

    fn reap(&mut self) {
        sys::process::drain_signal_fd(self.signals.as_fd());
        if self.zygote.as_ref().is_some_and(Zygote::is_busy) {
            return self.reap_known();
        }
        self.reaping = true;
        for _ in 0..MAX_REAPED {
            match sys::process::reap_any() {
                Ok(Some(Reaped::Ended(child))) => self.reaped(child),
                Ok(Some(Reaped::LetGo)) => {}
                _ => {
                    self.reaping = false;
                    return;
                }
            }
        }
    }

    /// While the zygote has an answer on its way, a child not known yet may be an exec that has ended already: it
    /// keeps its number and its code until the answer is here.
    fn reap_known(&mut self) {
        self.reaping = false;
        let tasks = self.tasks.iter().map(|task| task.pid).filter(|pid| *pid > 0);
        let known: Vec<i32> = tasks.chain(self.zygote.as_ref().map(|zygote| zygote.pid)).collect();
        for pid in known {
            while let Ok(Some(reaped)) = sys::process::reap(pid) {
                if let Reaped::Ended(child) = reaped {
                    self.reaped(child);
                    break;
                }
            }
        }
    }

    fn reaped(&mut self, child: Ended) {
        if self.zygote.as_ref().is_some_and(|zygote| zygote.pid == child.pid) {
            // What it answered before counts.
            self.hear_zygote();
            return self.lose_zygote(Errno::SRCH);
        }
        let Some(task) = self.tasks.iter_mut().find(|task| task.pid == child.pid) else { return };
        let id = task.id;
        let finished_at_ns = now_ns();
        if let Phase::Starting(starting) = &mut task.phase {
            starting.ended = Some((child.code, finished_at_ns));
            self.follow_start(id);
        } else {
            self.ended(id, child.code, finished_at_ns);
        }
    }

    fn ended(&mut self, id: u32, code: i32, finished_at_ns: i64) {
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
        // The number is free for others from now on.
        task.pid = 0;
        if !matches!(task.phase, Phase::Running { .. }) {
            return;
        }
        task.begin_draining(code, finished_at_ns);
        for stream in [Stream::Stdout, Stream::Stderr] {
            // Nearly always all there is; the loop goes on with what is left.
            for _ in 0..DRAIN_READS {
                let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
                let log = if id == MAIN { self.log.as_mut() } else { None };
                if !matches!(task.read_output(stream, &mut self.buffer, log, &self.poller), Read::Data) {
                    break;
                }
                self.touched = Some(monotonic_ns());
            }
        }
        if self.task(id).is_some_and(|task| task.outputs_closed()) {
            self.complete(id);
        }
    }

    /// The task has ended and its output is in the log and with its clients.
    fn complete(&mut self, id: u32) {
        let Some(task) = self.tasks.iter_mut().find(|task| task.id == id) else { return };
        let Phase::Draining { code, finished_at_ns, .. } = task.phase else { return };
        task.close_streams(&self.poller);
        task.phase = Phase::Over;
        if id != MAIN {
            let exec_id = task.exec_id.clone();
            self.announce(&Event::ExecExited { exec_id, code });
            return;
        }
        if let Some(log) = &mut self.log {
            log.finish();
        }
        let oom_killed =
            self.launched.as_ref().and_then(|launched| launched.oom.as_ref()).is_some_and(OomCounter::has_killed);
        let record = ExitRecord { code, finished_at_ns, oom_killed };
        if let Some(zygote) = &self.zygote {
            zygote.kill();
        }
        self.write_record(&record);
        self.exit = Some(record.clone());
        self.announce(&Event::Exited(record));
    }

    /// One write, so that a reader finds nothing or all of it. Connected daemons are told anyway.
    fn write_record(&self, record: &ExitRecord) {
        if let (Some(launched), Ok(bytes)) = (&self.launched, record.encode()) {
            let _ = rustix::io::write(&launched.record, &bytes);
        }
    }

    /// What is due without an event.
    fn on_time(&mut self) {
        let now = monotonic_ns();
        if self.reaping {
            self.reap();
        }
        if self.zygote.as_ref().and_then(Zygote::deadline).is_some_and(|due| due <= now) {
            self.lose_zygote(Errno::TIMEDOUT);
        }
        if std::mem::take(&mut self.unwatched) {
            let starting = |task: &&Task| matches!(task.phase, Phase::Starting(_));
            let starting: Vec<u32> = self.tasks.iter().filter(starting).map(|task| task.id).collect();
            let with_output = |task: &&Task| matches!(task.phase, Phase::Running { .. } | Phase::Draining { .. });
            let with_output: Vec<u32> = self.tasks.iter().filter(with_output).map(|task| task.id).collect();
            for id in with_output {
                self.read_output(id, Stream::Stdout);
                self.read_output(id, Stream::Stderr);
            }
            for id in starting {
                self.follow_start(id);
                // Still at it, and perhaps still not watched.
                self.unwatched |= self.task(id).is_some_and(|task| matches!(task.phase, Phase::Starting(_)));
            }
        }
        let quiet: Vec<u32> = self
            .tasks
            .iter()
            .filter(|task| {
                matches!(
                    task.phase,
                    Phase::Draining { quiet_until, drain_until, .. }
                        if quiet_until.min(drain_until) <= now && !task.is_paused()
                )
            })
            .map(|task| task.id)
            .collect();
        for id in quiet {
            self.complete(id);
        }
        if self.touched.is_some_and(|at| at + RELAX_NS <= now) {
            self.touched = None;
            self.resting = true;
            self.discard_buffers();
            if let Some(log) = &mut self.log {
                log.relax();
            }
            for task in &mut self.tasks {
                task.relax();
            }
            sys::memory::trim_heap();
        }
    }

    /// A launch that failed leaves nothing. After another the directory is out of reach: the exit record stays in it,
    /// emptied when it has been taken over, and the daemon removes it.
    fn clean_up(&self) {
        let Some(launched) = &self.launched else { return };
        if self.failed {
            for name in ["shim.sock", "pid", "exit"] {
                let _ = rustix::fs::unlink(format!("{}/{name}", launched.run_dir));
            }
        } else if self.forgotten {
            let _ = rustix::fs::ftruncate(&launched.record, 0);
        }
    }

    /// Memory in which nothing is left that anybody needs.
    pub(crate) fn discard_buffers(&mut self) {
        self.buffer.discard();
        self.messages.discard();
    }
}

pub(crate) fn write_file(path: &str, content: &[u8]) -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    match rustix::io::write(&file, content)? {
        written if written == content.len() => Ok(file),
        _ => Err(Errno::NOSPC),
    }
}

/// Names a failure of the shim's own.
pub(crate) fn failure(stage: FailureStage, errno: Errno, what: &str) -> Failure {
    Failure { stage, errno: errno.raw_os_error(), detail: format!("cannot {what}: {errno}") }
}

const SIGCHLD: i32 = 17;
const SIGKILL: i32 = 9;

#[cfg(test)]
mod tests {
    use super::*;
    use launch::{Request, RequestFrame};

    #[test]
    fn output_that_cannot_be_watched_ends_nothing() {
        let (daemon, shim) = FdSocket::pair().unwrap();
        let mut server = Server::new(shim).unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        // epoll refuses this as it refuses everything when a container has used the user's watches up.
        let zero = rustix::fs::open("/dev/zero", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
        let task = server.task(MAIN).unwrap();
        task.set_master(zero).unwrap();
        task.phase = Phase::Running { pidfd: sys::process::pidfd_open(pid).unwrap() };
        let thread = std::thread::spawn(move || server.run());
        let request = RequestFrame { seq: 7, request: Request::State }.encode().unwrap();
        let mut buffer = vec![0; MAX_MESSAGE];
        for _ in 0..2 {
            daemon.send(&request, &[]).unwrap();
            let got = daemon.recv(&mut buffer).unwrap();
            let reply = ReplyFrame::decode(&buffer[..got.len]).unwrap();
            assert!(matches!(reply, ReplyFrame::Response { seq: 7, response: Response::State(_) }));
        }
        drop(daemon);
        assert_eq!(thread.join().unwrap(), Ok(()));
    }
}
