//! `moby.buildkit.v1.frontend.LLBBridge`: a client that is its own front end solves definitions, or has the built-in front
//! end do it, and returns what it wants built. The build is named in the metadata of every call.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use buildkit::server::Methods;
use buildkit::wire::caps::ApiCap;
use buildkit::wire::gateway::{
    EvaluateRequest, EvaluateResponse, InputsRequest, InputsResponse, PingRequest, PongResponse, ReadDirRequest,
    ReadDirResponse, ReadFileRequest, ReadFileResponse, Ref, RefMap, ResolveImageConfigRequest,
    ResolveImageConfigResponse, Result as Returned, ResultResult, ReturnRequest, ReturnResponse, SolveRequest,
    SolveResponse, StatFileRequest, StatFileResponse, WarnRequest, WarnResponse,
};
use buildkit::wire::llb::Definition;
use buildkit::wire::stat::Stat;
use buildkit::wire::{control, gateway};
use dockerfile::ignore::Ignore;
use rustix::fs::{Mode, OFlags};
use sys::path::Root;
use tonic::Request;
use types::Kind;

use super::called;
use super::control::worker;
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::frontend;
use crate::job::{Job, Reference, Solved};

/// Most bytes of a file that a front end reads at once.
const MAX_READ: u64 = 12 << 20;

/// Most names of one directory that a front end reads.
const MAX_LISTED: usize = 100_000;

/// What front ends may count on.
const FRONTEND_CAPS: [&str; 16] = [
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "statfile",
    "readdir",
    "proto.refarray",
    "reference.output",
    "frontend.inputs",
    "frontend.caps",
    "gateway.solve.evaluate",
    "gateway.evaluate",
    "gateway.warnings",
];

/// What definitions may use.
const LLB_CAPS: [&str; 40] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "exec.meta.base",
    "exec.meta.cgroup.parent",
    "exec.meta.network",
    "exec.meta.proxyenv",
    "exec.meta.ulimit",
    "exec.meta.security",
    "exec.meta.setsdefaultpath",
    "exec.meta.removemountstubs.recursive",
    "exec.mount.bind",
    "exec.mount.bind.readwrite-nooutput",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.selector",
    "exec.mount.tmpfs",
    "exec.mount.tmpfs.size",
    "exec.mount.secret",
    "exec.secretenv",
    "exec.validexitcode",
    "file.base",
    "file.copy.includeexcludepatterns",
    "file.copy.modestring",
    "file.symlink.create",
    "mergeop",
    "platform",
    "meta.description",
    "gc.freespacefilter",
    "history.filter",
    "exporter.image.annotations",
    "exporter.image.attestations",
    "exporter.multiple",
    "exporter.sourcedateepoch",
];

/// Who asks.
pub(super) enum Scope {
    /// A client that is its own front end; it names the build.
    Client(Arc<Builder>),
    /// A front end in a container, of one build.
    FrontEnd(FrontEnd),
}

/// A front end in a container.
pub(crate) struct FrontEnd {
    /// The build it is of.
    pub(crate) job: Arc<Job>,
    /// What other builds make, by name.
    pub(crate) inputs: HashMap<String, Definition>,
    /// Takes what it returns.
    pub(crate) returned: tokio::sync::mpsc::Sender<Result<Solved>>,
}

impl Scope {
    async fn job<Q>(&self, request: &Request<Q>) -> Result<Arc<Job>> {
        let builder = match self {
            Scope::Client(builder) => builder,
            Scope::FrontEnd(front_end) => return Ok(Arc::clone(&front_end.job)),
        };
        let name = request.metadata().get("buildkit-controlapi-buildid").and_then(|value| value.to_str().ok());
        let name = name.ok_or_else(|| Error::new(Kind::Invalid, "a call of a front end without the build's id"))?;
        builder.job(name).await
    }

    fn give(&self, job: &Job, solved: Result<Solved>) {
        match self {
            Scope::Client(_) => job.give(solved),
            // The first counts.
            Scope::FrontEnd(front_end) => drop(front_end.returned.try_send(solved)),
        }
    }
}

pub(super) fn methods(methods: Methods, scope: &Arc<Scope>) -> Methods {
    methods
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Ping", called(scope, ping))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Solve", called(scope, solve))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Return", called(scope, r#return))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig", called(scope, resolve_image_config))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/ReadFile", called(scope, read_file))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/StatFile", called(scope, stat_file))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/ReadDir", called(scope, read_dir))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Evaluate", called(scope, evaluate))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Inputs", called(scope, inputs))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Warn", called(scope, warn))
}

fn caps(ids: &[&str]) -> Vec<ApiCap> {
    ids.iter().map(|id| ApiCap { id: (*id).to_owned(), enabled: true, ..ApiCap::default() }).collect()
}

async fn ping(scope: Arc<Scope>, request: Request<PingRequest>) -> Result<PongResponse> {
    let job = scope.job(&request).await?;
    Ok(PongResponse {
        frontend_api_caps: caps(&FRONTEND_CAPS),
        llb_caps: caps(&LLB_CAPS),
        workers: vec![worker(&job.build.shared)],
    })
}

async fn solve(scope: Arc<Scope>, request: Request<SolveRequest>) -> Result<SolveResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    let solved = match (request.frontend.as_str(), request.definition) {
        ("", Some(definition)) => Solved { reference: Some(Reference::read(definition)?), ..Solved::default() },
        ("", None) => Solved::default(),
        (name, _) => frontend::solve(&job, name, request.frontend_opt, &request.frontend_inputs).await?,
    };
    if request.evaluate {
        for reference in solved.reference.iter().chain(solved.by_platform.iter().map(|(_, reference)| reference)) {
            job.tree(reference).await?;
        }
    }
    let result = match (&solved.reference, solved.by_platform.as_slice()) {
        (Some(reference), _) => Some(ResultResult::Ref(job.refer(reference)?)),
        (None, []) => Some(ResultResult::Ref(Ref::default())),
        (None, several) => {
            let refs = several.iter().map(|(name, reference)| Ok((name.clone(), job.refer(reference)?)));
            Some(ResultResult::Refs(RefMap { refs: refs.collect::<Result<_>>()? }))
        }
    };
    let result = Returned { result, metadata: solved.metadata, ..Returned::default() };
    Ok(SolveResponse { result: Some(result), ..SolveResponse::default() })
}

async fn r#return(scope: Arc<Scope>, request: Request<ReturnRequest>) -> Result<ReturnResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    if let Some(error) = request.error {
        let kind = if error.code == tonic::Code::Cancelled as i32 { Kind::Cancelled } else { Kind::Internal };
        scope.give(&job, Err(Error::new(kind, error.message)));
        return Ok(ReturnResponse {});
    }
    let result = request.result.unwrap_or_default();
    if !result.attestations.is_empty() {
        return Err(Error::new(Kind::Unsupported, "attestations of a front end are not supported yet"));
    }
    let reference = |id: &str| if id.is_empty() { Ok(None) } else { job.reference(id).map(Some) };
    let mut solved = Solved { metadata: result.metadata, ..Solved::default() };
    let several = |refs: Vec<(String, String)>| -> Result<Vec<(String, Reference)>> {
        let mut found = Vec::new();
        for (name, id) in refs {
            found.push((name, reference(&id)?.unwrap_or_default()));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    };
    match result.result {
        None => {}
        Some(ResultResult::Ref(Ref { id, .. }) | ResultResult::RefDeprecated(id)) => solved.reference = reference(&id)?,
        Some(ResultResult::Refs(map)) => {
            solved.by_platform = several(map.refs.into_iter().map(|(name, reference)| (name, reference.id)).collect())?;
        }
        Some(ResultResult::RefsDeprecated(map)) => solved.by_platform = several(map.refs.into_iter().collect())?,
    }
    scope.give(&job, Ok(solved));
    Ok(ReturnResponse {})
}

async fn resolve_image_config(
    scope: Arc<Scope>,
    request: Request<ResolveImageConfigRequest>,
) -> Result<ResolveImageConfigResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    let platform = request.platform.as_ref().map(crate::solve::platform);
    let image = job.build.base_image(&request.r#ref, platform, Some(&request.resolve_mode)).await?;
    let config = image.image.to_bytes().map_err(Error::from)?;
    Ok(ResolveImageConfigResponse { digest: image.digest, config, r#ref: request.r#ref })
}

async fn tree(job: &Job, id: &str) -> Result<Root> {
    let tree = job.tree(&job.reference(id)?).await?;
    let shared = Arc::clone(&job.build.shared);
    let read = tokio::task::spawn_blocking(move || tree.read(shared.host.store()));
    read.await.map_err(|e| Error::io("reading was interrupted", e))?
}

async fn read_file(scope: Arc<Scope>, request: Request<ReadFileRequest>) -> Result<ReadFileResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    let range = request.range.unwrap_or(gateway::FileRange { offset: 0, length: 0 });
    let root = tree(&job, &request.r#ref).await?;
    let (offset, length) = (u64::try_from(range.offset).unwrap_or(0), u64::try_from(range.length).unwrap_or(0));
    let length = if length == 0 { MAX_READ } else { length.min(MAX_READ) };
    let data = frontend::read(&root, &request.file_path, offset, length)?;
    Ok(ReadFileResponse { data })
}

async fn stat_file(scope: Arc<Scope>, request: Request<StatFileRequest>) -> Result<StatFileResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    let root = tree(&job, &request.r#ref).await?;
    let path = Path::new("/").join(request.path.trim_start_matches('/'));
    let fail = |e: std::io::Error| Error::new(Kind::NotFound, format!("{}: {e}", request.path));
    let handle = root.open_at(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| fail(e.into()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(StatFileResponse { stat: Some(described(name, &stat)) })
}

/// A file as messages have it: modes are Go's.
fn described(path: String, stat: &rustix::fs::Stat) -> Stat {
    Stat {
        path,
        mode: transfer::mode_of(stat.st_mode),
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size,
        mod_time: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
        ..Stat::default()
    }
}

async fn read_dir(scope: Arc<Scope>, request: Request<ReadDirRequest>) -> Result<ReadDirResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    let root = tree(&job, &request.r#ref).await?;
    let reading = tokio::task::spawn_blocking(move || {
        let fail = |e: std::io::Error| Error::new(Kind::NotFound, format!("{}: {e}", request.dir_path));
        let pattern = match request.include_pattern.as_str() {
            "" => None,
            text => Some(Ignore::patterns([text]).map_err(|e| Error::new(Kind::Invalid, e.to_string()))?),
        };
        let dir = root.open_dir(Path::new("/").join(request.dir_path.trim_start_matches('/'))).map_err(fail)?;
        let mut entries = Vec::new();
        for listed in dir.list().map_err(fail)? {
            let name = listed.name.to_string_lossy().into_owned();
            if pattern.as_ref().is_some_and(|pattern| !pattern.excludes(&name)) {
                continue;
            }
            if entries.len() >= MAX_LISTED {
                return Err(Error::new(
                    Kind::Exhausted,
                    format!("more than {MAX_LISTED} files in {}", request.dir_path),
                ));
            }
            entries.push(described(name, &dir.lstat(&listed.name).map_err(fail)?));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(ReadDirResponse { entries })
    });
    reading.await.map_err(|e| Error::io("reading was interrupted", e))?
}

async fn evaluate(scope: Arc<Scope>, request: Request<EvaluateRequest>) -> Result<EvaluateResponse> {
    let job = scope.job(&request).await?;
    let reference = job.reference(&request.into_inner().r#ref)?;
    job.tree(&reference).await?;
    Ok(EvaluateResponse {})
}

async fn inputs(scope: Arc<Scope>, request: Request<InputsRequest>) -> Result<InputsResponse> {
    scope.job(&request).await?;
    let definitions = match &*scope {
        Scope::Client(_) => HashMap::new(),
        Scope::FrontEnd(front_end) => front_end.inputs.clone(),
    };
    Ok(InputsResponse { definitions })
}

async fn warn(scope: Arc<Scope>, request: Request<WarnRequest>) -> Result<WarnResponse> {
    let job = scope.job(&request).await?;
    let request = request.into_inner();
    job.progress.warning(control::VertexWarning {
        vertex: request.digest,
        level: request.level,
        short: request.short,
        detail: request.detail,
        url: request.url,
        info: request.info,
        ranges: request.ranges,
    });
    Ok(WarnResponse {})
}
