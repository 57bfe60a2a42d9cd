//! Our standard output and error, written with plain system calls: the standard library's line buffering would cost
//! one call per line of a log.

use std::{
    io::{self, IsTerminal, Read},
    os::fd::BorrowedFd,
};

use client::stdcopy::{Channel, Demux, Sink};

use crate::Result;

/// Buffer for streams of the daemon, in bytes.
const BUFFER: usize = 256 * 1024;

/// Writes all of `bytes` to a descriptor, waiting where it is non-blocking.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // Another process may have made the terminal or pipe non-blocking; losing output is no answer to that.
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(1)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    Ok(write_all(rustix::stdio::stdout(), text.as_bytes())?)
}

/// Prints a line to standard output.
pub(crate) fn print_line(text: &str) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a line to standard error; nobody is told when that fails.
pub(crate) fn warn(text: &str) {
    let _ = write_all(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
}

pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Standard output and error as destinations of demultiplexed output.
#[derive(Debug)]
pub(crate) struct Streams;

impl Streams {
    /// Whether both end in the same file: then their order to each other can be seen and must be kept.
    pub(crate) fn merged() -> bool {
        let identity = |fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino));
        matches!((identity(rustix::stdio::stdout()), identity(rustix::stdio::stderr())), (Ok(a), Ok(b)) if a == b)
    }
}

impl Sink for Streams {
    fn write(&mut self, channel: Channel, bytes: &[u8]) -> io::Result<()> {
        match channel {
            Channel::Stdout => write_all(rustix::stdio::stdout(), bytes),
            Channel::Stderr => write_all(rustix::stdio::stderr(), bytes),
        }
    }
}

/// Copies the daemon's output to ours until it ends; `framed` says whether it carries both streams in frames.
pub(crate) fn copy_output(from: &mut impl Read, framed: bool) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut demux = Demux::new(Streams::merged());
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if framed {
            demux.feed(&buffer[..count], &mut Streams)?;
        } else {
            write_all(rustix::stdio::stdout(), &buffer[..count])?;
        }
    }
}

/// Copies a stream to standard output unchanged.
pub(crate) fn copy_raw(from: &mut impl Read) -> io::Result<()> {
    copy_output(from, false)
}
