//! Reading and writing of control files. A write is one write(2) of the whole value, as the kernel's
//! parsers want it, to a file that must exist. Used by every other file of the crate.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use crate::Error;

/// Largest control file read: `memory.stat` and the per-device tables stay far below.
const MAX_FILE: u64 = 4 << 20;

/// The whole of a control file.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let mut text = String::new();
    File::open(path).and_then(|f| f.take(MAX_FILE).read_to_string(&mut text)).map_err(failed)?;
    Ok(text)
}

/// The whole of a control file, or `None` if the kernel has none.
pub(crate) fn read_optional(path: &Path) -> Result<Option<String>, Error> {
    match read(path) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: the controller went away between open and read; ENOTSUP comes from disabled features.
        Err(e) if matches!(e.errno(), Some(crate::error::libc_errno::ENOENT | crate::error::libc_errno::ENODEV)) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// The one number in a control file; `max` and v1's page-rounded infinity are [`u64::MAX`].
pub(crate) fn read_number(path: &Path) -> Result<u64, Error> {
    number(path, &read(path)?)
}

/// As [`read_number`], or `None` if the kernel has no such file.
pub(crate) fn read_number_optional(path: &Path) -> Result<Option<u64>, Error> {
    read_optional(path)?.map(|text| number(path, &text)).transpose()
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
    let attempt = || -> io::Result<()> {
        let mut file = File::options().write(true).open(&path)?;
        loop {
            match file.write(value.as_bytes()) {
                Ok(n) if n == value.len() => return Ok(()),
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    };
    attempt().map_err(|source| {
        let controller = name.split('.').next().filter(|c| *c != "cgroup").unwrap_or_default().to_owned();
        Error::Write { controller, path: path.clone(), value: value.chars().take(256).collect(), source, hint }
    })
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
