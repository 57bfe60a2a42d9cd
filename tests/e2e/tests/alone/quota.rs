//! Sizes of volumes, on file systems that enforce limits of projects: in a file, mounted for the test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::{Client, Daemon, Options};

/// Whose limits are not ours to change.
const LIMIT_OF_OTHERS: u64 = 3 << 20;

#[test]
fn sizes_hold_on_ext4() {
    sizes_hold("ext4", &["mkfs.ext4", "-q", "-F", "-O", "quota,project", "-E", "quotatype=prjquota"]);
}

#[test]
fn sizes_hold_on_xfs() {
    sizes_hold("xfs", &["mkfs.xfs", "-q", "-f"]);
}

fn sizes_hold(kind: &str, mkfs: &[&str]) {
    if std::env::var("DHOW_TEST_VM").is_ok_and(|guest| guest == "systemd") {
        return eprintln!("skipped: file systems are the same whoever is process 1");
    }
    let dir = tempfile::Builder::new().prefix("dhow-quota-").tempdir().unwrap();
    let disk = match Disk::make(dir.path(), kind, mkfs) {
        Ok(disk) => disk,
        // These machines are there to have them.
        Err(why) if std::env::var_os("DHOW_TEST_VM").is_some() => panic!("no {kind} with project quotas: {why}"),
        Err(why) => return eprintln!("skipped: no {kind} with project quotas: {why}"),
    };
    let options = Options { alone: true, data: Some(disk.mount.join("data")), ..Options::default() };
    let Some(mut daemon) = Daemon::start_with(options) else { return };
    daemon.busybox();
    let dhow = daemon.dhow();

    for name in ["one", "two"] {
        dhow.run(&["volume", "create", "-o", "size=2m", name]);
    }
    assert_eq!(write(&dhow, "one", 1), 0);
    assert_eq!(write(&dhow, "two", 1), 0, "each has a size of its own");
    assert_ne!(write(&dhow, "one", 2), 0, "there is no room for the rest");
    let (one, two) = (disk.project(&daemon, "one"), disk.project(&daemon, "two"));
    assert!(one >= 0x6400_0000 && two == one + 1, "{one} {two}");
    let (limit, used) = disk.usage(two);
    assert_eq!(limit, 2 << 20);
    assert!((1 << 20..2 << 20).contains(&used), "{used}");

    // The number that would be next is somebody else's.
    let theirs = disk.project_of_others(two + 1);
    for name in ["three", "four"] {
        dhow.run(&["volume", "create", "-o", "size=2m", name]);
    }
    assert_eq!((disk.project(&daemon, "three"), disk.project(&daemon, "four")), (two + 2, two + 3));
    dhow.run(&["volume", "rm", "three"]);
    assert!(!disk.is_used(two + 2), "a removed volume's project is free");
    assert!(disk.is_used(two + 3));

    // A daemon that starts again knows whose limits are whose, and begins elsewhere; and what a directory was
    // made meanwhile it leaves to whoever made it so.
    daemon.stop();
    sys::quota::set_project(File::open(disk.data(&daemon, "four")).unwrap(), theirs).unwrap();
    daemon.launch();
    assert_ne!(write(&dhow, "two", 2), 0);
    dhow.run(&["volume", "create", "-o", "size=2m", "five"]);
    assert!(![one, two, theirs, two + 3].contains(&disk.project(&daemon, "five")));
    dhow.run(&["volume", "rm", "four"]);
    assert_eq!(disk.usage(theirs).0, LIMIT_OF_OTHERS);

    // The daemon itself is held to sizes when it fills a volume.
    let archives = [1, 4].map(|size| archive(dir.path(), size));
    dhow.try_run(&["volume", "import", "five", archives[1].to_str().unwrap()]).expect_code(1);
    let before = disk.project(&daemon, "five");
    dhow.run(&["volume", "import", "five", archives[0].to_str().unwrap()]);
    let after = disk.project(&daemon, "five");
    assert!(after != before && !disk.is_used(before), "new content is a project of its own, the old one is free");
    assert_eq!(disk.usage(after).0, 2 << 20);
    dhow.run(&["create", "--name", "copied-into", "-v", "two:/v", "busybox"]);
    dhow.try_run(&["cp", archives[1].to_str().unwrap(), "copied-into:/v"]).expect_code(1);
}

/// Writes so many MiB into a new file of the volume, as a container without privileges; the answer is its exit code.
fn write(dhow: &Client, volume: &str, megabytes: u32) -> i32 {
    let script = format!("dd if=/dev/zero of=$(mktemp -p /v) bs=1M count={megabytes}");
    dhow.try_run(&["run", "--rm", "-v", &format!("{volume}:/v"), "busybox", "sh", "-c", &script]).code
}

fn archive(dir: &Path, megabytes: u64) -> PathBuf {
    let (content, archive) = (dir.join("content"), dir.join(format!("{megabytes}.tar")));
    fs::create_dir_all(&content).unwrap();
    fs::write(content.join("file"), vec![7; usize::try_from(megabytes << 20).unwrap()]).unwrap();
    let mut tar = Command::new("tar");
    assert!(tar.arg("-cf").arg(&archive).arg("-C").arg(&content).arg(".").status().unwrap().success());
    archive
}

/// A file system with project quotas.
struct Disk {
    mount: PathBuf,
    root: Option<File>,
}

impl Disk {
    fn make(dir: &Path, kind: &str, mkfs: &[&str]) -> Result<Self, String> {
        let (image, mount) = (dir.join("disk"), dir.join("mount"));
        fs::create_dir(&mount).unwrap();
        // XFS takes no less.
        File::create(&image).and_then(|file| file.set_len(320 << 20)).unwrap();
        let (image, target) = (image.to_str().unwrap(), mount.to_str().unwrap());
        run(mkfs[0], &[&mkfs[1..], &[image]].concat())?;
        run("mount", &["-t", kind, "-o", "loop,prjquota", image, target])?;
        let root = File::open(&mount).unwrap();
        let disk = Self { mount, root: Some(root) };
        match sys::quota::enforces_projects(disk.root()) {
            Ok(true) => Ok(disk),
            other => Err(format!("limits are not enforced: {other:?}")),
        }
    }

    fn root(&self) -> &File {
        self.root.as_ref().unwrap()
    }

    fn data(&self, daemon: &Daemon, volume: &str) -> PathBuf {
        daemon.data_root().join("volumes").join(volume).join("_data")
    }

    fn project(&self, daemon: &Daemon, volume: &str) -> u32 {
        sys::quota::project(File::open(self.data(daemon, volume)).unwrap()).unwrap()
    }

    fn usage(&self, project: u32) -> (u64, u64) {
        sys::quota::usage(self.root(), project).unwrap()
    }

    fn is_used(&self, project: u32) -> bool {
        sys::quota::is_used(self.root(), project).unwrap()
    }

    /// As an administrator makes one, whatever number it gets.
    fn project_of_others(&self, project: u32) -> u32 {
        let directory = self.mount.join("theirs");
        fs::create_dir(&directory).unwrap();
        sys::quota::set_project(File::open(&directory).unwrap(), project).unwrap();
        sys::quota::set_limit(self.root(), project, LIMIT_OF_OTHERS).unwrap();
        project
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.root = None;
        let _ = run("umount", &["--lazy", &self.mount.to_string_lossy()]);
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
