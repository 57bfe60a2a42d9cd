//! File systems of a benchmark's own: ext4 with a journal, as most disks have it, in a file.
//!
//! Without a journal, as some virtual machines have their disk, ext4 passes over inodes that were freed in the last minutes
//! one by one: whoever unpacks after something was removed, as one does here again and again, would be measured by that.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::side::Side;
use crate::peers::Peers;
use crate::shell;

const SIZE: u64 = 16 << 30;
/// Where the peer has its disk, socket and files, in its root.
const PLACE: &str = "/var/lib/dhow-bench";
const SOCKET: &str = "run/dhow-bench.sock";

/// A disk that is not mounted yet.
struct Device {
    image: PathBuf,
    name: String,
}

impl Device {
    fn make(name: &str) -> Result<Self> {
        let image = shell::target().join("bench").join(format!("{name}.img"));
        fs::create_dir_all(shell::target().join("bench"))?;
        fs::File::create(&image)?.set_len(SIZE)?;
        let path = image.display().to_string();
        shell::run(&mut shell::command("mkfs.ext4", ["-q", "-F", &path]))?;
        let device = shell::output(&mut shell::command("losetup", ["--find", "--show", "--direct-io=on", &path]))?;
        Ok(Self { image, name: device.trim().to_owned() })
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = shell::run(&mut shell::command("losetup", ["--detach", &self.name]));
        let _ = fs::remove_file(&self.image);
    }
}

/// A disk of ours.
pub struct Disk {
    pub mount: PathBuf,
    _device: Device,
}

impl Disk {
    pub fn make(name: &str) -> Result<Self> {
        let device = Device::make(name)?;
        let mount = shell::target().join("bench").join(name);
        fs::create_dir_all(&mount)?;
        shell::run(&mut shell::command("mount", [&device.name, &mount.display().to_string()]))?;
        Ok(Self { mount, _device: device })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = shell::run(&mut shell::command("umount", ["--lazy", &self.mount.display().to_string()]));
        let _ = fs::remove_dir(&self.mount);
    }
}

/// A real dockerd whose data is on a disk of its own.
pub struct Dockerd<'a> {
    pub side: Side,
    child: Child,
    peers: &'a Peers,
    _device: Device,
}

impl<'a> Dockerd<'a> {
    pub fn start(peers: &'a Peers) -> Result<Self> {
        let device = Device::make("dockerd")?;
        shell::run(&mut peers.command(&["mkdir", "-p", PLACE]))?;
        shell::run(&mut peers.command(&["mount", &device.name, PLACE]))?;
        let log = fs::File::create(peers.home.join("dockerd-bench.log"))?;
        let (socket, files) = (format!("unix:///{SOCKET}"), "/run/dhow-bench");
        let pid_file = format!("{files}.pid");
        let child = peers
            .command(&["dockerd", "-H", &socket, "--data-root", PLACE, "--exec-root", files, "--pidfile", &pid_file])
            // Its bridge is that of the other one: told to have none, it would remove it.
            .args(["--iptables=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start a dockerd")?;
        let socket = format!("unix://{}", Path::new(&peers.home).join("sid").join(SOCKET).display());
        let dockerd = Self { side: Side { client: peers.docker.clone(), socket }, child, peers, _device: device };
        for _ in 0..300 {
            if dockerd.side.run(&["version"]).is_ok() {
                return Ok(dockerd);
            }
            sleep(Duration::from_millis(100));
        }
        bail!("a dockerd with a disk of its own did not come up within 30 s")
    }
}

impl Drop for Dockerd<'_> {
    fn drop(&mut self) {
        let pid = self.child.id().to_string();
        let _ = shell::run(&mut shell::command("kill", ["-TERM", &pid]));
        let _ = self.child.wait();
        let _ = shell::run(&mut self.peers.command(&["umount", "--lazy", PLACE]));
    }
}
