//! The three readers ours is compared with, each asked for its list of an archive's members in one form: Python's
//! `tarfile` and Go's `archive/tar` live as long as the test and answer over pipes, GNU tar is run for each archive.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use layer::tar::{Entry, Kind, Limits, Reader};

/// What a reader made of an archive: its members, a line each, and why it gave up if it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub members: Vec<String>,
    pub refused: Option<String>,
}

/// The list of our own reader.
pub fn ours(bytes: &[u8]) -> Result<(Listing, Vec<Entry>), layer::tar::Error> {
    // Holes are written out to be compared.
    let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
    let mut reader = Reader::new(bytes, limits);
    let (mut members, mut entries) = (Vec::new(), Vec::new());
    while let Some(entry) = reader.next_entry()? {
        let mut crc = Crc(flate2::Crc::new());
        reader.copy_data(entry.size, &mut crc)?;
        members.push(line(&entry, crc.0.sum()));
        entries.push(*entry);
    }
    reader.drain()?;
    Ok((Listing { members, refused: None }, entries))
}

struct Crc(flate2::Crc);

impl Write for Crc {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Readers keep or drop a directory's closing slashes: they say nothing.
fn path(entry: &Entry) -> &[u8] {
    let mut path = &entry.path[..];
    while let (Kind::Directory, Some(shorter)) = (entry.kind, path.strip_suffix(b"/")) {
        path = shorter;
    }
    path
}

fn line(entry: &Entry, crc: u32) -> String {
    let mut xattrs: Vec<String> =
        entry.xattrs.iter().map(|(name, value)| format!("{}={}", hex(name), hex(value))).collect();
    xattrs.sort();
    format!(
        "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{crc}\t{}",
        kind(entry.kind),
        hex(path(entry)),
        hex(&entry.link),
        entry.size,
        entry.uid,
        entry.gid,
        entry.mode,
        time(entry.mtime.secs),
        entry.major,
        entry.minor,
        xattrs.join(",")
    )
}

/// Python keeps times of pax records as floating-point numbers: far ones are not compared.
fn time(secs: i64) -> i64 {
    if secs.unsigned_abs() < 1 << 50 { secs } else { 0 }
}

fn kind(kind: Kind) -> char {
    match kind {
        Kind::File => 'f',
        Kind::HardLink => 'h',
        Kind::Symlink => 'l',
        Kind::CharDevice => 'c',
        Kind::BlockDevice => 'b',
        Kind::Directory => 'd',
        Kind::Fifo => 'p',
    }
}

/// A reader in a process of its own.
pub struct Peer {
    name: &'static str,
    child: Child,
    input: Option<BufWriter<ChildStdin>>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    /// Python's `tarfile`; `None` without Python.
    pub fn python() -> Option<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tar_differential/peer.py");
        let mut command = Command::new("python3");
        command.arg("-S").arg(script);
        Self::start("Python", command)
    }

    /// Go's `archive/tar`; `None` without Go, which `DHOW_TEST_GO` names or the path has.
    pub fn go() -> Option<Self> {
        static PROGRAM: OnceLock<Option<PathBuf>> = OnceLock::new();
        let program = PROGRAM.get_or_init(build_go).as_ref()?;
        Self::start("Go", Command::new(program))
    }

    fn start(name: &'static str, mut command: Command) -> Option<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        let input = child.stdin.take().map(BufWriter::new);
        let output = BufReader::new(child.stdout.take()?);
        Some(Self { name, child, input, output })
    }

    /// Asks for the list of one archive.
    pub fn list(&mut self, bytes: &[u8]) -> Listing {
        let input = self.input.as_mut().expect("open until dropped");
        let length = u32::try_from(bytes.len()).unwrap();
        input.write_all(&length.to_le_bytes()).and_then(|()| input.write_all(bytes)).unwrap();
        input.flush().unwrap();
        let mut members = Vec::new();
        loop {
            let mut line = String::new();
            assert!(self.output.read_line(&mut line).unwrap() > 0, "{} ended on {}", self.name, hex(bytes));
            let line = line.trim_end_matches('\n');
            if line == "end" {
                return Listing { members, refused: None };
            }
            if let Some(why) = line.strip_prefix("refused ") {
                return Listing { members, refused: Some(why.to_owned()) };
            }
            members.push(same_form(line));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // At the end of its input it ends.
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn same_form(line: &str) -> String {
    let mut fields: Vec<&str> = line.split('\t').collect();
    while let (Some(&"d"), Some(shorter)) = (fields.first(), fields[1].strip_suffix("2f")) {
        fields[1] = shorter;
    }
    // Beyond what fits is far, too.
    let secs = time(fields[7].parse().unwrap_or(0)).to_string();
    fields[7] = &secs;
    fields.join("\t")
}

fn build_go() -> Option<PathBuf> {
    let go = std::env::var_os("DHOW_TEST_GO").unwrap_or_else(|| "go".into());
    let place = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tar_differential/peer.go");
    let program = place.join(format!("tar-peer-go-{}", std::process::id()));
    let cache = place.join("go-cache");
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(&program)
        .arg(source)
        .env("GOCACHE", cache)
        .env("GO111MODULE", "off")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .status();
    let last = place.join("tar-peer-go");
    match built {
        // Another test may run the last one.
        Ok(status) if status.success() => std::fs::rename(program, &last).ok().map(|()| last),
        Ok(status) => panic!("the Go program does not build: {status}"),
        Err(_) => None,
    }
}

/// GNU tar, with a file to hand archives over in.
pub struct Gnu {
    file: PathBuf,
}

impl Gnu {
    /// `None` when `tar` is not GNU's.
    pub fn new() -> Option<Self> {
        let version = Command::new("tar").arg("--version").output().ok()?;
        if !version.stdout.starts_with(b"tar (GNU tar)") {
            return None;
        }
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("gnu-{}-{count}.tar", std::process::id());
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
        Some(Self { file: place.join(format!("dhow-{name}")) })
    }

    /// Compares the list of one archive with our entries: every member's type, permissions, owner, size, time and
    /// names. The answer is what differs.
    pub fn differs(&self, bytes: &[u8], entries: &[Entry]) -> Option<String> {
        std::fs::write(&self.file, bytes).unwrap();
        let output = Command::new("tar")
            .args(["--list", "--verbose", "--numeric-owner", "--full-time", "--utc", "--absolute-names"])
            .args(["--quoting-style=escape", "--no-seek", "--file"])
            .arg(&self.file)
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if !output.status.success() {
            return Some(format!("refused: {}", String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() != entries.len() {
            return Some(format!("{} members, not {}: {lines:?}", lines.len(), entries.len()));
        }
        lines.iter().zip(entries).find_map(|(line, entry)| differs(line, entry))
    }
}

impl Drop for Gnu {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.file);
    }
}

/// `drwxr-xr-x 0/0   0 2001-09-09 01:46:40 name -> target`, compared with what it should be.
fn differs(line: &str, entry: &Entry) -> Option<String> {
    let (mode, rest) = field(line);
    let (owner, rest) = field(rest);
    let (size, rest) = field(rest);
    let (date, rest) = field(rest);
    // Years of four digits: other times are shown in several ways.
    let near = (0..253_402_300_800).contains(&entry.mtime.secs);
    // Times with fractions make the column wider, so that a name's own spaces at its beginning cannot be told.
    let (time, tail) = if near { field(rest) } else { ("", line) };
    let mut tail = tail.trim_start_matches(' ').to_owned();
    if entry.kind == Kind::Directory {
        tail.truncate(tail.trim_end_matches('/').len());
    }
    let expected = (permissions(entry), format!("{}/{}", entry.uid, entry.gid), names(entry));
    let expected = (expected.0, expected.1, expected.2.trim_start_matches(' ').to_owned());
    if !near && tail.ends_with(&format!(" {}", expected.2)) {
        tail.clone_from(&expected.2);
    }
    // A contiguous file is a regular one.
    let mode = mode.strip_prefix('C').map_or_else(|| mode.to_owned(), |rest| format!("-{rest}"));
    if (mode.as_str(), owner, tail.as_str()) != (expected.0.as_str(), expected.1.as_str(), expected.2.as_str()) {
        return Some(format!("{line:?} is not {expected:?}"));
    }
    let device = format!("{},{}", entry.major, entry.minor);
    let right = match entry.kind {
        Kind::File => size == entry.size.to_string(),
        Kind::CharDevice | Kind::BlockDevice => size == device,
        _ => true,
    };
    if !right {
        return Some(format!("{line:?} is not of size {} or device {device}", entry.size));
    }
    let shown = format!("{date} {}", time.split('.').next().unwrap_or_default());
    if near && shown != civil(entry.mtime.secs) {
        return Some(format!("{line:?} is not of {}", civil(entry.mtime.secs)));
    }
    None
}

fn field(line: &str) -> (&str, &str) {
    line.trim_start_matches(' ').split_once(' ').unwrap_or((line, ""))
}

fn names(entry: &Entry) -> String {
    let link = match entry.kind {
        Kind::Symlink => format!(" -> {}", escaped(&entry.link)),
        Kind::HardLink => format!(" link to {}", escaped(&entry.link)),
        _ => String::new(),
    };
    escaped(path(entry)) + &link
}

/// As `--quoting-style=escape` writes names in the C locale.
fn escaped(name: &[u8]) -> String {
    let mut out = String::new();
    for byte in name {
        match byte {
            0x07 => out.push_str("\\a"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x0b => out.push_str("\\v"),
            b'\\' => out.push_str("\\\\"),
            0x20..=0x7e => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out
}

fn permissions(entry: &Entry) -> String {
    let letter = match entry.kind {
        Kind::File => '-',
        other => kind(other),
    };
    let mut out = String::from(letter);
    for (shift, special, sign) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = entry.mode >> shift;
        out.push(if bits & 4 != 0 { 'r' } else { '-' });
        out.push(if bits & 2 != 0 { 'w' } else { '-' });
        out.push(match (entry.mode & special != 0, bits & 1 != 0) {
            (true, true) => sign,
            (true, false) => sign.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    out
}

/// Date and time in UTC, by the rule of 400 years (days from civil, counted from March).
fn civil(secs: i64) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}
