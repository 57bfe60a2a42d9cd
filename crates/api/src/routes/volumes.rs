//! Volumes.

use docker_types::volume::VolumeCreateBody;

use crate::call::{Answer, Call, created, no_content, ok};

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
    ok(&call.engine.volume_prune(call.filters()?).await?)
}
