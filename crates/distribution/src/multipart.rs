//! Several ranges in one answer: `multipart/byteranges` (RFC 9110, section 14.6).

use crate::ranges::ContentRange;
use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, header};

/// Longest head of a part.
const HEAD_MAX: usize = 4 << 10;
/// Longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_MAX: usize = 70;

/// What comes next in such a body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A part begins.
    Part(ContentRange),
    /// Bytes of it.
    Data(Bytes),
    /// There are no more parts.
    End,
}

/// A body that is being taken apart.
#[derive(Debug)]
pub(crate) struct Multipart {
    /// `--` and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    /// Bytes that are left of a part.
    left: u64,
}

impl Multipart {
    /// Of an answer with these headers; nothing when it is not one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Multipart> {
        let (kind, parameters) = headers.get(header::CONTENT_TYPE)?.to_str().ok()?.split_once(';')?;
        if !kind.trim().eq_ignore_ascii_case("multipart/byteranges") {
            return None;
        }
        let boundary = parameters.split(';').find_map(|parameter| {
            let (name, value) = parameter.split_once('=')?;
            name.trim().eq_ignore_ascii_case("boundary").then(|| value.trim().trim_matches('"'))
        })?;
        let fits = (1..=BOUNDARY_MAX).contains(&boundary.len());
        let delimiter = format!("--{boundary}").into_bytes();
        fits.then(|| Multipart { delimiter, buffer: BytesMut::new(), left: 0 })
    }

    /// Takes more of the body.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// What the bytes so far have next; nothing until there are more.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, &'static str> {
        if self.left > 0 {
            let here = usize::try_from(self.left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            self.left -= here as u64;
            return Ok((here > 0).then(|| Event::Data(self.buffer.split_to(here).freeze())));
        }
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        let delimiter = self.delimiter.len();
        if self.buffer.len() < delimiter + 2 {
            return Ok(None);
        }
        if !self.buffer.starts_with(&self.delimiter) {
            return Err("a part of its answer does not begin with the boundary");
        }
        if self.buffer[delimiter..].starts_with(b"--") {
            return Ok(Some(Event::End));
        }
        let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") else {
            let long = self.buffer.len() > HEAD_MAX;
            return if long { Err("the head of a part of its answer is too long") } else { Ok(None) };
        };
        let head = self.buffer.split_to(end + 4);
        let lines = std::str::from_utf8(&head).unwrap_or_default().lines();
        let range = lines.filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-range").then(|| ContentRange::parse(value.trim())).flatten()
        });
        let range = range.ok_or("a part of its answer does not say what it is")?;
        self.left = (range.last - range.first).checked_add(1).ok_or("a part of its answer is too long")?;
        Ok(Some(Event::Part(range)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(kind: &str) -> Option<Multipart> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        Multipart::of(&headers)
    }

    fn events(body: &[u8], piece: usize) -> Result<Vec<Event>, &'static str> {
        let mut multipart = of("multipart/byteranges; boundary=\"b0\"").unwrap();
        let mut events: Vec<Event> = Vec::new();
        for data in body.chunks(piece) {
            multipart.push(data);
            while let Some(event) = multipart.next()? {
                match (event, events.last_mut()) {
                    (Event::End, _) => return Ok(events),
                    (Event::Data(more), Some(Event::Data(data))) => *data = [&data[..], &more[..]].concat().into(),
                    (event, _) => events.push(event),
                }
            }
        }
        Err("no end")
    }

    #[test]
    fn parts_come_out_however_they_are_cut() {
        let body = b"\r\n--b0\r\nContent-Type: x/y\r\nContent-Range: bytes 2-6/20\r\n\r\n--b0\n\r\n--b0\r\n\
            content-range:bytes 9-9/*\r\n\r\n!\r\n--b0--\r\n";
        let range = |first, last, total| Event::Part(ContentRange { first, last, total });
        let data = |text: &'static str| Event::Data(Bytes::from_static(text.as_bytes()));
        let expected = vec![range(2, 6, Some(20)), data("--b0\n"), range(9, 9, None), data("!")];
        for piece in 1..body.len() {
            assert_eq!(events(body, piece).as_ref(), Ok(&expected), "{piece}");
        }
    }

    #[test]
    fn what_is_no_such_answer_is_an_error() {
        assert!(of("application/octet-stream").is_none() && of("multipart/byteranges").is_none());
        assert!(of(&format!("multipart/byteranges; boundary={}", "x".repeat(71))).is_none());
        let long = [b"--b0\r\nX: ".to_vec(), vec![b'x'; HEAD_MAX]].concat();
        for bad in [
            &b"--other\r\nContent-Range: bytes 2-6/20\r\n\r\nhello"[..],
            b"--b0\r\nContent-Type: x/y\r\n\r\nhello\r\n--b0--",
            b"--b0\r\nContent-Range: bytes 6-2/20\r\n\r\nhello\r\n--b0--",
            b"--b0\r\nContent-Range: bytes 0-4/20\r\n\r\nhello\r\n--b1--",
            b"--b0\r\nContent-Range: bytes 0-4/20\r\n\r\nhell",
            b"--b0\r\nContent-Range: bytes 0-18446744073709551615/*\r\n\r\nhello\r\n--b0--",
            &long,
        ] {
            assert!(events(bad, 7).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
