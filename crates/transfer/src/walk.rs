//! A directory's files in the order of their paths, name by name, which is the order the protocol wants.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;

use rustix::fs::{FileType, Stat};
use sys::path::{Dir, Root};

use crate::{Error, Filter, Result};

/// Deepest directory that is gone into: each level has a descriptor open.
const MAX_DEPTH: usize = 256;

/// A file that is taken.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its path from the top.
    pub path: &'a str,
    /// The directory it is in.
    pub dir: &'a Dir,
    /// Its name there.
    pub name: &'a OsStr,
    /// Its status.
    pub stat: &'a Stat,
}

struct Level {
    dir: Dir,
    names: std::vec::IntoIter<OsString>,
    /// Length of the directory's path.
    length: usize,
    /// The directory itself, until it was told: one that is not taken is, once something below it is.
    untold: Option<(OsString, Stat)>,
    /// All that is in it is taken.
    whole: bool,
}

/// Tells of every file that is taken, directories before what is in them. Nothing is followed, and sockets are passed over.
///
/// # Errors
/// Directories that cannot be read; names that the protocol cannot carry; what `tell` says.
pub fn walk<E: From<Error>>(
    root: &Root,
    filter: &Filter,
    tell: &mut dyn FnMut(&Found<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    let top = root.dir().map_err(Error::io("."))?;
    let mut path = String::new();
    let mut levels = vec![Level { names: names(&top, "")?, dir: top, length: 0, untold: None, whole: false }];
    while let Some(level) = levels.last_mut() {
        path.truncate(level.length);
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        let stat = match level.dir.lstat(&name) {
            Ok(stat) => stat,
            // It was removed since.
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io(&format!("{path}/{}", name.display()))(e).into()),
        };
        if level.length > 0 {
            path.push('/');
        }
        let text = name.to_string_lossy();
        path.push_str(&text);
        let kind = FileType::from_raw_mode(stat.st_mode);
        let whole = level.whole;
        let taken = whole || filter.takes(&path);
        let directory = kind == FileType::Directory;
        if kind == FileType::Socket || !(taken || directory && filter.reaches(&path)) {
            continue;
        }
        if name.to_str().is_none() {
            return Err(Error::Name(path).into());
        }
        if taken {
            tell_above(&mut levels, &path, tell)?;
            if let Some(level) = levels.last() {
                tell(&Found { path: &path, dir: &level.dir, name: &name, stat: &stat })?;
            }
        }
        if directory && (whole || filter.reaches(&path)) {
            if levels.len() >= MAX_DEPTH {
                let source =
                    std::io::Error::new(ErrorKind::InvalidFilename, format!("more than {MAX_DEPTH} directories deep"));
                return Err(Error::Io { path, source }.into());
            }
            let opened = levels.last().map(|level| level.dir.open_dir(&name));
            let dir = match opened {
                Some(Ok(dir)) => dir,
                // It was removed, or replaced by something else; what comes of that is seen the next time.
                Some(Err(e)) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
                Some(Err(e)) => return Err(Error::io(&path)(e).into()),
                None => continue,
            };
            let names = names(&dir, &path)?;
            levels.push(Level {
                dir,
                names,
                length: path.len(),
                untold: (!taken).then_some((name, stat)),
                whole: taken && filter.takes_whole(),
            });
        }
    }
    Ok(())
}

/// Tells of the directories above that were not, outermost first.
fn tell_above<E>(
    levels: &mut [Level],
    path: &str,
    tell: &mut dyn FnMut(&Found<'_>) -> std::result::Result<(), E>,
) -> std::result::Result<(), E> {
    for at in 1..levels.len() {
        let Some((name, stat)) = levels.get_mut(at).and_then(|level| level.untold.take()) else { continue };
        if let (Some(above), Some(own)) = (levels.get(at - 1), levels.get(at))
            && let Some(path) = path.get(..own.length)
        {
            tell(&Found { path, dir: &above.dir, name: &name, stat: &stat })?;
        }
    }
    Ok(())
}

fn names(dir: &Dir, path: &str) -> Result<std::vec::IntoIter<OsString>> {
    let mut names: Vec<OsString> = dir.list().map_err(Error::io(path))?.into_iter().map(|entry| entry.name).collect();
    names.sort_unstable();
    Ok(names.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(dir: &std::path::Path, include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let root = Root::open(dir).unwrap();
        let filter = Filter::new(&root, &owned(include), &owned(exclude), &[]).unwrap();
        let mut found = Vec::new();
        walk(&root, &filter, &mut |file| {
            found.push(file.path.to_owned());
            Ok::<_, Error>(())
        })
        .unwrap();
        found
    }

    #[test]
    fn order_and_patterns() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b/c", "a-b/x", "a/z", "keep/in/deep", "keep/out", "top.log"] {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        // Name by name: what is in `a` comes before `a-b`.
        let all =
            ["a", "a/b", "a/b/c", "a/z", "a-b", "a-b/x", "keep", "keep/in", "keep/in/deep", "keep/out", "top.log"];
        assert_eq!(paths(dir.path(), &[], &[]), all);
        assert_eq!(
            paths(dir.path(), &[], &["a*", "keep", "!keep/in/deep"]),
            ["keep", "keep/in", "keep/in/deep", "top.log"]
        );
        assert_eq!(paths(dir.path(), &["keep/in"], &[]), ["keep", "keep/in", "keep/in/deep"]);
        assert_eq!(paths(dir.path(), &["none/such"], &[]), [""; 0]);
        assert_eq!(paths(dir.path(), &["*.log"], &[]), ["top.log"]);
    }
}
