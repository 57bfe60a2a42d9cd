//! The container's json-file log.
//!
//! Lines are formatted into one buffer and written once per batch. An error never stops the
//! container: what cannot be written is counted and dropped, the file is cut back to its last whole
//! line, and the first write that succeeds again is preceded by a line that tells the number.
//! Only a regular file is written, as nothing else is sure to take a write at once or refuse it.
//! Called by the server with every piece of output.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, RenameFlags};
use sys::Errno;
use sys::memory::PageBuffer;

use crate::clock::{STAMP_LEN, Stamp, now_ns};
use crate::filter::LOG_FLAGS;
use crate::jsonline::{MAX_GROWTH, escape};

/// Docker's clients expect longer lines in pieces of this size, the last alone ending in a newline.
const MAX_PIECE: usize = 16 * 1024;
/// Formatted bytes gathered before a write.
const BATCH: usize = 1024 * 1024;

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout = 0,
    Stderr = 1,
}

/// Where and how much.
#[derive(Debug)]
pub(crate) struct LogSettings {
    pub(crate) path: String,
    /// Bytes; 0 never rotates.
    pub(crate) max_size: u64,
    pub(crate) max_files: u32,
    /// A JSON object, or empty.
    pub(crate) attrs: String,
}

/// An open log.
pub(crate) struct Log {
    settings: LogSettings,
    file: Option<OwnedFd>,
    size: u64,
    /// Older files: `path.1` to this number.
    rotated: u32,
    out: PageBuffer,
    used: usize,
    /// `","stream":"stdout","time":"` of each stream.
    middles: [Vec<u8>; 2],
    /// Begun lines of each stream, each shorter than a piece.
    partial: [Vec<u8>; 2],
    stamp: Stamp,
    dropped: u64,
    /// Dropped lines not yet told in the file.
    untold: u64,
}

impl Log {
    /// Opens the file for appending, made with mode 0640 when missing.
    pub(crate) fn open(settings: LogSettings) -> Result<Self, Errno> {
        let attrs = if settings.attrs.is_empty() { String::new() } else { format!(",\"attrs\":{}", settings.attrs) };
        let middle = |name: &str| format!("\",\"stream\":\"{name}\"{attrs},\"time\":\"").into_bytes();
        let middles = [middle("stdout"), middle("stderr")];
        let longest = MAX_PIECE * MAX_GROWTH + middles[0].len() + 64;
        let (file, size) = open_file(&settings.path, false)?;
        // As many as there are, not as many as there may be.
        let there = |number: &u32| rustix::fs::lstat(format!("{}.{number}", settings.path)).is_ok();
        let rotated = (1..settings.max_files).take_while(there).last().unwrap_or(0);
        Ok(Self {
            settings,
            file: Some(file),
            size,
            rotated,
            out: PageBuffer::new(BATCH.max(2 * longest))?,
            used: 0,
            middles,
            partial: [Vec::new(), Vec::new()],
            stamp: Stamp::new(),
            dropped: 0,
            untold: 0,
        })
    }

    /// The directory all files of the log are in.
    pub(crate) fn directory(&self) -> &str {
        match self.settings.path.rsplit_once('/') {
            Some(("", _)) => "/",
            Some((directory, _)) => directory,
            None => ".",
        }
    }

    /// That directory has become the root: from now on the files are known by their names in it.
    pub(crate) fn directory_is_root(&mut self) {
        if let Some((_, name)) = self.settings.path.rsplit_once('/') {
            self.settings.path = name.to_owned();
        }
    }

    /// Lines given up so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Takes output of one stream and writes every finished line.
    pub(crate) fn append(&mut self, stream: Stream, mut data: &[u8]) {
        self.stamp.advance_to(now_ns());
        let index = stream as usize;
        if !self.partial[index].is_empty() {
            let mut begun = std::mem::take(&mut self.partial[index]);
            let window = &data[..data.len().min(MAX_PIECE - begun.len())];
            let end = memchr::memchr(b'\n', window).map_or(window.len(), |at| at + 1);
            begun.extend_from_slice(&data[..end]);
            data = &data[end..];
            if begun.ends_with(b"\n") || begun.len() == MAX_PIECE {
                self.line(stream, &begun);
                begun.clear();
            }
            self.partial[index] = begun;
        }
        while !data.is_empty() {
            let window = &data[..data.len().min(MAX_PIECE)];
            let end = match memchr::memchr(b'\n', window) {
                Some(at) => at + 1,
                None if window.len() == MAX_PIECE => MAX_PIECE,
                None => {
                    self.partial[index].extend_from_slice(data);
                    break;
                }
            };
            self.line(stream, &data[..end]);
            data = &data[end..];
        }
        self.flush();
    }

    /// Writes what is left of begun lines, without a newline, as at the end of the output.
    pub(crate) fn finish(&mut self) {
        self.stamp.advance_to(now_ns());
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.partial[stream as usize]);
            if !begun.is_empty() {
                self.line(stream, &begun);
            }
        }
        self.flush();
    }

    /// Opens the file by its path again, after somebody moved it.
    pub(crate) fn reopen(&mut self) -> Result<(), Errno> {
        let (file, size) = open_file(&self.settings.path, false)?;
        self.file = Some(file);
        self.size = size;
        Ok(())
    }

    /// Gives the buffer's memory back while there is nothing to write.
    pub(crate) fn relax(&mut self) {
        self.out.discard();
        for partial in &mut self.partial {
            partial.shrink_to_fit();
        }
    }

    fn line(&mut self, stream: Stream, text: &[u8]) {
        let middle_len = self.middles[stream as usize].len();
        let most = HEAD.len() + text.len() * MAX_GROWTH + middle_len + STAMP_LEN + TAIL.len();
        if self.out.len() - self.used < most {
            self.flush();
        }
        let max = self.settings.max_size;
        if max > 0 && self.size + self.used as u64 >= max {
            self.flush();
            if self.size >= max {
                self.rotate();
            }
        }
        let out = &mut self.out[self.used..];
        let mut at = 0;
        let mut put = |out: &mut [u8], bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
            at
        };
        let start = put(out, HEAD);
        // The newline that ends nearly every line would make it look as if it wanted escaping.
        let (body, newline) = match text.split_last() {
            Some((b'\n', body)) => (body, true),
            _ => (text, false),
        };
        at = start + escape(body, &mut out[start..]);
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        if newline {
            put(b"\\n");
        }
        put(&self.middles[stream as usize]);
        put(&self.stamp.take());
        put(TAIL);
        self.used += at;
    }

    fn flush(&mut self) {
        if self.used == 0 {
            return;
        }
        self.tell_dropped();
        let mut done = 0;
        while done < self.used {
            let Some(file) = &self.file else { break };
            match rustix::io::write(file, &self.out[done..self.used]) {
                Ok(0) | Err(_) => break,
                Ok(written) => done += written,
            }
        }
        self.size += done as u64;
        if done < self.used {
            self.give_up(done);
        }
        self.used = 0;
    }

    /// The rest of the buffer is lost; the file ends with a whole line again.
    fn give_up(&mut self, done: usize) {
        let kept = memchr::memrchr(b'\n', &self.out[..done]).map_or(0, |at| at + 1);
        let torn = (done - kept) as u64;
        if let Some(file) = self.file.as_ref().filter(|_| torn > 0)
            && rustix::fs::ftruncate(file, self.size - torn).is_ok()
        {
            self.size -= torn;
        }
        let lost = memchr::memchr_iter(b'\n', &self.out[kept..self.used]).count() as u64;
        self.dropped += lost;
        self.untold += lost;
    }

    fn tell_dropped(&mut self) {
        if self.untold == 0 {
            return;
        }
        if self.file.is_none() {
            let _ = self.reopen();
        }
        let Some(file) = &self.file else { return };
        let mut text =
            format!("{{\"log\":\"dhow: {} lines dropped\\n\",\"stream\":\"stderr\",\"time\":\"", self.untold)
                .into_bytes();
        text.extend_from_slice(&crate::clock::format_ns(now_ns()));
        text.extend_from_slice(TAIL);
        match rustix::io::write(file, &text) {
            Ok(written) if written == text.len() => {
                self.size += written as u64;
                self.untold = 0;
            }
            Ok(written) => {
                let _ = rustix::fs::ftruncate(file, self.size);
                let _ = written;
            }
            Err(_) => {}
        }
    }

    /// `path` becomes `path.1`, that `path.2`, and so on; the oldest goes. With one file it starts anew.
    fn rotate(&mut self) {
        let path = &self.settings.path;
        let last = self.settings.max_files.max(1) - 1;
        if last == 0 {
            if let Some(file) = &self.file
                && rustix::fs::ftruncate(file, 0).is_ok()
            {
                self.size = 0;
            }
            return;
        }
        let rename = |from: &str, to: &str| rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::empty()).is_ok();
        let mut rotated = 0;
        for number in (1..=self.rotated.min(last - 1)).rev() {
            // Somebody may have taken one away.
            if rename(&format!("{path}.{number}"), &format!("{path}.{}", number + 1)) {
                rotated = rotated.max(number + 1);
            }
        }
        let moved = rename(path, &format!("{path}.1"));
        self.rotated = rotated.max(u32::from(moved));
        match open_file(path, moved) {
            Ok((file, size)) => {
                self.file = Some(file);
                self.size = size;
            }
            // Without a new file the old one, under its new name, is better than none.
            Err(_) => self.size = 0,
        }
    }
}

const HEAD: &[u8] = b"{\"log\":\"";
const TAIL: &[u8] = b"\"}\n";

fn open_file(path: &str, new: bool) -> Result<(OwnedFd, u64), Errno> {
    let mut flags = LOG_FLAGS;
    flags.set(OFlags::EXCL, new);
    let file = rustix::fs::openat(CWD, path, flags, Mode::from_raw_mode(0o640))?;
    let stat = rustix::fs::fstat(&file)?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        // A pipe, terminal or device could keep a write waiting.
        return Err(Errno::INVAL);
    }
    Ok((file, u64::try_from(stat.st_size).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &tempfile::TempDir, max_size: u64, max_files: u32, attrs: &str) -> Log {
        let path = dir.path().join("x-json.log").to_str().unwrap().to_owned();
        Log::open(LogSettings { path, max_size, max_files, attrs: attrs.to_owned() }).unwrap()
    }

    fn texts(dir: &tempfile::TempDir, name: &str) -> Vec<(String, usize)> {
        let content = std::fs::read_to_string(dir.path().join(name)).unwrap();
        content
            .lines()
            .map(|line| {
                let text = line.strip_prefix("{\"log\":\"").unwrap();
                let end = text.find("\",\"stream\":").unwrap();
                (text[..end.min(8)].to_owned(), end)
            })
            .collect()
    }

    #[test]
    fn lines_come_whole_and_in_dockers_form() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 1, r#"{"a":"b"}"#);
        log.append(Stream::Stdout, b"he");
        log.append(Stream::Stderr, b"err\n");
        log.append(Stream::Stdout, b"llo\nrest");
        log.finish();
        let content = std::fs::read_to_string(dir.path().join("x-json.log")).unwrap();
        let lines: Vec<&str> = content.lines().collect();
        assert!(lines[0].starts_with(r#"{"log":"err\n","stream":"stderr","attrs":{"a":"b"},"time":"2"#), "{content}");
        assert!(lines[1].starts_with(r#"{"log":"hello\n","stream":"stdout","attrs":"#));
        assert!(lines[2].starts_with(r#"{"log":"rest","stream":"stdout","#));
        assert!(lines[2].ends_with("Z\"}"));
        let times: Vec<&str> = lines.iter().map(|line| &line[line.len() - 32..]).collect();
        assert!(times.is_sorted(), "{times:?}");
    }

    #[test]
    fn long_lines_are_cut_into_pieces_wherever_reads_end() {
        for step in [1000, 16 * 1024, 7, 100_000] {
            let dir = tempfile::tempdir().unwrap();
            let mut log = log(&dir, 0, 1, "");
            let mut data = vec![b'a'; 40_000];
            data.push(b'\n');
            data.extend(vec![b'b'; MAX_PIECE]);
            data.push(b'\n');
            for piece in data.chunks(step) {
                log.append(Stream::Stdout, piece);
            }
            log.finish();
            let lengths: Vec<usize> = texts(&dir, "x-json.log").iter().map(|(_, len)| *len).collect();
            assert_eq!(lengths, [MAX_PIECE, MAX_PIECE, 40_000 - 2 * MAX_PIECE + 2, MAX_PIECE, 2], "step {step}");
        }
    }

    #[test]
    fn rotation_keeps_the_newest_files_and_every_line_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 1000, 3, "");
        let text: String = (0..40).map(|n| format!("line{n:03}\n")).collect();
        log.append(Stream::Stdout, text.as_bytes());
        let mut all = Vec::new();
        for name in ["x-json.log.2", "x-json.log.1", "x-json.log"] {
            assert!(std::fs::metadata(dir.path().join(name)).unwrap().len() < 1100, "{name}");
            all.extend(texts(&dir, name).into_iter().map(|(text, _)| text));
        }
        assert!(!dir.path().join("x-json.log.3").exists());
        let newest: Vec<String> = (40 - all.len()..40).map(|n| format!("line{n:03}\\")).collect();
        assert_eq!(all, newest.iter().map(|t| t[..8].to_owned()).collect::<Vec<_>>());
    }

    #[test]
    fn rotation_costs_what_there_is_not_what_there_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 1, u32::MAX, "");
        log.append(Stream::Stdout, b"one\ntwo\nthree\n");
        assert_eq!(texts(&dir, "x-json.log.2")[0].0, "one\\n");
        assert_eq!(texts(&dir, "x-json.log")[0].0, "three\\n");
    }

    #[test]
    fn a_full_disk_drops_lines_tells_so_later_and_leaves_no_torn_line() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 1, "");
        log.append(Stream::Stdout, b"one\n");
        // A descriptor that may not be written stands in for the disk that refuses.
        let path = dir.path().join("x-json.log");
        log.file = Some(rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap());
        log.append(Stream::Stdout, b"two\nthree\n");
        assert_eq!(log.dropped(), 2);
        log.reopen().unwrap();
        log.append(Stream::Stdout, b"four\n");
        let texts: Vec<String> = texts(&dir, "x-json.log").into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts, ["one\\n", "dhow: 2 ", "four\\n"]);
    }

    #[test]
    fn nothing_but_newlines_and_nothing_but_escapes_fit() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 1, "");
        log.append(Stream::Stdout, &vec![b'\n'; 100_000]);
        log.append(Stream::Stdout, &vec![1u8; 300_000]);
        log.finish();
        let lines = texts(&dir, "x-json.log");
        assert_eq!(lines.len(), 100_000 + 300_000usize.div_ceil(MAX_PIECE));
        assert_eq!(log.dropped(), 0);
    }
}
