//! Copying between a hijacked connection and our standard streams, for `run`, `start`, `attach` and `exec`.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use client::{HijackWriter, Hijacked};

use super::{detach::DetachKeys, output::copy_output, raw::RawMode};
use crate::{Error, Result};

/// How a connection is attached to our streams.
#[derive(Debug)]
pub(crate) struct Attach {
    /// Pass our standard input on.
    pub(crate) stdin: bool,
    /// The other side is a terminal: raw bytes both ways.
    pub(crate) tty: bool,
    /// Sequence that ends the attachment; only looked for with a terminal.
    pub(crate) keys: DetachKeys,
}

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The output is over.
    Closed,
    /// The user typed the detach sequence.
    Detached,
}

impl Attach {
    /// Raw mode as this attachment needs it; hold it while [`Attach::copy`] runs.
    pub(crate) fn raw_mode(&self) -> Result<Option<RawMode>> {
        if self.stdin && self.tty { RawMode::enter() } else { Ok(None) }
    }

    /// Copies until the output ends or the user detaches.
    pub(crate) fn copy(self, mut connection: Hijacked) -> Result<Ended> {
        let detached = Arc::new(AtomicBool::new(false));
        if self.stdin {
            let writer = connection.writer()?;
            let (keys, flag) = (self.tty.then_some(self.keys), detached.clone());
            // The thread is left behind when the output ends first: it sits in a read that nothing interrupts.
            std::thread::spawn(move || feed_input(writer, keys, &flag));
        }
        let copied = copy_output(&mut connection, !self.tty);
        if detached.load(Ordering::Acquire) {
            return Ok(Ended::Detached);
        }
        match copied {
            Ok(()) => Ok(Ended::Closed),
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Error::BrokenPipe),
            Err(error) => Err(Error::new(format!("error reading the output: {error}"))),
        }
    }
}

fn feed_input(mut writer: HijackWriter, mut keys: Option<DetachKeys>, detached: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = Vec::new();
    let mut stdin = std::io::stdin().lock();
    loop {
        let count = match stdin.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        if count == 0 {
            writer.close_write();
            return;
        }
        let bytes = match keys.as_mut() {
            Some(keys) => {
                passed.clear();
                if keys.feed(&buffer[..count], &mut passed) {
                    let _ = writer.write_all(&passed);
                    detached.store(true, Ordering::Release);
                    writer.close();
                    return;
                }
                passed.as_slice()
            }
            None => &buffer[..count],
        };
        if writer.write_all(bytes).is_err() {
            return;
        }
    }
}
