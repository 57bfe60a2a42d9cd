//! BuildKit's protocol over upgraded connections: `POST /grpc` for what a client asks, `POST /session` for what it answers.
//!
//! Both ask for HTTP/2 without TLS (`Upgrade: h2c`) and get the bare connection after a `101`.

use std::collections::HashSet;

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

pub(crate) async fn grpc(call: Call) -> Answer {
    let builder = std::sync::Arc::clone(call.engine.builder()?);
    upgraded(call, move |io| async move {
        if let Err(error) = builder.serve(io).await {
            tracing::debug!(%error, "a builder's client left");
        }
    })
}

pub(crate) async fn session(call: Call) -> Answer {
    let builder = std::sync::Arc::clone(call.engine.builder()?);
    let greeting = greeting(&call.headers)?;
    upgraded(call, move |io| async move {
        if let Err(error) = builder.serve_session(io, greeting).await {
            tracing::debug!(%error, "a builder's session ended");
        }
    })
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
    };
    if greeting.id.is_empty() {
        return Err(ApiError::invalid("a session needs an id in the header X-Docker-Expose-Session-Uuid"));
    }
    Ok(greeting)
}

/// Answers with the bare connection, which `serve` then has.
fn upgraded<F, S>(call: Call, serve: S) -> Answer
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
    Ok(switching())
}

fn switching() -> Response {
    let mut response = body::empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("h2c"));
    response
}
