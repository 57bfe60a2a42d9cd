//! Manifests, tags and referrers of repositories.
//!
//! The invariant: a manifest's link is written when everything it refers to was seen in the same repository under the
//! gate, and a tag is written after its manifest; so what a tag leads to was complete when it was pushed.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::fs::Mode;
use types::Digest;

use super::bucket::{blob_key, holds, mirror::key};
use super::linking::Linking;
use super::{DIR_MODE, FILE_MODE, Storage, digests, file_name, found, read_small, sync};
use crate::error::{Error, Result};
use crate::manifest::{MANIFEST_MAX, Manifest};
use crate::name::{Reference, RepositoryName, Tag};

/// A manifest as it is sent.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

impl Storage {
    /// What a tag stands for.
    pub(crate) fn resolve(&self, repository: &RepositoryName, reference: &Reference) -> io::Result<Option<Digest>> {
        let tag = match reference {
            Reference::Digest(digest) => return Ok(Some(*digest)),
            Reference::Tag(tag) => tag,
        };
        let Some(dir) = self.part(repository, "_tags")? else { return Ok(None) };
        let Some(text) = read_small(&dir, &tag.file())? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| io::Error::other(format!("the file of tag {} is damaged", tag.as_str())))
    }

    /// Reads a manifest that the repository has.
    pub(crate) fn manifest(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<Stored>> {
        let Some(dir) = self.part(repository, "_manifests")? else { return Ok(None) };
        let Some(media_type) = read_small(&dir, &file_name(digest))? else { return Ok(None) };
        let Some(bytes) = self.read_manifest(digest)? else { return Ok(None) };
        Ok(Some(Stored { digest: *digest, media_type, bytes }))
    }

    /// Stores a checked manifest, and its tag if it is pushed by one, and returns when both are on disk.
    ///
    /// # Errors
    /// `MANIFEST_BLOB_UNKNOWN` for each piece that the repository has not, `MANIFEST_INVALID` for a size that is not
    /// the piece's.
    pub(crate) fn put_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        let relied_on: Vec<Digest> = manifest.references.iter().map(|reference| reference.digest).collect();
        let linking = self.linking_manifest(repository, manifest, tag, &relied_on)?;
        let mut missing = Vec::new();
        for reference in &manifest.references {
            linking.rely_on(&reference.digest);
            let looked = || -> io::Result<Option<u64>> {
                let linked = self.has_link(repository, "_manifests", &reference.digest)?
                    || self.has_link(repository, "_blobs", &reference.digest)?;
                if linked { self.content_size(&reference.digest) } else { Ok(None) }
            };
            match looked().map_err(Error::io("look for what a manifest refers to"))? {
                Some(size) => reference.check_size(size)?,
                None => missing.push(reference.digest),
            }
        }
        if !missing.is_empty() {
            return Err(Error::missing(&missing));
        }
        self.store_manifest(&linking, repository, manifest, tag)
    }

    /// Stores a manifest of a repository that is a copy: what it refers to comes when it is asked for.
    ///
    /// # Errors
    /// As [`Storage::put_manifest`], for quotas and the disk.
    pub(crate) fn put_copied(&self, repository: &RepositoryName, manifest: &Manifest, tag: Option<&Tag>) -> Result<()> {
        let linking = self.linking_manifest(repository, manifest, tag, &[])?;
        self.store_manifest(&linking, repository, manifest, tag)
    }

    fn linking_manifest(
        &self,
        repository: &RepositoryName,
        manifest: &Manifest,
        tag: Option<&Tag>,
        relied_on: &[Digest],
    ) -> Result<Linking<'_>> {
        let tag = tag.map(|tag| holds::of_tag(repository, tag));
        let changed: Vec<Digest> = [manifest.digest].into_iter().chain(tag).collect();
        self.linking(&changed, relied_on).map_err(Error::io("store a manifest"))
    }

    fn store_manifest(
        &self,
        linking: &Linking<'_>,
        repository: &RepositoryName,
        manifest: &Manifest,
        tag: Option<&Tag>,
    ) -> Result<()> {
        linking.rely_on(&manifest.digest);
        let store = || -> io::Result<()> {
            let name = file_name(&manifest.digest);
            if self.bucket.is_some() {
                self.keep_manifest(&manifest.digest, &manifest.bytes)?;
                self.note_content(&manifest.digest, manifest.bytes.len() as u64)?;
            } else {
                self.write_atomic(&self.blob_dir(&manifest.digest)?, &name, &manifest.bytes, Mode::RUSR)?;
            }
            self.ensure_repository(repository)?;
            let links = self.root.open_dir(repository.path("_manifests"))?;
            self.write_atomic(&links, &name, manifest.media_type.as_bytes(), FILE_MODE)?;
            if let Some(subject) = &manifest.subject {
                let dir = self.root.create_dir_all(referrers(repository, subject), DIR_MODE)?;
                sync(&self.root.open_dir(repository.path("_referrers"))?)?;
                self.write_atomic(&dir, &name, manifest.descriptor().to_string().as_bytes(), FILE_MODE)?;
            }
            if let Some(tag) = tag {
                let tags = self.root.open_dir(repository.path("_tags"))?;
                self.write_atomic(&tags, &tag.file(), manifest.digest.to_string().as_bytes(), FILE_MODE)?;
            }
            Ok(())
        };
        let size = manifest.bytes.len() as u64;
        self.charged(repository, "_manifests", &manifest.digest, size, || {
            self.put_documents(repository, manifest, tag)
                .and_then(|()| linking.local(store))
                .map_err(Error::io("store a manifest"))
        })
    }

    /// Has in the bucket, if there is one, what [`Storage::store_manifest`] has in the directory; the tag last.
    fn put_documents(&self, repository: &RepositoryName, manifest: &Manifest, tag: Option<&Tag>) -> io::Result<()> {
        let Some(bucket) = &self.bucket else { return Ok(()) };
        let name = file_name(&manifest.digest);
        let media_type = Bytes::from(manifest.media_type.clone());
        let mut first = vec![
            (blob_key(&manifest.digest), manifest.bytes.clone()),
            (key(&repository.path("_manifests").join(&name)), media_type),
        ];
        if let Some(subject) = &manifest.subject {
            let descriptor = Bytes::from(manifest.descriptor().to_string());
            first.push((key(&referrers(repository, subject).join(&name)), descriptor));
        }
        let text = Bytes::from(manifest.digest.to_string());
        bucket.change(first, tag.map(|tag| (key(&tag_path(repository, tag)), text)))
    }

    /// Removes a tag; false when there is none.
    pub(crate) fn remove_tag(&self, repository: &RepositoryName, tag: &Tag) -> io::Result<bool> {
        let linking = self.linking(&[holds::of_tag(repository, tag)], &[])?;
        let removed = linking.local(|| -> io::Result<bool> {
            let Some(dir) = self.part(repository, "_tags")? else { return Ok(false) };
            let removed = found(dir.unlink(&tag.file()))?.is_some();
            sync(&dir)?;
            Ok(removed)
        })?;
        if let Some(bucket) = &self.bucket {
            // Also where the mirror has none: an earlier request may have failed half-way.
            bucket.remove(vec![key(&tag_path(repository, tag))])?;
        }
        Ok(removed)
    }

    /// Removes a manifest with every tag that stands for it; false when the repository has none.
    pub(crate) fn remove_manifest(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        let linking = self.linking(&[*digest], &[])?;
        let Some(bucket) = &self.bucket else { return self.remove_manifest_here(repository, digest) };
        for tag in self.tags(repository)?.unwrap_or_default() {
            self.remove_tag_of(repository, &tag, digest)?;
        }
        let name = file_name(digest);
        let mut keys = vec![key(&repository.path("_manifests").join(&name))];
        keys.extend(self.subject(repository, digest)?.map(|subject| key(&referrers(repository, &subject).join(&name))));
        let removed = linking.local(|| self.remove_manifest_here(repository, digest))?;
        // Also where the mirror has none: an earlier request may have failed half-way.
        bucket.remove(keys)?;
        Ok(removed)
    }

    /// Removes a tag from mirror and bucket if it stands for this manifest.
    fn remove_tag_of(&self, repository: &RepositoryName, tag: &str, digest: &Digest) -> io::Result<()> {
        let Ok(tag) = Tag::parse(tag) else { return Ok(()) };
        if self.resolve(repository, &Reference::Tag(tag.clone()))? != Some(*digest) {
            return Ok(());
        }
        // Whoever holds a tag waits for nothing that we hold.
        let linking = self.linking(&[holds::of_tag(repository, &tag)], &[])?;
        if self.resolve(repository, &Reference::Tag(tag.clone()))? != Some(*digest) {
            return Ok(());
        }
        linking.local(|| match self.part(repository, "_tags")? {
            Some(tags) => found(tags.unlink(&tag.file())).map(drop),
            None => Ok(()),
        })?;
        match &self.bucket {
            Some(bucket) => bucket.remove(vec![key(&tag_path(repository, &tag))]),
            None => Ok(()),
        }
    }

    /// What a manifest of the repository refers to as its subject.
    fn subject(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<Option<Digest>> {
        Ok(self.manifest(repository, digest)?.and_then(|stored| {
            Manifest::parse(&stored.media_type, stored.bytes).ok().and_then(|manifest| manifest.subject)
        }))
    }

    fn remove_manifest_here(&self, repository: &RepositoryName, digest: &Digest) -> io::Result<bool> {
        let Some(links) = self.part(repository, "_manifests")? else { return Ok(false) };
        if found(links.lstat(&file_name(digest)))?.is_none() {
            return Ok(false);
        }
        if let Some(tags) = self.part(repository, "_tags")? {
            for entry in tags.list()? {
                let stands_for = read_small(&tags, &entry.name)?.and_then(|text| text.parse::<Digest>().ok());
                if stands_for == Some(*digest) {
                    found(tags.unlink(&entry.name))?;
                }
            }
            sync(&tags)?;
        }
        let subject = self.subject(repository, digest)?;
        if let Some(dir) = subject.map(|subject| self.root.open_dir(referrers(repository, &subject)))
            && let Some(dir) = found(dir)?
        {
            found(dir.unlink(&file_name(digest)))?;
            sync(&dir)?;
        }
        let _turn = self.usage.turn(digest);
        if found(links.unlink(&file_name(digest)))?.is_some() {
            self.usage.link_gone(repository, digest);
        }
        sync(&links)?;
        Ok(true)
    }

    /// All tags, sorted by their bytes; nothing when there is no such repository.
    pub(crate) fn tags(&self, repository: &RepositoryName) -> io::Result<Option<Vec<String>>> {
        let Some(dir) = self.part(repository, "_tags")? else { return Ok(None) };
        let names = dir.list()?.into_iter().filter_map(|entry| entry.name.into_string().ok());
        let mut tags: Vec<String> = names.filter(|name| types::valid_tag(name)).collect();
        tags.sort_unstable();
        Ok(Some(tags))
    }

    /// The digests of the manifests whose subject this is, sorted. An entry whose manifest is gone is left out.
    pub(crate) fn referrers(&self, repository: &RepositoryName, subject: &Digest) -> io::Result<Vec<Digest>> {
        let Some(dir) = found(self.root.open_dir(referrers(repository, subject)))? else { return Ok(Vec::new()) };
        let mut all = digests(&dir)?;
        all.sort_unstable();
        Ok(all)
    }

    /// The descriptor of one of them as JSON text, if its manifest is there.
    pub(crate) fn referrer(
        &self,
        repository: &RepositoryName,
        subject: &Digest,
        digest: &Digest,
    ) -> io::Result<Option<String>> {
        if !self.has_link(repository, "_manifests", digest)? {
            return Ok(None);
        }
        let Some(dir) = found(self.root.open_dir(referrers(repository, subject)))? else { return Ok(None) };
        let Some(fd) = found(dir.open_file(&file_name(digest)))? else { return Ok(None) };
        let mut text = String::new();
        std::fs::File::from(fd).take(2 * MANIFEST_MAX).read_to_string(&mut text)?;
        Ok(Some(text))
    }
}

fn tag_path(repository: &RepositoryName, tag: &Tag) -> PathBuf {
    repository.path("_tags").join(tag.file())
}

fn referrers(repository: &RepositoryName, subject: &Digest) -> PathBuf {
    repository.path("_referrers").join(Path::new(&OsString::from(subject.hex())))
}
