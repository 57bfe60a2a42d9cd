//! The tree that is collected: nodes, their names, links, attributes and holes, and the few operations on
//! a file system that unpacking needs.
//!
//! Nothing here is recursive, as the depth of a tree is the archive's choice. Memory is counted and bounded
//! after every member.

use layer::tar::Mtime;

use crate::acl::{self, Acl};
use crate::chunks::Sparse;
use crate::error::{Error, Result};
use crate::names::Names;
use crate::node::{Data, Marks, NONE, Node, NodeId, ROOT, SETGID, file_type};
use crate::xattr::Xattrs;

/// Mode of the root when the archive does not say: that of the store's new layers.
const ROOT_MODE: u16 = 0o755;
/// Links one file may have on ext4, the common place for layers that are unpacked.
const LINKS_MAX: u32 = 65_000;
/// Bytes of names and link texts that 32-bit places can reach, with room for the member that passes it.
const MEMORY_MAX: u64 = (1 << 32) - (1 << 20);

/// Bounds of one index. Passing one is [`Error::Unsupported`]: unpacking has no need of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of memory the tree may take before it is written; a member takes about 120.
    pub memory_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_bytes: 512 << 20, index_bytes: 1 << 30 }
    }
}

/// What was indexed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of its regular files, holes not counted.
    pub bytes: u64,
    /// The archive hides everything below its root, which the image cannot say: nothing is to be stacked
    /// below it.
    pub opaque_root: bool,
    /// Inodes of the image.
    pub inodes: u64,
    /// Bytes of the image.
    pub index_bytes: u64,
}

/// The tree of one layer.
#[derive(Debug)]
pub struct Tree {
    pub(crate) options: Options,
    pub(crate) summary: Summary,
    pub(crate) nodes: Vec<Node>,
    pub(crate) names: Names,
    /// Texts of symlinks, end to end.
    pub(crate) links: Vec<u8>,
    pub(crate) xattrs: Vec<Xattrs>,
    pub(crate) sparse: Vec<Sparse>,
    /// Bytes of the two lists above.
    listed: u64,
    /// The directory the last member went into, by its path, with the nodes symlinks led through, unless
    /// that member removed something: the path may have gone through it.
    pub(crate) parent: Option<(Vec<u8>, NodeId, Vec<NodeId>)>,
    /// Components of parents that were missing.
    pub(crate) implied: usize,
    /// Where the last data of a member ends in the archive.
    pub(crate) data_end: u64,
}

impl Tree {
    /// An empty tree.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let root = Node {
            size: 0,
            mtime: Mtime::default(),
            data: Data::Directory { parent: ROOT, first: NONE },
            uid: 0,
            gid: 0,
            nlink: 1,
            xattrs: NONE,
            mode: file_type::DIRECTORY | ROOT_MODE,
            marks: Marks::default(),
        };
        Self {
            options: Options { memory_bytes: options.memory_bytes.min(MEMORY_MAX), ..options },
            summary: Summary::default(),
            nodes: vec![root],
            names: Names::new(),
            links: Vec::new(),
            xattrs: Vec::new(),
            sparse: Vec::new(),
            listed: 0,
            parent: None,
            implied: 0,
            data_end: 0,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id as usize]
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    /// Fails once the tree takes more memory than it may.
    pub(crate) fn check_memory(&self) -> Result<()> {
        let nodes = (self.nodes.len() * size_of::<Node>()) as u64;
        let all = nodes + self.names.memory() + self.links.len() as u64 + self.listed;
        if all > self.options.memory_bytes {
            return Err(Error::Unsupported("more metadata than an index may take memory"));
        }
        Ok(())
    }

    /// Makes `name` in `parent` with what it inherits: the group and the bit for it below a set-group-id
    /// directory, access lists below a default one (inode(7), acl(5)).
    pub(crate) fn create(&mut self, parent: NodeId, name: &[u8], mode: u16, data: Data, mtime: Mtime) -> NodeId {
        let above = self.node(parent);
        let mut node =
            Node { size: 0, mtime, data, uid: 0, gid: 0, nlink: 1, xattrs: NONE, mode, marks: Marks::default() };
        if above.mode & SETGID != 0 {
            node.gid = above.gid;
            if node.is_dir() {
                node.mode |= SETGID;
            }
        }
        let mut lists = Xattrs::default();
        if !node.is_symlink()
            && let Some(value) = self.xattr(parent, acl::DEFAULT)
            && let Ok(Some(default)) = Acl::parse(value)
        {
            if node.is_dir() {
                lists.set(acl::DEFAULT, value);
            }
            let (mode, access) = default.inherit(node.mode);
            node.mode = mode;
            if let Some(access) = access {
                lists.set(acl::ACCESS, &access.to_value());
            }
        }
        let id = self.nodes.len() as NodeId;
        self.nodes.push(node);
        if !lists.is_empty() {
            self.change_xattrs(id, |to| *to = lists);
        }
        self.name(parent, name, id);
        id
    }

    /// Makes `name` in `parent` another name of `node`.
    pub(crate) fn link(&mut self, parent: NodeId, name: &[u8], node: NodeId) -> Result<()> {
        if self.node(node).nlink >= LINKS_MAX {
            return Err(Error::Unsupported("a file with more than 65000 links"));
        }
        self.node_mut(node).nlink += 1;
        self.name(parent, name, node);
        Ok(())
    }

    fn name(&mut self, parent: NodeId, name: &[u8], node: NodeId) {
        if let Data::Directory { first, .. } = &mut self.nodes[parent as usize].data {
            self.names.set(parent, name, node, first);
        }
    }

    /// Removes `name` of `parent` and everything below it.
    ///
    /// Unpacking sets the times of directories at its end, by the paths of their members. A path that leads
    /// elsewhere by then sets the time of something else; such archives are left to it. `direct` says that
    /// the path to `parent` went through no symlink.
    pub(crate) fn remove(&mut self, parent: NodeId, name: &[u8], direct: bool) -> Result<()> {
        const REPLACED: Error = Error::Unsupported("a directory that is replaced after its time was set");
        let Some(top) = self.names.get(parent, name) else { return Ok(()) };
        self.names.clear(parent, name);
        let marks = self.node(top).marks;
        if marks.timed && (marks.aliased || !direct) {
            return Err(REPLACED);
        }
        let mut pending = vec![top];
        while let Some(id) = pending.pop() {
            let node = &mut self.nodes[id as usize];
            if (id != top && node.marks.timed) || node.marks.on_the_way {
                return Err(REPLACED);
            }
            node.nlink -= 1;
            if let Data::Directory { first, .. } = node.data {
                pending.extend(self.names.list(first).map(|(_, node)| node));
            }
        }
        Ok(())
    }

    pub(crate) fn xattr(&self, id: NodeId, key: &[u8]) -> Option<&[u8]> {
        self.xattrs.get(self.node(id).xattrs as usize)?.get(key)
    }

    pub(crate) fn set_xattr(&mut self, id: NodeId, key: &[u8], value: &[u8]) {
        self.change_xattrs(id, |list| list.set(key, value));
    }

    pub(crate) fn remove_xattr(&mut self, id: NodeId, key: &[u8]) {
        if self.xattr(id, key).is_some() {
            self.change_xattrs(id, |list| list.remove(key));
        }
    }

    fn change_xattrs(&mut self, id: NodeId, change: impl FnOnce(&mut Xattrs)) {
        let node = &mut self.nodes[id as usize];
        if node.xattrs == NONE {
            node.xattrs = self.xattrs.len() as u32;
            self.xattrs.push(Xattrs::default());
            self.listed += size_of::<Xattrs>() as u64;
        }
        let list = &mut self.xattrs[node.xattrs as usize];
        let before = list.memory();
        change(list);
        self.listed = self.listed - before + list.memory();
    }

    /// Keeps the holes of a file; the answer is their number.
    pub(crate) fn keep_sparse(&mut self, sparse: Sparse) -> u32 {
        self.listed += sparse.memory();
        self.sparse.push(sparse);
        (self.sparse.len() - 1) as u32
    }
}
