//! Results that the builder sends: trees into directories, archives into files.
//!
//! A tree is as hostile as what made it. A path is relative and clean, and what is there already is replaced, never written
//! through; links that earlier results left in the directory do not lead out of it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use buildkit::server::Messages;
use buildkit::wire::filesync::Sent;
use buildkit::wire::packet::{Packet, PacketType};
use buildkit::wire::stat::Stat;
use rustix::fs::{FileType, Mode, Timespec, Timestamps};
use sys::path::{Dir, Root};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use super::{Offer, messages, pump};
use crate::build::outputs::Target;
use crate::term::output;

/// Metadata that names the output, by its number.
const OUTPUT: &str = "buildkit-attachable-exporter-id";
/// Most files of one tree.
const MAX_FILES: u32 = 4_000_000;

pub(super) fn receive(offer: &Offer, request: Request<Streaming<Sent>>) -> Result<Response<Messages<Sent>>, Status> {
    let number =
        request.metadata().get(OUTPUT).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let target = match number {
        Some(number) => offer.targets.get(&number),
        // Builders that know of one output only do not number it.
        None if offer.targets.len() == 1 => offer.targets.values().next(),
        None => None,
    };
    let target = target.cloned().ok_or_else(|| Status::not_found("there is no such output"))?;
    let incoming = pump(request.into_inner());
    let (sender, outgoing) = mpsc::channel::<Sent>(256);
    let (failed, failure) = tokio::sync::oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let received = match &target {
            Target::Directory(path) => directory(path, incoming, &sender),
            Target::File(path) => file(path, incoming),
            Target::Stdout => bytes(incoming, |data| output::write_all(rustix::stdio::stdout(), data)),
        };
        let place = match &target {
            Target::Directory(path) | Target::File(path) => path.display().to_string(),
            Target::Stdout => "standard output".to_owned(),
        };
        drop(sender);
        if let Err(error) = received {
            // Nobody waits for it when the builder has left.
            let _ = failed.send(Status::unknown(format!("cannot write the result to {place}: {error}")));
        }
    });
    // The stream's end is its success: an error has to come before it.
    let answers = futures_util::StreamExt::chain(
        messages(outgoing),
        futures_util::StreamExt::filter_map(futures_util::stream::once(failure), |failure| async {
            failure.ok().map(Err)
        }),
    );
    Ok(Response::new(Box::pin(answers)))
}

/// An archive beside its place, which it gets when it is whole.
fn file(path: &Path, incoming: mpsc::Receiver<Sent>) -> io::Result<()> {
    // What is no plain file, such as a pipe or /dev/null, is written to as it is.
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        let mut file = File::options().write(true).open(path)?;
        return bytes(incoming, |data| file.write_all(data));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(parent)?;
    bytes(incoming, |data| file.write_all(data))?;
    file.persist(path)?;
    Ok(())
}

fn bytes(mut incoming: mpsc::Receiver<Sent>, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    while let Some(message) = incoming.blocking_recv() {
        write(&message.bytes.data)?;
    }
    Ok(())
}

/// Bits of Go's `FileMode`.
mod go {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const DEVICE: u32 = 1 << 26;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const CHARACTER: u32 = 1 << 21;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const KIND: u32 = DIRECTORY | SYMLINK | DEVICE | PIPE | (1 << 24);
}

struct Tree<'a> {
    root: Root,
    answers: &'a mpsc::Sender<Sent>,
    /// Files on their way, by their numbers.
    open: HashMap<u32, (File, PathBuf, Stat)>,
    /// Directories get their modes and times when everything in them is there.
    directories: Vec<(PathBuf, Stat)>,
    number: u32,
    listed: bool,
    finished: bool,
}

fn directory(path: &Path, mut incoming: mpsc::Receiver<Sent>, answers: &mpsc::Sender<Sent>) -> io::Result<()> {
    std::fs::create_dir_all(path)?;
    let mut tree = Tree {
        root: Root::open(path)?,
        answers,
        open: HashMap::new(),
        directories: Vec::new(),
        number: 0,
        listed: false,
        finished: false,
    };
    while let Some(message) = incoming.blocking_recv() {
        let packet = message.packet;
        match PacketType::try_from(packet.r#type) {
            Ok(PacketType::Stat) => match packet.stat {
                Some(stat) if !stat.path.is_empty() => tree.listed(stat)?,
                _ => tree.listed = true,
            },
            Ok(PacketType::Data) => tree.data(packet.id, &packet.data)?,
            Ok(PacketType::Fin) => break,
            Ok(PacketType::Err) => return Err(io::Error::other(String::from_utf8_lossy(&packet.data).into_owned())),
            _ => return Err(bad("a packet of a kind that is none")),
        }
        if tree.listed && tree.open.is_empty() && !tree.finished {
            tree.finished = true;
            tree.say(PacketType::Fin, 0)?;
        }
    }
    if !tree.finished {
        return Err(bad("an end before all files had come"));
    }
    for (path, stat) in std::mem::take(&mut tree.directories).iter().rev() {
        let (dir, name) = tree.place(path)?;
        finish(&dir, &name, stat)?;
    }
    Ok(())
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the builder sent {what}"))
}

impl Tree<'_> {
    fn say(&self, kind: PacketType, id: u32) -> io::Result<()> {
        let packet = Packet { r#type: kind as i32, id, ..Packet::default() };
        let sent = self.answers.blocking_send(Sent { packet, ..Sent::default() });
        sent.map_err(|_| bad("nothing more"))
    }

    fn place(&self, path: &Path) -> io::Result<(Dir, OsString)> {
        self.root.parent(Path::new("/").join(path))
    }

    fn listed(&mut self, stat: Stat) -> io::Result<()> {
        let number = self.number;
        self.number += 1;
        if self.listed || number >= MAX_FILES {
            return Err(bad("more files than it said"));
        }
        let path = clean(&stat.path)?;
        let (dir, name) = self.place(&path)?;
        let there = dir.lstat(&name).ok().map(|found| FileType::from_raw_mode(found.st_mode));
        if stat.mode & go::DIRECTORY != 0 {
            match there {
                Some(FileType::Directory) => {}
                Some(_) => {
                    dir.unlink(&name)?;
                    dir.mkdir(&name, Mode::RWXU)?;
                }
                None => dir.mkdir(&name, Mode::RWXU)?,
            }
            self.directories.push((path, stat));
            return Ok(());
        }
        match there {
            Some(FileType::Directory) => dir.remove_tree(&name)?,
            Some(_) => dir.unlink(&name)?,
            None => {}
        }
        let mode = permissions(stat.mode);
        match stat.mode & go::KIND {
            0 if stat.linkname.is_empty() => {
                let file = dir.create_file(&name, Mode::RUSR | Mode::WUSR)?;
                self.open.insert(number, (file.into(), path, stat));
                return self.say(PacketType::Req, number);
            }
            0 => {
                let (from, existing) = self.place(&clean(stat.linkname.trim_start_matches('/'))?)?;
                return dir.link_from(&from, &existing, &name);
            }
            go::SYMLINK => dir.symlink(std::ffi::OsStr::new(&stat.linkname), &name)?,
            go::PIPE => dir.mknod(&name, FileType::Fifo, mode, 0)?,
            kind if kind & go::DEVICE != 0 => {
                let kind =
                    if stat.mode & go::CHARACTER != 0 { FileType::CharacterDevice } else { FileType::BlockDevice };
                let part = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
                dir.mknod(&name, kind, mode, rustix::fs::makedev(part(stat.devmajor), part(stat.devminor)))?;
            }
            _ => return Err(bad("a file of a kind that is none")),
        }
        finish(&dir, &name, &stat)
    }

    fn data(&mut self, id: u32, data: &[u8]) -> io::Result<()> {
        let (file, ..) = self.open.get_mut(&id).ok_or_else(|| bad("data that was not asked for"))?;
        if !data.is_empty() {
            return file.write_all(data);
        }
        let Some((_, path, stat)) = self.open.remove(&id) else { return Ok(()) };
        let (dir, name) = self.place(&path)?;
        finish(&dir, &name, &stat)
    }
}

fn clean(path: &str) -> io::Result<PathBuf> {
    let clean =
        !path.is_empty() && path.split('/').all(|name| !matches!(name, "" | "." | "..") && !name.contains('\0'));
    if clean { Ok(PathBuf::from(path)) } else { Err(bad("a path that is not clean and relative")) }
}

fn permissions(mode: u32) -> Mode {
    let special = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
    let special = special.iter().filter(|(flag, _)| mode & flag != 0).fold(0, |all, (_, bit)| all | bit);
    Mode::from_raw_mode(mode & 0o777 | special)
}

/// Mode, attributes and time; the owner is whoever builds.
fn finish(dir: &Dir, name: &std::ffi::OsStr, stat: &Stat) -> io::Result<()> {
    if stat.mode & go::SYMLINK == 0 {
        dir.chmod(name, permissions(stat.mode))?;
    }
    for (key, value) in &stat.xattrs {
        // Only root may set others, and few file systems have all.
        if key.starts_with("user.") {
            let _ = dir.set_xattr(name, std::ffi::OsStr::new(key), value);
        }
    }
    let time =
        Timespec { tv_sec: stat.mod_time.div_euclid(1_000_000_000), tv_nsec: stat.mod_time.rem_euclid(1_000_000_000) };
    dir.set_times(name, &Timestamps { last_access: time, last_modification: time })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32) -> Packet {
        let stat = Stat { path: path.to_owned(), mode, mod_time: 1_000_000_000, ..Stat::default() };
        Packet { r#type: PacketType::Stat as i32, stat: Some(stat), ..Packet::default() }
    }

    fn linked(path: &str, mode: u32, target: &str) -> Packet {
        let mut packet = stat(path, mode);
        packet.stat.as_mut().unwrap().linkname = target.to_owned();
        packet
    }

    fn data(id: u32, text: &str) -> Packet {
        Packet { r#type: PacketType::Data as i32, id, data: text.into(), ..Packet::default() }
    }

    fn plain(kind: PacketType) -> Packet {
        Packet { r#type: kind as i32, ..Packet::default() }
    }

    fn received(path: &Path, packets: Vec<Packet>) -> io::Result<()> {
        let (to, from) = mpsc::channel(100);
        let (answers, _keep) = mpsc::channel(100);
        for packet in packets {
            to.try_send(Sent { packet, ..Sent::default() }).unwrap();
        }
        drop(to);
        directory(path, from, &answers)
    }

    #[test]
    fn trees_are_merged_and_replace_what_is_there() {
        use std::os::unix::fs::{MetadataExt, symlink};
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| dir.path().join(path);
        std::fs::write(outside.path().join("kept"), "kept").unwrap();
        symlink(outside.path().join("kept"), at("file")).unwrap();
        std::fs::create_dir(at("d")).unwrap();
        std::fs::write(at("d/other"), "stays").unwrap();
        let packets = vec![
            stat("d", go::DIRECTORY | 0o750),
            stat("d/new", 0o640),
            stat("file", go::SETUID | 0o755),
            linked("hard", 0o755, "file"),
            linked("link", go::SYMLINK | 0o777, "/etc/passwd"),
            plain(PacketType::Stat),
            data(1, "n"),
            data(1, ""),
            data(2, "f"),
            data(2, ""),
            plain(PacketType::Fin),
        ];
        received(dir.path(), packets).unwrap();
        assert_eq!(std::fs::read_to_string(at("d/other")).unwrap(), "stays");
        assert_eq!(std::fs::read_to_string(at("hard")).unwrap(), "f");
        assert_eq!(std::fs::metadata(at("file")).unwrap().mode() & 0o7777, 0o4755);
        assert_eq!(std::fs::metadata(at("d")).unwrap().mode() & 0o7777, 0o750);
        assert_eq!(std::fs::metadata(at("d/new")).unwrap().mtime(), 1);
        assert_eq!(std::fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(std::fs::read_to_string(outside.path().join("kept")).unwrap(), "kept");
    }

    #[test]
    fn hostile_trees_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        let target = outside.path().to_str().unwrap();
        for packets in [
            vec![stat("../x", 0o644)],
            vec![stat("/x", 0o644)],
            vec![stat("a/./x", 0o644)],
            vec![linked("a", go::SYMLINK | 0o777, target), stat("a/x", 0o644)],
            vec![linked("a", 0o644, "../../etc/shadow")],
            vec![data(3, "x")],
            vec![stat("a", 0o644), plain(PacketType::Stat), plain(PacketType::Fin)],
        ] {
            let dir = tempfile::tempdir().unwrap();
            let text = format!("{packets:?}");
            received(dir.path(), packets).expect_err(&text);
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        }
    }
}
