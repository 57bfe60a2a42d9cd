//! Work that waits for clients and registries, on threads of its own: however many of those stop in the middle, the threads
//! that all other work of the engine shares stay free.

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use crate::error::{Error, Result};

/// Most of it at a time; more waits.
static PLACES: Semaphore = Semaphore::const_new(256);

/// Does work; `what` it is for messages.
///
/// # Errors
/// There is no thread for it, or it was interrupted.
pub(crate) async fn run<T: Send + 'static>(what: &'static str, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let place = PLACES.acquire().await.map_err(|e| Error::io(what, e))?;
    let runtime = Handle::current();
    let (done, ended) = oneshot::channel();
    let thread = move || {
        let _entered = runtime.enter();
        let _place = place;
        // Nobody may want it any more.
        drop(done.send(work()));
    };
    let begun = std::thread::Builder::new().name("client".to_owned()).stack_size(2 << 20).spawn(thread);
    begun.map_err(|e| Error::io(what, e))?;
    ended.await.map_err(|_| Error::io(what, "it was interrupted"))
}
