//! A definition as a graph: what clients and front ends send, with every reference resolved and every choice known.
//!
//! Hostile until it is read: references lead to what is there, digests are those of the bytes, and an operation, a kind of
//! mount or a mode that is not known is refused by name. Nothing is passed over, since what it meant to forbid would be
//! allowed. A digest covers those of the inputs, so there are no cycles.

use std::collections::HashMap;

use buildkit::wire::llb::{
    CacheSharingOpt, Definition, FileActionAction, MountContentCache, MountType, NetMode, Op, OpMetadata, OpOp,
    SecurityMode,
};
use buildkit::wire::{errdefs, llb};
use prost::Message;
use sha2::{Digest as _, Sha256};
use types::Kind;

use crate::error::{Error, Result};

/// Most steps of one definition.
const MAX_VERTICES: usize = 100_000;

/// Most mounts of one step, and most of them that need a descriptor: no more of those can be handed to a process.
const MAX_MOUNTS: (usize, usize) = (2000, 200);

/// The steps of a definition, each after its inputs.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The steps.
    pub vertices: Vec<Vertex>,
    /// What is asked for; nothing of an empty definition.
    pub root: Option<Edge>,
}

/// A step.
#[derive(Clone, Debug)]
pub struct Vertex {
    /// `sha256:…` of its operation as sent.
    pub digest: String,
    /// What it does.
    pub op: Op,
    /// What it works on, by the numbers its operation uses.
    pub inputs: Vec<Edge>,
    /// Whether earlier results count.
    pub ignore_cache: bool,
    /// How it is shown.
    pub name: String,
    /// Group that it is shown in.
    pub group: Option<llb::ProgressGroup>,
    /// Lines it came from.
    pub lines: Option<errdefs::Source>,
}

/// An output of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The step, by its place.
    pub vertex: usize,
    /// Which of its outputs.
    pub output: usize,
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Kind::Invalid, text)
}

impl Graph {
    /// Reads a definition.
    ///
    /// # Errors
    /// Invalid: what cannot be decoded, refers to nothing, or is not known here.
    pub fn read(definition: &Definition) -> Result<Self> {
        if definition.def.len() > MAX_VERTICES {
            return Err(invalid(format!(
                "a definition of {} steps: at most {MAX_VERTICES} are taken",
                definition.def.len()
            )));
        }
        let mut ops: HashMap<String, Op> = HashMap::with_capacity(definition.def.len());
        let mut last = None;
        for bytes in &definition.def {
            let op = Op::decode(bytes.as_slice())
                .map_err(|e| invalid(format!("a step of the definition cannot be read: {e}")))?;
            let digest = digest(bytes);
            ops.insert(digest.clone(), op);
            last = Some(digest);
        }
        let Some(last) = last else { return Ok(Self { vertices: Vec::new(), root: None }) };
        let root = match &ops[&last] {
            // The last one names what is asked for, and does nothing.
            Op { op: None, inputs, .. } if inputs.len() == 1 => {
                let input = inputs[0].clone();
                ops.remove(&last);
                input
            }
            _ => llb::Input { digest: last, index: 0 },
        };
        let mut reader = Reader { ops, definition, places: HashMap::new(), vertices: Vec::new() };
        let vertex = reader.reach(&root.digest)?;
        let root = Edge { vertex, output: output(&root)? };
        Ok(Self { vertices: reader.vertices, root: Some(root) })
    }
}

/// The digest of a step.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(bytes)))
}

fn output(input: &llb::Input) -> Result<usize> {
    usize::try_from(input.index)
        .map_err(|_| invalid(format!("output {} of step {}: there is none", input.index, input.digest)))
}

struct Reader<'a> {
    ops: HashMap<String, Op>,
    definition: &'a Definition,
    places: HashMap<String, usize>,
    vertices: Vec<Vertex>,
}

impl Reader<'_> {
    /// The place of a step, itself and all it needs being read. Walks any depth.
    fn reach(&mut self, digest: &str) -> Result<usize> {
        let mut path = vec![(digest.to_owned(), 0usize)];
        while let Some((digest, next)) = path.last_mut() {
            let digest = digest.clone();
            if self.places.contains_key(&digest) {
                path.pop();
                continue;
            }
            let op = self
                .ops
                .get(&digest)
                .ok_or_else(|| invalid(format!("the definition refers to step {digest}, which is not in it")))?;
            match op.inputs.get(*next) {
                Some(input) => {
                    *next += 1;
                    if !self.places.contains_key(&input.digest) {
                        path.push((input.digest.clone(), 0));
                    }
                }
                None => {
                    self.take(&digest)?;
                    path.pop();
                }
            }
        }
        self.places.get(digest).copied().ok_or_else(|| invalid("the definition is empty"))
    }

    fn take(&mut self, digest: &str) -> Result<()> {
        let Some(op) = self.ops.get(digest).cloned() else { return Ok(()) };
        let edge = |input: &llb::Input| Ok(Edge { vertex: self.places[&input.digest], output: output(input)? });
        let inputs = op.inputs.iter().map(edge).collect::<Result<Vec<_>>>()?;
        check(&op).map_err(|e| e.context(format_args!("step {digest}")))?;
        let none = OpMetadata::default();
        let metadata = self.definition.metadata.get(digest).unwrap_or(&none);
        let name = metadata.description.get("llb.customname").cloned().unwrap_or_else(|| described(&op));
        let vertex = Vertex {
            digest: digest.to_owned(),
            inputs,
            ignore_cache: metadata.ignore_cache,
            name,
            group: metadata.progress_group.clone(),
            lines: lines(self.definition, digest),
            op,
        };
        self.places.insert(digest.to_owned(), self.vertices.len());
        self.vertices.push(vertex);
        Ok(())
    }
}

fn lines(definition: &Definition, digest: &str) -> Option<errdefs::Source> {
    let source = definition.source.as_ref()?;
    let location = source.locations.get(digest)?.locations.last()?;
    let info = source.infos.get(usize::try_from(location.source_index).ok()?)?;
    // The definition of the file itself is of no use to whoever reads the lines.
    let info = llb::SourceInfo { definition: None, ..info.clone() };
    Some(errdefs::Source { info: Some(info), ranges: location.ranges.clone() })
}

/// A step that nobody named.
fn described(op: &Op) -> String {
    match &op.op {
        Some(OpOp::Exec(exec)) => exec.meta.as_ref().map(|meta| meta.args.join(" ")).unwrap_or_default(),
        Some(OpOp::Source(source)) => source.identifier.clone(),
        Some(OpOp::File(file)) => {
            let word = |action: &llb::FileAction| match &action.action {
                Some(FileActionAction::Copy(copy)) => format!("copy {} {}", copy.src, copy.dest),
                Some(FileActionAction::Mkfile(file)) => format!("mkfile {}", file.path),
                Some(FileActionAction::Mkdir(dir)) => format!("mkdir {}", dir.path),
                Some(FileActionAction::Rm(rm)) => format!("rm {}", rm.path),
                Some(FileActionAction::Symlink(link)) => format!("symlink {} {}", link.oldpath, link.newpath),
                None => String::new(),
            };
            file.actions.iter().map(word).collect::<Vec<_>>().join(", ")
        }
        Some(OpOp::Merge(_)) => "merge".to_owned(),
        Some(OpOp::Diff(_)) => "diff".to_owned(),
        Some(OpOp::Build(_)) => "build".to_owned(),
        None => String::new(),
    }
}

/// Refuses what is not known, or refers to an input that there is not.
fn check(op: &Op) -> Result<()> {
    let inputs = op.inputs.len();
    let input = |number: i64, what: &str| match usize::try_from(number) {
        Ok(number) if number < inputs => Ok(()),
        _ => Err(invalid(format!("{what} refers to input {number}: the step has {inputs}"))),
    };
    let optional = |number: i64, what: &str| if number == -1 { Ok(()) } else { input(number, what) };
    match &op.op {
        None => Err(invalid("the operation is none that is known here")),
        Some(OpOp::Build(_)) => Err(Error::new(Kind::Unsupported, "build operations within a build are not supported")),
        Some(OpOp::Source(source)) if source.identifier.is_empty() => Err(invalid("a source without an identifier")),
        Some(OpOp::Source(_)) => Ok(()),
        Some(OpOp::Exec(exec)) => {
            let meta = exec.meta.as_ref().ok_or_else(|| invalid("a process without a command"))?;
            if meta.args.is_empty() {
                return Err(invalid("a process without a command"));
            }
            known(NetMode::try_from(exec.network).is_ok(), "network mode", exec.network)?;
            known(SecurityMode::try_from(exec.security).is_ok(), "security mode", exec.security)?;
            if !exec.mounts.iter().any(|mount| mount.dest == "/") {
                return Err(invalid("a process without a root file system"));
            }
            let open = exec.mounts.iter().filter(|mount| mount.mount_type != MountType::Tmpfs as i32).count();
            if exec.mounts.len() > MAX_MOUNTS.0 || open > MAX_MOUNTS.1 {
                return Err(invalid(format!("more than {} mounts in one step", MAX_MOUNTS.1)));
            }
            if exec.mounts.iter().filter(|mount| is_root(&mount.dest)).count() > 1 {
                return Err(invalid("a process with several root file systems"));
            }
            for mount in &exec.mounts {
                optional(mount.input, "a mount")?;
                known(MountType::try_from(mount.mount_type).is_ok(), "type of mount", mount.mount_type)?;
                known(MountContentCache::try_from(mount.content_cache).is_ok(), "content cache", mount.content_cache)?;
                if let Some(cache) = &mount.cache_opt {
                    known(CacheSharingOpt::try_from(cache.sharing).is_ok(), "sharing of a cache", cache.sharing)?;
                }
                if !mount.dest.starts_with('/') {
                    return Err(invalid(format!("a mount at \"{}\": the path has to be absolute", mount.dest)));
                }
                if mount.output < -1 || mount.output > 1_000 {
                    return Err(invalid(format!("a mount with output {}: there is none", mount.output)));
                }
            }
            Ok(())
        }
        Some(OpOp::File(file)) => {
            let limit = i64::try_from(inputs + file.actions.len()).unwrap_or(i64::MAX);
            for (index, action) in file.actions.iter().enumerate() {
                let known = i64::try_from(inputs + index).unwrap_or(i64::MAX);
                for number in [action.input, action.secondary_input] {
                    if number < -1 || number >= known {
                        return Err(invalid(format!("a file action refers to {number}: there is none")));
                    }
                }
                if action.output < -1 || action.output >= limit {
                    return Err(invalid(format!("a file action with output {}: there is none", action.output)));
                }
                if action.action.is_none() {
                    return Err(invalid("a file action that is not known here"));
                }
            }
            if file.actions.is_empty() { Err(invalid("a file operation without actions")) } else { Ok(()) }
        }
        Some(OpOp::Merge(merge)) => merge.inputs.iter().try_for_each(|each| input(each.input, "a merge")),
        Some(OpOp::Diff(diff)) => {
            optional(diff.lower.as_ref().map_or(-1, |lower| lower.input), "a difference")?;
            optional(diff.upper.as_ref().map_or(-1, |upper| upper.input), "a difference")
        }
    }
}

/// Whether a path is the root, however it is written.
fn is_root(path: &str) -> bool {
    let mut names = 0_usize;
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => names = names.saturating_sub(1),
            _ => names += 1,
        }
    }
    names == 0
}

fn known(known: bool, what: &str, number: i32) -> Result<()> {
    if known { Ok(()) } else { Err(invalid(format!("{what} {number} is not known here"))) }
}
