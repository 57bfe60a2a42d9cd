//! The status socket between a child on its way to execve and its parent.
//!
//! The child's end is close-on-exec: the end of the connection after "ready" means the program runs,
//! without it that the child died on the way. Messages are one kind byte and a body. The parent says one
//! thing only: that a child held at a point may go on.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::FailureStage;
use sys::Errno;
use sys::socket::FdSocket;

use crate::failure::{At, Failure, stage_number, stage_of};
use crate::stages::Point;

const WARNING: u8 = b'W';
const MASTER: u8 = b'M';
const LISTENER: u8 = b'L';
const POINT: u8 = b'P';
const READY: u8 = b'R';
const FAILED: u8 = b'F';
/// From the parent.
const GO: u8 = b'G';

/// Longest text carried, in bytes.
const MAX_TEXT: usize = 1024;
/// Most warnings kept for one start.
const MAX_WARNINGS: usize = 32;

/// The child's end.
pub(crate) struct Reporter(RefCell<FdSocket>);

impl Reporter {
    pub(crate) fn new(socket: FdSocket) -> Self {
        Self(RefCell::new(socket))
    }

    /// Something the host withheld that the user can live without. Nobody to tell is no reason to stop.
    pub(crate) fn warn(&self, text: &str) {
        let _ = self.0.borrow().send(&message(WARNING, &[], text), &[]);
    }

    /// Hands the terminal's master to the parent.
    pub(crate) fn master(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        self.0.borrow().send(&[MASTER], &[master])
    }

    /// Hands over the listener of the filter just loaded.
    pub(crate) fn listener(&self, listener: BorrowedFd<'_>) -> Result<(), Errno> {
        self.0.borrow().send(&[LISTENER], &[listener])
    }

    /// Says that the point is reached and waits until the parent lets it go on.
    pub(crate) fn hold(&self, point: Point) -> Result<(), Failure> {
        let stage = FailureStage::Protocol;
        let socket = self.0.borrow();
        socket.send(&[POINT, point as u8], &[]).at(stage, || "tell how far the start has come".to_owned())?;
        let mut answer = [0u8; 1];
        match socket.recv(&mut answer).at(stage, || "hear whether the start goes on".to_owned())?.len {
            1 if answer[0] == GO => Ok(()),
            _ => Err(Failure::new(stage, Errno::PIPE, "the process that started the container went away")),
        }
    }

    /// From now on everything goes to the other end of `socket`.
    pub(crate) fn redirect(&self, socket: FdSocket) {
        *self.0.borrow_mut() = socket;
    }

    /// Closes every descriptor that is neither passed to the program ([`sys::fd::close_unpassed`]) nor the socket nor
    /// one of `keep`.
    pub(crate) fn close_others(&self, passed: u32, keep: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let socket = self.0.borrow();
        let all: Vec<BorrowedFd<'_>> = keep.iter().copied().chain([socket.as_fd()]).collect();
        sys::fd::close_unpassed(passed, &all)
    }

    /// The next thing is execve.
    pub(crate) fn ready(&self) {
        let _ = self.0.borrow().send(&[READY], &[]);
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        let mut head = vec![stage_number(failure.stage)];
        head.extend_from_slice(&failure.errno.to_ne_bytes());
        let _ = self.0.borrow().send(&message(FAILED, &head, &failure.detail), &[]);
    }
}

fn message(kind: u8, head: &[u8], text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + head.len() + text.len().min(MAX_TEXT));
    bytes.push(kind);
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(&text.as_bytes()[..text.len().min(MAX_TEXT)]);
    bytes
}

/// How far a start has come.
#[derive(Debug)]
pub enum Progress {
    /// Ask again when the status descriptor is readable.
    Waiting,
    /// The child is held at a point until it is told to go on.
    Held(Point),
    /// The program was executed.
    Running,
    /// It was not; the child is gone or about to go and wants reaping.
    Failed(Failure),
}

/// The parent's end: what a child has reported.
#[derive(Debug)]
pub struct Status {
    /// The terminal's master, once the child has made it; there at the latest when it runs.
    pub master: Option<OwnedFd>,
    /// The listener of the program's filter, when its flags ask for one.
    pub listener: Option<OwnedFd>,
    /// Texts for the user about defaults the host withheld.
    pub warnings: Vec<String>,
    socket: FdSocket,
    ready: bool,
    failure: Option<Failure>,
}

impl Status {
    /// Listens at `socket`, one end of a status connection.
    #[must_use]
    pub fn new(socket: FdSocket) -> Self {
        Self { master: None, listener: None, warnings: Vec::new(), socket, ready: false, failure: None }
    }

    /// Takes in what the child has reported, without waiting if the socket does not.
    pub fn advance(&mut self) -> Progress {
        let mut buffer = [0u8; MAX_TEXT + 16];
        loop {
            let mut received = match self.socket.recv(&mut buffer) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Progress::Waiting,
                // A child that was killed leaves a reset behind when something was on its way to it.
                Err(Errno::CONNRESET) => return self.ended(),
                Err(errno) => {
                    return Progress::Failed(Failure::new(
                        FailureStage::Protocol,
                        errno,
                        format!("cannot hear from the new process: {errno}"),
                    ));
                }
            };
            match &buffer[..received.len] {
                [] => return self.ended(),
                [WARNING, text @ ..] => {
                    let text = String::from_utf8_lossy(text).into_owned();
                    if self.warnings.len() < MAX_WARNINGS && !self.warnings.contains(&text) {
                        self.warnings.push(text);
                    }
                }
                [MASTER] => self.master = received.fds.pop(),
                [LISTENER] => self.listener = received.fds.pop(),
                [POINT, number] => {
                    if let Some(point) = Point::of(*number) {
                        return Progress::Held(point);
                    }
                }
                [READY] => self.ready = true,
                [FAILED, stage, a, b, c, d, text @ ..] => {
                    self.failure = Some(Failure {
                        stage: stage_of(*stage),
                        errno: i32::from_ne_bytes([*a, *b, *c, *d]),
                        detail: String::from_utf8_lossy(text).into_owned(),
                    });
                }
                _ => {}
            }
        }
    }

    /// Lets a held child go on.
    ///
    /// # Errors
    /// What sendmsg(2) says: the child is gone.
    pub fn go_on(&self) -> Result<(), Errno> {
        self.socket.send(&[GO], &[])
    }

    fn ended(&mut self) -> Progress {
        match self.failure.take() {
            Some(failure) => Progress::Failed(failure),
            None if self.ready => Progress::Running,
            None => Progress::Failed(Failure {
                stage: FailureStage::Protocol,
                errno: 0,
                detail: "the new process died before it reached its program; it may have been killed for memory"
                    .to_owned(),
            }),
        }
    }
}

/// A process between clone3 and its program.
#[derive(Debug)]
pub struct Spawning {
    /// In the caller's pid namespace.
    pub pid: i32,
    pub pidfd: OwnedFd,
    pub status: Status,
}

impl Spawning {
    /// A process another one has made, with our end of its status socket.
    #[must_use]
    pub fn new(pid: i32, pidfd: OwnedFd, status: FdSocket) -> Self {
        Self { pid, pidfd, status: Status::new(status) }
    }

    /// Readable when [`Spawning::advance`] has something to do.
    #[must_use]
    pub fn status(&self) -> BorrowedFd<'_> {
        self.status.socket.as_fd()
    }

    /// As [`Status::advance`].
    pub fn advance(&mut self) -> Progress {
        self.status.advance()
    }

    /// As [`Status::go_on`].
    ///
    /// # Errors
    /// What sendmsg(2) says: the child is gone.
    pub fn go_on(&self) -> Result<(), Errno> {
        self.status.go_on()
    }
}
