//! Owners by name, from the `/etc/passwd` and `/etc/group` of the tree that is written to, which are hostile.

use std::io::Read;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use sys::path::Root;

use super::error::FileError;
use super::source;

/// Largest file of names that is read; what comes later is not there.
const MAX_FILE: u64 = 10 << 20;

/// User and group by number or name. A user without a group has the group of its entry, or as a number the group of the
/// same number; nothing at all is root. A name that is not in the file stands for root too, as BuildKit has it: `unknown` is
/// told of it.
///
/// # Errors
/// [`FileError::Number`] for what is no owner; what cannot be read.
pub fn owner(
    root: &Root,
    user: Option<&str>,
    group: Option<&str>,
    mut unknown: impl FnMut(FileError),
) -> Result<(u32, u32), FileError> {
    let (uid, primary) = match user.filter(|name| !name.is_empty()) {
        None => (0, 0),
        Some(name) => match number("user", name)? {
            Some(id) => (id, id),
            None => {
                let found = entry(root, "/etc/passwd", name)?.and_then(|fields| Some((id(fields.0)?, id(fields.1)?)));
                found.unwrap_or_else(|| {
                    unknown(FileError::Unknown { kind: "user", name: name.to_owned(), file: "passwd" });
                    (0, 0)
                })
            }
        },
    };
    let gid = match group.filter(|name| !name.is_empty()) {
        None => primary,
        Some(name) => match number("group", name)? {
            Some(id) => id,
            None => {
                let found = entry(root, "/etc/group", name)?.and_then(|fields| id(fields.0));
                found.unwrap_or_else(|| {
                    unknown(FileError::Unknown { kind: "group", name: name.to_owned(), file: "group" });
                    primary
                })
            }
        },
    };
    Ok((uid, gid))
}

/// A number; nothing for a name.
fn number(kind: &'static str, text: &str) -> Result<Option<u32>, FileError> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    id(text.to_owned()).map(Some).ok_or_else(|| FileError::Number { kind, text: text.chars().take(64).collect() })
}

/// The last number means "unchanged" to chown(2).
fn id(text: String) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Third and fourth field of the first line with a name.
fn entry(root: &Root, path: &str, name: &str) -> Result<Option<(String, String)>, FileError> {
    let found = match source::locate(root, Path::new(path), true) {
        Ok(found) => found,
        Err(FileError::Io { source, .. })
            if matches!(Errno::from_io_error(&source), Some(Errno::NOENT | Errno::NOTDIR)) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let file = std::fs::File::from(sys::path::reopen_file(&found.handle).map_err(FileError::io("open", path))?);
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let mut fields = line.trim().split(':');
        if fields.next() == Some(name) {
            let third = fields.nth(1).unwrap_or_default().to_owned();
            return Ok(Some((third, fields.next().unwrap_or_default().to_owned())));
        }
    }
    Ok(None)
}
