//! Containers: life cycle, listing, streams, files.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use docker_types::Versioned;
use docker_types::container::{ContainerCreateBody, ContainerStats, ContainerUpdateBody, PathStat};
use engine::{ArchivePutOptions, AttachOptions, ListOptions, LogOptions, RemoveOptions, StopOptions, WaitCondition};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use http::{HeaderValue, StatusCode};

use crate::body::{self, Separator};
use crate::call::{Answer, Call, byte_stream, created, no_content, ok};
use crate::detach::{DetachKeys, Detector};
use crate::hijack::{self, MULTIPLEXED_STREAM, RAW_STREAM};
use crate::query::quoted;
use crate::status::ApiError;

/// The content type of a container's output: framed output was given a name of its own in 1.42.
pub(super) fn stream_type(tty: bool, version: docker_types::ApiVersion) -> &'static str {
    if !tty && version.at_least(42) { MULTIPLEXED_STREAM } else { RAW_STREAM }
}

/// Failures of a stream that is already running can only break it off.
fn broken(e: engine::Error) -> io::Error {
    io::Error::other(e)
}

pub(crate) async fn list(call: Call) -> Answer {
    let limit = call.query.integer("limit")?.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let options = ListOptions {
        // A number of containers means the newest ones, running or not.
        all: call.query.flag("all") || limit.is_some(),
        limit,
        size: call.query.flag("size"),
        filters: call.filters()?,
    };
    let found = call.engine.container_list(options).await?;
    call.versioned(&found)
}

pub(crate) async fn create(mut call: Call) -> Answer {
    let body: Option<ContainerCreateBody> = call.json().await?;
    let body = body.ok_or_else(|| ApiError::invalid("config cannot be empty in order to create a container"))?;
    let platform = call.platform()?;
    created(&call.engine.container_create(call.query.string("name"), platform, body).await?)
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    let found = call.engine.container_inspect(id, call.query.flag("size")).await?;
    call.versioned(&found)
}

pub(crate) async fn top(call: Call, id: &str) -> Answer {
    ok(&call.engine.container_top(id, call.query.text("ps_args").unwrap_or("-ef")).await?)
}

pub(crate) async fn logs(call: Call, id: &str) -> Answer {
    let query = &call.query;
    let (stdout, stderr) = (query.flag("stdout"), query.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::invalid("Bad parameters: you must choose at least one stream"));
    }
    let options = LogOptions {
        follow: query.flag("follow"),
        stdout,
        stderr,
        // 0 is what clients send for "not given".
        since: query.time("since")?.filter(|&t| t != 0),
        until: query.time("until")?.filter(|&t| t != 0),
        timestamps: query.flag("timestamps"),
        // Anything but a number means everything, as in dockerd.
        tail: query.text("tail").and_then(|t| t.parse().ok()),
        details: query.flag("details"),
    };
    let logs = call.engine.container_logs(id, options).await?;
    let frames = logs.stream.map(|item| item.map_err(broken));
    Ok(body::stream(StatusCode::OK, stream_type(logs.tty, call.version), frames))
}

pub(crate) async fn changes(call: Call, id: &str) -> Answer {
    let changes = call.engine.container_changes(id).await?;
    // No change is `null`, as dockerd's nil slice.
    ok(&Some(changes).filter(|c| !c.is_empty()))
}

pub(crate) async fn export(call: Call, id: &str) -> Answer {
    let bytes = call.engine.container_export(id).await?;
    Ok(body::stream(StatusCode::OK, "application/octet-stream", bytes))
}

pub(crate) async fn stats(call: Call, id: &str) -> Answer {
    let stream = call.query.flag_or("stream", true);
    let one_shot = call.query.flag("one-shot");
    if stream && one_shot {
        return Err(ApiError::invalid("cannot have stream=true and one-shot=true"));
    }
    let version = call.version;
    let mut samples = call.engine.container_stats(id, stream, one_shot)?;
    if !stream {
        let sample = samples
            .next()
            .await
            .ok_or_else(|| ApiError::of(types::Kind::Internal, "no statistics could be read"))??;
        return call.versioned(&sample);
    }
    let frames = samples.map(move |sample: Result<ContainerStats, engine::Error>| {
        let mut json = sample.map_err(broken)?.at_version(version)?;
        json.push(b'\n');
        Ok(json.into())
    });
    Ok(body::stream(StatusCode::OK, "application/json", frames))
}

pub(crate) async fn start(mut call: Call, id: &str) -> Answer {
    // Old clients sent the host's part with the start; nobody may believe it is applied.
    if call.has_body() {
        let body: Option<serde_json::Value> = call.optional_json().await?;
        let empty = body.is_none_or(|b| b.is_null() || b.as_object().is_some_and(serde_json::Map::is_empty));
        if !empty {
            return Err(ApiError::invalid(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
            ));
        }
    }
    if call.query.text("checkpoint").is_some() {
        return super::stubs::checkpoints();
    }
    let detach_keys = call.query.string("detachKeys");
    DetachKeys::parse(detach_keys.as_deref())?;
    call.engine.container_start(id, detach_keys).await?;
    no_content()
}

fn stop_options(call: &Call) -> Result<StopOptions, ApiError> {
    Ok(StopOptions { signal: call.query.string("signal"), timeout: call.query.integer("t")? })
}

pub(crate) async fn stop(call: Call, id: &str) -> Answer {
    call.engine.container_stop(id, stop_options(&call)?).await?;
    no_content()
}

pub(crate) async fn restart(call: Call, id: &str) -> Answer {
    call.engine.container_restart(id, stop_options(&call)?).await?;
    no_content()
}

pub(crate) async fn kill(call: Call, id: &str) -> Answer {
    call.engine.container_kill(id, call.query.string("signal")).await?;
    no_content()
}

pub(crate) async fn pause(call: Call, id: &str) -> Answer {
    call.engine.container_pause(id).await?;
    no_content()
}

pub(crate) async fn unpause(call: Call, id: &str) -> Answer {
    call.engine.container_unpause(id).await?;
    no_content()
}

pub(crate) async fn rename(call: Call, id: &str) -> Answer {
    let name = call.query.text("name").ok_or_else(|| ApiError::invalid("Neither old nor new names may be empty"))?;
    call.engine.container_rename(id, name).await?;
    no_content()
}

pub(crate) async fn resize(call: Call, id: &str) -> Answer {
    let (height, width) = (call.query.cells("h", "height")?, call.query.cells("w", "width")?);
    call.engine.container_resize(id, height, width).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn update(mut call: Call, id: &str) -> Answer {
    let body: ContainerUpdateBody = call.json().await?;
    ok(&call.engine.container_update(id, body).await?)
}

/// The head is sent at once, the body at the exit: `docker run` does not start the container before
/// it has seen the head.
pub(crate) async fn wait(call: Call, id: &str) -> Answer {
    let condition = match call.query.get("condition").unwrap_or_default() {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(ApiError::invalid(format!("invalid condition: {}", quoted(other)))),
    };
    let exit = call.engine.container_wait(id, condition)?;
    let frames = stream::once(exit.map(|exit| body::message(&exit.map_err(broken)?, Separator::Newline)));
    Ok(body::stream(StatusCode::OK, "application/json", frames))
}

pub(crate) async fn attach(call: Call, id: &str) -> Answer {
    let query = &call.query;
    let detach_keys = query.string("detachKeys");
    let keys = DetachKeys::parse(detach_keys.as_deref())?;
    let options = AttachOptions {
        stdin: query.flag("stdin"),
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        stream: query.flag("stream"),
        logs: query.flag("logs"),
        detach_keys,
    };
    let stdin = options.stdin;
    let attached = call.engine.container_attach(id, options).await?;
    let content_type = if call.upgrade.is_some() { stream_type(attached.tty, call.version) } else { RAW_STREAM };
    // Only a terminal has keys; the bytes of a pipe are data.
    let detector = (attached.tty && stdin).then(|| Detector::new(keys));
    Ok(hijack::carry(call.into_carrier(), attached.stream, content_type, detector).await)
}

pub(crate) async fn remove(call: Call, id: &str) -> Answer {
    let query = &call.query;
    let options = RemoveOptions { force: query.flag("force"), volumes: query.flag("v"), link: query.flag("link") };
    call.engine.container_remove(id, options).await?;
    no_content()
}

/// A name of two parts is a legacy link's; a container never has one.
pub(crate) async fn unlink(call: Call, id: &str, alias: &str) -> Answer {
    if !call.query.flag("link") {
        return Err(ApiError::of(types::Kind::NotFound, format!("No such container: {id}/{alias}")));
    }
    call.engine.container_unlink(id, alias).await?;
    no_content()
}

pub(crate) async fn prune(call: Call) -> Answer {
    ok(&call.engine.container_prune(call.filters()?).await?)
}

fn archive_path(call: &Call) -> Result<String, ApiError> {
    call.query.string("path").ok_or_else(|| ApiError::invalid("bad parameter: path cannot be empty"))
}

fn stat_header(stat: &PathStat) -> Result<HeaderValue, ApiError> {
    let encoded = serde_json::to_vec(stat).ok().and_then(|json| HeaderValue::try_from(STANDARD.encode(json)).ok());
    encoded.ok_or_else(|| ApiError::of(types::Kind::Internal, "cannot encode the facts of the path"))
}

const PATH_STAT: &str = "x-docker-container-path-stat";

pub(crate) async fn archive_stat(call: Call, id: &str) -> Answer {
    let stat = call.engine.container_archive_stat(id, &archive_path(&call)?).await?;
    let mut response = body::empty(StatusCode::OK);
    response.headers_mut().insert(PATH_STAT, stat_header(&stat)?);
    Ok(response)
}

pub(crate) async fn archive_get(call: Call, id: &str) -> Answer {
    let (stat, bytes) = call.engine.container_archive_get(id, &archive_path(&call)?).await?;
    let mut response = body::stream(StatusCode::OK, "application/x-tar", bytes);
    response.headers_mut().insert(PATH_STAT, stat_header(&stat)?);
    Ok(response)
}

pub(crate) async fn archive_put(call: Call, id: &str) -> Answer {
    let path = archive_path(&call)?;
    let options = ArchivePutOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    call.engine.container_archive_put(id, &path, options, byte_stream(call.body).into_stream().boxed()).await?;
    Ok(body::empty(StatusCode::OK))
}
