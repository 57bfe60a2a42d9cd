//! Bounds on what one archive may ask of its reader.
//!
//! They hold whatever the archive says of itself; the defaults pass every image met in practice.

/// Bounds enforced by [`super::Decoder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of extension headers (pax records, GNU long names) of one member.
    pub extension_bytes: usize,
    /// Pax records of one member.
    pub records: usize,
    /// Bytes of a member's path and of a link target: `PATH_MAX` of Linux.
    pub path_bytes: usize,
    /// Bytes of one path component: `NAME_MAX` of Linux.
    pub name_bytes: usize,
    /// Members of one archive.
    pub entries: u64,
    /// Sum of the members' sizes in bytes, holes of sparse members included.
    pub total_bytes: u64,
    /// Data regions of one sparse member.
    pub sparse_regions: usize,
    /// Bytes of all extended attributes of one member.
    pub xattr_bytes: usize,
    /// Bytes after the end mark, which are digested but mean nothing.
    pub trailer_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            extension_bytes: 1 << 20,
            records: 4096,
            path_bytes: 4096,
            name_bytes: 255,
            entries: 10_000_000,
            total_bytes: 1 << 40,
            sparse_regions: 65_536,
            xattr_bytes: 256 << 10,
            trailer_bytes: 1 << 30,
        }
    }
}
