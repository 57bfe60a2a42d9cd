//! Archives that `ADD` unpacks: regular files that begin as a tar archive does, compressed or not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use layer::Decompress;
use layer::tar::{Error, Limits, Reader};
use rustix::fs::FileType;
use store::tree::{ApplyOptions, apply};
use sys::path::Root;

use super::copy::Copy;
use super::destination;
use super::error::FileError;
use super::source;

/// Unpacks `path` into the destination; `false` when it is no archive, or does not exist.
pub(super) fn unpack(from: &Root, path: &Path, to: &Root, action: &Copy) -> Result<bool, FileError> {
    let found = match source::locate(from, path, true) {
        Ok(found) => found,
        Err(FileError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(e),
    };
    if FileType::from_raw_mode(found.stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let open = || sys::path::reopen_file(&found.handle).map(File::from).map_err(FileError::io("open", &found.path));
    if !is_archive(open()?) {
        return Ok(false);
    }
    let dest = destination::resolve(to, &action.dest)?;
    let (dir, _) = destination::directories(to, &dest, action.making())?;
    let failed = |source: store::Error| FileError::Unpack { path: found.path.clone(), source: Box::new(source) };
    let limits = Limits::default();
    let reader = Decompress::new(open()?, limits.total_bytes.saturating_mul(2));
    let mut archive = Reader::new(reader.map_err(|e| failed(store::Error::Tar(e.into())))?, limits);
    // Absolute links in it are links of the whole tree.
    drop(dir);
    let base = dest.strip_prefix("/").map(Path::to_owned).unwrap_or_default();
    let options = ApplyOptions { base, owner: action.owner, ..ApplyOptions::default() };
    apply(to, &mut archive, &options).map_err(failed)?;
    Ok(true)
}

/// Whether something that begins like this is an archive, compressed or not.
#[must_use]
pub fn looks_like_archive(head: &[u8]) -> bool {
    // Compressed streams say what they are in their first bytes, and are cut off here.
    let magic: [&[u8]; 4] = [b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    magic.iter().any(|magic| head.starts_with(magic)) || is_archive(head)
}

/// Whether a file has a first member.
fn is_archive(file: impl Read) -> bool {
    let limits = Limits::default();
    let Ok(reader) = Decompress::new(file, limits.total_bytes.saturating_mul(2)) else { return false };
    match Reader::new(reader, limits).next_entry() {
        Ok(entry) => entry.is_some(),
        // A member that breaks a rule is one: unpacking says which.
        Err(Error::Path { .. } | Error::Limit { .. } | Error::MemberType(_)) => true,
        Err(_) => false,
    }
}
