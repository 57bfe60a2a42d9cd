//! One admitted request on its way to a route, and the small conversions every route needs.

use std::io;

use bytes::Bytes;
use docker_types::{ApiVersion, Versioned, parse_filters};
use engine::Engine;
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyStream;
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use serde::de::DeserializeOwned;
use types::{Filters, Platform};

use crate::body::{self, Response};
use crate::connection::Held;
use crate::hijack::Carrier;
use crate::json;
use crate::query::Query;
use crate::status::ApiError;

/// What a route returns.
pub(crate) type Answer = Result<Response, ApiError>;

/// One request that passed the gate.
pub(crate) struct Call {
    pub(crate) engine: Engine,
    pub(crate) method: Method,
    pub(crate) version: ApiVersion,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) upgrade: Option<OnUpgrade>,
    pub(crate) held: Held,
}

impl Call {
    /// The body as JSON; it must be there.
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        json::required(&self.headers, &mut self.body).await
    }

    /// The body as JSON, or `None` without one.
    pub(crate) async fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        json::optional(&self.headers, &mut self.body).await
    }

    /// Whether the client sends a body at all.
    pub(crate) fn has_body(&self) -> bool {
        !self.body.is_end_stream()
    }

    /// What is needed to hand the connection to a stream.
    pub(crate) fn into_carrier(self) -> Carrier {
        Carrier { upgrade: self.upgrade, body: self.body, held: self.held }
    }

    /// The `filters` parameter.
    pub(crate) fn filters(&self) -> Result<Filters, ApiError> {
        parse_filters(self.query.get("filters").unwrap_or_default()).map_err(|e| ApiError::invalid(e.to_string()))
    }

    /// A platform as text, `linux/arm64/v8`.
    pub(crate) fn platform(&self) -> Result<Option<Platform>, ApiError> {
        self.query
            .text("platform")
            .map(|text| text.parse::<Platform>().map_err(|e| ApiError::invalid(e.to_string())))
            .transpose()
    }

    /// Platforms as the JSON of OCI platforms, each in a parameter of its own. Versions before `1.minor`
    /// do not have the parameter, and it is passed over as any unknown one.
    pub(crate) fn json_platforms(&self, parameter: &str, minor: u16) -> Result<Vec<Platform>, ApiError> {
        if !self.version.at_least(minor) {
            return Ok(Vec::new());
        }
        self.query.all(parameter).filter(|text| !text.is_empty()).map(parse_platform).collect()
    }

    /// As [`Call::json_platforms`] where only one makes sense.
    pub(crate) fn json_platform(&self, minor: u16) -> Result<Option<Platform>, ApiError> {
        let mut given = self.json_platforms("platform", minor)?;
        if given.len() > 1 {
            return Err(ApiError::invalid("more than one platform is given: ask for each alone"));
        }
        Ok(given.pop())
    }

    /// `X-Registry-Auth`. Credentials that cannot be read are none, as in dockerd: many clients
    /// send the header with whatever they have.
    pub(crate) fn registry_auth(&self) -> Option<docker_types::auth::AuthConfig> {
        let header = self.headers.get("x-registry-auth")?.to_str().ok()?;
        docker_types::auth::decode_registry_auth(header).ok().flatten()
    }

    /// The `changes` parameters, one instruction each.
    pub(crate) fn changes(&self) -> Vec<String> {
        self.query.all("changes").flat_map(str::lines).filter(|l| !l.trim().is_empty()).map(str::to_owned).collect()
    }

    /// An answer whose form depends on the version asked for.
    pub(crate) fn versioned<T: Versioned>(&self, value: &T) -> Answer {
        versioned(self.version, value)
    }
}

fn parse_platform(text: &str) -> Result<Platform, ApiError> {
    #[derive(serde::Deserialize, Default)]
    #[serde(default)]
    struct OciPlatform {
        os: String,
        architecture: String,
        variant: String,
    }
    let p: OciPlatform =
        serde_json::from_str(text).map_err(|e| ApiError::invalid(format!("failed to parse platform: {e}")))?;
    if p.os.is_empty() || p.architecture.is_empty() {
        return Err(ApiError::invalid("both OS and Architecture must be provided"));
    }
    Ok(Platform::new(&p.os, &p.architecture, &p.variant))
}

/// The body of a request as a stream of bytes, as it arrives.
pub(crate) fn byte_stream(body: Incoming) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    BodyStream::new(body).filter_map(|frame| async move {
        match frame {
            Ok(frame) => frame.into_data().ok().map(Ok),
            Err(e) => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, e))),
        }
    })
}

/// The 200 answer whose form depends on the version asked for.
pub(crate) fn versioned<T: Versioned>(version: ApiVersion, value: &T) -> Answer {
    let mut bytes = value
        .at_version(version)
        .map_err(|e| ApiError::of(types::Kind::Internal, format!("cannot encode the answer: {e}")))?;
    bytes.push(b'\n');
    Ok(body::full(StatusCode::OK, "application/json", bytes))
}

/// 200 with a JSON document.
pub(crate) fn ok<T: serde::Serialize + ?Sized>(value: &T) -> Answer {
    Ok(body::json(StatusCode::OK, value))
}

/// 201 with a JSON document.
pub(crate) fn created<T: serde::Serialize + ?Sized>(value: &T) -> Answer {
    Ok(body::json(StatusCode::CREATED, value))
}

/// 204.
pub(crate) fn no_content() -> Answer {
    Ok(body::empty(StatusCode::NO_CONTENT))
}
