//! The process execs are born from.
//!
//! A system call filter is inherited, and the shim's would be with every process it made. So before it loads its own
//! it forks this one, which stays without: it waits for orders, clones the process of an exec as its own sibling (the
//! shim is the parent, hears of its end and reaps it), and hands back what the shim follows the start by.
//!
//! It trusts the shim with little. The container is the one whose pidfd it was born with; a plan must come in a
//! sealed memory file, which a confined shim cannot make, so that only a daemon can have. It is in no namespace or
//! group of the container, holds nothing but its socket and that pidfd, and dies with the shim.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{ExecPlan, FailureStage, IoMode, MAX_MESSAGE, ReplyFrame, Request, RequestFrame, Response};
use runtime::{Failure, Spawning, Stdio};
use rustix::event::{PollFd, PollFlags, Timespec};
use sys::Errno;
use sys::clone::Cloned;
use sys::socket::FdSocket;

use crate::clock::monotonic_ns;
use crate::requests::take_plan;

/// Orders on their way at a time. What they weigh in the socket stays far below the least a socket holds.
const MAX_UNDER_WAY: usize = 32;
/// Time without any answer after which the zygote is given up: a clone takes a fraction of a millisecond.
const ANSWER_NS: i64 = 30_000_000_000;
/// Time without orders after which memory goes back to the kernel.
const RELAX: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// The shim's end.
pub(crate) struct Zygote {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
    socket: FdSocket,
    waiting: VecDeque<Order>,
    under_way: usize,
    /// When an answer is due at the latest, while any is.
    due: Option<i64>,
}

/// An exec to be born: the plan in its sealed file, the standard streams unless there is a terminal, the plan's own.
pub(crate) struct Order {
    pub(crate) task: u32,
    pub(crate) fds: Vec<OwnedFd>,
}

/// What became of an order.
pub(crate) struct Answer {
    pub(crate) task: u32,
    pub(crate) born: Result<Spawning, Failure>,
}

impl Zygote {
    /// Forks it, for execs in the container whose first process is `target`, a pidfd.
    ///
    /// # Errors
    /// What socketpair(2) or clone3(2) says.
    pub(crate) fn fork(target: BorrowedFd<'_>) -> Result<Self, Errno> {
        let (ours, theirs) = FdSocket::pair()?;
        ours.set_nonblocking(true)?;
        let shim = rustix::process::getpid();
        match sys::clone::clone3(0, None)? {
            Cloned::Child => {
                let _abort = ExitOnUnwind;
                serve(&theirs, target, shim)
            }
            Cloned::Parent { pid, pidfd } => {
                Ok(Self { pid, pidfd, socket: ours, waiting: VecDeque::new(), under_way: 0, due: None })
            }
        }
    }

    /// Readable when there is an [`Zygote::answer`].
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Passes an order on, or keeps it until others have been answered.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), Failure> {
        if self.under_way < MAX_UNDER_WAY {
            return self.send(&order);
        }
        self.waiting.push_back(order);
        Ok(())
    }

    fn send(&mut self, order: &Order) -> Result<(), Failure> {
        let frame = RequestFrame { seq: order.task.into(), request: Request::Exec { attach: None } };
        let bytes = frame.encode().map_err(|error| unavailable(Errno::PROTO, &error.to_string()))?;
        let fds: Vec<BorrowedFd<'_>> = order.fds.iter().map(AsFd::as_fd).collect();
        self.socket.send(&bytes, &fds).map_err(|errno| match errno {
            Errno::MSGSIZE => crate::server::failure(FailureStage::Protocol, errno, "pass so many descriptors on"),
            errno => unavailable(errno, &format!("cannot ask for a process: {errno}")),
        })?;
        self.under_way += 1;
        self.due.get_or_insert_with(|| monotonic_ns() + ANSWER_NS);
        Ok(())
    }

    /// The next answer; `None` when there is none for now, an error when there will never be one again.
    pub(crate) fn answer(&mut self, buffer: &mut [u8]) -> Result<Option<Answer>, Errno> {
        if let Some(order) = self.unsent() {
            return Ok(Some(order));
        }
        let received = match self.socket.recv(buffer) {
            Ok(received) if received.len > 0 => received,
            Err(Errno::AGAIN) => return Ok(None),
            Ok(_) => return Err(Errno::PIPE),
            Err(errno) => return Err(errno),
        };
        let Ok(ReplyFrame::Response { seq, response }) = ReplyFrame::decode(&buffer[..received.len]) else {
            return Err(Errno::PROTO);
        };
        let task = u32::try_from(seq).map_err(|_| Errno::PROTO)?;
        let born = match (response, <[OwnedFd; 2]>::try_from(received.fds)) {
            (Response::ExecStarted { pid }, Ok([pidfd, status])) => {
                Ok(Spawning::new(pid, pidfd, FdSocket::new(status)))
            }
            (Response::Failed { stage, errno, detail }, _) => Err(Failure { stage, errno, detail }),
            _ => return Err(Errno::PROTO),
        };
        self.under_way = self.under_way.saturating_sub(1);
        self.due = (self.under_way > 0).then(|| monotonic_ns() + ANSWER_NS);
        Ok(Some(Answer { task, born }))
    }

    /// Sends what waited, as far as there is room; an order that could not be sent has its answer.
    fn unsent(&mut self) -> Option<Answer> {
        while self.under_way < MAX_UNDER_WAY {
            let order = self.waiting.pop_front()?;
            if let Err(failure) = self.send(&order) {
                return Some(Answer { task: order.task, born: Err(failure) });
            }
        }
        None
    }

    /// A process may have been born that is not known yet.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way > 0
    }

    /// When it is given up unless it answers before.
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.due
    }

    /// Ends it; its end is reported as that of any child.
    pub(crate) fn kill(&self) {
        let _ = sys::process::pidfd_signal(self.pidfd.as_fd(), SIGKILL);
    }
}

/// Why there is none any more.
pub(crate) const GONE: &str = "the process that makes its processes was killed";

/// Says that there is nobody to make an exec's process.
pub(crate) fn unavailable(errno: Errno, why: &str) -> Failure {
    Failure {
        stage: FailureStage::Clone,
        errno: errno.raw_os_error(),
        detail: format!("exec is not available: {why}; restart the container to have it again"),
    }
}

/// The zygote's whole life.
fn serve(socket: &FdSocket, target: BorrowedFd<'_>, shim: rustix::process::Pid) -> ! {
    let _ = sys::process::set_name(c"dhow-shim-exec");
    let follows = sys::process::die_with_parent().is_ok() && rustix::process::getppid() == Some(shim);
    if !follows || sys::fd::close_all_but(&[socket.as_fd(), target]).is_err() {
        sys::process::exit_now(1);
    }
    let mut buffer = [0u8; 256];
    loop {
        await_order(socket);
        let Ok(received) = socket.recv(&mut buffer) else { sys::process::exit_now(1) };
        if received.len == 0 {
            // The shim is gone.
            sys::process::exit_now(0);
        }
        let Ok(RequestFrame { seq, request: Request::Exec { .. } }) = RequestFrame::decode(&buffer[..received.len])
        else {
            sys::process::exit_now(1)
        };
        let sent = match bear(target, received.fds) {
            Ok(spawning) => {
                let fds = [spawning.pidfd.as_fd(), spawning.status()];
                send(socket, seq, Response::ExecStarted { pid: spawning.pid }, &fds)
            }
            Err(Failure { stage, errno, detail }) => send(socket, seq, Response::Failed { stage, errno, detail }, &[]),
        };
        if sent.is_err() {
            sys::process::exit_now(1);
        }
    }
}

fn await_order(socket: &FdSocket) {
    let mut fds = [PollFd::new(socket, PollFlags::IN)];
    if matches!(rustix::event::poll(&mut fds, Some(&RELAX)), Ok(0)) {
        sys::memory::trim_heap();
        let _ = sys::memory::rest(socket.as_fd(), None);
    }
}

fn send(socket: &FdSocket, seq: u64, mut response: Response, fds: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    if let Response::Failed { detail, .. } = &mut response {
        detail.truncate(detail.floor_char_boundary(MAX_MESSAGE / 2));
    }
    let bytes = ReplyFrame::Response { seq, response }.encode().map_err(|_| Errno::PROTO)?;
    socket.send(&bytes, fds)
}

fn bear(target: BorrowedFd<'_>, fds: Vec<OwnedFd>) -> Result<Spawning, Failure> {
    let (bytes, _, mut fds) = take_plan(fds)?;
    let plan = ExecPlan::decode(&bytes).map_err(|error| Failure {
        stage: FailureStage::Protocol,
        errno: 0,
        detail: error.to_string(),
    })?;
    match plan.io {
        IoMode::Terminal(terminal) => {
            let stdio = Stdio::Terminal { rows: terminal.rows, cols: terminal.cols };
            runtime::exec_as_sibling(&plan, &fds, target, stdio)
        }
        IoMode::Pipes { .. } => {
            if fds.len() < 3 {
                return Err(crate::server::failure(FailureStage::Protocol, Errno::BADF, "find the standard streams"));
            }
            let rest = fds.split_off(3);
            let stdio = Stdio::Streams { stdin: fds[0].as_fd(), stdout: fds[1].as_fd(), stderr: fds[2].as_fd() };
            runtime::exec_as_sibling(&plan, &rest, target, stdio)
        }
    }
}

/// A panic here must not unwind into the shim's code, of which this is a copy.
struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        sys::process::exit_now(254);
    }
}

const SIGKILL: i32 = 9;
