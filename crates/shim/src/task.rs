//! A process of the container, its first or an exec: its streams, its attached clients, its end.
//!
//! Output is read only as fast as the slowest full client allows (see [`crate::client`]); input of
//! one client at a time is on its way to the process. [`Task::settle`] brings what is watched in line
//! with the state after every round of events.

use std::os::fd::{AsFd, OwnedFd};

use launch::{IoMode, Streams};
use runtime::Spawning;
use rustix::pipe::PipeFlags;
use sys::Errno;

use crate::client::Client;
use crate::clock::monotonic_ns;
use crate::log::{Log, Stream};
use crate::null::NullDevice;
use crate::poller::{Interest, Poller, Token, Watched};

/// After the process has ended its output is read until its end or until nothing has come for this
/// long: a grandchild may hold the pipe open for ever.
pub(crate) const QUIET_NS: i64 = 100_000_000;
/// And no longer than this in all while nobody holds it back: a grandchild may also write for ever.
const DRAIN_NS: i64 = 2_000_000_000;
/// Bytes of a client's input taken at once.
const INPUT_CHUNK: usize = 64 * 1024;
/// Capacity of a pipe as the kernel makes it. Capacity counts against a limit per user
/// (`pipe-user-pages-soft`) beyond which containers get pipes of two pages, so that the idle keep to this.
const PIPE_SIZE: usize = 64 * 1024;
/// Capacity of the pipe of a process that writes a lot: fewer, larger reads.
const BUSY_PIPE_SIZE: usize = 1024 * 1024;

/// How far a task has come.
pub(crate) enum Phase {
    /// The container before its launch.
    Waiting,
    /// An exec the zygote has been asked for.
    Ordered(Box<Ordered>),
    /// Cloned, not yet at its program.
    Starting(Box<Starting>),
    Running {
        pidfd: OwnedFd,
    },
    /// Ended; its output may not be at its end.
    Draining {
        code: i32,
        finished_at_ns: i64,
        quiet_until: i64,
        drain_until: i64,
    },
    /// Ended and reported; clients may still have output coming.
    Over,
}

/// An exec that is not born yet.
pub(crate) struct Ordered {
    /// Whom to answer: connection and sequence number.
    pub(crate) reply: (u32, u64),
    /// The daemon's end of the attached stream.
    pub(crate) stream: Option<OwnedFd>,
}

/// A start under way.
pub(crate) struct Starting {
    pub(crate) spawning: Spawning,
    /// Whom to answer: connection and sequence number.
    pub(crate) reply: (u32, u64),
    /// The daemon's end of an exec's attached stream.
    pub(crate) stream: Option<OwnedFd>,
    /// Exit code and time, when it ended before its start was known.
    pub(crate) ended: Option<(i32, i64)>,
}

/// One process.
pub(crate) struct Task {
    pub(crate) id: u32,
    /// Empty for the container's first process.
    pub(crate) exec_id: String,
    pub(crate) phase: Phase,
    /// 0 before the launch.
    pub(crate) pid: i32,
    pub(crate) tty: bool,
    stdin_once: bool,
    /// Standard output (or the terminal) and standard error.
    outputs: [Option<Watched>; 2],
    input: Input,
    pub(crate) clients: Vec<Client>,
    paused: bool,
    /// The output pipe with [`BUSY_PIPE_SIZE`].
    busy: bool,
}

/// Standard input of a task.
struct Input {
    /// The pipe's write end; `None` for terminals and when there is none.
    pipe: Option<Watched>,
    /// Whether anything a client sends is wanted.
    open: bool,
    pending: Vec<u8>,
    sent: usize,
    /// To be closed when what is pending has gone.
    closing: bool,
}

impl Input {
    fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }
}

/// The child's ends of its streams.
pub(crate) enum ChildStreams {
    Pipes([OwnedFd; 3]),
    Terminal { rows: u16, cols: u16 },
}

/// What became of a read of output.
pub(crate) enum Read {
    Data,
    Nothing,
}

impl Task {
    pub(crate) fn new(id: u32, exec_id: String) -> Self {
        Self {
            id,
            exec_id,
            phase: Phase::Waiting,
            pid: 0,
            tty: false,
            stdin_once: false,
            outputs: [None, None],
            input: Input { pipe: None, open: false, pending: Vec::new(), sent: 0, closing: false },
            clients: Vec::new(),
            paused: false,
            busy: false,
        }
    }

    /// The process is there, on its way to its program.
    pub(crate) fn begin(&mut self, spawning: Spawning, reply: (u32, u64), stream: Option<OwnedFd>) {
        self.pid = spawning.pid;
        self.phase = Phase::Starting(Box::new(Starting { spawning, reply, stream, ended: None }));
    }

    /// Makes the streams. With `discard` nobody will ever read the output, so it leads to the null device.
    pub(crate) fn prepare_io(
        &mut self,
        mode: IoMode,
        discard: bool,
        null: &mut NullDevice,
    ) -> Result<ChildStreams, Errno> {
        let streams = match mode {
            IoMode::Terminal(terminal) => {
                self.tty = true;
                // A terminal has no end of input to pass on: it stays open however many clients come and go.
                self.input.open = terminal.stdin;
                ChildStreams::Terminal { rows: terminal.rows, cols: terminal.cols }
            }
            IoMode::Pipes { stdin, stdin_once } => {
                self.stdin_once = stdin_once;
                let input = if stdin {
                    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
                    sys::fd::set_nonblocking(write.as_fd(), true)?;
                    self.input.pipe = Some(Watched::new(write, Token::Stdin(self.id)));
                    self.input.open = true;
                    read
                } else {
                    null.open()?
                };
                if discard {
                    return Ok(ChildStreams::Pipes([input, null.open()?, null.open()?]));
                }
                let output = self.output_pipe(Stream::Stdout)?;
                ChildStreams::Pipes([input, output, self.output_pipe(Stream::Stderr)?])
            }
        };
        for client in &mut self.clients {
            client.set_framed(!self.tty);
            if !self.input.open {
                client.end_input();
            }
        }
        Ok(streams)
    }

    fn output_pipe(&mut self, stream: Stream) -> Result<OwnedFd, Errno> {
        let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        sys::fd::set_nonblocking(read.as_fd(), true)?;
        self.outputs[stream as usize] = Some(Watched::new(read, self.output_token(stream)));
        Ok(write)
    }

    fn output_token(&self, stream: Stream) -> Token {
        match stream {
            Stream::Stdout => Token::Stdout(self.id),
            Stream::Stderr => Token::Stderr(self.id),
        }
    }

    /// Takes over the terminal's master.
    pub(crate) fn set_master(&mut self, master: OwnedFd) -> Result<(), Errno> {
        sys::fd::set_nonblocking(master.as_fd(), true)?;
        self.outputs[0] = Some(Watched::new(master, Token::Stdout(self.id)));
        Ok(())
    }

    /// A new client; gives the daemon's end of its stream.
    pub(crate) fn attach(&mut self, client: u32, streams: Streams) -> Result<OwnedFd, Errno> {
        let (ours, theirs) = sys::socket::stream_pair()?;
        let mut new = Client::new(client, self.id, ours, streams, !self.tty)?;
        // Before the launch it is not known yet whether input will be wanted.
        let undecided = matches!(self.phase, Phase::Waiting) && self.exec_id.is_empty();
        if !self.input.open && !undecided {
            new.end_input();
        }
        self.clients.push(new);
        Ok(theirs)
    }

    /// New size of the terminal.
    pub(crate) fn resize(&self, rows: u16, cols: u16) -> Result<(), Errno> {
        match &self.outputs[0] {
            Some(master) if self.tty => sys::pty::resize(master.fd.as_fd(), rows, cols),
            _ => Err(Errno::NOTTY),
        }
    }

    pub(crate) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match &self.phase {
            Phase::Starting(starting) => sys::process::pidfd_signal(starting.spawning.pidfd.as_fd(), signal),
            Phase::Running { pidfd } => sys::process::pidfd_signal(pidfd.as_fd(), signal),
            Phase::Waiting | Phase::Ordered(_) | Phase::Draining { .. } | Phase::Over => Err(Errno::SRCH),
        }
    }

    /// Reads output once and passes it on.
    pub(crate) fn read_output(
        &mut self,
        stream: Stream,
        buffer: &mut [u8],
        log: Option<&mut Log>,
        poller: &Poller,
    ) -> Read {
        if self.paused {
            return Read::Nothing;
        }
        let Some(source) = &self.outputs[stream as usize] else { return Read::Nothing };
        match rustix::io::read(&source.fd, &mut *buffer) {
            Err(Errno::AGAIN | Errno::INTR) => Read::Nothing,
            // A terminal answers EIO when its last user has gone.
            Ok(0) | Err(_) => {
                self.close_output(stream, poller);
                Read::Nothing
            }
            Ok(len) => {
                if len >= PIPE_SIZE && !self.tty && !self.busy && stream == Stream::Stdout {
                    self.busy = true;
                    let _ = rustix::pipe::fcntl_setpipe_size(&source.fd, BUSY_PIPE_SIZE);
                }
                let data = &buffer[..len];
                if let Some(log) = log {
                    log.append(stream, data);
                }
                for client in &mut self.clients {
                    client.push(stream, data);
                }
                self.paused = self.clients.iter().any(Client::is_full);
                Read::Data
            }
        }
    }

    fn close_output(&mut self, stream: Stream, poller: &Poller) {
        if let Some(mut source) = self.outputs[stream as usize].take() {
            let _ = source.want(poller, Interest::default());
        }
        if self.tty {
            self.close_input(poller);
        }
    }

    /// Gives a large pipe back after a while without output.
    pub(crate) fn relax(&mut self) {
        if let Some(source) = self.outputs[0].as_ref().filter(|_| self.busy) {
            self.busy = rustix::pipe::fcntl_setpipe_size(&source.fd, PIPE_SIZE).is_err();
        }
    }

    /// No more output will come.
    pub(crate) fn outputs_closed(&self) -> bool {
        self.outputs.iter().all(Option::is_none)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// A client has sent something, ended its input or gone.
    pub(crate) fn client_ready(&mut self, client: u32, hangup: bool, buffer: &mut [u8], poller: &Poller) {
        if let Some(client) = self.client(client)
            && hangup
        {
            client.hang_up();
        }
        self.pump(client, buffer, poller);
    }

    fn client(&mut self, id: u32) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.id == id)
    }

    /// Moves input from the client to the process as far as both allow.
    fn pump(&mut self, client: u32, buffer: &mut [u8], poller: &Poller) {
        let running = matches!(self.phase, Phase::Running { .. });
        let limit = buffer.len().min(INPUT_CHUNK);
        while running && self.input.open && self.input.is_idle() {
            let Some(client) = self.client(client).filter(|client| client.reading) else { return };
            match client.read(&mut buffer[..limit]) {
                None => return,
                Some([]) => {
                    client.end_input();
                    if self.stdin_once && !self.tty {
                        self.input.closing = true;
                        self.flush_input(poller);
                    }
                    return;
                }
                Some(data) => {
                    self.input.pending.extend_from_slice(data);
                    self.flush_input(poller);
                }
            }
        }
    }

    /// Writes pending input as far as the process takes it.
    fn flush_input(&mut self, poller: &Poller) {
        while self.input.sent < self.input.pending.len() {
            let sink = if self.tty { self.outputs[0].as_ref() } else { self.input.pipe.as_ref() };
            let Some(sink) = sink else { return self.close_input(poller) };
            match rustix::io::write(&sink.fd, &self.input.pending[self.input.sent..]) {
                Ok(written) => self.input.sent += written,
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                // The process has closed its end: input goes nowhere from now on.
                Err(_) => return self.close_input(poller),
            }
        }
        self.input.pending = Vec::new();
        self.input.sent = 0;
        if self.input.closing {
            self.close_input(poller);
        }
    }

    /// The process takes input again.
    pub(crate) fn input_ready(&mut self, buffer: &mut [u8], poller: &Poller) {
        self.flush_input(poller);
        let waiting: Vec<u32> = self.clients.iter().filter(|client| client.reading).map(|client| client.id).collect();
        for client in waiting {
            self.pump(client, buffer, poller);
        }
    }

    fn close_input(&mut self, poller: &Poller) {
        if let Some(mut pipe) = self.input.pipe.take() {
            let _ = pipe.want(poller, Interest::default());
        }
        self.input.open = false;
        self.input.pending = Vec::new();
        self.input.sent = 0;
        for client in &mut self.clients {
            client.end_input();
        }
    }

    /// Nothing more is read or written, whatever a grandchild still holds.
    pub(crate) fn close_streams(&mut self, poller: &Poller) {
        self.close_output(Stream::Stdout, poller);
        self.close_output(Stream::Stderr, poller);
        self.close_input(poller);
    }

    /// Drops clients that are gone or done, and watches for what the state asks for.
    pub(crate) fn settle(&mut self, poller: &Poller, now: i64) -> Result<(), Errno> {
        let over = matches!(self.phase, Phase::Over);
        let running = matches!(self.phase, Phase::Running { .. });
        let reading = running || matches!(self.phase, Phase::Draining { .. });
        for client in &mut self.clients {
            if client.deadline(over).is_some_and(|deadline| deadline <= now) || over && client.is_empty() {
                client.give_up();
            }
        }
        let take_input = running && self.input.open && self.input.is_idle();
        for client in &mut self.clients {
            client.watch(poller, take_input);
        }
        self.clients.retain(|client| !client.is_dead());
        let was_paused = std::mem::replace(&mut self.paused, self.clients.iter().any(Client::is_full));
        if let Phase::Draining { quiet_until, drain_until, .. } = &mut self.phase
            && was_paused
            && !self.paused
        {
            // What waited in the pipe meanwhile is still to be read.
            *quiet_until = now + QUIET_NS;
            *drain_until = now + DRAIN_NS;
        }
        let input_pending = running && !self.input.is_idle();
        let tty = self.tty;
        for (index, output) in self.outputs.iter_mut().enumerate() {
            if let Some(output) = output {
                let write = tty && index == 0 && input_pending;
                output.want(poller, Interest { read: reading && !self.paused, write })?;
            }
        }
        if let Some(pipe) = &mut self.input.pipe {
            pipe.want(poller, if input_pending { Interest::WRITE } else { Interest::default() })?;
        }
        Ok(())
    }

    /// When something has to happen even without an event.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let over = matches!(self.phase, Phase::Over);
        let quiet = match self.phase {
            Phase::Draining { quiet_until, drain_until, .. } if !self.paused => Some(quiet_until.min(drain_until)),
            _ => None,
        };
        self.clients.iter().filter_map(|client| client.deadline(over)).chain(quiet).min()
    }

    /// The process has ended: what is left of its output gets a last chance.
    pub(crate) fn begin_draining(&mut self, code: i32, finished_at_ns: i64) {
        let now = monotonic_ns();
        let (quiet_until, drain_until) = (now + QUIET_NS, now + DRAIN_NS);
        self.phase = Phase::Draining { code, finished_at_ns, quiet_until, drain_until };
    }
}
