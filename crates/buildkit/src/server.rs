//! gRPC on connections that were upgraded from HTTP/1.1: a table of methods, and HTTP/2 under it.
//!
//! A method is a path and a function; there is no code made from descriptions. What a service does not have is answered
//! with `UNIMPLEMENTED`, by which clients find out what they talk to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::Stream;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Largest message either side may send, in bytes: a definition of a large build with its sources is one.
pub const MAX_MESSAGE: usize = 16 << 20;

type Answer = Pin<Box<dyn Future<Output = http::Response<Body>> + Send>>;
type Method = Box<dyn Fn(http::Request<Incoming>) -> Answer + Send + Sync>;

/// Messages a method sends one after the other.
pub type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// Methods by their paths, `/package.Service/Method`.
#[derive(Default)]
pub struct Methods {
    by_path: HashMap<&'static str, Method>,
}

impl std::fmt::Debug for Methods {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.by_path.keys()).finish()
    }
}

impl Methods {
    /// Adds a method with one question and one answer.
    #[must_use]
    pub fn unary<Q, A, F, R>(mut self, path: &'static str, method: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Fn(Request<Q>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Response<A>, Status>> + Send + 'static,
    {
        let answer = move |request| -> Answer {
            let method = Called(method.clone());
            Box::pin(async move { grpc::<A, Q>().unary(method, request).await })
        };
        self.by_path.insert(path, Box::new(answer));
        self
    }

    /// Adds a method that answers one question with many messages.
    #[must_use]
    pub fn server_streaming<Q, A, F, R>(mut self, path: &'static str, method: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Fn(Request<Q>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Response<Messages<A>>, Status>> + Send + 'static,
    {
        let answer = move |request| -> Answer {
            let method = Called(method.clone());
            Box::pin(async move { grpc::<A, Q>().server_streaming(method, request).await })
        };
        self.by_path.insert(path, Box::new(answer));
        self
    }

    /// Adds a method whose messages go both ways.
    #[must_use]
    pub fn streaming<Q, A, F, R>(mut self, path: &'static str, method: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
        F: Fn(Request<Streaming<Q>>) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<Response<Messages<A>>, Status>> + Send + 'static,
    {
        let answer = move |request| -> Answer {
            let method = Called(method.clone());
            Box::pin(async move { grpc::<A, Q>().streaming(method, request).await })
        };
        self.by_path.insert(path, Box::new(answer));
        self
    }

    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<Body> {
        match self.by_path.get(request.uri().path()) {
            Some(method) => method(request).await,
            None => {
                let text = format!("unknown method {}", request.uri().path().chars().take(200).collect::<String>());
                Status::new(Code::Unimplemented, text).into_http()
            }
        }
    }
}

fn grpc<A, Q>() -> Grpc<ProstCodec<A, Q>>
where
    A: Message + 'static,
    Q: Message + Default + 'static,
{
    Grpc::new(ProstCodec::default()).max_decoding_message_size(MAX_MESSAGE)
}

/// Serves a connection until the client leaves.
///
/// # Errors
/// The connection broke, or what came was no HTTP/2.
pub async fn serve<I>(io: I, methods: Arc<Methods>) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let methods = Arc::clone(&methods);
        async move { Ok::<_, Infallible>(methods.answer(request).await) }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await
}

/// A function as tonic wants a method.
struct Called<F>(F);

impl<F, Q, A, R> Service<Request<Q>> for Called<F>
where
    F: Fn(Request<Q>) -> R,
    R: Future<Output = Result<Response<A>, Status>>,
{
    type Response = Response<A>;
    type Error = Status;
    type Future = R;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Q>) -> R {
        (self.0)(request)
    }
}
