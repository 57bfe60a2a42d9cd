//! BuildKit's services on a client's connection: what it asks of the daemon (`control`), and what its front end asks of the
//! solver (`bridge`). A method that is not in the table is answered with `UNIMPLEMENTED`, which clients cope with.

mod bridge;
mod control;
mod records;

use std::future::Future;
use std::sync::Arc;

use buildkit::server::Methods;
use buildkit::wire::health;
use tonic::{Request, Response, Status};

use crate::builder::Builder;
use crate::error::Result;

pub(crate) use bridge::FrontEnd;
use bridge::Scope;
pub(crate) use control::carry;

/// All methods.
#[must_use]
pub fn methods(builder: &Arc<Builder>) -> Methods {
    let methods = records::methods(control::methods(Methods::default(), builder), builder);
    health(bridge::methods(methods, &Arc::new(Scope::Client(Arc::clone(builder)))))
}

/// What a front end in a container asks.
pub(crate) fn methods_of_front_end(front_end: FrontEnd) -> Methods {
    health(bridge::methods(Methods::default(), &Arc::new(Scope::FrontEnd(front_end))))
}

fn health(methods: Methods) -> Methods {
    methods.unary("/grpc.health.v1.Health/Check", |_: Request<health::HealthCheckRequest>| async {
        let serving = health::HealthCheckResponseServingStatus::Serving as i32;
        Ok(Response::new(health::HealthCheckResponse { status: serving }))
    })
}

/// A method on some state: our own errors become statuses.
fn called<S, Q, A, F, R>(state: &Arc<S>, method: F) -> impl Fn(Request<Q>) -> Answer<A> + Clone + Send + Sync + 'static
where
    S: Send + Sync + 'static,
    Q: Send + 'static,
    A: Send + 'static,
    F: Fn(Arc<S>, Request<Q>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Result<A>> + Send + 'static,
{
    let state = Arc::clone(state);
    move |request| {
        let answer = method(Arc::clone(&state), request);
        Box::pin(async move { answer.await.map(Response::new).map_err(|error| error.to_status()) })
    }
}

type Answer<A> = std::pin::Pin<Box<dyn Future<Output = std::result::Result<Response<A>, Status>> + Send>>;
