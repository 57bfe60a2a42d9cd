//! Both ends of a connection: what one serves, the other calls.

use std::sync::Arc;

use buildkit::server::{Messages, Methods, serve};
use buildkit::session::Session;
use buildkit::wire::control::{
    BytesMessage, InfoRequest, InfoResponse, ListWorkersRequest, ListWorkersResponse, StatusRequest, StatusResponse,
};
use buildkit::wire::worker::{BuildkitVersion, WorkerRecord};
use futures_util::{StreamExt, stream};
use tokio::net::UnixStream;
use tonic::{Code, Request, Response, Streaming};

fn methods() -> Methods {
    Methods::default()
        .unary("/moby.buildkit.v1.Control/ListWorkers", |request: Request<ListWorkersRequest>| async move {
            let record = request.into_inner().filter.into_iter();
            let record = record.map(|id| WorkerRecord { id, ..WorkerRecord::default() }).collect();
            Ok(Response::new(ListWorkersResponse { record }))
        })
        .unary("/moby.buildkit.v1.Control/Info", |_: Request<InfoRequest>| async move {
            let version = BuildkitVersion { version: "v1".into(), ..BuildkitVersion::default() };
            Ok(Response::new(InfoResponse { buildkit_version: Some(version) }))
        })
        .server_streaming("/moby.buildkit.v1.Control/Status", |_: Request<StatusRequest>| async move {
            let messages: Messages<StatusResponse> = Box::pin(stream::iter([Ok(StatusResponse::default())]));
            Ok(Response::new(messages))
        })
        .streaming("/moby.buildkit.v1.Control/Session", |request: Request<Streaming<BytesMessage>>| async move {
            let messages: Messages<BytesMessage> = Box::pin(request.into_inner());
            Ok(Response::new(messages))
        })
}

#[tokio::test]
async fn one_end_calls_what_the_other_serves() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = tokio::spawn(serve(theirs, Arc::new(methods())));
    let (session, driven) = Session::open(ours).await.unwrap();
    let driven = tokio::spawn(driven);

    let question = ListWorkersRequest { filter: vec!["one".into(), "two".into()] };
    let answer: Response<ListWorkersResponse> =
        session.call("/moby.buildkit.v1.Control/ListWorkers", Request::new(question)).await.unwrap();
    let ids: Vec<String> = answer.into_inner().record.into_iter().map(|record| record.id).collect();
    assert_eq!(ids, ["one", "two"]);

    let sent = stream::iter((0..100u8).map(|n| BytesMessage { data: vec![n; 40_000] }));
    let back: Response<Messages<BytesMessage>> =
        session.stream("/moby.buildkit.v1.Control/Session", Request::new(sent)).await.unwrap();
    let back: Vec<_> = back.into_inner().map(|message| message.unwrap().data).collect().await;
    assert!(back.iter().enumerate().all(|(n, data)| data.len() == 40_000 && usize::from(data[0]) == n));
    assert_eq!(back.len(), 100);

    let unknown: Result<Response<InfoResponse>, _> =
        session.call("/moby.buildkit.v1.Control/Nothing", Request::new(InfoRequest {})).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);

    drop(session);
    driven.await.unwrap().unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_has_left_is_not_called() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let served = tokio::spawn(serve(theirs, Arc::new(methods())));
    let (session, driven) = Session::open(ours).await.unwrap();
    let driven = tokio::spawn(driven);
    served.abort();
    let _ = driven.await.unwrap();
    let gone: Result<Response<InfoResponse>, _> =
        session.call("/moby.buildkit.v1.Control/Info", Request::new(InfoRequest {})).await;
    assert_eq!(gone.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn who_leaves_in_the_middle_of_an_answer_is_unavailable() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let methods = methods().unary("/test/Never", |_: Request<InfoRequest>| async move {
        std::future::pending::<Result<Response<InfoResponse>, tonic::Status>>().await
    });
    let served = tokio::spawn(serve(theirs, Arc::new(methods)));
    let (session, driven) = Session::open(ours).await.unwrap();
    tokio::spawn(driven);

    let sent = stream::iter([BytesMessage { data: vec![1] }]).chain(stream::pending());
    let mut back: Messages<BytesMessage> =
        session.stream("/moby.buildkit.v1.Control/Session", Request::new(sent)).await.unwrap().into_inner();
    assert_eq!(back.next().await.unwrap().unwrap().data, [1]);
    let call = tokio::spawn({
        let session = session.clone();
        async move { session.call::<_, InfoResponse>("/test/Never", Request::new(InfoRequest {})).await }
    });
    tokio::task::yield_now().await;
    served.abort();
    assert_eq!(call.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!(back.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
}
