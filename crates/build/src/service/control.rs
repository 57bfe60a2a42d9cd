//! `moby.buildkit.v1.Control`: builds, their stories, what results take up.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit::server::{Messages, Methods};
use buildkit::wire::control::{
    DiskUsageRequest, DiskUsageResponse, Exporter, InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse,
    PruneRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse, UsageRecord,
};
use buildkit::wire::llb;
use buildkit::wire::worker::{BuildkitVersion, WorkerRecord};
use tonic::Request;
use types::{Kind, Platform};

use super::called;
use super::filter::Filters;
use crate::builder::Builder;
use crate::error::{Error, Result};
use crate::export;
use crate::frontend;
use crate::job::{Job, Reference, Solved};
use crate::solve::Project;

pub(super) fn methods(methods: Methods, builder: &Arc<Builder>) -> Methods {
    methods
        .unary("/moby.buildkit.v1.Control/Solve", called(builder, solve))
        .unary("/moby.buildkit.v1.Control/ListWorkers", called(builder, list_workers))
        .unary("/moby.buildkit.v1.Control/Info", called(builder, info))
        .unary("/moby.buildkit.v1.Control/DiskUsage", called(builder, disk_usage))
        .server_streaming("/moby.buildkit.v1.Control/Status", called(builder, status))
        .server_streaming("/moby.buildkit.v1.Control/Prune", called(builder, prune))
}

/// The version of BuildKit's protocol that is spoken here.
fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "dhow".to_owned(),
        version: concat!("v0.25.0+dhow.", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: String::new(),
    }
}

async fn info(_: Arc<Builder>, _: Request<InfoRequest>) -> Result<InfoResponse> {
    Ok(InfoResponse { buildkit_version: Some(version()) })
}

/// The one worker.
pub(super) fn worker(builder: &Builder) -> WorkerRecord {
    let host = Platform::host();
    let mut labels = HashMap::from([
        ("org.mobyproject.buildkit.worker.executor".to_owned(), "dhow".to_owned()),
        ("org.mobyproject.buildkit.worker.network".to_owned(), "host".to_owned()),
    ]);
    if let Some(gateway) = builder.shared().host.gateway() {
        labels.insert("org.mobyproject.buildkit.worker.moby.host-gateway-ip".to_owned(), gateway.to_string());
    }
    WorkerRecord {
        id: "dhow".to_owned(),
        labels,
        platforms: vec![llb::Platform {
            architecture: host.arch,
            os: host.os,
            variant: host.variant,
            ..llb::Platform::default()
        }],
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}

async fn list_workers(builder: Arc<Builder>, _: Request<ListWorkersRequest>) -> Result<ListWorkersResponse> {
    Ok(ListWorkersResponse { record: vec![worker(&builder)] })
}

/// Ends the build when the client that asked for it does not wait any more.
struct Ending {
    builder: Arc<Builder>,
    name: String,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.builder.end(&self.name);
    }
}

async fn solve(builder: Arc<Builder>, request: Request<SolveRequest>) -> Result<SolveResponse> {
    let request = request.into_inner();
    if request.enable_session_exporter {
        tracing::debug!("a client offers to choose the output; what it asks for is taken");
    }
    if request.source_policy.as_ref().is_some_and(|policy| !policy.rules.is_empty()) {
        return Err(Error::new(Kind::Unsupported, "source policies are not supported yet"));
    }
    if request.cache.as_ref().is_some_and(|cache| !cache.exports.is_empty()) {
        return Err(Error::new(Kind::Unsupported, "exporting the build cache (--cache-to) is not supported yet"));
    }
    let session = Some(request.session.clone()).filter(|session| !session.is_empty());
    let job = builder.begin(&request.r#ref, session.clone(), request.entitlements.clone())?;
    let _ending = Ending { builder: Arc::clone(&builder), name: request.r#ref.clone() };
    if let Some(session) = &session {
        let client = builder.shared().sessions.get(session).await?;
        let attr = |key: &str| request.frontend_attrs.get(key).map(String::as_str).unwrap_or_default();
        let name = [client.shared_key(), attr("filename"), attr("target"), attr("platform")].join("\0");
        // The first who asks begins the build.
        let _ = job.build.project.set(Project { name, explain: attr("dhow.explain") == "true" });
        let (gone, cancel) = (client.gone(), job.build.cancel.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = gone.cancelled() => cancel.cancel(),
                () = cancel.cancelled() => {}
            }
        });
    }
    let answer = build(&job, request).await;
    // Also what a failed build made before it failed.
    job.build.keep().await;
    Ok(SolveResponse { exporter_response: answer? })
}

async fn build(job: &Arc<Job>, request: SolveRequest) -> Result<HashMap<String, String>> {
    let solved = match (request.frontend.as_str(), request.definition) {
        ("", Some(definition)) if !definition.def.is_empty() => {
            Solved { reference: Some(Reference::read(definition)?), ..Solved::default() }
        }
        // The client is its own front end, and speaks to the solver beside this.
        ("", _) => job.given().await?,
        (name, _) => frontend::solve(job, name, request.frontend_attrs, &request.frontend_inputs).await?,
    };
    let mut exporters = request.exporters;
    if exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        exporters.push(Exporter { r#type: request.exporter_deprecated, attrs: request.exporter_attrs_deprecated });
    }
    export::export(job, &solved, &exporters).await
}

async fn status(builder: Arc<Builder>, request: Request<StatusRequest>) -> Result<Messages<StatusResponse>> {
    Ok(builder.story(&request.into_inner().r#ref).await?.follow())
}

async fn disk_usage(builder: Arc<Builder>, request: Request<DiskUsageRequest>) -> Result<DiskUsageResponse> {
    let filters = Filters::read(&request.into_inner().filter)?;
    let found = builder.usage().await?.into_iter().filter(|usage| filters.pass(usage));
    Ok(DiskUsageResponse { record: found.map(usage_record).collect() })
}

fn usage_record(usage: crate::solve::Usage) -> UsageRecord {
    let time = |ns: i64| {
        Some(prost_types::Timestamp {
            seconds: ns.div_euclid(1_000_000_000),
            nanos: i32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0),
        })
    };
    UsageRecord {
        id: usage.id,
        size: i64::try_from(usage.size).unwrap_or(i64::MAX),
        created_at: time(usage.record.created_ns),
        last_used_at: time(usage.record.used_ns),
        usage_count: i64::try_from(usage.record.uses).unwrap_or(i64::MAX),
        description: usage.record.name,
        record_type: usage.record.kind,
        shared: usage.shared,
        ..UsageRecord::default()
    }
}

async fn prune(builder: Arc<Builder>, request: Request<PruneRequest>) -> Result<Messages<UsageRecord>> {
    let request = request.into_inner();
    if request.reserved_space > 0 || request.max_used_space > 0 || request.min_free_space > 0 {
        return Err(Error::new(Kind::Unsupported, "pruning down to a size is not supported yet: prune by age or all"));
    }
    let filters = Filters::read(&request.filter)?;
    let keep = u64::try_from(request.keep_duration).unwrap_or(0);
    let removed = builder.prune(keep, move |usage| filters.pass(usage)).await?;
    let told = removed.into_iter().map(|usage| Ok(usage_record(usage)));
    Ok(Box::pin(futures_util::stream::iter(told.collect::<Vec<_>>())))
}
