//! Reading a json-file log with its rotated predecessors: oldest first or the last N lines, filtered
//! by stream and time, turned into the bytes a client gets (stdcopy frames, or raw for a terminal).
//!
//! Synchronous and chunked: [`Reader::next_chunk`] never waits for the writer, it says
//! [`Chunk::End`] at the present end of the log and may be called again when there is more. It
//! holds one open file and bounded buffers whatever the size of the log. Called by [`super::stream`]
//! on the blocking pool.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::line;

/// Bytes read at once.
const READ: usize = 256 * 1024;
/// A longer line cannot come from the shim (16 KiB pieces, six bytes an escape, plus attributes).
const MAX_LINE: usize = 1024 * 1024;

/// Which lines, and how they look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Keep the stream open and send what is written later.
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Nanoseconds since the epoch; earlier lines are left out.
    pub since: Option<i64>,
    /// Nanoseconds since the epoch; later lines are left out and end the stream.
    pub until: Option<i64>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Only the last so many lines.
    pub tail: Option<usize>,
    /// Put the log options' labels and variables before each line.
    pub details: bool,
}

/// What [`Reader::next_chunk`] gives.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Chunk {
    /// Bytes for the client; more may follow at once.
    Data(Vec<u8>),
    /// Nothing more at present.
    End,
    /// A line later than `until` was seen: nothing more will ever come.
    Finished,
}

/// A position in the chain of log files.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    options: LogOptions,
    framed: bool,
    file: Option<File>,
    inode: u64,
    buffer: Vec<u8>,
    /// Bytes of `buffer` not yet parsed.
    start: usize,
    finished: bool,
    scratch: Vec<u8>,
}

impl Reader {
    /// Stand at the first wanted line of the log at `path`. A missing log is an empty one.
    pub(crate) fn open(path: &Path, options: LogOptions, framed: bool) -> io::Result<Self> {
        let mut reader = Self {
            path: path.to_owned(),
            options,
            framed,
            file: None,
            inode: 0,
            buffer: Vec::new(),
            start: 0,
            finished: false,
            scratch: Vec::new(),
        };
        match reader.options.tail {
            Some(lines) => reader.seek_tail(lines)?,
            None => {
                let oldest = reader.rotated_count();
                reader.open_nth(oldest)?;
            }
        }
        Ok(reader)
    }

    fn nth_path(&self, n: usize) -> PathBuf {
        if n == 0 {
            return self.path.clone();
        }
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{n}"));
        name.into()
    }

    /// How many rotated files there are: `path.1` is the newest.
    fn rotated_count(&self) -> usize {
        (1..=1000).take_while(|n| self.nth_path(*n).exists()).last().unwrap_or(0)
    }

    fn open_nth(&mut self, n: usize) -> io::Result<bool> {
        match File::open(self.nth_path(n)) {
            Ok(file) => {
                self.inode = file.metadata()?.ino();
                self.file = Some(file);
                self.buffer.clear();
                self.start = 0;
                Ok(true)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Walk backwards, newest file first, until `lines` newlines are behind us.
    fn seek_tail(&mut self, lines: usize) -> io::Result<()> {
        let mut wanted = lines;
        for n in 0..=self.rotated_count() {
            if !self.open_nth(n)? {
                // A log not yet begun: whatever comes is new.
                return Ok(());
            }
            let Some(file) = &mut self.file else { return Ok(()) };
            let mut position = file.metadata()?.len();
            if wanted == 0 {
                file.seek(SeekFrom::Start(position))?;
                return Ok(());
            }
            let mut block = vec![0u8; READ.min(position as usize)];
            let mut last_byte = true;
            while position > 0 {
                let size = (block.len() as u64).min(position);
                position -= size;
                file.seek(SeekFrom::Start(position))?;
                let block = &mut block[..size as usize];
                file.read_exact(block)?;
                let mut end = block.len();
                if last_byte {
                    // The newline that ends the file begins no line; a torn last line counts as one.
                    last_byte = false;
                    if block[end - 1] == b'\n' {
                        end -= 1;
                    }
                }
                while let Some(at) = memchr::memrchr(b'\n', &block[..end]) {
                    wanted -= 1;
                    if wanted == 0 {
                        file.seek(SeekFrom::Start(position + at as u64 + 1))?;
                        return Ok(());
                    }
                    end = at;
                }
            }
            file.seek(SeekFrom::Start(0))?;
            // The first line of the file has no newline before it.
            if file.metadata()?.len() > 0 {
                wanted -= 1;
                if wanted == 0 {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// The next bytes for the client.
    pub(crate) fn next_chunk(&mut self) -> io::Result<Chunk> {
        loop {
            if self.finished {
                return Ok(Chunk::Finished);
            }
            if self.file.is_none() {
                let oldest = self.rotated_count();
                if !self.open_nth(oldest)? {
                    return Ok(Chunk::End);
                }
            }
            if self.fill()? == 0 {
                if self.advance()? {
                    continue;
                }
                return Ok(Chunk::End);
            }
            let out = self.render();
            if !out.is_empty() {
                return Ok(Chunk::Data(out));
            }
        }
    }

    /// Read more behind what is left of the last block; 0 at the end of the file.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        if self.buffer.len() > MAX_LINE {
            // No line ends in sight: this is not our file any more. Skip it.
            self.buffer.clear();
        }
        let Some(file) = &mut self.file else { return Ok(0) };
        let held = self.buffer.len();
        self.buffer.resize(held + READ, 0);
        let got = loop {
            match file.read(&mut self.buffer[held..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(held + *got.as_ref().unwrap_or(&0));
        if matches!(got, Ok(0)) && held == 0 {
            // Give the block back while we wait for more.
            self.buffer = Vec::new();
        }
        got
    }

    /// At the end of a file: step to its successor if it was rotated away, say whether there is more.
    fn advance(&mut self) -> io::Result<bool> {
        let count = self.rotated_count();
        for n in 0..=count {
            let Ok(meta) = std::fs::metadata(self.nth_path(n)) else { continue };
            if meta.ino() != self.inode {
                continue;
            }
            if n == 0 {
                // Truncated in place by somebody: start again from the top.
                let Some(file) = &mut self.file else { return Ok(false) };
                let position = file.stream_position()?;
                if meta.len() < position {
                    file.seek(SeekFrom::Start(0))?;
                    self.buffer.clear();
                    return Ok(true);
                }
                return Ok(false);
            }
            // Something may have been written between our last read and the rotation.
            if self.fill()? > 0 {
                return Ok(true);
            }
            return self.open_nth(n - 1);
        }
        // Our file was rotated out of existence: go on with the oldest that is left.
        if self.fill()? > 0 {
            return Ok(true);
        }
        self.open_nth(count)
    }

    /// Turn the complete lines of the buffer into client bytes.
    fn render(&mut self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.buffer.len());
        while let Some(length) = memchr::memchr(b'\n', &self.buffer[self.start..]) {
            let raw = &self.buffer[self.start..self.start + length];
            self.start += length + 1;
            let Some(line) = line::parse(raw) else { continue };
            if if line.stderr { !self.options.stderr } else { !self.options.stdout } {
                continue;
            }
            if self.options.since.is_some() || self.options.until.is_some() {
                let Some(at) = line::nanos(line.time) else { continue };
                if self.options.since.is_some_and(|since| at < since) {
                    continue;
                }
                if self.options.until.is_some_and(|until| at > until) {
                    self.finished = true;
                    break;
                }
            }
            let header = out.len();
            if self.framed {
                out.extend_from_slice(&[if line.stderr { 2 } else { 1 }, 0, 0, 0, 0, 0, 0, 0]);
            }
            if self.options.timestamps {
                push_time(line.time, &mut out);
                out.push(b' ');
            }
            if self.options.details {
                push_details(line.attrs, &mut self.scratch, &mut out);
                out.push(b' ');
            }
            if line.escaped {
                unescape_line(line.text, &mut out);
            } else {
                out.extend_from_slice(line.text);
            }
            if self.framed {
                let length = (out.len() - header - 8) as u32;
                out[header + 4..header + 8].copy_from_slice(&length.to_be_bytes());
            }
        }
        out
    }
}

/// Nearly every line has exactly one escape, its final `\n`.
fn unescape_line(text: &[u8], out: &mut Vec<u8>) {
    match text.strip_suffix(b"\\n") {
        Some(body) if memchr::memchr(b'\\', body).is_none() => {
            out.extend_from_slice(body);
            out.push(b'\n');
        }
        _ => line::unescape(text, out),
    }
}

/// Docker prints nine digits of the fraction always, whatever the file holds.
fn push_time(time: &[u8], out: &mut Vec<u8>) {
    let seconds = &time[..19];
    let (fraction, zone) = match time[19..].strip_prefix(b".") {
        Some(rest) => {
            let end = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
        None => (&time[..0], &time[19..]),
    };
    out.extend_from_slice(seconds);
    out.push(b'.');
    out.extend_from_slice(&fraction[..fraction.len().min(9)]);
    out.extend(std::iter::repeat_n(b'0', 9 - fraction.len().min(9)));
    out.extend_from_slice(zone);
}

/// `"a":"1","b":"2"` becomes `a=1,b=2`, percent-encoded where a reader would stumble.
fn push_details(attrs: &[u8], scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    let mut first = true;
    let mut strings = Strings(attrs);
    while let (Some(key), Some(value)) = (strings.next(), strings.next()) {
        if !first {
            out.push(b',');
        }
        first = false;
        for (part, end) in [(key, &b"="[..]), (value, b"")] {
            scratch.clear();
            line::unescape(part, scratch);
            for b in scratch.iter() {
                if b.is_ascii_alphanumeric() || b"-_.~".contains(b) {
                    out.push(*b);
                } else if *b == b' ' {
                    out.push(b'+');
                } else {
                    out.extend_from_slice(format!("%{b:02X}").as_bytes());
                }
            }
            out.extend_from_slice(end);
        }
    }
}

/// The string literals of a JSON fragment, without their quotes.
struct Strings<'a>(&'a [u8]);

impl<'a> Iterator for Strings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let begin = memchr::memchr(b'"', self.0)? + 1;
        let mut at = begin;
        loop {
            let found = at + memchr::memchr2(b'"', b'\\', self.0.get(at..)?)?;
            if self.0[found] == b'"' {
                let text = &self.0[begin..found];
                self.0 = &self.0[found + 1..];
                return Some(text);
            }
            at = found + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn entry(n: usize) -> String {
        let stream = if n.is_multiple_of(3) { "stderr" } else { "stdout" };
        format!("{{\"log\":\"line {n}\\n\",\"stream\":\"{stream}\",\"time\":\"2026-01-01T00:00:{:02}.5Z\"}}\n", n % 60)
    }

    fn all(reader: &mut Reader) -> String {
        let mut out = Vec::new();
        loop {
            match reader.next_chunk().unwrap() {
                Chunk::Data(data) => out.extend(data),
                _ => return String::from_utf8(out).unwrap(),
            }
        }
    }

    fn both() -> LogOptions {
        LogOptions { stdout: true, stderr: true, ..LogOptions::default() }
    }

    #[test]
    fn rotated_files_come_first_and_tail_crosses_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(dir.path().join("x.log.2"), (0..4).map(entry).collect::<String>()).unwrap();
        std::fs::write(dir.path().join("x.log.1"), (4..7).map(entry).collect::<String>()).unwrap();
        std::fs::write(&path, (7..9).map(entry).collect::<String>()).unwrap();
        let text = |range: std::ops::Range<usize>| range.map(|n| format!("line {n}\n")).collect::<String>();
        assert_eq!(all(&mut Reader::open(&path, both(), false).unwrap()), text(0..9));
        for tail in 0..12 {
            let options = LogOptions { tail: Some(tail), ..both() };
            let got = all(&mut Reader::open(&path, options, false).unwrap());
            assert_eq!(got, text(9usize.saturating_sub(tail)..9), "tail {tail}");
        }
    }

    #[test]
    fn a_follower_survives_rotation_and_creation() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut reader = Reader::open(&path, both(), false).unwrap();
        assert_eq!(all(&mut reader), "");
        let mut file = File::create(&path).unwrap();
        file.write_all(entry(1).as_bytes()).unwrap();
        assert_eq!(all(&mut reader), "line 1\n");
        // A torn line waits for its end.
        let second = entry(2);
        file.write_all(&second.as_bytes()[..10]).unwrap();
        assert_eq!(all(&mut reader), "");
        file.write_all(&second.as_bytes()[10..]).unwrap();
        std::fs::rename(&path, dir.path().join("x.log.1")).unwrap();
        file = File::create(&path).unwrap();
        file.write_all(entry(3).as_bytes()).unwrap();
        assert_eq!(all(&mut reader), "line 2\nline 3\n");
    }

    #[test]
    fn frames_filters_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        std::fs::write(&path, (1..4).map(entry).collect::<String>() + "garbage\n").unwrap();
        let options = LogOptions { stdout: true, timestamps: true, tail: Some(3), ..LogOptions::default() };
        let got = all(&mut Reader::open(&path, options, true).unwrap());
        assert_eq!(got, "\u{1}\0\0\0\0\0\0\u{26}2026-01-01T00:00:02.500000000Z line 2\n");
        let at = |s: i64| Some(1_767_225_600_000_000_000 + s * 1_000_000_000);
        let options = LogOptions { since: at(2), until: at(3), ..both() };
        let mut reader = Reader::open(&path, options, false).unwrap();
        assert_eq!(all(&mut reader), "line 2\n");
        assert_eq!(reader.next_chunk().unwrap(), Chunk::Finished);
    }

    #[test]
    fn details_are_readable() {
        let mut out = Vec::new();
        push_details(br#""k":"v 1","x,":"=\n""#, &mut Vec::new(), &mut out);
        assert_eq!(out, b"k=v+1,x%2C=%3D%0A");
    }
}
