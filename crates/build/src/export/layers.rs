//! Layers as an output has them: in another compression, with times that do not tell when they were made.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use layer::tar::{Kind as Member, Limits, Mtime, Reader, Writer};
use store::Ingest;
use store::image::{Compression, Content, compress};
use store::model::{Descriptor, media_type};
use tokio_util::sync::CancellationToken;
use types::{DiffId, Digest, Kind};

use super::attrs::Attrs;
use crate::error::{Error, Result};
use crate::tree::Stored;

/// Most layers whose compressed forms are remembered.
const REMEMBERED: usize = 10_000;

/// What layers are when they are compressed: whoever has it already need not do it again.
#[derive(Debug, Default)]
pub(crate) struct Compressed {
    known: Mutex<HashMap<(Digest, Compression), (Digest, u64)>>,
}

impl Compressed {
    fn lock(&self) -> MutexGuard<'_, HashMap<(Digest, Compression), (Digest, u64)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The compressed form of a blob, if it is here; it is kept from collection as long as `ingest` is.
    fn find(&self, ingest: &Ingest, blob: &Digest, to: Compression) -> Option<(Digest, u64)> {
        let found = *self.lock().get(&(*blob, to))?;
        let here = ingest.has_blob(&found.0) && !ingest.store().blobs().is_released(&found.0);
        here.then_some(found)
    }

    fn remember(&self, blob: Digest, to: Compression, found: (Digest, u64)) {
        let mut known = self.lock();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert((blob, to), found);
    }
}

/// Content on its way: an output's own, and the build's.
#[derive(Clone)]
pub(super) struct Sources {
    /// What is known of layers that were compressed before.
    pub compressed: Arc<Compressed>,
    /// Where the output's own content goes.
    pub own: Arc<Ingest>,
    /// Where the build's layers are.
    pub build: Arc<Ingest>,
    /// Nobody wants the output any more.
    pub cancel: CancellationToken,
}

impl Sources {
    fn of(&self, digest: &Digest) -> &Ingest {
        if self.own.is_pending(digest) { &self.own } else { &self.build }
    }
}

impl store::image::Read for Sources {
    fn document(&self, digest: &Digest, limit: u64) -> store::Result<Vec<u8>> {
        self.of(digest).read(digest, limit)
    }
}

impl Content for Sources {
    fn size(&self, digest: &Digest) -> Option<u64> {
        self.of(digest).size(digest)
    }

    fn open(&self, digest: &Digest) -> store::Result<Box<dyn Read + Send>> {
        let (inner, cancel) = (self.of(digest).open(digest)?, self.cancel.clone());
        Ok(Box::new(Wanting { inner, cancel }))
    }

    fn is_released(&self, digest: &Digest) -> bool {
        self.of(digest).is_released(digest)
    }
}

/// What is read for as long as somebody wants it: large layers take a while, in threads that nobody can end.
struct Wanting<R> {
    inner: R,
    cancel: CancellationToken,
}

impl<R: Read> Read for Wanting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(std::io::Error::other(Error::cancelled()));
        }
        self.inner.read(buffer)
    }
}

/// How an output wants its layers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// What layers of this build are compressed with, as it was asked for.
    pub compression: Option<Compression>,
    /// Layers of base images too.
    pub force: bool,
    /// No file of this build's layers is younger.
    pub latest: Option<i64>,
    /// Media types of Docker rather than OCI.
    pub docker: bool,
    /// The output leaves the machine: what is not compressed becomes so.
    pub leaving: bool,
    /// The layers are to be run here, too.
    pub unpack: bool,
}

/// Takes `compression`, its level and whether it is for all layers.
///
/// # Errors
/// A compression or level that there is not.
pub(super) fn compression(attrs: &mut Attrs) -> Result<(Option<Compression>, bool)> {
    let force = attrs.flag("force-compression")?.unwrap_or(false);
    let level = attrs.number("compression-level")?;
    let name = attrs.take("compression");
    let within = |most: u8, default: u8| match level {
        None => Ok(default),
        Some(level) => u8::try_from(level)
            .ok()
            .filter(|level| (1..=most).contains(level))
            .ok_or_else(|| attrs.invalid("compression-level", &level.to_string(), &format!("levels are 1 to {most}"))),
    };
    let compression = match name {
        None if level.is_some() => Some(Compression::Gzip(within(9, 6)?)),
        None => None,
        Some("gzip") => Some(Compression::Gzip(within(9, 6)?)),
        Some("zstd") => Some(Compression::Zstd(within(22, 3)?)),
        Some("uncompressed") if level.is_none() => Some(Compression::Plain),
        Some("uncompressed") => return Err(attrs.invalid("compression", "uncompressed", "it has no level")),
        Some("estargz") => return Err(attrs.unsupported("compression=estargz", "use gzip or zstd")),
        Some(other) => return Err(attrs.invalid("compression", other, "it is uncompressed, gzip or zstd")),
    };
    if force && compression.is_none() {
        return Err(attrs.invalid("force-compression", "true", "it needs compression=TYPE"));
    }
    Ok((compression, force))
}

/// A layer as it is wanted. Blocking.
///
/// # Errors
/// Those of reading and writing it.
pub(super) fn finished(sources: &Sources, layer: Stored, wanted: &Wanted) -> Result<Stored> {
    // When a base image's layers were made is said by its history.
    let ours = layer.created_ns.is_some();
    let mut layer = match wanted.latest {
        Some(latest) if ours => clamped(sources, layer, latest, wanted.unpack)?,
        _ => layer,
    };
    let now = Packed::of(&layer.blob.media_type);
    let to = match wanted.compression {
        Some(asked) if ours || wanted.force => Some(asked),
        // Nothing leaves uncompressed unless that is asked for.
        _ if wanted.leaving && now == Some(Packed::Plain) => Some(wanted.compression.unwrap_or_default()),
        _ => None,
    };
    if let Some(to) = to.filter(|to| now.is_some_and(|now| now != Packed::by(*to))) {
        let (digest, size) = match sources.compressed.find(&sources.own, &layer.blob.digest, to) {
            Some(known) => known,
            None => {
                let made = compress(&sources.own, sources.open(&layer.blob.digest)?, to)?;
                sources.compressed.remember(layer.blob.digest, to, made);
                made
            }
        };
        layer.blob = Descriptor { media_type: to.media_type().to_owned(), digest, size, ..layer.blob };
    }
    if let Some(packed) = Packed::of(&layer.blob.media_type) {
        layer.blob.media_type = packed.media_type(wanted.docker).to_owned();
    }
    Ok(layer)
}

/// How a layer's type says it is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packed {
    Plain,
    Gzip,
    Zstd,
}

impl Packed {
    /// None of a type that says more than this, such as that the layer is not to be distributed.
    fn of(kind: &str) -> Option<Self> {
        match kind {
            media_type::OCI_LAYER | media_type::DOCKER_LAYER => Some(Self::Plain),
            media_type::OCI_LAYER_GZIP | media_type::DOCKER_LAYER_GZIP => Some(Self::Gzip),
            media_type::OCI_LAYER_ZSTD => Some(Self::Zstd),
            _ => None,
        }
    }

    fn by(compression: Compression) -> Self {
        match compression {
            Compression::Plain => Self::Plain,
            Compression::Gzip(_) => Self::Gzip,
            Compression::Zstd(_) => Self::Zstd,
        }
    }

    fn media_type(self, docker: bool) -> &'static str {
        match (self, docker) {
            (Self::Plain, false) => media_type::OCI_LAYER,
            (Self::Gzip, false) => media_type::OCI_LAYER_GZIP,
            (Self::Plain, true) => media_type::DOCKER_LAYER,
            (Self::Gzip, true) => media_type::DOCKER_LAYER_GZIP,
            // Docker has no type of its own for it.
            (Self::Zstd, _) => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// A layer without files younger than `latest`.
fn clamped(sources: &Sources, layer: Stored, latest: i64, unpack: bool) -> Result<Stored> {
    let limits = Limits::default();
    let from = sources.open(&layer.blob.digest)?;
    let plain = layer::Decompress::new(from, limits.total_bytes.saturating_mul(2))
        .map_err(|e| Error::io("cannot read a layer", e))?;
    let mut blob = sources.own.blob_writer()?;
    {
        let mut out = std::io::BufWriter::with_capacity(128 * 1024, &mut blob);
        clamp(plain, &mut out, latest, limits)?;
        out.flush().map_err(|e| Error::io("cannot write a layer", e))?;
    }
    let size = blob.count();
    let digest = sources.own.blob(blob, None)?;
    if unpack {
        sources.own.unpack_blob(&digest, None)?;
    }
    Ok(Stored {
        diff_id: DiffId(digest),
        blob: Descriptor { media_type: media_type::OCI_LAYER.to_owned(), digest, size, ..layer.blob },
        created_ns: layer.created_ns,
    })
}

/// Copies an archive, and lets no member be younger than `latest`, in seconds since 1970.
fn clamp(archive: impl Read, out: impl Write, latest: i64, limits: Limits) -> Result<()> {
    let failed = |e: layer::tar::Error| Error::new(Kind::Internal, format!("cannot rewrite a layer: {e}"));
    let mut reader = Reader::new(archive, limits);
    let mut writer = Writer::new(out);
    while let Some(mut entry) = reader.next_entry().map_err(failed)? {
        if entry.mtime.secs >= latest {
            entry.mtime = Mtime { secs: latest, nanos: 0 };
        }
        writer.entry(&entry).map_err(failed)?;
        if entry.kind == Member::File {
            while let Some((_, data)) = reader.data().map_err(failed)? {
                writer.data(data).map_err(failed)?;
            }
        }
    }
    writer.finish().map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use layer::tar::Entry;

    #[test]
    fn younger_members_get_the_latest_time_and_keep_the_rest() {
        let archive = |times: [i64; 3]| {
            let mut writer = Writer::new(Vec::new());
            for (time, kind, path) in
                [(times[0], Member::Directory, "d/"), (times[1], Member::File, "d/f"), (times[2], Member::Symlink, "l")]
            {
                let mut entry = Entry::new(path, kind, 0o640);
                entry.mtime.secs = time;
                (entry.uid, entry.xattrs) = (7, vec![(b"user.k".to_vec(), b"v".to_vec())]);
                if kind == Member::File {
                    entry.size = 4;
                } else if kind == Member::Symlink {
                    entry.link = b"d/f".to_vec();
                }
                writer.entry(&entry).unwrap();
                if kind == Member::File {
                    writer.data(b"data").unwrap();
                }
            }
            writer.finish().unwrap()
        };
        let clamped = |times| {
            let mut out = Vec::new();
            clamp(&archive(times)[..], &mut out, 100, Limits::default()).unwrap();
            out
        };
        assert_eq!(clamped([5, 200, 300]), archive([5, 100, 100]));
        assert_eq!(clamped([5, 101, 100]), clamped([5, 999, 888]));
    }
}
