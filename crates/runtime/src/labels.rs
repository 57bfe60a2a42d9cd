//! Attributes of the new process that are written through procfs: how soon it is killed for memory, and the labels of
//! the host's security modules.
//!
//! Invariant: they are written through `/proc/self` of the host, opened before any namespace of the container is
//! entered, so nothing that an image or a volume puts at `/proc` is ever in between.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{FailureStage, Process};
use rustix::fs::{Mode, OFlags};
use sys::Errno;

use crate::failure::{At, Failure};

/// Opened label files of the calling process.
pub(crate) struct Labels {
    apparmor: Option<OwnedFd>,
    selinux: Option<OwnedFd>,
}

impl Labels {
    /// Opens what the process asks for.
    pub(crate) fn open(process: &Process) -> Result<Self, Failure> {
        let stage = FailureStage::Credentials;
        let apparmor = process.apparmor.as_ref().map(|_| {
            open("attr/apparmor/exec")
                .or_else(|_| open("attr/exec"))
                .at(stage, || "open the AppArmor attribute; does the host have AppArmor?".to_owned())
        });
        let selinux = process.selinux.as_ref().map(|_| {
            open("attr/exec").at(stage, || "open the SELinux attribute; does the host have SELinux?".to_owned())
        });
        Ok(Self { apparmor: apparmor.transpose()?, selinux: selinux.transpose()? })
    }

    /// For a process that has asked already.
    pub(crate) fn none() -> Self {
        Self { apparmor: None, selinux: None }
    }

    /// The files that are open.
    pub(crate) fn files(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.apparmor.iter().chain(&self.selinux).map(AsFd::as_fd)
    }

    /// Asks for the labels; the next execve takes them on.
    pub(crate) fn apply(&self, process: &Process) -> Result<(), Failure> {
        let stage = FailureStage::Credentials;
        if let (Some(file), Some(name)) = (&self.apparmor, &process.apparmor) {
            rustix::io::write(file, format!("exec {name}").as_bytes())
                .at(stage, || format!("ask for the AppArmor profile {name:?}"))?;
        }
        if let (Some(file), Some(label)) = (&self.selinux, &process.selinux) {
            rustix::io::write(file, label.as_bytes()).at(stage, || format!("ask for the SELinux label {label:?}"))?;
        }
        Ok(())
    }
}

/// Sets how soon the kernel picks this process when memory runs out, unless it is so already. A lower value than it has
/// takes `CAP_SYS_RESOURCE`.
pub(crate) fn set_oom_score(score: i32) -> Result<(), Failure> {
    if inherited_oom_score() == Some(score) {
        return Ok(());
    }
    rustix::fs::open("/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|file| rustix::io::write(&file, score.to_string().as_bytes()))
        .map(drop)
        .at(FailureStage::Rlimit, || format!("set oom_score_adj {score}"))
}

fn inherited_oom_score() -> Option<i32> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/self/oom_score_adj", flags, Mode::empty()).ok()?;
    let mut text = [0u8; 16];
    let len = rustix::io::read(&file, &mut text).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
}

fn open(name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::open(format!("/proc/self/{name}"), OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}
