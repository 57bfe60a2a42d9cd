//! Tar writer: ustar, with a pax header where ustar cannot say it.
//!
//! The same entries give the same bytes. Times are written in whole seconds unless nanoseconds are asked
//! for. The caller writes exactly `size` bytes of data for each regular file, or those of its regions when
//! it is sparse (pax format 1.0).

use std::io::{self, Write};

use super::{BLOCK, Entry, Error, Kind, header, pax};

/// Most bytes of data of a sparse member: with its map it must fit the header's number, as a pax record of the size is
/// taken for the file's.
pub const SPARSE_MAX: u64 = (8 << 30) - (4 << 20);

/// Writes members one after the other.
#[derive(Debug)]
pub struct Writer<W> {
    inner: W,
    /// Bytes of data the open member still owes.
    left: u64,
    pad: usize,
    nanoseconds: bool,
}

impl<W: Write> Writer<W> {
    /// A writer of an archive into `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, left: 0, pad: 0, nanoseconds: false }
    }

    /// Keeps nanoseconds of modification times in pax records.
    #[must_use]
    pub fn nanoseconds(mut self, keep: bool) -> Self {
        self.nanoseconds = keep;
        self
    }

    /// Begins a member; for a regular file `entry.size` bytes of data are written next.
    ///
    /// # Errors
    /// [`Error::Unwritable`] for a member the format has no place for, [`Error::Io`].
    pub fn entry(&mut self, entry: &Entry) -> Result<(), Error> {
        let refuse = |reason| Error::Unwritable { path: entry.display_path(), reason };
        if self.left > 0 {
            return Err(refuse("the data of the member before it is incomplete"));
        }
        if entry.path.is_empty() || entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(refuse("an empty path, or a NUL in the path or link target"));
        }
        let map = match &entry.sparse {
            Some(regions) if entry.kind == Kind::File => {
                Some(sparse_map(entry.size, regions).ok_or_else(|| refuse("a map of regions that cannot be"))?)
            }
            Some(_) => return Err(refuse("a map of regions for what is no file")),
            None => None,
        };
        self.padding()?;
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let size = match &map {
            Some((map, data)) => map.len() as u64 + data,
            None if entry.kind == Kind::File => entry.size,
            None => 0,
        };
        let mut records = Vec::new();
        let mut block = [0_u8; BLOCK];
        if map.is_some() {
            // The name in the header is for readers that do not know holes: what they get is no copy of the file.
            for (key, value) in [
                (&b"GNU.sparse.major"[..], &b"1"[..]),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", &path),
                (b"GNU.sparse.realsize", entry.size.to_string().as_bytes()),
            ] {
                pax::append(&mut records, key, value);
            }
            put_text(&mut block[header::NAME], &[&b"GNUSparseFile.0/"[..], &last_of(&path)].concat());
        } else if !put_path(&mut block, &path) {
            pax::append(&mut records, b"path", &path);
            put_text(&mut block[header::NAME], &path);
        }
        if matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
            if entry.link.len() > 100 || !entry.link.is_ascii() {
                pax::append(&mut records, b"linkpath", &entry.link);
            }
            put_text(&mut block[header::LINK], &entry.link);
        }
        let mut number = |field: std::ops::Range<usize>, key: &[u8], value: u64| {
            if !header::put_octal(&mut block[field.clone()], value) {
                pax::append(&mut records, key, value.to_string().as_bytes());
                let zero = header::put_octal(&mut block[field], 0);
                debug_assert!(zero);
            }
        };
        number(header::UID, b"uid", u64::from(entry.uid));
        number(header::GID, b"gid", u64::from(entry.gid));
        number(header::SIZE, b"size", size);
        let fraction = if self.nanoseconds { entry.mtime.nanos } else { 0 };
        let whole = u64::try_from(entry.mtime.secs).ok().filter(|secs| *secs < 1 << 33);
        if whole.is_none() || fraction != 0 {
            pax::append(&mut records, b"mtime", seconds(entry.mtime.secs, fraction).as_bytes());
        }
        if !header::put_octal(&mut block[header::MTIME], whole.unwrap_or(0)) {
            return Err(refuse("a time out of range"));
        }
        for (name, value) in &entry.xattrs {
            if name.is_empty() || name.contains(&b'=') || name.contains(&0) {
                return Err(refuse("an extended attribute whose name pax cannot hold"));
            }
            pax::append(&mut records, &[pax::XATTR, name].concat(), value);
        }
        let mode = header::put_octal(&mut block[header::MODE], u64::from(entry.mode & 0o7777));
        let major = header::put_octal(&mut block[header::MAJOR], u64::from(entry.major));
        let minor = header::put_octal(&mut block[header::MINOR], u64::from(entry.minor));
        if !(mode && major && minor) {
            return Err(refuse("a device number out of range"));
        }
        block[header::TYPE] = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Directory => b'5',
            Kind::Fifo => b'6',
        };
        block[header::MAGIC].copy_from_slice(b"ustar\x0000");
        header::put_checksum(&mut block);
        if !records.is_empty() {
            self.extended_header(&path, &records)?;
        }
        self.inner.write_all(&block)?;
        self.left = size;
        self.pad = pad(size);
        match map {
            Some((map, _)) => self.data(&map),
            None => Ok(()),
        }
    }

    /// Writes data of the open member.
    ///
    /// # Errors
    /// `InvalidInput` for more than the member's size, and those of the stream.
    pub fn data(&mut self, data: &[u8]) -> Result<(), Error> {
        let Some(left) = self.left.checked_sub(data.len() as u64) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "more data than the tar member's size").into());
        };
        self.inner.write_all(data)?;
        self.left = left;
        Ok(())
    }

    /// Bytes of data the open member still needs.
    #[must_use]
    pub fn owed(&self) -> u64 {
        self.left
    }

    /// Fills the rest of the open member with zeros: a file that shrank while it was read.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn fill(&mut self) -> Result<(), Error> {
        const ZEROS: [u8; 8192] = [0; 8192];
        while self.left > 0 {
            let part = self.left.min(ZEROS.len() as u64) as usize;
            self.data(&ZEROS[..part])?;
        }
        Ok(())
    }

    /// Writes the end mark and hands the stream back.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] when the last member is incomplete, those of the stream.
    pub fn finish(mut self) -> Result<W, Error> {
        if self.left > 0 {
            return Err(Error::UnexpectedEof);
        }
        self.padding()?;
        self.inner.write_all(&[0; 2 * BLOCK])?;
        self.inner.flush()?;
        Ok(self.inner)
    }

    fn padding(&mut self) -> io::Result<()> {
        let pad = std::mem::take(&mut self.pad);
        self.inner.write_all(&[0; BLOCK][..pad])
    }

    fn extended_header(&mut self, path: &[u8], records: &[u8]) -> io::Result<()> {
        let mut block = [0_u8; BLOCK];
        // The name is only seen by readers that do not know pax.
        put_text(&mut block[header::NAME], &[&b"PaxHeaders.0/"[..], &last_of(path)].concat());
        for field in [header::MODE, header::UID, header::GID, header::MTIME, header::MAJOR, header::MINOR] {
            let fits = header::put_octal(&mut block[field], 0);
            debug_assert!(fits);
        }
        if !header::put_octal(&mut block[header::SIZE], records.len() as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "tar member with more metadata than pax can hold"));
        }
        block[header::TYPE] = b'x';
        block[header::MAGIC].copy_from_slice(b"ustar\x0000");
        header::put_checksum(&mut block);
        self.inner.write_all(&block)?;
        self.inner.write_all(records)?;
        self.inner.write_all(&[0; BLOCK][..pad(records.len() as u64)])
    }
}

/// Most of a path's last component, in letters that every reader takes.
fn last_of(path: &[u8]) -> Vec<u8> {
    let base = path.split(|byte| *byte == b'/').rfind(|part| !part.is_empty()).unwrap_or(b"entry");
    base.iter().copied().filter(u8::is_ascii_graphic).take(80).collect()
}

/// The map of a sparse file as it stands before its data, in whole blocks, and the bytes of data; `None` for regions
/// that overlap, go backwards or past the end, or are too many or too much for a member.
fn sparse_map(size: u64, regions: &[(u64, u64)]) -> Option<(Vec<u8>, u64)> {
    let (mut end, mut stored) = (0_u64, 0_u64);
    for (offset, length) in regions {
        if *offset < end {
            return None;
        }
        end = offset.checked_add(*length)?;
        stored = stored.checked_add(*length)?;
    }
    if end > size || regions.len() >= super::Limits::default().sparse_regions || stored >= SPARSE_MAX {
        return None;
    }
    // An empty region says where the file ends.
    let tail = (end < size).then_some((size, 0));
    let mut map = format!("{}\n", regions.len() + usize::from(tail.is_some())).into_bytes();
    for (offset, length) in regions.iter().copied().chain(tail) {
        map.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
    }
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    Some((map, stored))
}

fn pad(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

/// Copies as much of `value` as fits.
fn put_text(field: &mut [u8], value: &[u8]) {
    let len = value.len().min(field.len());
    field[..len].copy_from_slice(&value[..len]);
}

/// Writes the path into name and prefix; `false` when it needs a pax record.
fn put_path(block: &mut [u8; BLOCK], path: &[u8]) -> bool {
    if !path.is_ascii() {
        return false;
    }
    if path.len() <= header::NAME.len() {
        put_text(&mut block[header::NAME], path);
        return true;
    }
    // The slash between prefix and name is not stored; a directory's closing slash stays in the name.
    let split = path[..path.len() - 1]
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(index, _)| index)
        .find(|index| *index > 0 && *index <= header::PREFIX.len() && path.len() - index - 1 <= header::NAME.len());
    let Some(split) = split else { return false };
    put_text(&mut block[header::PREFIX], &path[..split]);
    put_text(&mut block[header::NAME], &path[split + 1..]);
    true
}

/// Decimal seconds as pax has them; the fraction counts away from zero for times before 1970.
fn seconds(secs: i64, nanos: u32) -> String {
    if nanos == 0 {
        return secs.to_string();
    }
    let text = if secs < 0 {
        // -2 s + 0.25 s is written -1.75; between -1 and 0 the sign would be lost in the number.
        format!("-{}.{:09}", (secs + 1).unsigned_abs(), 1_000_000_000 - nanos)
    } else {
        format!("{secs}.{nanos:09}")
    };
    text.trim_end_matches('0').to_owned()
}
