//! POSIX access control lists: what setting, inheriting and changing the mode makes of them.
//!
//! Lists arrive and are kept in the form of the extended attribute (acl(5), `posix_acl_xattr.h`: version 2,
//! entries of tag, permissions and id, little endian). The rules are those of the kernel's VFS
//! (`fs/posix_acl.c`), since a tree that is unpacked went through it.

use crate::error::Refusal;

/// Attribute of the list that decides access.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// Attribute of the list that new entries of a directory inherit.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const HEADER: usize = 4;
const ENTRY: usize = 8;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Permissions of an entry, and of one class in a mode.
const RWX: u16 = 0o7;
const ALL: u16 = 0o777;
/// Id of entries that have none.
const NO_ID: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A valid list: owner, named users, group, named groups, mask, others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acl(Vec<Entry>);

/// Why a value is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The kernel answers `EOPNOTSUPP`, which unpacking overlooks.
    Version,
    /// The kernel refuses it.
    Refused(Refusal),
}

impl Acl {
    /// Reads a value's grammar; `None` is an empty list, which takes a list away. Whether the list makes
    /// sense is another question, asked later: [`Acl::valid`].
    pub(crate) fn parse(value: &[u8]) -> Result<Option<Self>, Bad> {
        if value.is_empty() {
            return Ok(None);
        }
        let (Some(version), Some(rest)) = (value.first_chunk::<HEADER>(), value.get(HEADER..)) else {
            return Err(Bad::Refused(Refusal::Invalid));
        };
        if u32::from_le_bytes(*version) != VERSION {
            return Err(Bad::Version);
        }
        if rest.len() % ENTRY != 0 {
            return Err(Bad::Refused(Refusal::Invalid));
        }
        let mut entries = Vec::with_capacity(rest.len() / ENTRY);
        for raw in rest.chunks_exact(ENTRY) {
            let [t0, t1, p0, p1, i0, i1, i2, i3] = *raw else { continue };
            let tag = u16::from_le_bytes([t0, t1]);
            let id = match tag {
                USER | GROUP => u32::from_le_bytes([i0, i1, i2, i3]),
                USER_OBJ | GROUP_OBJ | MASK | OTHER => NO_ID,
                _ => return Err(Bad::Refused(Refusal::Invalid)),
            };
            entries.push(Entry { tag, perm: u16::from_le_bytes([p0, p1]), id });
        }
        Ok(if entries.is_empty() { None } else { Some(Self(entries)) })
    }

    /// Order, completeness and ids (`posix_acl_valid`).
    pub(crate) fn valid(&self) -> bool {
        let mut state = USER_OBJ;
        let mut needs_mask = false;
        for entry in &self.0 {
            if entry.perm & !RWX != 0 {
                return false;
            }
            state = match (entry.tag, state) {
                (USER_OBJ, USER_OBJ) => USER,
                (USER, USER) | (GROUP, GROUP) if entry.id != NO_ID => {
                    needs_mask = true;
                    state
                }
                (GROUP_OBJ, USER) => GROUP,
                (MASK, GROUP) => OTHER,
                (OTHER, OTHER) => 0,
                (OTHER, GROUP) if !needs_mask => 0,
                _ => return false,
            };
        }
        state == 0
    }

    /// The value of the attribute.
    pub(crate) fn to_value(&self) -> Vec<u8> {
        let mut out = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            out.extend_from_slice(&entry.tag.to_le_bytes());
            out.extend_from_slice(&entry.perm.to_le_bytes());
            out.extend_from_slice(&entry.id.to_le_bytes());
        }
        out
    }

    /// The mode this list gives something of mode `mode`, and whether the mode says all of it, so that the
    /// list is not kept (`posix_acl_equiv_mode`).
    pub(crate) fn to_mode(&self, mode: u16) -> (u16, bool) {
        let (mut bits, mut whole) = (0, true);
        for entry in &self.0 {
            match entry.tag {
                USER_OBJ => bits |= (entry.perm & RWX) << 6,
                GROUP_OBJ => bits |= (entry.perm & RWX) << 3,
                OTHER => bits |= entry.perm & RWX,
                MASK => {
                    bits = (bits & !(RWX << 3)) | ((entry.perm & RWX) << 3);
                    whole = false;
                }
                _ => whole = false,
            }
        }
        ((mode & !ALL) | bits, whole)
    }

    /// The list after a change of mode (`posix_acl_chmod`).
    pub(crate) fn chmod(&mut self, mode: u16) {
        let class = if self.has(MASK) { MASK } else { GROUP_OBJ };
        for entry in &mut self.0 {
            match entry.tag {
                USER_OBJ => entry.perm = (mode >> 6) & RWX,
                OTHER => entry.perm = mode & RWX,
                tag if tag == class => entry.perm = (mode >> 3) & RWX,
                _ => {}
            }
        }
    }

    /// What something created with `mode` below this default list gets: its mode, and its access list
    /// unless the mode says all of it (`posix_acl_create`).
    pub(crate) fn inherit(&self, mode: u16) -> (u16, Option<Self>) {
        let mut list = self.clone();
        let class = if list.has(MASK) { MASK } else { GROUP_OBJ };
        let mut bits = mode & ALL;
        for entry in &mut list.0 {
            let shift = match entry.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == class => 3,
                _ => continue,
            };
            entry.perm &= (mode >> shift) & RWX;
            bits = (bits & !(RWX << shift)) | (entry.perm << shift);
        }
        let kept = list.0.iter().any(|entry| matches!(entry.tag, USER | GROUP | MASK));
        ((mode & !ALL) | bits, kept.then_some(list))
    }

    fn has(&self, tag: u16) -> bool {
        self.0.iter().any(|entry| entry.tag == tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        Acl(entries.iter().map(|(tag, perm, id)| Entry { tag: *tag, perm: *perm, id: *id }).collect()).to_value()
    }

    fn list(entries: &[(u16, u16, u32)]) -> Acl {
        Acl::parse(&value(entries)).unwrap().unwrap()
    }

    #[test]
    fn grammar() {
        assert_eq!(Acl::parse(b""), Ok(None));
        assert_eq!(Acl::parse(&[2, 0, 0, 0]), Ok(None));
        assert_eq!(Acl::parse(&[1, 0, 0, 0]), Err(Bad::Version));
        for bad in [&[2, 0, 0][..], &[2, 0, 0, 0, 1], &[2, 0, 0, 0, 3, 0, 7, 0, 0, 0, 0, 0]] {
            assert_eq!(Acl::parse(bad), Err(Bad::Refused(Refusal::Invalid)), "{bad:?}");
        }
        // Ids of entries that have none are made uniform.
        let odd = value(&[(USER_OBJ, 6, 5), (GROUP_OBJ, 4, 5), (OTHER, 4, 5)]);
        assert_eq!(
            Acl::parse(&odd).unwrap().unwrap(),
            list(&[(USER_OBJ, 6, NO_ID), (GROUP_OBJ, 4, NO_ID), (OTHER, 4, NO_ID)])
        );
    }

    #[test]
    fn order() {
        let full = [(USER_OBJ, 7, 0), (USER, 5, 1), (GROUP_OBJ, 5, 0), (GROUP, 4, 2), (MASK, 7, 0), (OTHER, 1, 0)];
        assert!(list(&full).valid());
        for left_out in [0, 2, 4, 5] {
            let mut some = full.to_vec();
            some.remove(left_out);
            assert!(!list(&some).valid(), "{left_out}");
        }
        let mut swapped = full;
        swapped.swap(1, 2);
        assert!(!list(&swapped).valid());
        assert!(!list(&[(USER_OBJ, 8, 0), (GROUP_OBJ, 4, 0), (OTHER, 4, 0)]).valid());
        assert!(!list(&[(USER_OBJ, 7, 0), (USER, 5, NO_ID), (GROUP_OBJ, 5, 0), (MASK, 7, 0), (OTHER, 1, 0)]).valid());
    }

    #[test]
    fn modes() {
        let short = list(&[(USER_OBJ, 6, 0), (GROUP_OBJ, 5, 0), (OTHER, 1, 0)]);
        assert_eq!(short.to_mode(0o104_777), (0o104_651, true));
        let mut full = list(&[(USER_OBJ, 7, 0), (USER, 7, 1), (GROUP_OBJ, 7, 0), (MASK, 6, 0), (OTHER, 1, 0)]);
        assert_eq!(full.to_mode(0o100_000), (0o100_761, false));
        full.chmod(0o640);
        assert_eq!(full.to_mode(0o100_000), (0o100_640, false));
        assert_eq!(full.0[2].perm, 7, "the group's own entry is behind the mask");
        let (mode, none) = short.inherit(0o040_755);
        assert_eq!((mode, none), (0o040_651 & 0o040_755, None));
        let (mode, some) = full.inherit(0o100_600);
        assert_eq!((mode, some.unwrap().to_mode(0).0), (0o100_600, 0o600));
    }
}
