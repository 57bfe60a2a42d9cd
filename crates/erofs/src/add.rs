//! Members of an archive, applied to the tree in the way the store unpacks a layer.
//!
//! The order of the checks is that of the store, so that an archive with two faults is refused for the same
//! one. What is not a member has no time of its own when it is unpacked; here it has that of the member
//! that implied it, so that the same archive gives the same image.

use layer::tar::{Entry, Kind};
use layer::{Whiteout, whiteout};

use crate::acl::{self, Acl, Bad};
use crate::chunks::{self, Sparse, TOO_FAR};
use crate::error::{Error, Refusal, Result};
use crate::node::{Data, NodeId, ROOT, device, file_type};
use crate::resolve::Stop;
use crate::tree::Tree;
use crate::xattr::{self, Denied};

/// Parent directories that are made without being members, counted by the components of their paths, as
/// unpacking bounds them.
const IMPLIED_MAX: usize = 4_000_000;
const NO_TARGET: &str = "the target of the hard link does not exist";

impl Tree {
    /// Adds a member whose data begins at byte `data_offset` of the archive: what
    /// [`layer::tar::Reader::position`] says right after the member was read.
    ///
    /// # Errors
    /// [`Error::Member`], [`Error::Refused`], [`Error::Limit`] where unpacking would fail;
    /// [`Error::Unsupported`] where an index cannot say what unpacking would make. The tree is of no use
    /// afterwards.
    pub fn add(&mut self, entry: &Entry, data_offset: u64) -> Result<()> {
        self.summary.entries += 1;
        let parts: Vec<&[u8]> = entry.components().collect();
        match parts.split_last() {
            None => {
                self.attributes(entry, ROOT)?;
                self.set_directory_time(entry, ROOT, &[]);
            }
            Some((name, parents)) => self.named(entry, data_offset, name, parents)?,
        }
        self.check_memory()
    }

    fn named(&mut self, entry: &Entry, data_offset: u64, name: &[u8], parents: &[&[u8]]) -> Result<()> {
        let parts = parents.iter().copied().chain([name]);
        match whiteout::classify_path(parts).map_err(|e| member(entry, &e.to_string()))? {
            Whiteout::None => {}
            Whiteout::Ignored => return Ok(()),
            Whiteout::Delete(target) => {
                if !matches!(entry.kind, Kind::File | Kind::HardLink) {
                    return Err(member(entry, "a whiteout that is no file"));
                }
                return self.whiteout(entry, parents, target);
            }
            Whiteout::Opaque => {
                if entry.kind != Kind::File || entry.size != 0 {
                    return Err(member(entry, "an opaque marker that is no empty file"));
                }
                if parents.is_empty() {
                    self.summary.opaque_root = true;
                    return Ok(());
                }
                let (directory, _) = self.parent(entry, parents)?;
                return self.make_opaque(directory);
            }
        }
        if entry.kind == Kind::CharDevice && entry.major == 0 && entry.minor == 0 {
            return Err(member(entry, "a character device 0:0 is reserved for whiteouts"));
        }
        let (parent, through) = self.parent(entry, parents)?;
        if name.len() > usize::from(u8::MAX) {
            return Err(refused(entry, Refusal::NameTooLong));
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(entry, parent, name, parents, through.is_empty());
        }
        let (mut keep, mut over_whiteout, mut removed) = (None, false, false);
        if let Some(id) = self.names.get(parent, name) {
            let present = self.node(id);
            over_whiteout = present.is_whiteout();
            if present.is_dir() && entry.kind == Kind::Directory {
                keep = Some(id);
            } else {
                self.remove(parent, name, through.is_empty())?;
                removed = true;
            }
        }
        match entry.kind {
            Kind::Directory => {
                let id = match keep {
                    Some(id) => id,
                    None => self.make_directory(entry, parent, name, 0o700),
                };
                if over_whiteout {
                    self.make_opaque(id)?;
                }
                self.attributes(entry, id)?;
                self.set_directory_time(entry, id, &through);
            }
            Kind::File => self.file(entry, parent, name, data_offset)?,
            _ => self.special(entry, parent, name)?,
        }
        if !removed {
            self.parent = Some((join(parents), parent, through));
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, parent: NodeId, name: &[u8], offset: u64) -> Result<()> {
        let stored = match &entry.sparse {
            Some(regions) => regions.iter().fold(0_u64, |sum, (_, length)| sum.saturating_add(*length)),
            None => entry.size,
        };
        self.summary.bytes = self.summary.bytes.saturating_add(stored);
        self.data_end = self.data_end.max(offset.saturating_add(stored));
        let data = match &entry.sparse {
            _ if entry.size == 0 => Data::Nothing,
            Some(regions) => {
                let sparse = Sparse::new(entry.size, regions, offset).map_err(Error::Unsupported)?;
                Data::Sparse(self.keep_sparse(sparse))
            }
            None => {
                if !chunks::countable(entry.size, chunks::whole_bits(entry.size)) {
                    return Err(Error::Unsupported("a file of too many pieces"));
                }
                Data::Whole(chunks::block(offset, entry.size).ok_or(Error::Unsupported(TOO_FAR))?)
            }
        };
        let id = self.create(parent, name, file_type::REGULAR | 0o600, data, entry.mtime.clamped());
        self.node_mut(id).size = entry.size;
        self.attributes(entry, id)
    }

    /// Symlinks, devices and FIFOs.
    fn special(&mut self, entry: &Entry, parent: NodeId, name: &[u8]) -> Result<()> {
        let (mode, data) = match entry.kind {
            Kind::Symlink => (file_type::SYMLINK | 0o777, Data::Link(self.links.len() as u32)),
            Kind::CharDevice => (file_type::CHAR | 0o600, Data::Device(device(entry.major, entry.minor))),
            Kind::BlockDevice => (file_type::BLOCK | 0o600, Data::Device(device(entry.major, entry.minor))),
            _ => (file_type::FIFO | 0o600, Data::Nothing),
        };
        let id = self.create(parent, name, mode, data, entry.mtime.clamped());
        if entry.kind == Kind::Symlink {
            self.links.extend_from_slice(&entry.link);
            self.node_mut(id).size = entry.link.len() as u64;
        }
        self.attributes(entry, id)
    }

    fn hard_link(&mut self, entry: &Entry, parent: NodeId, name: &[u8], parents: &[&[u8]], direct: bool) -> Result<()> {
        let parts: Vec<&[u8]> = entry.link_components().collect();
        if parts.iter().any(|part| part.starts_with(whiteout::PREFIX)) {
            return Err(member(entry, "a hard link to a whiteout"));
        }
        let Some((target, above)) = parts.split_last() else {
            return Err(member(entry, "a hard link without a target"));
        };
        if above == parents && *target == name {
            return Err(member(entry, "a hard link to itself"));
        }
        let from = match self.directory(above) {
            Ok((from, _)) => from,
            Err(Stop::Missing { .. } | Stop::Refused(Refusal::NotFound)) => return Err(member(entry, NO_TARGET)),
            Err(Stop::Refused(reason)) => return Err(refused(entry, reason)),
        };
        if target.len() > usize::from(u8::MAX) {
            return Err(refused(entry, Refusal::NameTooLong));
        }
        let Some(id) = self.names.get(from, target) else { return Err(member(entry, NO_TARGET)) };
        if self.node(id).is_dir() {
            return Err(member(entry, "a hard link to a directory"));
        }
        if self.node(id).is_whiteout() {
            return Err(member(entry, "a hard link to a whiteout"));
        }
        self.remove(parent, name, direct)?;
        // What was in the way may have been the target itself, or the directory it is in.
        if self.node(from).nlink == 0 || self.names.get(from, target) != Some(id) {
            return Err(refused(entry, Refusal::NotFound));
        }
        self.link(parent, name, id)
    }

    /// `.wh.NAME`: about the layers below. What this layer has of that name stays, but alone.
    fn whiteout(&mut self, entry: &Entry, parents: &[&[u8]], name: &[u8]) -> Result<()> {
        let (parent, _) = self.parent(entry, parents)?;
        if name.len() > usize::from(u8::MAX) {
            return Err(refused(entry, Refusal::NameTooLong));
        }
        match self.names.get(parent, name) {
            Some(id) if self.node(id).is_dir() => self.make_opaque(id),
            Some(_) => Ok(()),
            None => {
                self.create(parent, name, file_type::CHAR, Data::Device(0), entry.mtime.clamped());
                Ok(())
            }
        }
    }

    fn make_opaque(&mut self, id: NodeId) -> Result<()> {
        self.set_xattr(id, xattr::OPAQUE, b"y");
        self.check_fit(id)
    }

    fn make_directory(&mut self, entry: &Entry, parent: NodeId, name: &[u8], mode: u16) -> NodeId {
        let data = Data::Directory { parent, first: crate::node::NONE };
        self.create(parent, name, file_type::DIRECTORY | mode, data, entry.mtime.clamped())
    }

    /// The directory a member goes into, made when it is missing, and what symlinks on the way led through.
    fn parent(&mut self, entry: &Entry, parents: &[&[u8]]) -> Result<(NodeId, Vec<NodeId>)> {
        if let Some((path, id, through)) = self.parent.take()
            && is_join(&path, parents)
        {
            return Ok((id, through));
        }
        let (index, mut at) = match self.directory(parents) {
            Ok(found) => return Ok(found),
            Err(Stop::Missing { index, parent }) => (index, parent),
            Err(Stop::Refused(reason)) => return Err(refused(entry, reason)),
        };
        self.implied += parents.len();
        if self.implied > IMPLIED_MAX {
            let what = "directories that are no members of it";
            return Err(Error::Limit { what, limit: IMPLIED_MAX as u64 });
        }
        if parents.iter().any(|part| part.len() > usize::from(u8::MAX)) {
            return Err(refused(entry, Refusal::NameTooLong));
        }
        for name in &parents[index..] {
            at = self.make_directory(entry, at, name, 0o755);
        }
        // Once more, now that it exists, for what symlinks above it led through.
        self.directory(parents).map_err(|_| refused(entry, Refusal::NotFound))
    }

    fn set_directory_time(&mut self, entry: &Entry, id: NodeId, through: &[NodeId]) {
        let node = self.node_mut(id);
        node.mtime = entry.mtime.clamped();
        node.marks.timed = true;
        node.marks.aliased |= !through.is_empty();
        for id in through {
            self.node_mut(*id).marks.on_the_way = true;
        }
    }

    /// Owner, mode and extended attributes.
    fn attributes(&mut self, entry: &Entry, id: NodeId) -> Result<()> {
        let node = self.node_mut(id);
        (node.uid, node.gid) = (entry.uid, entry.gid);
        let symlink = node.is_symlink();
        let holds_user = matches!(node.mode & file_type::MASK, file_type::REGULAR | file_type::DIRECTORY);
        if !symlink {
            let mode = (node.mode & file_type::MASK) | (entry.mode & 0o7777) as u16;
            node.mode = mode;
            if let Some(value) = self.xattr(id, acl::ACCESS)
                && let Ok(Some(mut list)) = Acl::parse(value)
            {
                list.chmod(mode);
                self.set_xattr(id, acl::ACCESS, &list.to_value());
            }
        }
        for (key, value) in entry.xattrs.iter().filter(|(key, _)| xattr::wanted(key)) {
            let answer = match xattr::check(key, value, holds_user) {
                Ok(()) if *key == acl::ACCESS || *key == acl::DEFAULT => self.set_acl(id, key, value),
                Ok(()) => {
                    self.set_xattr(id, key, value);
                    Ok(())
                }
                denied => denied,
            };
            match answer {
                Ok(()) | Err(Denied::NotSupported) => {}
                // Symlinks and devices hold no user attributes.
                Err(Denied::NotPermitted) => {}
                Err(Denied::Refused(reason)) => return Err(refused(entry, reason)),
            }
        }
        self.check_fit(id)
    }

    fn set_acl(&mut self, id: NodeId, key: &[u8], value: &[u8]) -> Result<(), Denied> {
        let list = Acl::parse(value).map_err(|bad| match bad {
            Bad::Version => Denied::NotSupported,
            Bad::Refused(reason) => Denied::Refused(reason),
        })?;
        let node = self.node(id);
        if node.is_symlink() {
            return Err(Denied::NotSupported);
        }
        if key == acl::DEFAULT && !node.is_dir() {
            return if list.is_some() { Err(Denied::Refused(Refusal::Access)) } else { Ok(()) };
        }
        let Some(list) = list else {
            self.remove_xattr(id, key);
            return Ok(());
        };
        if !list.valid() {
            return Err(Denied::Refused(Refusal::Invalid));
        }
        if key == acl::ACCESS {
            let (mode, whole) = list.to_mode(node.mode);
            self.node_mut(id).mode = mode;
            if whole {
                self.remove_xattr(id, key);
                return Ok(());
            }
        }
        self.set_xattr(id, key, &list.to_value());
        Ok(())
    }

    fn check_fit(&self, id: NodeId) -> Result<()> {
        match self.xattrs.get(self.node(id).xattrs as usize) {
            Some(list) if !list.fit() => Err(Error::Unsupported("extended attributes too large for an inode")),
            _ => Ok(()),
        }
    }
}

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&b'/')
}

fn is_join(path: &[u8], parts: &[&[u8]]) -> bool {
    let mut rest = path;
    for (index, part) in parts.iter().enumerate() {
        let Some(after) = rest.strip_prefix(&b"/"[..usize::from(index > 0)]).and_then(|rest| rest.strip_prefix(*part))
        else {
            return false;
        };
        rest = after;
    }
    rest.is_empty()
}

fn member(entry: &Entry, reason: &str) -> Error {
    Error::Member { path: entry.display_path(), reason: reason.to_owned() }
}

fn refused(entry: &Entry, reason: Refusal) -> Error {
    Error::Refused { path: entry.display_path(), reason }
}
