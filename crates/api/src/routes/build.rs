//! BuildKit's protocol over upgraded connections: `POST /grpc` for what a client asks, `POST /session` for what it answers.
//!
//! Both ask for HTTP/2 without TLS (`Upgrade: h2c`) and get the bare connection after a `101`.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use build::kept::{Limits, Policy};
use build::session::Greeting;
use docker_types::build::BuildPruneReport;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use hyper_util::rt::TokioIo;

use crate::body::{self, Response};
use crate::call::{Answer, Call, ok};
use crate::connection::{Connection, Held};
use crate::early::Early;
use crate::status::ApiError;

/// Most methods that a session may offer.
const MAX_METHODS: usize = 1000;
/// Most directories that a session may share.
const MAX_DIRECTORIES: usize = 64;
/// Longest wait for the descriptors of directories that a client said it has.
const DIRECTORIES: Duration = Duration::from_secs(5);
/// Names a directory that the client would share, once for each; in the answer, that they are taken.
const DIRECTORY: &str = "x-dhow-directory";

pub(crate) async fn grpc(call: Call) -> Answer {
    let builder = Arc::clone(call.engine.builder()?);
    upgraded(call, None, move |io| async move {
        if let Err(error) = builder.serve(io).await {
            tracing::debug!(%error, "a builder's client left");
        }
    })
}

pub(crate) async fn session(call: Call) -> Answer {
    let builder = Arc::clone(call.engine.builder()?);
    let mut greeting = greeting(&call.headers)?;
    let names = directories(&call);
    let shared = (!names.is_empty()).then(|| HeaderValue::from_static("accepted"));
    upgraded(call, shared, move |mut io| async move {
        if !names.is_empty() {
            match receive(&mut io, names).await {
                Ok(directories) => greeting.directories = directories,
                Err(error) => {
                    return tracing::debug!(%error, "a client did not share the directories that it said it would");
                }
            }
        }
        if let Err(error) = builder.serve_session(io, greeting).await {
            tracing::debug!(%error, "a builder's session ended");
        }
    })
}

/// Names of directories that the client would share and that are taken: from the user that this process is alone. What is
/// below a directory is read with the rights of this process, which may be more than another client has.
fn directories(call: &Call) -> Vec<String> {
    let names = call.headers.get_all(DIRECTORY).iter().filter_map(|value| value.to_str().ok().map(str::to_owned));
    let names: Vec<String> = names.take(MAX_DIRECTORIES).collect();
    let own = rustix::process::geteuid().as_raw();
    if names.is_empty() || call.held.peer_uid() != Some(own) { Vec::new() } else { names }
}

/// The descriptors of the directories, in the order of the names.
async fn receive(io: &mut Early, names: Vec<String>) -> std::io::Result<HashMap<String, Arc<OwnedFd>>> {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
    let received = tokio::time::timeout(DIRECTORIES, io.receive_descriptors()).await;
    let descriptors = received.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    let refuse = |why: &str| Err(std::io::Error::other(why.to_owned()));
    if descriptors.len() != names.len() {
        return refuse("not one descriptor for each name");
    }
    for descriptor in &descriptors {
        // One that was opened for reading: that its holder may read the directory was found out then.
        let readable = !fcntl_getfl(descriptor)?.contains(OFlags::PATH);
        if !readable || FileType::from_raw_mode(fstat(descriptor)?.st_mode) != FileType::Directory {
            return refuse("a descriptor of what is no directory open for reading");
        }
    }
    Ok(names.into_iter().zip(descriptors.into_iter().map(Arc::new)).collect())
}

/// `POST /build/prune`.
pub(crate) async fn prune(call: Call) -> Answer {
    let filters = call.filters()?;
    let filters = filters.iter().map(|(key, values)| (key, values.iter().map(String::as_str).collect()));
    let mut policy = Policy::of_docker(filters).map_err(engine::Error::from)?;
    let bytes = |name: &str| match call.query.integer(name)? {
        None => Ok(0),
        Some(number) => u64::try_from(number)
            .map_err(|_| ApiError::invalid(format!("invalid {name} {number}: it is a number of bytes"))),
    };
    policy.all = call.query.flag("all");
    policy.limits = Limits {
        // The name from before API 1.48.
        reserved: match bytes("reserved-space")? {
            0 => bytes("keep-storage")?,
            bytes => bytes,
        },
        max_used: bytes("max-used-space")?,
        min_free: bytes("min-free-space")?,
    };
    let removed = call.engine.builder()?.prune(&policy).await.map_err(engine::Error::from)?;
    ok(&BuildPruneReport {
        caches_deleted: Some(removed.iter().map(|usage| usage.id.clone()).collect()),
        space_reclaimed: removed.iter().map(|usage| usage.size).sum(),
    })
}

/// What the headers say of a session.
fn greeting(headers: &HeaderMap) -> Result<Greeting, ApiError> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let methods: HashSet<String> = headers
        .get_all("x-docker-expose-session-grpc-method")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .map(str::to_owned)
        .take(MAX_METHODS)
        .collect();
    let greeting = Greeting {
        id: text("x-docker-expose-session-uuid"),
        name: text("x-docker-expose-session-name"),
        shared_key: text("x-docker-expose-session-sharedkey"),
        methods,
        ..Greeting::default()
    };
    if greeting.id.is_empty() {
        return Err(ApiError::invalid("a session needs an id in the header X-Docker-Expose-Session-Uuid"));
    }
    Ok(greeting)
}

/// Answers with the bare connection, which `serve` then has.
fn upgraded<F, S>(call: Call, shared: Option<HeaderValue>, serve: S) -> Answer
where
    S: FnOnce(Early) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Some(upgrade) = call.upgrade else {
        return Err(ApiError::invalid("this endpoint needs the headers Connection: Upgrade and Upgrade: h2c"));
    };
    let held: Held = call.held;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => {
                let early = upgraded.downcast::<TokioIo<Connection>>().map(|parts| parts.read_buf);
                if let (Ok(early), Some(socket)) = (early, held.take_socket()) {
                    serve(Early::new(early, socket)).await;
                }
            }
            Err(error) => tracing::debug!(%error, "a client left before its connection was upgraded"),
        }
        // The connection counts as busy until here.
        drop(held);
    });
    let mut response = switching();
    if let Some(shared) = shared {
        response.headers_mut().insert(DIRECTORY, shared);
    }
    Ok(response)
}

fn switching() -> Response {
    let mut response = body::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    response
}
