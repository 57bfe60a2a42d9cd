//! Device nodes: those every container has (runtime-spec, "Default Devices") and those the configuration names.

use launch::DeviceNode;
use oci::Spec;

const S_IFCHR: u32 = 0o020_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFIFO: u32 = 0o010_000;

/// Path, major and minor number of the default devices. `/dev/console` comes with a terminal, `/dev/ptmx` is a link.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Every node to be made. A `/dev` that is bound from elsewhere has its own.
pub(super) fn nodes(spec: &Spec) -> Vec<DeviceNode> {
    let bound = spec.mounts.iter().any(|mount| {
        let words = &mount.options;
        mount.destination.trim_end_matches('/') == "/dev"
            && (mount.kind == "bind" || words.iter().any(|word| word == "bind" || word == "rbind"))
    });
    let own = spec.linux.as_ref().map(|linux| linux.devices.as_slice()).unwrap_or_default();
    let mut nodes: Vec<DeviceNode> = own
        .iter()
        .map(|device| {
            let (kind, default_mode) = match device.kind.as_str() {
                "b" => (S_IFBLK, 0o660),
                "p" => (S_IFIFO, 0o660),
                _ => (S_IFCHR, 0o666),
            };
            DeviceNode {
                path: device.path.clone(),
                mode: kind | device.file_mode.unwrap_or(default_mode) & 0o7777,
                major: u32::try_from(device.major).unwrap_or(0),
                minor: u32::try_from(device.minor).unwrap_or(0),
                uid: device.uid.unwrap_or(0),
                gid: device.gid.unwrap_or(0),
            }
        })
        .collect();
    if bound {
        // Whoever binds a whole /dev brings its nodes; nothing is made in somebody else's directory.
        nodes.retain(|node| !node.path.starts_with("/dev/"));
        return nodes;
    }
    for (path, major, minor) in DEFAULT {
        if !nodes.iter().any(|node| node.path == path) {
            nodes.push(DeviceNode { path: path.to_owned(), mode: S_IFCHR | 0o666, major, minor, uid: 0, gid: 0 });
        }
    }
    nodes
}
