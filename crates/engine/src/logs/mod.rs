//! Container logs as clients read them: a stream of chunks over the json-file the shim writes.
//!
//! Reading happens in pieces on the blocking pool, waiting happens in the runtime on one inotify
//! descriptor (polling where the host has none left), so a follower costs no thread and bounded
//! memory, and never slows the writer. Called by the facade and by attach.

mod line;
mod reader;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

pub use reader::LogOptions;
use reader::{Chunk, Reader};

use crate::error::{Error, Result};
use crate::watched::{self, Watched};

/// Chunks a client may be behind before reading pauses.
const QUEUE: usize = 4;
/// Between looks at the file when the kernel cannot tell us.
const POLL: Duration = Duration::from_millis(100);

/// Stream the log at `path`. `running` says whether its writer lives: a follower ends when it does
/// not and everything was read. `framed` wraps each line in a stdcopy frame.
pub(crate) fn stream(
    path: PathBuf,
    options: LogOptions,
    framed: bool,
    running: watch::Receiver<bool>,
) -> mpsc::Receiver<Result<Bytes>> {
    let (tx, rx) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        if let Err(error) = produce(path, options, framed, running, &tx).await {
            // A client that left needs no error.
            let _ = tx.send(Err(error)).await;
        }
    });
    rx
}

async fn produce(
    path: PathBuf,
    options: LogOptions,
    framed: bool,
    mut running: watch::Receiver<bool>,
    client: &mpsc::Sender<Result<Bytes>>,
) -> Result<()> {
    let failed = {
        let path = path.clone();
        move |e: std::io::Error| Error::io(format!("cannot read the log {}", path.display()), e)
    };
    let follow = options.follow;
    let until = options.until;
    // The watch begins before the first read, so that no change falls between.
    let mut changes = if follow { Changes::watch(&path) } else { None };
    let blocking = |e: tokio::task::JoinError| Error::io("reading a log was interrupted", e);
    let open = path.clone();
    let mut reader = tokio::task::spawn_blocking(move || Reader::open(&open, options, framed))
        .await
        .map_err(blocking)?
        .map_err(&failed)?;
    let mut last_look = false;
    loop {
        let (back, chunk) = tokio::task::spawn_blocking(move || {
            let chunk = reader.next_chunk();
            (reader, chunk)
        })
        .await
        .map_err(blocking)?;
        reader = back;
        match chunk.map_err(&failed)? {
            Chunk::Data(data) => {
                if client.send(Ok(data.into())).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            Chunk::Finished => return Ok(()),
            Chunk::End if !follow || last_look => return Ok(()),
            Chunk::End => {}
        }
        // The writer writes everything before it reports the exit: one more look after that is enough.
        last_look = !*running.borrow_and_update();
        if last_look {
            continue;
        }
        let deadline = until.and_then(|until| {
            let now = jiff::Timestamp::now().as_nanosecond();
            u64::try_from(i128::from(until) - now).ok().map(Duration::from_nanos)
        });
        if until.is_some() && deadline.is_none() {
            return Ok(());
        }
        tokio::select! {
            () = wait_for_change(&mut changes) => {}
            changed = running.changed() => {
                if changed.is_err() {
                    last_look = true;
                }
            }
            () = client.closed() => return Ok(()),
            () = tokio::time::sleep(deadline.unwrap_or(Duration::MAX)), if deadline.is_some() => {}
        }
    }
}

async fn wait_for_change(changes: &mut Option<Changes>) {
    match changes {
        Some(changes) => changes.next().await,
        None => tokio::time::sleep(POLL).await,
    }
}

/// inotify on the log's directory: it sees writes, creation and rotation alike.
struct Changes {
    fd: AsyncFd<Watched<OwnedFd>>,
}

impl Changes {
    fn watch(path: &Path) -> Option<Self> {
        use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
        let fd = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let flags = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        add_watch(&fd, path.parent()?, flags).ok()?;
        Some(Self { fd: watched::watch(fd, Interest::READABLE).ok()? })
    }

    async fn next(&mut self) {
        let read = self.fd.async_io(Interest::READABLE, |inotify| {
            let mut sink = [0u8; 4096];
            Ok(rustix::io::read(&inotify.0, &mut sink)?)
        });
        if read.await.is_err() {
            tokio::time::sleep(POLL).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_follower_gets_everything_up_to_the_exit() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c-json.log");
        let (exit, running) = watch::channel(true);
        let options = LogOptions { follow: true, stdout: true, stderr: true, ..LogOptions::default() };
        let mut stream = stream(path.clone(), options, false, running);
        let writer = tokio::task::spawn_blocking(move || {
            let mut file = std::fs::File::create(&path).unwrap();
            for n in 0..1000 {
                let time = "2026-01-01T00:00:00Z";
                writeln!(file, "{{\"log\":\"{n}\\n\",\"stream\":\"stdout\",\"time\":\"{time}\"}}").unwrap();
                if n % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            exit.send(false).unwrap();
        });
        let mut got = Vec::new();
        while let Some(chunk) = stream.recv().await {
            got.extend_from_slice(&chunk.unwrap());
        }
        writer.await.unwrap();
        assert_eq!(String::from_utf8(got).unwrap(), (0..1000).map(|n| format!("{n}\n")).collect::<String>());
    }
}
