//! The receiving side of the protocol that brings a tree over (fsutil's packets): the sender lists everything in order, the
//! receiver asks for what it does not have, the sender sends it.
//!
//! The sender is hostile: a path is relative and clean, comes after its directory and in order, and every step is made by
//! one name in an open directory, so nothing it names leads out. The order is that of paths compared name by name, which is
//! what makes "not listed" known: whatever is here and was passed over is removed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use buildkit::wire::packet::{Packet, PacketType};
use buildkit::wire::stat::Stat;
use rustix::fs::{FileType, Mode, Timespec, Timestamps};
use sha2::{Digest as _, Sha256};
use sys::path::{Dir, Root};
use tokio::sync::mpsc;
use transfer::{Fingerprint, go};
use types::Kind;

use super::pool::Held;
use crate::error::{Error, Result};
use crate::file::ContentDigests;

/// Files on their way at a time.
const IN_FLIGHT: usize = 64;
/// Most files and directories of one tree.
pub(super) const MAX_ENTRIES: usize = 4_000_000;
/// Most digests of selections that are remembered for one directory.
const MAX_SELECTIONS: usize = 1000;
/// Longest path, as the kernel has it.
const MAX_PATH: usize = 4095;

/// What came.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub files: u64,
    pub bytes: u64,
}

/// What a directory has.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) entries: BTreeMap<Key, Entry>,
    /// Digests of files, by their paths.
    digests: Mutex<HashMap<PathBuf, [u8; 32]>>,
    /// Digests of what steps took, as long as nothing changes.
    selections: Mutex<HashMap<String, [u8; 32]>>,
}

/// A path whose order is that of its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(Vec<Box<[u8]>>);

impl Key {
    /// Whether it is the key of a path.
    pub(super) fn is(&self, path: &str) -> bool {
        self.0.iter().map(AsRef::as_ref).eq(path.split('/').map(str::as_bytes))
    }

    pub(super) fn of(path: &str) -> Self {
        Self(path.split('/').map(|name| name.as_bytes().into()).collect())
    }

    fn path(&self) -> PathBuf {
        self.0.iter().map(|name| OsStr::from_bytes(name)).collect()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) stat: Stat,
    /// Of the client's file, where it was taken from the client's directory and did not change meanwhile.
    pub(super) origin: Option<Fingerprint>,
}

impl Index {
    /// The digest of a selection that was computed since something changed.
    pub(super) fn remembered(&self, selection: &str) -> Option<[u8; 32]> {
        self.selections.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(selection).copied()
    }

    pub(super) fn remember(&self, selection: String, digest: [u8; 32]) {
        let mut selections = self.selections.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if selections.len() < MAX_SELECTIONS {
            selections.insert(selection, digest);
        }
    }
}

impl ContentDigests for Index {
    fn known(&self, path: &Path, _: &rustix::fs::Stat) -> Option<[u8; 32]> {
        let digests = self.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        digests.get(path).copied()
    }

    fn learnt(&self, path: &Path, _: &rustix::fs::Stat, digest: [u8; 32]) {
        let mut digests = self.digests.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        digests.insert(path.to_owned(), digest);
    }
}

/// The sender stopped in the middle.
const ENDED: &str = "the client stopped sending files before all had come";

pub(super) fn is_ended(error: &Error) -> bool {
    error.to_string() == ENDED
}

/// Makes the directory what the sender lists. Blocking.
pub(super) fn receive(
    held: Held,
    mut packets: mpsc::Receiver<Packet>,
    requests: &mpsc::Sender<Packet>,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Held, Counts)> {
    let mut receiver = Receiver::new(held)?;
    while let Some(packet) = packets.blocking_recv() {
        let kind = PacketType::try_from(packet.r#type)
            .map_err(|_| bad(format!("a packet of type {}, which is none", packet.r#type)))?;
        match kind {
            PacketType::Stat => match packet.stat {
                Some(stat) if !stat.path.is_empty() || stat.mode != 0 => receiver.listed(stat, None)?,
                _ => receiver.end_of_list()?,
            },
            PacketType::Data => receiver.data(packet.id, &packet.data, moved)?,
            PacketType::Fin => {
                if !receiver.done() {
                    return Err(bad("the end before all files had come"));
                }
                receiver.finished = true;
                break;
            }
            PacketType::Err => {
                let text = String::from_utf8_lossy(&packet.data).chars().take(1000).collect::<String>();
                return Err(Error::new(Kind::Invalid, format!("error from sender: {text}")));
            }
            PacketType::Req => return Err(bad("a request, which is not the sender's to make")),
        }
        receiver.ask(requests)?;
    }
    if !receiver.finished && !receiver.done() {
        return Err(Error::new(Kind::Unavailable, ENDED));
    }
    receiver.end()
}

fn bad(what: impl std::fmt::Display) -> Error {
    Error::new(Kind::Invalid, format!("the client sent {what}"))
}

pub(super) struct Receiver {
    held: Held,
    root: Root,
    /// What was here and has not been listed yet.
    pub(super) before: BTreeMap<Key, Entry>,
    now: BTreeMap<Key, Entry>,
    digests: HashMap<PathBuf, [u8; 32]>,
    last: Option<Key>,
    /// Number of the next listed entry.
    number: u32,
    /// Files to ask for.
    waiting: VecDeque<(u32, Key)>,
    /// Files that were asked for.
    open: HashMap<u32, Open>,
    /// Further names of files, with those they have already: made when the files are there.
    links: Vec<(PathBuf, PathBuf)>,
    /// Directories that get their times when everything in them is there.
    directories: Vec<Key>,
    counts: Counts,
    /// Kept as long as nothing changes.
    selections: HashMap<String, [u8; 32]>,
    listed: bool,
    finished: bool,
}

struct Open {
    key: Key,
    file: File,
    digest: Sha256,
    size: u64,
}

impl Receiver {
    pub(super) fn new(mut held: Held) -> Result<Self> {
        let index = std::mem::take(&mut held.index);
        let root =
            Root::open(&held.path).map_err(|e| Error::io("cannot open the directory for a client's files", e))?;
        Ok(Self {
            held,
            root,
            before: index.entries,
            now: BTreeMap::new(),
            digests: index.digests.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
            last: None,
            number: 0,
            waiting: VecDeque::new(),
            open: HashMap::new(),
            links: Vec::new(),
            directories: Vec::new(),
            counts: Counts::default(),
            selections: index.selections.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
            listed: false,
            finished: false,
        })
    }

    /// The directory as it is now, all files being there.
    pub(super) fn end(mut self) -> Result<(Held, Counts)> {
        self.finish()?;
        let index =
            Index { entries: self.now, digests: Mutex::new(self.digests), selections: Mutex::new(self.selections) };
        self.held.index = index;
        Ok((self.held, self.counts))
    }

    /// An entry of the list.
    pub(super) fn listed(&mut self, stat: Stat, origin: Option<Fingerprint>) -> Result<()> {
        if self.listed {
            return Err(bad("an entry after the end of its list"));
        }
        if self.now.len() >= MAX_ENTRIES {
            return Err(bad(format!("more than {MAX_ENTRIES} files")));
        }
        let number = self.number;
        self.number += 1;
        let key = check_path(&stat.path)?;
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(bad(format!("\"{}\" out of order", shown(&stat.path))));
        }
        if key.0.len() > 1 {
            let parent = Key(key.0[..key.0.len() - 1].to_vec());
            let directory = self.now.get(&parent).is_some_and(|entry| entry.stat.mode & go::DIRECTORY != 0);
            if !directory {
                return Err(bad(format!("\"{}\" without the directory it is in", shown(&stat.path))));
            }
        }
        self.last = Some(key.clone());
        self.drop_before(&key)?;
        let old = self.before.remove(&key);
        let entry = Entry { stat, origin };
        match &old {
            Some(old) if *old == entry && entry.stat.linkname.is_empty() | (entry.stat.mode & go::SYMLINK != 0) => {}
            _ => self.make(number, &key, &entry.stat, old.as_ref())?,
        }
        if entry.stat.mode & go::DIRECTORY != 0 {
            self.directories.push(key.clone());
        }
        self.now.insert(key, entry);
        Ok(())
    }

    /// Removes what was here and lies before `key` in the order, or all of it.
    fn drop_before(&mut self, key: &Key) -> Result<()> {
        while let Some(first) = self.before.first_entry() {
            if first.key() >= key {
                return Ok(());
            }
            let (gone, _) = first.remove_entry();
            self.remove(&gone)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Result<()> {
        let path = key.path();
        self.selections.clear();
        // What was in a directory goes with it, and comes next in the order.
        while let Some(next) = self.before.first_entry() {
            if !next.key().0.starts_with(&key.0) {
                break;
            }
            let (inside, _) = next.remove_entry();
            self.digests.remove(&inside.path());
        }
        self.digests.remove(&path);
        match self.root.remove_tree(Path::new("/").join(&path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(&path, e)),
            _ => Ok(()),
        }
    }

    fn make(&mut self, number: u32, key: &Key, stat: &Stat, old: Option<&Entry>) -> Result<()> {
        let path = key.path();
        self.selections.clear();
        let fail = |e| failed(&path, e);
        let both_directories =
            stat.mode & go::DIRECTORY != 0 && old.is_some_and(|old| old.stat.mode & go::DIRECTORY != 0);
        if old.is_some() && !both_directories {
            self.remove(key)?;
        }
        let (dir, name) = self.place(&path)?;
        let mode = permissions(stat.mode);
        match stat.mode & go::KIND {
            go::DIRECTORY => {
                if !both_directories {
                    dir.mkdir(&name, Mode::RWXU).map_err(fail)?;
                }
            }
            go::SYMLINK => dir.symlink(OsStr::new(&stat.linkname), &name).map_err(fail)?,
            go::PIPE => dir.mknod(&name, FileType::Fifo, mode, 0).map_err(fail)?,
            go::SOCKET => return Err(bad(format!("\"{}\", a socket", shown(&stat.path)))),
            kind if kind & go::DEVICE != 0 => {
                let kind =
                    if stat.mode & go::CHARACTER != 0 { FileType::CharacterDevice } else { FileType::BlockDevice };
                let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
                let device = rustix::fs::makedev(number(stat.devmajor), number(stat.devminor));
                // Device 0:0 is how overlayfs says that a name is gone.
                if device == 0 {
                    return Err(bad(format!("\"{}\", a device without a number", shown(&stat.path))));
                }
                dir.mknod(&name, kind, mode, device).map_err(fail)?;
            }
            0 if !stat.linkname.is_empty() => {
                let target = check_path(stat.linkname.trim_start_matches('/'))?;
                if self.now.get(&target).is_none_or(|entry| entry.stat.mode & go::KIND != 0) {
                    return Err(bad(format!("\"{}\", a link to what is no file before it", shown(&stat.path))));
                }
                // The file may have to wait for its turn.
                self.links.push((target.path(), path));
                return Ok(());
            }
            0 => {
                self.waiting.push_back((number, key.clone()));
                return Ok(());
            }
            _ => return Err(bad(format!("\"{}\", of a kind that is none", shown(&stat.path)))),
        }
        finish(&dir, &name, stat).map_err(fail)
    }

    fn place(&self, path: &Path) -> Result<(Dir, std::ffi::OsString)> {
        self.root.parent(Path::new("/").join(path)).map_err(|e| failed(path, e))
    }

    /// Asks for files while there is room.
    fn ask(&mut self, requests: &mpsc::Sender<Packet>) -> Result<()> {
        let send = |packet| requests.blocking_send(packet).map_err(|_| Error::new(Kind::Unavailable, ENDED));
        while self.open.len() < IN_FLIGHT {
            let Some((id, key)) = self.waiting.pop_front() else { break };
            let path = key.path();
            let (dir, name) = self.place(&path)?;
            let file = dir.create_file(&name, Mode::RUSR | Mode::WUSR).map_err(|e| failed(&path, e))?;
            self.open.insert(id, Open { key, file: file.into(), digest: Sha256::new(), size: 0 });
            send(Packet { r#type: PacketType::Req as i32, id, ..Packet::default() })?;
        }
        if self.done() && !self.finished {
            self.finished = true;
            send(Packet { r#type: PacketType::Fin as i32, ..Packet::default() })?;
        }
        Ok(())
    }

    /// The content of the file that was listed last, if it is wanted, from the client's directory. A file that changes
    /// meanwhile is taken again the next time.
    pub(super) fn copy(
        &mut self,
        found: &transfer::Found<'_>,
        origin: &Fingerprint,
        moved: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<()> {
        let Some((_, key)) = self.waiting.pop_front() else { return Ok(()) };
        let path = key.path();
        let fail = |e| failed(&path, e);
        let read = |e| Error::io(format_args!("cannot read {} of the build context", path.display()), e);
        let stat = |file: &File| rustix::fs::fstat(file).map(|stat| Fingerprint::of(&stat)).map_err(|e| read(e.into()));
        let (dir, name) = self.place(&path)?;
        let to: File = dir.create_file(&name, Mode::RUSR | Mode::WUSR).map_err(fail)?.into();
        let (mut same, mut bytes) = (false, 0);
        match found.dir.open_file(found.name) {
            Ok(from) => {
                let mut from = File::from(from);
                same = stat(&from)? == *origin;
                // Shared blocks where the file system has them; else within the kernel.
                bytes = match rustix::fs::ioctl_ficlone(&to, &from) {
                    Ok(()) => from.metadata().map_err(read)?.len(),
                    Err(_) => std::io::copy(&mut from, &mut &to).map_err(read)?,
                };
                same &= stat(&from)? == *origin;
            }
            // Removed since it was listed.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(read(e)),
        }
        let Some(entry) = self.now.get_mut(&key) else { return Ok(()) };
        if !same {
            entry.origin = None;
        }
        finish(&dir, &name, &entry.stat).map_err(fail)?;
        self.counts.files += 1;
        self.counts.bytes += bytes;
        moved(bytes);
        Ok(())
    }

    fn data(&mut self, id: u32, data: &[u8], moved: &(dyn Fn(u64) + Send + Sync)) -> Result<()> {
        let open = self.open.get_mut(&id).ok_or_else(|| bad(format!("data for {id}, which was not asked for")))?;
        if !data.is_empty() {
            open.file.write_all(data).map_err(|e| failed(&open.key.path(), e))?;
            open.digest.update(data);
            open.size += data.len() as u64;
            self.counts.bytes += data.len() as u64;
            moved(data.len() as u64);
            return Ok(());
        }
        let Some(Open { key, digest, size, .. }) = self.open.remove(&id) else { return Ok(()) };
        let path = key.path();
        let (dir, name) = self.place(&path)?;
        let Some(entry) = self.now.get_mut(&key) else { return Ok(()) };
        // A file that changed while it was sent is what came; next time it is sent again.
        if u64::try_from(entry.stat.size).ok() != Some(size) {
            entry.stat.mod_time = -1;
        }
        finish(&dir, &name, &entry.stat).map_err(|e| failed(&path, e))?;
        self.digests.insert(path, digest.finalize().into());
        self.counts.files += 1;
        Ok(())
    }

    pub(super) fn end_of_list(&mut self) -> Result<()> {
        self.listed = true;
        while let Some((key, _)) = self.before.pop_first() {
            self.remove(&key)?;
        }
        Ok(())
    }

    fn done(&self) -> bool {
        self.listed && self.waiting.is_empty() && self.open.is_empty()
    }

    /// Makes links, and gives directories their times, the innermost first.
    fn finish(&mut self) -> Result<()> {
        for (target, path) in std::mem::take(&mut self.links) {
            let ((from, existing), (dir, name)) = (self.place(&target)?, self.place(&path)?);
            dir.link_from(&from, &existing, &name).map_err(|e| failed(&path, e))?;
            if let Some(digest) = self.digests.get(&target).copied() {
                self.digests.insert(path, digest);
            }
        }
        for key in std::mem::take(&mut self.directories).iter().rev() {
            let path = key.path();
            let (dir, name) = self.place(&path)?;
            if let Some(entry) = self.now.get(key) {
                finish(&dir, &name, &entry.stat).map_err(|e| failed(&path, e))?;
            }
        }
        Ok(())
    }
}

fn failed(path: &Path, error: std::io::Error) -> Error {
    Error::io(format_args!("cannot store the client's file \"{}\"", path.display()), error)
}

fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

fn check_path(path: &str) -> Result<Key> {
    let clean = !path.is_empty()
        && path.len() <= MAX_PATH
        && path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'));
    if clean { Ok(Key::of(path)) } else { Err(bad(format!("\"{}\", which is no clean relative path", shown(path)))) }
}

fn permissions(mode: u32) -> Mode {
    let mut bits = mode & 0o777;
    for (flag, bit) in [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)] {
        if mode & flag != 0 {
            bits |= bit;
        }
    }
    Mode::from_raw_mode(bits)
}

/// Owner, permissions, attributes and time of what is there now.
fn finish(dir: &Dir, name: &OsStr, stat: &Stat) -> std::io::Result<()> {
    dir.chown(name, stat.uid, stat.gid)?;
    if stat.mode & go::SYMLINK == 0 {
        dir.chmod(name, permissions(stat.mode))?;
    }
    for (key, value) in &stat.xattrs {
        // What overlayfs keeps for itself is not the sender's to set.
        if key.starts_with("trusted.") || key.contains(".overlay.") {
            continue;
        }
        dir.set_xattr(name, OsStr::new(key), value)?;
    }
    let time =
        Timespec { tv_sec: stat.mod_time.div_euclid(1_000_000_000), tv_nsec: stat.mod_time.rem_euclid(1_000_000_000) };
    dir.set_times(name, &Timestamps { last_access: time, last_modification: time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32, size: i64) -> Packet {
        let stat = Stat { path: path.into(), mode, size, mod_time: 1_000_000_000, ..Stat::default() };
        Packet { r#type: PacketType::Stat as i32, stat: Some(stat), ..Packet::default() }
    }

    fn data(id: u32, text: &str) -> Packet {
        Packet { r#type: PacketType::Data as i32, id, data: text.into(), ..Packet::default() }
    }

    fn end_of_list() -> Packet {
        Packet { r#type: PacketType::Stat as i32, ..Packet::default() }
    }

    fn fin() -> Packet {
        Packet { r#type: PacketType::Fin as i32, ..Packet::default() }
    }

    /// What a sender of these packets brings about, and what it is asked for.
    fn exchange(held: Held, packets: Vec<Packet>) -> (Result<(Held, Counts)>, Vec<u32>) {
        let (to, from) = mpsc::channel(packets.len().max(1));
        let (asked, mut questions) = mpsc::channel(1000);
        for packet in packets {
            to.try_send(packet).unwrap();
        }
        drop(to);
        let received = receive(held, from, &asked, &|_| {});
        let mut ids = Vec::new();
        while let Ok(packet) = questions.try_recv() {
            if packet.r#type == PacketType::Req as i32 {
                ids.push(packet.id);
            }
        }
        (received, ids)
    }

    fn empty(path: &Path) -> Held {
        Held::at(path)
    }

    #[test]
    fn only_what_changed_is_asked_for_and_what_is_gone_goes() {
        let dir = tempfile::tempdir().unwrap();
        let first = vec![
            stat("d", go::DIRECTORY | 0o755, 0),
            stat("d/a", 0o644, 1),
            stat("d/b", 0o644, 1),
            stat("e", 0o600, 1),
            end_of_list(),
            data(1, "a"),
            data(1, ""),
            data(2, "b"),
            data(2, ""),
            data(3, "e"),
            data(3, ""),
            fin(),
        ];
        let (held, asked) = exchange(empty(dir.path()), first);
        let (held, counts) = held.unwrap();
        assert_eq!((asked, counts.files, counts.bytes), (vec![1, 2, 3], 3, 3));
        assert_eq!(std::fs::read(dir.path().join("d/b")).unwrap(), b"b");
        let second = vec![
            stat("d", go::DIRECTORY | 0o755, 0),
            stat("d/a", 0o644, 1),
            stat("e", 0o640, 2),
            end_of_list(),
            data(2, "ee"),
            data(2, ""),
            fin(),
        ];
        let (held, asked) = exchange(held, second);
        let (held, _) = held.unwrap();
        assert_eq!(asked, [2]);
        assert!(!dir.path().join("d/b").exists());
        assert_eq!(std::fs::read(dir.path().join("e")).unwrap(), b"ee");
        let stat = rustix::fs::stat(dir.path().join("e")).unwrap();
        let known = |path: &str| held.index.known(Path::new(path), &stat);
        assert_eq!(known("e"), Some(Sha256::digest(b"ee").into()));
        assert_eq!(known("d/b"), None);
    }

    #[test]
    fn a_link_to_a_file_that_has_still_to_come_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let count = u32::try_from(IN_FLIGHT).unwrap() + 2;
        let mut packets: Vec<_> = (0..count).map(|number| stat(&format!("a{number:03}"), 0o644, 1)).collect();
        let last = format!("a{:03}", count - 1);
        let mut link = stat("b", 0o644, 0);
        link.stat.as_mut().unwrap().linkname = last.clone();
        packets.extend([link, end_of_list()]);
        packets.extend((0..count).flat_map(|number| [data(number, "x"), data(number, "")]));
        packets.push(fin());
        let (held, _) = exchange(empty(dir.path()), packets).0.unwrap();
        let stat = |name: &str| rustix::fs::stat(dir.path().join(name)).unwrap();
        assert_eq!((stat("b").st_ino, stat("b").st_nlink), (stat(&last).st_ino, 2));
        assert_eq!(held.index.known(Path::new("b"), &stat("b")), Some(Sha256::digest(b"x").into()));
    }

    #[test]
    fn a_directory_that_becomes_a_file_loses_what_was_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let first =
            vec![stat("x", go::DIRECTORY | 0o755, 0), stat("x/y", go::DIRECTORY | 0o755, 0), end_of_list(), fin()];
        let held = exchange(empty(dir.path()), first).0.unwrap().0;
        let second = vec![stat("x", 0o644, 1), end_of_list(), data(0, "f"), data(0, ""), fin()];
        exchange(held, second).0.unwrap();
        assert_eq!(std::fs::read(dir.path().join("x")).unwrap(), b"f");
    }

    #[test]
    fn hostile_senders_are_refused() {
        let link = |path: &str, target: &str, mode: u32| {
            let mut packet = stat(path, mode, 0);
            packet.stat.as_mut().unwrap().linkname = target.into();
            packet
        };
        let outside = tempfile::tempdir().unwrap();
        let secret = outside.path().join("secret");
        std::fs::write(&secret, "kept").unwrap();
        let target = outside.path().to_str().unwrap();
        for (packets, words) in [
            (vec![stat("../x", 0o644, 1)], "no clean relative path"),
            (vec![stat("/x", 0o644, 1)], "no clean relative path"),
            (vec![stat("a//x", 0o644, 1)], "no clean relative path"),
            (vec![stat("a/./x", 0o644, 1)], "no clean relative path"),
            (vec![stat("a/x", 0o644, 1)], "without the directory"),
            (vec![stat("b", 0o644, 1), stat("a", 0o644, 1)], "out of order"),
            (vec![stat("a", 0o644, 1), stat("a", 0o644, 1)], "out of order"),
            // A symlink is no directory to put files into.
            (vec![link("a", target, go::SYMLINK | 0o777), stat("a/secret", 0o644, 1)], "without the directory"),
            (vec![link("a", "../../etc/shadow", 0o644)], "no clean relative path"),
            (vec![link("a", "b", 0o644)], "a link to what is no file"),
            (vec![link("a", target, go::SYMLINK | 0o777), link("b", "a/secret", 0o644)], "a link to what is no file"),
            (vec![stat("a", go::SOCKET | 0o644, 0)], "a socket"),
            (vec![stat("a", go::DEVICE | go::CHARACTER, 0)], "a device without a number"),
            (vec![data(7, "x")], "not asked for"),
            (vec![stat("a", 0o644, 1), end_of_list(), fin()], "before all files had come"),
            (vec![end_of_list(), stat("a", 0o644, 1)], "after the end"),
            (vec![Packet { r#type: 9, ..Packet::default() }], "type 9"),
            (vec![stat("a", 0o644, 1), end_of_list()], ENDED),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let error = exchange(empty(dir.path()), packets).0.unwrap_err().to_string();
            assert!(error.contains(words), "{error}: {words}");
            assert_eq!(std::fs::read(&secret).unwrap(), b"kept");
        }
    }
}
