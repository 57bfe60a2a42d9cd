//! The mirror of a bucket: whether the one that is there may be believed, and how it is made anew.
//!
//! The token in the file `mirror` is that of the server that left it in good order; while a server runs there is no such
//! file. A server that takes over first puts its own token into the bucket, so that no other one acknowledges anything
//! afterwards, and then lists.

use std::ffi::OsStr;
use std::io;
use std::path::Path;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use rustix::fs::Mode;
use types::Digest;

use super::{Bucket, OWNER};
use crate::name::{RepositoryName, Tag, UploadId};
use crate::storage::{DIR_MODE, FILE_MODE, PARTS, Storage, digest_of, file_name, make_shards, read_small, sync};

/// File that holds the token of the server that left the mirror whole.
const MIRROR: &str = "mirror";
/// Manifests that were read from the bucket.
pub(crate) const MANIFESTS: &str = "manifests";
/// Small objects asked for at once.
const AT_ONCE: usize = 32;

/// What a key of the bucket is.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    Content(Digest),
    Blob(RepositoryName, Digest),
    Manifest(RepositoryName, Digest),
    Tag(RepositoryName, Tag),
    Referrer(RepositoryName, Digest, Digest),
}

impl Key {
    fn parse(key: &str) -> Option<Self> {
        let digest = |text: &str| digest_of(OsStr::new(text));
        if let Some(rest) = key.strip_prefix("blobs/sha256/") {
            let (shard, hex) = rest.split_once('/')?;
            return digest(hex).filter(|_| hex.starts_with(shard) && shard.len() == 2).map(Self::Content);
        }
        let (name, rest) = key.strip_prefix("repositories/")?.split_once("/_")?;
        let name = RepositoryName::parse(name).ok()?;
        let (part, last) = rest.split_once('/')?;
        match part {
            "blobs" => Some(Self::Blob(name, digest(last)?)),
            "manifests" => Some(Self::Manifest(name, digest(last)?)),
            "tags" => Some(Self::Tag(name, Tag::parse(last).ok()?)),
            "referrers" => {
                let (subject, last) = last.split_once('/')?;
                Some(Self::Referrer(name, digest(subject)?, digest(last)?))
            }
            _ => None,
        }
    }
}

impl Bucket {
    /// Has a mirror in the storage's directory that agrees with the bucket. Blocks, for long where it is made anew.
    pub(crate) fn attach(&self, storage: &Storage, read_only: bool) -> io::Result<()> {
        let top = storage.root.dir()?;
        let believed = read_small(&top, OsStr::new(MIRROR))?;
        let owner = self.wait(self.remote.get(OWNER))?;
        let good = believed.is_some() && believed.as_deref().map(str::as_bytes) == owner.as_deref();
        if read_only {
            return if good { Ok(()) } else { self.make(storage) };
        }
        if believed.is_some() {
            top.unlink(OsStr::new(MIRROR))?;
            sync(&top)?;
        }
        let token = match believed.filter(|_| good) {
            Some(token) => token,
            None => UploadId::random()?.as_str().to_owned(),
        };
        if !good {
            if owner.is_some() {
                tracing::warn!(
                    "taking over the bucket {}: a server that still serves it can change nothing any more",
                    self.address
                );
            }
            self.wait(self.remote.put(OWNER, Bytes::from(token.clone())))?;
        }
        let _ = self.token.set(token);
        if good { Ok(()) } else { self.make(storage) }
    }

    /// Leaves the mirror to the next server, if it may be believed. Blocks.
    pub(crate) fn detach(&self, storage: &Storage) -> io::Result<()> {
        let Some(token) = self.close() else { return Ok(()) };
        rustix::fs::syncfs(&storage.staging)?;
        storage.write_atomic(&storage.root.dir()?, OsStr::new(MIRROR), token.as_bytes(), FILE_MODE)
    }

    fn make(&self, storage: &Storage) -> io::Result<()> {
        let started = std::time::Instant::now();
        let top = storage.root.dir()?;
        // Whoever finds half of it must not believe it.
        for name in [MIRROR, "repositories", "blobs", MANIFESTS] {
            top.remove_tree(OsStr::new(name))?;
        }
        for path in ["repositories", "blobs/sha256", MANIFESTS] {
            storage.root.create_dir_all(path, DIR_MODE)?;
        }
        make_shards(&storage.root)?;
        storage.forget_durable();
        let mut blobs = 0_u64;
        self.wait(self.remote.list("blobs", |key, size| {
            let Some(Key::Content(digest)) = Key::parse(key) else { return Ok(()) };
            blobs += 1;
            storage.note_content(&digest, size).map_err(|e| self.local(&e))
        }))?;
        let mut small = Vec::new();
        self.wait(self.remote.list("repositories", |key, _| {
            match Key::parse(key) {
                Some(Key::Blob(name, digest)) => {
                    mirror(storage, &name, PARTS[0], &file_name(&digest), b"").map_err(|e| self.local(&e))?;
                }
                Some(other) => small.push((key.to_owned(), other)),
                None => {}
            }
            Ok(())
        }))?;
        let links = small.len();
        // Tags come after all manifests: one that stands for nothing is what a push left that was broken off.
        let tags = self.fill(storage, small)?;
        for (name, tag, text) in tags {
            let digest = text.parse::<Digest>().ok();
            if let Some(digest) = digest.filter(|digest| storage.has_link(&name, PARTS[1], digest).unwrap_or(false)) {
                mirror(storage, &name, PARTS[2], &tag.file(), digest.to_string().as_bytes())?;
            }
        }
        rustix::fs::syncfs(&storage.staging)?;
        let took = started.elapsed();
        tracing::info!(
            "listed the bucket {}: {blobs} blobs, {links} manifests, tags and referrers in {took:.1?}",
            self.address
        );
        Ok(())
    }

    /// Reads small objects and mirrors them; gives the tags back.
    fn fill(&self, storage: &Storage, small: Vec<(String, Key)>) -> io::Result<Vec<(RepositoryName, Tag, String)>> {
        let mut tags = Vec::new();
        self.wait(async {
            let asked = stream::iter(small).map(|(key, parsed)| async move {
                let got = self.remote.get(&key).await;
                got.map(|got| (key, parsed, got))
            });
            let mut asked = asked.buffer_unordered(AT_ONCE);
            while let Some(answer) = asked.next().await {
                let (key, parsed, Some(bytes)) = answer? else { continue };
                match parsed {
                    Key::Manifest(name, digest) => {
                        if storage.content_size(&digest)?.is_some() {
                            mirror(storage, &name, PARTS[1], &file_name(&digest), &bytes)?;
                        }
                    }
                    Key::Referrer(name, subject, digest) => {
                        let part = format!("{}/{}", PARTS[3], subject.hex());
                        mirror(storage, &name, &part, &file_name(&digest), &bytes)?;
                    }
                    Key::Tag(name, tag) => tags.push((name, tag, String::from_utf8_lossy(&bytes).into_owned())),
                    Key::Content(_) | Key::Blob(..) => tracing::debug!("{key} is not read"),
                }
            }
            Ok(tags)
        })
    }

    fn local(&self, why: &io::Error) -> super::Failure {
        super::Failure::new(super::Kind::Local, &self.address, "mirror", why)
    }
}

/// A file of the mirror that is about to be synced with all others.
fn mirror(storage: &Storage, name: &RepositoryName, part: &str, file: &OsStr, bytes: &[u8]) -> io::Result<()> {
    for part in PARTS {
        storage.root.create_dir_all(name.path(part), DIR_MODE)?;
    }
    let dir = storage.root.create_dir_all(name.path(part), DIR_MODE)?;
    let fd = dir.create_file(file, Mode::RUSR | Mode::WUSR)?;
    io::Write::write_all(&mut std::fs::File::from(fd), bytes)
}

/// The key of what lies at a path of the mirror.
pub(crate) fn key(path: &Path) -> String {
    // Made of validated names.
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_ours_and_others() {
        let hex = "0f".repeat(32);
        let name = || RepositoryName::parse("a/b_c").unwrap();
        let digest = digest_of(OsStr::new(&hex)).unwrap();
        for (key, parsed) in [
            (format!("blobs/sha256/0f/{hex}"), Key::Content(digest)),
            (format!("repositories/a/b_c/_blobs/{hex}"), Key::Blob(name(), digest)),
            (format!("repositories/a/b_c/_manifests/{hex}"), Key::Manifest(name(), digest)),
            ("repositories/a/b_c/_tags/_v1".to_owned(), Key::Tag(name(), Tag::parse("_v1").unwrap())),
            (format!("repositories/a/b_c/_referrers/{hex}/{hex}"), Key::Referrer(name(), digest, digest)),
        ] {
            assert_eq!(Key::parse(&key), Some(parsed), "{key}");
        }
        for other in [
            "owner",
            "blobs/sha256/0f/short",
            &format!("blobs/sha256/10/{hex}"),
            &format!("blobs/sha256//{hex}"),
            &format!("repositories/../_blobs/{hex}"),
            &format!("repositories/A/_blobs/{hex}"),
            &format!("repositories/a/_other/{hex}"),
            "repositories/a/_tags/../x",
            "repositories/a/_tags/",
            "repositories/_tags/t",
        ] {
            assert_eq!(Key::parse(other), None, "{other}");
        }
    }
}
