//! Extended attributes: which of an archive's are taken, what the kernel would say to them, and their form
//! in an inode.
//!
//! Taken are `user.` except those of overlayfs, capabilities of files and access lists; the store takes the
//! same. The form is that of inline attributes (`struct erofs_xattr_entry`): a prefix number, the rest of
//! the name, the value, padded to 4 bytes. The list of one node keeps the order in which it was set.

use crate::acl;
use crate::error::Refusal;

/// Attribute that makes a directory opaque in overlayfs (Documentation/filesystems/overlayfs.rst).
pub(crate) const OPAQUE: &[u8] = b"trusted.overlay.opaque";
const CAPABILITY: &[u8] = b"security.capability";
/// State of overlayfs itself, never taken from an archive.
const OVERLAY: &[u8] = b"user.overlay.";
const USER: &[u8] = b"user.";

/// Longest name (`XATTR_NAME_MAX`, xattr(7)).
const NAME_MAX: usize = 255;
/// Longest value (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65_536;
/// Size of `struct erofs_xattr_ibody_header`.
const BODY_HEADER: usize = 12;
/// Most bytes of one inode's attributes, as `i_xattr_icount` has 16 bits.
const BODY_MAX: usize = BODY_HEADER + 4 * (u16::MAX as usize - 1);

/// Prefixes with their numbers; for access lists the whole name is the prefix.
const PREFIXES: [(&[u8], u8); 5] =
    [(USER, 1), (acl::ACCESS, 2), (acl::DEFAULT, 3), (b"trusted.", 4), (b"security.", 6)];

/// What the kernel would answer to setting an attribute, unless it would set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Denied {
    /// `EOPNOTSUPP`.
    NotSupported,
    /// `EPERM`: a symlink, device or FIFO has no user attributes.
    NotPermitted,
    /// Any other error.
    Refused(Refusal),
}

/// Name and value.
type Pair = (Box<[u8]>, Box<[u8]>);

/// Attributes of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Xattrs {
    pairs: Vec<Pair>,
    /// Bytes of memory in use, counted along: lists are as long as an archive likes.
    memory: u64,
}

/// Whether an archive's attribute is taken at all.
pub(crate) fn wanted(key: &[u8]) -> bool {
    (key.starts_with(USER) && !key.starts_with(OVERLAY))
        || key == CAPABILITY
        || key == acl::ACCESS
        || key == acl::DEFAULT
}

/// Checks of setxattr(2) that look at name and value alone. Access lists have their own beyond this.
/// `holds_user` says whether the node is a regular file or directory.
pub(crate) fn check(key: &[u8], value: &[u8], holds_user: bool) -> Result<(), Denied> {
    if key.len() > NAME_MAX {
        return Err(Denied::Refused(Refusal::Range));
    }
    if value.len() > VALUE_MAX {
        return Err(Denied::Refused(Refusal::TooBig));
    }
    if key == CAPABILITY && !value.is_empty() && !is_capability(value) {
        return Err(Denied::Refused(Refusal::Invalid));
    }
    if key.starts_with(USER) {
        if !holds_user {
            return Err(Denied::NotPermitted);
        }
        if key.len() == USER.len() {
            return Err(Denied::Refused(Refusal::Invalid));
        }
    }
    Ok(())
}

/// `struct vfs_cap_data` of revision 2 or 3 (capabilities(7)), the effective flag aside.
fn is_capability(value: &[u8]) -> bool {
    let Some(magic) = value.first_chunk::<4>() else { return false };
    let root_valid = value.last_chunk::<4>() != Some(&[0xff; 4]);
    matches!((u32::from_le_bytes(*magic) & !1, value.len(), root_valid), (0x0200_0000, 20, _) | (0x0300_0000, 24, true))
}

impl Xattrs {
    pub(crate) fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.pairs.iter().find(|(known, _)| **known == *key).map(|(_, value)| &**value)
    }

    /// Sets an attribute, in the place of the one of that name if there is one.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) {
        match self.pairs.iter_mut().find(|(known, _)| **known == *key) {
            Some((_, old)) => {
                self.memory = self.memory - old.len() as u64 + value.len() as u64;
                *old = value.into();
            }
            None => {
                let pair = (key.into(), value.into());
                self.memory += memory(&pair);
                self.pairs.push(pair);
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.pairs.retain(|(known, _)| **known != *key);
        self.memory = self.pairs.iter().map(memory).sum();
    }

    /// Bytes of memory in use.
    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Whether an inode can hold them.
    pub(crate) fn fit(&self) -> bool {
        self.size() <= BODY_MAX && self.pairs.iter().all(|(_, value)| u16::try_from(value.len()).is_ok())
    }

    /// Bytes behind the inode.
    pub(crate) fn size(&self) -> usize {
        if self.pairs.is_empty() {
            return 0;
        }
        let entry = |(key, value): &Pair| (4 + split(key).1.len() + value.len()).next_multiple_of(4);
        BODY_HEADER + self.pairs.iter().map(entry).sum::<usize>()
    }

    /// `i_xattr_icount`: the header counts as one, the rest in 4 bytes.
    pub(crate) fn count(&self) -> u16 {
        match self.size() {
            0 => 0,
            size => ((size - BODY_HEADER) / 4 + 1) as u16,
        }
    }

    /// Appends the inline form.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        if self.pairs.is_empty() {
            return;
        }
        // No name filter, no shared attributes.
        out.extend_from_slice(&[0; BODY_HEADER]);
        for (key, value) in &self.pairs {
            let (prefix, rest) = split(key);
            out.extend_from_slice(&[rest.len() as u8, prefix]);
            out.extend_from_slice(&(value.len() as u16).to_le_bytes());
            out.extend_from_slice(rest);
            out.extend_from_slice(value);
            let odd = (rest.len() + value.len()) % 4;
            out.extend_from_slice(&[0; 4][..(4 - odd) % 4]);
        }
    }
}

fn memory((key, value): &Pair) -> u64 {
    (size_of::<Pair>() + key.len() + value.len()) as u64
}

/// Number of the prefix and what comes after it. Names that pass [`wanted`], and [`OPAQUE`], have one.
fn split(key: &[u8]) -> (u8, &[u8]) {
    PREFIXES.iter().find_map(|(prefix, number)| Some((*number, key.strip_prefix(*prefix)?))).unwrap_or((0, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_are_taken() {
        for good in [&b"user.x"[..], b"user.", b"security.capability", acl::ACCESS, acl::DEFAULT] {
            assert!(wanted(good));
        }
        for bad in [&b"user.overlay.opaque"[..], OPAQUE, b"trusted.x", b"security.selinux", b"system.x", b"x"] {
            assert!(!wanted(bad));
        }
    }

    #[test]
    fn answers_of_the_kernel() {
        let refused = |reason| Err(Denied::Refused(reason));
        assert_eq!(check(b"user.", b"", true), refused(Refusal::Invalid));
        assert_eq!(check(b"user.", b"", false), Err(Denied::NotPermitted));
        assert_eq!(check(&[b'u'; 256], b"", true), refused(Refusal::Range));
        assert_eq!(check(b"user.x", &[0; 65_537], false), refused(Refusal::TooBig));
        let mut capability = [0; 20];
        assert_eq!(check(CAPABILITY, &capability, true), refused(Refusal::Invalid));
        capability[..4].copy_from_slice(&0x0200_0001_u32.to_le_bytes());
        assert_eq!(check(CAPABILITY, &capability, false), Ok(()));
        let mut namespaced = [0; 24];
        namespaced[..4].copy_from_slice(&0x0300_0000_u32.to_le_bytes());
        assert_eq!(check(CAPABILITY, &namespaced, true), Ok(()));
        namespaced[20..].fill(0xff);
        assert_eq!(check(CAPABILITY, &namespaced, true), refused(Refusal::Invalid));
    }

    #[test]
    fn inline_form() {
        let mut list = Xattrs::default();
        assert_eq!((list.size(), list.count()), (0, 0));
        list.set(b"user.abc", b"12");
        list.set(OPAQUE, b"y");
        list.set(b"user.abc", b"123");
        let mut out = Vec::new();
        list.encode(&mut out);
        let mut expected = vec![0; 12];
        expected.extend_from_slice(b"\x03\x01\x03\0abc123\0\0");
        expected.extend_from_slice(b"\x0e\x04\x01\0overlay.opaquey\0");
        assert_eq!(out, expected);
        assert_eq!((list.size(), usize::from(list.count())), (out.len(), 1 + (out.len() - 12) / 4));
        list.set(b"user.long", &[0; 65_535]);
        assert!(list.fit());
        list.set(b"user.long", &[0; 65_536]);
        assert!(!list.fit());
        list.remove(b"user.long");
        assert_eq!(list.memory(), list.pairs.iter().map(memory).sum::<u64>());
        for index in 0..4 {
            list.set(format!("user.{index}").as_bytes(), &[0; 65_500]);
        }
        assert!(list.fit() && list.size() <= BODY_MAX);
        list.set(b"user.more", &[0; 300]);
        assert!(!list.fit());
    }
}
