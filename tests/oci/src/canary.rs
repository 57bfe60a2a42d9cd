//! A watch over the host: files and directories that no container has any business with, the host's mounts over its own
//! directories, and settings of the kernel that containers may never change. Compared when it is dropped; a setting that
//! a successful attack has changed is put back, so that losing costs no more than the test.
//!
//! The directory stands for everything worth having on a host: attacks are aimed at it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::mountinfo::mounts_of;

/// Files every host has and every container would like to change.
const HOST_FILES: [&str; 9] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/shadow",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/ld.so.preload",
    "/dev/null",
    "/dev/console",
];

/// Directories of the host over which no mount may appear.
const HOST_DIRECTORIES: [&str; 10] =
    ["/proc", "/sys", "/dev", "/etc", "/usr", "/bin", "/sbin", "/lib", "/boot", "/root"];

/// Settings the host has only once, and some of its own namespaces.
const SETTINGS: [&str; 22] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hotplug",
    "/proc/sys/kernel/poweroff_cmd",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/kernel/panic",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/dmesg_restrict",
    "/proc/sys/kernel/kptr_restrict",
    "/proc/sys/kernel/shmmax",
    "/proc/sys/kernel/msgmax",
    "/proc/sys/kernel/sem",
    "/proc/sys/fs/suid_dumpable",
    "/proc/sys/fs/protected_symlinks",
    "/proc/sys/fs/mqueue/msg_max",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/net/ipv4/ip_unprivileged_port_start",
    "/proc/sys/net/ipv4/ping_group_range",
    "/sys/kernel/uevent_helper",
];

/// The watch.
#[derive(Debug)]
pub struct Canary {
    dir: TempDir,
    more: Vec<PathBuf>,
    before: BTreeMap<String, String>,
    settings: Vec<(PathBuf, String)>,
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

impl Canary {
    /// Makes the directory and records everything.
    #[must_use]
    pub fn new() -> Self {
        Self::watching(&[])
    }

    /// As [`Canary::new`], with further files or directories of the test's.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[must_use]
    pub fn watching(more: &[&Path]) -> Self {
        let dir = tempfile::Builder::new().prefix("canary-").tempdir().expect("a directory for the canary");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("secret"), format!("the host's secret {}\n", std::process::id())).expect("a file");
        for name in ["d", "d/deep", "empty", "t", "pts", "proc", "sys"] {
            fs::create_dir(at(name)).expect("a directory");
        }
        fs::write(at("d/file"), "of the host\n").expect("a file");
        symlink("secret", at("link")).expect("a link");
        let more = more.iter().map(|path| (*path).to_owned()).collect();
        let mut canary = Self { dir, more, before: BTreeMap::new(), settings: settings() };
        canary.before = canary.look();
        canary
    }

    /// The directory: `secret`, `d/deep`, `d/file`, `empty`, `t`, `pts`, `proc`, `sys` and `link`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What `secret` holds; it may appear in no container.
    ///
    /// # Panics
    /// When it is gone.
    #[must_use]
    pub fn secret(&self) -> String {
        fs::read_to_string(self.dir.path().join("secret")).expect("the secret").trim_end().to_owned()
    }

    /// What has changed since, one sentence each.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let now = self.look();
        let mut changes = Vec::new();
        for (what, before) in &self.before {
            match now.get(what) {
                None => changes.push(format!("{what} is gone")),
                Some(now) if now != before => changes.push(format!("{what} was {before} and is {now}")),
                Some(_) => {}
            }
        }
        changes.extend(now.keys().filter(|what| !self.before.contains_key(*what)).map(|what| format!("{what} is new")));
        changes
    }

    fn look(&self) -> BTreeMap<String, String> {
        let mut seen = BTreeMap::new();
        record(self.dir.path(), &mut seen);
        for path in &self.more {
            record(path, &mut seen);
        }
        for path in HOST_FILES {
            record(Path::new(path), &mut seen);
        }
        for (path, value) in settings() {
            seen.insert(format!("setting {}", path.display()), format!("{value:?}"));
        }
        let own = self.dir.path().to_string_lossy().into_owned();
        for mount in mounts_of(i32::try_from(std::process::id()).expect("a process number")) {
            let below = |dir: &str| mount.target == dir || mount.target.starts_with(&format!("{dir}/"));
            if HOST_DIRECTORIES.iter().any(|dir| below(dir)) || below(&own) || mount.root.starts_with(&own) {
                let what = format!("mount of {} {} at {}", mount.fstype, mount.root, mount.target);
                seen.insert(what, mount.options);
            }
        }
        seen
    }
}

impl Drop for Canary {
    fn drop(&mut self) {
        let changes = self.changes();
        if changes.is_empty() {
            return;
        }
        for (path, value) in &self.settings {
            if fs::read_to_string(path).is_ok_and(|now| now != *value) {
                let _ = fs::write(path, value);
            }
        }
        let text = format!("the host has changed:\n{}", changes.join("\n"));
        if std::thread::panicking() {
            eprintln!("{text}");
        } else {
            panic!("{text}");
        }
    }
}

/// Every setting there is, with its value.
fn settings() -> Vec<(PathBuf, String)> {
    let paths = SETTINGS.iter().map(PathBuf::from).chain(release_agents());
    paths.filter_map(|path| fs::read_to_string(&path).ok().map(|value| (path, value))).collect()
}

/// The program the kernel runs as root when a v1 group becomes empty.
fn release_agents() -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    hierarchies.map(|entry| entry.path().join("release_agent")).collect()
}

fn record(path: &Path, seen: &mut BTreeMap<String, String>) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        fs::read(path).map_or_else(|error| error.to_string(), |bytes| digest(&bytes))
    } else if kind.is_symlink() {
        fs::read_link(path).map_or_else(|error| error.to_string(), |target| target.display().to_string())
    } else {
        String::new()
    };
    // A device is used all the time; its times say nothing.
    let time = if kind.is_file() || kind.is_dir() { metadata.mtime_nsec() + metadata.mtime() } else { 0 };
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    seen.insert(
        path.display().to_string(),
        format!("{mode:o} {uid}:{gid} changed {time} device {:x} {content}", metadata.rdev()),
    );
    if kind.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            record(&entry.path(), seen);
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    faster_hex::hex_string(&Sha256::digest(bytes))
}
