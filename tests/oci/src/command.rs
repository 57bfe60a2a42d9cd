//! Running a command with its streams in files, so that a container that goes on does not keep us, and with an end to
//! the patience: a command that hangs is a failure, not a wait.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::Output;

/// Copies a program that is about to be executed. By another process: ours starts others meanwhile, which would hold
/// the descriptor that writes to it for a moment, and what is written to cannot be executed (ETXTBSY, execve(2)).
///
/// # Panics
/// When cp cannot.
pub fn copy_program(program: &Path, to: &Path) {
    let status = Command::new("cp").arg(program).arg(to).stdin(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "cannot copy {} to {}", program.display(), to.display());
}

/// A command that runs.
pub(crate) struct Running {
    child: Child,
    shown: String,
    stdout: File,
    stderr: File,
}

pub(crate) fn start(mut command: Command) -> Running {
    let file = || tempfile::tempfile().expect("a file for a stream");
    let (stdout, stderr) = (file(), file());
    let copy = |file: &File| Stdio::from(file.try_clone().expect("a copy of a descriptor"));
    command.stdout(copy(&stdout)).stderr(copy(&stderr));
    let shown = shown(&command);
    let child = spawn(&mut command).unwrap_or_else(|error| panic!("cannot run `{shown}`: {error}"));
    Running { child, shown, stdout, stderr }
}

/// Starts it. While an attack that has the program's file in its hands asks to write to it, and until the kernel has
/// refused that for its mount, nobody can execute the file (`ETXTBSY`, execve(2)). Only who may trace the host's
/// processes has it in its hands.
fn spawn(command: &mut Command) -> std::io::Result<Child> {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(2));
            }
            other => return other,
        }
    }
    command.spawn()
}

/// The command line without what is the same in all of them.
fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let text: String = words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ");
    text.chars().take(400).collect()
}

impl Running {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number")
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not come in time; the command is killed then.
    #[track_caller]
    pub(crate) fn finish(mut self, patience: Duration) -> Output {
        let pid = Pid::from_child(&self.child);
        let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("a descriptor of the command");
        let end = Instant::now() + patience;
        let ended = loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
                Ok(0) => break false,
                Ok(_) => break true,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => panic!("cannot wait for `{}`: {errno}", self.shown),
            }
        };
        if !ended {
            let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        }
        let status = self.child.wait().expect("the command's end");
        let (stdout, stderr) = (content(&mut self.stdout), content(&mut self.stderr));
        let output = Output::new(self.shown, status, &stdout, &stderr);
        assert!(ended, "did not end within {} s: {output}", patience.as_secs());
        output
    }
}

fn content(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("the command's output");
    bytes
}
