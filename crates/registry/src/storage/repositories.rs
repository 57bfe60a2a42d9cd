//! The list of repositories, read from the directories themselves: there is no index that could disagree with them.

use std::ffi::OsStr;
use std::io;

use super::{PARTS, Storage, found};
use crate::name::RepositoryName;

impl Storage {
    /// Every repository that was ever pushed to and not removed since, sorted by the bytes of its name. Blocks for as
    /// long as the tree is large.
    pub(crate) fn repositories(&self) -> io::Result<Vec<RepositoryName>> {
        let mut names = Vec::new();
        // Names yet to be looked at; relative ones, so that no more than one directory is open at a time.
        let mut pending = vec![String::new()];
        while let Some(name) = pending.pop() {
            let path = std::path::Path::new("repositories").join(&name);
            let Some(dir) = found(self.root.open_dir(&path))? else { continue };
            for entry in dir.list()? {
                let Some(part) = entry.name.to_str() else { continue };
                if part == PARTS[1] {
                    names.extend(RepositoryName::parse(&name).ok());
                } else if !part.starts_with('_') {
                    pending.push(if name.is_empty() { part.to_owned() } else { format!("{name}/{part}") });
                }
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether a repository has any manifest; the catalog shows no others.
    pub(crate) fn has_manifests(&self, name: &RepositoryName) -> io::Result<bool> {
        Ok(match self.part(name, "_manifests")? {
            Some(dir) => !dir.list()?.is_empty(),
            None => false,
        })
    }

    /// Removes the directories of a repository that holds nothing, and those above it that are empty then. The caller
    /// has closed the gate.
    pub(super) fn remove_if_empty(&self, name: &RepositoryName) -> io::Result<bool> {
        for part in &PARTS[..3] {
            if self.part(name, part)?.is_some_and(|dir| dir.list().map_or(true, |list| !list.is_empty())) {
                return Ok(false);
            }
        }
        self.forget_durable();
        let path = std::path::Path::new("repositories").join(name.as_str());
        let dir = self.root.open_dir(&path)?;
        for part in PARTS {
            // The referrers alone may hold something: directories that are empty by now.
            dir.remove_tree(OsStr::new(part))?;
        }
        let mut rest = Some(path.as_path());
        while let Some(path) = rest.filter(|path| path.components().count() > 1) {
            let (parent, last) = self.root.parent(path)?;
            if parent.rmdir(&last).is_err() {
                // Another repository lies below.
                break;
            }
            rest = path.parent();
        }
        Ok(true)
    }
}
