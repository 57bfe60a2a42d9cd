//! Images: pull, push, import, load, save, list, inspect, tag, remove.

use std::io;

use docker_types::image::ImageVerifyBody;
use docker_types::message::JsonMessage;
use engine::{ImageListOptions, ImportOptions, ManifestOptions, ManifestPut, PullOptions, PushOptions};
use futures_util::{Stream, StreamExt};
use http::StatusCode;

use crate::body::{self, Response, Separator};
use crate::call::{Answer, Call, byte_stream, ok};
use crate::status::ApiError;

/// Progress as a JSON stream; its failures are messages in it, since the status is sent by then.
fn progress<S>(messages: S) -> Response
where
    S: Stream<Item = JsonMessage> + Send + 'static,
{
    let frames = messages.map(|message| -> io::Result<_> { body::message(&message, Separator::CrLf) });
    body::stream(StatusCode::OK, "application/json", frames)
}

pub(crate) async fn list(call: Call) -> Answer {
    let query = &call.query;
    let options = ImageListOptions {
        all: query.flag("all"),
        filters: call.filters()?,
        shared_size: query.flag("shared-size"),
        manifests: query.flag("manifests") && call.version.at_least(47),
        digests: query.flag("digests"),
    };
    let found = call.engine.image_list(options).await?;
    call.versioned(&found)
}

/// `name` with its own tag or digest replaced by `tag`, which may be a digest too.
fn with_tag(name: &str, tag: Option<&str>) -> String {
    let Some(tag) = tag else { return name.to_owned() };
    let bare = name.split_once('@').map_or(name, |(bare, _)| bare);
    let bare = match bare.rfind(':') {
        Some(colon) if !bare[colon..].contains('/') => &bare[..colon],
        _ => bare,
    };
    let separator = if tag.contains(':') { '@' } else { ':' };
    format!("{bare}{separator}{tag}")
}

/// `POST /images/create`: pull, or import of the request's body.
pub(crate) async fn create(call: Call) -> Answer {
    if let Some(source) = call.query.text("fromSrc") {
        if source != "-" {
            return Err(ApiError::unsupported(
                "importing from a URL is not supported: download the archive and give it with docker import - < FILE",
            ));
        }
        let options = ImportOptions {
            repo: call.query.string("repo"),
            tag: call.query.string("tag"),
            message: call.query.string("message"),
            changes: call.changes(),
            platform: call.platform()?,
        };
        let messages = call.engine.image_import(options, byte_stream(call.body).boxed()).await?;
        return Ok(progress(messages));
    }
    let name = call
        .query
        .text("fromImage")
        .ok_or_else(|| ApiError::invalid("invalid reference format: neither fromImage nor fromSrc is given"))?;
    let tag = call.query.text("tag");
    let options = PullOptions {
        reference: with_tag(name, tag),
        platform: call.platform()?,
        auth: call.registry_auth(),
        all_tags: tag.is_none(),
    };
    Ok(progress(call.engine.image_pull(options).await?))
}

pub(crate) async fn push(call: Call, name: &str) -> Answer {
    let options = PushOptions {
        name: name.to_owned(),
        tag: call.query.text("tag").map(str::to_owned),
        platform: call.json_platform(46)?,
        auth: call.registry_auth(),
    };
    Ok(progress(call.engine.image_push(options).await?))
}

/// `GET /images/{name}/log`, which Docker has nothing like.
pub(crate) async fn log(call: Call, name: &str) -> Answer {
    ok(&call.engine.image_log(name).await?)
}

/// `GET /images/{name}/diff`, which Docker has nothing like.
pub(crate) async fn diff(call: Call, name: &str) -> Answer {
    let with =
        call.query.text("with").ok_or_else(|| ApiError::invalid("with: the image to compare with is not given"))?;
    ok(&call.engine.image_diff(name, with).await?)
}

/// `GET /images/{name}/referrers`, which Docker has nothing like.
pub(crate) async fn referrers(call: Call, name: &str) -> Answer {
    let artifact_type = call.query.text("artifactType").map(str::to_owned);
    ok(&call.engine.image_referrers(name, artifact_type, call.registry_auth()).await?)
}

/// `POST /images/{name}/rollback`, which Docker has nothing like.
pub(crate) async fn rollback(call: Call, name: &str) -> Answer {
    let wanted = call.query.text("to").unwrap_or("1");
    Ok(progress(call.engine.image_rollback(name, wanted, call.registry_auth()).await?))
}

/// `POST /images/{name}/pin` and `/unpin`, which Docker has nothing like.
pub(crate) async fn pin(call: Call, name: &str, pinned: bool) -> Answer {
    ok(&serde_json::json!({ "Id": call.engine.image_pin(name, pinned).await? }))
}

/// `POST /images/{name}/verify`, which Docker has nothing like.
pub(crate) async fn verify(mut call: Call, name: &str) -> Answer {
    let body: Option<ImageVerifyBody> = call.optional_json().await?;
    let policy = body.filter(|body| !body.policy.is_empty()).map(|body| (body.policy, body.source));
    let (platform, auth) = (call.platform()?, call.registry_auth());
    ok(&call.engine.image_verify(name, policy, platform, auth).await?)
}

/// `POST /system/fsck`, which Docker has nothing like.
pub(crate) async fn fsck(call: Call) -> Answer {
    Ok(progress(call.engine.image_fsck(call.query.flag("repair")).await?))
}

pub(crate) async fn distribution(call: Call, name: &str) -> Answer {
    ok(&call.engine.image_distribution(name, call.registry_auth()).await?)
}

fn manifest_options(call: &Call, name: &str) -> ManifestOptions {
    ManifestOptions { name: name.to_owned(), insecure: call.query.flag("insecure"), auth: call.registry_auth() }
}

/// `GET /distribution/{name}/manifest`, which Docker has nothing like.
pub(crate) async fn manifest(call: Call, name: &str) -> Answer {
    let options = manifest_options(&call, name);
    ok(&call.engine.registry_manifest(options).await?)
}

/// `PUT /distribution/{name}/manifest`, which Docker has nothing like: the body is the document.
pub(crate) async fn put_manifest(mut call: Call, name: &str) -> Answer {
    let media_type = call.headers.get(http::header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
    let media_type = media_type
        .ok_or_else(|| ApiError::invalid("Content-Type: the media type of the manifest is not given"))?
        .to_owned();
    let options = manifest_options(&call, name);
    let document = crate::json::read(&call.headers, &mut call.body).await?;
    let put = ManifestPut { options, media_type, document, from: call.query.string("from") };
    ok(&call.engine.put_registry_manifest(put).await?)
}

pub(crate) async fn load(call: Call) -> Answer {
    let platforms = call.json_platforms("platform", 48)?;
    let quiet = call.query.flag("quiet");
    Ok(progress(call.engine.image_load(byte_stream(call.body).boxed(), quiet, platforms).await?))
}

/// `name` from the path, or every `names` parameter, which may hold several with commas.
pub(crate) async fn save(call: Call, name: Option<String>) -> Answer {
    let names: Vec<String> = match name {
        Some(name) => vec![name],
        None => {
            call.query.all("names").flat_map(|n| n.split(',')).filter(|n| !n.is_empty()).map(str::to_owned).collect()
        }
    };
    if names.is_empty() {
        return Err(ApiError::invalid("no image is named: give at least one names parameter"));
    }
    let bytes = call.engine.image_save(names, call.json_platforms("platform", 48)?).await?;
    Ok(body::stream(StatusCode::OK, "application/x-tar", bytes))
}

pub(crate) async fn inspect(call: Call, name: &str) -> Answer {
    let manifests = call.query.flag("manifests") && call.version.at_least(48);
    let platform = call.json_platform(49)?;
    if manifests && platform.is_some() {
        return Err(ApiError::invalid("conflicting options: manifests and platform options cannot both be set"));
    }
    let found = call.engine.image_inspect(name, manifests, platform).await?;
    call.versioned(&found)
}

pub(crate) async fn history(call: Call, name: &str) -> Answer {
    ok(&call.engine.image_history(name, call.json_platform(48)?).await?)
}

pub(crate) async fn tag(call: Call, name: &str) -> Answer {
    let (repo, tag) = (call.query.text("repo").unwrap_or_default(), call.query.text("tag").unwrap_or_default());
    call.engine.image_tag(name, repo, tag).await?;
    Ok(body::empty(StatusCode::CREATED))
}

pub(crate) async fn remove(call: Call, name: &str) -> Answer {
    let platforms = call.json_platforms("platforms", 50)?;
    if !platforms.is_empty() {
        return ok(&call.engine.image_remove_platforms(name, platforms, call.query.flag("force")).await?);
    }
    ok(&call.engine.image_remove(name, call.query.flag("force"), call.query.flag("noprune")).await?)
}

pub(crate) async fn prune(call: Call) -> Answer {
    ok(&call.engine.image_prune(call.filters()?).await?)
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn tags_replace_tags() {
        let digest = "sha256:0123";
        for (name, tag, whole) in [
            ("busybox", Some("1"), "busybox:1"),
            ("busybox", None, "busybox"),
            ("busybox:2", None, "busybox:2"),
            ("busybox:2", Some("1"), "busybox:1"),
            ("127.0.0.1:5000/im", Some("1"), "127.0.0.1:5000/im:1"),
            ("127.0.0.1:5000/im:2", Some("1"), "127.0.0.1:5000/im:1"),
            ("im", Some(digest), "im@sha256:0123"),
            ("im@sha256:4567", Some("1"), "im:1"),
        ] {
            assert_eq!(with_tag(name, tag), whole);
        }
    }
}
