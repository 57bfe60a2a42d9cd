//! Namespaces the caller is in only for the moment of a clone, so that the child is born there.
//!
//! Invariant: when a [`Visit`] is dropped the caller is back where it was. Going back to one's own namespace is
//! always allowed to whoever was allowed to leave it (setns(2)).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use launch::{Clock, FailureStage, TimeOffset};
use rustix::fs::{Mode, OFlags};
use sys::Errno;
use sys::clone::flags;

use crate::failure::{At, Failure};

const STAGE: FailureStage = FailureStage::Namespace;

/// The caller's own namespaces, to go back to.
#[derive(Default)]
pub(crate) struct Visit(Vec<(OwnedFd, u64)>);

impl Visit {
    /// Enters the namespace of one kind behind `target`, a namespace file or a pidfd.
    pub(crate) fn enter(&mut self, target: BorrowedFd<'_>, flag: u64, name: &str) -> Result<(), Failure> {
        let own = own(name)?;
        sys::clone::setns(target, flag).map_err(|errno| {
            let stage = if errno == Errno::SRCH { FailureStage::NotRunning } else { STAGE };
            Failure::new(stage, errno, format!("cannot enter the {name} namespace: {errno}"))
        })?;
        self.0.push((own, flag));
        Ok(())
    }

    /// Makes a time namespace for the children born from now on, with the given offsets.
    pub(crate) fn new_time(&mut self, offsets: &[TimeOffset]) -> Result<(), Failure> {
        let own = own("time")?;
        unshare_time(offsets)?;
        self.0.push((own, flags::NEWTIME));
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        for (own, flag) in self.0.drain(..).rev() {
            let _ = sys::clone::setns(own.as_fd(), flag);
        }
    }
}

fn own(name: &str) -> Result<OwnedFd, Failure> {
    rustix::fs::open(format!("/proc/self/ns/{name}"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(STAGE, || format!("open the caller's own {name} namespace"))
}

/// Makes a time namespace, which children enter when they are born and the caller when it executes a program, and
/// sets its clocks. They can be set only while nobody is in it (time_namespaces(7)).
pub(crate) fn unshare_time(offsets: &[TimeOffset]) -> Result<(), Failure> {
    sys::clone::unshare(flags::NEWTIME).at(STAGE, || "make a time namespace".to_owned())?;
    for offset in offsets {
        // Numbers of clock_gettime(2).
        let clock = match offset.clock {
            Clock::Monotonic => 1,
            Clock::Boottime => 7,
        };
        let line = format!("{clock} {} {}", offset.seconds, offset.nanoseconds);
        let what = || format!("set the offset of the clock {:?} to {} s", offset.clock, offset.seconds);
        let file = rustix::fs::open("/proc/self/timens_offsets", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .at(STAGE, what)?;
        rustix::io::write(&file, line.as_bytes()).at(STAGE, what)?;
    }
    Ok(())
}
