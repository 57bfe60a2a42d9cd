//! How many bytes are stored, for quotas: in all, and below prefixes of repositories' names.
//!
//! The total counts every file among the blobs once, referred to or not. A prefix counts each piece of content once
//! that a repository below it links to. The invariant: what is counted never exceeds a quota by an act of a client, and
//! is what a new scan of the directory would count. Whoever makes or removes a link or a file holds that digest's turn
//! meanwhile. Without quotas nothing is counted and nothing is held.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use types::Digest;

use crate::config::Quota;
use crate::error::{Code, Error, Result};
use crate::name::RepositoryName;

/// Digests take turns in so many groups.
const TURNS: usize = 64;

/// See the file's paragraph.
#[derive(Debug)]
pub(crate) struct Usage {
    scopes: Vec<Scope>,
    turns: Vec<Mutex<()>>,
}

#[derive(Debug)]
struct Scope {
    /// Nothing for the total.
    prefix: Option<String>,
    limit: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: u64,
    /// Size of each piece, and how often it is linked to.
    pieces: HashMap<Digest, (u64, u64)>,
}

impl Held {
    fn add(&mut self, digest: &Digest, size: u64) {
        let piece = self.pieces.entry(*digest).or_insert((size, 0));
        piece.1 += 1;
        if piece.1 == 1 {
            self.bytes += size;
        }
    }

    fn remove(&mut self, digest: &Digest) {
        if let Some(piece) = self.pieces.get_mut(digest) {
            piece.1 -= 1;
            if piece.1 == 0 {
                self.bytes -= piece.0;
                self.pieces.remove(digest);
            }
        }
    }
}

impl Scope {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn covers(&self, repository: &RepositoryName) -> bool {
        let rest = |prefix: &String| repository.as_str().strip_prefix(prefix.as_str());
        self.prefix
            .as_ref()
            .is_none_or(|prefix| rest(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }

    fn full(&self, used: u64, more: u64) -> Error {
        let whose = self.prefix.as_deref().map_or("this registry".to_owned(), |prefix| format!("{prefix}/"));
        let text = format!(
            "the quota of {whose} is {} bytes, {used} are in use and {more} more were to be stored: delete what is not \
             needed and wait for the next garbage collection, or ask for a larger quota",
            self.limit
        );
        Error::new(Code::Denied, text).with_status(StatusCode::INSUFFICIENT_STORAGE)
    }
}

impl Usage {
    /// With `turns` digests have turns; without, whoever makes or removes holds them in another way.
    pub(crate) fn new(quotas: &[Quota], turns: bool) -> Self {
        let scope = |quota: &Quota| Scope { prefix: quota.prefix.clone(), limit: quota.bytes, held: Mutex::default() };
        let turns = if quotas.is_empty() || !turns { 0 } else { TURNS };
        Self { scopes: quotas.iter().map(scope).collect(), turns: (0..turns).map(|_| Mutex::default()).collect() }
    }

    /// Whether there is anything to count.
    pub(crate) fn counts(&self) -> bool {
        !self.scopes.is_empty()
    }

    /// The digest's turn; nothing where nothing is counted, or turns are not how it is done.
    pub(crate) fn turn(&self, digest: &Digest) -> Option<MutexGuard<'_, ()>> {
        let turn = self.turns.get(usize::from(digest.as_bytes()[0]) % TURNS)?;
        Some(turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn totals(&self) -> impl Iterator<Item = &Scope> {
        self.scopes.iter().filter(|scope| scope.prefix.is_none())
    }

    fn prefixes(&self, repository: &RepositoryName) -> impl Iterator<Item = &Scope> {
        self.scopes.iter().filter(|scope| scope.prefix.is_some() && scope.covers(repository))
    }

    /// Counts what is there already when the directory is opened.
    pub(crate) fn found_content(&self, digest: &Digest, size: u64) {
        self.totals().for_each(|scope| scope.held().add(digest, size));
    }

    /// The same for a link.
    pub(crate) fn found_link(&self, repository: &RepositoryName, digest: &Digest, size: u64) {
        self.prefixes(repository).for_each(|scope| scope.held().add(digest, size));
    }

    /// Counts a file, unless it is counted, and a link where `new` says that there is none yet.
    ///
    /// # Errors
    /// `DENIED` (507) when a quota does not have the room; then nothing is counted.
    pub(crate) fn charge(&self, repository: &RepositoryName, digest: &Digest, size: u64, new: bool) -> Result<()> {
        let prefixes = self.prefixes(repository).filter(|_| new);
        let mut charged: Vec<&Scope> = Vec::new();
        for scope in self.totals().chain(prefixes) {
            let mut held = scope.held();
            let here = held.pieces.contains_key(digest);
            if !here && held.bytes.saturating_add(size) > scope.limit {
                let error = scope.full(held.bytes, size);
                drop(held);
                charged.into_iter().for_each(|scope| scope.held().remove(digest));
                return Err(error);
            }
            // A file is one, however often it is pushed.
            if scope.prefix.is_some() || !here {
                held.add(digest, size);
                charged.push(scope);
            }
        }
        Ok(())
    }

    /// A link is gone, or was not made after all.
    pub(crate) fn link_gone(&self, repository: &RepositoryName, digest: &Digest) {
        self.prefixes(repository).for_each(|scope| scope.held().remove(digest));
    }

    /// A file is gone.
    pub(crate) fn content_gone(&self, digest: &Digest) {
        self.totals().for_each(|scope| scope.held().remove(digest));
    }

    /// Whether an upload may take `more` bytes; `uploading` are those of a repository's that are in progress already.
    ///
    /// # Errors
    /// `DENIED` (507).
    pub(crate) fn room(
        &self,
        repository: &RepositoryName,
        more: u64,
        uploading: impl Fn(&dyn Fn(&RepositoryName) -> bool) -> u64,
    ) -> Result<()> {
        for scope in self.scopes.iter().filter(|scope| scope.covers(repository)) {
            let used = scope.held().bytes + uploading(&|other| scope.covers(other));
            if used.saturating_add(more) > scope.limit {
                return Err(scope.full(used, more));
            }
        }
        Ok(())
    }

    /// Prefix (empty for the total), limit and use of each quota, bytes.
    pub(crate) fn all(&self) -> Vec<(String, u64, u64)> {
        let one = |scope: &Scope| (scope.prefix.clone().unwrap_or_default(), scope.limit, scope.held().bytes);
        self.scopes.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_piece_counts_once_and_nothing_beyond_the_limit() {
        let quota = |prefix: Option<&str>, bytes| Quota { prefix: prefix.map(str::to_owned), bytes };
        let usage = Usage::new(&[quota(None, 100), quota(Some("a"), 50)], true);
        let name = |text| RepositoryName::parse(text).unwrap();
        let digest = |n| Digest::sha256([n; 32]);
        let used = || usage.all().into_iter().map(|(_, _, used)| used).collect::<Vec<_>>();
        usage.charge(&name("a/x"), &digest(1), 30, true).unwrap();
        usage.charge(&name("a"), &digest(1), 30, true).unwrap();
        assert_eq!(used(), [30, 30]);
        let error = usage.charge(&name("a/y"), &digest(2), 30, true).unwrap_err();
        assert_eq!((error.code(), error.status()), (Code::Denied, StatusCode::INSUFFICIENT_STORAGE));
        assert_eq!(used(), [30, 30], "nothing is counted that was refused");
        usage.charge(&name("ab"), &digest(2), 70, true).unwrap();
        assert!(usage.charge(&name("b"), &digest(3), 1, true).is_err());
        usage.charge(&name("b"), &digest(2), 70, true).unwrap();
        usage.link_gone(&name("a"), &digest(1));
        assert_eq!(used(), [100, 30]);
        usage.link_gone(&name("a/x"), &digest(1));
        assert_eq!(used(), [100, 0]);
        usage.content_gone(&digest(1));
        assert_eq!(used(), [70, 0]);
        assert!(usage.room(&name("a"), 31, |_| 0).is_err());
        assert!(usage.room(&name("a"), 30, |_| 0).is_ok());
        assert!(usage.room(&name("a"), 20, |covers| if covers(&name("a/z")) { 31 } else { 0 }).is_err());
    }
}
