//! The decoder over a `std::io::Read`.
//!
//! Data is lent out of the reader's own buffer, so that a file is written from where it was inflated.

use std::io::{self, Read};

use super::{Decoder, Entry, Error, Limits, Step};

const BUFFER: usize = 128 * 1024;

/// Reads members one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    decoder: Decoder,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Bytes of the archive that came before the buffer.
    before: u64,
    in_entry: bool,
    done: bool,
}

impl<R: Read> Reader<R> {
    /// A reader of the archive in `inner`, which must be uncompressed.
    pub fn new(inner: R, limits: Limits) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { inner, decoder: Decoder::new(limits), buffer, start: 0, end: 0, before: 0, in_entry: false, done: false }
    }

    /// The next member; what is left of the last one's data is skipped. `None` at the end of the archive.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn next_entry(&mut self) -> Result<Option<Box<Entry>>, Error> {
        while self.in_entry {
            self.data()?;
        }
        while !self.done {
            match self.decoder.step(&self.buffer[self.start..self.end])? {
                (taken, Step::Entry(entry)) => {
                    self.start += taken;
                    self.in_entry = true;
                    return Ok(Some(entry));
                }
                (taken, Step::End) => {
                    self.start += taken;
                    self.done = true;
                }
                (taken, _) => {
                    self.start += taken;
                    if self.start == self.end && !self.fill()? {
                        self.decoder.finish()?;
                        self.done = true;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Bytes of the archive taken so far. Right after [`Reader::next_entry`] that is where the member's data
    /// begins, behind the map of a sparse one: a multiple of [`super::BLOCK`].
    #[must_use]
    pub fn position(&self) -> u64 {
        self.before + self.start as u64
    }

    /// The next piece of the member's data and its place in the file; `None` when there is no more.
    ///
    /// # Errors
    /// [`Error::UnexpectedEof`], [`Error::Io`].
    pub fn data(&mut self) -> Result<Option<(u64, &[u8])>, Error> {
        while self.in_entry {
            match self.decoder.step(&self.buffer[self.start..self.end])? {
                (taken, Step::Data { offset }) => {
                    let at = self.start;
                    self.start += taken;
                    return Ok(Some((offset, &self.buffer[at..at + taken])));
                }
                (taken, Step::EntryEnd) => {
                    self.start += taken;
                    self.in_entry = false;
                }
                (taken, _) => {
                    self.start += taken;
                    if self.start == self.end && !self.fill()? {
                        return Err(Error::UnexpectedEof);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Hands the member's data to `write`, with zeros for holes when it has some.
    ///
    /// # Errors
    /// Any [`Error`], those of `write` as [`Error::Io`].
    pub fn copy_data(&mut self, size: u64, write: &mut dyn io::Write) -> Result<(), Error> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let fill = |write: &mut dyn io::Write, mut left: u64| -> io::Result<()> {
            while left > 0 {
                let part = left.min(ZEROS.len() as u64) as usize;
                write.write_all(&ZEROS[..part])?;
                left -= part as u64;
            }
            Ok(())
        };
        let mut at = 0;
        while let Some((offset, data)) = self.data()? {
            let next = offset + data.len() as u64;
            fill(write, offset - at)?;
            write.write_all(data)?;
            at = next;
        }
        fill(write, size - at)?;
        Ok(())
    }

    /// Reads to the end of the input, past the end mark, so that a digest taken below covers all bytes.
    ///
    /// # Errors
    /// Any [`Error`] of the members left.
    pub fn drain(&mut self) -> Result<(), Error> {
        while self.next_entry()?.is_some() {}
        loop {
            // Past the end mark the decoder only counts.
            self.decoder.step(&self.buffer[self.start..self.end])?;
            self.start = self.end;
            if !self.fill()? {
                return Ok(());
            }
        }
    }

    /// The underlying reader.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn fill(&mut self) -> Result<bool, Error> {
        self.before += self.end as u64;
        (self.start, self.end) = (0, 0);
        loop {
            match self.inner.read(&mut self.buffer) {
                Ok(read) => {
                    self.end = read;
                    return Ok(read > 0);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }
}
