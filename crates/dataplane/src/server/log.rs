//! The log: warnings and errors, a line each, on standard error.
//!
//! Bounded in time, a few lines at once and then one every ten seconds, and in space: a log file that has grown too long
//! is begun anew. What containers do is counted and never logged.

use std::fmt::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::FileType;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Lines that may come at once.
const BURST: u32 = 20;
/// Until one more may come.
const REFILL: Duration = Duration::from_secs(10);
/// Longest line, in bytes.
const MAX_LINE: usize = 1024;
/// Longest file, in bytes.
const MAX_FILE: i64 = 1024 * 1024;

struct Stderr(Mutex<Budget>);

struct Budget {
    left: u32,
    filled: Instant,
    suppressed: u64,
}

/// Sends what is logged anywhere in this process to standard error.
pub(super) fn to_stderr() {
    let budget = Budget { left: BURST, filled: Instant::now(), suppressed: 0 };
    let _ = tracing::subscriber::set_global_default(Stderr(Mutex::new(budget)));
}

impl Budget {
    /// Takes one line, and tells how many were not written before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let steps = now.saturating_duration_since(self.filled).as_secs() / REFILL.as_secs();
        if steps > 0 {
            self.left = self.left.saturating_add(u32::try_from(steps).unwrap_or(u32::MAX)).min(BURST);
            self.filled = now;
        }
        if self.left == 0 {
            self.suppressed += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl Subscriber for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let Ok(mut budget) = self.0.lock() else { return };
        let Some(suppressed) = budget.take(Instant::now()) else { return };
        let mut line = Line(String::new());
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
        let _ = write!(line.0, "{seconds} {} dhow-net:", event.metadata().level());
        event.record(&mut line);
        if suppressed > 0 {
            let _ = write!(line.0, " ({suppressed} lines before this one were not written)");
        }
        let mut bytes = line.0.replace(['\n', '\r'], " ").into_bytes();
        bytes.truncate(MAX_LINE);
        bytes.push(b'\n');
        let stderr = rustix::stdio::stderr();
        if let Ok(stat) = rustix::fs::fstat(stderr)
            && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && stat.st_size > MAX_FILE
        {
            let _ = rustix::fs::ftruncate(stderr, 0);
        }
        let _ = rustix::io::write(stderr, &bytes);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.0.len() > MAX_LINE {
            return;
        }
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few() {
        let start = Instant::now();
        let mut budget = Budget { left: BURST, filled: start, suppressed: 0 };
        for _ in 0..BURST {
            assert_eq!(budget.take(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(budget.take(start + Duration::from_secs(9)), None);
        }
        assert_eq!(budget.take(start + Duration::from_secs(10)), Some(1000));
        assert_eq!(budget.take(start + Duration::from_secs(10)), None);
    }
}
