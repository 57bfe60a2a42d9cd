//! Unpacks an archive in one place, mounts its index in another, and compares the two path by path.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use erofs::{Error, Options, Summary, Tree};
use layer::tar::{Entry, Kind, Limits, Reader, Writer};
use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use store::tree::{ApplyOptions, apply};
use sys::path::{Dir, Root, read_link};

/// Members with their data.
pub type Members = Vec<(Entry, Vec<u8>)>;

/// Directories of one test: `tree` for unpacking and `mount`, both only in the test's own mount namespace,
/// and the files of the image on a file system that can back a mount.
pub struct Place {
    dir: tempfile::TempDir,
    fsck: Option<PathBuf>,
    start: u64,
}

/// Runs `test` in a thread with a mount namespace of its own. Without root, or on a kernel that mounts no
/// files, it is skipped.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn isolated(test: fn(&Place)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: mounting needs root");
        return;
    }
    let run = move || {
        sys::clone::unshare(sys::clone::flags::NEWNS).unwrap();
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        let dir = tempfile::Builder::new().prefix("dhow-erofs-").tempdir().unwrap();
        for name in ["trees", "mount"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let fsck = std::env::split_paths(&path).map(|dir| dir.join("fsck.erofs")).find(|program| program.exists());
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let place = Place { dir, fsck, start };
        // Without a limit on attributes, and fast to empty.
        mount("tmpfs", place.trees(), "tmpfs", MountFlags::empty(), c"mode=755").unwrap();
        if let Err(reason) = place.mountable() {
            eprintln!("skipped: {reason}");
            return;
        }
        test(&place);
    };
    if let Err(panic) = std::thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

/// An archive of these members, nanoseconds kept.
pub fn archive(members: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).nanoseconds(true);
    for (entry, data) in members {
        writer.entry(entry).unwrap();
        if entry.kind == Kind::File {
            writer.data(data).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// What became of indexing: the image, or the error and how many members came before it.
pub fn index(tar: &[u8]) -> Result<(Vec<u8>, Summary), (usize, Error)> {
    let mut reader = Reader::new(tar, Limits::default());
    let mut tree = Tree::new(Options::default());
    let mut before = 0;
    while let Some(entry) = reader.next_entry().unwrap() {
        tree.add(&entry, reader.position()).map_err(|e| (before, e))?;
        before += 1;
    }
    let mut image = Vec::new();
    let summary = tree.finish(tar.len() as u64, &mut image).map_err(|e| (before, e))?;
    assert_eq!(summary.index_bytes, image.len() as u64);
    Ok((image, summary))
}

/// Everything about one path that has to be equal.
#[derive(Debug, PartialEq, Eq)]
pub struct Object {
    mode: u32,
    owner: (u32, u32),
    size: u64,
    mtime: (i64, u64),
    device: u64,
    nlink: u64,
    /// First path, in the order of names, of the same inode.
    same: PathBuf,
    link: OsString,
    xattrs: Vec<(OsString, Vec<u8>)>,
    content: [u8; 32],
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is mounted below keeps the directory from being removed; nothing is, if a test got that far.
        for name in ["mount", "trees"] {
            let _ = unmount(self.dir.path().join(name), UnmountFlags::DETACH);
        }
    }
}

impl Place {
    /// Checks that the index of `tar` shows what unpacking makes, or that both refuse it in the same way.
    /// The answer is what indexing said.
    pub fn check(&self, tar: &[u8]) -> Result<Summary, Error> {
        let tree = self.dir.path().join("trees/tree");
        std::fs::create_dir(&tree).unwrap();
        let unpacked = {
            let mut reader = Reader::new(tar, Limits::default());
            apply(&Root::open(&tree).unwrap(), &mut reader, &ApplyOptions::layer())
        };
        let result = match (index(tar), unpacked) {
            (Err((_, Error::Unsupported(reason))), _) => Err(Error::Unsupported(reason)),
            (Err((_, error)), Err(other)) => {
                assert_eq!(error.kind(), other.kind(), "{error} / {other}");
                if let (Error::Member { .. }, store::Error::Member { .. }) = (&error, &other) {
                    assert_eq!(error.to_string(), other.to_string());
                } else {
                    assert!(!matches!((&error, &other), (Error::Member { .. }, _) | (_, store::Error::Member { .. })));
                }
                Err(error)
            }
            (Ok((image, summary)), Ok(applied)) => {
                assert_eq!(summary.entries, applied.entries);
                assert_eq!((summary.bytes, summary.opaque_root), (applied.bytes, applied.opaque_root));
                let mounted = self.mounted(tar, &image, |root| self.picture(root));
                let unpacked = self.picture(&tree);
                let inodes: std::collections::BTreeSet<_> = unpacked.values().map(|object| &object.same).collect();
                assert_eq!(summary.inodes, inodes.len() as u64);
                self.compare(&unpacked, &mounted);
                assert_eq!(index(tar).unwrap().0, image, "the same archive has given two images");
                Ok(summary)
            }
            (Ok(_), Err(other)) => panic!("indexed what unpacking refuses: {other}"),
            (Err((_, error)), Ok(_)) => panic!("refused what can be unpacked: {error}"),
        };
        Root::open(self.dir.path().join("trees")).unwrap().remove_tree("tree").unwrap();
        result
    }

    /// [`Place::check`] of members that have to be indexed.
    pub fn check_members(&self, members: &[(Entry, Vec<u8>)]) -> Summary {
        self.check(&archive(members)).unwrap()
    }

    /// Mounts an image over its archive while `look` runs, after fsck.erofs has had a look if it is there.
    pub fn mounted<T>(&self, tar: &[u8], image: &[u8], look: impl FnOnce(&Path) -> T) -> T {
        let (device, index, point) = self.files();
        std::fs::write(&device, tar).unwrap();
        if let Some(fsck) = &self.fsck {
            // fsck.erofs 1.8 looks for the checksum in block 0, where the superblock is not with 512-byte blocks,
            // and crashes; the kernel looks in the right place. So it gets an image that claims to have none.
            let mut unsummed = image.to_vec();
            unsummed[1024 + 8] &= !1;
            std::fs::write(&index, unsummed).unwrap();
            let device = format!("--device={}", device.display());
            // It calls itself once per directory on the way down: with all the stack it can get.
            let deep = "ulimit -S -s $(ulimit -H -s); exec \"$@\"";
            let mut command = Command::new("sh");
            command.args(["-c", deep, "fsck"]).arg(fsck).arg("--extract").arg(device).arg(&index);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{output:?}");
        }
        std::fs::write(&index, image).unwrap();
        self.try_mount().unwrap();
        let out = look(&point);
        unmount(&point, UnmountFlags::DETACH).unwrap();
        out
    }

    fn files(&self) -> (PathBuf, PathBuf, PathBuf) {
        let path = |name| self.dir.path().join(name);
        (path("layer.tar"), path("layer.erofs"), path("mount"))
    }

    /// Whether the kernel takes an image over an archive.
    pub fn accepted(&self, tar: &[u8], image: &[u8]) -> bool {
        let (device, index, point) = self.files();
        std::fs::write(&device, tar).unwrap();
        std::fs::write(&index, image).unwrap();
        let mounted = self.try_mount().is_ok();
        if mounted {
            unmount(&point, UnmountFlags::DETACH).unwrap();
        }
        mounted
    }

    /// A directory for layers that are unpacked.
    pub fn trees(&self) -> PathBuf {
        self.dir.path().join("trees")
    }

    fn try_mount(&self) -> rustix::io::Result<()> {
        let (device, index, point) = self.files();
        let options = std::ffi::CString::new(format!("device={}", device.display())).unwrap();
        mount(&index, &point, "erofs", MountFlags::RDONLY, &*options)
    }

    fn mountable(&self) -> Result<(), String> {
        let (device, index, point) = self.files();
        let tar = archive(&[]);
        std::fs::write(&index, self::index(&tar).unwrap().0).unwrap();
        std::fs::write(&device, tar).unwrap();
        match self.try_mount() {
            Ok(()) => unmount(&point, UnmountFlags::DETACH).unwrap(),
            // No EROFS, or only of block devices. Anything else is the image's fault.
            Err(e @ (Errno::NODEV | Errno::NOTBLK)) => return Err(format!("no file-backed mounts of EROFS here: {e}")),
            Err(e) => panic!("the kernel refuses an empty image: {e}"),
        }
        Ok(())
    }

    fn compare(&self, unpacked: &BTreeMap<PathBuf, Object>, mounted: &BTreeMap<PathBuf, Object>) {
        let paths = |tree: &BTreeMap<PathBuf, Object>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(unpacked), paths(mounted));
        for (path, object) in unpacked {
            let other = &mounted[path];
            // What is no member has the time of unpacking there.
            if object.mtime.0.unsigned_abs() >= self.start && object.mtime.0.unsigned_abs() < self.start + 100_000 {
                assert_eq!(Object { mtime: other.mtime, ..copy(object) }, *other, "{}", path.display());
            } else {
                assert_eq!(object, other, "{}", path.display());
            }
        }
    }

    /// Every path below `top` with all there is to know of it.
    fn picture(&self, top: &Path) -> BTreeMap<PathBuf, Object> {
        let mut out = BTreeMap::new();
        let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
        let mut pending = vec![(PathBuf::new(), Root::open(top).unwrap().dir().unwrap())];
        let stat = rustix::fs::stat(top).unwrap();
        let xattrs = sys::path::xattrs(File::open(top).unwrap()).unwrap();
        out.insert(PathBuf::new(), object(&stat, PathBuf::new(), OsString::new(), xattrs, [0; 32]));
        while let Some((path, dir)) = pending.pop() {
            let mut names: Vec<_> = dir.list().unwrap();
            names.sort_by(|one, other| one.name.cmp(&other.name));
            for listed in names {
                let stat = dir.lstat(&listed.name).unwrap();
                let kind = FileType::from_raw_mode(stat.st_mode);
                assert_eq!(listed.file_type, kind, "type in the listing");
                let below = path.join(&listed.name);
                let handle = dir.open_handle(&listed.name).unwrap();
                let link = if kind == FileType::Symlink { read_link(&handle).unwrap() } else { OsString::new() };
                let content = if kind == FileType::RegularFile { hash(&dir, &listed.name) } else { [0; 32] };
                let xattrs = sys::path::xattrs(&handle).unwrap();
                out.insert(below.clone(), object(&stat, below.clone(), link, xattrs, content));
                if kind == FileType::Directory {
                    pending.push((below, dir.open_dir(&listed.name).unwrap()));
                } else {
                    let same = first.entry(stat.st_ino).or_insert_with(|| below.clone());
                    if below < *same {
                        *same = below;
                    }
                }
            }
        }
        for (path, object) in &mut out {
            if let Ok(stat) = rustix::fs::lstat(top.join(path))
                && let Some(same) = first.get(&stat.st_ino)
                && FileType::from_raw_mode(stat.st_mode) != FileType::Directory
            {
                object.same = same.clone();
            }
        }
        out
    }
}

fn object(
    stat: &rustix::fs::Stat,
    same: PathBuf,
    link: OsString,
    xattrs: Vec<(OsString, Vec<u8>)>,
    content: [u8; 32],
) -> Object {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Object {
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        // That of a directory is the file system's own affair.
        size: if directory { 0 } else { stat.st_size as u64 },
        mtime: (stat.st_mtime, stat.st_mtime_nsec),
        device: stat.st_rdev,
        nlink: stat.st_nlink,
        same,
        link,
        xattrs,
        content,
    }
}

fn copy(object: &Object) -> Object {
    Object { same: object.same.clone(), link: object.link.clone(), xattrs: object.xattrs.clone(), ..*object }
}

fn hash(dir: &Dir, name: &std::ffi::OsStr) -> [u8; 32] {
    let mut data = Vec::new();
    File::from(dir.open_file(name).unwrap()).read_to_end(&mut data).unwrap();
    layer::digest::sha256(&data)
}
