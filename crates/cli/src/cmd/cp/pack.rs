//! Local files into an archive for a container. Symbolic links are packed as links, not followed; a file that changes
//! its size while it is read keeps the size its header promised.

use std::{
    fs::{self, Metadata, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use client::{Response, Upload};
use tar::{Builder, EntryType, Header};

use crate::{Error, Result, term::output::warn};

/// Deepest directory packed.
const MAX_DEPTH: usize = 1024;

/// A file or directory to be packed.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    meta: Metadata,
}

impl Tree {
    /// Looks at the source. A link is followed when asked, or when the path ends with a slash.
    pub(super) fn open(source: &str, follow: bool) -> Result<Self> {
        let path = PathBuf::from(source);
        let follow = follow || source.ends_with('/') || source.ends_with("/.") || source == ".";
        // The user's own path, followed because the user asked for it.
        #[allow(clippy::disallowed_methods)]
        let path = if follow { fs::canonicalize(&path).map_err(Error::file("lstat", &path))? } else { path };
        let meta = fs::symlink_metadata(&path).map_err(Error::file("lstat", &path))?;
        if source.ends_with('/') && !meta.is_dir() {
            return Err(Error::new(format!("{source}: not a directory")));
        }
        Ok(Self { path, meta })
    }

    pub(super) fn is_directory(&self) -> bool {
        self.meta.is_dir()
    }

    /// Writes the tree under `name`; returns the daemon's answer and the bytes of content.
    pub(super) fn send(&self, upload: Upload, name: &str) -> Result<(Response, u64)> {
        let mut out = Counting { upload, error: None, bytes: 0 };
        let packed = pack(&mut out, &self.path, &self.meta, name);
        let Counting { upload, error, bytes } = out;
        match (packed, error) {
            // The daemon stopped taking the archive; its answer says why.
            (_, Some(error)) => Ok((upload.failed(error)?, bytes)),
            (Err(error), None) => Err(error),
            (Ok(()), None) => Ok((upload.finish()?, bytes)),
        }
    }
}

/// Tells errors of the connection from errors of local files.
struct Counting {
    upload: Upload,
    error: Option<io::Error>,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.upload.write(bytes) {
            Ok(count) => {
                self.bytes += count as u64;
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(out: impl Write, path: &Path, meta: &Metadata, name: &str) -> Result<()> {
    let mut builder = Builder::new(out);
    add(&mut builder, path, meta, Path::new(name), 0)?;
    builder.into_inner()?;
    Ok(())
}

fn add(builder: &mut Builder<impl Write>, path: &Path, meta: &Metadata, name: &Path, depth: usize) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(Error::new(format!("{} is nested too deeply", path.display())));
    }
    let mut header = Header::new_gnu();
    header.set_mode(meta.mode() & 0o7777);
    header.set_uid(u64::from(meta.uid()));
    header.set_gid(u64::from(meta.gid()));
    header.set_mtime(u64::try_from(meta.mtime()).unwrap_or(0));
    header.set_size(0);
    let kind = meta.file_type();
    let fail = Error::file("cannot read", path);
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        builder.append_data(&mut header, name, io::empty())?;
        let mut entries: Vec<_> = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(fail)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let inner = entry.path();
            let meta = match fs::symlink_metadata(&inner) {
                Ok(meta) => meta,
                // Gone since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(Error::file("cannot read", &inner)(error)),
            };
            add(builder, &inner, &meta, &name.join(entry.file_name()), depth + 1)?;
        }
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        builder.append_link(&mut header, name, fs::read_link(path).map_err(fail)?)?;
    } else if kind.is_file() {
        header.set_entry_type(EntryType::Regular);
        let size = meta.len();
        header.set_size(size);
        // Not through a link that has taken the file's place since.
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(no_follow).open(path).map_err(fail)?;
        builder.append_data(&mut header, name, file.chain(io::repeat(0)).take(size))?;
    } else if kind.is_fifo() || kind.is_char_device() || kind.is_block_device() {
        header.set_entry_type(match () {
            () if kind.is_fifo() => EntryType::Fifo,
            () if kind.is_char_device() => EntryType::Char,
            () => EntryType::Block,
        });
        header.set_device_major(rustix::fs::major(meta.rdev()))?;
        header.set_device_minor(rustix::fs::minor(meta.rdev()))?;
        builder.append_data(&mut header, name, io::empty())?;
    } else {
        warn(&format!("{} is a socket and is left out", path.display()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_packed_as_links() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("src");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("sub/f"), "data").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", root.join("link")).unwrap();
        let tree = Tree::open(root.to_str().unwrap(), false).unwrap();
        let mut bytes = Vec::new();
        pack(&mut bytes, &tree.path, &tree.meta, "new").unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().entry_type(), entry.size())
            })
            .collect();
        let want = [
            ("new", EntryType::Directory, 0),
            ("new/link", EntryType::Symlink, 0),
            ("new/sub", EntryType::Directory, 0),
            ("new/sub/f", EntryType::Regular, 4),
        ];
        assert_eq!(found, want.map(|(name, kind, size)| (name.to_owned(), kind, size)));
    }
}
