//! The files of a result at the client's: in a directory, or as an archive of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use store::tree::TreeArchive;
use sys::path::Root;
use types::Kind;

use super::archive::Counted;
use super::assemble::{Epoch, blocking, configuration};
use super::attrs::Attrs;
use super::step::Step;
use super::{Request, client, result_trees};
use crate::error::{Error, Result};
use crate::job::{Job, Solved};
use crate::session::Sent;

/// Files that are asked for.
#[derive(Debug)]
pub(super) struct Output {
    id: usize,
    archive: bool,
    /// Platforms in directories of their own; where there are several, without a word about it.
    split: Option<bool>,
    epoch: Epoch,
}

/// The files of one platform.
struct Part {
    /// The directory that they go into, if there are several.
    below: Option<String>,
    root: Root,
    extra: BTreeMap<String, Vec<u8>>,
}

impl Output {
    /// Reads what is asked for.
    ///
    /// # Errors
    /// Options that are not known or make no sense.
    pub(super) fn read(id: usize, kind: &str, mut attrs: Attrs) -> Result<Self> {
        let (split, epoch) = (attrs.flag("platform-split")?, Epoch::take(&mut attrs)?);
        match attrs.take("mode") {
            None | Some("copy") => {}
            Some(other) => return Err(attrs.unsupported(&format!("mode={other}"), "files are copied")),
        }
        attrs.finish()?;
        Ok(Self { id, archive: kind == "tar", split, epoch })
    }

    /// Sends them.
    ///
    /// # Errors
    /// As [`super::Outputs::export`].
    pub(super) async fn export(&self, job: &Job, solved: &Solved, request: &Request) -> Result<HashMap<String, String>> {
        result_trees(job, solved).await?;
        let kind = if self.archive { "tarball" } else { "directory" };
        let step = Step::begin(job, &format!("exporting to client {kind}"));
        let exported = self.exported(job, solved, request, &step).await;
        step.end(exported.as_ref().err());
        exported.map(|()| HashMap::new())
    }

    async fn exported(&self, job: &Job, solved: &Solved, request: &Request, step: &Step<'_>) -> Result<()> {
        let mtime = self.epoch.or(request.epoch(solved)?);
        let mut parts = Vec::new();
        for (platform, tree) in result_trees(job, solved).await? {
            let shared = Arc::clone(&job.build.shared);
            // Also what is one layer alone is looked at as containers see it.
            let root = blocking(move || Ok(Root::from_fd(tree.mount_read_only(shared.host.store())?))).await?;
            // One platform alone has a directory of its own only when that is asked for, and in archives never.
            let alone = || Ok::<_, Error>(configuration(solved, None)?.platform().to_string());
            let platform = match (platform, self.split) {
                (Some(platform), split) => Some(platform).filter(|_| split.unwrap_or(true)),
                (None, Some(true)) if !self.archive => Some(alone()?),
                (None, _) => None,
            };
            let below = platform.map(|platform| platform.replace('/', "_"));
            parts.push(Part { below, root, extra: BTreeMap::new() });
        }
        if parts.len() > 1 && self.split == Some(false) {
            parts = blocking(move || apart(&parts).map(|()| parts)).await?;
        }
        let client = client(job).await?;
        if self.archive {
            let told = step.part("sending tarball");
            let moved = told.counter();
            let write = move |out: &mut dyn std::io::Write| {
                let mut archive = TreeArchive::new(Counted { out, moved: &moved }, mtime);
                for part in parts {
                    let prefix = part.below.map(|below| format!("{below}/")).unwrap_or_default();
                    if !prefix.is_empty() {
                        archive.directory(&prefix)?;
                    }
                    let names: Vec<&str> = part.extra.keys().map(String::as_str).collect();
                    archive.tree(&part.root, &prefix, &names)?;
                    for (name, bytes) in &part.extra {
                        archive.file(&format!("{prefix}{name}"), bytes)?;
                    }
                }
                Ok(archive.finish()?)
            };
            client.send_file(self.id, &HashMap::new(), write).await?;
            told.end();
            return Ok(());
        }
        for Part { below, root, extra } in parts {
            let what = below.as_ref().map_or_else(String::new, |below| format!(" {}", below.replacen('_', "/", 1)));
            let told = step.part(&format!("copying files{what}"));
            client.send_tree(self.id, Sent { root, below, extra, mtime }, told.counter()).await?;
            told.end();
        }
        Ok(())
    }
}

/// Checks that no file is in several parts, where all go into one directory.
///
/// # Errors
/// Names one that is.
fn apart(parts: &[Part]) -> Result<()> {
    let mut seen = HashSet::new();
    for part in parts {
        let mut pending = vec![String::from("/")];
        while let Some(path) = pending.pop() {
            let fail = |e| Error::io(format_args!("cannot look into {path} of the result"), e);
            for entry in part.root.open_dir(&path).and_then(|dir| dir.list()).map_err(fail)? {
                let name = entry.name.to_string_lossy();
                let below = if path == "/" { format!("/{name}") } else { format!("{path}/{name}") };
                let stat = part.root.lstat(&below).map_err(fail)?;
                if rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory {
                    pending.push(below);
                } else if !seen.insert(below.clone()) {
                    return Err(Error::new(
                        Kind::Invalid,
                        format!("{below} is in the results of several platforms: leave out platform-split=false"),
                    ));
                }
            }
        }
    }
    Ok(())
}
