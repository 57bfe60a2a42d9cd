//! A reader over chunks pushed by somebody else, such as an asynchronous download.
//!
//! The source is any closure that waits for the next chunk: the receiving end of a bounded channel, so
//! that the sender is slowed to the disk's pace.

use std::io::{self, Read};

/// Reads chunks one after the other; `None` from the source is the end.
#[derive(Debug)]
pub struct ChunkReader<F, B> {
    next: F,
    chunk: Option<B>,
    at: usize,
    done: bool,
}

impl<F, B> ChunkReader<F, B>
where
    F: FnMut() -> Option<io::Result<B>>,
    B: AsRef<[u8]>,
{
    /// A reader of what `next` gives. A source that ends early must give an error, not `None`.
    pub fn new(next: F) -> Self {
        Self { next, chunk: None, at: 0, done: false }
    }
}

impl<B: AsRef<[u8]> + Send + 'static> ChunkReader<Box<dyn FnMut() -> Option<io::Result<B>> + Send>, B> {
    /// A reader of a channel's receiving end. The sender sends `Ok(None)` after the last chunk; a
    /// channel closed without it is an unexpected end.
    #[must_use]
    pub fn from_channel(receiver: std::sync::mpsc::Receiver<io::Result<Option<B>>>) -> Self {
        Self::new(Box::new(move || match receiver.recv() {
            Ok(Ok(Some(chunk))) => Some(Ok(chunk)),
            Ok(Ok(None)) => None,
            Ok(Err(e)) => Some(Err(e)),
            Err(_) => Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "unexpected EOF"))),
        }))
    }
}

impl<F, B> Read for ChunkReader<F, B>
where
    F: FnMut() -> Option<io::Result<B>>,
    B: AsRef<[u8]>,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(chunk) = &self.chunk {
                let rest = &chunk.as_ref()[self.at..];
                if !rest.is_empty() {
                    let take = rest.len().min(buffer.len());
                    buffer[..take].copy_from_slice(&rest[..take]);
                    self.at += take;
                    return Ok(take);
                }
                self.chunk = None;
            }
            if self.done {
                return Ok(0);
            }
            match (self.next)() {
                Some(chunk) => {
                    self.chunk = Some(chunk?);
                    self.at = 0;
                }
                None => self.done = true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn chunks_and_ends() {
        let (send, receive) = sync_channel(1);
        let sender = std::thread::spawn(move || {
            for chunk in [b"ab".to_vec(), Vec::new(), b"c".to_vec()] {
                send.send(Ok(Some(chunk))).unwrap();
            }
            send.send(Ok(None)).unwrap();
        });
        let mut reader = ChunkReader::from_channel(receive);
        assert_eq!(io::read_to_string(&mut reader).unwrap(), "abc");
        sender.join().unwrap();
        let (send, receive) = sync_channel(1);
        send.send(Ok(Some(b"a".to_vec()))).unwrap();
        drop(send);
        let error = io::read_to_string(ChunkReader::from_channel(receive)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
