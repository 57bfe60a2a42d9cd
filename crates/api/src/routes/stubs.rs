//! Endpoints this engine answers by name without doing anything: no swarm, no plugins
//! of before BuildKit. Clients cope with each of these answers; a 404 would make them guess.

use http::StatusCode;

use crate::call::{Answer, ok};
use crate::status::ApiError;

const NOT_A_MANAGER: &str = "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again.";

/// Everything that needs a swarm, in Docker's words.
pub(crate) fn swarm() -> Answer {
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NOT_A_MANAGER))
}

/// `swarm init` and `join` are the way out the text above names, so they say that there is none.
pub(crate) fn swarm_start() -> Answer {
    Err(ApiError::unsupported("swarm mode is not supported: dhow runs containers on one node"))
}

/// `GET /plugins`.
pub(crate) fn no_plugins() -> Answer {
    ok::<[(); 0]>(&[])
}

pub(crate) fn no_such_plugin(name: &str) -> Answer {
    Err(ApiError::of(
        types::Kind::NotFound,
        format!("plugin {:?} not found", name.chars().take(128).collect::<String>()),
    ))
}

pub(crate) fn plugins() -> Answer {
    Err(ApiError::unsupported("managed plugins are not supported"))
}

pub(crate) fn attach_websocket() -> Answer {
    Err(ApiError::unsupported("attaching over a websocket is not supported: use POST /containers/{id}/attach"))
}

pub(crate) fn checkpoints() -> Answer {
    Err(ApiError::unsupported("checkpoints are not supported"))
}

pub(crate) fn search() -> Answer {
    Err(ApiError::unsupported("searching registries is not supported: look the image up on its registry's web page"))
}

pub(crate) fn attestations() -> Answer {
    Err(ApiError::unsupported("attestations are not supported yet"))
}
