//! Mounting with the directory made first, and an error that names both. Used while booting and by
//! the runner.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::mount::MountFlags;

/// Mounts a file system of the given type; `options` are those of mount(8), comma separated.
pub fn mount(source: &str, target: &str, fstype: &str, flags: MountFlags, options: &str) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {target}"))?;
    let data = std::ffi::CString::new(options)?;
    rustix::mount::mount(source, target, fstype, flags, data.as_c_str())
        .with_context(|| format!("cannot mount {fstype} {source} at {target}"))
}

/// Shows the directory `source` at `target` too.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    rustix::mount::mount_bind(source, target)
        .with_context(|| format!("cannot bind {} to {}", source.display(), target.display()))
}
