//! The file systems every container gets before its own mounts. Called by the plan.

use docker_types::container::HostConfig;
use launch::{Mount, MountKind};
use sys::mount::attr;

const SAFE: u64 = attr::NOSUID | attr::NOEXEC | attr::NODEV;

fn fs(fstype: &str, target: &str, attrs: u64, options: &[(&str, &str)]) -> Mount {
    let options = options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (!value.is_empty()).then(|| (*value).to_owned())))
        .collect();
    let kind = MountKind::Fs { fstype: fstype.to_owned(), source: fstype.to_owned(), options };
    Mount { attrs, ..Mount::new(kind, target) }
}

/// In the order they are made; `/dev/shm` is the caller's, as it may be shared.
pub(crate) fn default_mounts(host: &HostConfig) -> Vec<Mount> {
    let read_only = if host.privileged { 0 } else { attr::RDONLY };
    let writable_cgroups = host.privileged
        || host
            .security_opt
            .iter()
            .flatten()
            .any(|o| matches!(o.as_str(), "writable-cgroups=true" | "writable-cgroups"));
    let mut list = vec![
        fs("proc", "/proc", SAFE, &[]),
        fs("tmpfs", "/dev", attr::NOSUID | attr::STRICTATIME, &[("mode", "755"), ("size", "65536k")]),
        fs(
            "devpts",
            "/dev/pts",
            attr::NOSUID | attr::NOEXEC,
            &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")],
        ),
        fs("sysfs", "/sys", SAFE | read_only, &[]),
    ];
    let attrs = SAFE | if writable_cgroups { 0 } else { attr::RDONLY };
    list.push(Mount { attrs, ..Mount::new(MountKind::Cgroup, "/sys/fs/cgroup") });
    list.push(fs("mqueue", "/dev/mqueue", SAFE, &[]));
    list
}

/// The container's own `/dev/shm` of `size` bytes.
pub(crate) fn shm(size: i64) -> Mount {
    let mut mount = fs("tmpfs", "/dev/shm", SAFE, &[("mode", "1777"), ("size", &size.to_string())]);
    if let MountKind::Fs { source, .. } = &mut mount.kind {
        // As the mount table of every container names it.
        *source = "shm".into();
    }
    mount
}
