//! Response bodies: whole JSON documents, byte streams, and streams of JSON messages.
//!
//! Every answer of the API is built here, so that framing is decided in one place: whole documents
//! have a length and end in a newline as dockerd's do; streams are chunked, and hyper flushes what
//! it has whenever the stream is pending, which is what makes each message reach the client at once.

use std::convert::Infallible;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::{HeaderValue, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

/// The body of every response.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The response of every request.
pub type Response = http::Response<Body>;

/// The bytes between two messages of a JSON stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    /// `\n` after each message: statistics, events as JSON lines.
    Newline,
    /// `\r\n` after each message, as the progress streams of dockerd.
    CrLf,
    /// RFC 7464: record separator before, newline after each message.
    JsonSeq,
}

fn never(e: Infallible) -> io::Error {
    match e {}
}

/// A response without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Empty::new().map_err(never).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A response whose body is known whole.
pub(crate) fn full(status: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Full::new(bytes.into()).map_err(never).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A JSON document with dockerd's trailing newline.
pub(crate) fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response {
    let mut bytes = Vec::with_capacity(512);
    if let Err(e) = serde_json::to_writer(&mut bytes, value) {
        tracing::error!("cannot encode a response of type {}: {e}", std::any::type_name::<T>());
        let text = br#"{"message":"the engine could not encode its answer; see the daemon's log"}"#;
        return full(StatusCode::INTERNAL_SERVER_ERROR, "application/json", &text[..]);
    }
    bytes.push(b'\n');
    full(status, "application/json", bytes)
}

/// A chunked response of raw bytes. An error of the stream breaks the connection off, which is the
/// only way HTTP/1.1 has to say that a body is not complete.
pub(crate) fn stream<S>(status: StatusCode, content_type: &'static str, stream: S) -> Response
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let frames = stream.map(|item| item.map(Frame::data));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// One message of a JSON stream with its separator.
pub(crate) fn message<T: Serialize + ?Sized>(value: &T, separator: Separator) -> io::Result<Bytes> {
    let mut writer = BytesMut::with_capacity(256).writer();
    if separator == Separator::JsonSeq {
        writer.get_mut().put_u8(0x1e);
    }
    serde_json::to_writer(&mut writer, value).map_err(io::Error::other)?;
    writer.get_mut().put_slice(match separator {
        Separator::CrLf => b"\r\n",
        Separator::Newline | Separator::JsonSeq => b"\n",
    });
    Ok(writer.into_inner().freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separators() {
        let value = serde_json::json!({"a": 1});
        assert_eq!(&message(&value, Separator::Newline).unwrap()[..], b"{\"a\":1}\n");
        assert_eq!(&message(&value, Separator::CrLf).unwrap()[..], b"{\"a\":1}\r\n");
        assert_eq!(&message(&value, Separator::JsonSeq).unwrap()[..], b"\x1e{\"a\":1}\n");
    }
}
