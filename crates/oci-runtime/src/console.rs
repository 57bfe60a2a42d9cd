//! Standard streams and terminals: what a process gets, handing a container's to whoever listens at `--console-socket`, and standing between it and one's own
//! when the container runs in the foreground.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci::Process;
use runtime::Stdio;
use rustix::event::{PollFd, PollFlags};
use rustix::termios::{OptionalActions, Termios};
use sys::Errno;
use sys::socket::FdSocket;

use crate::error::{Doing, Result};

/// What a process has for standard streams: a terminal to be made, or the caller's own.
pub(crate) fn streams(process: Option<&Process>) -> Stdio<'static> {
    if let Some(process) = process.filter(|process| process.terminal) {
        let size = process.console_size.unwrap_or_default();
        let clip = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
        return Stdio::Terminal { rows: clip(size.height), cols: clip(size.width) };
    }
    Stdio::Streams { stdin: rustix::stdio::stdin(), stdout: rustix::stdio::stdout(), stderr: rustix::stdio::stderr() }
}

/// Sends a descriptor to the UNIX socket at `path`, with `text` as the message it travels with.
pub(crate) fn send(path: &Path, fd: BorrowedFd<'_>, text: &str) -> Result<()> {
    let what = || format!("send a descriptor to the socket {}", path.display());
    let stream = UnixStream::connect(path).doing(what)?;
    FdSocket::new(OwnedFd::from(stream)).send(text.as_bytes(), &[fd]).doing(what)
}

/// One's own terminal, raw while the container's is shown on it.
pub(crate) struct Screen {
    master: OwnedFd,
    before: Option<Termios>,
    input_open: bool,
}

impl Screen {
    pub(crate) fn new(master: OwnedFd) -> Self {
        let stdin = rustix::stdio::stdin();
        let before = rustix::termios::tcgetattr(stdin).ok();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            let _ = rustix::termios::tcsetattr(stdin, OptionalActions::Now, &raw);
        }
        let screen = Self { master, before, input_open: true };
        screen.resize();
        screen
    }

    /// Takes on the size of one's own terminal.
    pub(crate) fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = sys::pty::resize(self.master.as_fd(), size.ws_row, size.ws_col);
        }
    }

    /// What to wait for: one's own input while it is open, and the container's output.
    pub(crate) fn watched(&self) -> [PollFd<'_>; 2] {
        let input = if self.input_open { PollFlags::IN } else { PollFlags::empty() };
        let stdin = PollFd::from_borrowed_fd(rustix::stdio::stdin(), input);
        [stdin, PollFd::new(&self.master, PollFlags::IN)]
    }

    /// Passes on what has come. `false` when the container's side has been closed.
    pub(crate) fn pass(&mut self, input: bool, output: bool) -> bool {
        let mut buffer = [0u8; 8192];
        if input && self.input_open {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(len) if len > 0 => self.input_open = write_all(self.master.as_fd(), &buffer[..len]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => self.input_open = false,
            }
        }
        if output {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(len) if len > 0 => {
                    write_all(rustix::stdio::stdout(), &buffer[..len]);
                }
                Err(Errno::INTR | Errno::AGAIN) => {}
                // EIO: the last user of the terminal has gone.
                _ => return false,
            }
        }
        true
    }

    /// What is left of the output of a container that has ended.
    pub(crate) fn drain(&mut self) {
        let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        while rustix::event::poll(&mut [PollFd::new(&self.master, PollFlags::IN)], Some(&none)).is_ok_and(|n| n > 0) {
            if !self.pass(false, true) {
                return;
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, mut data: &[u8]) -> bool {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(written) => data = &data[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    true
}
