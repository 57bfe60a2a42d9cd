//! The image of a finished tree: where everything goes, and writing it front to back.
//!
//! Inodes lie directory by directory, each with its attributes, and with its link text, its entries or its
//! chunk indexes behind it; directories and links that are too large for that have blocks of their own
//! after all inodes. Data behind an inode may not cross a block, so an inode is moved to the next block
//! where that helps. Placing is a function of sizes alone and is done once to number the inodes and once
//! more while writing.

use std::io::Write;

use crate::chunks;
use crate::error::{Error, Result};
use crate::format::{self, BLOCK, CHUNK_INDEX, DIRENT, INODE, INODES_AT, Layout, SLOT, Super};
use crate::node::{Data, NONE, NodeId, ROOT};
use crate::tree::{Summary, Tree};

/// Bytes collected before they are written.
const BUFFER: usize = 64 << 10;

/// What lies behind an inode and its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    Nothing,
    /// Bytes that have to be in one block, or in blocks of their own.
    Content(u64),
    /// Chunk indexes.
    Chunks(u64),
}

/// Place of an inode in bytes, where what lies behind it ends, and whether its content is there too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    at: u64,
    end: u64,
    inline: bool,
}

fn place(cursor: u64, xattrs: u64, tail: Tail) -> Place {
    let at = cursor.next_multiple_of(SLOT);
    let head = INODE + xattrs;
    match tail {
        Tail::Nothing => Place { at, end: at + head, inline: true },
        Tail::Chunks(count) => {
            let end = (at + head).next_multiple_of(CHUNK_INDEX) + count * CHUNK_INDEX;
            Place { at, end, inline: true }
        }
        Tail::Content(size) => {
            let same_block = |from: u64, end: u64| from / BLOCK == (end - 1) / BLOCK;
            let all = head + size;
            if all <= BLOCK {
                let at = if same_block(at, at + all) { at } else { at.next_multiple_of(BLOCK) };
                Place { at, end: at + all, inline: true }
            } else if size <= BLOCK && same_block(at + head, at + all) {
                Place { at, end: at + all, inline: true }
            } else {
                Place { at, end: at + head, inline: false }
            }
        }
    }
}

/// Entries of a directory in blocks: at most what fits one, in order.
#[derive(Debug, Default)]
struct Fill {
    full: u64,
    used: usize,
}

impl Fill {
    /// Counts an entry; `true` when it begins a new block.
    fn push(&mut self, name: &[u8]) -> bool {
        let more = DIRENT + name.len();
        if self.used + more > BLOCK as usize {
            self.full += 1;
            self.used = more;
            return true;
        }
        self.used += more;
        false
    }

    /// Bytes of the directory.
    fn size(&self) -> u64 {
        self.full * BLOCK + self.used as u64
    }
}

/// Buffered output that knows where it is.
struct Out<'a, W> {
    writer: &'a mut W,
    buffer: Vec<u8>,
    /// Bytes written before the buffer.
    before: u64,
}

impl<W: Write> Out<'_, W> {
    fn at(&self) -> u64 {
        self.before + self.buffer.len() as u64
    }

    fn pad_to(&mut self, at: u64) {
        let len = self.buffer.len() + (at - self.at()) as usize;
        self.buffer.resize(len, 0);
    }

    fn flush(&mut self, limit: usize) -> Result<()> {
        if self.buffer.len() >= limit {
            self.writer.write_all(&self.buffer)?;
            self.before += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl Tree {
    /// Writes the index of an archive of `tar_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a layer too large for the format or for [`crate::Options`],
    /// [`Error::Truncated`], [`Error::Io`] of `out`.
    pub fn finish(mut self, tar_bytes: u64, out: &mut impl Write) -> Result<Summary> {
        self.check_memory()?;
        if self.data_end > tar_bytes {
            return Err(Error::Truncated { needed: self.data_end, actual: tar_bytes });
        }
        let device_blocks =
            u32::try_from(tar_bytes.div_ceil(BLOCK)).map_err(|_| Error::Unsupported(chunks::TOO_FAR))?;
        let (order, numbers, mut apart) = self.number()?;
        let end_of_inodes = apart.at;
        let blocks = u32::try_from(apart.end() / BLOCK).map_err(|_| Error::Unsupported(TOO_LARGE))?;
        let root = u16::try_from(numbers[ROOT as usize]).map_err(|_| Error::Unsupported(TOO_LARGE))?;
        let mut out = Out { writer: out, buffer: Vec::with_capacity(2 * BUFFER), before: 0 };
        let superblock = Super { root, inodes: order.len() as u64, blocks, device_blocks };
        out.buffer.extend_from_slice(&superblock.encode());
        let mut block = (end_of_inodes / BLOCK) as u32;
        for (index, id) in order.iter().enumerate() {
            block += self.write_inode(&mut out, *id, index as u32 + 1, block, &numbers);
            out.flush(BUFFER)?;
        }
        out.pad_to(end_of_inodes);
        for id in std::mem::take(&mut apart.nodes) {
            self.write_content(&mut out.buffer, id, &numbers);
            out.pad_to(out.at().next_multiple_of(BLOCK));
            out.flush(BUFFER)?;
        }
        debug_assert_eq!(out.at(), apart.end(), "the image is as long as it was said to be");
        out.flush(1)?;
        out.writer.flush()?;
        Ok(Summary { inodes: order.len() as u64, index_bytes: out.before, ..self.summary })
    }

    /// All nodes of the tree in the order of their inodes, node numbers by node, and what has blocks apart.
    fn number(&mut self) -> Result<(Vec<NodeId>, Vec<u32>, Apart)> {
        let mut order = vec![ROOT];
        let mut numbers = vec![0; self.nodes.len()];
        let mut scratch = Vec::new();
        let mut apart = Apart::default();
        let mut cursor = INODES_AT;
        // Placed from here on; numbered, so that a hard link is not met twice, when it is put in the order.
        let mut next = 0;
        while let Some(id) = order.get(next).copied() {
            next += 1;
            if let Data::Directory { first, parent } = self.node(id).data {
                let first = self.names.sort(first, &mut scratch);
                self.node_mut(id).data = Data::Directory { parent, first };
                for (_, child) in self.names.list(first) {
                    if numbers[child as usize] == 0 && child != ROOT {
                        numbers[child as usize] = NONE;
                        order.push(child);
                    }
                }
            }
            let tail = self.tail(id);
            let place = place(cursor, self.xattr_size(id), tail);
            numbers[id as usize] = u32::try_from(place.at / SLOT).map_err(|_| Error::Unsupported(TOO_LARGE))?;
            cursor = place.end;
            if let (Tail::Content(size), false) = (tail, place.inline) {
                apart.nodes.push(id);
                apart.blocks += size.div_ceil(BLOCK);
            }
            if cursor + apart.blocks * BLOCK > self.options.index_bytes {
                return Err(Error::Unsupported(TOO_LARGE));
            }
        }
        apart.at = cursor.next_multiple_of(BLOCK);
        Ok((order, numbers, apart))
    }

    fn xattr_size(&self, id: NodeId) -> u64 {
        self.xattrs.get(self.node(id).xattrs as usize).map_or(0, |list| list.size() as u64)
    }

    fn tail(&self, id: NodeId) -> Tail {
        let node = self.node(id);
        match node.data {
            Data::Nothing | Data::Device(_) => Tail::Nothing,
            Data::Link(_) => Tail::Content(node.size),
            Data::Whole(_) => Tail::Chunks(chunks::count(node.size, chunks::whole_bits(node.size))),
            Data::Sparse(number) => Tail::Chunks(chunks::count(node.size, self.sparse[number as usize].bits())),
            Data::Directory { .. } => {
                let mut fill = Fill::default();
                self.each_entry(id, |name, _| {
                    fill.push(name);
                });
                Tail::Content(fill.size())
            }
        }
    }

    /// Entries of a sorted directory in the order of bytes, `.` and `..` among them.
    fn each_entry<'a>(&'a self, id: NodeId, mut take: impl FnMut(&'a [u8], NodeId)) {
        let Data::Directory { parent, first } = self.node(id).data else { return };
        let mut dots = [(&b"."[..], id), (b"..", parent)].into_iter().peekable();
        for (name, node) in self.names.list(first) {
            while let Some((dot, node)) = dots.next_if(|(dot, _)| *dot < name) {
                take(dot, node);
            }
            take(name, node);
        }
        for (dot, node) in dots {
            take(dot, node);
        }
    }

    /// Writes one inode and what lies behind it; the answer is how many blocks it has elsewhere.
    fn write_inode<W: Write>(&self, out: &mut Out<'_, W>, id: NodeId, index: u32, block: u32, numbers: &[u32]) -> u32 {
        let node = self.node(id);
        let tail = self.tail(id);
        let place = place(out.at(), self.xattr_size(id), tail);
        let (size, layout) = match (node.data, tail) {
            (Data::Whole(_), _) => (node.size, Layout::Chunks(chunks::whole_bits(node.size))),
            (Data::Sparse(number), _) => (node.size, Layout::Chunks(self.sparse[number as usize].bits())),
            (Data::Device(device), _) => (0, Layout::Nothing(device)),
            (_, Tail::Content(size)) if place.inline => (size, Layout::Inline),
            (_, Tail::Content(size)) => (size, Layout::Plain(block)),
            _ => (0, Layout::Nothing(0)),
        };
        let mut nlink = node.nlink;
        if let Data::Directory { first, .. } = node.data {
            // Its name, its `.`, and the `..` of every directory in it.
            nlink = 2 + self.names.list(first).filter(|(_, child)| self.node(*child).is_dir()).count() as u32;
        }
        out.pad_to(place.at);
        let xattrs = self.xattrs.get(node.xattrs as usize);
        format::inode(&mut out.buffer, node, layout, size, nlink, xattrs.map_or(0, |list| list.count()), index);
        if let Some(list) = xattrs {
            list.encode(&mut out.buffer);
        }
        match (node.data, layout) {
            (Data::Whole(first), Layout::Chunks(bits)) => {
                out.pad_to(out.at().next_multiple_of(CHUNK_INDEX));
                for chunk in 0..chunks::count(node.size, bits) {
                    format::chunk_index(&mut out.buffer, Some(first + (chunk << bits) as u32));
                }
            }
            (Data::Sparse(number), _) => {
                out.pad_to(out.at().next_multiple_of(CHUNK_INDEX));
                for block in self.sparse[number as usize].blocks(node.size) {
                    format::chunk_index(&mut out.buffer, block);
                }
            }
            (_, Layout::Inline) => self.write_content(&mut out.buffer, id, numbers),
            (_, Layout::Plain(_)) => return size.div_ceil(BLOCK) as u32,
            _ => {}
        }
        0
    }

    /// Appends the text of a link or the entries of a directory, the last block not filled up.
    fn write_content(&self, out: &mut Vec<u8>, id: NodeId, numbers: &[u32]) {
        let node = self.node(id);
        if let Data::Link(at) = node.data {
            let at = at as usize;
            out.extend_from_slice(&self.links[at..at + node.size as usize]);
            return;
        }
        let mut fill = Fill::default();
        let mut entries: Vec<(&[u8], u32, u8)> = Vec::new();
        self.each_entry(id, |name, node| {
            if fill.push(name) {
                let end = out.len() + BLOCK as usize;
                format::directory_block(out, &entries);
                out.resize(end, 0);
                entries.clear();
            }
            entries.push((name, numbers[node as usize], self.node(node).entry_type()));
        });
        format::directory_block(out, &entries);
    }
}

/// What has blocks of its own behind the inodes.
#[derive(Debug, Default)]
struct Apart {
    nodes: Vec<NodeId>,
    blocks: u64,
    /// First byte.
    at: u64,
}

impl Apart {
    fn end(&self) -> u64 {
        self.at + self.blocks * BLOCK
    }
}

const TOO_LARGE: &str = "more metadata than an index may have";

#[cfg(test)]
mod tests {
    use layer::tar::{Entry, Kind};

    use super::*;

    #[test]
    fn places() {
        let at = |cursor, xattrs, tail| {
            let Place { at, end, inline } = place(cursor, xattrs, tail);
            (at, end, inline)
        };
        assert_eq!(at(1, 0, Tail::Nothing), (32, 96, true));
        assert_eq!(at(480, 0, Tail::Chunks(1)), (480, 552, true), "an inode may cross a block");
        assert_eq!(at(0, 20, Tail::Chunks(2)), (0, 104, true), "indexes lie on multiples of 8");
        assert_eq!(at(0, 0, Tail::Content(448)), (0, 512, true));
        assert_eq!(at(32, 0, Tail::Content(448)), (512, 1024, true), "moved, so as not to cross");
        assert_eq!(at(0, 0, Tail::Content(449)), (0, 64, false));
        assert_eq!(at(0, 448, Tail::Content(512)), (0, 1024, true), "behind long attributes it may start a block");
        assert_eq!(at(0, 452, Tail::Content(512)), (0, 516, false));
    }

    #[test]
    fn entries_are_in_the_order_of_bytes() {
        let mut tree = Tree::new(crate::Options::default());
        for name in ["a", "...", "!", "\u{e9}", ".a", "-"] {
            tree.add(&Entry::new(name, Kind::Directory, 0o755), 512).unwrap();
        }
        let mut image = Vec::new();
        let summary = tree.finish(1024, &mut image).unwrap();
        assert_eq!((summary.inodes, image.len() % 512), (7, 0));
        // The root is the first inode, its entries are behind it: numbers, places of names and types, then names.
        let entries = &image[INODES_AT as usize + INODE as usize..];
        let names = "!-.......aa\u{e9}".as_bytes();
        assert_eq!(&entries[8 * DIRENT..][..names.len()], names);
        let places: Vec<_> = entries.chunks(DIRENT).take(8).map(|entry| entry[8]).collect();
        assert_eq!(places, [0, 1, 2, 3, 5, 8, 10, 11].map(|at| at + 8 * DIRENT as u8));
        assert_eq!(entries[2 * DIRENT..2 * DIRENT + 8], 48_u64.to_le_bytes(), "the root's dot is the root");
    }

    #[test]
    fn bounds() {
        let file = |size| {
            let mut entry = Entry::new("f", Kind::File, 0o644);
            entry.size = size;
            entry
        };
        let made = |options, entry: &Entry, tar_bytes| {
            let mut tree = Tree::new(options);
            tree.add(entry, 512)?;
            tree.finish(tar_bytes, &mut Vec::new())
        };
        let options = crate::Options::default();
        assert!(made(options, &file(1000), 1512).is_ok());
        assert!(matches!(made(options, &file(1000), 1511), Err(Error::Truncated { needed: 1512, actual: 1511 })));
        assert!(matches!(made(options, &file(1 << 41), 1 << 42), Err(Error::Unsupported(_))));
        assert!(matches!(made(options, &file(1), 1 << 42), Err(Error::Unsupported(_))));
        assert!(matches!(made(options, &file(u64::MAX), 1 << 42), Err(Error::Unsupported(_))));
        let small = crate::Options { memory_bytes: 300, ..options };
        assert!(matches!(made(small, &file(1), 1024), Err(Error::Unsupported(_))));
        let small = crate::Options { index_bytes: 1600, ..options };
        assert!(matches!(made(small, &file(1), 1024), Err(Error::Unsupported(_))));
    }

    #[test]
    fn entries_fill_blocks() {
        let mut fill = Fill::default();
        let name = [b'n'; 244];
        assert_eq!([fill.push(&name), fill.push(&name), fill.push(&name)], [false, false, true]);
        assert_eq!(fill.size(), 512 + 256);
    }
}
