//! Device nodes and the usual links of `/dev`. Where nodes cannot be made (no `CAP_MKNOD`), the
//! host's own are bound instead.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use launch::{DeviceNode, FailureStage};
use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use sys::Errno;

use crate::failure::{At, Failure};
use crate::root::{Missing, Root, split};

/// The host's nodes, for a process that may not make any; `None` where they are not needed. In a user namespace
/// the capability to make nodes counts for nothing.
pub(crate) fn open_host_nodes(
    devices: &[DeviceNode],
    in_user_namespace: bool,
) -> Result<Option<Vec<OwnedFd>>, Failure> {
    let stage = FailureStage::Device;
    let held = sys::creds::capabilities().at(stage, || "read the capabilities".to_owned())?;
    if held.effective & sys::creds::CAP_MKNOD != 0 && !in_user_namespace {
        return Ok(None);
    }
    let open = |device: &DeviceNode| {
        let what = || format!("open the device {} of the host", device.path);
        let node = sys::mount::clone_tree(rustix::fs::CWD, Path::new(&device.path), false).at(stage, what)?;
        let stat = rustix::fs::fstat(&node).at(stage, what)?;
        let same = FileType::from_raw_mode(stat.st_mode) == FileType::from_raw_mode(device.mode)
            && rustix::fs::major(stat.st_rdev) == device.major
            && rustix::fs::minor(stat.st_rdev) == device.minor;
        if same { Ok(node) } else { Err(Errno::NXIO).at(stage, what) }
    };
    devices.iter().map(open).collect::<Result<_, _>>().map(Some)
}

/// Makes every node, or binds the host's. A node that is there already stays.
pub(crate) fn make(devices: &[DeviceNode], host: Option<Vec<OwnedFd>>, root: &Root) -> Result<(), Failure> {
    let stage = FailureStage::Device;
    if let Some(nodes) = host {
        for (device, node) in devices.iter().zip(nodes) {
            let what = || format!("bind the device {}", device.path);
            let target = root.ensure(&device.path, Missing::File).at(stage, what)?;
            sys::mount::attach(node.as_fd(), target.as_fd()).at(stage, what)?;
        }
        return Ok(());
    }
    // They usually are all in one directory, which is then looked up once.
    let mut last: Option<(&str, OwnedFd)> = None;
    for device in devices {
        let what = || format!("make the device {}", device.path);
        let (directory, name) = split(&device.path).at(stage, what)?;
        if last.as_ref().is_none_or(|(path, _)| *path != directory) {
            last = Some((directory, root.ensure_dir(directory).at(stage, what)?));
        }
        let Some((_, parent)) = &last else { continue };
        let number = rustix::fs::makedev(device.major, device.minor);
        let mode = Mode::from_raw_mode(device.mode & 0o7777);
        match rustix::fs::mknodat(parent, name, FileType::from_raw_mode(device.mode), mode, number) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(errno) => return Err(errno).at(stage, what),
        }
        if device.uid != 0 || device.gid != 0 {
            let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
            rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).at(stage, what)?;
        }
    }
    Ok(())
}

/// The links every program expects in `/dev`.
pub(crate) fn link_standard(root: &Root) -> Result<(), Failure> {
    let stage = FailureStage::Device;
    let dev = root.open_dir("/dev").at(stage, || "open /dev".to_owned())?;
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).at(stage, || format!("link /dev/{name}")),
        }
    }
    Ok(())
}
