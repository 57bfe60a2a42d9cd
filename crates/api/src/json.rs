//! Request bodies as JSON: content type, size limit, and Docker's wording of what is wrong.
//!
//! A body is read whole, once, under a limit and a deadline, and parsed into the type the engine
//! acts on; no other parse of the same bytes exists, so nothing can be checked in one shape and
//! executed in another.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::query::quoted;
use crate::status::ApiError;

/// Largest JSON body: a create request with thousands of mounts has a few hundred KiB.
pub(crate) const MAX_JSON: usize = 4 << 20;

/// Longest time a client may take to send a JSON body.
const BODY_DEADLINE: Duration = Duration::from_secs(60);

/// A body that must be there.
pub(crate) async fn required<T, B>(headers: &HeaderMap, body: B) -> Result<T, ApiError>
where
    T: DeserializeOwned,
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match optional(headers, body).await? {
        Some(value) => Ok(value),
        None => Err(ApiError::invalid("invalid JSON: got EOF while reading request body")),
    }
}

/// A body that may be absent or empty.
pub(crate) async fn optional<T, B>(headers: &HeaderMap, body: B) -> Result<Option<T>, ApiError>
where
    T: DeserializeOwned,
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = read(headers, body).await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    check_content_type(headers)?;
    // `null` stands for no body: docker's client encodes an absent configuration that way.
    parse(&bytes)
}

/// A body of JSON as it came, for what is to be passed on unchanged.
pub(crate) async fn read<B>(headers: &HeaderMap, body: B) -> Result<Bytes, ApiError>
where
    B: hyper::body::Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        let text = format!("the request body is larger than {MAX_JSON} bytes: no valid JSON request is that large");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text)
    };
    // A declared length is refused before a byte of it is read.
    if body.size_hint().lower() > MAX_JSON as u64 {
        return Err(too_large());
    }
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING).filter(|v| v.as_bytes() != b"identity") {
        let text = format!(
            "unsupported Content-Encoding {}: send the body uncompressed",
            quoted(&String::from_utf8_lossy(encoding.as_bytes()))
        );
        return Err(ApiError::invalid(text));
    }
    let collected = tokio::time::timeout(BODY_DEADLINE, Limited::new(body, MAX_JSON).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(e)) if e.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(e)) => Err(ApiError::invalid(format!("cannot read the request body: {e}"))),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive within 60 seconds")),
    }
}

/// Only the media type counts; parameters (`charset`) are ignored, as in dockerd.
fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
        return Err(ApiError::invalid("malformed Content-Type header (): mime: no media type"));
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    let media = text.split(';').next().unwrap_or_default().trim();
    if media.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let media: String = media.chars().take(128).collect();
    Err(ApiError::invalid(format!("unsupported Content-Type header ({media}): must be 'application/json'")))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // serde reads an array as a struct's fields in order; no request of this API is an array.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(ApiError::invalid("invalid JSON: an object is expected, not an array"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut reader).map_err(|e| {
        if e.is_eof() {
            return ApiError::invalid("invalid JSON: unexpected EOF");
        }
        let text: String = e.to_string().chars().take(512).collect();
        ApiError::invalid(format!("invalid JSON: {text}"))
    })?;
    reader.end().map_err(|_| ApiError::invalid("unexpected content after JSON"))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "PascalCase")]
    struct Sample {
        #[serde(default)]
        image: String,
    }

    fn headers(content_type: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(value) = content_type {
            headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        }
        headers
    }

    async fn read_as(content_type: Option<&'static str>, body: &'static str) -> Result<Sample, ApiError> {
        required::<Sample, _>(&headers(content_type), Full::new(Bytes::from_static(body.as_bytes()))).await
    }

    const JSON: Option<&str> = Some("application/json; charset=utf-8");

    #[tokio::test]
    async fn wording_is_dockers() {
        assert_eq!(read_as(JSON, r#"{"Image":"x","Later":[1]} "#).await.unwrap().image, "x");
        let cases = [
            (JSON, "", "invalid JSON: got EOF while reading request body"),
            (None, "", "invalid JSON: got EOF while reading request body"),
            (JSON, "{", "invalid JSON: unexpected EOF"),
            (JSON, "{}x", "unexpected content after JSON"),
            (JSON, "{}{}", "unexpected content after JSON"),
            (Some("text/plain"), "{}", "unsupported Content-Type header (text/plain): must be 'application/json'"),
            (None, "{}", "malformed Content-Type header (): mime: no media type"),
        ];
        for (content_type, body, message) in cases {
            let e = read_as(content_type, body).await.unwrap_err();
            assert_eq!((e.status().as_u16(), e.message()), (400, message), "{body}");
        }
        for body in [r#"{"Image":1}"#, "[]", " [1]", r#"{"Image":"a","Image":"b"}"#, "\u{1}"] {
            assert_eq!(
                read_as(JSON, Box::leak(body.to_owned().into_boxed_str())).await.unwrap_err().status(),
                400,
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn depth_and_size_are_bounded() {
        let deep = format!("{{\"Other\":{}", "[".repeat(100_000));
        let e = required::<Sample, _>(&headers(JSON), Full::new(Bytes::from(deep))).await.unwrap_err();
        assert_eq!(e.status(), 400);
        let large = vec![b' '; MAX_JSON + 1];
        let e = required::<Sample, _>(&headers(JSON), Full::new(Bytes::from(large))).await.unwrap_err();
        assert_eq!(e.status(), 413);
        let mut fitting = vec![b' '; MAX_JSON - 2];
        fitting.extend_from_slice(b"{}");
        assert!(required::<Sample, _>(&headers(JSON), Full::new(Bytes::from(fitting))).await.is_ok());
    }

    #[tokio::test]
    async fn compressed_bodies_are_refused() {
        let mut headers = headers(JSON);
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        let e = required::<Sample, _>(&headers, Full::new(Bytes::from_static(b"{}"))).await.unwrap_err();
        assert_eq!(e.status(), 400);
    }
}
