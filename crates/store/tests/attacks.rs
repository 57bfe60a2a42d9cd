//! Attacks on the store: a container that renames under the engine's hands, archives that multiply work,
//! engines that die half way. Each test fails when the guard it is about is taken away.

mod common;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use common::{Tar, layer_path, open, root, scratch, sha256, tar};
use layer::tar::{Entry, Kind};
use rustix::fs::{CWD, Mode, RenameFlags, renameat_with};
use store::image::{load, resolve};
use store::model::{Descriptor, Image, Index, Manifest, RootFs, media_type};
use store::tree::{ChangeKind, ExtractOptions, archive_path, changes, export, extract, usage};
use store::{Error, Store};
use sys::path::Root;
use types::{DiffId, Digest, Kind as ErrorKind, Platform};

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

/// Everything in a directory with its content and metadata, to be compared later.
fn picture(dir: &Path) -> Vec<(PathBuf, u32, u64, i64, Vec<u8>)> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let meta = entry.metadata().unwrap();
        let data = if meta.is_file() { std::fs::read(entry.path()).unwrap() } else { Vec::new() };
        out.push((entry.path(), meta.mode(), meta.nlink(), meta.mtime(), data));
        if meta.is_dir() {
            out.extend(picture(&entry.path()));
        }
    }
    out.sort();
    out
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
fn layers_cut_anywhere_leave_nothing() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let mut long = Entry::new(format!("d/{}", "n".repeat(200)), Kind::File, 0o644);
    long.xattrs.push((b"user.x".to_vec(), vec![7; 600]));
    let whole = tar()
        .dir("d")
        .file("d/f", &vec![1; 1500])
        .entry(long)
        .link("d/h", Kind::HardLink, "d/f")
        .file("d/.wh.gone", b"")
        .file("d/.wh..wh..opq", b"")
        .bytes();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&whole).unwrap();
    let diff_id = DiffId(sha256(&whole));
    for bytes in [whole.clone(), gzip.finish().unwrap(), zstd::encode_all(&whole[..], 1).unwrap()] {
        let (digest, size) = (sha256(&bytes), bytes.len() as u64);
        let step = if bytes.len() > 2048 { 256 } else { 7 };
        for cut in (0..bytes.len()).step_by(step) {
            let ingest = scratch.store.ingest();
            assert!(ingest.layer(&bytes[..cut], Some((&digest, size)), Some(&diff_id)).is_err(), "cut at {cut}");
            // Nor without knowing what to expect, except between members.
            if cut % 512 != 0 {
                assert!(ingest.layer(&bytes[..cut], None, Some(&diff_id)).is_err(), "cut at {cut}");
            }
        }
        let more = [&bytes[..], b"\0"].concat();
        assert!(scratch.store.ingest().layer(&more[..], Some((&digest, size)), None).is_err(), "one byte more");
    }
    assert_eq!(std::fs::read_dir(scratch.store.path().join("layers")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(scratch.store.path().join("content/ingest")).unwrap().count(), 0);
}

#[test]
fn links_to_the_root_and_odd_names() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let put = |tar: &Tar| {
        let ingest = scratch.store.ingest();
        let info = ingest.layer(&tar.bytes()[..], None, None)?;
        ingest.commit()?;
        Ok::<_, Error>(layer_path(&scratch.store, &info.diff_id))
    };
    // Whiteouts and markers through links that lead to the root or above it stay in the root.
    for target in [".", "..", "/", "../../../../../..", "/.."] {
        let path = put(&tar().link("l", Kind::Symlink, target).file("l/.wh.etc", b"").file("l/f", b"x")).unwrap();
        assert!(std::fs::symlink_metadata(path.join("etc")).unwrap().file_type().is_char_device(), "{target}");
        assert!(path.join("f").exists());
        put(&tar().link("l", Kind::Symlink, target).file("l/.wh..wh..opq", b"")).unwrap();
    }
    // The directory that holds the tree, with its marker files, is not part of it.
    let archive = tar().link("l", Kind::Symlink, "..").file("l/opaque", b"x").file("l/size", b"9");
    let path = put(&archive).unwrap();
    let top = scratch.store.path().join("layers").join(sha256(&archive.bytes()).hex());
    assert!(path.join("opaque").exists() && !top.join("opaque").exists());
    assert_eq!(std::fs::read_to_string(top.join("size")).unwrap(), "2\n");
    // Forty links and more on the way.
    let chain = (0..60)
        .fold(tar().dir("d0"), |tar, index| tar.link(&format!("d{}", index + 1), Kind::Symlink, &format!("d{index}")));
    let error = put(&chain.file("d60/f", b"x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = put(&tar().file("f", b"").file("f/g", b"")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    // Names that only look like others.
    let odd = ["A", "a", "\u{202e}gpj.sh", "new\nline", "-rf", "%2e%2e", "..\\..\\x", "...", ".. ", "\u{1b}[2J"];
    let path = put(&odd.iter().fold(tar(), |tar, name| tar.file(name, b"x"))).unwrap();
    assert_eq!(std::fs::read_dir(path).unwrap().count(), odd.len());
    // Attributes of overlayfs, plain and escaped, and those of the host's security modules.
    let mut entry = Entry::new("d", Kind::Directory, 0o6777);
    for key in ["trusted.overlay.opaque", "user.overlay.whiteout", "trusted.overlay.overlay.opaque", "trusted.x"] {
        entry.xattrs.push((key.as_bytes().to_vec(), b"y".to_vec()));
    }
    for key in ["security.selinux", "security.ima", "security.evm", "security.apparmor", "system.nfs4_acl"] {
        entry.xattrs.push((key.as_bytes().to_vec(), b"x".to_vec()));
    }
    let path = put(&tar().entry(entry)).unwrap();
    assert_eq!(sys::path::xattrs(std::fs::File::open(path.join("d")).unwrap()).unwrap(), []);
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

fn image_of(layers: &[Digest]) -> Vec<u8> {
    let host = Platform::host();
    let rootfs = RootFs { diff_ids: layers.iter().copied().map(DiffId).collect(), ..RootFs::default() };
    Image { os: host.os, architecture: host.arch, rootfs, ..Image::default() }.to_bytes().unwrap()
}

/// An OCI layout being put together.
#[derive(Default)]
struct Layout(HashMap<String, Vec<u8>>);

impl Layout {
    fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = sha256(bytes);
        self.0.insert(format!("blobs/sha256/{}", digest.hex()), bytes.to_vec());
        Descriptor::new(media_type, digest, bytes.len() as u64)
    }

    fn index(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
        let bytes = index_bytes(manifests);
        self.blob(media_type::OCI_INDEX, &bytes)
    }

    fn archive(&self, index: &[u8]) -> Tar {
        let tar = tar().file("oci-layout", b"{}").file("index.json", index);
        self.0.iter().fold(tar, |tar, (name, bytes)| tar.file(name, bytes))
    }

    fn load(&self, store: &Arc<Store>, top: Vec<Descriptor>) -> Result<usize, Error> {
        load(&store.ingest(), &self.archive(&index_bytes(top)).bytes()[..], &Platform::host()).map(|list| list.len())
    }
}

fn index_bytes(manifests: Vec<Descriptor>) -> Vec<u8> {
    let media_type = Some(media_type::OCI_INDEX.to_owned());
    serde_json::to_vec(&Index { schema_version: 2, media_type, manifests, annotations: None }).unwrap()
}

/// A layout with one image of one layer; the answer has its manifest, and descriptors of what is in it.
fn layout() -> (Layout, Descriptor, Descriptor, Descriptor) {
    let mut layout = Layout::default();
    let bytes = tar().file("f", b"x").bytes();
    let layer = layout.blob(media_type::OCI_LAYER, &bytes);
    let config = layout.blob(media_type::OCI_CONFIG, &image_of(&[layer.digest]));
    let manifest = Manifest::new(config.clone(), vec![layer.clone()]).to_bytes().unwrap();
    let manifest = layout.blob(media_type::OCI_MANIFEST, &manifest);
    (layout, manifest, config, layer)
}

#[test]
fn indexes_that_multiply() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (mut layout, manifest, ..) = layout();
    // Four levels of a thousand entries, all the same: 10^12 documents for who counts them one by one.
    // None is for this machine, so that all would be looked at.
    let other = Some(Platform::new("linux", "s390x", ""));
    let mut entry = Descriptor { platform: other, ..manifest.clone() };
    for _ in 0..3 {
        entry = layout.index(vec![entry; 1000]);
    }
    assert_eq!(layout.load(&scratch.store, vec![entry.clone()]).unwrap(), 1);
    let ingest = scratch.store.ingest();
    let archive = layout.archive(&index_bytes(vec![entry.clone()])).bytes();
    load(&ingest, &archive[..], &Platform::host()).unwrap();
    ingest.commit().unwrap();
    let error = resolve(&*scratch.store, &entry, &Platform::host()).unwrap_err();
    assert!(matches!(error, Error::NoPlatform(_)), "{error}");
    // One level more than is followed.
    let deeper = (0..3).fold(entry, |entry, _| layout.index(vec![entry]));
    assert!(layout.load(&scratch.store, vec![deeper]).is_err());
    assert!(layout.load(&scratch.store, vec![manifest; 1001]).is_err(), "images without end");
}

#[test]
fn names_that_multiply() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (mut layout, first, config, layer) = layout();
    let mut second = Manifest::new(config.clone(), vec![layer.clone()]);
    second.annotations = Some([("another".to_owned(), "document".to_owned())].into());
    let second = layout.blob(media_type::OCI_MANIFEST, &second.to_bytes().unwrap());
    let both = layout.index(vec![first.clone(), second]);
    let table = |tags: usize| {
        let tags: Vec<String> = (0..tags).map(|tag| format!(r#""name:{tag}""#)).collect();
        let (config, layer, tags) = (config.digest.hex(), layer.digest.hex(), tags.join(","));
        format!(r#"[{{"Config":"blobs/sha256/{config}","RepoTags":[{tags}],"Layers":["blobs/sha256/{layer}"]}}]"#)
    };
    let loaded = |tags: usize, top: Vec<Descriptor>| {
        let archive = layout.archive(&index_bytes(top)).file("manifest.json", table(tags).as_bytes());
        load(&scratch.store.ingest(), &archive.bytes()[..], &Platform::host()).map(|list| list.len())
    };
    assert_eq!(loaded(3, vec![both.clone()]).unwrap(), 3, "once for each name, not for each manifest");
    assert!(loaded(10_001, vec![both]).is_err());
    assert!(loaded(5_000, vec![first; 3]).is_err());
}

#[test]
fn layouts_that_lie() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (good, manifest, config, layer) = layout();
    assert_eq!(good.load(&scratch.store, vec![manifest.clone()]).unwrap(), 1);
    // Sizes: added up and shown, so that a wrong one must not get in.
    for wrong in [0, layer.size - 1, layer.size + 1, u64::MAX] {
        let (mut bad, ..) = layout();
        let lie = Descriptor { size: wrong, ..layer.clone() };
        let lying = Manifest::new(config.clone(), vec![lie]).to_bytes().unwrap();
        let lying = bad.blob(media_type::OCI_MANIFEST, &lying);
        assert!(bad.load(&scratch.store, vec![lying.clone()]).is_err(), "layer of {wrong}");
        // Not for this machine, so never unpacked.
        let other = Descriptor { platform: Some(Platform::new("linux", "s390x", "")), ..lying };
        let index = bad.index(vec![manifest.clone(), other]);
        assert!(bad.load(&scratch.store, vec![index]).is_err(), "another platform's layer of {wrong}");
        let top = Descriptor { size: wrong, ..manifest.clone() };
        assert!(good.load(&scratch.store, vec![top]).is_err(), "manifest of {wrong}");
    }
    // What is no regular file, or not what its name says.
    let index = index_bytes(vec![manifest]);
    let without = |name: &str| {
        let kept: Vec<_> =
            good.archive(&index).0.into_iter().filter(|(entry, _)| entry.path != name.as_bytes()).collect();
        Tar(kept)
    };
    let blob = format!("blobs/sha256/{}", layer.digest.hex());
    let rows: Vec<(&str, Tar)> = vec![
        ("index is a pipe", without("index.json").entry(Entry::new("index.json", Kind::Fifo, 0o644))),
        ("index is a link", without("index.json").link("index.json", Kind::Symlink, "/etc/passwd")),
        ("index is an inner link", without("index.json").file("x", &index).link("index.json", Kind::Symlink, "x")),
        ("blob is a link", without(&blob).link(&blob, Kind::Symlink, "/etc/shadow")),
        ("blob is a hard link", without(&blob).link(&blob, Kind::HardLink, "index.json")),
        ("blob is a pipe", without(&blob).entry(Entry::new(blob.as_str(), Kind::Fifo, 0o644))),
        ("blob is another", without(&blob).file(&blob, b"other")),
        ("blob is missing", without(&blob)),
        ("name is no digest", good.archive(&index).file("blobs/sha256/x", b"x")),
        ("name is upper case", good.archive(&index).file(&blob.to_uppercase().replace("BLOBS/SHA", "blobs/sha"), b"x")),
        ("index twice", good.archive(&index).file("./index.json", &index)),
        ("index deep", without("index.json").file("index.json", "[".repeat(1 << 20).as_bytes())),
        ("index huge", without("index.json").file("index.json", &vec![b' '; 5 << 20])),
        ("path long", good.archive(&index).file(&"p/".repeat(300), b"x")),
    ];
    for (what, archive) in rows {
        let ingest = scratch.store.ingest();
        // A missing layer is no lie: the image is kept without it.
        let loaded = load(&ingest, &archive.bytes()[..], &Platform::host());
        assert!(loaded.as_ref().is_err() || what == "blob is missing" && !loaded.unwrap()[0].unpacked, "{what}");
    }
    assert_eq!(scratch.store.blobs().list().unwrap(), []);
    assert_eq!(std::fs::read_dir(scratch.store.path().join("content/ingest")).unwrap().count(), 0);
}

/// The header of a sparse member in GNU's old form: one byte of data at the beginning of `size`.
fn sparse(name: &str, size: u64) -> Vec<u8> {
    let mut block = [0_u8; 512];
    let mut octal = |at: usize, len: usize, value: u64| {
        block[at..at + len - 1].copy_from_slice(format!("{value:0width$o}", width = len - 1).as_bytes());
    };
    octal(100, 8, 0o644);
    octal(124, 12, 1);
    octal(136, 12, 1);
    octal(386, 12, 0);
    octal(398, 12, 1);
    octal(483, 12, size);
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[156] = b'S';
    block[257..265].copy_from_slice(b"ustar  \0");
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut data = [0; 512];
    data[0] = b'x';
    [block, data].concat()
}

#[test]
fn holes_do_not_fill_the_disk() {
    if !root() {
        return;
    }
    let scratch = scratch();
    let (layout, manifest, ..) = layout();
    let archive = layout.archive(&index_bytes(vec![manifest])).bytes();
    let with = [&sparse("hole", 64 << 20)[..], &archive].concat();
    let error = load(&scratch.store.ingest(), &with[..], &Platform::host()).unwrap_err();
    assert!(error.to_string().contains("sparse"), "{error}");
    // In a layer a hole stays one.
    let bytes = [&sparse("hole", 1 << 30)[..], &[0; 1024]].concat();
    let ingest = scratch.store.ingest();
    let info = ingest.layer(&bytes[..], None, None).unwrap();
    ingest.commit().unwrap();
    let meta = std::fs::metadata(layer_path(&scratch.store, &info.diff_id).join("hole")).unwrap();
    assert_eq!((meta.len(), meta.blocks() < 1000, info.size), (1 << 30, true, 1));
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
    assert!(load(&scratch.store.ingest(), &mut watched, &Platform::host()).is_err(), "no image");
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
