//! Which life of the page cache this is: what was not synced in another one may be lost.
//!
//! The kernel names its boots, and the exec root, a tmpfs, dies with each; both have to be the same. A disk
//! that is moved to another machine, or copied, is thereby in another life too.

use std::io::ErrorKind;
use std::path::Path;

use crate::error::{Error, Result};

/// File of the exec root.
const FILE: &str = "boot";

/// A line that is another one after a power cut.
///
/// # Errors
/// When the exec root cannot be written.
pub(crate) fn identity(exec_root: &Path) -> Result<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let boot = boot.map_err(|e| Error::io("cannot find out which boot this is", e))?;
    let path = exec_root.join(FILE);
    let own = match std::fs::read_to_string(&path) {
        Ok(text) if !text.trim().is_empty() => text,
        Err(e) if e.kind() != ErrorKind::NotFound => {
            return Err(Error::io(format!("cannot read {}", path.display()), e));
        }
        _ => {
            // A name of this exec root's own.
            let own = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
            let written = own.and_then(|own| {
                std::fs::create_dir_all(exec_root)?;
                std::fs::write(&path, &own)?;
                Ok(own)
            });
            written.map_err(|e| Error::io(format!("cannot write {}", path.display()), e))?
        }
    };
    Ok(format!("{} {}", boot.trim(), own.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lasts_as_long_as_the_exec_root() {
        let dir = tempfile::tempdir().unwrap();
        let exec = dir.path().join("exec");
        let first = identity(&exec).unwrap();
        assert_eq!(identity(&exec).unwrap(), first);
        assert_eq!(first.lines().count(), 1);
        std::fs::remove_dir_all(&exec).unwrap();
        assert_ne!(identity(&exec).unwrap(), first);
        std::fs::write(exec.join("boot"), "").unwrap();
        assert_ne!(identity(&exec).unwrap(), first, "an empty file is none");
    }
}
