//! A node of the tree: what an inode of the image is made from.
//!
//! Nodes are numbered in the order they were made, the root being 0, and are not reused: one that lost its
//! last name stays behind with a link count of 0 and is not written.

use layer::tar::Mtime;

use crate::names::NameId;

/// Number of a node.
pub(crate) type NodeId = u32;
/// No node, no name.
pub(crate) const NONE: u32 = u32::MAX;
/// The top of the tree.
pub(crate) const ROOT: NodeId = 0;

/// File types in `i_mode` (inode(7)).
pub(crate) mod file_type {
    pub(crate) const FIFO: u16 = 0o010_000;
    pub(crate) const CHAR: u16 = 0o020_000;
    pub(crate) const DIRECTORY: u16 = 0o040_000;
    pub(crate) const BLOCK: u16 = 0o060_000;
    pub(crate) const REGULAR: u16 = 0o100_000;
    pub(crate) const SYMLINK: u16 = 0o120_000;
    pub(crate) const MASK: u16 = 0o170_000;
}

/// Set-group-id, which directories hand on.
pub(crate) const SETGID: u16 = 0o2000;

/// What is particular to a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Data {
    /// FIFO, or a file of no bytes.
    Nothing,
    /// Regular file, whole at this block of the tar.
    Whole(u32),
    /// Regular file with holes: number in the tree's list of them.
    Sparse(u32),
    /// Symlink: place of the text in the tree's buffer; its length is the size.
    Link(u32),
    /// Device number in the kernel's encoding; 0 for a whiteout.
    Device(u32),
    /// Directory: the one above, and an entry to begin listing from.
    Directory { parent: NodeId, first: NameId },
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Bytes of a file or of a link's text.
    pub(crate) size: u64,
    pub(crate) mtime: Mtime,
    pub(crate) data: Data,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Names; of a directory, 1 while it is in the tree.
    pub(crate) nlink: u32,
    /// Number in the tree's list of attributes, or [`NONE`].
    pub(crate) xattrs: u32,
    /// Type and permissions.
    pub(crate) mode: u16,
    pub(crate) marks: Marks,
}

/// What unpacking would remember of a node, by path. See [`crate::tree::Tree::remove`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Marks {
    /// A directory whose time was set by a member.
    pub(crate) timed: bool,
    /// That member's path went through a symlink.
    pub(crate) aliased: bool,
    /// On the way of such a path.
    pub(crate) on_the_way: bool,
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.mode & file_type::MASK == file_type::DIRECTORY
    }

    pub(crate) fn is_symlink(&self) -> bool {
        self.mode & file_type::MASK == file_type::SYMLINK
    }

    /// An overlayfs whiteout: character device 0:0.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.mode & file_type::MASK == file_type::CHAR && self.data == Data::Device(0)
    }

    /// Type in a directory entry (`FT_*` of `include/linux/fs_types.h`).
    pub(crate) fn entry_type(&self) -> u8 {
        match self.mode & file_type::MASK {
            file_type::REGULAR => 1,
            file_type::DIRECTORY => 2,
            file_type::CHAR => 3,
            file_type::BLOCK => 4,
            file_type::FIFO => 5,
            file_type::SYMLINK => 7,
            _ => 0,
        }
    }
}

/// Device number as inodes hold it (`new_encode_dev` of `include/linux/kdev_t.h`).
pub(crate) fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_numbers() {
        assert!(size_of::<Node>() <= 64, "memory for a million members was counted with this");
        assert_eq!(device(0, 0), 0);
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(0xfff, 0xf_ffff), 0xffff_ffff);
        assert_eq!(device(259, 0x12345), 0x1231_0345);
    }
}
