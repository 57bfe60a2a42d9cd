//! Instructions that change files without running anything: COPY and ADD, and the directory of a WORKDIR.
//!
//! All sources of one instruction are actions of one operation, each on what the one before it left. With `--link` they are
//! made on nothing and laid over the stage, so that they do not depend on it.

use std::collections::HashMap;

use buildkit::wire::llb;
use dockerfile::{Add, AddSource, Copy, FileSource, Files, Mode, Step};

use super::error::{ConvertError, Problem};
use super::git::GitSource;
use super::graph::{About, Graph, Inputs, Output};
use super::path;
use super::stage::{Converter, Stage, written};

/// A copy of a path with nothing special about it.
pub(super) fn copied(src: &str, dest: &str) -> llb::FileActionCopy {
    llb::FileActionCopy {
        src: src.to_owned(),
        dest: dest.to_owned(),
        mode: -1,
        timestamp: -1,
        create_dest_path: true,
        ..llb::FileActionCopy::default()
    }
}

/// Actions of a file operation, each on what the one before it left.
struct Actions {
    inputs: Inputs,
    actions: Vec<(Option<Output>, llb::FileActionAction)>,
    base: Option<Output>,
}

impl Actions {
    fn on(base: Option<Output>) -> Self {
        let mut inputs = Inputs::default();
        inputs.add_or_empty(base);
        Self { inputs, actions: Vec::new(), base }
    }

    /// The input that names of users are looked up in.
    fn names(&self) -> i64 {
        if self.base.is_some() { 0 } else { -1 }
    }

    fn copy(&mut self, from: Option<Output>, copy: llb::FileActionCopy) {
        if let Some(from) = from {
            self.inputs.add(from);
        }
        self.actions.push((from, llb::FileActionAction::Copy(copy)));
    }

    fn add(mut self, graph: &mut Graph, mut about: About) -> Result<Output, ConvertError> {
        let base = self.inputs.add_or_empty(self.base);
        let number = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        let last = self.actions.len().saturating_sub(1);
        about.caps.push("file.base");
        let mut actions = Vec::with_capacity(self.actions.len());
        for (at, (from, action)) in self.actions.into_iter().enumerate() {
            if let llb::FileActionAction::Copy(copy) = &action {
                if !copy.mode_str.is_empty() {
                    about.caps.push("file.copy.modestring");
                }
                if !copy.include_patterns.is_empty() || !copy.exclude_patterns.is_empty() {
                    about.caps.push("file.copy.includeexcludepatterns");
                }
            }
            actions.push(llb::FileAction {
                input: base,
                secondary_input: self.inputs.add_or_empty(from),
                output: if at == last { 0 } else { -1 },
                action: Some(action),
            });
        }
        // What actions leave is counted behind the inputs, of which there are no more now.
        let behind = self.inputs.len();
        for (at, action) in actions.iter_mut().enumerate().skip(1) {
            action.input = number(behind + at - 1);
        }
        graph.add(self.inputs, llb::OpOp::File(llb::FileOp { actions }), None, about)
    }
}

/// `user[:group]` by number or name; names are looked up in an input.
fn owner(text: &str, input: i64) -> llb::ChownOpt {
    let one = |text: &str| {
        let user = match text.parse() {
            Ok(id) => llb::UserOptUser::ById(id),
            Err(_) => llb::UserOptUser::ByName(llb::NamedUserOpt { name: text.to_owned(), input }),
        };
        Some(llb::UserOpt { user: Some(user) })
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    llb::ChownOpt { user: one(user), group: group.and_then(one) }
}

/// What is particular to an instruction.
struct How<'a> {
    keyword: &'static str,
    /// Where its paths are.
    source: Option<Output>,
    parents: bool,
    add: Option<&'a Add>,
}

impl Converter<'_> {
    pub(super) fn copy(&mut self, stage: &mut Stage, step: &Step, copy: &Copy) -> Result<(), ConvertError> {
        let paths = copy.files.sources.iter().any(|source| matches!(source, FileSource::Path(_)));
        let source = match &copy.from {
            Some(word) => self.from(stage.index, &word.text, true).map_err(|mut error| {
                error.span = Some(word.span);
                error
            })?,
            None if paths => self.main_context()?,
            None => None,
        };
        self.files(stage, step, &copy.files, &How { keyword: "COPY", source, parents: copy.parents, add: None })
    }

    pub(super) fn add(&mut self, stage: &mut Stage, step: &Step, add: &Add) -> Result<(), ConvertError> {
        let local =
            add.files.sources.iter().any(
                |source| matches!(source, FileSource::Path(word) if AddSource::of(&word.text) == AddSource::Local),
            );
        let source = if local { self.main_context()? } else { None };
        self.files(stage, step, &add.files, &How { keyword: "ADD", source, parents: false, add: Some(add) })
    }

    fn files(&mut self, stage: &mut Stage, step: &Step, files: &Files, how: &How<'_>) -> Result<(), ConvertError> {
        let title = self.title(stage, step);
        let name = stage.step_name(&title);
        let link = files.link && files.chmod.is_none();
        let mut actions = Actions::on(stage.output.filter(|_| !link));
        let plain = self.plain(stage, step, files, actions.names());
        let (part, command) = (short(&name), short(written(step)));
        for source in &files.sources {
            let FileSource::Path(word) = source else { continue };
            let kind = how.add.map_or(AddSource::Local, |_| AddSource::of(&word.text));
            match (kind, how.add) {
                (AddSource::Git, Some(add)) => {
                    let source = self.repository(&word.text, add, part)?;
                    actions.copy(Some(source), llb::FileActionCopy { src: "/".to_owned(), ..plain.clone() });
                }
                (AddSource::Http, Some(add)) => {
                    let (source, file) = self.fetched(&word.text, add, part, command)?;
                    actions.copy(
                        Some(source),
                        llb::FileActionCopy {
                            src: format!("/{file}"),
                            attempt_unpack_docker_compatibility: add.unpack.unwrap_or(false),
                            ..plain.clone()
                        },
                    );
                }
                _ => actions.copy(how.source, local(&word.text, how, plain.clone())),
            }
        }
        for source in &files.sources {
            let FileSource::Heredoc(document) = source else { continue };
            let file = self.document(&document.name, 0o644, document.content.clone().into_bytes())?;
            let src = path::resolve("/", &document.name);
            actions.copy(Some(file), llb::FileActionCopy { src, ..plain.clone() });
        }
        let about = About {
            name: name.clone(),
            ignore_cache: stage.ignore_cache,
            lines: Some(step.statement.lines),
            ..About::default()
        };
        stage.output = Some(if link {
            self.linked(stage, actions, about, &title)?
        } else {
            actions.add(&mut self.graph, about)?
        });
        self.history(stage, created_by(files, how), true)
    }

    /// What all copies of an instruction have in common.
    fn plain(&self, stage: &Stage, step: &Step, files: &Files, names: i64) -> llb::FileActionCopy {
        let mut copy = copied("", &path::destination(stage.directory(), &files.destination.text));
        copy.owner = files.chown.as_ref().filter(|word| !word.text.is_empty()).map(|word| owner(&word.text, names));
        copy.exclude_patterns = files.exclude.iter().map(|word| word.text.clone()).collect();
        match &step.mode {
            Some(Mode::Octal(mode)) => copy.mode = i32::try_from(*mode).unwrap_or(-1),
            Some(Mode::Symbolic(changes)) => copy.mode_str.clone_from(changes),
            None => {}
        }
        copy
    }

    /// Nanoseconds of the time that everything has; -1 for none.
    fn timestamp(&self) -> i64 {
        self.input.options.source_date_epoch.map_or(-1, |seconds| seconds.saturating_mul(1_000_000_000))
    }

    /// Lays the files over the stage.
    fn linked(
        &mut self,
        stage: &mut Stage,
        actions: Actions,
        about: About,
        title: &str,
    ) -> Result<Output, ConvertError> {
        let group = |id: &str, weak| llb::ProgressGroup { id: id.to_owned(), name: about.name.clone(), weak };
        // The group is known by what it copies, so that it is the same each time.
        let lines = about.lines.map_or(0, |lines| lines.first);
        let id = super::graph::digest_of(format!("{}\n{lines}\n{}", stage.index, about.name).as_bytes());
        let id = id.get(7..32).unwrap_or_default();
        let files = actions.add(&mut self.graph, About { group: Some(group(id, true)), ..about.clone() })?;
        let Some(below) = stage.output else { return Ok(files) };
        stage.counter.index = stage.counter.index.saturating_sub(1);
        let name = stage.step_name(&format!("LINK {title}"));
        let mut inputs = Inputs::default();
        let merged = [below, files].map(|output| llb::MergeInput { input: inputs.add(output) });
        let op = llb::OpOp::Merge(llb::MergeOp { inputs: merged.to_vec() });
        let about = About { group: Some(group(id, false)), name, caps: vec!["mergeop"], ..about };
        self.graph.add(inputs, op, None, about)
    }

    fn repository(&mut self, address: &str, add: &Add, name: &str) -> Result<Output, ConvertError> {
        let source = GitSource::parse(address)?;
        let mut about = About {
            name: name.to_owned(),
            caps: vec!["source.git", "source.git.fullurl", "source.git.httpauth"],
            ..About::default()
        };
        let mut attrs: HashMap<_, _> = source.attrs().into_iter().collect();
        for (name, cap) in
            [("git.skipsubmodules", "source.git.skipsubmodules"), ("git.mountsshsock", "source.git.mountsshsock")]
        {
            if attrs.contains_key(name) {
                about.caps.push(cap);
            }
        }
        let mut attr = |key: &str, cap, value: &str| {
            about.caps.push(cap);
            attrs.insert(key.to_owned(), value.to_owned());
        };
        let keep = match (source.keep_git_dir, add.keep_git_dir) {
            (Some(false), true) => return Err(Problem::KeepGitDir.into()),
            (Some(keep), _) => keep,
            (None, keep) => keep,
        };
        if keep {
            attr("git.keepgitdir", "source.git.keepgitdir", "true");
        }
        let checksum = add.checksum.as_ref().map(|word| word.text.as_str()).filter(|text| !text.is_empty());
        match (checksum, source.checksum.as_str()) {
            (Some(told), found) if !found.is_empty() && told != found => {
                return Err(Problem::Checksum(told.to_owned(), found.to_owned()).into());
            }
            (None, "") => {}
            (told, found) => attr("git.checksum", "source.git.checksum", told.unwrap_or(found)),
        }
        if !source.directory.is_empty() {
            about.caps.push("source.git.subdir");
        }
        let op = llb::SourceOp { identifier: source.identifier(), attrs };
        self.graph.add(Inputs::default(), llb::OpOp::Source(op), None, about)
    }

    /// A file from an address, and its name.
    fn fetched(
        &mut self,
        address: &str,
        add: &Add,
        name: &str,
        command: &str,
    ) -> Result<(Output, String), ConvertError> {
        let behind = address.split_once("://").map_or(address, |(_, rest)| rest);
        let path = behind.split(['?', '#']).next().unwrap_or_default();
        let file = path.split_once('/').and_then(|(_, path)| path::base(path)).filter(|name| *name != "..");
        let file = file.and_then(super::git::decoded_path).unwrap_or_else(|| "__unnamed__".to_owned());
        let mut attrs = HashMap::from([("http.filename".to_owned(), file.clone())]);
        let mut caps = vec!["source.http"];
        if let Some(word) = add.checksum.as_ref().filter(|word| !word.text.is_empty()) {
            caps.push("source.http.checksum");
            attrs.insert("http.checksum".to_owned(), word.text.clone());
        }
        let about = About { name: name.to_owned(), command: Some(command.to_owned()), caps, ..About::default() };
        let op = llb::SourceOp { identifier: address.to_owned(), attrs };
        let output = self.graph.add(Inputs::default(), llb::OpOp::Source(op), None, about)?;
        Ok((output, file))
    }

    /// Makes the directory of a WORKDIR, for the user that will work in it.
    pub(super) fn make_directory(&mut self, stage: &mut Stage, step: &Step, path: &str) -> Result<(), ConvertError> {
        let title = self.title(stage, step);
        let mut actions = Actions::on(stage.output);
        let user = stage.config.user.as_str();
        let names = actions.names();
        let directory = llb::FileActionMkDir {
            path: path.to_owned(),
            mode: 0o755,
            make_parents: true,
            owner: (!user.is_empty()).then(|| owner(user, names)),
            timestamp: self.timestamp(),
        };
        actions.actions.push((None, llb::FileActionAction::Mkdir(directory)));
        let about = About { name: stage.step_name(&title), lines: Some(step.statement.lines), ..About::default() };
        stage.output = Some(actions.add(&mut self.graph, about)?);
        Ok(())
    }
}

/// The beginning of a text. Each of thousands of addresses would have all of its instruction in its name otherwise.
fn short(text: &str) -> &str {
    text.char_indices().nth(1024).map_or(text, |(end, _)| &text[..end])
}

/// A copy from a context or stage.
fn local(written: &str, how: &How<'_>, plain: llb::FileActionCopy) -> llb::FileActionCopy {
    let mut src = written;
    let mut include_patterns = Vec::new();
    if how.parents {
        let (from, pattern) = written.split_once("/./").unwrap_or(("/", written));
        src = from;
        include_patterns.push(path::clean(pattern).trim_start_matches('/').to_owned());
    }
    llb::FileActionCopy {
        src: path::clean(src),
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack_docker_compatibility: how.add.is_some_and(|add| add.unpack.unwrap_or(true)),
        allow_wildcard: true,
        allow_empty_wildcard: true,
        include_patterns,
        ..plain
    }
}

fn created_by(files: &Files, how: &How<'_>) -> String {
    let mut text = how.keyword.to_owned();
    if how.parents {
        text.push_str(" --parents");
    }
    for (flag, word) in [("chown", &files.chown), ("chmod", &files.chmod)] {
        if let Some(word) = word.as_ref().filter(|word| !word.text.is_empty()) {
            text.extend([" --", flag, "=", &word.text]);
        }
    }
    for source in &files.sources {
        if let FileSource::Path(word) = source {
            text.extend([" ", &word.text]);
        }
    }
    for source in &files.sources {
        if let FileSource::Heredoc(document) = source {
            text.extend([" <<", &document.name]);
        }
    }
    text.extend([" ", &files.destination.text, " # buildkit"]);
    text
}
