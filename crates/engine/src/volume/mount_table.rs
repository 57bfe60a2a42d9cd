//! What is mounted in the engine's own mount namespace, from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
//! Reading it asks no file system, so one that hangs cannot hold it up. Called by the volumes and by the
//! opening of bind sources.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    pub id: u64,
    pub target: PathBuf,
    pub kind: String,
    /// It passes mounts on to peers.
    pub shared: bool,
    /// It takes mounts from a master.
    pub slave: bool,
}

/// Every mount, in the order they were made.
///
/// # Errors
/// When procfs cannot be read.
pub(crate) fn read() -> Result<Vec<Mounted>> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(|e| Error::io("cannot read the table of mounts", e))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(line).collect())
}

fn line(text: &[u8]) -> Option<Mounted> {
    let mut fields = text.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let target = PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?)));
    let (mut shared, mut slave) = (false, false);
    // Options of the mount, then optional fields up to a dash.
    for field in fields.by_ref().skip(1).take_while(|field| *field != b"-") {
        shared |= field.starts_with(b"shared:");
        slave |= field.starts_with(b"master:");
    }
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    Some(Mounted { id, target, kind, shared, slave })
}

/// `\040` and the like.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail.get(..3).filter(|digits| digits.iter().all(|d| (b'0'..b'8').contains(d)));
        match digits {
            Some(digits) if *first == b'\\' => {
                out.push(digits.iter().fold(0_u8, |value, d| value.wrapping_mul(8).wrapping_add(d - b'0')));
                rest = &tail[3..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    out
}

/// The mounts at `path` itself and below it.
///
/// # Errors
/// As [`read`].
pub(crate) fn below(path: &Path) -> Result<Vec<Mounted>> {
    Ok(read()?.into_iter().filter(|mounted| mounted.target.starts_with(path)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let text = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime shared:1 master:7 - ext3 /dev/root rw,errors=continue";
        let expected = Mounted { id: 36, target: "/mnt 2".into(), kind: "ext3".into(), shared: true, slave: true };
        assert_eq!(line(text), Some(expected));
        let text = b"40 1 0:5 / /x rw - tmpfs tmpfs rw";
        let expected = Mounted { id: 40, target: "/x".into(), kind: "tmpfs".into(), shared: false, slave: false };
        assert_eq!(line(text), Some(expected));
        assert_eq!(line(b""), None);
        assert_eq!(line(b"1 2 3"), None);
    }

    #[test]
    fn the_real_one_has_a_root() {
        assert!(read().unwrap().iter().any(|mounted| mounted.target == Path::new("/")));
        assert!(below(Path::new("/proc")).unwrap().iter().any(|mounted| mounted.kind == "proc"));
    }
}
