//! What a step is known by: what it does, and what it works on.
//!
//! An input counts by its own key, except where a step only takes files from it: then their content counts, so that another
//! way to the same files is the same step. Content costs reading it; the keys alone are tried first and stand for the same
//! result afterwards.

use std::sync::Arc;

use buildkit::wire::llb::{ExecOp, FileAction, FileActionAction, FileOp, Mount, MountType, OpOp, UserOptUser};
use prost::Message;
use sha2::{Digest as _, Sha256};

use super::{Build, Input, Shared, input};
use crate::error::{Error, Result};
use crate::file::{self, Selection};
use crate::graph::Vertex;
use crate::tree::{Part, Tree};

/// Keys of one step.
#[derive(Debug)]
pub(super) struct Keys {
    /// The one that later steps see.
    pub canonical: String,
    /// Of the keys of its inputs alone, where that says something.
    pub quick: Option<String>,
    /// Numbers of the inputs that count by their keys.
    pub by_key: Vec<usize>,
    /// Digests of files that were taken, where they were looked at.
    pub contents: Vec<[u8; 32]>,
}

impl Keys {
    /// All, the cheapest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        self.quick.iter().chain([&self.canonical])
    }
}

/// Parts of a key, each with its length before it.
struct Hasher(Sha256);

impl Hasher {
    fn new(kind: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.part(kind.as_bytes());
        hasher
    }

    fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn end(self) -> String {
        faster_hex::hex_string(&self.0.finalize())
    }
}

/// Files that a step takes from an input.
struct Taken {
    tree: Tree,
    selection: Selection,
}

impl Build {
    pub(super) async fn keys(&self, vertex: &Vertex, inputs: &[Input]) -> Result<Keys> {
        let platform = vertex.op.platform.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let key =
            |number: usize| inputs.get(number).map_or_else(String::new, |(outcome, output)| outcome.key_of(*output));
        let mut taken = Vec::new();
        // What is known by its key, and what by its content, in the order of the operation.
        let (mut by_key, mut by_content) = (Vec::new(), Vec::new());
        let mut base = match &vertex.op.op {
            Some(OpOp::Exec(exec)) => {
                let mut hasher = Hasher::new("exec 1");
                hasher.part(&canonical_exec(exec).encode_to_vec());
                for mount in &exec.mounts {
                    let Ok(number) = usize::try_from(mount.input) else { continue };
                    if only_read(mount) {
                        by_content.push(number);
                        taken.push(Taken {
                            tree: input(inputs, mount.input)?.clone(),
                            selection: whole(&mount.selector),
                        });
                    } else {
                        by_key.push(number);
                    }
                }
                hasher
            }
            Some(OpOp::File(file)) => {
                let mut hasher = Hasher::new("file 1");
                hasher.part(&file.encode_to_vec());
                for action in &file.actions {
                    by_key.extend(base_of(action, inputs.len()));
                    if let Some((number, selection)) = source_of(action, inputs.len())? {
                        by_content.push(number);
                        taken.push(Taken { tree: tree_of(inputs, number)?, selection });
                    }
                }
                check_actions(file)?;
                hasher
            }
            Some(OpOp::Merge(merge)) => {
                by_key.extend(merge.inputs.iter().filter_map(|each| usize::try_from(each.input).ok()));
                Hasher::new("merge 1")
            }
            Some(OpOp::Diff(diff)) => {
                let mut hasher = Hasher::new("diff 1");
                hasher.part(&diff.encode_to_vec());
                by_key.extend(0..inputs.len());
                hasher
            }
            _ => return Err(Error::new(types::Kind::Invalid, "an operation that is not known here")),
        };
        base.part(&platform);
        for number in &by_key {
            base.part(key(*number).as_bytes());
        }
        let base = base.end();
        if taken.is_empty() {
            return Ok(Keys { canonical: base, quick: None, by_key, contents: Vec::new() });
        }
        let stable = by_content.iter().all(|number| inputs.get(*number).is_some_and(|(outcome, _)| outcome.stable));
        let quick = stable.then(|| {
            let mut hasher = Hasher::new("quick 1");
            hasher.part(base.as_bytes());
            for number in &by_content {
                hasher.part(key(*number).as_bytes());
            }
            hasher.end()
        });
        if let Some(quick) = &quick
            && let Some(canonical) = self.shared.records.canonical(quick)
        {
            return Ok(Keys { canonical, quick: Some(quick.clone()), by_key, contents: Vec::new() });
        }
        let shared = Arc::clone(&self.shared);
        let content = tokio::task::spawn_blocking(move || {
            let mut hasher = Hasher::new("content 1");
            let mut contents = Vec::with_capacity(taken.len());
            hasher.part(base.as_bytes());
            for Taken { tree, selection } in &taken {
                let digest = content(tree, selection, &shared)?;
                hasher.part(&digest);
                contents.push(digest);
            }
            Ok((hasher.end(), contents))
        });
        let content = content.await.map_err(|e| Error::io("reading files was interrupted", e))?;
        let (canonical, contents) = content.map_err(|e: Error| e.context("failed to compute cache key"))?;
        Ok(Keys { canonical, quick, by_key, contents })
    }
}

/// All of a path, as a mount shows it.
fn whole(path: &str) -> Selection {
    Selection { src: format!("/{}", path.trim_start_matches('/')), follow_symlink: true, ..Selection::default() }
}

/// Digest of what is selected in a tree.
fn content(tree: &Tree, selection: &Selection, shared: &Shared) -> Result<[u8; 32]> {
    let files = match tree.parts() {
        [Part::Files(files)] => Some((files, format!("{selection:?}"))),
        _ => None,
    };
    if let Some(known) = files.as_ref().and_then(|(files, name)| files.remembered(name)) {
        return Ok(known);
    }
    let root = tree.read(shared.host.store())?;
    let mut listed = Vec::new();
    let digest = match &files {
        Some((files, _)) => file::digest_listed(&root, selection, &files.digests(), &mut listed),
        None => file::digest_listed(&root, selection, &(), &mut listed),
    };
    let digest = digest.map_err(|e| Error::from(e).context("failed to calculate checksum of ref"))?;
    if !listed.is_empty() {
        shared.memory.list(digest, listed);
    }
    if let Some((files, name)) = files {
        files.remember(name, digest);
    }
    Ok(digest)
}

fn tree_of(inputs: &[Input], number: usize) -> Result<Tree> {
    input(inputs, i64::try_from(number).unwrap_or(-1)).cloned()
}

/// A mount that the process cannot change, and that gives nothing.
fn only_read(mount: &Mount) -> bool {
    mount.readonly && mount.dest != "/" && mount.mount_type == MountType::Bind as i32
}

/// Proxies make no difference to what a command does, so they do not count; nor do the numbers of inputs, which have keys.
pub(super) fn canonical_exec(exec: &ExecOp) -> ExecOp {
    let mut exec = exec.clone();
    if let Some(meta) = &mut exec.meta {
        meta.proxy_env = None;
    }
    for mount in &mut exec.mounts {
        mount.input = mount.input.min(0);
    }
    exec
}

/// Inputs of an action that count by their keys: what it changes, and where it looks names up.
fn base_of(action: &FileAction, inputs: usize) -> Vec<usize> {
    let owner = match &action.action {
        Some(FileActionAction::Copy(copy)) => copy.owner.as_ref(),
        Some(FileActionAction::Mkdir(dir)) => dir.owner.as_ref(),
        Some(FileActionAction::Mkfile(file)) => file.owner.as_ref(),
        Some(FileActionAction::Symlink(link)) => link.owner.as_ref(),
        _ => None,
    };
    let users = owner.into_iter().flat_map(|owner| [&owner.user, &owner.group]).flatten();
    let names = users.filter_map(|user| match &user.user {
        Some(UserOptUser::ByName(name)) => Some(name.input),
        _ => None,
    });
    let numbers = [action.input].into_iter().chain(names);
    numbers.filter_map(|number| usize::try_from(number).ok()).filter(|number| *number < inputs).collect()
}

/// The input that a copy takes files from, and which.
fn source_of(action: &FileAction, inputs: usize) -> Result<Option<(usize, Selection)>> {
    let Some(FileActionAction::Copy(copy)) = &action.action else { return Ok(None) };
    let Some(number) = usize::try_from(action.secondary_input).ok().filter(|number| *number < inputs) else {
        return Ok(None);
    };
    Ok(Some((number, super::file_op::selection(copy))))
}

fn check_actions(file: &FileOp) -> Result<()> {
    if file.actions.len() > 10_000 {
        return Err(Error::new(types::Kind::Invalid, "more than 10000 actions in one file operation"));
    }
    Ok(())
}
