//! The archive that has a context: unpacked into a directory of its own, without what its `.dockerignore` excludes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use dockerfile::ignore::Ignore;
use futures_util::Stream;
use layer::Decompress;
use layer::tar::{Limits, Reader};
use store::tree::{ApplyOptions, apply};
use sys::path::Root;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::bad;
use crate::error::{Error, Result};
use crate::frontend;
use crate::solve::Shared;
use crate::tree::{Directory, Files};
use crate::waiting;

/// Most bytes that are read of what is not wanted any more.
const MAX_DRAINED: u64 = 1 << 30;
/// Most bytes of a Dockerfile or of patterns.
const MAX_TEXT: u64 = 16 << 20;

/// What came.
pub(super) struct Received {
    pub(super) context: Arc<dyn Files>,
    /// The Dockerfile alone, and what is to be ignored.
    pub(super) dockerfile: Arc<dyn Files>,
    /// Its name there.
    pub(super) filename: String,
}

/// Unpacks an archive, compressed or not. `dockerfile` is the path of the Dockerfile in it.
///
/// # Errors
/// It is none, or a hostile one; it has no Dockerfile; the disk is full.
pub(super) async fn receive<S>(shared: &Arc<Shared>, body: S, dockerfile: &str) -> Result<Received>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let place = shared.work.clone();
    let dockerfile = if dockerfile.is_empty() { "Dockerfile".to_owned() } else { dockerfile.to_owned() };
    let reader = SyncIoBridge::new(StreamReader::new(Box::pin(body)));
    let unpack = move || {
        let mut reader = reader;
        let received = unpack(&place, &mut reader, &dockerfile);
        if received.is_err() {
            // A client that is cut off while it writes does not read why.
            drop(io::copy(&mut io::Read::take(&mut reader, MAX_DRAINED), &mut io::sink()));
        }
        received
    };
    waiting::run("unpacking the context", unpack).await?
}

fn unpack(place: &Path, reader: impl io::Read, dockerfile: &str) -> Result<Received> {
    let context = Directory::new(place)?;
    let root = Root::open(context.path()).map_err(|e| Error::io("cannot open the context's directory", e))?;
    let limits = Limits::default();
    let mut reader = Decompress::new(reader, limits.total_bytes.saturating_mul(2)).map_err(bad)?;
    {
        let mut archive = Reader::new(&mut reader, limits);
        let options = ApplyOptions { root_attributes: true, owner: Some((0, 0)), ..ApplyOptions::default() };
        let applied = apply(&root, &mut archive, &options).map_err(bad)?;
        if applied.entries == 0 {
            return Err(bad("the archive is empty: send a tar archive with a Dockerfile"));
        }
    }
    // What follows the archive's end is read, so that the client is not cut off while it writes.
    io::copy(&mut reader, &mut io::sink()).map_err(|e| Error::io("reading the context", e))?;
    let (dir, name) = split(dockerfile)?;
    let read = |path: &str| frontend::read(&root, path, 0, MAX_TEXT);
    let missing = || {
        let text = format!("Cannot locate specified Dockerfile: {dockerfile}");
        Error::new(types::Kind::Invalid, text)
    };
    let text = match read(dockerfile) {
        Err(_) if dockerfile == "Dockerfile" => read("dockerfile").map_err(|_| missing())?,
        text => text.map_err(|_| missing())?,
    };
    let beside = Directory::new(place)?;
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(beside.path().join(name), bytes).map_err(|e| Error::io("cannot write the Dockerfile", e))
    };
    write(&name, &text)?;
    let own = format!("{}{name}.dockerignore", dir.map(|dir| format!("{dir}/")).unwrap_or_default());
    // Files are left out here, once and for all: the front end finds nothing more to leave out.
    let patterns = read(&own).or_else(|_| read(".dockerignore")).unwrap_or_default();
    let ignore = Ignore::parse(&patterns).map_err(|e| bad(format!("failed parsing .dockerignore: {e}")))?;
    write(&format!("{name}.dockerignore"), &patterns)?;
    if !ignore.is_empty() {
        leave_out(context.path(), &ignore)?;
    }
    Ok(Received { context: Arc::new(context), dockerfile: Arc::new(beside), filename: name })
}

/// Directory and name of a path.
fn split(path: &str) -> Result<(Option<&str>, String)> {
    let trimmed = path.trim_start_matches('/');
    let (dir, name) = trimmed.rsplit_once('/').map_or((None, trimmed), |(dir, name)| (Some(dir), name));
    if matches!(name, "" | "." | "..") || path.split('/').any(|part| part == "..") {
        return Err(bad(format!("the Dockerfile's path \"{path}\" is none within it")));
    }
    Ok((dir, name.to_owned()))
}

/// Removes what is excluded. Links are removed, never followed.
fn leave_out(top: &Path, ignore: &Ignore) -> Result<()> {
    let failed = |e: io::Error| Error::io("cannot leave out what .dockerignore excludes", e);
    let mut waiting = vec![String::new()];
    // Directories that are excluded but may have something that is not, each before what is in it.
    let mut perhaps = Vec::new();
    while let Some(below) = waiting.pop() {
        for entry in std::fs::read_dir(top.join(&below)).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            // Patterns are text, and match nothing else.
            let Some(name) = name.to_str() else { continue };
            let path = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
            if !entry.file_type().map_err(failed)?.is_dir() {
                if ignore.excludes(&path) {
                    std::fs::remove_file(entry.path()).map_err(failed)?;
                }
            } else if ignore.skips(&path) {
                crate::tree::remove(&entry.path()).map_err(failed)?;
            } else {
                if ignore.excludes(&path) {
                    perhaps.push(entry.path());
                }
                waiting.push(path);
            }
        }
    }
    for path in perhaps.into_iter().rev() {
        // It stays when something in it does.
        drop(std::fs::remove_dir(path));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(1000);
            header.set_size(text.len() as u64);
            builder.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpacked(entries: &[(&str, &str)], dockerfile: &str) -> Result<(tempfile::TempDir, Received)> {
        let place = tempfile::tempdir().unwrap();
        let received = unpack(place.path(), archive(entries).as_slice(), dockerfile)?;
        Ok((place, received))
    }

    #[test]
    fn what_is_ignored_is_left_out_and_the_dockerfile_read_all_the_same() {
        let entries = [
            ("Dockerfile", "FROM scratch"),
            (".dockerignore", "*\n!keep\n!deep/a/b\n"),
            ("keep", "1"),
            ("gone", "1"),
            ("deep/a/b", "1"),
            ("deep/a/c", "1"),
            ("other/x", "1"),
        ];
        let (_place, received) = unpacked(&entries, "Dockerfile").unwrap();
        let has = |path: &str| received.context.path().join(path).exists();
        assert!(has("keep") && has("deep/a/b"));
        assert!(!has("gone") && !has("deep/a/c") && !has("other") && !has("Dockerfile"));
        assert_eq!(std::fs::read(received.dockerfile.path().join("Dockerfile")).unwrap(), b"FROM scratch");
    }

    #[test]
    fn a_dockerfile_of_another_name_has_patterns_of_its_own() {
        let entries =
            [("d/Other", "FROM scratch"), ("d/Other.dockerignore", "a"), (".dockerignore", "b"), ("a", ""), ("b", "")];
        let (_place, received) = unpacked(&entries, "d/Other").unwrap();
        let has = |path: &str| received.context.path().join(path).exists();
        assert!(!has("a") && has("b"));
        assert_eq!(received.filename, "Other");
    }

    #[test]
    fn contexts_that_cannot_be() {
        for (entries, dockerfile, text) in [
            (&[][..], "Dockerfile", "the archive is empty"),
            (&[("x", "")][..], "Dockerfile", "Cannot locate specified Dockerfile: Dockerfile"),
            (&[("x", "")][..], "../x", "is none within it"),
            (&[("x", "")][..], "", "is none within it"),
        ] {
            let error = unpacked(entries, dockerfile).err().unwrap().to_string();
            assert!(error.contains(text), "{error}");
        }
        let place = tempfile::tempdir().unwrap();
        assert!(unpack(place.path(), &b"FROM scratch"[..], "Dockerfile").is_err());
    }
}
