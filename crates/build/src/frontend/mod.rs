//! The built-in front end: reads the Dockerfile that a client sends, looks up the images it begins with, and makes a
//! definition of it (`convert`).

mod context;
mod gateway;
mod subrequest;

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use buildkit::wire::llb::{Definition, OpMetadata, OpOp, SourceOp};
use buildkit::wire::{errdefs, llb};
use dockerfile::ignore::Ignore;
use dockerfile::{Base, BaseImage as Begins, Dockerfile, Evaluation, Plan, Source};
use prost::Message;
use rustix::fs::{Mode, OFlags};
use store::model::Image;
use sys::path::Root;
use types::{Kind, Platform};

use self::context::{Contexts, Named};
use crate::convert::{self, ContextSource, KnownBase, LocalSource, NoCache};
use crate::error::{Error, Result};
use crate::export::{CONFIG, EPOCH, Step};
use crate::graph;
use crate::job::{Job, Reference, Solved};
use crate::solve::KEEP_FAILED;

/// The front end's name.
const NAME: &str = "dockerfile.v0";
/// Most bytes of a Dockerfile.
const MAX_DOCKERFILE: u64 = 16 << 20;
/// Most platforms of one build.
const MAX_PLATFORMS: usize = 32;

/// What a client's options say, as far as this front end knows them.
struct Options {
    filename: String,
    target: Option<String>,
    platforms: Vec<Platform>,
    build_args: BTreeMap<String, String>,
    resolve_mode: String,
    attrs: HashMap<String, String>,
}

/// Makes a build of a Dockerfile.
///
/// # Errors
/// Mistakes in it, with their lines; images that are nowhere to be had; options that are not supported.
pub async fn solve(
    job: &Arc<Job>,
    name: &str,
    attrs: HashMap<String, String>,
    inputs: &HashMap<String, Definition>,
) -> Result<Solved> {
    if name == gateway::NAME {
        let image = attrs.get("source").cloned().unwrap_or_default();
        return gateway::solve(job, &image, attrs, inputs.clone()).await;
    }
    if name != NAME {
        let text = format!("front end \"{name}\" is not known: there are {NAME} and {}", gateway::NAME);
        return Err(Error::new(Kind::Unsupported, text));
    }
    job.asked(name, &attrs);
    let mut options = Options::read(attrs)?;
    if options.build_args.remove(KEEP_FAILED).is_some_and(|value| !matches!(value.as_str(), "" | "0" | "false")) {
        job.build.keep_failed();
    }
    let contexts = Contexts::read(job, &options.attrs, inputs).await?;
    options.filename.clone_from(&contexts.filename);
    let text = read_dockerfile(job, &options, &contexts.dockerfile).await?;
    let ignore = read_ignore(job, &contexts.main, &text).await?;
    let source =
        Source::new(&options.filename, &text.content).map_err(|e| dockerfile_error(&e, None, &options.filename))?;
    if let Some(wanted) = gateway::wanted(&options, &source)? {
        match wanted {
            gateway::Wanted::BuiltIn(image) => Step::begin(job, &format!("[internal] {image} is built in")).end(None),
            gateway::Wanted::Image { image, cmdline } => {
                let mut attrs = options.attrs.clone();
                attrs.extend([("source".to_owned(), image.clone()), ("cmdline".to_owned(), cmdline)]);
                // It reads its own subrequests, contexts and arguments.
                return Box::pin(gateway::solve(job, &image, attrs, inputs.clone())).await;
            }
        }
    }
    if let Some(request) = options.attrs.get("requestid").filter(|request| !request.is_empty()) {
        return subrequest::answer(job, request, &options, &source, ignore.as_ref()).await;
    }
    let file = Dockerfile::parse(&source).map_err(|failure| dockerfile_error(&failure.error, Some(&source), ""))?;
    let mut solved = Solved::default();
    let several = options.platforms.len() > 1;
    let asked =
        Asked { job, options: &options, contexts: &contexts, source: &source, file: &file, ignore: ignore.as_ref() };
    for platform in &options.platforms {
        let (definition, image) = convert_for(&asked, platform).await?;
        let reference = Reference::read(definition)?;
        let config = image.to_bytes().map_err(Error::from)?;
        if several {
            let name = platform.to_string();
            solved.metadata.insert(format!("{CONFIG}/{name}"), config);
            solved.by_platform.push((name, reference));
        } else {
            solved.metadata.insert(CONFIG.to_owned(), config);
            solved.reference = Some(reference);
        }
    }
    if let Some(epoch) = options.build_args.get("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty()) {
        solved.metadata.insert(EPOCH.to_owned(), epoch.clone().into_bytes());
    }
    if several {
        let list = solved.by_platform.iter().zip(&options.platforms).map(|((name, _), platform)| {
            serde_json::json!({ "ID": name, "Platform": {
                "architecture": platform.arch, "os": platform.os, "variant": platform.variant } })
        });
        let list = serde_json::json!({ "Platforms": list.collect::<Vec<_>>() });
        solved.metadata.insert("refs.platforms".to_owned(), list.to_string().into_bytes());
    }
    Ok(solved)
}

impl Options {
    fn read(attrs: HashMap<String, String>) -> Result<Self> {
        let text = |key: &str| attrs.get(key).filter(|value| !value.is_empty()).cloned();
        let mut platforms = Vec::new();
        for name in text("platform").unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
            let invalid = |e| Error::new(Kind::Invalid, format!("invalid platform \"{name}\": {e}"));
            let platform: Platform = name.parse().map_err(invalid)?;
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
        if platforms.is_empty() {
            platforms.push(Platform::host());
        }
        if platforms.len() > MAX_PLATFORMS {
            return Err(Error::new(Kind::Invalid, format!("more than {MAX_PLATFORMS} platforms")));
        }
        let prefixed = |prefix: &str| {
            attrs
                .iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
                .collect()
        };
        Ok(Self {
            filename: text("filename").unwrap_or_else(|| "Dockerfile".to_owned()),
            target: text("target"),
            platforms,
            build_args: prefixed("build-arg:"),
            resolve_mode: text("image-resolve-mode").unwrap_or_else(|| "default".to_owned()),
            attrs,
        })
    }
}

/// The Dockerfile, and what is to be ignored if a file beside it says it.
struct Text {
    content: Vec<u8>,
    ignore: Option<Vec<u8>>,
}

/// Files of the client by their names, as a step of their own.
async fn files(job: &Arc<Job>, local: &str, names: &[String], hint: &str, shown: &str) -> Result<Root> {
    let include = serde_json::to_string(names).map_err(|e| Error::io("cannot encode names", e))?;
    let mut attrs = HashMap::from([
        ("local.includepattern".to_owned(), include),
        ("local.sharedkeyhint".to_owned(), hint.to_owned()),
    ]);
    if let Some(session) = &job.build.session {
        attrs.insert("local.session".to_owned(), session.clone());
    }
    let source = SourceOp { identifier: format!("local://{local}"), attrs };
    let op = llb::Op { op: Some(OpOp::Source(source)), ..llb::Op::default() };
    let bytes = op.encode_to_vec();
    let digest = graph::digest(&bytes);
    let description = HashMap::from([("llb.customname".to_owned(), shown.to_owned())]);
    let metadata = HashMap::from([(digest, OpMetadata { description, ..OpMetadata::default() })]);
    let reference = Reference::read(Definition { def: vec![bytes], metadata, source: None })?;
    let tree = job.tree(&reference).await?;
    let shared = Arc::clone(&job.build.shared);
    tokio::task::spawn_blocking(move || tree.read(shared.host.store()))
        .await
        .map_err(|e| Error::io("reading was interrupted", e))?
}

async fn read_dockerfile(job: &Arc<Job>, options: &Options, place: &ContextSource) -> Result<Text> {
    let filename = &options.filename;
    let ignore = format!("{filename}.dockerignore");
    let mut names = vec![filename.clone(), ignore.clone()];
    let lower = (filename == "Dockerfile").then(|| "dockerfile".to_owned());
    names.extend(lower.clone());
    let shown = format!("[internal] load build definition from {filename}");
    let root = match place {
        ContextSource::Local(local) => files(job, &local.name, &names, "dockerfile", &shown).await?,
        other => context::tree(job, other, &shown).await?,
    };
    let missing = |error: Error| {
        let text = format!("failed to read dockerfile: open {filename}: no such file or directory");
        if error.kind() == Kind::NotFound { Error::new(Kind::NotFound, text) } else { error }
    };
    let content = match (read(&root, filename, 0, MAX_DOCKERFILE + 1), lower) {
        (Err(error), Some(lower)) if error.kind() == Kind::NotFound => {
            read(&root, &lower, 0, MAX_DOCKERFILE + 1).map_err(missing)?
        }
        (content, _) => content.map_err(missing)?,
    };
    if content.len() as u64 > MAX_DOCKERFILE {
        return Err(Error::new(Kind::Invalid, format!("{filename} is larger than {MAX_DOCKERFILE} bytes")));
    }
    Ok(Text { content, ignore: read(&root, &ignore, 0, MAX_DOCKERFILE).ok() })
}

async fn read_ignore(job: &Arc<Job>, place: &ContextSource, text: &Text) -> Result<Option<Ignore>> {
    let content = match (&text.ignore, place) {
        // Of contexts that are not the client's, all is there already.
        (_, ContextSource::Other(_) | ContextSource::Made(_)) => return Ok(None),
        (Some(content), _) => content.clone(),
        (None, ContextSource::Local(local)) => {
            let names = [".dockerignore".to_owned()];
            let root = files(job, &local.name, &names, "dockerignore", "[internal] load .dockerignore").await?;
            match read(&root, ".dockerignore", 0, MAX_DOCKERFILE) {
                Ok(content) => content,
                Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    };
    parse_ignore(&content).map(Some)
}

fn parse_ignore(content: &[u8]) -> Result<Ignore> {
    Ignore::parse(content).map_err(|e| Error::new(Kind::Invalid, format!("failed parsing .dockerignore: {e}")))
}

/// A Dockerfile with all that is the same for every platform.
struct Asked<'a> {
    job: &'a Arc<Job>,
    options: &'a Options,
    contexts: &'a Contexts,
    source: &'a Source,
    file: &'a Dockerfile,
    ignore: Option<&'a Ignore>,
}

async fn convert_for(asked: &Asked<'_>, platform: &Platform) -> Result<(Definition, store::model::Image)> {
    let Asked { job, options, contexts, source, file, ignore } = *asked;
    let named = contexts.for_platform(platform);
    let told = dockerfile::Options {
        contexts: named.keys().cloned().collect(),
        build_args: options.build_args.clone(),
        target: options.target.clone(),
        target_platform: platform.clone(),
        ..dockerfile::Options::default()
    };
    let failed = |error: &dockerfile::Error| dockerfile_error(error, Some(source), "");
    let mut bases = BTreeMap::new();
    let known = {
        let mut plan = Plan::new(file, &told).map_err(|failure| failed(&failure.error))?;
        loop {
            let wanted: Vec<_> = plan
                .needed()
                .filter_map(|(index, stage)| Some((index, Wanted::of(&stage.base, &named)?, stage.platform.clone())))
                .collect();
            if wanted.is_empty() {
                break plan;
            }
            for (index, wanted, own) in wanted {
                let reference = match wanted {
                    Wanted::Image(reference) => reference,
                    Wanted::Known(_) | Wanted::Layout(..) => {
                        let config = match wanted {
                            Wanted::Layout(store, digest) => {
                                let own = own.as_ref().unwrap_or(platform);
                                let found = job.build.layout_image(None, &store, &digest, own).await;
                                let found = found.map_err(|error| {
                                    error.at(file.stages.get(index).map(|stage| lines(source, stage.lines)))
                                })?;
                                Arc::new(found.image)
                            }
                            Wanted::Known(config) => config.unwrap_or_default(),
                            Wanted::Image(_) => Arc::default(),
                        };
                        plan.know(index, base(&config)).map_err(|failure| failed(&failure.error))?;
                        bases.insert(index, KnownBase { reference: String::new(), image: Image::clone(&config) });
                        continue;
                    }
                };
                let wanted = own.unwrap_or_else(|| platform.clone());
                let step = Step::begin(job, &format!("[internal] load metadata for {reference}"));
                let found = job.build.base_image(&reference, Some(wanted), Some(&options.resolve_mode)).await;
                step.end(found.as_ref().err());
                let found = found.map_err(|error| {
                    let lines = file.stages.get(index).map(|stage| lines(source, stage.lines));
                    error.context(format_args!("failed to resolve source metadata for {reference}")).at(lines)
                })?;
                plan.know(index, base(&found.image)).map_err(|failure| failed(&failure.error))?;
                bases.insert(index, KnownBase { reference, image: found.image.clone() });
            }
        }
    };
    let evaluation = Evaluation::new(&known, ignore).map_err(|failure| {
        warn(job, source, &failure.warnings);
        failed(&failure.error)
    })?;
    let mut options = converting(options)?;
    options.context = match &contexts.main {
        ContextSource::Local(local) => ContextSource::Local(LocalSource {
            name: local.name.clone(),
            exclude: ignore.map(|ignore| ignore.texts().to_vec()).unwrap_or_default(),
            session: job.build.session.clone().unwrap_or_default(),
            shared_key_hint: local.name.clone(),
            ..LocalSource::default()
        }),
        other => other.clone(),
    };
    options.contexts = named.into_iter().map(|(name, named)| (name, named.source)).collect();
    let images = BTreeMap::new();
    let input = convert::Input {
        plan: &known,
        evaluation: &evaluation,
        source,
        bases: &bases,
        images: &images,
        options: &options,
    };
    let converted = convert::convert(&input).map_err(|error| {
        let lines = error.lines.map(|found| lines(source, found));
        Error::new(Kind::Invalid, error.to_string()).at(lines)
    })?;
    warn(job, source, &evaluation.warnings);
    Ok((converted.definition, converted.image))
}

/// What has to be known of what a stage begins with.
enum Wanted {
    /// An image by its name.
    Image(String),
    /// An image in a client's OCI layout.
    Layout(String, types::Digest),
    /// The configuration of what is known already.
    Known(Option<Arc<Image>>),
}

impl Wanted {
    fn of(begins: &Begins, named: &BTreeMap<String, Named>) -> Option<Self> {
        match begins {
            Begins::Image(reference) => Some(Wanted::Image(reference.clone().with_default_tag().to_string())),
            Begins::Context(name) => {
                let named = named.get(name)?;
                Some(match (&named.image, &named.layout) {
                    (Some(image), _) => Wanted::Image(image.clone()),
                    (None, Some((store, digest))) => Wanted::Layout(store.clone(), *digest),
                    (None, None) => Wanted::Known(named.config.clone()),
                })
            }
            Begins::Scratch | Begins::Stage(_) => None,
        }
    }
}

/// What a conversion is told.
fn converting(options: &Options) -> Result<convert::Options> {
    let attr = |key: &str| options.attrs.get(key).map(String::as_str).filter(|value| !value.is_empty());
    let invalid = |key: &str, value: &str, why: &str| Error::new(Kind::Invalid, format!("{key} \"{value}\": {why}"));
    let number = |key: &str, value: &str| value.parse::<i64>().map_err(|e| invalid(key, value, &e.to_string()));
    let network = match attr("force-network-mode") {
        None | Some("sandbox" | "default") => llb::NetMode::Unset,
        Some("none") => llb::NetMode::None,
        Some("host") => llb::NetMode::Host,
        Some(other) => return Err(invalid("force-network-mode", other, "it is default, none or host")),
    };
    let mut extra_hosts = Vec::new();
    for entry in attr("add-hosts").unwrap_or_default().split(',').filter(|entry| !entry.is_empty()) {
        let (host, ip) = entry
            .split_once('=')
            .or_else(|| entry.split_once(':'))
            .ok_or_else(|| invalid("add-hosts", entry, "a name and an address are needed, as NAME=ADDRESS"))?;
        extra_hosts.push(llb::HostIp { host: host.to_owned(), ip: ip.to_owned() });
    }
    let mut ulimits = Vec::new();
    for entry in attr("ulimit").unwrap_or_default().split(',').filter(|entry| !entry.is_empty()) {
        let (name, limits) =
            entry.split_once('=').ok_or_else(|| invalid("ulimit", entry, "a name and limits are needed"))?;
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        ulimits.push(llb::Ulimit {
            name: name.to_owned(),
            soft: number("ulimit", soft)?,
            hard: number("ulimit", hard)?,
        });
    }
    let no_cache = match options.attrs.get("no-cache").map(String::as_str) {
        None => NoCache::None,
        Some("") => NoCache::All,
        Some(stages) => NoCache::Stages(stages.split(',').map(str::to_owned).collect()),
    };
    let labels =
        options.attrs.iter().filter_map(|(key, value)| Some((key.strip_prefix("label:")?.to_owned(), value.clone())));
    let epoch = options.build_args.get("SOURCE_DATE_EPOCH").filter(|value| !value.is_empty());
    Ok(convert::Options {
        labels: labels.collect(),
        no_cache,
        network,
        extra_hosts,
        ulimits,
        hostname: attr("hostname").unwrap_or_default().to_owned(),
        cgroup_parent: attr("cgroup-parent").unwrap_or_default().to_owned(),
        shm_size: attr("shm-size").map(|value| number("shm-size", value)).transpose()?,
        source_date_epoch: epoch.map(|value| number("SOURCE_DATE_EPOCH", value)).transpose()?,
        multi_platform: options.platforms.len() > 1,
        platform_requested: options.attrs.get("platform").is_some_and(|value| !value.is_empty()),
        resolve_mode: if options.resolve_mode == "default" { String::new() } else { options.resolve_mode.clone() },
        cache_namespace: options.build_args.get("BUILDKIT_CACHE_MOUNT_NS").cloned().unwrap_or_default(),
        ..convert::Options::default()
    })
}

/// What is known of an image, as the language wants it.
fn base(image: &store::model::Image) -> Base {
    let env = image.config.env.iter().flatten();
    let pairs = env.map(|entry| match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (entry.clone(), String::new()),
    });
    Base {
        env: pairs.collect(),
        shell: image.config.shell.clone().unwrap_or_default(),
        on_build: image.config.on_build.clone().unwrap_or_default(),
        platform: Some(image.platform()),
    }
}

fn warn(job: &Job, source: &Source, warnings: &[dockerfile::check::Warning]) {
    for warning in warnings {
        let place = lines(source, warning.lines);
        job.progress.warning(buildkit::wire::control::VertexWarning {
            level: 1,
            short: format!("{}: {} (line {})", warning.rule.name(), warning.detail, warning.lines.first).into_bytes(),
            detail: vec![warning.rule.description().as_bytes().to_vec()],
            info: place.info,
            ranges: place.ranges,
            ..buildkit::wire::control::VertexWarning::default()
        });
    }
}

/// Lines of the Dockerfile, with it.
fn lines(source: &Source, lines: dockerfile::Lines) -> errdefs::Source {
    let position = |line: u32| Some(llb::Position { line: i32::try_from(line).unwrap_or(0), character: 0 });
    errdefs::Source {
        info: Some(llb::SourceInfo {
            filename: source.name().to_owned(),
            data: source.text().as_bytes().to_vec(),
            language: "Dockerfile".to_owned(),
            definition: None,
        }),
        ranges: vec![llb::Range { start: position(lines.first), end: position(lines.last) }],
    }
}

fn dockerfile_error(error: &dockerfile::Error, source: Option<&Source>, name: &str) -> Error {
    let text = if name.is_empty() { error.to_string() } else { format!("{name}: {error}") };
    let place = source.zip(error.lines).map(|(source, found)| lines(source, found));
    Error::new(Kind::Invalid, text).at(place)
}

/// A file of a tree, from `offset`, at most so many bytes.
///
/// # Errors
/// Not found; not a regular file.
pub fn read(root: &Root, path: &str, offset: u64, most: u64) -> Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};
    let at = Path::new("/").join(path.trim_start_matches('/'));
    let fail = |e: std::io::Error| {
        let kind = if e.kind() == std::io::ErrorKind::NotFound { Kind::NotFound } else { Kind::Invalid };
        Error::new(kind, format!("open {path}: {e}"))
    };
    let handle: OwnedFd = root.open_at(&at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| fail(e.into()))?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile {
        return Err(Error::new(Kind::Invalid, format!("open {path}: it is no regular file")));
    }
    let mut file = std::fs::File::from(sys::path::reopen_file(&handle).map_err(fail)?);
    file.seek(SeekFrom::Start(offset)).map_err(fail)?;
    let mut data = Vec::new();
    file.take(most).read_to_end(&mut data).map_err(fail)?;
    Ok(data)
}
