//! `moby.buildkit.v1.frontend.LLBBridge`: a client that is its own front end solves definitions, or has the built-in front
//! end do it, and returns what it wants built. The build is named in the metadata of every call.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use buildkit::server::Methods;
use buildkit::wire::caps::ApiCap;
use buildkit::wire::gateway::{
    EvaluateRequest, EvaluateResponse, InputsRequest, InputsResponse, PingRequest, PongResponse, ReadFileRequest,
    ReadFileResponse, Ref, RefMap, ResolveImageConfigRequest, ResolveImageConfigResponse, Result as Returned,
    ResultResult, ReturnRequest, ReturnResponse, SolveRequest, SolveResponse, StatFileRequest, StatFileResponse,
    WarnRequest, WarnResponse,
};
use buildkit::wire::stat::Stat;
use buildkit::wire::{control, gateway};
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

/// What front ends may count on.
const FRONTEND_CAPS: [&str; 15] = [
    "solve.base",
    "solve.inlinereturn",
    "resolveimage",
    "resolveimage.resolvemode",
    "readfile",
    "return",
    "returnmap",
    "statfile",
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

pub(super) fn methods(methods: Methods, builder: &Arc<Builder>) -> Methods {
    methods
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Ping", called(builder, ping))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Solve", called(builder, solve))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Return", called(builder, r#return))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/ResolveImageConfig", called(builder, resolve_image_config))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/ReadFile", called(builder, read_file))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/StatFile", called(builder, stat_file))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Evaluate", called(builder, evaluate))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Inputs", called(builder, inputs))
        .unary("/moby.buildkit.v1.frontend.LLBBridge/Warn", called(builder, warn))
}

async fn job<Q>(builder: &Builder, request: &Request<Q>) -> Result<Arc<Job>> {
    let name = request.metadata().get("buildkit-controlapi-buildid").and_then(|value| value.to_str().ok());
    let name = name.ok_or_else(|| Error::new(Kind::Invalid, "a call of a front end without the build's id"))?;
    builder.job(name).await
}

fn caps(ids: &[&str]) -> Vec<ApiCap> {
    ids.iter().map(|id| ApiCap { id: (*id).to_owned(), enabled: true, ..ApiCap::default() }).collect()
}

async fn ping(builder: Arc<Builder>, request: Request<PingRequest>) -> Result<PongResponse> {
    job(&builder, &request).await?;
    Ok(PongResponse {
        frontend_api_caps: caps(&FRONTEND_CAPS),
        llb_caps: caps(&LLB_CAPS),
        workers: vec![worker(&builder)],
    })
}

async fn solve(builder: Arc<Builder>, request: Request<SolveRequest>) -> Result<SolveResponse> {
    let job = job(&builder, &request).await?;
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

async fn r#return(builder: Arc<Builder>, request: Request<ReturnRequest>) -> Result<ReturnResponse> {
    let job = job(&builder, &request).await?;
    let request = request.into_inner();
    if let Some(error) = request.error {
        let kind = if error.code == tonic::Code::Cancelled as i32 { Kind::Cancelled } else { Kind::Internal };
        job.give(Err(Error::new(kind, error.message)));
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
    job.give(Ok(solved));
    Ok(ReturnResponse {})
}

async fn resolve_image_config(
    builder: Arc<Builder>,
    request: Request<ResolveImageConfigRequest>,
) -> Result<ResolveImageConfigResponse> {
    let job = job(&builder, &request).await?;
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

async fn read_file(builder: Arc<Builder>, request: Request<ReadFileRequest>) -> Result<ReadFileResponse> {
    let job = job(&builder, &request).await?;
    let request = request.into_inner();
    let range = request.range.unwrap_or(gateway::FileRange { offset: 0, length: 0 });
    let root = tree(&job, &request.r#ref).await?;
    let (offset, length) = (u64::try_from(range.offset).unwrap_or(0), u64::try_from(range.length).unwrap_or(0));
    let length = if length == 0 { MAX_READ } else { length.min(MAX_READ) };
    let data = frontend::read(&root, &request.file_path, offset, length)?;
    Ok(ReadFileResponse { data })
}

async fn stat_file(builder: Arc<Builder>, request: Request<StatFileRequest>) -> Result<StatFileResponse> {
    let job = job(&builder, &request).await?;
    let request = request.into_inner();
    let root = tree(&job, &request.r#ref).await?;
    let path = Path::new("/").join(request.path.trim_start_matches('/'));
    let fail = |e: std::io::Error| Error::new(Kind::NotFound, format!("{}: {e}", request.path));
    let handle = root.open_at(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = rustix::fs::fstat(&handle).map_err(|e| fail(e.into()))?;
    let directory = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Directory;
    let kind = if directory { 1u32 << 31 } else { 0 };
    Ok(StatFileResponse {
        stat: Some(Stat {
            path: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            mode: (stat.st_mode & 0o777) | kind,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: stat.st_size,
            mod_time: stat
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(i64::try_from(stat.st_mtime_nsec).unwrap_or(0)),
            ..Stat::default()
        }),
    })
}

async fn evaluate(builder: Arc<Builder>, request: Request<EvaluateRequest>) -> Result<EvaluateResponse> {
    let job = job(&builder, &request).await?;
    let reference = job.reference(&request.into_inner().r#ref)?;
    job.tree(&reference).await?;
    Ok(EvaluateResponse {})
}

async fn inputs(builder: Arc<Builder>, request: Request<InputsRequest>) -> Result<InputsResponse> {
    job(&builder, &request).await?;
    Ok(InputsResponse { definitions: HashMap::new() })
}

async fn warn(builder: Arc<Builder>, request: Request<WarnRequest>) -> Result<WarnResponse> {
    let job = job(&builder, &request).await?;
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
