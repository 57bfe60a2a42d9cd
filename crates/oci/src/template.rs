//! Configurations to begin with: what `spec` writes into a new bundle, for root and for a user without privileges.
//! They mean what runc's do; both are right as they stand. Printed by `oci-runtime`.

use serde_json::{Value, json};

use crate::VERSION;

/// Capabilities of a program that is not trusted much.
const CAPABILITIES: [&str; 3] = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];

/// Files that tell about the host, or let the container reach it.
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Files that change the host.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A shell in `rootfs`, with a terminal, on a network of its own.
#[must_use]
pub fn default_spec() -> Value {
    let mut spec = common();
    spec["linux"]["resources"] = json!({"devices": [{"allow": false, "access": "rwm"}]});
    spec["linux"]["namespaces"] = namespaces(&["pid", "network", "ipc", "uts", "mount", "cgroup"]);
    spec
}

/// The same in a user namespace in which `uid` and `gid`, those of the caller, are root. The network is the host's:
/// a new one would have nobody to connect it; and no limits, which take privileges.
#[must_use]
pub fn rootless_spec(uid: u32, gid: u32) -> Value {
    let mut spec = common();
    for mount in spec["mounts"].as_array_mut().into_iter().flatten() {
        match mount["destination"].as_str() {
            // Without a network namespace of its own the container may not mount a sysfs.
            Some("/sys") => {
                mount["type"] = "none".into();
                mount["source"] = "/sys".into();
                mount["options"] = json!(["rbind", "nosuid", "noexec", "nodev", "ro"]);
            }
            // The group tty is not mapped.
            Some("/dev/pts") => {
                mount["options"] = json!(["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"])
            }
            _ => {}
        }
    }
    spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": uid, "size": 1}]);
    spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": gid, "size": 1}]);
    spec["linux"]["namespaces"] = namespaces(&["pid", "ipc", "uts", "mount", "cgroup", "user"]);
    spec
}

fn namespaces(kinds: &[&str]) -> Value {
    kinds.iter().map(|kind| json!({ "type": kind })).collect()
}

fn common() -> Value {
    json!({
        "ociVersion": VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "dhow",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {"namespaces": [], "maskedPaths": MASKED, "readonlyPaths": READONLY},
    })
}
