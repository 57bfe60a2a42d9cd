//! Where files come from: the build context, named contexts, images and earlier stages. Of a local directory only what the
//! instructions use is asked for, which is known before the first operation is made.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use buildkit::wire::llb;
use dockerfile::{AddSource, BaseImage, FileSource, Files, Instruction, MountKind, Origin};
use types::Platform;

use super::error::{ConvertError, Problem};
use super::files::copied;
use super::git::GitSource;
use super::graph::{About, Graph, Inputs, Output};
use super::options::{ContextSource, LocalSource, OtherSource};
use super::stage::Converter;
use super::{Input, path};

/// Paths that are used, by the context's name; the build context has none. `/` is all of it.
pub(super) type Used = BTreeMap<Option<String>, BTreeSet<String>>;

/// Goes through what will be converted and notes which files of contexts it takes.
pub(super) fn used(input: &Input<'_>) -> Used {
    let mut used = Used::new();
    let contexts = &input.plan.options().contexts;
    for stage in &input.evaluation.stages {
        let mut take = |from: Option<&str>, path: &str| {
            if from.is_none_or(|from| contexts.contains(from)) {
                used.entry(from.map(str::to_owned)).or_default().insert(path::clean(path));
            }
        };
        if let Some(BaseImage::Context(name)) = input.plan.stages.get(stage.index).map(|planned| &planned.base) {
            take(Some(name), "/");
        }
        for step in &stage.steps {
            match &step.statement.instruction {
                Instruction::Copy(copy) => {
                    let from = copy.from.as_ref().map(|word| word.text.as_str());
                    local(&copy.files).for_each(|path| take(from, path));
                }
                Instruction::Add(add) => local(&add.files).for_each(|path| take(None, path)),
                Instruction::Run(_) => {
                    for mount in &step.mounts {
                        match &mount.kind {
                            MountKind::Bind { from, source } => take(from.as_deref(), source),
                            MountKind::Cache { from: Some(from), source, .. } => take(Some(from), source),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
    }
    used
}

fn local(files: &Files) -> impl Iterator<Item = &str> {
    files.sources.iter().filter_map(|source| match source {
        FileSource::Path(word) if AddSource::of(&word.text) == AddSource::Local => Some(word.text.as_str()),
        _ => None,
    })
}

/// A context that a source operation fetches, unpacked if it is an archive.
fn other(graph: &mut Graph, other: &OtherSource, target: &Platform, mut about: About) -> Result<Output, ConvertError> {
    let identifier = other.identifier.as_str();
    let image = identifier.starts_with("docker-image://") || identifier.starts_with("oci-layout://");
    about.caps.push(match identifier.split("://").next() {
        Some("git") => "source.git",
        Some("http" | "https") => "source.http",
        Some("oci-layout") => "source.ocilayout",
        _ => "source.image",
    });
    let op = llb::SourceOp {
        identifier: other.identifier.clone(),
        attrs: other.attrs.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
    };
    let source = graph.add(Inputs::default(), llb::OpOp::Source(op), image.then_some(target), about)?;
    let Some(archive) = &other.archive else { return Ok(source) };
    let mut inputs = Inputs::default();
    let copy = llb::FileActionCopy {
        attempt_unpack_docker_compatibility: true,
        create_dest_path: true,
        ..copied(&path::resolve("/", archive), "/")
    };
    let action = llb::FileAction {
        input: -1,
        secondary_input: inputs.add(source),
        output: 0,
        action: Some(llb::FileActionAction::Copy(copy)),
    };
    let op = llb::OpOp::File(llb::FileOp { actions: vec![action] });
    let about = About { caps: vec!["file.base"], ..About::internal("unpack build context") };
    graph.add(inputs, op, None, about)
}

/// A context as a definition of its own, to read a Dockerfile from it.
///
/// # Errors
/// It is too large.
pub fn definition(context: &OtherSource, target: &Platform, name: &str) -> Result<llb::Definition, ConvertError> {
    let mut graph = Graph::default();
    let about = About { name: name.to_owned(), ..About::default() };
    let output = other(&mut graph, context, target, about)?;
    Ok(graph.definition(Some(output)))
}

/// A repository as a context.
///
/// # Errors
/// The address cannot be read.
pub fn repository(address: &str) -> Result<OtherSource, ConvertError> {
    let source = GitSource::parse(address)?;
    let mut attrs = source.attrs();
    if source.keep_git_dir == Some(true) {
        attrs.insert("git.keepgitdir".to_owned(), "true".to_owned());
    }
    if !source.checksum.is_empty() {
        attrs.insert("git.checksum".to_owned(), source.checksum.clone());
    }
    Ok(OtherSource { identifier: source.identifier(), attrs, archive: None })
}

impl Converter<'_> {
    /// The build context.
    pub(super) fn main_context(&mut self) -> Result<Option<Output>, ConvertError> {
        if let Some(known) = self.contexts.get(&None) {
            return Ok(*known);
        }
        let options = self.input.options;
        let name = match &options.context {
            ContextSource::Local(_) => "[internal] load build context".to_owned(),
            ContextSource::Other(other) if other.identifier.starts_with("git://") => {
                format!("[internal] load git source {}", other.identifier.trim_start_matches("git://"))
            }
            ContextSource::Other(_) | ContextSource::Made(_) => "[internal] load remote build context".to_owned(),
        };
        self.context(None, &options.context, name)
    }

    /// A context by its name.
    pub(super) fn named_context(&mut self, name: &str) -> Result<Option<Output>, ConvertError> {
        let key = Some(name.to_owned());
        if let Some(known) = self.contexts.get(&key) {
            return Ok(*known);
        }
        let context = self.input.options.contexts.get(name);
        let context = context.ok_or_else(|| Problem::UnknownContext(name.to_owned()))?;
        let title = match context {
            ContextSource::Local(_) => format!("[context {name}] load from client"),
            ContextSource::Other(other) => {
                format!("[context {name}] {}", other.identifier.trim_start_matches("docker-image://"))
            }
            ContextSource::Made(_) => format!("[context {name}]"),
        };
        self.context(key, context, title)
    }

    fn context(
        &mut self,
        key: Option<String>,
        context: &ContextSource,
        name: String,
    ) -> Result<Option<Output>, ConvertError> {
        let about = About { name, ..About::default() };
        let output = match context {
            ContextSource::Local(local) => Some(self.local(&key, local, about)?),
            ContextSource::Other(remote) => {
                let target = &self.input.plan.options().target_platform;
                Some(other(&mut self.graph, remote, target, about)?)
            }
            ContextSource::Made(definition) => self.graph.include(definition)?,
        };
        self.contexts.insert(key, output);
        Ok(output)
    }

    fn local(&mut self, key: &Option<String>, local: &LocalSource, mut about: About) -> Result<Output, ConvertError> {
        let mut attrs = HashMap::new();
        about.caps.push("source.local");
        let mut attr = |name: &str, cap, value: String| {
            if !value.is_empty() {
                about.caps.push(cap);
                attrs.insert(name.to_owned(), value);
            }
        };
        attr("local.session", "source.local.sessionid", local.session.clone());
        attr("local.sharedkeyhint", "source.local.sharedkeyhint", local.shared_key_hint.clone());
        attr("local.unique", "source.local.unique", local.unique.clone());
        let list = |items: &[String]| {
            let json = || serde_json::to_string(items).unwrap_or_default();
            if items.is_empty() { String::new() } else { json() }
        };
        attr("local.excludepatterns", "source.local.excludepatterns", list(&local.exclude));
        let paths = self.used.get(key).filter(|paths| !paths.contains("/"));
        let paths: Vec<_> = paths.into_iter().flatten().map(|path| path.trim_start_matches('/').to_owned()).collect();
        attr("local.followpaths", "source.local.followpaths", list(&paths));
        let op = llb::SourceOp { identifier: format!("local://{}", local.name), attrs };
        self.graph.add(Inputs::default(), llb::OpOp::Source(op), None, about)
    }

    /// An image by its full name.
    pub(super) fn image(
        &mut self,
        reference: &str,
        platform: &Platform,
        mut about: About,
    ) -> Result<Output, ConvertError> {
        let mut attrs = HashMap::new();
        about.caps.extend(["source.image", "platform"]);
        let mode = self.input.options.resolve_mode.as_str();
        if !matches!(mode, "" | "default") {
            about.caps.push("source.image.resolvemode");
            attrs.insert("image.resolvemode".to_owned(), mode.to_owned());
        }
        let op = llb::SourceOp { identifier: format!("docker-image://{reference}"), attrs };
        self.graph.add(Inputs::default(), llb::OpOp::Source(op), Some(platform), about)
    }

    /// What a `from` of an instruction names; numbers are stages for COPY alone.
    pub(super) fn from(&mut self, current: usize, text: &str, numbers: bool) -> Result<Option<Output>, ConvertError> {
        let origin = self.input.plan.origin(current, text, numbers);
        match origin.map_err(|error| Problem::Origin(error.to_string()))? {
            Origin::Context(name) => self.named_context(&name),
            Origin::Stage(index) => match self.stages.get(&index) {
                Some(stage) => Ok(stage.output),
                None => {
                    let (from, current) = (text.to_owned(), self.stage_name(current));
                    Err(Problem::LaterStage { from, current }.into())
                }
            },
            Origin::Image(reference) => {
                if text == "scratch" {
                    return Ok(None);
                }
                let full = reference.with_default_tag().to_string();
                let known = self.input.images.get(&full);
                if known.is_some_and(|known| super::stage::is_empty(&known.image)) {
                    return Ok(None);
                }
                let full = known.map_or(full, |known| known.reference.clone());
                let about = About { name: format!("FROM {full}"), ..About::default() };
                let platform = &self.input.plan.options().target_platform;
                self.image(&full, platform, about).map(Some)
            }
        }
    }
}
