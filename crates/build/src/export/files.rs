//! The files of a result at the client's: in a directory, or as an archive of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use sha2::{Digest as _, Sha256};
use store::tree::TreeArchive;
use sys::path::Root;
use types::Kind;

use super::archive::Counted;
use super::assemble::{Epoch, blocking, configuration, rfc3339};
use super::attrs::Attrs;
use super::step::Step;
use super::{Request, client, reference_of, result_trees};
use crate::attest::{About, Subject};
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
    /// What names of statements about the files begin with.
    prefix: String,
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
        let prefix = attrs.take("attestation-prefix").unwrap_or_default().to_owned();
        if prefix.contains(['/', '\0']) || prefix.len() > 200 {
            return Err(attrs.invalid("attestation-prefix", &prefix, "it begins a file's name, without a directory"));
        }
        attrs.finish()?;
        Ok(Self { id, archive: kind == "tar", split, epoch, prefix })
    }

    /// Sends them.
    ///
    /// # Errors
    /// As [`super::Outputs::export`].
    pub(super) async fn export(
        &self,
        job: &Arc<Job>,
        solved: &Solved,
        request: &Request,
    ) -> Result<HashMap<String, String>> {
        result_trees(job, solved).await?;
        let kind = if self.archive { "tarball" } else { "directory" };
        let step = Step::begin(job, &format!("exporting to client {kind}"));
        let exported = self.exported(job, solved, request, &step).await;
        step.end(exported.as_ref().err());
        exported.map(|()| HashMap::new())
    }

    /// Adds the statements that are asked for: about each of the files.
    async fn attested(
        &self,
        job: &Arc<Job>,
        solved: &Solved,
        request: &Request,
        mut part: Part,
        platform: Option<String>,
    ) -> Result<Part> {
        let image = configuration(solved, platform.as_deref())?;
        let reference = reference_of(solved, platform.as_deref()).cloned();
        let (job, attest, prefix) = (Arc::clone(job), request.attest.clone(), self.prefix.clone());
        let epoch = self.epoch.or(request.epoch(solved)?).map(|epoch| rfc3339(epoch.saturating_mul(1_000_000_000)));
        let created = epoch.or_else(|| image.created.clone()).or_else(|| Some(jiff::Timestamp::now().to_string()));
        // Without directories of their own, platforms are told apart by name.
        let suffix = platform.filter(|_| part.below.is_none()).map(|platform| platform.replace('/', "_"));
        blocking(move || {
            let about = About { job: &job, reference: reference.as_ref(), platform: &image.platform(), created };
            let root = || part.root.try_clone().map_err(|e| Error::io("cannot open the result", e));
            let statements = attest.make(&about, false, root)?;
            let subjects = digests(&part.root, || job.build.cancel.is_cancelled())?;
            for statement in statements {
                let name = format!("{prefix}{}", statement.filename);
                let name = match (&suffix, name.rsplit_once('.')) {
                    (Some(suffix), Some((stem, end))) => format!("{stem}.{suffix}.{end}"),
                    (Some(suffix), None) => format!("{name}.{suffix}"),
                    (None, _) => name,
                };
                part.extra.insert(name, statement.about(&subjects)?);
            }
            Ok(part)
        })
        .await
    }

    async fn exported(&self, job: &Arc<Job>, solved: &Solved, request: &Request, step: &Step<'_>) -> Result<()> {
        let mtime = self.epoch.or(request.epoch(solved)?);
        let mut parts = Vec::new();
        for (platform, tree) in result_trees(job, solved).await? {
            let shared = Arc::clone(&job.build.shared);
            // Also what is one layer alone is looked at as containers see it.
            let root = blocking(move || Ok(Root::from_fd(tree.mount_read_only(shared.host.store())?))).await?;
            // One platform alone has a directory of its own only when that is asked for, and in archives never.
            let alone = || Ok::<_, Error>(configuration(solved, None)?.platform().to_string());
            let own = platform.clone();
            let platform = match (platform, self.split) {
                (Some(platform), split) => Some(platform).filter(|_| split.unwrap_or(true)),
                (None, Some(true)) if !self.archive => Some(alone()?),
                (None, _) => None,
            };
            let below = platform.map(|platform| platform.replace('/', "_"));
            let mut part = Part { below, root, extra: BTreeMap::new() };
            if !request.attest.is_empty(false) {
                part = self.attested(job, solved, request, part, own).await?;
            }
            parts.push(part);
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
        each(&part.root, |path, _| match seen.insert(path.to_owned()) {
            true => Ok(()),
            false => Err(Error::new(
                Kind::Invalid,
                format!("{} is in the results of several platforms: leave out platform-split=false", path.display()),
            )),
        })?;
    }
    Ok(())
}

/// The files of a tree with their digests, sorted.
fn digests(root: &Root, cancelled: impl Fn() -> bool) -> Result<Vec<Subject>> {
    let mut found = Vec::new();
    each(root, |path, kind| {
        if kind != FileType::RegularFile {
            return Ok(());
        }
        let fail = |e: std::io::Error| Error::io(format_args!("cannot read {} of the result", path.display()), e);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = std::fs::File::from(root.open_at(path, flags, Mode::empty()).map_err(fail)?);
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 128 * 1024];
        loop {
            if cancelled() {
                return Err(Error::cancelled());
            }
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(read) => digest.update(buffer.get(..read).unwrap_or_default()),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(fail(e)),
            }
        }
        let name = path.to_string_lossy().trim_start_matches('/').to_owned();
        found.push(Subject { name, sha256: faster_hex::hex_string(&digest.finalize()) });
        Ok(())
    })?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Calls for everything in a tree that is no directory.
fn each(root: &Root, mut call: impl FnMut(&Path, FileType) -> Result<()>) -> Result<()> {
    let mut pending = vec![PathBuf::from("/")];
    while let Some(path) = pending.pop() {
        let fail = |e| Error::io(format_args!("cannot look into {} of the result", path.display()), e);
        for entry in root.open_dir(&path).and_then(|dir| dir.list()).map_err(fail)? {
            let below = path.join(&entry.name);
            let stat = root.lstat(&below).map_err(fail)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => pending.push(below),
                kind => call(&below, kind)?,
            }
        }
    }
    Ok(())
}
