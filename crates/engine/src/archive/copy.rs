//! `docker cp`: status, archive and extraction of one path of a container.

use std::io::Write;
use std::sync::Arc;

use docker_types::container::PathStat;
use store::tree::ExtractOptions;

use super::place::{self, Access, Place};
use super::{bridge, rename};
use crate::ByteStream;
use crate::container::Container;
use crate::engine::Inner;
use crate::error::{Error, Result, fail};
use crate::facade::ArchivePutOptions;
use crate::volume::held_to_limits;

/// Facts of `path`; `called` is how the client names the container.
///
/// # Errors
/// Not found in Docker's words.
pub(crate) async fn stat(inner: &Arc<Inner>, container: &Arc<Container>, called: &str, path: &str) -> Result<PathStat> {
    let (shared, container) = (Arc::clone(inner), Arc::clone(container));
    let (called, path) = (called.to_owned(), path.to_owned());
    let held = inner.volumes.hold_for(inner, &container).await?;
    inner
        .blocking("look into a container", move || {
            let _held = held;
            let place = place::find(&shared, &container, &path, Access::Read)?;
            facts(&place, &path, &called)
        })
        .await
}

/// Facts of `path` and its archive.
///
/// # Errors
/// Not found; what fails later ends the stream.
pub(crate) async fn get(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    called: &str,
    path: &str,
) -> Result<(PathStat, ByteStream)> {
    let (shared, looking) = (Arc::clone(inner), Arc::clone(container));
    let (called, path) = (called.to_owned(), path.to_owned());
    let volumes = inner.volumes.hold_for(inner, container).await?;
    let (place, stat, path) = inner
        .blocking("look into a container", move || {
            let place = place::find(&shared, &looking, &path, Access::Read)?;
            let stat = facts(&place, &path, &called)?;
            Ok((place, stat, path))
        })
        .await?;
    inner.publish_container(container, "archive-path", [("path", path)]);
    let bytes = bridge::stream(move |out| {
        let _volumes = volumes;
        let Place { root, path, name } = place;
        let make = |out: &mut dyn Write| -> Result<()> {
            store::tree::archive_path(&root, &path, out)?;
            Ok(())
        };
        match name {
            Some(name) => rename::archive(&name, path == "/", out, make),
            None => make(out),
        }
    });
    Ok((stat, bytes))
}

/// Extract an archive, compressed or not, into the directory `path`.
///
/// # Errors
/// Not found; invalid for archives and places that cannot be; Exhausted when the disk is full.
pub(crate) async fn put(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    called: &str,
    path: &str,
    options: ArchivePutOptions,
    body: ByteStream,
) -> Result<()> {
    // A stopped container's changes are mounted for this: it must not start meanwhile. A running
    // one's are not, and it may stop.
    let mut held = None;
    if !container.phase().is_live() {
        held = Some(container.lifecycle.lock().await);
        if container.phase().is_live() {
            held = None;
        }
    }
    let (shared, working) = (Arc::clone(inner), Arc::clone(container));
    let (called, asked) = (called.to_owned(), path.to_owned());
    let access = if held.is_some() { Access::WriteAlone } else { Access::Write };
    let volumes = inner.volumes.hold_for(inner, container).await?;
    let result = inner
        .blocking("copy files into a container", move || {
            let _volumes = volumes;
            bridge::read(body, |reader| {
                let place = place::find(&shared, &working, &asked, access)?;
                let record = working.record();
                let owner = match record.config.user.as_str() {
                    user if options.copy_uid_gid && !user.is_empty() => {
                        let user = crate::plan::resolve_user(&place.root, user, &[])?;
                        Some((user.uid, user.gid))
                    }
                    _ => None,
                };
                let extract = ExtractOptions { no_overwrite_dir_non_dir: options.no_overwrite_dir_non_dir, owner };
                held_to_limits(|| store::tree::extract(&place.root, &place.path, reader, extract))
                    .map_err(|e| told(e, &asked, &called))
            })
        })
        .await;
    drop(held);
    result?;
    inner.publish_container(container, "extract-to-dir", [("path", path.to_owned())]);
    Ok(())
}

fn facts(place: &Place, asked: &str, called: &str) -> Result<PathStat> {
    let stat = store::tree::stat_path(&place.root, &place.path).map_err(|e| told(e, asked, called))?;
    let (seconds, nanos) = stat.mtime;
    Ok(PathStat {
        name: place.name.clone().unwrap_or(stat.name),
        size: stat.size,
        mode: stat.mode,
        mtime: docker_types::time::rfc3339_nano(seconds, nanos),
        link_target: stat.link_target,
    })
}

/// The store's failure in Docker's words.
fn told(error: store::Error, asked: &str, called: &str) -> Error {
    match &error {
        store::Error::NoPath(_) => fail!(NotFound, "Could not find the file {asked} in container {called}"),
        store::Error::Write { source, .. } | store::Error::Io { source, .. }
            if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem =>
        {
            fail!(Invalid, "{asked} in container {called} is on a read-only file system")
        }
        store::Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotADirectory => {
            fail!(Invalid, "{asked} in container {called}: not a directory")
        }
        _ => error.into(),
    }
}
