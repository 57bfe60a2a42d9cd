//! Reading ahead: a stage of the way in on a thread of its own.
//!
//! Inflating, digesting and unpacking a layer each take a good part of a core; with a thread per stage they
//! overlap. A fixed number of buffers goes round between the two threads, so memory stays bounded whatever
//! the archive.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

/// Bytes of one buffer.
const BUFFER: usize = 256 * 1024;
/// Buffers that go round.
const BUFFERS: usize = 4;

/// What the other thread has read.
#[derive(Debug)]
pub(crate) struct Ahead {
    full: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
    done: bool,
}

/// Reads `reader` to its end on a thread, which gives it back. An [`Ahead`] that is dropped early ends the
/// thread at the next buffer.
pub(crate) fn ahead<'scope, R: Read + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    mut reader: R,
) -> io::Result<(Ahead, ScopedJoinHandle<'scope, R>)> {
    let (fill, full) = sync_channel::<io::Result<Vec<u8>>>(BUFFERS);
    let (empty, emptied) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // Fits: the channel has as many places.
        let _ = empty.try_send(Vec::new());
    }
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, move || {
        while let Ok(mut buffer) = emptied.recv() {
            buffer.resize(BUFFER, 0);
            let read = fill_whole(&mut reader, &mut buffer);
            let end = !matches!(read, Ok(read) if read > 0);
            let sent = fill.send(read.map(|read| {
                buffer.truncate(read);
                buffer
            }));
            if end || sent.is_err() {
                break;
            }
        }
        reader
    })?;
    Ok((Ahead { full, empty, current: Vec::new(), at: 0, done: false }, thread))
}

/// Reads until the buffer is full or the end: few large buffers cost less than many small ones.
fn fill_whole(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

impl Read for Ahead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.at == self.current.len() && !self.done {
            let spent = std::mem::take(&mut self.current);
            // Nobody takes it when the other thread is at its end.
            let _ = self.empty.try_send(spent);
            self.at = 0;
            match self.full.recv() {
                Ok(Ok(buffer)) if buffer.is_empty() => self.done = true,
                Ok(Ok(buffer)) => self.current = buffer,
                Ok(Err(error)) => {
                    self.done = true;
                    return Err(error);
                }
                // The thread panicked: the end that it did not announce must not pass for one.
                Err(_) => {
                    self.done = true;
                    return Err(io::Error::other("a stage of unpacking ended early"));
                }
            }
        }
        let rest = &self.current[self.at..];
        let take = rest.len().min(out.len());
        out[..take].copy_from_slice(&rest[..take]);
        self.at += take;
        Ok(take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_ahead_is_what_is_there() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n * 7 % 251) as u8).collect();
        std::thread::scope(|scope| {
            let (mut reader, thread) = ahead(scope, "test", &bytes[..]).unwrap();
            let mut out = Vec::new();
            reader.read_to_end(&mut out).unwrap();
            assert!(out == bytes);
            assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the end stays the end");
            assert!(thread.join().unwrap().is_empty(), "the reader comes back");
        });
    }

    #[test]
    fn errors_pass_and_an_early_end_stops_the_thread() {
        struct Failing(usize);
        impl Read for Failing {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.0 += 1;
                if self.0 > 10 { Err(io::Error::other("broken")) } else { Ok(buffer.len()) }
            }
        }
        std::thread::scope(|scope| {
            let (mut reader, _) = ahead(scope, "test", Failing(0)).unwrap();
            let error = io::copy(&mut reader, &mut io::sink()).unwrap_err();
            assert_eq!(error.to_string(), "broken");
        });
        std::thread::scope(|scope| {
            let (reader, thread) = ahead(scope, "test", io::repeat(1)).unwrap();
            drop(reader);
            thread.join().unwrap();
        });
    }
}
