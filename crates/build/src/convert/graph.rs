//! The graph while it grows: operations in the order in which they were added, each marshalled at once, so that inputs are
//! digests of what is there already and the order is a topological one. Equal operations are one. Bytes are the same for the
//! same build: no map is written in an order of its own. The conversions of this module add to it.

use std::collections::{BTreeMap, HashMap};

use buildkit::wire::llb;
use dockerfile::{Lines, Source};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::error::{ConvertError, Problem};

/// Bytes of all operations, names and histories of one build. An environment of megabytes is in every step that runs.
pub(super) const LIMIT: usize = 256 << 20;

/// What an operation puts out; a file system of which nothing is known yet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Output {
    node: usize,
    index: i64,
}

/// What is said of an operation beside its meaning.
#[derive(Clone, Debug, Default)]
pub(super) struct About {
    /// What progress shows.
    pub(super) name: String,
    /// The instruction as written.
    pub(super) command: Option<String>,
    pub(super) ignore_cache: bool,
    pub(super) caps: Vec<&'static str>,
    pub(super) lines: Option<Lines>,
    pub(super) group: Option<llb::ProgressGroup>,
}

impl About {
    /// Of an operation that no instruction stands for.
    pub(super) fn internal(what: &str) -> Self {
        Self { name: format!("[internal] {what}"), ..Self::default() }
    }
}

struct Node {
    digest: String,
    bytes: Vec<u8>,
    inputs: Vec<usize>,
    about: llb::OpMetadata,
    lines: Vec<Lines>,
}

/// The operations.
#[derive(Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    by_digest: HashMap<String, usize>,
    size: usize,
}

/// The inputs of an operation, each once.
#[derive(Default)]
pub(super) struct Inputs {
    outputs: Vec<Output>,
    places: HashMap<Output, usize>,
}

impl Inputs {
    /// The number of an input.
    pub(super) fn add(&mut self, output: Output) -> i64 {
        let at = *self.places.entry(output).or_insert_with(|| {
            self.outputs.push(output);
            self.outputs.len() - 1
        });
        i64::try_from(at).unwrap_or(i64::MAX)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// The number of an input, or -1 for an empty file system.
    pub(super) fn add_or_empty(&mut self, output: Option<Output>) -> i64 {
        output.map_or(-1, |output| self.add(output))
    }
}

impl Graph {
    /// Counts bytes of what is built.
    pub(super) fn charge(&mut self, bytes: usize) -> Result<(), ConvertError> {
        self.size = self.size.saturating_add(bytes);
        if self.size > LIMIT { Err(Problem::TooLarge(LIMIT).into()) } else { Ok(()) }
    }

    /// Adds an operation, or finds the equal one that is there; its only output, or the first of several.
    pub(super) fn add(
        &mut self,
        inputs: Inputs,
        op: llb::OpOp,
        platform: Option<&types::Platform>,
        about: About,
    ) -> Result<Output, ConvertError> {
        let wired = inputs.outputs.iter().map(|output| {
            let digest = self.nodes.get(output.node).map(|node| node.digest.clone()).unwrap_or_default();
            llb::Input { digest, index: output.index }
        });
        let platform = platform.map(|platform| llb::Platform {
            architecture: platform.arch.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..llb::Platform::default()
        });
        let constraints = Some(llb::WorkerConstraints::default());
        let bytes = encode(llb::Op { inputs: wired.collect(), op: Some(op), platform, constraints });
        let digest = digest_of(&bytes);
        let lines = about.lines;
        self.charge(bytes.len() + about.name.len() + about.command.as_ref().map_or(0, String::len) + 256)?;
        let about = metadata(about);
        let node = match self.by_digest.get(&digest) {
            Some(known) => *known,
            None => {
                let nodes = inputs.outputs.iter().map(|output| output.node).collect();
                let node = Node {
                    digest: digest.clone(),
                    bytes,
                    inputs: nodes,
                    about: llb::OpMetadata::default(),
                    lines: Vec::new(),
                };
                self.nodes.push(node);
                self.by_digest.insert(digest, self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        let known = &mut self.nodes[node];
        let ignored = known.about.ignore_cache;
        known.about = about;
        known.about.ignore_cache |= ignored;
        if let Some(lines) = lines.filter(|lines| known.lines.last() != Some(lines)) {
            known.lines.push(lines);
        }
        Ok(Output { node, index: 0 })
    }

    /// Adds what another definition makes; nothing when that is empty.
    pub(super) fn include(&mut self, definition: &llb::Definition) -> Result<Option<Output>, ConvertError> {
        let made = |why: &str| ConvertError::from(Problem::Made(why.to_owned()));
        let mut result = None;
        for bytes in &definition.def {
            let op = llb::Op::decode(bytes.as_slice()).map_err(|e| made(&e.to_string()))?;
            let inputs = op.inputs.iter().map(|input| self.by_digest.get(&input.digest).copied());
            let inputs = inputs.collect::<Option<Vec<_>>>().ok_or_else(|| made("a step comes before its inputs"))?;
            if op.op.is_none() {
                let output = op.inputs.first().map_or(0, |input| input.index);
                result = inputs.first().map(|node| Output { node: *node, index: output });
                continue;
            }
            let digest = digest_of(bytes);
            let about = definition.metadata.get(&digest).cloned().unwrap_or_default();
            self.charge(bytes.len() + about.encoded_len() + 256)?;
            let node = match self.by_digest.get(&digest) {
                Some(known) => *known,
                None => {
                    let bytes = bytes.clone();
                    self.nodes.push(Node { digest: digest.clone(), bytes, inputs, about, lines: Vec::new() });
                    self.by_digest.insert(digest, self.nodes.len() - 1);
                    self.nodes.len() - 1
                }
            };
            result = Some(Output { node, index: 0 });
        }
        Ok(result)
    }

    /// Everything that leads to an output, if nothing in it has a place in a Dockerfile.
    pub(super) fn definition(self, result: Option<Output>) -> llb::Definition {
        self.collect(result, &mut HashMap::new())
    }

    /// Everything that leads to an output; nothing when that is empty.
    pub(super) fn finish(self, result: Option<Output>, source: &Source) -> llb::Definition {
        let mut locations = HashMap::new();
        let mut definition = self.collect(result, &mut locations);
        if result.is_none() {
            return definition;
        }
        let file = llb::SourceInfo {
            filename: source.name().to_owned(),
            data: source.text().as_bytes().to_vec(),
            definition: None,
            language: "Dockerfile".to_owned(),
        };
        definition.source = Some(llb::Source { locations, infos: vec![file] });
        definition
    }

    fn collect(self, result: Option<Output>, locations: &mut HashMap<String, llb::Locations>) -> llb::Definition {
        let mut definition = llb::Definition::default();
        let Some(result) = result else { return definition };
        let mut wanted = vec![false; self.nodes.len()];
        wanted[result.node] = true;
        // Inputs come before what they lead to.
        for at in (0..self.nodes.len()).rev() {
            if wanted[at] {
                self.nodes[at].inputs.iter().for_each(|input| wanted[*input] = true);
            }
        }
        let end = llb::Op {
            inputs: vec![llb::Input { digest: self.nodes[result.node].digest.clone(), index: result.index }],
            ..llb::Op::default()
        };
        for (node, _) in self.nodes.into_iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            if !node.lines.is_empty() {
                let places = node.lines.iter().map(|lines| location(*lines)).collect();
                locations.insert(node.digest.clone(), llb::Locations { locations: places });
            }
            definition.metadata.insert(node.digest, node.about);
            definition.def.push(node.bytes);
        }
        let end = encode(end);
        let caps = ["constraints", "platform"].into_iter().map(|cap| (cap.to_owned(), true)).collect();
        definition.metadata.insert(digest_of(&end), llb::OpMetadata { caps, ..llb::OpMetadata::default() });
        definition.def.push(end);
        definition
    }
}

fn location(lines: Lines) -> llb::Location {
    let position = |line| Some(llb::Position { line: i32::try_from(line).unwrap_or(i32::MAX), character: 0 });
    let range = llb::Range { start: position(lines.first), end: position(lines.last) };
    llb::Location { source_index: 0, ranges: vec![range] }
}

fn metadata(about: About) -> llb::OpMetadata {
    let mut description = HashMap::new();
    if let Some(command) = about.command {
        description.insert("com.docker.dockerfile.v1.command".to_owned(), command);
    }
    if !about.name.is_empty() {
        description.insert("llb.customname".to_owned(), about.name);
    }
    let always = ["constraints", "meta.description"];
    let mut caps: HashMap<_, _> = about.caps.into_iter().chain(always).map(|cap| (cap.to_owned(), true)).collect();
    if about.ignore_cache {
        caps.insert("meta.ignorecache".to_owned(), true);
    }
    llb::OpMetadata {
        ignore_cache: about.ignore_cache,
        description,
        export_cache: None,
        caps,
        progress_group: about.group,
    }
}

/// `sha256:` and the digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", faster_hex::hex_string(&Sha256::digest(bytes)))
}

/// The bytes of an operation. Only sources have a map, which is written in the order of its keys.
fn encode(op: llb::Op) -> Vec<u8> {
    let llb::Op { inputs, op: Some(llb::OpOp::Source(source)), platform, constraints } = op else {
        return op.encode_to_vec();
    };
    let attrs: BTreeMap<String, String> = source.attrs.into_iter().collect();
    let mut body = llb::SourceOp { identifier: source.identifier, attrs: HashMap::new() }.encode_to_vec();
    for (key, value) in attrs {
        let mut entry = Vec::new();
        field(&mut entry, 1, key.as_bytes());
        field(&mut entry, 2, value.as_bytes());
        field(&mut body, 2, &entry);
    }
    let mut bytes = llb::Op { inputs, ..llb::Op::default() }.encode_to_vec();
    field(&mut bytes, 3, &body);
    bytes.extend(llb::Op { platform, constraints, ..llb::Op::default() }.encode_to_vec());
    bytes
}

/// A field that has a length.
fn field(into: &mut Vec<u8>, tag: u32, value: &[u8]) {
    prost::encoding::encode_key(tag, prost::encoding::WireType::LengthDelimited, into);
    prost::encoding::encode_varint(value.len() as u64, into);
    into.extend_from_slice(value);
}
