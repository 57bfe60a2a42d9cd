//! Processes started in running containers.

use docker_types::exec::{ExecCreateBody, ExecStartBody};
use engine::ExecStartOptions;
use http::StatusCode;

use super::containers::stream_type;
use crate::body;
use crate::call::{Answer, Call, created, ok};
use crate::detach::{DetachKeys, Detector};
use crate::hijack::{self, RAW_STREAM};
use crate::status::ApiError;

pub(crate) async fn create(mut call: Call, id: &str) -> Answer {
    let body: Option<ExecCreateBody> = call.optional_json().await?;
    let body = body.unwrap_or_default();
    if body.cmd.as_ref().is_none_or(|cmd| cmd.is_empty()) {
        return Err(ApiError::invalid("No exec command specified"));
    }
    DetachKeys::parse(Some(&body.detach_keys))?;
    created(&call.engine.exec_create(id, body).await?)
}

/// Rows and columns of a `ConsoleSize`; both zero means that none is given.
fn console_size(given: Option<&[u64]>) -> Result<Option<(u16, u16)>, ApiError> {
    match given {
        None | Some([]) | Some([0, 0]) => Ok(None),
        Some([height, width]) => match (u16::try_from(*height), u16::try_from(*width)) {
            (Ok(height), Ok(width)) => Ok(Some((height, width))),
            _ => Err(ApiError::invalid("invalid ConsoleSize: rows and columns must be below 65536")),
        },
        Some(_) => Err(ApiError::invalid("invalid ConsoleSize: two numbers are needed, rows and columns")),
    }
}

pub(crate) async fn start(mut call: Call, id: &str) -> Answer {
    let body: ExecStartBody = call.optional_json().await?.unwrap_or_default();
    let known = call.engine.exec_inspect(id).await?;
    let options = ExecStartOptions {
        detach: body.detach,
        tty: body.tty,
        console_size: console_size(body.console_size.as_deref())?,
        detach_keys: Some(known.detach_keys.clone()).filter(|k| !k.is_empty()),
    };
    let Some(attached) = call.engine.exec_start(id, options).await? else {
        return Ok(body::empty(StatusCode::OK));
    };
    let content_type = if call.upgrade.is_some() { stream_type(attached.tty, call.version) } else { RAW_STREAM };
    let detector = if attached.tty && known.open_stdin {
        Some(Detector::new(DetachKeys::parse(Some(&known.detach_keys))?))
    } else {
        None
    };
    Ok(hijack::carry(call.into_carrier(), attached.stream, content_type, detector).await)
}

pub(crate) async fn resize(call: Call, id: &str) -> Answer {
    let (height, width) = (call.query.cells("h", "height")?, call.query.cells("w", "width")?);
    call.engine.exec_resize(id, height, width).await?;
    Ok(body::empty(StatusCode::OK))
}

pub(crate) async fn inspect(call: Call, id: &str) -> Answer {
    ok(&call.engine.exec_inspect(id).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_sizes() {
        assert_eq!(console_size(None).unwrap(), None);
        assert_eq!(console_size(Some(&[0, 0])).unwrap(), None);
        assert_eq!(console_size(Some(&[24, 80])).unwrap(), Some((24, 80)));
        assert!(console_size(Some(&[1])).is_err());
        assert!(console_size(Some(&[1, 70_000])).is_err());
    }
}
