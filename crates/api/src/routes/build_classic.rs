//! `POST /build`: builds from an archive in the request, as clients from before BuildKit and most libraries ask for them.

use std::collections::{BTreeMap, HashMap};
use std::io;

use base64::Engine as _;
use build::classic::{Classic, Said};
use bytes::Bytes;
use docker_types::message::{ErrorDetail, JsonMessage};
use futures_util::StreamExt;
use http::StatusCode;

use crate::body::{self, Separator};
use crate::call::{Answer, Call, byte_stream};
use crate::query::{Query, quoted};
use crate::status::ApiError;

/// Parameters that ask for what a build here does not do, with what to do instead. Zero and nothing ask for nothing.
const REFUSED: [(&str, &str); 10] = [
    ("squash", "copy what is wanted into a stage of its own"),
    ("memory", "put the build below a limited control group (cgroupparent)"),
    ("memswap", "put the build below a limited control group (cgroupparent)"),
    ("cpushares", "put the build below a limited control group (cgroupparent)"),
    ("cpusetcpus", "put the build below a limited control group (cgroupparent)"),
    ("cpusetmems", "put the build below a limited control group (cgroupparent)"),
    ("cpuperiod", "put the build below a limited control group (cgroupparent)"),
    ("cpuquota", "put the build below a limited control group (cgroupparent)"),
    ("securityopt", "steps have the profile of containers"),
    ("outputs", "build with BuildKit for outputs other than an image"),
];

/// For how long, and how many bytes, a context is read that nobody wants.
const DRAINING: std::time::Duration = std::time::Duration::from_secs(30);
const MAX_DRAINED: usize = 1 << 30;

pub(crate) async fn build(call: Call) -> Answer {
    let read = || {
        let builder = std::sync::Arc::clone(call.engine.builder()?);
        let asked = Classic { credentials: credentials(&call)?, ..asked(&call.query)? };
        Ok::<_, ApiError>((builder, asked))
    };
    let (builder, asked) = match read() {
        Ok(read) => read,
        Err(error) => {
            // A client that is cut off while it writes does not read why.
            drop(tokio::time::timeout(DRAINING, drain(call.body)).await);
            return Err(error);
        }
    };
    let said = builder.classic(asked, byte_stream(call.body));
    let frames = said.map(|said| -> io::Result<Bytes> { body::message(&told(said), Separator::CrLf) });
    Ok(body::stream(StatusCode::OK, "application/json", frames))
}

async fn drain(body: hyper::body::Incoming) {
    let mut body = std::pin::pin!(byte_stream(body));
    let mut rest = MAX_DRAINED;
    while let Some(Ok(data)) = body.next().await {
        let Some(less) = rest.checked_sub(data.len()) else { return };
        rest = less;
    }
}

/// `POST /build/cancel`. A build that is not there has ended.
pub(crate) fn cancel(call: &Call) -> Answer {
    let id = call.query.text("id").ok_or_else(|| ApiError::invalid("build ID not provided: give the parameter id"))?;
    call.engine.builder()?.end(id);
    Ok(body::empty(StatusCode::OK))
}

fn told(said: Said) -> JsonMessage {
    match said {
        Said::Text(stream) => JsonMessage { stream, ..JsonMessage::default() },
        Said::Image(id) => JsonMessage { aux: Some(serde_json::json!({ "ID": id })), ..JsonMessage::default() },
        Said::Trace(status) => {
            let bytes = base64::engine::general_purpose::STANDARD.encode(status);
            JsonMessage { id: "moby.buildkit.trace".to_owned(), aux: Some(bytes.into()), ..JsonMessage::default() }
        }
        Said::Failed(error) => {
            let message = error.to_string();
            let detail = ErrorDetail { code: 1, message: message.clone() };
            JsonMessage { error: message, error_detail: Some(detail), ..JsonMessage::default() }
        }
    }
}

fn json<T: serde::de::DeserializeOwned + Default>(query: &Query, name: &str) -> Result<T, ApiError> {
    match query.text(name) {
        None => Ok(T::default()),
        Some(text) => serde_json::from_str::<Option<T>>(text)
            .map(Option::unwrap_or_default)
            .map_err(|e| ApiError::invalid(format!("error reading {name} {}: {e}", quoted(text)))),
    }
}

fn asked(query: &Query) -> Result<Classic, ApiError> {
    for (name, instead) in REFUSED {
        if query.text(name).is_some_and(|value| !matches!(value, "0" | "false" | "False" | "[]" | "null")) {
            return Err(ApiError::unsupported(format!("the parameter {name} of builds is not supported: {instead}")));
        }
    }
    if let Some(other) = query.text("isolation").filter(|isolation| *isolation != "default") {
        return Err(ApiError::invalid(format!("isolation {}: it is default on Linux", quoted(other))));
    }
    let session = match query.text("version").unwrap_or("1") {
        "1" => None,
        "2" => {
            let session = query.string("session");
            Some(session.ok_or_else(|| ApiError::invalid("a build of version 2 needs the parameter session"))?)
        }
        other => return Err(ApiError::invalid(format!("invalid version {}: it is 1 or 2", quoted(other)))),
    };
    let mut attrs = HashMap::new();
    let mut set = |name: &str, value: String| drop(attrs.insert(name.to_owned(), value));
    for (name, value) in json::<BTreeMap<String, Option<String>>>(query, "buildargs")? {
        if let Some(value) = value {
            set(&format!("build-arg:{name}"), value);
        }
    }
    for (name, value) in json::<BTreeMap<String, String>>(query, "labels")? {
        set(&format!("label:{name}"), value);
    }
    for (from, to) in [("target", "target"), ("cgroupparent", "cgroup-parent"), ("platform", "platform")] {
        if let Some(value) = query.text(from) {
            set(to, value.to_owned());
        }
    }
    if let Some(size) = query.integer("shmsize")?.filter(|size| *size != 0) {
        set("shm-size", size.to_string());
    }
    if query.flag("nocache") {
        set("no-cache", String::new());
    }
    if query.flag("pull") {
        set("image-resolve-mode", "pull".to_owned());
    }
    let hosts: Vec<&str> = query.all("extrahosts").filter(|host| !host.is_empty()).collect();
    if !hosts.is_empty() {
        set("add-hosts", hosts.join(","));
    }
    let ulimits = json::<Vec<docker_types::container::Ulimit>>(query, "ulimits")?;
    if !ulimits.is_empty() {
        let ulimits = ulimits.iter().map(|limit| format!("{}={}:{}", limit.name, limit.soft, limit.hard));
        set("ulimit", ulimits.collect::<Vec<_>>().join(","));
    }
    let mut entitlements = Vec::new();
    match query.text("networkmode") {
        None | Some("default" | "bridge" | "nat") => {}
        Some(mode @ ("none" | "host")) => {
            set("force-network-mode", mode.to_owned());
            if mode == "host" {
                entitlements.push("network.host".to_owned());
            }
        }
        Some(other) => {
            let text = format!("network {} of a build is not supported: it is default, none or host", quoted(other));
            return Err(ApiError::unsupported(text));
        }
    }
    let remote = match query.text("remote") {
        None | Some("client-session") => false,
        Some("upload-request") => {
            return Err(ApiError::unsupported("uploading the context apart is not supported: send it with the build"));
        }
        Some(remote) => {
            set("context", remote.to_owned());
            true
        }
    };
    Ok(Classic {
        id: query.string("buildid").unwrap_or_default(),
        attrs,
        dockerfile: query.string("dockerfile").unwrap_or_default(),
        names: query.all("t").filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        quiet: query.flag("q"),
        session,
        remote,
        entitlements,
        credentials: BTreeMap::new(),
    })
}

/// `X-Registry-Config`: credentials by registry, under the names that clients' files have.
fn credentials(call: &Call) -> Result<BTreeMap<String, (String, String)>, ApiError> {
    let Some(header) = call.headers.get("x-registry-config").and_then(|value| value.to_str().ok()) else {
        return Ok(BTreeMap::new());
    };
    let given = docker_types::auth::decode_registry_config(header).map_err(|e| ApiError::invalid(e.to_string()))?;
    let named = given.into_iter().map(|(name, auth)| {
        let host = name.split_once("://").map_or(name.as_str(), |(_, rest)| rest);
        let host = host.split('/').next().unwrap_or_default();
        let host = if matches!(host, "index.docker.io" | "registry-1.docker.io") { "docker.io" } else { host };
        let password = if auth.password.is_empty() { auth.identity_token } else { auth.password };
        (host.to_owned(), (auth.username, password))
    });
    Ok(named.filter(|(_, (user, password))| !user.is_empty() || !password.is_empty()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Result<Classic, ApiError> {
        asked(&Query::parse(raw).unwrap())
    }

    #[test]
    fn what_is_asked_for() {
        let asked = read(concat!(
            "t=a&t=b:1&dockerfile=d%2FD&buildargs=%7B%22A%22%3A%22x%22%2C%22B%22%3Anull%7D&labels=%7B%22l%22%3A%22v%22%7D&nocache=1&pull=True",
            "&networkmode=host&memory=0&rm=1&ulimits=%5B%7B%22Name%22%3A%22nofile%22%2C%22Soft%22%3A1%2C%22Hard%22%3A2%7D%5D"
        ))
        .unwrap();
        assert_eq!(asked.names, ["a", "b:1"]);
        assert_eq!(asked.dockerfile, "d/D");
        let attr = |name: &str| asked.attrs.get(name).map(String::as_str);
        assert_eq!(attr("build-arg:A"), Some("x"));
        assert_eq!(attr("build-arg:B"), None);
        assert_eq!(attr("label:l"), Some("v"));
        assert_eq!(attr("no-cache"), Some(""));
        assert_eq!(attr("image-resolve-mode"), Some("pull"));
        assert_eq!(attr("ulimit"), Some("nofile=1:2"));
        assert_eq!(asked.entitlements, ["network.host"]);
    }

    #[test]
    fn what_cannot_be_asked_for() {
        for query in [
            "memory=1",
            "squash=1",
            "networkmode=container:x",
            "version=2",
            "version=3",
            "buildargs=x",
            "isolation=hyperv",
        ] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
