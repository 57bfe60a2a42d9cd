//! Anonymous memory files with seals: how a plan travels, so that the reader knows it cannot change.
//! Called by the daemon (make) and the shim (read).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::Errno;

/// A sealed memory file with `content`, positioned anywhere: read it with [`read_sealed`].
///
/// # Errors
/// What memfd_create(2), write(2) or fcntl(2) says.
pub fn sealed(name: &str, content: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // The no-execute seal is of Linux 6.3; older kernels refuse the flag.
    let fd = match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => rustix::fs::memfd_create(name, flags)?,
        other => other?,
    };
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::write(&fd, rest)?;
        rest = &rest[written..];
    }
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(fd)
}

/// The whole content of a sealed memory file.
///
/// # Errors
/// `EINVAL` when it is not sealed against change, `EFBIG` when it is longer than `limit` bytes.
pub fn read_sealed(fd: BorrowedFd<'_>, limit: u64) -> Result<Vec<u8>, Errno> {
    let want = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    if !rustix::fs::fcntl_get_seals(fd)?.contains(want) {
        return Err(Errno::INVAL);
    }
    let size = u64::try_from(rustix::fs::fstat(fd.as_fd())?.st_size).map_err(|_| Errno::INVAL)?;
    if size > limit {
        return Err(Errno::FBIG);
    }
    let mut content = vec![0u8; usize::try_from(size).map_err(|_| Errno::FBIG)?];
    let mut at = 0;
    while at < content.len() {
        let got = rustix::io::pread(fd, &mut content[at..], at as u64)?;
        if got == 0 {
            return Err(Errno::IO);
        }
        at += got;
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_content_comes_back_and_cannot_change() {
        let fd = sealed("test", b"plan").unwrap();
        assert_eq!(read_sealed(fd.as_fd(), 4).unwrap(), b"plan");
        assert_eq!(read_sealed(fd.as_fd(), 3).unwrap_err(), Errno::FBIG);
        assert!(rustix::io::pwrite(&fd, b"x", 0).is_err());
        let open = rustix::fs::memfd_create("open", MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(read_sealed(open.as_fd(), 9).unwrap_err(), Errno::INVAL);
    }
}
