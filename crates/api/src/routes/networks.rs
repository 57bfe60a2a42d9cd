//! Networks.

use docker_types::network::{NetworkConnectBody, NetworkCreateBody, NetworkDisconnectBody};
use http::StatusCode;

use crate::body;
use crate::call::{Answer, Call, created, no_content, ok};

pub(crate) async fn list(call: Call) -> Answer {
    let found = call.engine.network_list(call.filters()?).await?;
    call.versioned(&found)
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    let found = call.engine.network_inspect(id).await?;
    call.versioned(&found)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: NetworkCreateBody = call.json().await?;
    created(&call.engine.network_create(body).await?)
}

pub(crate) async fn connect(mut call: Call, id: &str) -> Answer {
    let body: NetworkConnectBody = call.json().await?;
    call.engine.network_connect(id, body).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn disconnect(mut call: Call, id: &str) -> Answer {
    let body: NetworkDisconnectBody = call.json().await?;
    call.engine.network_disconnect(id, body).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn remove(call: Call, id: &str) -> Answer {
    call.engine.network_remove(id).await?;
    no_content()
}

pub(crate) async fn prune(call: Call) -> Answer {
    ok(&call.engine.network_prune(call.filters()?).await?)
}
