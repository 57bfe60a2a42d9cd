//! The archive, put together from files that are here and from what was fetched.

use std::io::{self, BufRead, Read, Take};
use std::ops::Range;

use zstd::stream::read::Decoder;

use crate::split::Step;
use crate::{File, Plan, Split, WINDOW_LOG};

/// A layer's archive, made as it is read. `open` gives the content of a file that is here, by where the [`Plan`] was told
/// that it is; `blob` gives the bytes of the plan's ranges, one behind the other.
pub struct Assembly<O, L, R> {
    plan: Plan,
    split: Split,
    open: O,
    /// Absent while a frame is being read.
    blob: Option<Ranges<R>>,
    now: Now<L, R>,
    /// The next file.
    file: usize,
}

/// What is being given.
enum Now<L, R> {
    Nothing,
    Bytes(io::Cursor<Vec<u8>>),
    Here(Take<L>),
    Zeros {
        left: u64,
        rest: Range<usize>,
    },
    Piece {
        decoder: Box<Decoder<'static, Take<Ranges<R>>>>,
        left: u64,
        end: u64,
        rest: Range<usize>,
    },
    /// What went wrong went wrong for good.
    Failed,
}

impl<O, L, R> std::fmt::Debug for Assembly<O, L, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembly").field("plan", &self.plan).field("file", &self.file).finish_non_exhaustive()
    }
}

fn invalid(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

impl<O, L, R> Assembly<O, L, R>
where
    O: FnMut(usize, &File) -> io::Result<L>,
    L: Read,
    R: BufRead,
{
    /// Nothing is read before the first byte is asked for.
    pub fn new(plan: Plan, split: Split, open: O, blob: R) -> Self {
        let mut ranges = plan.ranges().to_vec().into_iter();
        let first = ranges.next().unwrap_or_default();
        let blob = Ranges { inner: blob, at: first.start, end: first.end, ranges };
        Self { plan, split, open, blob: Some(blob), now: Now::Nothing, file: 0 }
    }

    /// What comes behind what was given; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let rest = match std::mem::replace(&mut self.now, Now::Failed) {
            Now::Failed => return Err(invalid("the archive could not be put together")),
            Now::Piece { decoder, end, rest, .. } => {
                let mut blob = decoder.finish().into_inner();
                blob.skip_to(end)?;
                self.blob = Some(blob);
                rest
            }
            Now::Zeros { rest, .. } => rest,
            Now::Nothing | Now::Bytes(_) | Now::Here(_) => 0..0,
        };
        if !rest.is_empty() {
            return self.piece(rest).map(|()| true);
        }
        match self.split.next().map_err(|e| invalid(e.to_string()))? {
            Some(Step::Bytes(bytes)) => self.now = Now::Bytes(io::Cursor::new(bytes)),
            Some(Step::Content(size)) => self.content(size)?,
            None if self.file == self.plan.toc.files.len() => {
                self.now = Now::Nothing;
                return Ok(false);
            }
            None => return Err(invalid("zstd:chunked tar-split: it has fewer files than the table of contents")),
        }
        Ok(true)
    }

    /// Begins the next file's content.
    fn content(&mut self, size: u64) -> io::Result<()> {
        let Some(file) = self.plan.toc.files.get(self.file) else {
            return Err(invalid("zstd:chunked tar-split: it has more files than the table of contents"));
        };
        if file.size != size {
            let text =
                format!("zstd:chunked tar-split: {:?} has another size than in the table of contents", file.name);
            return Err(invalid(text));
        }
        let (here, pieces) = (self.plan.here[self.file], file.pieces.clone());
        match here {
            Some(place) => self.now = Now::Here((self.open)(place, file)?.take(size)),
            None => self.piece(pieces)?,
        }
        self.file += 1;
        Ok(())
    }

    /// Begins the first of these pieces.
    fn piece(&mut self, mut pieces: Range<usize>) -> io::Result<()> {
        let Some(piece) = pieces.next().and_then(|first| self.plan.toc.pieces.get(first)) else {
            return Err(invalid("zstd:chunked table of contents: a file has no chunks"));
        };
        if piece.zeros {
            self.now = Now::Zeros { left: piece.size, rest: pieces };
            return Ok(());
        }
        let Range { start, end } = piece.range;
        let Some(mut blob) = self.blob.take() else { return Err(invalid("the blob is being read already")) };
        blob.skip_to(start)?;
        let mut decoder = Decoder::with_buffer(blob.take(end - start))?;
        decoder.window_log_max(WINDOW_LOG)?;
        self.now = Now::Piece { decoder: Box::new(decoder), left: piece.size, end, rest: pieces };
        Ok(())
    }
}

impl<O, L, R> Read for Assembly<O, L, R>
where
    O: FnMut(usize, &File) -> io::Result<L>,
    L: Read,
    R: BufRead,
{
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let (read, left) = match &mut self.now {
                Now::Nothing | Now::Failed => (0, 0),
                Now::Bytes(bytes) => (bytes.read(buffer)?, 0),
                Now::Here(file) => {
                    let read = file.read(buffer)?;
                    (read, file.limit())
                }
                Now::Zeros { left, .. } => {
                    let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    buffer[..most].fill(0);
                    *left -= most as u64;
                    (most, *left)
                }
                Now::Piece { decoder, left, .. } => {
                    let most = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    let read = if most == 0 { 0 } else { decoder.read(&mut buffer[..most])? };
                    *left -= read as u64;
                    (read, *left)
                }
            };
            if read > 0 {
                return Ok(read);
            }
            if left > 0 {
                self.now = Now::Failed;
                return Err(invalid("a file of the layer is shorter than its table of contents says"));
            }
            if !self.advance()? {
                return Ok(0);
            }
        }
    }
}

/// The bytes of some ranges of a blob, by their places in it.
struct Ranges<R> {
    inner: R,
    ranges: std::vec::IntoIter<Range<u64>>,
    /// Where the next byte stands in the blob, and where its range ends.
    at: u64,
    end: u64,
}

impl<R: BufRead> Ranges<R> {
    /// Passes over what comes before `place`, which is in this range or a later one.
    fn skip_to(&mut self, place: u64) -> io::Result<()> {
        while place > self.end {
            self.pass(self.end - self.at)?;
            let Some(next) = self.ranges.next() else { return Err(invalid("the blob has no such place")) };
            (self.at, self.end) = (next.start, next.end);
        }
        let ahead = place.checked_sub(self.at).ok_or_else(|| invalid("the blob was read beyond this place"))?;
        self.pass(ahead)
    }

    fn pass(&mut self, bytes: u64) -> io::Result<()> {
        let passed = io::copy(&mut self.take(bytes), &mut io::sink())?;
        if passed == bytes { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

impl<R: BufRead> Read for Ranges<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: BufRead> BufRead for Ranges<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount as u64;
        self.inner.consume(amount);
    }
}
