//! File systems of a test's own: in a file, behind a loop device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system in a file, mounted for as long as it lives.
pub struct Disk {
    pub image: PathBuf,
    pub mount: PathBuf,
    device: String,
}

/// What a program prints; `None` when it fails.
pub fn run(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Disk {
    /// A new one of at most so many MiB; `None` where there are no loop devices.
    pub fn make(dir: &Path, name: &str, megabytes: u64) -> Option<Self> {
        let image = dir.join(format!("{name}.img"));
        fs::File::create(&image).and_then(|file| file.set_len(megabytes << 20)).ok()?;
        run("mkfs.ext4", &["-q", "-F", image.to_str()?])?;
        Self::attach(&image, &dir.join(name))
    }

    /// `None` where there are no loop devices.
    pub fn attach(image: &Path, mount: &Path) -> Option<Self> {
        let (image, mount) = (image.to_owned(), mount.to_owned());
        let device = run("losetup", &["--find", "--show", "--direct-io=on", image.to_str()?])?;
        let disk = Self { image, mount, device };
        fs::create_dir_all(&disk.mount).ok()?;
        // Nothing is written unless somebody syncs.
        run("mount", &["-o", "commit=1000,discard", &disk.device, disk.mount.to_str()?])?;
        Some(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &self.mount.to_string_lossy()]);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}
