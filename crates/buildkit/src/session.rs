//! What a client offers while it builds: files, credentials, secrets. It opens a connection (`POST /session`) and serves gRPC
//! on it; the daemon is the one that calls.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::TryStreamExt;
use http::Uri;
use http::uri::PathAndQuery;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{IntoStreamingRequest, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_service::Service;

use crate::server::{MAX_MESSAGE, Messages};

/// How often a client is asked whether it is there.
const ALIVE: Duration = Duration::from_secs(10);
/// How long it has to answer. A laptop under load takes a while, and may stop to think.
const ANSWER: Duration = Duration::from_secs(30);

/// A client's connection. Copies share it.
#[derive(Clone, Debug)]
pub struct Session {
    connection: Connection,
}

impl Session {
    /// Begins to call the client at the other end. The future ends with the connection, and has to be driven.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn open<I>(io: I) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        // A client that is stopped, or whose machine has gone, is not waited for.
        builder.timer(TokioTimer::new()).keep_alive_interval(ALIVE).keep_alive_timeout(ANSWER);
        builder.keep_alive_while_idle(true);
        let (requests, driven) = builder.handshake(TokioIo::new(io)).await?;
        Ok((Self { connection: Connection(requests) }, driven))
    }

    /// Asks one question.
    ///
    /// # Errors
    /// What the client answered, or `UNAVAILABLE` once it has left.
    pub async fn call<Q, A>(&self, method: &'static str, request: Request<Q>) -> Result<Response<A>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        grpc.unary(request, PathAndQuery::from_static(method), ProstCodec::<Q, A>::default()).await.map_err(told)
    }

    /// Exchanges messages.
    ///
    /// # Errors
    /// As [`Session::call`].
    pub async fn stream<Q, A>(
        &self,
        method: &'static str,
        messages: impl IntoStreamingRequest<Message = Q>,
    ) -> Result<Response<Messages<A>>, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.grpc().await?;
        let (messages, path) = (messages.into_streaming_request(), PathAndQuery::from_static(method));
        let answer = grpc.streaming(messages, path, ProstCodec::<Q, A>::default()).await.map_err(told)?;
        Ok(answer.map(|messages| -> Messages<A> { Box::pin(messages.map_err(told)) }))
    }

    async fn grpc(&self) -> Result<Grpc<Connection>, Status> {
        // HTTP/2 wants a name for the other end, and nobody looks at it.
        let origin = Uri::from_static("http://localhost");
        let mut grpc = Grpc::with_origin(self.connection.clone(), origin).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| left(&error))?;
        Ok(grpc)
    }
}

/// What a client answered; or that it has left, of which tonic knows nothing where the connection is not its own.
fn told(status: Status) -> Status {
    let mut cause = std::error::Error::source(&status);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return left(error);
        }
        cause = error.source();
    }
    status
}

fn left(error: &hyper::Error) -> Status {
    Status::unavailable(format!("the client has left: {error}"))
}

/// HTTP/2 as tonic wants it.
#[derive(Clone, Debug)]
struct Connection(SendRequest<Body>);

impl Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
