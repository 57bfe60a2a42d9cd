//! The API as a [`Handler`]: gate, router, and the headers every answer carries.

use std::sync::Arc;

use engine::Engine;
use http::header::{HeaderName, HeaderValue, SERVER};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{self, Response};
use crate::call::Call;
use crate::connection::Held;
use crate::gate::{self, HostNames, Transport};
use crate::serve::Handler;
use crate::status::ApiError;
use crate::{hijack, router, version};

/// Docker's Engine API in front of an engine.
pub struct Api {
    engine: Engine,
    names: Arc<HostNames>,
}

impl Api {
    /// An API for the engine; `names` are those TCP clients may use in `Host`.
    #[must_use]
    pub fn new(engine: Engine, names: HostNames) -> Api {
        Api { engine, names: Arc::new(names) }
    }

    /// The engine behind.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    async fn answer(&self, request: Request<Incoming>, transport: Transport) -> Result<Response, ApiError> {
        let (mut parts, body) = request.into_parts();
        let admitted = gate::admit(&parts, transport, &self.names)?;
        if parts.method == Method::OPTIONS {
            return Ok(body::empty(StatusCode::OK));
        }
        let upgrade = hijack::wants_upgrade(&parts.headers).then(|| parts.extensions.remove()).flatten();
        let Some(held) = parts.extensions.remove::<Held>() else {
            return Err(ApiError::of(types::Kind::Internal, "internal error: a request outside of any connection"));
        };
        let call = Call {
            engine: self.engine.clone(),
            method: parts.method,
            version: admitted.version,
            query: admitted.query,
            headers: parts.headers,
            body,
            upgrade,
            held,
        };
        // A task of its own: a client that leaves must not stop an operation between two steps,
        // and a panic is this request's failure alone.
        let task = tokio::spawn(async move {
            let segments: Vec<&str> = admitted.segments.iter().map(String::as_str).collect();
            router::route(call, &segments).await
        });
        task.await.unwrap_or_else(|e| {
            tracing::error!("a request failed unexpectedly: {e}");
            Err(ApiError::of(
                types::Kind::Internal,
                "internal error: the request failed unexpectedly; see the daemon's log",
            ))
        })
    }
}

impl Handler for Api {
    async fn handle(&self, request: Request<Incoming>, transport: Transport) -> Response {
        let named =
            tracing::enabled!(tracing::Level::DEBUG).then(|| format!("{} {}", request.method(), request.uri().path()));
        let mut response = self.answer(request, transport).await.unwrap_or_else(ApiError::into_response);
        if let Some(named) = named {
            // The path alone: queries may hold what users would not want logged.
            tracing::debug!("{named}: {}", response.status());
        }
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("api-version"), HeaderValue::from_static(version::MAXIMUM_TEXT));
        headers.insert(HeaderName::from_static("docker-experimental"), HeaderValue::from_static("false"));
        headers.insert(HeaderName::from_static("ostype"), HeaderValue::from_static("linux"));
        headers.insert(SERVER, HeaderValue::from_static(concat!("dhow/", env!("CARGO_PKG_VERSION"), " (linux)")));
        response
    }

    async fn http2<I>(&self, connection: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Of what is served here only BuildKit's protocol comes over HTTP/2.
        match self.engine.builder() {
            Ok(builder) => {
                if let Err(error) = builder.serve(connection).await {
                    tracing::debug!(%error, "a builder's client left");
                }
            }
            Err(error) => tracing::debug!(%error, "a builder's client came too early"),
        }
    }
}
