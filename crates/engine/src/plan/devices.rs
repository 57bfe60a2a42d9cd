//! Device nodes and the rules that let a container use them: the default few, `--device`,
//! `--device-cgroup-rule`, and everything of the host for `--privileged`. Called by the plan.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use cgroup::{Access, DeviceKind, DeviceRule};
use docker_types::container::{DeviceMapping, HostConfig};
use launch::DeviceNode;

use crate::error::{Result, fail};

/// Most nodes taken from directories of devices.
const MAX_NODES: usize = 4096;

/// null zero full random urandom tty, as every container has them; console and ptmx are the runtime's.
fn defaults() -> Vec<DeviceNode> {
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)]
        .into_iter()
        .map(|(name, major, minor)| DeviceNode {
            path: format!("/dev/{name}"),
            mode: 0o020_666,
            major,
            minor,
            uid: 0,
            gid: 0,
        })
        .collect()
}

/// Nodes to make and rules for the control group.
pub(crate) fn resolve(host: &HostConfig) -> Result<(Vec<DeviceNode>, Vec<DeviceRule>)> {
    let mut nodes = defaults();
    let mut rules;
    if host.privileged {
        rules = vec![DeviceRule::allow_all()];
        let mut found = Vec::new();
        walk(Path::new("/dev"), "/dev", true, &mut found);
        nodes.extend(found);
    } else {
        rules = DeviceRule::container_defaults();
    }
    for device in host.devices.iter().flatten() {
        let added = mapping(device)?;
        if !host.privileged {
            let access = match device.cgroup_permissions.as_str() {
                "" => Access::ALL,
                text => Access::parse(text).ok_or_else(|| fail!(Invalid, "invalid device mode: {text}"))?,
            };
            rules.extend(added.iter().map(|node| {
                let kind = if node.mode & 0o170_000 == 0o060_000 { DeviceKind::Block } else { DeviceKind::Char };
                DeviceRule::allow(kind, Some(node.major), Some(node.minor), access)
            }));
        }
        nodes.retain(|n| !added.iter().any(|a| a.path == n.path));
        nodes.extend(added);
    }
    for rule in host.device_cgroup_rules.iter().flatten() {
        rules.push(
            DeviceRule::parse_allow(rule)
                .ok_or_else(|| fail!(Invalid, "invalid device cgroup rule format: '{rule}'"))?,
        );
    }
    Ok((nodes, rules))
}

fn mapping(device: &DeviceMapping) -> Result<Vec<DeviceNode>> {
    let source = Path::new(&device.path_on_host);
    let target = if device.path_in_container.is_empty() { &device.path_on_host } else { &device.path_in_container };
    let failed = |why: &str| {
        fail!(
            Internal,
            "error gathering device information while adding custom device \"{}\": {why}",
            device.path_on_host
        )
    };
    let meta = std::fs::metadata(source).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => failed("no such file or directory"),
        _ => failed(&e.to_string()),
    })?;
    if meta.is_dir() {
        let mut found = Vec::new();
        walk(source, target, false, &mut found);
        if found.is_empty() {
            return Err(failed("not a device node"));
        }
        return Ok(found);
    }
    Ok(vec![node(&meta, target.clone()).ok_or_else(|| failed("not a device node"))?])
}

fn node(meta: &std::fs::Metadata, path: String) -> Option<DeviceNode> {
    let kind = meta.file_type();
    if !kind.is_char_device() && !kind.is_block_device() {
        return None;
    }
    let device = meta.rdev();
    Some(DeviceNode {
        path,
        mode: meta.mode(),
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
        uid: meta.uid(),
        gid: meta.gid(),
    })
}

/// Every device below `source`, as `target/…`. `top`: leave out what the container has of its own.
fn walk(source: &Path, target: &str, top: bool, found: &mut Vec<DeviceNode>) {
    // A directory that vanishes or cannot be read holds nothing for us.
    let Ok(entries) = std::fs::read_dir(source) else { return };
    for entry in entries.flatten() {
        if found.len() >= MAX_NODES {
            return;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if top
            && matches!(
                name.as_str(),
                "pts"
                    | "shm"
                    | "fd"
                    | "mqueue"
                    | ".lxc"
                    | ".lxd-mounts"
                    | ".udev"
                    | "console"
                    | "ptmx"
                    | "null"
                    | "zero"
                    | "full"
                    | "random"
                    | "urandom"
                    | "tty"
            )
        {
            continue;
        }
        let path = format!("{target}/{name}");
        let Ok(meta) = entry.path().symlink_metadata() else { continue };
        if meta.is_dir() {
            walk(&entry.path(), &path, false, found);
        } else {
            found.extend(node(&meta, path));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(path: &str, access: &str) -> Result<(Vec<DeviceNode>, Vec<DeviceRule>)> {
        let device = DeviceMapping {
            path_on_host: path.into(),
            path_in_container: "/dev/x".into(),
            cgroup_permissions: access.into(),
        };
        resolve(&HostConfig { devices: Some(vec![device]), ..HostConfig::default() })
    }

    #[test]
    fn a_device_becomes_a_node_and_a_rule() {
        let (nodes, rules) = with("/dev/null", "r").unwrap();
        let node = nodes.last().unwrap();
        assert_eq!((node.path.as_str(), node.major, node.minor), ("/dev/x", 1, 3));
        assert_eq!(*rules.last().unwrap(), DeviceRule::allow(DeviceKind::Char, Some(1), Some(3), Access::READ));
        assert_eq!(nodes.len(), 7);
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert_eq!(
            with("/nope", "rwm").unwrap_err().to_string(),
            "error gathering device information while adding custom device \"/nope\": no such file or directory"
        );
        assert!(with("/etc/passwd", "rwm").is_err());
    }
}
