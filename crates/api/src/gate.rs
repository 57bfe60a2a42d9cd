//! The one place that decides what a request is: transport rules, API version, path, query.
//!
//! It yields a request's path as decoded segments; the router matches on those alone, so no second
//! reading of the path can disagree with the first. Ambiguous targets (absolute form, empty or dot
//! segments, NUL, broken escapes) are refused instead of being cleaned up.

use std::net::IpAddr;

use docker_types::ApiVersion;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

use crate::query::{Query, percent_decode, quoted};
use crate::status::ApiError;
use crate::version;

/// How the client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A Unix socket: the file's permissions are the authorization.
    Unix,
    /// TCP: reachable by browsers of the same machine, hence by any page they show.
    Tcp,
}

/// The names under which TCP clients may address this daemon, beside IP addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct HostNames(Vec<String>);

/// A request that may be routed.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) version: ApiVersion,
    pub(crate) segments: Vec<String>,
    pub(crate) query: Query,
}

impl HostNames {
    /// Own host name and the names given to listeners; compared without case.
    #[must_use]
    pub fn new(names: impl IntoIterator<Item = String>) -> HostNames {
        HostNames(
            names.into_iter().map(|n| n.trim_end_matches('.').to_ascii_lowercase()).filter(|n| !n.is_empty()).collect(),
        )
    }

    fn accepts(&self, authority: &str) -> bool {
        let Some(host) = host_of(authority) else { return false };
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        host == "localhost" || host.parse::<IpAddr>().is_ok() || self.0.contains(&host)
    }
}

/// The host part of `host`, `host:port` or `[v6]:port`.
fn host_of(authority: &str) -> Option<&str> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return (port.is_empty() || port.starts_with(':')).then_some(host);
    }
    let host = authority.split_once(':').map_or(authority, |(host, _)| host);
    (!host.is_empty()).then_some(host)
}

/// Decides whether and as what a request is answered.
///
/// # Errors
/// 400 for a malformed target or version, 403 for a TCP request that a foreign web page could
/// have caused.
pub(crate) fn admit(parts: &Parts, transport: Transport, names: &HostNames) -> Result<Admitted, ApiError> {
    check_host(&parts.headers, transport, names)?;
    if parts.uri.scheme().is_some() || parts.uri.authority().is_some() {
        return Err(ApiError::invalid("invalid request target: this daemon is not a proxy, send the path alone"));
    }
    let path = parts.uri.path();
    if parts.method == Method::OPTIONS {
        return Ok(Admitted { version: version::MAXIMUM, segments: Vec::new(), query: Query::default() });
    }
    let Some(path) = path.strip_prefix('/') else {
        return Err(ApiError::invalid("invalid request target: the path must begin with /"));
    };
    let mut segments = Vec::with_capacity(6);
    for (at, raw) in path.split('/').enumerate() {
        let segment = percent_decode(raw, false)?;
        // `GET /` is merely unknown; an empty segment further in is a path that could be read in
        // two ways.
        let last = at > 0 && at == path.bytes().filter(|&b| b == b'/').count();
        if matches!(&*segment, "." | "..") || (segment.is_empty() && !path.is_empty() && !last) {
            return Err(ApiError::invalid(format!(
                "invalid path {}: empty and dot segments are not accepted",
                quoted(parts.uri.path())
            )));
        }
        segments.push(segment.into_owned());
    }
    let version = match version::from_segment(&segments[0])? {
        Some(version) => {
            segments.remove(0);
            version
        }
        None => version::MAXIMUM,
    };
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    Ok(Admitted { version, segments, query })
}

/// DNS rebinding and cross-site requests: a page in a browser on this machine can send requests to
/// a loopback port, but it cannot choose `Host` (its own name) nor hide `Origin`.
fn check_host(headers: &HeaderMap, transport: Transport, names: &HostNames) -> Result<(), ApiError> {
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Err(ApiError::invalid("invalid request: more than one Host header"));
    }
    if transport == Transport::Unix {
        return Ok(());
    }
    let text = |name: header::HeaderName| headers.get(name).map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned());
    if let Some(host) = text(header::HOST)
        && !names.accepts(&host)
    {
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            format!(
                "refused: Host {} is not a name of this daemon; connect by IP address, or give the daemon -H tcp://NAME:PORT",
                quoted(&host)
            ),
        ));
    }
    if let Some(origin) = text(header::ORIGIN) {
        let own = origin
            .split_once("://")
            .is_some_and(|(_, rest)| names.accepts(rest) && Some(rest) == text(header::HOST).as_deref());
        if !own {
            return Err(ApiError::new(
                StatusCode::FORBIDDEN,
                format!("refused: request from the web page {}", quoted(&origin)),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn admit_unix(target: &str) -> Result<Admitted, ApiError> {
        admit(&parts("GET", target, &[]), Transport::Unix, &HostNames::default())
    }

    #[test]
    fn paths_are_decoded_once_into_segments() {
        let a = admit_unix("/v1.44/images/127.0.0.1:5000/im:1/json?x=1").unwrap();
        assert_eq!(a.segments, ["images", "127.0.0.1:5000", "im:1", "json"]);
        assert_eq!(a.version, ApiVersion::new(1, 44));
        assert_eq!(a.query.get("x"), Some("1"));
        assert_eq!(admit_unix("/containers/a%2fb%252f/json").unwrap().segments, ["containers", "a/b%2f", "json"]);
        assert_eq!(admit_unix("/_ping").unwrap().version, version::MAXIMUM);
        assert_eq!(admit_unix("/").unwrap().segments, [""]);
        assert_eq!(admit_unix("/containers/").unwrap().segments, ["containers", ""]);
    }

    #[test]
    fn ambiguous_targets_are_refused() {
        for target in [
            "//containers/json",
            "/v1.44//containers/json",
            "/containers/../json",
            "/containers/%2e%2e/json",
            "/containers/%2E/json",
            "/containers/a%00b/json",
            "/containers/a%zz/json",
            "/containers/json?x=%00",
            "http://evil/containers/json",
            "/v0/info",
            "/v1.99/info",
        ] {
            assert_eq!(admit_unix(target).unwrap_err().status(), 400, "{target}");
        }
    }

    #[test]
    fn tcp_clients_must_name_this_host() {
        let names = HostNames::new(["Builder.Example.".to_owned()]);
        let ask =
            |headers: &[(&str, &str)]| admit(&parts("GET", "/_ping", headers), Transport::Tcp, &names).map(|_| ());
        for host in ["127.0.0.1:2375", "[::1]:2375", "localhost", "LOCALHOST:1", "builder.example:2375", "10.0.0.7"] {
            assert!(ask(&[("host", host)]).is_ok(), "{host}");
        }
        for host in ["evil", "evil:2375", "127.0.0.1.evil.example", "localhost.evil", "[::1", ""] {
            assert_eq!(ask(&[("host", host)]).unwrap_err().status(), 403, "{host}");
        }
        assert_eq!(ask(&[("host", "localhost"), ("origin", "http://evil")]).unwrap_err().status(), 403);
        assert_eq!(ask(&[("host", "localhost"), ("origin", "null")]).unwrap_err().status(), 403);
        assert!(ask(&[("host", "localhost:8000"), ("origin", "http://localhost:8000")]).is_ok());
        assert_eq!(ask(&[("host", "localhost"), ("host", "evil")]).unwrap_err().status(), 400);
        assert!(admit(&parts("GET", "/_ping", &[("host", "evil")]), Transport::Unix, &names).is_ok());
    }
}
