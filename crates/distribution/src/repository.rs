//! One repository at one registry: authorised requests with redirects and retries. Everything a
//! registry may answer is turned into a success or an [`Error`] here.

use crate::address::Classes;
use crate::auth::{self, Authorization, Credentials, TokenRequest};
use crate::endpoint::{Endpoint, Purpose};
use crate::error::Error;
use crate::hosts::Site;
use crate::origin::{Url, encode_query};
use crate::payload::Payload;
use crate::pool::Via;
use crate::transport::{Reach, Transport, broken, go_method};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use types::Reference;

/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 10;
/// Scopes of other repositories kept in a token: each mount from another repository brings one.
const EXTRA_SCOPES_MAX: usize = 8;
/// Longest error document read.
const ERROR_MAX: u64 = 64 * 1024;

/// A repository at one endpoint.
pub(crate) struct Repository {
    pub(crate) transport: Arc<Transport>,
    pub(crate) endpoint: Endpoint,
    /// Repository path below the endpoint's root; empty to ask for the base only.
    pub(crate) path: String,
    /// As people write them, for messages.
    pub(crate) familiar_name: String,
    pub(crate) familiar: String,
    credentials: Option<Credentials>,
    purpose: Purpose,
    classes: AtomicU8,
    state: Mutex<AuthState>,
    /// How hosts are connected to that the endpoint refers to.
    referred: Arc<Site>,
    /// The same at the endpoint that is tried after this one.
    next: Option<Arc<Repository>>,
}

/// What a repository is called.
pub(crate) struct Names {
    pub(crate) path: String,
    pub(crate) familiar_name: String,
    pub(crate) familiar: String,
}

impl Names {
    /// Of a reference's repository.
    pub(crate) fn of(reference: &Reference) -> Names {
        let (familiar_name, familiar) = (reference.familiar_name(), reference.familiar());
        Names { path: reference.path().to_owned(), familiar_name, familiar }
    }

    /// Of a registry without any repository.
    pub(crate) fn registry(host: &str) -> Names {
        Names { path: String::new(), familiar_name: host.to_owned(), familiar: host.to_owned() }
    }
}

/// A request to a registry.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'static str,
    pub(crate) url: Url,
    /// What it is about, for messages: the address below the repository.
    pub(crate) rest: &'a str,
    pub(crate) headers: &'a [(HeaderName, HeaderValue)],
    pub(crate) payload: Payload,
    /// Scopes besides the repository's own.
    pub(crate) scopes: &'a [String],
    /// Requests of different lanes never share a connection.
    pub(crate) lane: u8,
}

#[derive(Default)]
struct AuthState {
    current: Option<Authorization>,
    /// Scopes that were asked for besides the repository's own.
    extra: Vec<String>,
    /// Counts up with every answered challenge, so that parallel requests answer each only once.
    generation: u64,
}

/// An answer and the address it came from.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) url: Url,
}

#[derive(Deserialize)]
struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Repository {
    pub(crate) fn new(
        transport: Arc<Transport>,
        endpoint: Endpoint,
        names: Names,
        credentials: Option<Credentials>,
        purpose: Purpose,
        next: Option<Arc<Repository>>,
    ) -> Repository {
        let current = auth::brought_token(credentials.as_ref());
        let Names { path, familiar_name, familiar } = names;
        let referred = Arc::new(endpoint.site.referred());
        Repository {
            transport,
            endpoint,
            path,
            familiar_name,
            familiar,
            credentials,
            purpose,
            classes: AtomicU8::new(0),
            state: Mutex::new(AuthState { current, ..AuthState::default() }),
            referred,
            next,
        }
    }

    /// The endpoint to try when this one failed with `error`, if there is one for such a failure.
    pub(crate) fn after(&self, error: &Error) -> Option<&Arc<Repository>> {
        self.next.as_ref().filter(|_| self.endpoint.mirror || matches!(error, Error::Connect { .. }))
    }

    /// Asks this endpoint and those after it until one gives an answer that counts; says which did.
    pub(crate) async fn or_next<T, F>(self: &Arc<Self>, ask: F) -> Result<(T, Arc<Repository>), Error>
    where
        F: AsyncFn(&Repository) -> Result<T, Error>,
    {
        let mut asked = self;
        loop {
            let error = match ask(asked).await {
                Ok(answer) => return Ok((answer, asked.clone())),
                Err(error) => error,
            };
            let Some(next) = asked.after(&error) else { return Err(error) };
            tracing::debug!(%error, endpoint = %asked.endpoint.origin, "trying the next endpoint");
            asked = next;
        }
    }

    /// The classes of the addresses the registry was reached at.
    fn classes(&self) -> Classes {
        Classes::from_bits(self.classes.load(Ordering::Relaxed))
    }

    /// The address of `<path>/<rest>` below the endpoint's root; of the root when there is no path.
    pub(crate) fn url(&self, rest: &str) -> Url {
        let Endpoint { origin, root, namespace, .. } = &self.endpoint;
        let mut target = match self.path.as_str() {
            "" => format!("{root}/"),
            path => format!("{root}/{path}/{rest}"),
        };
        if let Some(namespace) = namespace {
            let separator = if target.contains('?') { '&' } else { '?' };
            target = format!("{target}{separator}ns={}", encode_query(namespace));
        }
        Url { origin: origin.clone(), target }
    }

    /// Gets `<path>/<rest>`, retrying what may pass. `on_retry` hears of each wait.
    pub(crate) async fn get(
        &self,
        rest: &str,
        headers: &[(HeaderName, HeaderValue)],
        on_retry: &(dyn Fn(Duration) + Sync),
    ) -> Result<Answer, Error> {
        self.send("GET", rest, headers, &Payload::empty(), on_retry).await
    }

    /// Gets `<path>/<rest>` once, on a connection that no other lane has.
    pub(crate) async fn get_on(
        &self,
        lane: u8,
        rest: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<Answer, Error> {
        let (url, payload) = (self.url(rest), Payload::empty());
        self.ask(Ask { method: "GET", url, rest, headers, payload, scopes: &[], lane }).await
    }

    /// Sends a request that may be sent again, retrying what may pass.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        rest: &str,
        headers: &[(HeaderName, HeaderValue)],
        payload: &Payload,
        on_retry: &(dyn Fn(Duration) + Sync),
    ) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            let payload = payload.again().unwrap_or(Payload::empty());
            let ask = Ask { method, url: self.url(rest), rest, headers, payload, scopes: &[], lane: 0 };
            let error = match self.ask(ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let limits = &self.transport.config.limits;
            if !error.is_transient() || attempt >= limits.attempts {
                return Err(error);
            }
            let wait = self.wait_before(attempt, &error);
            tracing::debug!(%error, ?wait, "asking the registry again");
            on_retry(wait);
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    /// How long to wait before the try after `attempt`.
    pub(crate) fn wait_before(&self, attempt: u32, error: &Error) -> Duration {
        let limits = &self.transport.config.limits;
        let doubled = limits.backoff.saturating_mul(1 << (attempt - 1).min(16));
        error.retry_after().unwrap_or(doubled).min(limits.backoff_max)
    }

    /// Sends a request once, or twice when the registry wants to know who asks.
    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, Error> {
        let Ask { method, url, rest, headers, payload, scopes, lane } = ask;
        let mut again = payload.again();
        let mut payload = Some(payload);
        let mut answered = false;
        loop {
            let (authorization, generation) = self.authorization(scopes).await;
            let Some(body) = payload.take() else {
                let why = "the registry asked for credentials in the middle of an upload".to_owned();
                return Err(broken(method, &url, why));
            };
            let header = authorization.as_ref().map(|a| &a.header);
            let answer = self.follow(method, &url, headers, body, header, lane).await?;
            let status = answer.response.status();
            if status.is_success() {
                return Ok(answer);
            }
            let ours = answer.url.origin == self.endpoint.origin;
            if status == StatusCode::UNAUTHORIZED && ours && !answered {
                answered = true;
                if self.answer_challenge(method, &answer, generation, scopes).await? {
                    payload = again.take();
                    continue;
                }
            }
            let bearer = authorization.is_some_and(|a| a.is_bearer());
            return Err(self.error_of(method, answer, rest, bearer).await);
        }
    }

    /// What to send along. A token that lacks one of `scopes` is not used.
    async fn authorization(&self, scopes: &[String]) -> (Option<Authorization>, u64) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(Authorization::is_bearer)
            && self.credentials.as_ref().is_none_or(|c| c.registry_token.is_empty())
            && !scopes.iter().all(|scope| state.extra.contains(scope))
        {
            state.current = None;
        }
        if state.current.as_ref().is_some_and(|a| a.expires.is_some_and(|at| at <= Instant::now())) {
            state.current = None;
        }
        (state.current.clone(), state.generation)
    }

    /// Answers the challenge of a 401; false when there is nothing to answer with.
    async fn answer_challenge(
        &self,
        method: &'static str,
        answer: &Answer,
        generation: u64,
        scopes: &[String],
    ) -> Result<bool, Error> {
        let mut state = self.state.lock().await;
        let lacks = |state: &AuthState| scopes.iter().any(|scope| !state.extra.contains(scope));
        if state.generation != generation && !lacks(&state) {
            // A parallel request has answered meanwhile.
            return Ok(true);
        }
        let challenges = auth::challenges(answer.response.headers());
        if lacks(&state) {
            state.extra.extend(scopes.iter().cloned());
            let excess = state.extra.len().saturating_sub(EXTRA_SCOPES_MAX);
            state.extra.drain(..excess);
        }
        let extra = state.extra.clone();
        let authorization = self.authorize(&challenges, &extra, false).await?;
        let Some(authorization) = authorization else {
            if challenges.iter().any(|c| c.scheme == "basic") {
                let url = answer.url.to_string();
                let message = "no basic auth credentials".to_owned();
                return Err(Error::Unauthorized { method: go_method(method), url, message });
            }
            return Ok(false);
        };
        state.current = Some(authorization);
        state.generation += 1;
        Ok(true)
    }

    /// Turns challenges into an authorisation for this repository and the scopes besides its own.
    pub(crate) async fn authorize(
        &self,
        challenges: &[auth::Challenge],
        extra: &[String],
        offline: bool,
    ) -> Result<Option<Authorization>, Error> {
        let actions = match self.purpose {
            Purpose::Resolve | Purpose::Pull => "pull",
            Purpose::Push => "pull,push",
        };
        let mut scopes = Vec::new();
        if !self.path.is_empty() {
            scopes.push(format!("repository:{}:{actions}", self.path));
            scopes.extend_from_slice(extra);
        }
        let request = TokenRequest {
            registry: &self.endpoint.origin,
            site: &self.endpoint.site,
            referred: &self.referred,
            registry_classes: self.classes(),
            scopes: &scopes,
            credentials: self.credentials.as_ref(),
            offline,
        };
        auth::answer(&self.transport, challenges, &request).await
    }

    /// Sends one request and follows its redirects: of a reading method, and of a writing one when the
    /// redirect keeps the method and the payload can be sent again. The authorisation, the headers of the
    /// endpoint and its way to connect stay with the endpoint's origin.
    pub(crate) async fn follow(
        &self,
        method: &'static str,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        payload: Payload,
        authorization: Option<&HeaderValue>,
        lane: u8,
    ) -> Result<Answer, Error> {
        let reads = matches!(method, "GET" | "HEAD");
        let mut url = url.clone();
        let mut payload = Some(payload);
        for _ in 0..=REDIRECTS_MAX {
            let own = url.origin == self.endpoint.origin;
            let mut headers = headers.to_vec();
            let mut via = Via { lane, site: self.referred.clone() };
            if own {
                headers.extend(authorization.map(|value| (header::AUTHORIZATION, value.clone())));
                // What a request says itself comes before what is said for all.
                let set: Vec<HeaderName> = headers.iter().map(|(name, _)| name.clone()).collect();
                headers.extend(self.endpoint.headers.iter().filter(|(name, _)| !set.contains(name)).cloned());
                via.site = self.endpoint.site.clone();
            }
            let reach = if own { Reach::Registry(&self.classes) } else { Reach::Referred(self.classes()) };
            let body = payload.take().unwrap_or(Payload::empty());
            let again = body.again();
            let response = self.transport.send(method, &url, reach, &via, &headers, body).await?;
            let redirects = match response.status().as_u16() {
                307 | 308 => reads || again.is_some(),
                301..=303 => reads,
                _ => false,
            };
            if !redirects {
                return Ok(Answer { response, url });
            }
            payload = again;
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
            let refused = |why| {
                let target = location.chars().take(200).collect();
                Error::Refused { what: "redirect", target, why }
            };
            let next = url.join(location).ok_or_else(|| refused("it is not an http or https address"))?;
            if self.endpoint.origin.https && !next.origin.https {
                return Err(refused("it has no TLS although the registry does"));
            }
            url = next;
        }
        Err(Error::Refused { what: "redirect", target: url.to_string(), why: "there were ten redirects before it" })
    }

    /// The error an unsuccessful answer stands for.
    pub(crate) async fn error_of(&self, method: &'static str, answer: Answer, rest: &str, bearer: bool) -> Error {
        let status = answer.response.status();
        let retry_after = answer
            .response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let bytes = self.transport.read_capped(answer.response, ERROR_MAX, method, &answer.url).await;
        let document: Option<ErrorDocument> = bytes.ok().and_then(|b| serde_json::from_slice(&b).ok());
        let entry = document.and_then(|d| d.errors.into_iter().next());
        let code = entry.as_ref().map(|e| e.code.as_str()).unwrap_or_default();
        let words = entry.as_ref().map(|e| {
            let code = if e.code.is_empty() { "unknown".to_owned() } else { e.code.replace('_', " ") };
            format!("{}: {}", printable(&code.to_lowercase()), printable(&e.message))
        });
        let denied = || "denied: requested access to the resource is denied".to_owned();
        let name = self.familiar_name.clone();
        let reads = matches!(method, "GET" | "HEAD");
        match (status.as_u16(), code) {
            (429, _) | (_, "TOOMANYREQUESTS") => {
                let message = entry.map(|e| printable(&e.message)).unwrap_or_else(|| "too many requests".to_owned());
                Error::TooManyRequests { message, retry_after }
            }
            (_, "DENIED") | (403, _) => self.denied(words.unwrap_or_else(denied)),
            // With a valid token a registry says 401 when the token does not cover the repository.
            (401, _) if bearer => self.denied(denied()),
            (401, _) => {
                let message = words.unwrap_or_else(|| "unauthorized: authentication required".to_owned());
                Error::Unauthorized { method: go_method(method), url: answer.url.to_string(), message }
            }
            (404, "NAME_UNKNOWN") => Error::NameUnknown { name, cause: words.unwrap_or_default() },
            (404, _) if reads && rest.starts_with("manifests/") => Error::ManifestUnknown {
                reference: self.familiar.clone(),
                cause: words.unwrap_or_else(|| "manifest unknown: manifest unknown".to_owned()),
            },
            (status, code) => Error::Status {
                url: answer.url.to_string(),
                status,
                code: printable(code),
                message: words.map(|w| format!(": {w}")).unwrap_or_default(),
                retry_after,
            },
        }
    }
}

impl Repository {
    fn denied(&self, cause: String) -> Error {
        let name = self.familiar_name.clone();
        match self.purpose {
            Purpose::Resolve | Purpose::Pull => Error::Denied { name, cause },
            Purpose::Push => Error::PushDenied { name, cause },
        }
    }
}

/// A registry's words, safe to print.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
