//! `moby.buildkit.v1.Control`: builds, their stories, what results take up.

use std::collections::HashMap;
use std::sync::Arc;

use buildkit::server::{Messages, Methods};
use buildkit::wire::control::{
    DiskUsageRequest, DiskUsageResponse, Exporter, InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse,
    PruneRequest, SolveRequest, SolveResponse, StatusRequest, StatusResponse, UsageRecord,
};
use buildkit::wire::llb;
use buildkit::wire::worker::{BuildkitVersion, GcPolicy, WorkerRecord};
use tonic::Request;
use types::Kind;

use super::called;
use crate::builder::Builder;
use crate::emulation;
use crate::error::{Error, Result};
use crate::exchange;
use crate::export::Outputs;
use crate::frontend;
use crate::job::{Job, Reference, Solved};
use crate::kept::{Filters, Limits, Policy, Usage};
use crate::solve::{Given, Project, Shared};

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
pub(super) fn worker(shared: &Shared) -> WorkerRecord {
    let wire = |platform: types::Platform| llb::Platform {
        architecture: platform.arch,
        os: platform.os,
        variant: platform.variant,
        ..llb::Platform::default()
    };
    let mut labels = HashMap::from([
        ("org.mobyproject.buildkit.worker.executor".to_owned(), "dhow".to_owned()),
        ("org.mobyproject.buildkit.worker.network".to_owned(), "host".to_owned()),
        // What results are kept with. By it clients know that outputs of all kinds and several platforms can be asked for.
        ("org.mobyproject.buildkit.worker.snapshotter".to_owned(), "overlayfs".to_owned()),
    ]);
    if let Some(gateway) = shared.host.gateway() {
        labels.insert("org.mobyproject.buildkit.worker.moby.host-gateway-ip".to_owned(), gateway.to_string());
    }
    WorkerRecord {
        id: "dhow".to_owned(),
        labels,
        platforms: emulation::platforms().into_iter().map(wire).collect(),
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}

fn gc_policy(policy: &Policy) -> GcPolicy {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    GcPolicy {
        all: policy.all,
        keep_duration: number(policy.keep_ns),
        filters: policy.filters.clone(),
        reserved_space: number(policy.limits.reserved),
        max_used_space: number(policy.limits.max_used),
        min_free_space: number(policy.limits.min_free),
    }
}

async fn list_workers(builder: Arc<Builder>, _: Request<ListWorkersRequest>) -> Result<ListWorkersResponse> {
    let gc_policy = builder.policies().iter().map(gc_policy).collect();
    Ok(ListWorkersResponse { record: vec![WorkerRecord { gc_policy, ..worker(builder.shared()) }] })
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
    let exporter_response = carry(&builder, request.into_inner(), Given::default()).await?;
    Ok(SolveResponse { exporter_response })
}

/// Carries out a build, from its beginning to its end. It ends when nobody waits for it any more.
pub(crate) async fn carry(
    builder: &Arc<Builder>,
    mut request: SolveRequest,
    given: Given,
) -> Result<HashMap<String, String>> {
    if request.source_policy.as_ref().is_some_and(|policy| !policy.rules.is_empty()) {
        return Err(Error::new(Kind::Unsupported, "source policies are not supported yet"));
    }
    if request.exporters.is_empty() && !request.exporter_deprecated.is_empty() {
        let attrs = std::mem::take(&mut request.exporter_attrs_deprecated);
        request.exporters.push(Exporter { r#type: std::mem::take(&mut request.exporter_deprecated), attrs });
    }
    let session = Some(request.session.clone()).filter(|session| !session.is_empty());
    let job = builder.begin(&request.r#ref, session.clone(), request.entitlements.clone())?;
    let _ending = Ending { builder: Arc::clone(builder), name: request.r#ref.clone() };
    job.build.give(given);
    // After the beginning: clients ask for the build's story beside this, and would wait for it.
    let outputs = Outputs::read(&request.exporters, &request.frontend_attrs)?;
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
    if let Some(cache) = &request.cache {
        exchange::check(&job.build, &cache.exports).await?;
    }
    let (name, internal) = (request.r#ref.clone(), request.internal);
    if !internal {
        builder.history().begin(&request, &job.progress);
    }
    let record = Recording { builder: Arc::clone(builder), name };
    let imports = request.cache.as_ref().map(|cache| cache.imports.clone()).unwrap_or_default();
    let importing = Arc::clone(&job);
    tokio::spawn(async move {
        let imports = exchange::Imports::read(&importing, &imports).await;
        importing.build.import(imports);
    });
    let answer = build(&job, request, &outputs).await;
    // Also what a failed build made before it failed; the client does not wait for it.
    let made = Arc::clone(&job.build);
    tokio::spawn(async move { made.keep().await });
    record.end(answer.as_ref());
    answer
}

/// The record of a build, which ends with it: as given up when nobody says otherwise.
struct Recording {
    builder: Arc<Builder>,
    name: String,
}

impl Recording {
    fn end(&self, answer: std::result::Result<&HashMap<String, String>, &Error>) {
        self.builder.history().end(&self.builder.shared().host, &self.name, answer);
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end(Err(&Error::cancelled()));
    }
}

async fn build(job: &Arc<Job>, request: SolveRequest, outputs: &Outputs) -> Result<HashMap<String, String>> {
    let mut solved = match (request.frontend.as_str(), request.definition) {
        ("", Some(definition)) if !definition.def.is_empty() => {
            Solved { reference: Some(Reference::read(definition)?), ..Solved::default() }
        }
        // The client is its own front end, and speaks to the solver beside this.
        ("", _) => job.given().await?,
        (name, _) => frontend::solve(job, name, request.frontend_attrs, &request.frontend_inputs).await?,
    };
    let caches = request.cache.map(|cache| cache.exports).unwrap_or_default();
    exchange::inline(job, &mut solved, &caches).await?;
    let mut answer = outputs.export(job, &solved).await?;
    answer.extend(exchange::export(job, &solved, &caches).await?);
    Ok(answer)
}

async fn status(builder: Arc<Builder>, request: Request<StatusRequest>) -> Result<Messages<StatusResponse>> {
    let request = request.into_inner();
    if let Some(told) = builder.history().story(&request.r#ref).await? {
        return Ok(Box::pin(futures_util::stream::iter(told.into_iter().map(Ok))));
    }
    Ok(builder.story(&request.r#ref).await?.follow())
}

async fn disk_usage(builder: Arc<Builder>, request: Request<DiskUsageRequest>) -> Result<DiskUsageResponse> {
    let request = request.into_inner();
    let filters = Filters::read(&request.filter)?;
    let before = match request.age_limit {
        0 => i64::MAX,
        age => crate::tree::now_ns().saturating_sub(age),
    };
    let found = builder.usage().await?.into_iter().filter(|usage| usage.used_ns <= before && filters.pass(usage));
    Ok(DiskUsageResponse { record: found.map(usage_record).collect() })
}

fn usage_record(usage: Usage) -> UsageRecord {
    let time = |ns: i64| {
        Some(prost_types::Timestamp {
            seconds: ns.div_euclid(1_000_000_000),
            nanos: i32::try_from(ns.rem_euclid(1_000_000_000)).unwrap_or(0),
        })
    };
    UsageRecord {
        id: usage.id,
        mutable: usage.mutable,
        in_use: usage.in_use,
        size: i64::try_from(usage.size).unwrap_or(i64::MAX),
        created_at: time(usage.created_ns),
        last_used_at: time(usage.used_ns),
        usage_count: i64::try_from(usage.uses).unwrap_or(i64::MAX),
        description: usage.description,
        record_type: usage.kind,
        shared: usage.shared,
        parents: usage.parents,
        ..UsageRecord::default()
    }
}

async fn prune(builder: Arc<Builder>, request: Request<PruneRequest>) -> Result<Messages<UsageRecord>> {
    let request = request.into_inner();
    let bytes = |number: i64, what: &str| {
        u64::try_from(number).map_err(|_| Error::new(Kind::Invalid, format!("{what} {number} is less than nothing")))
    };
    let policy = Policy {
        all: request.all,
        filters: request.filter,
        keep_ns: bytes(request.keep_duration, "the age")?,
        limits: Limits {
            reserved: bytes(request.reserved_space, "the reserved space")?,
            max_used: bytes(request.max_used_space, "the most used space")?,
            min_free: bytes(request.min_free_space, "the least free space")?,
        },
    };
    let removed = builder.prune(&policy).await?;
    let told = removed.into_iter().map(|usage| Ok(usage_record(usage)));
    Ok(Box::pin(futures_util::stream::iter(told.collect::<Vec<_>>())))
}
