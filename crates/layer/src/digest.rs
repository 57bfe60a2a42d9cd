//! SHA-256 taken of bytes as they pass, so that nothing is read twice.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

/// Digests what is read through it.
#[derive(Debug)]
pub struct DigestReader<R> {
    inner: R,
    hash: Sha256,
    count: u64,
}

impl<R> DigestReader<R> {
    /// Wraps `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// Bytes read so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// SHA-256 of the bytes read, and their count.
    #[must_use]
    pub fn finish(self) -> ([u8; 32], u64) {
        (self.hash.finalize().into(), self.count)
    }

    /// The reader below.
    pub fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// The reader below, with the digest and count of the bytes read.
    #[must_use]
    pub fn into_parts(self) -> (R, [u8; 32], u64) {
        (self.inner, self.hash.finalize().into(), self.count)
    }
}

impl<R: Read> Read for DigestReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.count += read as u64;
        Ok(read)
    }
}

/// Digests what is written through it.
#[derive(Debug)]
pub struct DigestWriter<W> {
    inner: W,
    hash: Sha256,
    count: u64,
}

impl<W> DigestWriter<W> {
    /// Wraps `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The writer below, with the digest and count of the bytes written.
    #[must_use]
    pub fn into_parts(self) -> (W, [u8; 32], u64) {
        (self.inner, self.hash.finalize().into(), self.count)
    }
}

impl<W: Write> Write for DigestWriter<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(data)?;
        self.hash.update(&data[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// SHA-256 of a whole slice.
#[must_use]
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}
