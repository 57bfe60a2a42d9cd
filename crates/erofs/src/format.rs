//! The on-disk structures that are written (`fs/erofs/erofs_fs.h`), all little endian.
//!
//! Blocks have 512 bytes, so that the data of every tar member begins on one.

use crate::node::Node;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 1 << BLOCK_BITS;
pub(crate) const BLOCK_BITS: u32 = 9;
/// Largest chunk, as a shift over the block size (`EROFS_CHUNK_FORMAT_BLKBITS_MASK`).
pub(crate) const MAX_CHUNK_BITS: u32 = 31;
/// Block number of a hole (`EROFS_NULL_ADDR`).
pub(crate) const NULL_BLOCK: u32 = u32::MAX;

/// Node numbers count these units (`EROFS_ISLOTBITS`).
pub(crate) const SLOT: u64 = 32;
/// Size of the extended inode, the only one that has a time of its own.
pub(crate) const INODE: u64 = 64;
/// Size of a directory entry before its name.
pub(crate) const DIRENT: usize = 12;
/// Size of a chunk index.
pub(crate) const CHUNK_INDEX: u64 = 8;
/// First byte of the inodes: boot area, superblock, one device slot, up to the end of the checksum.
pub(crate) const INODES_AT: u64 = SUPER_AT + BLOCK;

const SUPER_AT: u64 = 1024;
const SUPER: usize = 128;
const DEVICE_SLOT: usize = 128;
const MAGIC: u32 = 0xe0f5_e1e2;
/// `SB_CHKSUM`, `MTIME`.
const COMPATIBLE: u32 = 0x1 | 0x2;
/// `CHUNKED_FILE`, `DEVICE_TABLE`.
const INCOMPATIBLE: u32 = 0x4 | 0x8;
/// With chunk indexes rather than bare block numbers (`EROFS_CHUNK_FORMAT_INDEXES`).
const CHUNK_INDEXES: u32 = 0x20;

/// How an inode's data is found (`EROFS_INODE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In blocks of the index from this one on.
    Plain(u32),
    /// Behind the inode.
    Inline,
    /// In chunks of this shift over the block size.
    Chunks(u32),
    /// A device's number; 0 for what has no data.
    Nothing(u32),
}

/// What the superblock says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Super {
    pub(crate) root: u16,
    pub(crate) inodes: u64,
    /// Blocks of the index and of the tar.
    pub(crate) blocks: u32,
    pub(crate) device_blocks: u32,
}

impl Super {
    /// The image up to [`INODES_AT`].
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        put(&mut block, 0, &MAGIC.to_le_bytes());
        put(&mut block, 8, &COMPATIBLE.to_le_bytes());
        put(&mut block, 12, &[BLOCK_BITS as u8, 0]);
        put(&mut block, 14, &self.root.to_le_bytes());
        put(&mut block, 16, &self.inodes.to_le_bytes());
        // Times of inodes are their own: no build time. Metadata is counted from block 0, no shared attributes.
        put(&mut block, 36, &self.blocks.to_le_bytes());
        put(&mut block, 80, &INCOMPATIBLE.to_le_bytes());
        put(&mut block, 86, &1_u16.to_le_bytes());
        put(&mut block, 88, &((SUPER_AT as usize + SUPER) / DEVICE_SLOT).to_le_bytes()[..2]);
        // The slot: no tag, so that a mount without `device=` is refused; not mapped into the block space.
        put(&mut block, SUPER + 64, &self.device_blocks.to_le_bytes());
        let checksum = crc32c(&block);
        put(&mut block, 4, &checksum.to_le_bytes());
        let mut out = vec![0; SUPER_AT as usize];
        out.extend_from_slice(&block);
        out
    }
}

/// Appends the inode of `node`, whose content has `size` bytes.
pub(crate) fn inode(out: &mut Vec<u8>, node: &Node, layout: Layout, size: u64, nlink: u32, xattrs: u16, number: u32) {
    let (kind, union): (u16, u32) = match layout {
        Layout::Plain(block) => (0, block),
        Layout::Inline => (2, NULL_BLOCK),
        Layout::Chunks(bits) => (4, CHUNK_INDEXES | bits),
        Layout::Nothing(device) => (0, device),
    };
    out.extend_from_slice(&(1 | (kind << 1)).to_le_bytes());
    out.extend_from_slice(&xattrs.to_le_bytes());
    out.extend_from_slice(&node.mode.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&size.to_le_bytes());
    out.extend_from_slice(&union.to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&node.uid.to_le_bytes());
    out.extend_from_slice(&node.gid.to_le_bytes());
    out.extend_from_slice(&node.mtime.secs.to_le_bytes());
    out.extend_from_slice(&node.mtime.nanos.to_le_bytes());
    out.extend_from_slice(&nlink.to_le_bytes());
    out.extend_from_slice(&[0; 16]);
}

/// Appends a chunk index; `None` is a hole.
pub(crate) fn chunk_index(out: &mut Vec<u8>, block: Option<u32>) {
    let device = u16::from(block.is_some());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&device.to_le_bytes());
    out.extend_from_slice(&block.unwrap_or(NULL_BLOCK).to_le_bytes());
}

/// Appends a block of a directory: entries of (name, node number, type), then the names. Zeros up to the
/// end of the block are the caller's.
pub(crate) fn directory_block(out: &mut Vec<u8>, entries: &[(&[u8], u32, u8)]) {
    let mut at = entries.len() * DIRENT;
    for (name, number, kind) in entries {
        out.extend_from_slice(&u64::from(*number).to_le_bytes());
        out.extend_from_slice(&(at as u16).to_le_bytes());
        out.extend_from_slice(&[*kind, 0]);
        at += name.len();
    }
    for (name, ..) in entries {
        out.extend_from_slice(name);
    }
}

fn put(block: &mut [u8], at: usize, value: &[u8]) {
    block[at..at + value.len()].copy_from_slice(value);
}

/// CRC-32C (Castagnoli) as the kernel's `crc32c(~0, …)`: not inverted at the end.
fn crc32c(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum() {
        // The check value of CRC-32C.
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn superblock() {
        let image = Super { root: 48, inodes: 3, blocks: 9, device_blocks: 7 }.encode();
        assert_eq!(image.len() as u64, INODES_AT);
        assert_eq!(image[1024..1028], [0xe2, 0xe1, 0xf5, 0xe0]);
        assert_eq!(image[1024 + 12..1024 + 16], [9, 0, 48, 0]);
        assert_eq!(image[1024 + 88..1024 + 90], [9, 0], "the device slot is the tenth 128 bytes");
        assert_eq!(image[9 * 128 + 64], 7);
    }

    #[test]
    fn directories() {
        let mut out = Vec::new();
        directory_block(&mut out, &[(b".", 48, 2), (b"..", 48, 2), (b"a", 0x1234, 1)]);
        assert_eq!(out.len(), 3 * DIRENT + 4);
        assert_eq!(out[24..36], [0x34, 0x12, 0, 0, 0, 0, 0, 0, 39, 0, 1, 0]);
        assert_eq!(&out[36..], b"...a");
    }
}
