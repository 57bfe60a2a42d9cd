//! Volumes.

use docker_types::volume::{VolumeCopyBody, VolumeCreateBody};
use engine::VolumeCopy;
use futures_util::StreamExt;
use http::StatusCode;

use crate::body;
use crate::call::{Answer, Call, byte_stream, created, no_content, ok};
use crate::status::ApiError;

pub(crate) async fn list(call: Call) -> Answer {
    ok(&call.engine.volume_list(call.filters()?).await?)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: VolumeCreateBody = call.optional_json().await?.unwrap_or_default();
    created(&call.engine.volume_create(body).await?)
}

pub(crate) async fn inspect(call: Call, name: &str) -> Answer {
    ok(&call.engine.volume_inspect(name).await?)
}

pub(crate) async fn remove(call: Call, name: &str) -> Answer {
    call.engine.volume_remove(name, call.query.flag("force")).await?;
    no_content()
}

pub(crate) async fn prune(call: Call) -> Answer {
    let mut filters = call.filters()?;
    // Clients of earlier versions mean named volumes too.
    if !call.version.at_least(42) && !filters.contains("all") {
        filters.add("all", "true");
    }
    ok(&call.engine.volume_prune(filters).await?)
}

/// `GET /volumes/{name}/export`, which Docker has nothing like.
pub(crate) async fn export(call: Call, name: &str) -> Answer {
    Ok(body::stream(StatusCode::OK, "application/x-tar", call.engine.volume_export(name).await?))
}

/// `POST /volumes/{name}/import`, which Docker has nothing like.
pub(crate) async fn import(call: Call, name: &str) -> Answer {
    ok(&call.engine.volume_import(name, byte_stream(call.body).boxed()).await?)
}

/// `POST /volumes/{name}/clone`, which Docker has nothing like.
pub(crate) async fn clone(mut call: Call, name: &str) -> Answer {
    let wanted = wanted(&mut call).await?;
    created(&call.engine.volume_clone(name, wanted).await?)
}

/// `POST /volumes/{name}/snapshot`, which Docker has nothing like.
pub(crate) async fn snapshot(mut call: Call, name: &str) -> Answer {
    let wanted = wanted(&mut call).await?;
    created(&call.engine.volume_snapshot(name, wanted).await?)
}

/// `POST /volumes/{name}/rollback`, which Docker has nothing like.
pub(crate) async fn rollback(call: Call, name: &str) -> Answer {
    let to = call.query.text("to").ok_or_else(|| ApiError::invalid("to: the snapshot is not given"))?;
    ok(&call.engine.volume_rollback(name, to).await?)
}

async fn wanted(call: &mut Call) -> Result<VolumeCopy, ApiError> {
    let body: VolumeCopyBody = call.optional_json().await?.unwrap_or_default();
    Ok(VolumeCopy { name: body.name, labels: body.labels.unwrap_or_default() })
}
