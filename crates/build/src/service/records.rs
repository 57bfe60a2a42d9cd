//! Builds that were: `Control`'s history, and their files by `containerd.services.content.v1.Content`. Nothing else that the
//! daemon has is served there.

use std::sync::Arc;

use buildkit::server::{Messages, Methods};
use buildkit::wire::content::{Info, InfoRequest, InfoResponse, ReadContentRequest, ReadContentResponse};
use buildkit::wire::control::{
    BuildHistoryEvent, BuildHistoryRequest, UpdateBuildHistoryRequest, UpdateBuildHistoryResponse,
};
use tonic::Request;
use types::Kind;

use super::called;
use crate::builder::Builder;
use crate::error::{Error, Result};

/// Bytes of a file in one message.
const PIECE: usize = 1 << 20;

pub(super) fn methods(methods: Methods, builder: &Arc<Builder>) -> Methods {
    methods
        .server_streaming("/moby.buildkit.v1.Control/ListenBuildHistory", called(builder, listen))
        .unary("/moby.buildkit.v1.Control/UpdateBuildHistory", called(builder, update))
        .unary("/containerd.services.content.v1.Content/Info", called(builder, info))
        .server_streaming("/containerd.services.content.v1.Content/Read", called(builder, read))
}

async fn listen(builder: Arc<Builder>, request: Request<BuildHistoryRequest>) -> Result<Messages<BuildHistoryEvent>> {
    builder.history().listen(&request.into_inner())
}

async fn update(
    builder: Arc<Builder>,
    request: Request<UpdateBuildHistoryRequest>,
) -> Result<UpdateBuildHistoryResponse> {
    let request = request.into_inner();
    // A request to have everything written changes nothing else.
    let pinned = (!request.finalize && !request.delete).then_some(request.pinned);
    let host = &*builder.shared().host;
    builder.history().update(host, &request.r#ref, pinned, request.delete).await?;
    Ok(UpdateBuildHistoryResponse {})
}

async fn info(builder: Arc<Builder>, request: Request<InfoRequest>) -> Result<InfoResponse> {
    let digest = request.into_inner().digest;
    let size = builder.history().size(builder.shared().host.store(), &digest)?;
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    Ok(InfoResponse { info: Some(Info { digest, size, ..Info::default() }) })
}

async fn read(builder: Arc<Builder>, request: Request<ReadContentRequest>) -> Result<Messages<ReadContentResponse>> {
    let request = request.into_inner();
    let number = |number: i64| {
        u64::try_from(number).map_err(|_| Error::new(Kind::Invalid, format!("{number} is no place in a file")))
    };
    let (offset, size) = (number(request.offset)?, number(request.size)?);
    let reading = Arc::clone(&builder);
    let bytes = tokio::task::spawn_blocking(move || {
        let store = reading.shared().host.store();
        reading.history().read(store, &request.digest, offset, Some(size).filter(|size| *size > 0))
    });
    let bytes = bytes.await.map_err(|e| Error::io("reading was interrupted", e))??;
    let pieces: Vec<_> = bytes.chunks(PIECE).map(<[u8]>::to_vec).collect();
    let mut at = request.offset;
    let told = pieces.into_iter().map(move |data| {
        let offset = at;
        at += i64::try_from(data.len()).unwrap_or(0);
        Ok(ReadContentResponse { offset, data })
    });
    Ok(Box::pin(futures_util::stream::iter(told)))
}
