//! `POST /commit`: a container's changes as an image.

use docker_types::IdResponse;
use docker_types::container::ContainerConfig;
use engine::CommitOptions;

use crate::call::{Answer, Call, created};
use crate::query::quoted;
use crate::status::ApiError;

pub(crate) async fn commit(mut call: Call) -> Answer {
    let config: Option<ContainerConfig> = call.optional_json().await?;
    let query = &call.query;
    let container = query
        .string("container")
        .ok_or_else(|| ApiError::invalid(format!("invalid name or ID supplied: {}", quoted(""))))?;
    let options = CommitOptions {
        container,
        repo: query.string("repo"),
        tag: query.string("tag"),
        comment: query.string("comment"),
        author: query.string("author"),
        pause: query.flag_or("pause", true),
        changes: call.changes(),
        config,
    };
    created(&IdResponse { id: call.engine.container_commit(options).await? })
}
