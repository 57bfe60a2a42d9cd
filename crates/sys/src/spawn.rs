//! Starting a program of ours from a daemon with a big address space and many threads.
//!
//! The standard library's posix_spawn path shares memory with the child until it executes, so the
//! cost does not grow with the daemon. The program's file is opened once as a read-only mount of its
//! own: a container that gets hold of `/proc/PID/exe` finds it on a read-only file system.
//! Called by `engine` for the shim and by `dataplane` for the network process.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::Errno;
use crate::mount;

/// A program that may be started many times.
#[derive(Debug)]
pub struct Program {
    path: PathBuf,
    /// The file on a detached read-only mount; none where the kernel or our rights do not allow one.
    pinned: Option<OwnedFd>,
}

impl Program {
    /// Opens the executable at `path`, which must exist.
    ///
    /// # Errors
    /// What stat(2) says about the path.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        rustix::fs::access(path, rustix::fs::Access::EXEC_OK)?;
        let pinned = mount::clone_tree(rustix::fs::CWD, path, false).and_then(|fd| {
            mount::set_attributes(fd.as_fd(), mount::attr::RDONLY | mount::attr::NOSUID, 0, 0, false)?;
            Ok(fd)
        });
        Ok(Self { path: path.to_owned(), pinned: pinned.ok() })
    }

    /// Starts it with `stdin` as descriptor 0, `/dev/null` as 1 and 2, the given arguments and an
    /// empty environment. Nothing else is inherited: every descriptor of ours is close-on-exec.
    ///
    /// # Errors
    /// What posix_spawn(3) says.
    pub fn start<S: AsRef<OsStr>>(&self, args: &[S], stdin: OwnedFd) -> std::io::Result<Child> {
        self.spawn(args, stdin, Stdio::null())
    }

    /// As [`Program::start`], with `stderr` as descriptor 2.
    ///
    /// # Errors
    /// What posix_spawn(3) says.
    pub fn start_logged<S: AsRef<OsStr>>(&self, args: &[S], stdin: OwnedFd, stderr: OwnedFd) -> std::io::Result<Child> {
        self.spawn(args, stdin, Stdio::from(stderr))
    }

    fn spawn<S: AsRef<OsStr>>(&self, args: &[S], stdin: OwnedFd, stderr: Stdio) -> std::io::Result<Child> {
        let file = match &self.pinned {
            // The child has its own copy of the table when it resolves this, with the number still open.
            Some(fd) => PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())),
            None => self.path.clone(),
        };
        let mut command = Command::new(file);
        {
            use std::os::unix::process::CommandExt;
            command.arg0(self.path.file_name().unwrap_or(self.path.as_os_str()));
        }
        command.args(args).env_clear().stdin(Stdio::from(stdin)).stdout(Stdio::null()).stderr(stderr).spawn()
    }
}
