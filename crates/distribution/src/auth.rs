//! Credentials, challenges and tokens (RFC 9110 section 11, the distribution project's token
//! specification). Credentials go to the registry's own origin, or to the token realm it names when
//! that realm keeps the rules of [`realm_url`]; nowhere else.

use crate::address::Classes;
use crate::error::Error;
use crate::hosts::Site;
use crate::origin::{Origin, Url, encode_query};
use crate::payload::Payload;
use crate::pool::Via;
use crate::transport::{Reach, Transport, go_method};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Longest challenge looked at, in bytes.
const CHALLENGE_MAX: usize = 8 * 1024;
/// Longest answer of a token server.
const TOKEN_ANSWER_MAX: u64 = 1 << 20;
/// Longest token sent on.
const TOKEN_MAX: usize = 64 * 1024;
/// Name we give ourselves at token servers.
const CLIENT_ID: &str = "docker";

/// What the user can prove to a registry. Empty texts are absent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password or access token.
    pub password: String,
    /// A refresh token, used at the token server in the password's place.
    pub identity_token: String,
    /// A bearer token, sent to the registry as it is.
    pub registry_token: String,
}

impl Credentials {
    /// User name and password.
    pub fn basic(username: &str, password: &str) -> Credentials {
        Credentials { username: username.to_owned(), password: password.to_owned(), ..Credentials::default() }
    }

    fn basic_header(&self) -> Option<HeaderValue> {
        if self.username.is_empty() {
            return None;
        }
        let encoded = STANDARD.encode(format!("{}:{}", self.username, self.password));
        sensitive(&format!("Basic {encoded}"))
    }
}

impl fmt::Debug for Credentials {
    /// Shows that there are credentials, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// One challenge of a 401 answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Challenge {
    pub(crate) scheme: String,
    pub(crate) params: BTreeMap<String, String>,
}

/// Reads the challenges of an answer; unreadable ones are skipped.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
    values.filter_map(|v| v.to_str().ok()).filter(|v| v.len() <= CHALLENGE_MAX).flat_map(parse_challenges).collect()
}

fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.~+/!#$%&'*^`|".contains(c)));
        let end = end.unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            return out;
        }
        let Some(value) = tail.trim_start().strip_prefix('=') else {
            out.push(Challenge { scheme: word.to_ascii_lowercase(), params: BTreeMap::new() });
            rest = tail;
            continue;
        };
        let value = value.trim_start();
        let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, c)) = chars.next() {
                match c {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => text.extend(chars.next().map(|(_, c)| c)),
                    c => text.push(c),
                }
            }
            (text, &quoted[end..])
        } else {
            let end = value.find([',', ' ']).unwrap_or(value.len());
            (value[..end].to_owned(), &value[end..])
        };
        if let Some(challenge) = out.last_mut() {
            challenge.params.insert(word.to_ascii_lowercase(), value);
        }
        rest = after;
    }
}

/// Checks where a registry sends us for a token: an absolute address, with TLS when the registry
/// itself has TLS. Its network address is checked when the connection is made.
pub(crate) fn realm_url(realm: &str, registry: &Origin) -> Result<Url, Error> {
    let refused = |why| Error::Refused { what: "token realm", target: realm.chars().take(200).collect(), why };
    let url = Url::parse(realm).ok_or_else(|| refused("it is not an absolute http or https address"))?;
    if registry.https && !url.origin.https {
        return Err(refused("it has no TLS although the registry does"));
    }
    Ok(url)
}

/// An `Authorization` to send with requests.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    pub(crate) expires: Option<Instant>,
    /// A refresh token that came with it.
    pub(crate) identity_token: Option<String>,
}

impl Authorization {
    /// True for a token, false for user name and password.
    pub(crate) fn is_bearer(&self) -> bool {
        self.header.as_bytes().starts_with(b"Bearer ")
    }
}

/// What a token is wanted for.
pub(crate) struct TokenRequest<'a> {
    pub(crate) registry: &'a Origin,
    pub(crate) registry_classes: Classes,
    /// How the registry is connected to, and how what it refers to.
    pub(crate) site: &'a Arc<Site>,
    pub(crate) referred: &'a Arc<Site>,
    /// `repository:path:pull`, several for a push that mounts; none to log in.
    pub(crate) scopes: &'a [String],
    pub(crate) credentials: Option<&'a Credentials>,
    /// Ask for a refresh token as well.
    pub(crate) offline: bool,
}

/// Answers a challenge. `Ok(None)` when there is nothing to answer it with.
pub(crate) async fn answer(
    transport: &Transport,
    challenges: &[Challenge],
    request: &TokenRequest<'_>,
) -> Result<Option<Authorization>, Error> {
    let find = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
    if let Some(bearer) = find("bearer")
        && let Some(realm) = bearer.params.get("realm")
    {
        let service = bearer.params.get("service").map(String::as_str);
        return fetch_token(transport, realm, service, request).await.map(Some);
    }
    if find("basic").is_some() {
        let header = request.credentials.and_then(Credentials::basic_header);
        return Ok(header.map(|header| Authorization { header, expires: None, identity_token: None }));
    }
    Ok(None)
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

async fn fetch_token(
    transport: &Transport,
    realm: &str,
    service: Option<&str>,
    request: &TokenRequest<'_>,
) -> Result<Authorization, Error> {
    let mut url = realm_url(realm, request.registry)?;
    let reach = Reach::Referred(request.registry_classes);
    let no_credentials = Credentials::default();
    let credentials = request.credentials.unwrap_or(&no_credentials);
    let mut query: Vec<(&str, &str)> = Vec::new();
    query.extend(service.map(|s| ("service", s)));
    let mut headers = vec![(header::ACCEPT, HeaderValue::from_static("application/json"))];
    let mut body = Bytes::new();
    let method = if credentials.identity_token.is_empty() { "GET" } else { "POST" };
    // A form has one scope, with spaces between the parts; a query has the parameter several times.
    let joined = request.scopes.join(" ");
    if method == "POST" {
        if !joined.is_empty() {
            query.push(("scope", &joined));
        }
        query.push(("grant_type", "refresh_token"));
        query.push(("refresh_token", &credentials.identity_token));
        query.push(("client_id", CLIENT_ID));
        body = Bytes::from(encode_pairs(&query));
        headers.push((header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded")));
    } else {
        query.extend(request.scopes.iter().map(|s| ("scope", s.as_str())));
        if request.offline {
            query.push(("offline_token", "true"));
            query.push(("client_id", CLIENT_ID));
        }
        if let Some(basic) = credentials.basic_header() {
            query.push(("account", &credentials.username));
            headers.push((header::AUTHORIZATION, basic));
        }
        let separator = if url.target.contains('?') { '&' } else { '?' };
        url.target = format!("{}{separator}{}", url.target, encode_pairs(&query));
    }
    let site = if url.origin == *request.registry { request.site } else { request.referred };
    let via = Via { lane: 0, site: site.clone() };
    let response =
        transport.send(method, &url, reach, &via, &headers, Payload::Bytes(body)).await.map_err(|e| match e {
            Error::Refused { target, why, .. } => Error::Refused { what: "token realm", target, why },
            other => other,
        })?;
    let status = response.status();
    // The address without query: scopes and accounts do not belong in messages.
    let shown = format!("{}{}", url.origin, url.target.split('?').next().unwrap_or_default());
    let bytes = transport.read_capped(response, TOKEN_ANSWER_MAX, method, &url).await?;
    if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST) {
        let message = "unauthorized: incorrect username or password".to_owned();
        return Err(Error::Unauthorized { method: go_method(method), url: shown, message });
    }
    let bad = |why: String| Error::Token { realm: shown.clone(), why };
    if !status.is_success() {
        return Err(bad(format!("unexpected status {status}")));
    }
    let parsed: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| bad("not the expected JSON".to_owned()))?;
    let token = parsed.token.filter(|t| !t.is_empty()).or(parsed.access_token).unwrap_or_default();
    if token.is_empty() || token.len() > TOKEN_MAX {
        return Err(bad("it sent no usable token".to_owned()));
    }
    let header = sensitive(&format!("Bearer {token}")).ok_or_else(|| bad("its token is not printable".to_owned()))?;
    // Sixty seconds is what the specification says when nothing is said.
    let lifetime = Duration::from_secs(parsed.expires_in.unwrap_or(60).clamp(60, 86_400));
    Ok(Authorization {
        header,
        expires: Some(Instant::now() + lifetime - Duration::from_secs(10)),
        identity_token: parsed.refresh_token.filter(|t| !t.is_empty()),
    })
}

/// The bearer token a client brought along.
pub(crate) fn brought_token(credentials: Option<&Credentials>) -> Option<Authorization> {
    let token = &credentials?.registry_token;
    let header = sensitive(&format!("Bearer {token}")).filter(|_| !token.is_empty())?;
    Some(Authorization { header, expires: None, identity_token: None })
}

fn encode_pairs(pairs: &[(&str, &str)]) -> String {
    let encoded: Vec<String> = pairs.iter().map(|(k, v)| format!("{k}={}", encode_query(v))).collect();
    encoded.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenge_forms() {
        let parsed = parse_challenges(
            r#"Bearer realm="https://auth.example/token",service=reg.example,scope="repository:a/b:pull,push", error="x\"y", Basic realm="r""#,
        );
        assert_eq!(parsed.len(), 2);
        assert_eq!(parsed[0].scheme, "bearer");
        assert_eq!(parsed[0].params["realm"], "https://auth.example/token");
        assert_eq!(parsed[0].params["service"], "reg.example");
        assert_eq!(parsed[0].params["scope"], "repository:a/b:pull,push");
        assert_eq!(parsed[0].params["error"], "x\"y");
        assert_eq!((parsed[1].scheme.as_str(), parsed[1].params["realm"].as_str()), ("basic", "r"));
        for odd in ["", "=", "\"", "Bearer realm=\"unclosed", "a=b", "Bearer ,,,=", "é"] {
            let _ = parse_challenges(odd);
        }
    }

    #[test]
    fn realms() {
        let tls = Origin::of_registry("reg.example", true).unwrap();
        let plain = Origin::of_registry("reg.example", false).unwrap();
        assert!(realm_url("https://auth.example/token", &tls).is_ok());
        assert!(realm_url("http://auth.example/token", &plain).is_ok());
        for bad in ["http://auth.example/token", "file:///etc/passwd", "/token", "", "https://u:p@x/", "ftp://x/"] {
            assert!(matches!(realm_url(bad, &tls), Err(Error::Refused { .. })), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let credentials = Credentials::basic("me", "hunter2");
        assert!(!format!("{credentials:?}").contains("hunter2"));
        assert!(!format!("{:?}", credentials.basic_header().unwrap()).contains("Basic"));
    }
}
