//! Work on file systems that may never answer: a server that is gone, a file system in user space that
//! hangs. It runs on a thread of its own and is waited for only so long.
//!
//! A thread that is stuck in the kernel cannot be taken back, so there is never more than one late one per
//! subject: as long as it is late, whoever asks about the same subject is refused at once. Called by the
//! volumes and by the opening of bind sources.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::{Error, Result, fail};

/// How long a file system may take to be mounted, opened or left.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Who is late.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    late: Arc<Mutex<BTreeSet<String>>>,
}

impl Patience {
    /// Do `work` for `subject` within `limit`. What it makes when it is late is dropped: it must be something
    /// that undoes itself.
    ///
    /// # Errors
    /// Those of `work`; Timeout when it takes too long, or when an earlier one still does.
    pub(crate) async fn run<T, F>(&self, subject: &str, doing: impl fmt::Display, limit: Duration, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Result<T> + Send + 'static,
    {
        if self.lock().contains(subject) {
            return Err(fail!(Timeout, "{doing}: its file system has not answered an earlier request yet")
                .with_hint("when its server is gone for good, unmount it by force on the host: umount -f"));
        }
        let (answer, answered) = oneshot::channel();
        let (late, name) = (Arc::clone(&self.late), subject.to_owned());
        let ended = Arc::new(Mutex::new(false));
        let ending = Arc::clone(&ended);
        std::thread::Builder::new()
            .name("volume".into())
            .spawn(move || {
                let result = work();
                let mut ended = ending.lock().unwrap_or_else(PoisonError::into_inner);
                *ended = true;
                late.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                // Nobody waits any more when this comes late.
                let _ = answer.send(result);
            })
            .map_err(|e| Error::io(format!("{doing}: cannot start a thread"), e))?;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(fail!(Internal, "{doing}: the engine failed")),
            Err(_) => {
                {
                    let ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    if !*ended {
                        self.lock().insert(subject.to_owned());
                    }
                }
                Err(fail!(Timeout, "{doing}: its file system does not answer ({} s)", limit.as_secs())
                    .with_hint("look for a server that is gone; umount -f on the host ends what waits for it"))
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_hangs_is_left_and_the_next_is_refused_until_it_ends() {
        let patience = Patience::default();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let hang = move || {
            let _ = held.recv();
            Ok(())
        };
        let short = Duration::from_millis(50);
        let error = patience.run("a", "open a", short, hang).await.unwrap_err();
        assert_eq!(error.kind(), types::Kind::Timeout);
        let error = patience.run("a", "open a", short, || Ok(())).await.unwrap_err();
        assert!(error.to_string().contains("earlier"), "{error}");
        // Others are not concerned.
        patience.run("b", "open b", LIMIT, || Ok(())).await.unwrap();
        drop(release);
        while patience.lock().contains("a") {
            tokio::task::yield_now().await;
        }
        patience.run("a", "open a", LIMIT, || Ok(())).await.unwrap();
    }

    #[tokio::test]
    async fn failures_are_handed_on() {
        let patience = Patience::default();
        let failing = || -> Result<()> { Err(fail!(Conflict, "no")) };
        assert_eq!(patience.run("a", "open a", LIMIT, failing).await.unwrap_err().to_string(), "no");
    }
}
