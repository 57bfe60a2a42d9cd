//! The API: from a request to its answer.
//!
//! Every request passes here once: who asks, what it names, whether it may change anything, and how its failure is
//! told. Handlers get names that are valid; what they do on the disk they do on the blocking pool.

mod blobs;
pub(crate) mod body;
mod lists;
mod manifests;
mod route;
mod uploads;

use std::io;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use types::Digest;

use self::body::Body;
use self::route::Route;
use crate::auth::{Auth, Need, Right};
use crate::config::Config;
use crate::error::{Code, Error, Result};
use crate::metrics::Metrics;
use crate::name::RepositoryName;
use crate::storage::Storage;
use crate::storage::uploads::Uploads;
use crate::upstream::{Source, Upstreams};

pub(crate) type Answer = Response<Body>;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What answers requests.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) config: Config,
    pub(crate) storage: Storage,
    pub(crate) uploads: Uploads,
    pub(crate) auth: Auth,
    pub(crate) metrics: Metrics,
    pub(crate) upstreams: Option<Upstreams>,
}

/// Runs what blocks.
///
/// # Errors
/// What `work` fails with; a panic of it is the server's fault.
pub(crate) async fn blocking<T: Send + 'static>(
    service: &Arc<Service>,
    work: impl FnOnce(&Service) -> Result<T> + Send + 'static,
) -> Result<T> {
    let service = Arc::clone(service);
    let done = tokio::task::spawn_blocking(move || work(&service)).await;
    done.map_err(|e| Error::io("finish")(io::Error::other(e)))?
}

impl Service {
    /// Answers one request.
    pub(crate) async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Answer {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let mut answer = match self.dispatch(request).await {
            Ok(answer) => answer,
            Err(error) => {
                match error.cause() {
                    Some(cause) => tracing::error!("{method} {path}: {cause}"),
                    None => tracing::debug!("{method} {path}: {} {error}", error.status()),
                }
                failure(&error, method == Method::HEAD)
            }
        };
        answer.headers_mut().insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
        self.metrics.answered(&method, answer.status());
        answer
    }

    async fn dispatch(self: &Arc<Self>, request: Request<Incoming>) -> Result<Answer> {
        if request.uri().path() == "/token" {
            return self.token(&request).await;
        }
        let route = Route::parse(request.uri().path());
        let need = match &route {
            Ok(Some(route)) => route.need(request.method()),
            Ok(None) | Err(_) => Need::Entry,
        };
        let visitor = self.auth.admit(request.headers(), need).await?;
        let route = route?;
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
        if changes && self.config.read_only {
            return Err(Error::new(
                Code::Unsupported,
                "this registry is read-only: push to another one, or have it started without --read-only",
            ));
        }
        let method = request.method().clone();
        if let (Some(Route::Uploads(name) | Route::Manifest(name, _)), "POST" | "PUT") = (&route, method.as_str())
            && self.source(name).is_some()
        {
            let text = format!("{} is a copy of another registry's repository: push there", name.as_str());
            return Err(Error::new(Code::Unsupported, text));
        }
        match (route, method.as_str()) {
            (Some(Route::Base), "GET" | "HEAD") => Ok(json(StatusCode::OK, "{}\n", &method)),
            (Some(Route::Catalog), "GET") => lists::catalog(self, visitor, request.uri().query()).await,
            (Some(Route::Tags(name)), "GET") => lists::tags(self, name, request.uri().query()).await,
            (Some(Route::Referrers(name, digest)), "GET") => {
                lists::referrers(self, name, digest, request.uri().query()).await
            }
            (Some(Route::Manifest(name, reference)), "GET" | "HEAD") => {
                manifests::get(self, name, reference, &request).await
            }
            (Some(Route::Manifest(name, reference)), "PUT") => manifests::put(self, name, reference, request).await,
            (Some(Route::Manifest(name, reference)), "DELETE") => manifests::delete(self, name, reference).await,
            (Some(Route::Blob(name, digest)), "GET" | "HEAD") => blobs::get(self, name, digest, &request).await,
            (Some(Route::Blob(name, digest)), "DELETE") => blobs::delete(self, name, digest).await,
            (Some(Route::Uploads(name)), "POST") => uploads::start(self, visitor, name, request).await,
            (Some(Route::Upload(name, id)), "GET" | "HEAD") => uploads::status(self, &name, &id),
            (Some(Route::Upload(name, id)), "PATCH") => uploads::patch(self, &name, &id, request).await,
            (Some(Route::Upload(name, id)), "PUT") => uploads::finish(self, &name, &id, request).await,
            (Some(Route::Upload(name, id)), "DELETE") => uploads::cancel(self, &name, &id).await,
            (Some(_), _) => Err(Error::new(Code::Unsupported, format!("{method} is not offered at this path"))),
            (None, _) => Err(Error::new(Code::Unsupported, "no endpoint of the distribution API has this path")
                .with_status(StatusCode::NOT_FOUND)),
        }
    }
}

impl Service {
    /// What a repository is a copy of, if it is one.
    fn source(&self, name: &RepositoryName) -> Option<Source> {
        self.upstreams.as_ref()?.source(name)
    }

    /// Docker's "Token Authentication Specification". Refresh tokens are not issued, and `POST` is refused so that
    /// clients ask by `GET`, as its "Token Authentication" has them do.
    async fn token(&self, request: &Request<Incoming>) -> Result<Answer> {
        if request.method() != Method::GET {
            return Err(Error::new(Code::Unsupported, "ask for tokens with GET"));
        }
        let query = request.uri().query();
        let scopes = route::queries(query, "scope");
        let token = self.auth.issue(request.headers(), route::query(query, "service").as_deref(), &scopes).await?;
        let token = token.ok_or_else(|| {
            Error::new(Code::Unsupported, "this registry issues no tokens").with_status(StatusCode::NOT_FOUND)
        })?;
        let mut answer = json(StatusCode::OK, token, request.method());
        answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(answer)
    }
}

impl Route {
    /// What a request of this method needs.
    fn need(&self, method: &Method) -> Need<'_> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let right = if *method == Method::DELETE { Right::Delete } else { Right::Push };
        match self {
            Self::Base | Self::Catalog => Need::Entry,
            Self::Tags(name) | Self::Manifest(name, _) | Self::Blob(name, _) | Self::Referrers(name, _) => {
                Need::Repository(name, if reads { Right::Pull } else { right })
            }
            // An upload is its pusher's, also to look at and to cancel.
            Self::Uploads(name) | Self::Upload(name, _) => Need::Repository(name, Right::Push),
        }
    }
}

/// The answer that tells of a failure.
fn failure(error: &Error, head: bool) -> Answer {
    let body = error.body();
    let length = body.len();
    let mut answer = Response::new(if head { Body::empty() } else { Body::whole(body) });
    *answer.status_mut() = error.status();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.extend(error.headers().clone());
    if error.code() == Code::TooManyRequests {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// An answer without a body.
fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    if status != StatusCode::NO_CONTENT {
        answer.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
    }
    answer
}

fn json(status: StatusCode, text: impl Into<bytes::Bytes>, method: &Method) -> Answer {
    document(status, "application/json", text.into(), method)
}

fn document(status: StatusCode, media_type: &str, bytes: bytes::Bytes, method: &Method) -> Answer {
    let length = bytes.len();
    let mut answer = Response::new(if method == Method::HEAD { Body::empty() } else { Body::whole(bytes) });
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // Stored media types were checked when they were pushed.
    let fallback = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(media_type).unwrap_or(fallback));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: &str) {
    // Texts made of validated names and numbers; one that were not would be left out, never sent.
    if let Ok(value) = HeaderValue::from_str(text) {
        headers.insert(name, value);
    }
}

fn set_digest(headers: &mut HeaderMap, digest: &Digest) {
    set(headers, CONTENT_DIGEST, &digest.to_string());
}

/// `If-None-Match` names the content (RFC 9110, 13.1.2).
fn is_unchanged(request: &Request<Incoming>, digest: &Digest) -> bool {
    let tag = etag(digest);
    let values = request.headers().get_all(header::IF_NONE_MATCH);
    values.iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(',')).any(|one| {
        let one = one.trim();
        one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
    })
}

fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

fn not_modified(digest: &Digest) -> Answer {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::NOT_MODIFIED;
    set_digest(answer.headers_mut(), digest);
    set(answer.headers_mut(), header::ETAG, &etag(digest));
    answer
}
