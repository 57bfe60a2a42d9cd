//! One repository at one registry: authorised GETs with redirects and retries. Everything a
//! registry may answer to a GET is turned into a success or an [`Error`] here.

use crate::address::Classes;
use crate::auth::{self, Authorization, Credentials, TokenRequest};
use crate::error::Error;
use crate::origin::{Origin, Url};
use crate::transport::{Reach, Transport};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use hyper::body::Incoming;
use serde::Deserialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// Redirects followed for one request.
const REDIRECTS_MAX: usize = 10;
/// Longest error document read.
const ERROR_MAX: u64 = 64 * 1024;

/// A repository to pull from.
pub(crate) struct Repository {
    pub(crate) transport: Arc<Transport>,
    pub(crate) origin: Origin,
    /// Repository path below `/v2/`; empty to ask for the base only.
    pub(crate) path: String,
    /// As people write them, for messages.
    pub(crate) familiar_name: String,
    pub(crate) familiar: String,
    credentials: Option<Credentials>,
    classes: AtomicU8,
    state: Mutex<AuthState>,
}

#[derive(Default)]
struct AuthState {
    current: Option<Authorization>,
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
        origin: Origin,
        path: &str,
        familiar_name: String,
        familiar: String,
        credentials: Option<Credentials>,
    ) -> Repository {
        let current = auth::brought_token(credentials.as_ref());
        Repository {
            transport,
            origin,
            path: path.to_owned(),
            familiar_name,
            familiar,
            credentials,
            classes: AtomicU8::new(0),
            state: Mutex::new(AuthState { current, generation: 0 }),
        }
    }

    /// The classes of the addresses the registry was reached at.
    fn classes(&self) -> Classes {
        Classes::from_bits(self.classes.load(Ordering::Relaxed))
    }

    /// Gets `/v2/<path>/<rest>`, retrying what may pass. `on_retry` hears of each wait.
    pub(crate) async fn get(
        &self,
        rest: &str,
        headers: &[(HeaderName, HeaderValue)],
        on_retry: &(dyn Fn(Duration) + Sync),
    ) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.get_once(rest, headers).await {
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

    async fn get_once(&self, rest: &str, headers: &[(HeaderName, HeaderValue)]) -> Result<Answer, Error> {
        let target = match self.path.as_str() {
            "" => "/v2/".to_owned(),
            path => format!("/v2/{path}/{rest}"),
        };
        let url = Url { origin: self.origin.clone(), target };
        let mut answered = false;
        loop {
            let (authorization, generation) = self.authorization().await;
            let answer = self.follow(&url, headers, authorization.as_ref().map(|a| &a.header)).await?;
            let status = answer.response.status();
            if status.is_success() {
                return Ok(answer);
            }
            let ours = answer.url.origin == self.origin;
            if status == StatusCode::UNAUTHORIZED && ours && !answered {
                answered = true;
                if self.answer_challenge(&answer, generation).await? {
                    continue;
                }
            }
            let bearer = authorization.is_some_and(|a| a.is_bearer());
            return Err(self.error_of(answer, rest, bearer).await);
        }
    }

    async fn authorization(&self) -> (Option<Authorization>, u64) {
        let mut state = self.state.lock().await;
        if state.current.as_ref().is_some_and(|a| a.expires.is_some_and(|at| at <= Instant::now())) {
            state.current = None;
        }
        (state.current.clone(), state.generation)
    }

    /// Answers the challenge of a 401; false when there is nothing to answer with.
    async fn answer_challenge(&self, answer: &Answer, generation: u64) -> Result<bool, Error> {
        let mut state = self.state.lock().await;
        if state.generation != generation {
            // A parallel request has answered meanwhile.
            return Ok(true);
        }
        let challenges = auth::challenges(answer.response.headers());
        let authorization = self.authorize(&challenges, false).await?;
        let Some(authorization) = authorization else {
            if challenges.iter().any(|c| c.scheme == "basic") {
                let url = answer.url.to_string();
                let message = "no basic auth credentials".to_owned();
                return Err(Error::Unauthorized { method: "Get", url, message });
            }
            return Ok(false);
        };
        state.current = Some(authorization);
        state.generation += 1;
        Ok(true)
    }

    /// Turns challenges into an authorisation for this repository.
    pub(crate) async fn authorize(
        &self,
        challenges: &[auth::Challenge],
        offline: bool,
    ) -> Result<Option<Authorization>, Error> {
        let scope = format!("repository:{}:pull", self.path);
        let request = TokenRequest {
            registry: &self.origin,
            registry_classes: self.classes(),
            scope: (!self.path.is_empty()).then_some(scope.as_str()),
            credentials: self.credentials.as_ref(),
            offline,
        };
        auth::answer(&self.transport, challenges, &request).await
    }

    /// Sends one GET and follows its redirects. The authorisation stays with the registry's origin.
    pub(crate) async fn follow(
        &self,
        url: &Url,
        headers: &[(HeaderName, HeaderValue)],
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, Error> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let own = url.origin == self.origin;
            let mut headers = headers.to_vec();
            if let Some(value) = authorization.filter(|_| own) {
                headers.push((header::AUTHORIZATION, value.clone()));
            }
            let reach = if own { Reach::Registry(&self.classes) } else { Reach::Referred(self.classes()) };
            let response = self.transport.send("GET", &url, reach, &headers, Bytes::new()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Answer { response, url });
            }
            let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).unwrap_or_default();
            let refused = |why| {
                let target = location.chars().take(200).collect();
                Error::Refused { what: "redirect", target, why }
            };
            let next = url.join(location).ok_or_else(|| refused("it is not an http or https address"))?;
            if self.origin.https && !next.origin.https {
                return Err(refused("it has no TLS although the registry does"));
            }
            url = next;
        }
        Err(Error::Refused { what: "redirect", target: url.to_string(), why: "there were ten redirects before it" })
    }

    /// The error an unsuccessful answer stands for.
    pub(crate) async fn error_of(&self, answer: Answer, rest: &str, bearer: bool) -> Error {
        let status = answer.response.status();
        let retry_after = answer
            .response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.trim().parse().ok())
            .map(Duration::from_secs);
        let bytes = self.transport.read_capped(answer.response, ERROR_MAX, "GET", &answer.url).await;
        let document: Option<ErrorDocument> = bytes.ok().and_then(|b| serde_json::from_slice(&b).ok());
        let entry = document.and_then(|d| d.errors.into_iter().next());
        let code = entry.as_ref().map(|e| e.code.as_str()).unwrap_or_default();
        let words = entry.as_ref().map(|e| {
            let code = if e.code.is_empty() { "unknown".to_owned() } else { e.code.replace('_', " ") };
            format!("{}: {}", printable(&code.to_lowercase()), printable(&e.message))
        });
        let denied = || "denied: requested access to the resource is denied".to_owned();
        let name = self.familiar_name.clone();
        match (status.as_u16(), code) {
            (429, _) | (_, "TOOMANYREQUESTS") => {
                let message = entry.map(|e| printable(&e.message)).unwrap_or_else(|| "too many requests".to_owned());
                Error::TooManyRequests { message, retry_after }
            }
            (_, "DENIED") | (403, _) => Error::Denied { name, cause: words.unwrap_or_else(denied) },
            // With a valid token a registry says 401 when the token does not cover the repository.
            (401, _) if bearer => Error::Denied { name, cause: denied() },
            (401, _) => {
                let message = words.unwrap_or_else(|| "unauthorized: authentication required".to_owned());
                Error::Unauthorized { method: "Get", url: answer.url.to_string(), message }
            }
            (404, "NAME_UNKNOWN") => Error::NameUnknown { name, cause: words.unwrap_or_default() },
            (404, _) if rest.starts_with("manifests/") => Error::ManifestUnknown {
                reference: self.familiar.clone(),
                cause: words.unwrap_or_else(|| "manifest unknown: manifest unknown".to_owned()),
            },
            (status, _) => Error::Status {
                url: answer.url.to_string(),
                status,
                message: words.map(|w| format!(": {w}")).unwrap_or_default(),
                retry_after,
            },
        }
    }
}

/// A registry's words, safe to print.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
