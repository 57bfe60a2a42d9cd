//! The other end of `--console-socket`: takes the master of a container's terminal and talks through it.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use tempfile::TempDir;

/// How long a terminal may take to come, and to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A listening console socket.
#[derive(Debug)]
pub struct Console {
    _dir: TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    /// Listens in a directory of its own.
    ///
    /// # Panics
    /// When that cannot be done.
    #[must_use]
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("console-").tempdir().expect("a directory for the console socket");
        let path = dir.path().join("console.sock");
        let listener = UnixListener::bind(&path).expect("the console socket");
        Self { _dir: dir, path, listener }
    }

    /// The path for `--console-socket`.
    ///
    /// # Panics
    /// When it is not UTF-8.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.to_str().expect("a UTF-8 path")
    }

    /// The terminal that the runtime sends.
    ///
    /// # Panics
    /// When none comes, or something else.
    #[must_use]
    #[track_caller]
    pub fn receive(&self) -> Terminal {
        assert!(readable(&self.listener, PATIENCE), "no runtime connected to the console socket");
        let (stream, _) = self.listener.accept().expect("a connection");
        assert!(readable(&stream, PATIENCE), "the runtime connected to the console socket and sent nothing");
        let mut name = [0u8; 4096];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut name)];
        rustix::net::recvmsg(&stream, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
        let mut files: Vec<File> = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                files.extend(fds.map(File::from));
            }
        }
        assert_eq!(files.len(), 1, "descriptors that came through the console socket");
        Terminal(files.remove(0))
    }
}

/// The master of a container's terminal.
#[derive(Debug)]
pub struct Terminal(pub File);

impl Terminal {
    /// Types.
    ///
    /// # Panics
    /// When the terminal is closed.
    pub fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("to type at the terminal");
    }

    /// Reads until the text has come, or the container has closed its side; gives all that was read.
    ///
    /// # Panics
    /// When neither happens within a minute.
    #[track_caller]
    pub fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        let mut read = Vec::new();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let shown = String::from_utf8_lossy(&read).into_owned();
            assert!(readable(&self.0, left), "the terminal never said {text:?}, only {shown:?}");
            let mut buffer = [0u8; 4096];
            match self.0.read(&mut buffer) {
                // EIO: everybody has closed the other side.
                Ok(0) | Err(_) => return shown,
                Ok(len) => read.extend_from_slice(&buffer[..len]),
            }
            let shown = String::from_utf8_lossy(&read).into_owned();
            if !text.is_empty() && shown.contains(text) {
                return shown;
            }
        }
    }

    /// Everything until the container closes its side.
    #[track_caller]
    pub fn rest(&mut self) -> String {
        self.until("")
    }
}

fn readable(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec {
        tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(patience.subsec_nanos()),
    };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}
