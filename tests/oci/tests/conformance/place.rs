//! Where a process's control groups are on this host, whichever of v1, v2 or both it has.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether the host has nothing but cgroup v2.
pub(crate) fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The directory of the process's group of the controller; none where the host has no such controller.
pub(crate) fn group(pid: i32, controller: &str) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let mut unified = None;
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let below = path.trim_start_matches('/');
        if controllers.is_empty() {
            let mount = if is_v2() { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/unified" };
            unified = Some(Path::new(mount).join(below));
        } else if controllers.split(',').any(|name| name == controller) {
            let all = Path::new("/sys/fs/cgroup").join(controllers);
            let mount = if all.is_dir() { all } else { Path::new("/sys/fs/cgroup").join(controller) };
            return Some(mount.join(below));
        }
    }
    let unified = unified?;
    let has = fs::read_to_string(unified.join("cgroup.controllers")).ok()?;
    has.split_whitespace().any(|name| name == controller).then_some(unified)
}

/// What the control file of the process's group holds: `v1` or `v2` is its name, whichever version the controller is
/// of. None, with a word, where there is no such controller.
pub(crate) fn control(pid: i32, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let Some(dir) = group(pid, controller) else {
        eprintln!("left out: this host has no controller {controller}");
        return None;
    };
    let path = dir.join(if dir.join("cgroup.controllers").exists() { v2 } else { v1 });
    Some(
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
            .trim()
            .to_owned(),
    )
}
