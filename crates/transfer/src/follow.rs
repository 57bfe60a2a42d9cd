//! Paths with the links in them: what a path leads to has to be there for the path to lead to it.

use std::collections::BTreeSet;
use std::path::Path;

use dockerfile::ignore::Ignore;
use rustix::fs::FileType;
use sys::path::Root;

use crate::{Error, Result};

/// Most paths that links may add: they can lead in circles, and fan out.
const MAX_PATHS: usize = 10_000;

/// The paths, and those that links in them lead to. Links to outside lead to the same place below the top, as they do in
/// the builder. Wildcards stand for the links that they match.
///
/// # Errors
/// [`crate::Error::Io`] for directories that cannot be read, [`crate::Error::Pattern`] for wildcards that are none.
pub fn follow(root: &Root, paths: &[String]) -> Result<Vec<String>> {
    let mut follower =
        Follower { root, found: BTreeSet::new(), open: paths.iter().rev().map(|path| join("", path)).collect() };
    while let Some(path) = follower.open.pop() {
        follower.path(&path)?;
    }
    Ok(follower.found.into_iter().collect())
}

struct Follower<'a> {
    root: &'a Root,
    found: BTreeSet<String>,
    /// What is still to be looked at.
    open: Vec<String>,
}

impl Follower<'_> {
    fn path(&mut self, path: &str) -> Result<()> {
        let mut current = String::new();
        let mut names = path.split('/');
        while let Some(name) = names.next() {
            let links = self.links(&current, name)?;
            current = join(&current, name);
            let rest = names.clone().collect::<Vec<_>>().join("/");
            let last = rest.is_empty();
            if (last || !links.is_empty()) && (!self.found.insert(current.clone()) || self.found.len() > MAX_PATHS) {
                return Ok(());
            }
            if !links.is_empty() {
                self.open.extend(links.iter().map(|target| join(target, &rest)));
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where the links of this name in a directory lead.
    fn links(&self, directory: &str, name: &str) -> Result<Vec<String>> {
        let below = Path::new("/").join(directory);
        let mut targets = Vec::new();
        let mut read = |name: &std::ffi::OsStr| {
            if let Ok(target) = self.root.readlink(below.join(name)) {
                let target = target.to_string_lossy();
                targets.push(if target.starts_with('/') { join("", &target) } else { join(directory, &target) });
            }
        };
        if !name.contains(['*', '?', '[']) {
            read(std::ffi::OsStr::new(name));
            return Ok(targets);
        }
        let invalid = |e: dockerfile::ignore::IgnoreError| Error::Pattern { kind: "follow", reason: e.to_string() };
        // With the dot before it, no character at its beginning means anything but itself.
        let pattern = Ignore::patterns([format!("./{name}").as_str()]).map_err(invalid)?;
        let listed = match self.root.open_dir(&below).and_then(|dir| dir.list()) {
            Ok(listed) => listed,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(targets);
            }
            Err(e) => return Err(Error::io(directory)(e)),
        };
        let mut listed: Vec<_> = listed
            .into_iter()
            .filter(|entry| matches!(entry.file_type, FileType::Symlink | FileType::Unknown))
            .filter(|entry| entry.name.to_str().is_some_and(|name| pattern.excludes(name)))
            .collect();
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed.iter().for_each(|entry| read(&entry.name));
        Ok(targets)
    }
}

/// A path below another, clean; nothing is above the top.
fn join(base: &str, path: &str) -> String {
    let mut names: Vec<&str> = base.split('/').filter(|name| !name.is_empty()).collect();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_bring_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        std::fs::create_dir_all(at("real/deep")).unwrap();
        std::fs::write(at("real/deep/file"), "").unwrap();
        symlink("real", at("one")).unwrap();
        symlink("/one/deep", at("two")).unwrap();
        symlink("../../../etc/passwd", at("out")).unwrap();
        symlink("b", at("a")).unwrap();
        symlink("a", at("b")).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let found = |path: &str| follow(&root, &[path.to_owned()]).unwrap();
        assert_eq!(found("real/deep/file"), ["real/deep/file"]);
        assert_eq!(found("two/file"), ["one", "real/deep/file", "two"]);
        assert_eq!(found("/out"), ["etc/passwd", "out"]);
        assert_eq!(found("a"), ["a", "b"]);
        assert_eq!(found("o*"), ["etc/passwd", "o*", "real"]);
        assert_eq!(found("missing/x"), ["missing/x"]);
        assert_eq!(found("."), [""]);
    }
}
