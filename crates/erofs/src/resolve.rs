//! Paths of members, resolved as openat2(2) does under `RESOLVE_IN_ROOT`: symlinks are followed, absolute
//! ones and `..` end at the root of the tree, 40 symlinks are the most.
//!
//! Answers also say which nodes a symlink led through, for [`Tree::remove`].

use crate::error::Refusal;
use crate::node::{Data, NodeId, ROOT};
use crate::tree::Tree;

/// Symlinks followed in one resolution (`MAXSYMLINKS`, path_resolution(7)).
const LINKS_MAX: usize = 40;
/// Longest name (`EROFS_NAME_LEN`, `NAME_MAX`).
const NAME_MAX: usize = 255;

/// Where a resolution ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing has the name of this component of the path itself; the directory it is missing in.
    Missing { index: usize, parent: NodeId },
    /// As the kernel would answer.
    Refused(Refusal),
}

enum Step {
    Missing,
    Refused(Refusal),
}

struct Walk<'a> {
    tree: &'a Tree,
    followed: usize,
    through: Vec<NodeId>,
}

impl Tree {
    /// The directory `parts` lead to, and the nodes symlinks led through.
    pub(crate) fn directory(&self, parts: &[&[u8]]) -> Result<(NodeId, Vec<NodeId>), Stop> {
        let mut walk = Walk { tree: self, followed: 0, through: Vec::new() };
        let mut at = ROOT;
        for (index, part) in parts.iter().enumerate() {
            at = match walk.step(at, part) {
                Ok(next) => next,
                Err(Step::Missing) => return Err(Stop::Missing { index, parent: at }),
                Err(Step::Refused(reason)) => return Err(Stop::Refused(reason)),
            };
        }
        Ok((at, walk.through))
    }
}

impl Walk<'_> {
    fn step(&mut self, at: NodeId, name: &[u8]) -> Result<NodeId, Step> {
        if name.len() > NAME_MAX {
            return Err(Step::Refused(Refusal::NameTooLong));
        }
        let id = self.tree.names.get(at, name).ok_or(Step::Missing)?;
        let node = self.tree.node(id);
        match node.data {
            Data::Directory { .. } => Ok(id),
            Data::Link(place) => {
                self.through.push(id);
                let place = place as usize;
                self.follow(at, &self.tree.links[place..place + node.size as usize]).map_err(Step::Refused)
            }
            _ => Err(Step::Refused(Refusal::NotDirectory)),
        }
    }

    /// The directory a symlink in the directory `at` leads to. At most 40 deep in itself.
    fn follow(&mut self, at: NodeId, target: &[u8]) -> Result<NodeId, Refusal> {
        self.followed += 1;
        if self.followed > LINKS_MAX {
            return Err(Refusal::Loop);
        }
        let mut at = if target.starts_with(b"/") { ROOT } else { at };
        for part in target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
            if part == b".." {
                if let Data::Directory { parent, .. } = self.tree.node(at).data {
                    at = parent;
                }
                continue;
            }
            at = match self.step(at, part) {
                Ok(next) => next,
                Err(Step::Missing) => return Err(Refusal::NotFound),
                Err(Step::Refused(reason)) => return Err(reason),
            };
            self.through.push(at);
        }
        Ok(at)
    }
}
