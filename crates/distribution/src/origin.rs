//! Origins (scheme, host, port) and the addresses a registry refers us to.

use http::Uri;
use std::fmt;

/// Longest address taken from a registry.
const URL_MAX: usize = 16 * 1024;

/// Scheme, host and port: what credentials and connections are bound to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// TLS or not.
    pub(crate) https: bool,
    /// Lower case; an IPv6 address without brackets.
    pub(crate) host: String,
    /// TCP port.
    pub(crate) port: u16,
}

/// An absolute address: origin, path and query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// Where to connect.
    pub(crate) origin: Origin,
    /// What to ask, starting with a slash.
    pub(crate) target: String,
}

impl Origin {
    /// Makes the origin of a registry's `host[:port]`.
    pub(crate) fn of_registry(domain: &str, https: bool) -> Option<Origin> {
        let scheme = if https { "https" } else { "http" };
        Url::parse(&format!("{scheme}://{domain}/")).map(|u| u.origin)
    }

    /// `host[:port]`, the port only when it is not the scheme's own.
    pub(crate) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        if self.port == self.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    fn default_port(&self) -> u16 {
        if self.https { 443 } else { 80 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority())
    }
}

impl Url {
    /// Parses an absolute http or https address without user information.
    pub(crate) fn parse(text: &str) -> Option<Url> {
        if text.len() > URL_MAX {
            return None;
        }
        let uri: Uri = text.split('#').next()?.parse().ok()?;
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let authority = uri.authority()?;
        if authority.as_str().contains('@') {
            return None;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        let after_host = authority.as_str().get(authority.host().len()..)?;
        let port = match (after_host, authority.port_u16()) {
            ("", _) => {
                if https {
                    443
                } else {
                    80
                }
            }
            (_, Some(port)) if port != 0 => port,
            _ => return None,
        };
        if host.is_empty() {
            return None;
        }
        let target = uri.path_and_query().map_or("/", |p| p.as_str());
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Some(Url { origin: Origin { https, host, port }, target })
    }

    /// Resolves a `Location` against this address (RFC 3986, section 5).
    pub(crate) fn join(&self, location: &str) -> Option<Url> {
        let scheme = if self.origin.https { "https" } else { "http" };
        if location.is_empty() || location.len() > URL_MAX {
            return None;
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Url::parse(&format!("{scheme}://{rest}"));
        }
        if location.starts_with('/') {
            return Url::parse(&format!("{}{location}", self.origin));
        }
        let before_query = location.split(['?', '#', '/']).next().unwrap_or_default();
        if before_query.contains(':') {
            return Url::parse(location);
        }
        let path = self.target.split('?').next().unwrap_or("/");
        let dir = path.rfind('/').map_or("/", |i| &path[..=i]);
        Url::parse(&format!("{}{dir}{location}", self.origin))
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin, self.target)
    }
}

/// Percent-encodes a query value (RFC 3986, "unreserved").
pub(crate) fn encode_query(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_and_join() {
        let base = Url::parse("https://Reg.example:443/v2/a/blobs/x?y=1").unwrap();
        assert_eq!(base.to_string(), "https://reg.example/v2/a/blobs/x?y=1");
        for (location, expected) in [
            ("https://cdn.example/b?c=d#e", "https://cdn.example/b?c=d"),
            ("//cdn.example:8443/b", "https://cdn.example:8443/b"),
            ("/b", "https://reg.example/b"),
            ("b?x=a:b", "https://reg.example/v2/a/blobs/b?x=a:b"),
        ] {
            assert_eq!(base.join(location).map(|u| u.to_string()).as_deref(), Some(expected));
        }
        for bad in ["", "file:///etc/passwd", "ftp://x/", "https://u:p@x/", "https:///x", "gopher:x", "http://a:99999/"]
        {
            assert_eq!(base.join(bad), None, "{bad}");
        }
        assert_eq!(Origin::of_registry("[::1]:5000", false).unwrap().authority(), "[::1]:5000");
        assert_eq!(encode_query("a b&c=repository:x/y:pull"), "a%20b%26c%3Drepository:x/y:pull");
    }
}
