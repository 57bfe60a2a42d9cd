//! Files and directories every container has although its image may not: the places its own mounts go.
//!
//! They are the lowest layer of each container, so starting one writes nothing into its changes, and a
//! commit or a comparison finds nothing of them. An image that has one of them covers it. Made when the
//! store is opened; what is there is never changed, as containers that outlive the engine are mounted on it.

use std::fs::Permissions;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

const DIRS: &[&str] = &["dev", "dev/pts", "dev/shm", "etc", "proc", "sys"];
const FILES: &[&str] = &[".dockerenv", "dev/console", "etc/hostname", "etc/hosts", "etc/resolv.conf"];
const LINKS: &[(&str, &str)] = &[("etc/mtab", "/proc/mounts")];
const MODE: u32 = 0o755;

/// Make what is missing below `data_root`; gives the layer's directory.
///
/// # Errors
/// When the disk refuses.
pub(super) fn prepare(data_root: &Path) -> Result<PathBuf> {
    let base = data_root.join("places");
    make(&base, Path::new(""), |path| std::fs::DirBuilder::new().mode(MODE).create(path))?;
    for dir in DIRS {
        make(&base, Path::new(dir), |path| std::fs::DirBuilder::new().mode(MODE).create(path))?;
    }
    for file in FILES {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(MODE);
        make(&base, Path::new(file), |path| options.open(path).map(drop))?;
    }
    for (link, target) in LINKS {
        match symlink(target, base.join(link)) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(failed(&base.join(link), e)),
            _ => {}
        }
    }
    Ok(base)
}

fn make(base: &Path, path: &Path, create: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let path = base.join(path);
    match create(&path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(|e| failed(&path, e))?,
    }
    // The mode given was subject to the daemon's mask.
    std::fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(|e| failed(&path, e))
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot make {}, which containers are mounted on", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let base = prepare(dir.path()).unwrap();
        std::fs::set_permissions(base.join("etc"), Permissions::from_mode(0o700)).unwrap();
        std::fs::remove_file(base.join("etc/hosts")).unwrap();
        prepare(dir.path()).unwrap();
        let mode = |path: &str| base.join(path).metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("etc"), mode("etc/hosts"), mode("proc")), (0o700, MODE, MODE));
        assert_eq!(std::fs::read_link(base.join("etc/mtab")).unwrap(), Path::new("/proc/mounts"));
    }
}
