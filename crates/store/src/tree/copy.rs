//! `docker cp`: status, archive and extraction of one path of a container.
//!
//! The path is the client's and the tree the container's, which may be running and changing it: every
//! resolution is one confined call, and what comes out of one is used, never looked up again.

use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};

use layer::Decompress;
use layer::tar::{Limits, Reader};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use sys::path::Root;

use super::apply::{ApplyOptions, apply};
use super::archive::Archiver;
use crate::content::ChunkReader;
use crate::error::{Error, Result};

/// Status of a path, the content of `X-Docker-Container-Path-Stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// Last component of the path asked for.
    pub name: String,
    /// Size in bytes.
    pub size: i64,
    /// Mode in the bits of Go's `os.FileMode`.
    pub mode: u32,
    /// Modification time: seconds since the epoch and nanoseconds.
    pub mtime: (i64, u32),
    /// Where a symlink leads, resolved inside the tree; empty for everything else.
    pub link_target: String,
}

/// How an archive is extracted into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtractOptions {
    /// Refuse a directory in the place of something else, and the reverse.
    pub no_overwrite_dir_non_dir: bool,
    /// Owner for everything, instead of the archive's.
    pub owner: Option<(u32, u32)>,
}

/// Status of `path`; a last symlink is followed only when the path ends in `/` or `/.`.
///
/// # Errors
/// [`Error::NoPath`], [`Error::Io`].
pub fn stat_path(root: &Root, path: &str) -> Result<PathStat> {
    let (found, stat) = locate(root, path)?;
    let link_target = if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        let target = root.canonicalize(&found).map_err(|e| io_error(path, e))?;
        target.to_string_lossy().into_owned()
    } else {
        String::new()
    };
    Ok(PathStat {
        name: base_name(path),
        size: stat.st_size,
        mode: go_mode(stat.st_mode),
        mtime: (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        link_target,
    })
}

/// Writes the archive of `path` and says what it is. Members are named by the path's last component, or by
/// `.` when it ends in `/.`.
///
/// # Errors
/// [`Error::NoPath`], [`Error::Io`], [`Error::Tar`].
pub fn archive_path(root: &Root, path: &str, out: impl Write) -> Result<PathStat> {
    let (found, stat) = locate(root, path)?;
    let described = stat_path(root, path)?;
    let mut archiver = Archiver::new(out);
    let name = base_name(path);
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let dir = root.open_dir(&found).map_err(|e| io_error(path, e))?;
        let prefix = if name == "/" { b"/".to_vec() } else { format!("{name}/").into_bytes() };
        archiver.directory(dir, &prefix)?;
    } else {
        let (dir, last) = root.parent(&found).map_err(|e| io_error(path, e))?;
        archiver.member(&dir, &last, name.as_bytes())?;
    }
    archiver.finish()?;
    Ok(described)
}

/// Applies the archive in `reader`, compressed or not, to the directory `path`. Links in it and in the
/// tree are resolved in the tree.
///
/// # Errors
/// [`Error::NoPath`], [`Error::NotADirectory`], and those of [`apply`].
pub fn extract(root: &Root, path: &str, reader: impl Read, options: ExtractOptions) -> Result<()> {
    let base = root.canonicalize(path).map_err(|e| io_error(path, e))?;
    match root.open_dir(&base) {
        Ok(_) => {}
        Err(e) if Errno::from_io_error(&e) == Some(Errno::NOTDIR) => return Err(Error::NotADirectory),
        Err(e) => return Err(io_error(path, e)),
    }
    let limits = Limits::default();
    let reader = Decompress::new(reader, limits.total_bytes.saturating_mul(2)).map_err(|e| Error::Tar(e.into()))?;
    let mut archive = Reader::new(reader, limits);
    let options = ApplyOptions {
        base: base.strip_prefix("/").map(Path::to_owned).unwrap_or_default(),
        no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir,
        owner: options.owner,
        ..ApplyOptions::default()
    };
    apply(root, &mut archive, &options)?;
    archive.drain()?;
    Ok(())
}

/// Copies everything in `from` into the directory `to`, with owners, modes, times, attributes and hard
/// links: what an image has at a new volume's place. `to` itself gets the metadata of `from`.
///
/// # Errors
/// Those of archiving and of [`apply`].
pub fn copy_tree(from: &Root, to: &Root) -> Result<()> {
    let (send, receive) = sync_channel(16);
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(64 * 1024, Chunks(&send));
            let result = (|| {
                let mut archiver = Archiver::new(&mut out);
                archiver.directory(from.dir().map_err(Error::io("cannot open the tree"))?, b"./")?;
                archiver.finish()
            })();
            let flushed = result.is_ok() && out.flush().is_ok();
            drop(out);
            if flushed {
                // A receiver that has gone has its own error to tell.
                let _ = send.send(Ok(None));
            }
            drop(send);
            result
        });
        let mut archive = Reader::new(ChunkReader::from_channel(receive), Limits::default());
        let options = ApplyOptions { root_attributes: true, ..ApplyOptions::default() };
        let applied = apply(to, &mut archive, &options).and_then(|_| Ok(archive.drain()?));
        drop(archive);
        let sent = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (sent, applied) {
            // A broken pipe on one side is the other side's failure.
            (Err(Error::Tar(_)), Err(e)) | (Ok(()), Err(e)) | (Err(e), _) => Err(e),
            (Ok(()), Ok(())) => Ok(()),
        }
    })
}

/// The sending end of a channel as a writer.
struct Chunks<'a>(&'a SyncSender<std::io::Result<Option<Vec<u8>>>>);

impl Write for Chunks<'_> {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.send(Ok(Some(data.to_vec()))).map_err(|_| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Archiver<W> {
    /// A directory with everything in it, all named from `prefix`.
    fn directory(&mut self, dir: sys::path::Dir, prefix: &[u8]) -> Result<()> {
        self.directory_entry(&dir, prefix)?;
        self.children(dir, prefix.to_vec())
    }
}

fn locate(root: &Root, path: &str) -> Result<(PathBuf, Stat)> {
    let follow = path.ends_with('/') || path.ends_with("/.") || path == ".";
    let clean = lexical(path);
    let stat = if follow || clean == Path::new("/") { root.stat(&clean) } else { root.lstat(&clean) };
    let stat = stat.map_err(|e| io_error(path, e))?;
    if follow && FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(io_error(path, Errno::NOTDIR.into()));
    }
    Ok((clean, stat))
}

/// The path as Docker cleans it before it is resolved: absolute, without `.`; `..` takes the component
/// before it away.
fn lexical(path: &str) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                out.pop();
            }
            name => out.push(name),
        }
    }
    out
}

fn base_name(path: &str) -> String {
    if path.ends_with("/.") || path == "." {
        return ".".to_owned();
    }
    let clean = lexical(path);
    clean.file_name().map_or_else(|| "/".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Mode bits of Go's `os.FileMode` for those of stat(2).
fn go_mode(mode: u32) -> u32 {
    let file_type = match FileType::from_raw_mode(mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        _ => 0,
    };
    let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
    let special = special.iter().filter(|(bit, _)| mode & bit != 0).map(|(_, go)| go).sum::<u32>();
    file_type | special | mode & 0o777
}

fn io_error(path: &str, source: std::io::Error) -> Error {
    match Errno::from_io_error(&source) {
        Some(Errno::NOENT) => Error::NoPath(path.to_owned()),
        _ => Error::Io { action: format!("cannot access {path:?} in the container"), source },
    }
}
