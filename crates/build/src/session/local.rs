//! Files of a client on this host, taken from its own directory: nothing is sent, and of what did not change nothing is read.

use std::os::fd::OwnedFd;

use sys::path::Root;
use transfer::{Filter, Fingerprint, Links, walk};
use types::Kind;

use super::Wanted;
use super::pool::Held;
use super::receive::{Counts, Index, Key, Receiver};
use crate::error::{Error, Result};

impl From<transfer::Error> for Error {
    fn from(error: transfer::Error) -> Self {
        let kind = match &error {
            transfer::Error::Io { .. } => Kind::Internal,
            _ => Kind::Invalid,
        };
        Self::new(kind, error.to_string())
    }
}

/// Makes the directory what the client's has of what is wanted. Blocking.
pub(super) fn take(
    held: Held,
    directory: &OwnedFd,
    wanted: &Wanted,
    moved: &(dyn Fn(u64) + Send + Sync),
) -> Result<(Held, Counts)> {
    let fail = |e| Error::io(format_args!("cannot open the client's directory {}", wanted.name), e);
    let root = Root::from_fd(directory.try_clone().map_err(fail)?);
    let filter = Filter::new(&root, &wanted.include, &wanted.exclude, &wanted.follow)?;
    if unchanged(&held.index, &root, &filter)? {
        return Ok((held, Counts::default()));
    }
    let mut receiver = Receiver::new(held)?;
    let mut links = Links::default();
    walk(&root, &filter, &mut |found| {
        let origin = Fingerprint::of(found.stat);
        let known = receiver.before.get(&Key::of(found.path)).filter(|entry| entry.origin == Some(origin));
        // Names of one file are told by the order in which they are met.
        let stat = match known.filter(|_| found.stat.st_nlink == 1) {
            Some(entry) => entry.stat.clone(),
            None => links.describe(found)?,
        };
        receiver.listed(stat, Some(origin))?;
        receiver.copy(found, &origin, moved)
    })?;
    receiver.end_of_list()?;
    receiver.end()
}

/// Whether the client's directory has what was taken from it the last time.
fn unchanged(index: &Index, root: &Root, filter: &Filter) -> Result<bool> {
    enum Stop {
        Changed,
        Failed(transfer::Error),
    }
    impl From<transfer::Error> for Stop {
        fn from(error: transfer::Error) -> Self {
            Self::Failed(error)
        }
    }
    let mut entries = index.entries.iter();
    let walked = walk(root, filter, &mut |found| match entries.next() {
        Some((key, entry)) if entry.origin == Some(Fingerprint::of(found.stat)) && key.is(found.path) => Ok(()),
        _ => Err(Stop::Changed),
    });
    match walked {
        Ok(()) => Ok(entries.next().is_none()),
        Err(Stop::Changed) => Ok(false),
        Err(Stop::Failed(error)) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    fn taken(held: Held, from: &Path, exclude: &[&str]) -> (Held, Counts) {
        let directory = OwnedFd::from(fs::File::open(from).unwrap());
        let exclude = exclude.iter().map(|text| (*text).to_owned()).collect();
        let wanted = Wanted { name: "context".to_owned(), exclude, ..Wanted::default() };
        take(held, &directory, &wanted, &|_| {}).unwrap()
    }

    #[test]
    fn only_what_changed_is_taken() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |path: &str, text: &str| fs::write(from.path().join(path), text).unwrap();
        let read = |path: &str| fs::read_to_string(to.path().join(path));
        fs::create_dir_all(from.path().join("d/e")).unwrap();
        write("d/a", "one");
        write("d/e/b", "two");
        write("skip.log", "no");
        symlink("/etc/passwd", from.path().join("out")).unwrap();
        fs::hard_link(from.path().join("d/a"), from.path().join("linked")).unwrap();
        let empty = Held::at(to.path());
        let (held, counts) = taken(empty, from.path(), &["*.log"]);
        assert_eq!((counts.files, counts.bytes), (2, 6));
        assert_eq!(read("d/a").unwrap(), "one");
        assert_eq!(read("linked").unwrap(), "one");
        assert!(!to.path().join("skip.log").exists());
        // A link stays one, wherever it leads.
        assert_eq!(fs::read_link(to.path().join("out")).unwrap(), Path::new("/etc/passwd"));
        held.index.remember("all".to_owned(), [1; 32]);
        let (held, counts) = taken(held, from.path(), &["*.log"]);
        assert_eq!(counts.files, 0);
        assert_eq!(held.index.remembered("all"), Some([1; 32]));

        write("d/e/b", "owt");
        fs::remove_file(from.path().join("out")).unwrap();
        fs::set_permissions(from.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
        let (held, counts) = taken(held, from.path(), &["*.log"]);
        assert_eq!((counts.files, read("d/e/b").unwrap()), (1, "owt".to_owned()));
        assert!(to.path().join("out").symlink_metadata().is_err());
        assert_eq!(fs::metadata(to.path().join("d")).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(held.index.remembered("all"), None);

        // The same size and time, but another file.
        let time = fs::metadata(from.path().join("d/e/b")).unwrap().modified().unwrap();
        write("d/e/b", "TWO");
        fs::File::options().write(true).open(from.path().join("d/e/b")).unwrap().set_modified(time).unwrap();
        taken(held, from.path(), &["*.log"]);
        assert_eq!(read("d/e/b").unwrap(), "TWO");
    }
}
