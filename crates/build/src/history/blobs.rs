//! Files of the history, by their digests. What a build told is a sequence of messages, each with its length before it, as
//! BuildKit keeps it.

use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use buildkit::wire::control::{Descriptor, StatusResponse};
use prost::Message;
use sha2::{Digest as _, Sha256};
use types::{Digest, Kind};

use crate::error::{Error, Result};

/// What a build told.
pub(super) const LOGS: &str = "application/vnd.buildkit.status.v0";
/// An error with its details. The misspelling is BuildKit's.
pub(super) const ERROR: &str = "application/vnd.googeapis.google.rpc.status+proto";
/// Most bytes of one file.
const MAX: usize = 64 << 20;

/// The directory of the files.
#[derive(Debug)]
pub(super) struct Blobs(PathBuf);

impl Blobs {
    pub(super) fn open(path: &Path) -> Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|e| Error::io(format_args!("cannot make {}", path.display()), e))?;
        Ok(Self(path.to_owned()))
    }

    /// The file of a digest; none of what is no digest.
    fn path(&self, digest: &str) -> Result<PathBuf> {
        let missing = |_| Error::new(Kind::NotFound, format!("content {digest}: not found"));
        let digest: Digest = digest.parse().map_err(missing)?;
        Ok(self.0.join(digest.to_string().replace(':', "-")))
    }

    pub(super) fn put(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let digest = format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(bytes)));
        let path = self.path(&digest)?;
        let fail = |e: std::io::Error| Error::io("cannot write a file of the history", e);
        let new = self.0.join(format!(".new-{}", crate::random::name()?));
        std::fs::write(&new, bytes).and_then(|()| std::fs::rename(&new, &path)).map_err(fail)?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
            ..Descriptor::default()
        })
    }

    pub(super) fn size(&self, digest: &str) -> Result<u64> {
        let missing = |e: std::io::Error| Error::new(Kind::NotFound, format!("content {digest}: {e}"));
        Ok(std::fs::metadata(self.path(digest)?).map_err(missing)?.len())
    }

    pub(super) fn read(&self, digest: &str, offset: u64, most: Option<u64>) -> Result<Vec<u8>> {
        let missing = |e: std::io::Error| Error::new(Kind::NotFound, format!("content {digest}: {e}"));
        let mut file = std::fs::File::open(self.path(digest)?).map_err(missing)?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(missing)?;
        file.take(most.unwrap_or(u64::MAX)).read_to_end(&mut bytes).map_err(missing)?;
        Ok(bytes)
    }

    /// Removes all but these.
    pub(super) fn retain<'a>(&self, digests: impl Iterator<Item = &'a str>) {
        let keep: HashSet<PathBuf> = digests.filter_map(|digest| self.path(digest).ok()).collect();
        let Ok(entries) = std::fs::read_dir(&self.0) else { return };
        for entry in entries.flatten() {
            if !keep.contains(&entry.path())
                && let Err(error) = std::fs::remove_file(entry.path())
            {
                tracing::warn!(file = %entry.path().display(), %error, "a file of the history stays");
            }
        }
    }
}

/// As a file has it. What is beyond the limit is left out.
pub(super) fn encode(told: Vec<StatusResponse>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in told {
        let length = message.encoded_len();
        if bytes.len() + length + 4 > MAX {
            break;
        }
        bytes.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
        bytes.extend(message.encode_to_vec());
    }
    bytes
}

/// As it was told.
pub(super) fn decode(mut bytes: &[u8]) -> Result<Vec<StatusResponse>> {
    let damaged = || Error::io("cannot read what a build told", "the file is damaged");
    let mut told = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged())?;
        let (message, rest) = rest.split_at_checked(length).ok_or_else(damaged)?;
        told.push(StatusResponse::decode(message).map_err(|_| damaged())?);
        bytes = rest;
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back_and_those_of_nobody_go() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let log = |text: &str| buildkit::wire::control::VertexLog { msg: text.into(), ..Default::default() };
        let told: Vec<_> = ["a", "b"].map(|text| StatusResponse { logs: vec![log(text)], ..Default::default() }).into();
        let kept = blobs.put(LOGS, &encode(told.clone())).unwrap();
        let other = blobs.put(ERROR, b"error").unwrap();
        assert_eq!(decode(&blobs.read(&kept.digest, 0, None).unwrap()).unwrap(), told);
        assert_eq!(blobs.read(&other.digest, 1, Some(2)).unwrap(), b"rr");
        blobs.retain([kept.digest.as_str()].into_iter());
        assert_eq!(blobs.size(&kept.digest).unwrap(), u64::try_from(kept.size).unwrap());
        assert_eq!(blobs.size(&other.digest).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(blobs.size("../../etc/passwd").unwrap_err().kind(), Kind::NotFound);
        assert!(decode(&[9, 0, 0, 0, 1]).is_err());
    }
}
