//! Ping, version, information, events, disk usage, registry login.

use std::io;

use docker_types::Versioned;
use docker_types::auth::AuthConfig;
use docker_types::event::EventMessage;
use engine::EventsOptions;
use futures_util::StreamExt;
use http::header::{ACCEPT, CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};
use http::{HeaderMap, StatusCode};

use crate::body::{self, Response, Separator};
use crate::call::{Answer, Call, ok};
use crate::query::quoted;
use crate::status::ApiError;

/// `GET|HEAD /_ping`: what clients negotiate the version with. hyper drops the body for `HEAD`.
///
/// `Builder-Version: 2` promises `/grpc` and `/session`: clients prefer BuildKit's protocol then.
pub(crate) fn ping() -> Response {
    let mut response = body::full(StatusCode::OK, "text/plain; charset=utf-8", "OK");
    let headers = response.headers_mut();
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("2"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

pub(crate) fn version(call: &Call) -> Answer {
    ok(&call.engine.version())
}

pub(crate) async fn info(call: Call) -> Answer {
    call.versioned(&call.engine.info().await?)
}

pub(crate) async fn disk_usage(call: Call) -> Answer {
    let types: Vec<String> = call.query.all("type").map(str::to_owned).collect();
    if let Some(unknown) =
        types.iter().find(|t| !matches!(t.as_str(), "container" | "image" | "volume" | "build-cache"))
    {
        return Err(ApiError::invalid(format!("unknown object type: {unknown:.64}")));
    }
    let verbose = call.query.flag("verbose");
    let usage = call.engine.disk_usage(&types).await?;
    ok(&usage.trim(call.version, verbose))
}

pub(crate) async fn auth(mut call: Call) -> Answer {
    let credentials: AuthConfig = call.json().await?;
    ok(&call.engine.auth(credentials).await?)
}

/// The form of the event stream, by API version and `Accept`.
fn event_form(headers: &HeaderMap, negotiates: bool, knows_jsonl: bool) -> (&'static str, Separator) {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    // The client's order of preference is its order of words; no client sends weights here.
    for accepted in accepted.filter(|_| negotiates) {
        match accepted.split(';').next().unwrap_or_default().trim() {
            "application/jsonl" if knows_jsonl => return ("application/jsonl", Separator::Newline),
            "application/x-ndjson" => return ("application/x-ndjson", Separator::Newline),
            "application/json-seq" => return ("application/json-seq", Separator::JsonSeq),
            "application/json" => break,
            _ => {}
        }
    }
    ("application/json", Separator::Newline)
}

pub(crate) fn events(call: &Call) -> Answer {
    let since = call.query.time("since")?;
    let until = call.query.time("until")?;
    if let (Some(since), Some(until)) = (since, until)
        && since > until
    {
        let shown = |name| quoted(call.query.get(name).unwrap_or_default());
        return Err(ApiError::invalid(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            shown("since"),
            shown("until")
        )));
    }
    let options = EventsOptions { since, until, filters: call.filters()? };
    let version = call.version;
    let (content_type, separator) = event_form(&call.headers, version.at_least(52), version.at_least(53));
    let events = call.engine.events(options)?;
    let frames = events.map(move |event: EventMessage| {
        let json = event.at_version(version).map_err(io::Error::other)?;
        let json = serde_json::value::RawValue::from_string(String::from_utf8(json).map_err(io::Error::other)?)?;
        body::message(&json, separator)
    });
    Ok(body::stream(StatusCode::OK, content_type, frames))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_negotiation() {
        let form = |accept: &str, n, j| {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            event_form(&headers, n, j)
        };
        let json = ("application/json", Separator::Newline);
        assert_eq!(form("", true, true), json);
        assert_eq!(form("*/*", true, true), json);
        let docker = "application/jsonl, application/x-ndjson, application/json-seq";
        assert_eq!(form(docker, true, true).0, "application/jsonl");
        assert_eq!(form(docker, true, false).0, "application/x-ndjson");
        assert_eq!(form(docker, false, false), json);
        assert_eq!(form("application/json-seq", true, true), ("application/json-seq", Separator::JsonSeq));
        assert_eq!(form("application/json, application/x-ndjson", true, true), json);
    }

    #[test]
    fn ping_headers() {
        let response = ping();
        assert_eq!(response.headers()["builder-version"], "2");
        assert_eq!(response.headers()["swarm"], "inactive");
        assert_eq!(response.headers()["cache-control"], "no-cache, no-store, must-revalidate");
    }
}
