//! The status socket between a child on its way to execve and its parent.
//!
//! The child's end is close-on-exec: the end of the connection after "ready" means the program runs,
//! without it that the child died on the way. Messages are one kind byte and a body.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::FailureStage;
use sys::Errno;
use sys::socket::FdSocket;

use crate::failure::{Failure, stage_number, stage_of};

const WARNING: u8 = b'W';
const MASTER: u8 = b'M';
const READY: u8 = b'R';
const FAILED: u8 = b'F';

/// Longest text carried, in bytes.
const MAX_TEXT: usize = 1024;
/// Most warnings kept for one start.
const MAX_WARNINGS: usize = 32;

/// The child's end.
pub(crate) struct Reporter(FdSocket);

impl Reporter {
    pub(crate) fn new(socket: FdSocket) -> Self {
        Self(socket)
    }

    /// Something the host withheld that the user can live without. Nobody to tell is no reason to stop.
    pub(crate) fn warn(&self, text: &str) {
        let _ = self.0.send(&message(WARNING, &[], text), &[]);
    }

    /// Hands the terminal's master to the parent.
    pub(crate) fn master(&self, master: BorrowedFd<'_>) -> Result<(), Errno> {
        self.0.send(&[MASTER], &[master])
    }

    /// The next thing is execve.
    pub(crate) fn ready(&self) {
        let _ = self.0.send(&[READY], &[]);
    }

    pub(crate) fn failed(&self, failure: &Failure) {
        let mut head = vec![stage_number(failure.stage)];
        head.extend_from_slice(&failure.errno.to_ne_bytes());
        let _ = self.0.send(&message(FAILED, &head, &failure.detail), &[]);
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
    /// The program was executed.
    Running,
    /// It was not; the child is gone or about to go and wants reaping.
    Failed(Failure),
}

/// A process between clone3 and its program.
#[derive(Debug)]
pub struct Spawning {
    /// In the caller's pid namespace.
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The terminal's master, once the child has made it; there at the latest when it runs.
    pub master: Option<OwnedFd>,
    /// Texts for the user about defaults the host withheld.
    pub warnings: Vec<String>,
    status: FdSocket,
    ready: bool,
    failure: Option<Failure>,
}

impl Spawning {
    /// A process another one has made, with our end of its status socket.
    #[must_use]
    pub fn new(pid: i32, pidfd: OwnedFd, status: FdSocket) -> Self {
        Self { pid, pidfd, master: None, warnings: Vec::new(), status, ready: false, failure: None }
    }

    /// Readable when [`Spawning::advance`] has something to do.
    #[must_use]
    pub fn status(&self) -> BorrowedFd<'_> {
        self.status.as_fd()
    }

    /// Takes in what the child has reported, without waiting.
    pub fn advance(&mut self) -> Progress {
        let mut buffer = [0u8; MAX_TEXT + 16];
        loop {
            let mut received = match self.status.recv(&mut buffer) {
                Ok(received) => received,
                Err(Errno::AGAIN) => return Progress::Waiting,
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
