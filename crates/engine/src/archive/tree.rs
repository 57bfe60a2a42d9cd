//! Whole trees: `docker export` and `docker diff`.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use docker_types::container::FilesystemChange;
use store::overlay::Lower;
use store::tree::{Change, ChangeKind};

use super::bridge;
use crate::ByteStream;
use crate::container::Container;
use crate::engine::Inner;
use crate::error::Result;

/// What starting a container puts into its changes as places for its own mounts; Docker shows none of it.
const PLACES: &[&str] = &[
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/mtab",
    "/etc/resolv.conf",
    "/proc",
    "/sys",
];

/// The root file system as an archive, without what is mounted in it.
///
/// # Errors
/// When it cannot be mounted; what fails later ends the stream.
pub(crate) async fn export(inner: &Arc<Inner>, container: &Container) -> Result<ByteStream> {
    let (shared, record) = (Arc::clone(inner), container.record());
    let root = inner
        .blocking("mount a container's files", move || {
            shared.images.snapshot(&record.layers, &shared.container_dir(&record.id))
        })
        .await?;
    inner.publish_container(container, "export", []);
    Ok(bridge::stream(move |out| Ok(store::tree::export(&root, out, true)?)))
}

/// What differs from the image, sorted by path.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) async fn changes(inner: &Arc<Inner>, container: &Container) -> Result<Vec<FilesystemChange>> {
    let (shared, record) = (Arc::clone(inner), container.record());
    inner
        .blocking("compare a container with its image", move || {
            let upper = Lower::Dir(shared.container_dir(&record.id).join("upper")).root()?;
            let lowers = shared.images.lowers(&record.layers)?;
            let lowers = lowers.iter().map(|lower| Ok(lower.root()?)).collect::<Result<Vec<_>>>()?;
            Ok(shown(store::tree::changes(&upper, &lowers)?))
        })
        .await
}

fn shown(changes: Vec<Change>) -> Vec<FilesystemChange> {
    let place = |change: &Change| PLACES.contains(&change.path.as_str());
    // A place counts only when something of the user's is in it.
    let mut parents = HashSet::new();
    for change in changes.iter().filter(|change| !place(change)) {
        parents.extend(Path::new(&change.path).ancestors().skip(1).map(|p| p.to_string_lossy().into_owned()));
    }
    let dirs = ["/etc", "/dev", "/proc", "/sys"];
    let keep = |change: &Change| match place(change) {
        false => true,
        true if dirs.contains(&change.path.as_str()) => parents.contains(&change.path),
        true => change.kind != ChangeKind::Added,
    };
    changes
        .iter()
        .filter(|change| keep(change))
        .map(|change| FilesystemChange { path: change.path.clone(), kind: change.kind as u8 })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_our_mounts_are_not_shown() {
        let change = |path: &str, kind| Change { path: path.into(), kind };
        let ours = vec![
            change("/dev", ChangeKind::Modified),
            change("/dev/console", ChangeKind::Added),
            change("/etc", ChangeKind::Modified),
            change("/etc/hosts", ChangeKind::Added),
            change("/proc", ChangeKind::Added),
        ];
        assert_eq!(shown(ours.clone()), []);
        let users = [ours, vec![change("/etc/mine", ChangeKind::Added), change("/x", ChangeKind::Deleted)]].concat();
        let paths: Vec<String> = shown(users).into_iter().map(|c| c.path).collect();
        assert_eq!(paths, ["/etc", "/etc/mine", "/x"]);
    }
}
