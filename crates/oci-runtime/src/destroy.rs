//! The end of a container: what is left of it is taken away, its directory last.

use std::os::fd::AsFd;
use std::time::Duration;

use oci::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::context::Context;
use crate::create::state;
use crate::error::{Error, Result};
use crate::store::{Place, Record};
use crate::{alive, hooks, resctrl};

/// How long a killed process may take to go: it may be in the middle of writing to a slow disk.
const PATIENCE: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;

/// Removes a container that has stopped; with `force` whatever state it is in, and one that never became one too.
///
/// # Errors
/// [`Error::State`] when it has not stopped or is being made, [`Error::NoSuchContainer`] and a record that cannot be
/// read without `force`.
pub(crate) fn delete(context: &Context, id: &str, force: bool) -> Result<()> {
    let locked = context.store.open(id).and_then(|mut place| place.lock().map(|()| place));
    let mut place = match locked {
        Err(Error::NoSuchContainer) if force => return Ok(()),
        other => other?,
    };
    let record = match place.load() {
        // A command was ended before it had made anything.
        Err(Error::NoSuchContainer) => return place.remove(),
        Err(error) if force => {
            let Some(record) = place.salvage() else {
                context.log.warn(&format!("{error}: processes and groups of the container, if there are any, stay"));
                return place.remove();
            };
            record
        }
        other => other?,
    };
    match alive::status(&place, &record)? {
        Status::Stopped | Status::Creating => {}
        // It has run nothing yet.
        Status::Created => kill_first(&place, &record)?,
        Status::Running | Status::Paused if force => kill_first(&place, &record)?,
        status => {
            return Err(Error::State(format!(
                "cannot delete container {id} that is not stopped: {}; kill it first or give --force",
                status.name()
            )));
        }
    }
    destroy(context, &mut place, &record)
}

/// Removes what is left of a container whose first process has ended, unless another command has.
///
/// # Errors
/// What of it could not be removed; its directory stays then, so that this can be tried again.
pub(crate) fn destroy(context: &Context, place: &mut Place, record: &Record) -> Result<()> {
    match place.lock() {
        Err(Error::NoSuchContainer) => return Ok(()),
        other => other?,
    }
    // Without a pid namespace of its own its other processes may live on; in a group that dies nothing lives.
    record.group.destroy()?;
    resctrl::remove(&record.resctrl);
    // Failures are told and change nothing, not even for the hooks after it (runtime-spec, "Lifecycle").
    for why in hooks::run_all("poststop", &record.poststop, &state(record, Status::Stopped)) {
        context.log.warn(&why);
    }
    place.remove()
}

fn kill_first(place: &Place, record: &Record) -> Result<()> {
    if let Ok(pidfd) = alive::pidfd(record) {
        let _ = sys::process::pidfd_signal(pidfd.as_fd(), SIGKILL);
    }
    // A frozen process acts on the signal when it runs again.
    record.group.thaw();
    wait_gone(place, record)
}

/// Waits until the first process is gone.
///
/// # Errors
/// When it is still there after ten seconds.
pub(crate) fn wait_gone(place: &Place, record: &Record) -> Result<()> {
    let Ok(pidfd) = alive::pidfd(record) else { return Ok(()) };
    let timeout = Timespec { tv_sec: PATIENCE.as_secs().cast_signed(), tv_nsec: 0 };
    let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout));
    if alive::is_alive(record) {
        return Err(Error::Other(format!("container {} did not end within 10 s of SIGKILL", place.id)));
    }
    Ok(())
}
