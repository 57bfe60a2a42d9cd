//! Attacks on the store: a container that renames under the engine's hands, archives that multiply work,
//! engines that die half way. Each test fails when the guard it is about is taken away.

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use common::{layer_path, open, picture, root, scratch, sha256, tar};
use layer::tar::{Entry, Kind};
use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};
use store::Error;
use store::image::load;
use store::tree::{ChangeKind, ExtractOptions, archive_path, changes, export, extract, usage};
use sys::path::Root;
use types::DiffId;

/// Exchanges two names as fast as it can until it is dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn new(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let _ = renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE);
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Descriptors of this process that are open below `path`.
fn open_below(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
    links.filter(|link| std::fs::read_link(link.path()).is_ok_and(|target| target.starts_with(path))).count()
}

#[test]
fn a_live_container_cannot_lead_copies_out() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (tree, host) = (scratch.path().join("tree"), scratch.path().join("host"));
    std::fs::create_dir_all(tree.join("v/sub")).unwrap();
    std::fs::create_dir_all(host.join("sub")).unwrap();
    std::fs::write(tree.join("v/sub/secret"), "container").unwrap();
    std::fs::write(host.join("sub/secret"), "host").unwrap();
    symlink(&host, tree.join("link")).unwrap();
    symlink("../../../../../../../../..".to_owned() + host.to_str().unwrap(), tree.join("relative")).unwrap();
    let before = picture(&host);
    let put = tar()
        .dir("sub")
        .file("sub/planted", b"planted")
        .file("sub/secret", b"overwritten")
        .link("sub/hard", Kind::HardLink, "sub/secret")
        .link("sub/soft", Kind::Symlink, "/etc/passwd")
        .entry(Entry::new("sub/pipe", Kind::Fifo, 0o777))
        .file("deep/er/file", b"x")
        .bytes();
    let live = Root::open(&tree).unwrap();
    for link in ["link", "relative"] {
        let swapper = Swapper::new(tree.join("v"), tree.join(link));
        let mut taken = 0;
        for _ in 0..200 {
            // Either may fail, as `v` is a link to nowhere half of the time; neither may reach the host's.
            let _ = extract(&live, "/v", &put[..], ExtractOptions::default());
            let mut out = Vec::new();
            if archive_path(&live, "/v/.", &mut out).is_ok() {
                taken += 1;
                assert!(!out.windows(4).any(|part| part == b"host"), "the host's file came out");
            }
            let mut out = Vec::new();
            export(&live, &mut out, true).unwrap();
            // What is in the tree names the host's directory, but nothing in it.
            assert!(common::members(&out).iter().all(|(_, data)| data != b"host"), "the host's file came out");
            assert!(usage(&live).unwrap().inodes > 0);
        }
        drop(swapper);
        if tree.join("v").is_symlink() {
            renameat_with(CWD, tree.join("v"), CWD, tree.join(link), RenameFlags::EXCHANGE).unwrap();
        }
        assert!(taken > 0, "the copy never met the directory");
        assert_eq!(picture(&host), before, "{link}");
    }
}

#[test]
fn nothing_but_regular_files_is_ever_opened() {
    use rustix::fs::inotify;
    let scratch = tempfile::tempdir().unwrap();
    let (file, pipe) = (scratch.path().join("file"), scratch.path().join("pipe"));
    std::fs::write(&file, "data").unwrap();
    rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let events = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    // The watch is on the pipe itself, under whichever of the names. A device would be opened the same way.
    inotify::add_watch(&events, &pipe, inotify::WatchFlags::OPEN).unwrap();
    let live = Root::open(scratch.path()).unwrap();
    let dir = live.dir().unwrap();
    let swapper = Swapper::new(file.clone(), pipe.clone());
    let (mut opened, mut refused) = (0, 0);
    for _ in 0..20_000 {
        match dir.open_file("file".as_ref()) {
            Ok(_) => opened += 1,
            Err(_) => refused += 1,
        }
    }
    for _ in 0..300 {
        export(&live, std::io::sink(), true).unwrap();
        archive_path(&live, "/file", std::io::sink()).unwrap();
    }
    drop(swapper);
    assert!(opened > 0 && refused > 0, "the race was not run: {opened} {refused}");
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(&events, &mut buffer);
    let error = reader.next().expect_err("the pipe was opened");
    assert_eq!(error, rustix::io::Errno::WOULDBLOCK);
}

#[test]
fn removal_spares_what_is_mounted_and_ends() {
    if !root() {
        return;
    }
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let (host, mount) = (scratch.path().join("host"), scratch.path().join("tree/a/mount"));
    std::fs::create_dir_all(&mount).unwrap();
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "x").unwrap();
    rustix::mount::mount_bind(&host, &mount).unwrap();
    let mounted = Mounted(mount.clone());
    let tree = Root::open(scratch.path()).unwrap();
    for path in ["tree", "tree/a/mount"] {
        let error = tree.remove_tree(path).unwrap_err();
        assert_eq!(rustix::io::Errno::from_io_error(&error), Some(rustix::io::Errno::BUSY), "{path}");
        assert!(host.join("precious").exists(), "{path}");
    }
    // An archive member in the place of a directory with a mount below.
    let put = tar().file("tree", b"x").bytes();
    assert!(extract(&tree, "/", &put[..], ExtractOptions::default()).is_err());
    assert!(host.join("precious").exists());
    drop(mounted);
    tree.remove_tree("tree").unwrap();

    // Somebody who fills the tree while it is emptied only gets the removal to give up.
    let busy = scratch.path().join("busy");
    std::fs::create_dir(&busy).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let fillers: Vec<_> = (0..2)
        .map(|filler| {
            let (busy, stop) = (busy.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                for count in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let _ = std::fs::create_dir_all(busy.join(format!("{filler}-{}", count % 50)));
                }
            })
        })
        .collect();
    for _ in 0..20 {
        let _ = tree.remove_tree("busy");
    }
    stop.store(true, Ordering::Relaxed);
    fillers.into_iter().for_each(|filler| filler.join().unwrap());
    tree.remove_tree("busy").unwrap();
}

#[test]
fn deep_trees_are_walked_with_few_descriptors() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let live = Root::open(&tree).unwrap();
    let mut dir = live.dir().unwrap();
    for _ in 0..3000 {
        drop(dir.create_file("f".as_ref(), Mode::RUSR).unwrap());
        dir.mkdir("d".as_ref(), Mode::RWXU).unwrap();
        dir = dir.open_dir("d".as_ref()).unwrap();
    }
    drop(dir);
    // Measured from beside: what a walk holds while it is under way.
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (counted, exported) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(open_below(&tree), Ordering::Relaxed);
            }
        });
        let counted = usage(&live).unwrap().inodes;
        let exported = export(&live, std::io::sink(), true);
        let _ = changes(&live, &[]);
        done.store(true, Ordering::Relaxed);
        (counted, exported)
    });
    assert_eq!(counted, 6000);
    assert!(exported.is_err(), "a path that no archive can hold");
    let most = most.into_inner();
    assert!(most > 10 && most < 200, "{most} descriptors at once");
    live.remove_tree("d").unwrap();
}

#[test]
fn changes_are_found_deep_down_and_paths_are_bounded() {
    if !root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (lower, upper) = (scratch.path().join("lower"), scratch.path().join("upper"));
    let deep: PathBuf = std::iter::repeat_n("d", 150).collect();
    for tree in [&lower, &upper] {
        std::fs::create_dir_all(tree.join(&deep)).unwrap();
    }
    // On the way back, after directories were closed: `z` comes after `d` at every level.
    for depth in [0, 10, 70, 149] {
        let place: PathBuf = std::iter::repeat_n("d", depth).collect();
        std::fs::write(lower.join(&place).join("z"), "old").unwrap();
        std::fs::write(upper.join(&place).join("z"), "new").unwrap();
        std::fs::write(upper.join(&place).join("zz"), "added").unwrap();
    }
    let found = changes(&Root::open(&upper).unwrap(), &[Root::open(&lower).unwrap()]).unwrap();
    for kind in [ChangeKind::Added, ChangeKind::Modified] {
        let name = if kind == ChangeKind::Added { "zz" } else { "z" };
        let count = found.iter().filter(|c| c.kind == kind && c.path.ends_with(&format!("/{name}"))).count();
        assert_eq!(count, 4, "{kind:?}");
    }
    let live = Root::open(&upper).unwrap();
    let mut dir = live.dir().unwrap();
    let name = "n".repeat(255);
    for _ in 0..40 {
        dir.mkdir(name.as_ref(), Mode::RWXU).unwrap();
        dir = dir.open_dir(name.as_ref()).unwrap();
    }
    assert!(changes(&live, &[]).is_err());
    live.remove_tree(&name).unwrap();
}

#[test]
fn attributes_cannot_spoil_an_archive() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("f"), "data").unwrap();
    let live = Root::open(scratch.path()).unwrap();
    let dir = live.dir().unwrap();
    if dir.set_xattr("f".as_ref(), "user.a=b".as_ref(), b"c").is_err() {
        return;
    }
    dir.set_xattr("f".as_ref(), "user.kept".as_ref(), b"value").unwrap();
    let mut out = Vec::new();
    export(&live, &mut out, true).unwrap();
    assert_eq!(common::members(&out), [("f".to_owned(), b"data".to_vec())]);
    assert!(out.windows(9).any(|part| part == b"user.kept") && !out.windows(6).any(|part| part == b"user.a"));
}

#[test]
fn times_of_very_many_directories() {
    if !root() {
        return;
    }
    let scratch = scratch();
    // Paths of together more than what is kept waiting: the times must be right all the same.
    let base = format!("{}/", "b".repeat(250)).repeat(15);
    let dirs = (0..9_500).fold(tar(), |tar, index| tar.dir(&format!("{base}{index}")));
    let ingest = scratch.store.ingest();
    let info = ingest.layer(&dirs.bytes()[..], None, None).unwrap();
    ingest.commit().unwrap();
    let below = scratch.store.layers().root(&info.diff_id).unwrap().open_dir(&base).unwrap();
    for index in ["0", "5000", "9499"] {
        assert_eq!(below.lstat(index.as_ref()).unwrap().st_mtime, 1_000_000_000, "{index}");
    }
}

/// Looks at the process' descriptors while an archive is read.
struct Watched<'a> {
    bytes: &'a [u8],
    below: &'a Path,
    most: usize,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.most = self.most.max(open_below(self.below));
        self.bytes.read(buffer)
    }
}

#[test]
fn members_without_end_take_few_descriptors() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let many = (0..2000).fold(tar(), |tar, index| tar.file(&format!("m{index}"), index.to_string().as_bytes()));
    let bytes = many.bytes();
    let mut watched = Watched { bytes: &bytes, below: scratch.dir.path(), most: 0 };
    assert!(load(&scratch.store.ingest(), &mut watched, &[]).is_err(), "no image");
    assert!(watched.most > 0 && watched.most < 50, "{} descriptors at once", watched.most);
    assert_eq!(std::fs::read_dir(scratch.store.path().join("content/ingest")).unwrap().count(), 0);
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn ingests_of_the_same_layer_and_a_collector() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let bytes = (0..50).fold(tar(), |tar, index| tar.file(&format!("d/{index}"), b"content")).bytes();
    let (digest, diff_id) = (sha256(&bytes), DiffId(sha256(&bytes)));
    let (start, done) = (Barrier::new(5), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                // Counted even when an assertion fails, so that the collector ends.
                let _counted = Counted(&done);
                start.wait();
                for _ in 0..30 {
                    let ingest = scratch.store.ingest();
                    if ingest.has_layer(&diff_id) && ingest.has_blob(&digest) {
                        // Found: nobody may take it away until this ingest is gone.
                    } else {
                        ingest.layer(&bytes[..], Some((&digest, bytes.len() as u64)), Some(&diff_id)).unwrap();
                        ingest.commit().unwrap();
                    }
                    for _ in 0..5 {
                        let layer = scratch.store.layers().root(&diff_id).unwrap();
                        assert_eq!(layer.open_dir("d").unwrap().list().unwrap().len(), 50);
                        scratch.store.blobs().open(&digest).unwrap().verify().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            start.wait();
            while done.load(Ordering::Relaxed) < 4 {
                scratch.store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
            }
        });
    });
    scratch.store.remove_unreferenced(&HashSet::new(), &HashSet::new()).unwrap();
    assert_eq!(std::fs::read_dir(scratch.store.path().join("layers")).unwrap().count(), 1);
    assert_eq!(scratch.store.blobs().list().unwrap(), []);
}

const DYING: &str = "DHOW_TEST_DYING_STORE";

/// Run by the next test in a process of its own: takes in a layer from its standard input.
#[test]
fn dying_engine() {
    let Some(path) = std::env::var_os(DYING) else { return };
    let store = open(path).unwrap();
    let ingest = store.ingest();
    ingest.document(b"{}", None).unwrap();
    let _ = ingest.layer(std::io::stdin(), None, None);
}

#[test]
fn an_engine_killed_half_way_leaves_nothing() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "dying_engine", "--nocapture", "--test-threads=1"])
        .env(DYING, &data)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let bytes = (0..400).fold(tar().dir("d"), |tar, index| tar.file(&format!("d/{index}"), &[1; 4000])).bytes();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&bytes[..bytes.len() / 2]).unwrap();
    input.flush().unwrap();
    // Until it has made some of the files, or has none to make and stored much of the archive.
    let entries = |dir: &str| std::fs::read_dir(data.join(dir)).into_iter().flatten().filter_map(Result::ok);
    let half_way = || {
        entries("layers").filter(|layer| layer.file_name() != "empty").any(|layer| {
            match std::fs::read_dir(layer.path().join("fs/d")) {
                Ok(files) => files.count() >= 100,
                Err(_) if layer.path().join("fs").exists() => false,
                Err(_) => entries("content/ingest").any(|blob| blob.metadata().is_ok_and(|blob| blob.len() > 500_000)),
            }
        })
    };
    while !half_way() {
        assert!(child.try_wait().unwrap().is_none(), "the engine ended by itself");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(matches!(open(&data), Err(Error::InUse(_))));
    child.kill().unwrap();
    child.wait().unwrap();
    drop(input);
    // What an engine on an older kernel leaves between mount and unmount.
    let stale = data.join("content/mount/mount-stale");
    std::fs::create_dir(&stale).unwrap();
    let host = dir.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "x").unwrap();
    rustix::mount::mount_bind(&host, &stale).unwrap();
    let store = open(&data);
    let left = rustix::mount::unmount(&stale, rustix::mount::UnmountFlags::DETACH);
    let store = store.unwrap();
    assert!(left.is_err() && !stale.exists() && host.join("precious").exists(), "the mount is taken away, not emptied");
    assert_eq!(std::fs::read_dir(data.join("layers")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(data.join("content/ingest")).unwrap().count(), 0);
    assert_eq!(store.blobs().list().unwrap(), []);
    let ingest = store.ingest();
    let info = ingest.layer(&bytes[..], None, None).unwrap();
    ingest.commit().unwrap();
    assert!(layer_path(&store, &info.diff_id).join("d/399").exists());
}
