//! Which process a record means, and what it is doing. A number alone may be somebody else's by now: with the time
//! it began it is one process for ever (proc_pid_stat(5)).

use std::os::fd::OwnedFd;

use oci::Status;
use rustix::fs::{Mode, OFlags};
use sys::Errno;

use crate::error::Result;
use crate::store::{Place, Record};

/// State letter and start time of a process; `None` when there is none.
pub(crate) fn stat(pid: i32) -> Option<(u8, u64)> {
    // The kernel writes the whole line for the first read that is large enough (52 numbers and a short name).
    let mut text = [0; 2048];
    let file = rustix::fs::open(format!("/proc/{pid}/stat"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let len = rustix::io::read(&file, &mut text).ok()?;
    let text = text.get(..len)?;
    // The name in parentheses may hold anything, parentheses too.
    let after = text.iter().rposition(|byte| *byte == b')')? + 2;
    let fields = std::str::from_utf8(text.get(after..)?).ok()?;
    let mut fields = fields.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    // Field 22; the state is field 3.
    let start = fields.nth(18)?.parse().ok()?;
    Some((state, start))
}

/// Whether the container's first process is still running.
pub(crate) fn is_alive(record: &Record) -> bool {
    record.pid > 0
        && stat(record.pid).is_some_and(|(state, start)| start == record.start_time && !matches!(state, b'Z' | b'X'))
}

/// A descriptor of the container's first process, which no reuse of its number can turn into another.
pub(crate) fn pidfd(record: &Record) -> std::result::Result<OwnedFd, Errno> {
    if record.pid <= 0 {
        return Err(Errno::SRCH);
    }
    let pidfd = sys::process::pidfd_open(record.pid)?;
    // Looked at after the descriptor was opened: the process it stands for is the one looked at.
    if is_alive(record) { Ok(pidfd) } else { Err(Errno::SRCH) }
}

/// What the container is doing.
pub(crate) fn status(place: &Place, record: &Record) -> Result<Status> {
    if record.pid == 0 {
        return Ok(Status::Creating);
    }
    if !is_alive(record) {
        return Ok(Status::Stopped);
    }
    if place.gate().exists() {
        return Ok(Status::Created);
    }
    Ok(if record.group.is_frozen() { Status::Paused } else { Status::Running })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_not_a_process() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let (_, start_time) = stat(pid).unwrap();
        let mut record = Record { pid, start_time, ..Record::default() };
        assert!(is_alive(&record) && pidfd(&record).is_ok());
        record.start_time += 1;
        assert!(!is_alive(&record) && pidfd(&record).is_err(), "another process under the same number");
        assert!(stat(0).is_none());
    }
}
