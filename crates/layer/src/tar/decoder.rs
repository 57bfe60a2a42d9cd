//! Tar decoder without I/O: slices in, members and data ranges out.
//!
//! The caller feeds bytes to [`Decoder::step`] and drops as many as it answers. Invariants: every
//! [`Entry`] handed out has passed [`Entry::validate`]; the `size` record of a pax header decides over
//! the header's field, so that no reader of ours sees members another would take for data; after an
//! error the decoder is not used again.

use std::collections::HashSet;

use super::entry::Entry;
use super::header::{self, Format};
use super::sparse::{self, Front, Map};
use super::{BLOCK, Error, Kind, Limits, pax};

/// What one call of [`Decoder::step`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The input was taken; more is needed.
    More,
    /// A member begins. Its data follows as [`Step::Data`] until [`Step::EntryEnd`].
    Entry(Box<Entry>),
    /// The bytes just taken are data of the member, belonging at `offset` of the file.
    Data {
        /// Place in the file, holes included.
        offset: u64,
    },
    /// The member is complete.
    EntryEnd,
    /// The archive's end mark was read; what follows is padding and is taken without a look.
    End,
}

/// Decoder of one archive.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    state: State,
    block: [u8; BLOCK],
    filled: usize,
    extension: Extension,
    /// The last header was a global one.
    after_global: bool,
    entries: u64,
    total: u64,
    /// Bytes taken past the end mark.
    trailer: u64,
    ended: bool,
}

#[derive(Debug)]
enum State {
    /// Collecting a header block; `zero` after one block of zeros.
    Header { zero: bool },
    /// Collecting an extension header of `left` bytes and `pad` bytes of padding.
    Extension { kind: u8, left: u64, pad: u64, data: Vec<u8> },
    /// Collecting extension blocks of an old GNU sparse header.
    OldSparse { entry: Box<Entry>, map: Map, stored: u64 },
    /// Collecting the sparse map at the front of the data (pax 1.0).
    FrontSparse { entry: Box<Entry>, front: Front, stored: u64 },
    /// Handing out data: `left` bytes, of the region at `index` of which `done` are out.
    Data { regions: Vec<(u64, u64)>, index: usize, done: u64, left: u64, pad: u64 },
    /// Skipping padding after data.
    Padding { left: u64 },
    /// Past the end mark.
    Trailer,
}

/// What extension headers said about the next member.
#[derive(Debug, Default)]
struct Extension {
    bytes: usize,
    pax: Option<Pax>,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<super::Mtime>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: SparseRecords,
}

#[derive(Debug, Default)]
struct SparseRecords {
    major: Option<u64>,
    minor: Option<u64>,
    name: Option<Vec<u8>>,
    /// `size` of the formats 0.0 and 0.1.
    size: Option<u64>,
    /// `realsize` of the format 1.0.
    real_size: Option<u64>,
    blocks: Option<u64>,
    /// The list of format 0.1.
    list: Option<Map>,
    /// The pairs of format 0.0.
    pairs: Option<Map>,
    /// An offset of format 0.0 waiting for its length.
    offset: Option<u64>,
}

/// A sparse member by its records.
enum SparseFormat {
    /// The map is in the records; the size of the file.
    Listed(Map, u64),
    /// The map is at the front of the data; the size of the file.
    Front(u64),
}

impl Decoder {
    /// A decoder at the start of an archive.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Header { zero: false },
            block: [0; BLOCK],
            filled: 0,
            extension: Extension::default(),
            after_global: false,
            entries: 0,
            total: 0,
            trailer: 0,
            ended: false,
        }
    }

    /// Takes a prefix of `input` and says how long it was and what it meant.
    ///
    /// With an empty `input` it still reports an end of a member that is due.
    ///
    /// # Errors
    /// Any [`Error`] but `Io` and `UnexpectedEof`; the decoder is of no use afterwards.
    pub fn step(&mut self, input: &[u8]) -> Result<(usize, Step), Error> {
        match std::mem::replace(&mut self.state, State::Trailer) {
            State::Header { zero } => {
                let (taken, full) = self.fill(input);
                if !full {
                    self.state = State::Header { zero };
                    return Ok((taken, Step::More));
                }
                if self.block.iter().all(|byte| *byte == 0) {
                    if zero {
                        if self.extension.bytes > 0 || self.after_global {
                            return Err(Error::Header("an extension header without a member"));
                        }
                        self.ended = true;
                        return Ok((taken, Step::End));
                    }
                    self.state = State::Header { zero: true };
                    return Ok((taken, Step::More));
                }
                if zero {
                    return Err(Error::Header("a member after a block of zeros"));
                }
                Ok((taken, self.header()?))
            }
            State::Extension { kind, left, pad, mut data } => {
                let take = clamp(left, input.len());
                data.extend_from_slice(&input[..take]);
                let left = left - take as u64;
                if left > 0 {
                    self.state = State::Extension { kind, left, pad, data };
                    return Ok((take, Step::More));
                }
                let skip = clamp(pad, input.len() - take);
                let pad = pad - skip as u64;
                if pad > 0 {
                    self.state = State::Extension { kind, left, pad, data };
                } else {
                    self.extension(kind, &data)?;
                    self.state = State::Header { zero: false };
                }
                Ok((take + skip, Step::More))
            }
            State::OldSparse { entry, mut map, stored } => {
                let (taken, full) = self.fill(input);
                if full && !sparse::old_extension(&self.block, &mut map, &self.limits)? {
                    return Ok((taken, self.sparse_entry(entry, map, stored, padding(stored))?));
                }
                self.state = State::OldSparse { entry, map, stored };
                Ok((taken, Step::More))
            }
            State::FrontSparse { entry, mut front, stored } => {
                let (taken, full) = self.fill(input);
                if full && front.push(&self.block, &self.limits)? {
                    let rest = stored.checked_sub(front.taken).ok_or(Error::Sparse("a map longer than its member"))?;
                    return Ok((taken, self.sparse_entry(entry, front.into_map(), rest, padding(stored))?));
                }
                if front.taken >= stored {
                    return Err(Error::Sparse("a map longer than its member"));
                }
                self.state = State::FrontSparse { entry, front, stored };
                Ok((taken, Step::More))
            }
            State::Data { regions, index, done, left, pad } => {
                if left == 0 {
                    self.state = if pad == 0 { State::Header { zero: false } } else { State::Padding { left: pad } };
                    return Ok((0, Step::EntryEnd));
                }
                // The map was checked to add up to `left`, so there is a region here.
                let Some((offset, length)) = regions.get(index).copied() else {
                    return Err(Error::Sparse("data without a region"));
                };
                let take = clamp((length - done).min(left), input.len());
                let (done, left) = (done + take as u64, left - take as u64);
                let place = offset + done - take as u64;
                let (index, done) = if done == length { (index + 1, 0) } else { (index, done) };
                self.state = State::Data { regions, index, done, left, pad };
                Ok(if take == 0 { (0, Step::More) } else { (take, Step::Data { offset: place }) })
            }
            State::Padding { left } => {
                let take = clamp(left, input.len());
                let left = left - take as u64;
                self.state = if left == 0 { State::Header { zero: false } } else { State::Padding { left } };
                Ok((take, Step::More))
            }
            State::Trailer => {
                self.trailer = self.trailer.saturating_add(input.len() as u64);
                if self.trailer > self.limits.trailer_bytes {
                    return Err(Error::Limit { what: "bytes after the end mark", limit: self.limits.trailer_bytes });
                }
                Ok((input.len(), Step::End))
            }
        }
    }

    /// Whether the input may end here: at a member's boundary or past the end mark.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`] inside a member or header.
    pub fn finish(&self) -> Result<(), Error> {
        match self.state {
            State::Trailer if self.ended => Ok(()),
            // Archives without an end mark exist; they end between members.
            State::Header { .. } if self.filled == 0 && self.extension.bytes == 0 && !self.after_global => Ok(()),
            _ => Err(Error::UnexpectedEof),
        }
    }

    fn fill(&mut self, input: &[u8]) -> (usize, bool) {
        let take = (BLOCK - self.filled).min(input.len());
        self.block[self.filled..self.filled + take].copy_from_slice(&input[..take]);
        self.filled += take;
        let full = self.filled == BLOCK;
        if full {
            self.filled = 0;
        }
        (take, full)
    }

    fn header(&mut self) -> Result<Step, Error> {
        let block = &self.block;
        if !header::checksum_ok(block)? {
            return Err(Error::Header("wrong checksum"));
        }
        let format = header::format(block);
        header::check(block, format)?;
        let kind = block[header::TYPE];
        let field_size = header::unsigned(&block[header::SIZE])?;
        match kind {
            // Readers disagree on whether these types mean anything without the magic.
            b'x' | b'g' | b'L' | b'K' if format == Format::V7 => {
                return Err(Error::Header("an extension header without ustar magic"));
            }
            b'g' if self.extension.bytes > 0 => {
                // It would take the place of the member's own header with some, and of nothing with others.
                return Err(Error::Header("a global header between an extension header and its member"));
            }
            b'x' | b'g' | b'L' | b'K' => {
                let room = self.limits.extension_bytes.saturating_sub(self.extension.bytes);
                if field_size > room as u64 {
                    let limit = self.limits.extension_bytes as u64;
                    return Err(Error::Limit { what: "bytes of extension headers in one member", limit });
                }
                // Counted at least once each, so that endless empty headers end too.
                self.extension.bytes += (field_size as usize).max(1);
                let pad = padding(field_size);
                self.state = State::Extension { kind, left: field_size, pad, data: Vec::new() };
                return Ok(Step::More);
            }
            _ => {}
        }
        self.count()?;
        let block = &self.block;
        if self.extension.bytes > 0 && format == Format::V7 {
            return Err(Error::Header("an extension header for a member without ustar magic"));
        }
        self.after_global = false;
        let extension = std::mem::take(&mut self.extension);
        let pax = extension.pax.unwrap_or_default();
        let mut entry = Entry::new(base_path(block, format), Kind::File, 0);
        if extension.long_name.is_some() && (pax.path.is_some() || pax.sparse.name.is_some()) {
            return Err(Error::Header("a path in both a pax and a GNU header"));
        }
        if extension.long_link.is_some() && pax.link.is_some() {
            return Err(Error::Header("a link target in both a pax and a GNU header"));
        }
        let named = extension.long_name.is_some() || pax.path.is_some();
        if let Some(path) = extension.long_name.or(pax.path) {
            entry.path = path;
        }
        entry.link = extension.long_link.or(pax.link).unwrap_or_else(|| header::text(&block[header::LINK]).to_vec());
        let stored = pax.size.unwrap_or(field_size);
        entry.kind = member_kind(kind, header::text(&block[header::NAME]), &entry.path)?;
        // Some writers give a hard link the size of its file, and a directory one of its own; no reader looks for data
        // behind these. Behind the others GNU tar does.
        let said = matches!(kind, b'1' | b'5') && pax.size.is_none();
        if entry.kind != Kind::File && !said && stored != 0 {
            return Err(Error::Header("a size where there is no data"));
        }
        entry.mode = (header::number(&block[header::MODE])? & 0o7777) as u32;
        let owner = |range| header::unsigned(&block[range]).and_then(id);
        entry.uid = pax.uid.map_or_else(|| owner(header::UID), Ok)?;
        entry.gid = pax.gid.map_or_else(|| owner(header::GID), Ok)?;
        entry.mtime = match pax.mtime {
            Some(mtime) => mtime,
            None => super::Mtime { secs: header::number(&block[header::MTIME])?, nanos: 0 },
        };
        entry.xattrs = pax.xattrs;
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            if format == Format::V7 {
                return Err(Error::Header("a device node without ustar magic"));
            }
            entry.major = device(&block[header::MAJOR])?;
            entry.minor = device(&block[header::MINOR])?;
        }
        if !matches!(entry.kind, Kind::Symlink | Kind::HardLink) {
            entry.link.clear();
        }
        let (name, sparse) = pax.sparse.format()?;
        if kind == b'S' {
            if format != Format::Gnu {
                return Err(Error::Sparse("a GNU sparse member without GNU magic"));
            }
            if sparse.is_some() || pax.size.is_some() {
                return Err(Error::Sparse("records of a pax header for a GNU header with a map"));
            }
            let (map, extended, real) = sparse::old_header(block, &self.limits)?;
            entry.size = real;
            if extended {
                self.state = State::OldSparse { entry: Box::new(entry), map, stored };
                return Ok(Step::More);
            }
            return self.sparse_entry(Box::new(entry), map, stored, padding(stored));
        }
        if let Some(sparse) = sparse {
            if entry.kind != Kind::File {
                return Err(Error::Sparse("on a member that is no file"));
            }
            // One that is needed only beyond 8 GiB of data, which readers take for the size of the file.
            if pax.size.is_some() {
                return Err(Error::Sparse("a size in a pax record beside the map"));
            }
            if let Some(name) = name {
                if named {
                    return Err(Error::Sparse("a name beside the member's"));
                }
                entry.path = name;
            }
            match sparse {
                SparseFormat::Front(size) => {
                    entry.size = size;
                    self.state = State::FrontSparse { entry: Box::new(entry), front: Front::default(), stored };
                    return Ok(Step::More);
                }
                SparseFormat::Listed(map, size) => {
                    entry.size = size;
                    return self.sparse_entry(Box::new(entry), map, stored, padding(stored));
                }
            }
        }
        let stored = if entry.kind == Kind::File { stored } else { 0 };
        entry.size = stored;
        self.begin(Box::new(entry), vec![(0, stored)], stored, padding(stored))
    }

    fn sparse_entry(&mut self, mut entry: Box<Entry>, map: Map, stored: u64, pad: u64) -> Result<Step, Error> {
        let regions = map.finish(entry.size, stored)?;
        entry.sparse = Some(regions.clone());
        self.begin(entry, regions, stored, pad)
    }

    fn begin(&mut self, entry: Box<Entry>, regions: Vec<(u64, u64)>, left: u64, pad: u64) -> Result<Step, Error> {
        if entry.size > i64::MAX.cast_unsigned() {
            return Err(Error::Header("a size past the end of any file"));
        }
        self.total = self.total.saturating_add(entry.size);
        if self.total > self.limits.total_bytes {
            return Err(Error::Limit { what: "bytes in all members", limit: self.limits.total_bytes });
        }
        entry.validate(&self.limits)?;
        if entry.kind != Kind::Directory && entry.path.ends_with(b"/") {
            return Err(Error::Header("a slash at the end of a name that is no directory's"));
        }
        self.state = State::Data { regions, index: 0, done: 0, left, pad };
        Ok(Step::Entry(entry))
    }

    fn extension(&mut self, kind: u8, data: &[u8]) -> Result<(), Error> {
        match kind {
            b'L' | b'K' => {
                let name = data.strip_suffix(b"\0").ok_or(Error::Header("a GNU long name without its NUL"))?;
                let name = header::text(name).to_vec();
                let slot = if kind == b'L' { &mut self.extension.long_name } else { &mut self.extension.long_link };
                if slot.replace(name).is_some() {
                    return Err(Error::Header("two GNU long names for one member"));
                }
            }
            b'x' => {
                let parsed = self.pax(data)?;
                if self.extension.pax.replace(parsed).is_some() {
                    return Err(Error::Pax("two extended headers for one member"));
                }
            }
            _ => {
                self.extension.bytes = 0;
                self.after_global = true;
                // GNU tar applies global records and Python too, Go does not: those that would change a member are
                // refused, and the others have no effect.
                for (key, _) in pax::parse(data, &self.limits)? {
                    if pax::describes_members(key) {
                        return Err(Error::Pax("a global record that changes members"));
                    }
                }
                // The count of headers is that of entries.
                self.count()?;
            }
        }
        Ok(())
    }

    /// Counts a member, or a global header.
    fn count(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(Error::Limit { what: "members", limit: self.limits.entries });
        }
        Ok(())
    }

    fn pax(&self, data: &[u8]) -> Result<Pax, Error> {
        let mut out = Pax::default();
        let mut xattr_bytes = 0;
        for (key, value) in pax::parse(data, &self.limits)? {
            if let Some(name) = key.strip_prefix(pax::XATTR) {
                xattr_bytes += name.len() + value.len();
                if xattr_bytes > self.limits.xattr_bytes {
                    let limit = self.limits.xattr_bytes as u64;
                    return Err(Error::Limit { what: "bytes of extended attributes in one member", limit });
                }
                if name.is_empty() {
                    return Err(Error::Pax("an extended attribute without a name"));
                }
                out.xattrs.push((name.to_vec(), value.to_vec()));
                continue;
            }
            if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                out.sparse.record(key, value, &self.limits)?;
                continue;
            }
            match key {
                // POSIX has it take an earlier record back; readers take it for a value or refuse it.
                b"path" | b"linkpath" if value.is_empty() => return Err(Error::Pax("an empty path or link target")),
                b"hdrcharset" if !matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
                    return Err(Error::Pax("an unknown character set"));
                }
                b"path" => out.path = Some(value.to_vec()),
                b"linkpath" => out.link = Some(value.to_vec()),
                // Checked here too: a later record would hide one that others refuse.
                b"size" => out.size = Some(pax::size(value)?),
                b"uid" => out.uid = Some(id(pax::decimal(value)?)?),
                b"gid" => out.gid = Some(id(pax::decimal(value)?)?),
                b"mtime" => out.mtime = Some(pax::time(value)?),
                b"atime" | b"ctime" => {
                    pax::time(value)?;
                }
                _ => {}
            }
        }
        // The last record of a name counts.
        let mut seen = HashSet::new();
        out.xattrs.reverse();
        out.xattrs.retain(|(name, _)| seen.insert(name.clone()));
        out.xattrs.reverse();
        Ok(out)
    }
}

impl SparseRecords {
    /// The name of the file and the format, when the records are exactly those of one format: readers look for
    /// different ones to tell the formats apart.
    fn format(self) -> Result<(Option<Vec<u8>>, Option<SparseFormat>), Error> {
        if self.offset.is_some() {
            return Err(Error::Sparse("an offset without a length"));
        }
        let one = match (self.major, self.minor) {
            (None, None) => false,
            (Some(1), Some(0)) => true,
            _ => return Err(Error::Sparse("an unknown version")),
        };
        let format = match (one, self.size, self.real_size, self.blocks, self.list, self.pairs) {
            (false, None, None, None, None, None) if self.name.is_none() => None,
            (true, None, Some(size), None, None, None) => Some(SparseFormat::Front(size)),
            (false, Some(size), None, Some(blocks), Some(map), None)
            | (false, Some(size), None, Some(blocks), None, Some(map)) => {
                if map.count() != blocks {
                    return Err(Error::Sparse("a count that is not that of the regions"));
                }
                Some(SparseFormat::Listed(map, size))
            }
            _ => return Err(Error::Sparse("records of no format, or of several")),
        };
        Ok((self.name, format))
    }

    fn record(&mut self, key: &[u8], value: &[u8], limits: &Limits) -> Result<(), Error> {
        let number = || pax::decimal(value);
        let twice = match key {
            b"major" => self.major.replace(number()?).is_some(),
            b"minor" => self.minor.replace(number()?).is_some(),
            b"name" if value.is_empty() => return Err(Error::Sparse("an empty name")),
            b"name" => self.name.replace(value.to_vec()).is_some(),
            b"size" => self.size.replace(number()?).is_some(),
            b"realsize" => self.real_size.replace(number()?).is_some(),
            b"numblocks" => self.blocks.replace(number()?).is_some(),
            // Some readers make room for the regions when they come upon their count.
            b"map" | b"offset" if self.blocks.is_none() => return Err(Error::Sparse("regions before their count")),
            b"map" => self.list.replace(sparse::list(value, limits)?).is_some(),
            b"offset" => self.offset.replace(number()?).is_some(),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(Error::Sparse("a length without an offset"))?;
                self.pairs.get_or_insert_default().push(offset, number()?, limits)?;
                false
            }
            _ => return Err(Error::Sparse("a record of an unknown format")),
        };
        if twice {
            return Err(Error::Sparse("a record that comes twice"));
        }
        Ok(())
    }
}

fn base_path(block: &[u8; BLOCK], format: Format) -> Vec<u8> {
    let name = header::text(&block[header::NAME]);
    if format != Format::Ustar {
        return name.to_vec();
    }
    // star shares the magic and marks itself at the end; its prefix is shorter.
    let range = if header::is_star(block) { header::STAR_PREFIX } else { header::PREFIX };
    let prefix = header::text(&block[range]);
    if prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

/// The type of a member called `name` in its header and `path` in truth.
fn member_kind(byte: u8, name: &[u8], path: &[u8]) -> Result<Kind, Error> {
    let slash = |text: &[u8]| text.ends_with(b"/");
    Ok(match byte {
        // Before POSIX a directory was a file whose name ends in a slash.
        b'\0' if slash(name) && slash(path) => Kind::Directory,
        // Go by the one name or the other and it is a directory or a file.
        b'\0' if slash(name) != slash(path) => return Err(Error::Header("a file and a directory at once")),
        b'0' | b'\0' | b'7' | b'S' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Error::MemberType(char::from(other))),
    })
}

fn id(value: u64) -> Result<u32, Error> {
    // u32::MAX is "leave as it is" to chown(2).
    u32::try_from(value).ok().filter(|id| *id != u32::MAX).ok_or(Error::Header("an owner id out of range"))
}

fn device(field: &[u8]) -> Result<u32, Error> {
    u32::try_from(header::unsigned(field)?).map_err(|_| Error::Header("a device number out of range"))
}

fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

fn clamp(left: u64, available: usize) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(available)
}
