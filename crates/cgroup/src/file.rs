//! Reading and writing of control files. A write is one write(2) of the whole value, as the kernel's
//! parsers want it, to a file that must exist. Used by every other file of the crate.

use std::fs;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Error;
use crate::error::libc_errno::{ENODEV, ENOENT, EOPNOTSUPP};

/// Largest control file read: `memory.stat` and the per-device tables stay far below.
const MAX_FILE: usize = 4 << 20;
/// What a control file of one value fits in.
const PAGE: usize = 4096;

/// The whole of a control file.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let failed = |e: Errno| Error::Io { action: "read", path: path.to_owned(), source: e.into() };
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let mut bytes = vec![0; PAGE];
    let mut filled = 0;
    loop {
        if filled == bytes.len() {
            if bytes.len() >= MAX_FILE {
                break;
            }
            bytes.resize(bytes.len() * 4, 0);
        }
        match rustix::io::read(&fd, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    bytes.truncate(filled);
    String::from_utf8(bytes).map_err(|e| malformed(path, &String::from_utf8_lossy(e.as_bytes())))
}

/// A control file of one line, without its newline. The kernel gives such a file whole to one read(2).
pub(crate) fn read_value(path: &Path) -> Result<String, Error> {
    let failed = |e: Errno| Error::Io { action: "read", path: path.to_owned(), source: e.into() };
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    let mut bytes = [0; PAGE];
    let filled = rustix::io::retry_on_intr(|| rustix::io::read(&fd, &mut bytes)).map_err(failed)?;
    match std::str::from_utf8(&bytes[..filled]) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(_) => Err(malformed(path, &String::from_utf8_lossy(&bytes[..filled]))),
    }
}

/// The whole of a control file, or `None` if the kernel has none.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the kernel has no such file. ENODEV: the group went away between open and read. ENOTSUP: the
/// feature is compiled in and switched off (`memory.kmem.*`, `*.pressure`).
pub(crate) fn is_missing(e: &Error) -> bool {
    matches!(e.errno(), Some(ENOENT | ENODEV | EOPNOTSUPP))
}

/// The one number in a control file; `max` and v1's page-rounded infinity are [`u64::MAX`].
pub(crate) fn read_number(path: &Path) -> Result<u64, Error> {
    number(path, &read_value(path)?)
}

/// As [`read_number`], or `None` if the kernel has no such file.
pub(crate) fn read_number_optional(path: &Path) -> Result<Option<u64>, Error> {
    match read_number(path) {
        Ok(n) => Ok(Some(n)),
        Err(e) if is_missing(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

fn number(path: &Path, text: &str) -> Result<u64, Error> {
    let text = text.trim();
    if text == "max" || text == "-1" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| malformed(path, text))
}

pub(crate) fn malformed(path: &Path, text: &str) -> Error {
    Error::Malformed { path: path.to_owned(), text: text.chars().take(80).collect() }
}

/// Writes `value` to the existing file `name` in `dir`.
pub(crate) fn write(dir: &Path, name: &str, value: &str) -> Result<(), Error> {
    write_hint(dir, name, value, "")
}

/// As [`write`], with advice for the error message.
pub(crate) fn write_hint(dir: &Path, name: &str, value: &str, hint: &'static str) -> Result<(), Error> {
    let path = dir.join(name);
    let attempt = || {
        let fd = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        write_fd(&fd, value)
    };
    attempt().map_err(|e| refused(&path, value, e, hint))
}

/// One write(2) of all of `value`.
pub(crate) fn write_fd(fd: impl std::os::fd::AsFd, value: &str) -> Result<(), Errno> {
    match rustix::io::retry_on_intr(|| rustix::io::write(&fd, value.as_bytes()))? {
        n if n == value.len() => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// The error for a value that the kernel did not take.
pub(crate) fn refused(path: &Path, value: &str, e: Errno, hint: &'static str) -> Error {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let controller = name.split('.').next().filter(|c| *c != "cgroup").unwrap_or_default().to_owned();
    let value = value.chars().take(256).collect();
    Error::Write { controller, path: path.to_owned(), value, source: e.into(), hint }
}

/// `key value` lines, as in `memory.stat`; lines of another shape are skipped.
pub(crate) fn flat_keyed(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, value.trim().parse().ok()?))
    })
}

/// Whether `dir` has the control file `name`.
pub(crate) fn has(dir: &Path, name: &str) -> bool {
    fs::symlink_metadata(dir.join(name)).is_ok()
}
