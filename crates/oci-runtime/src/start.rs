//! The start of a created container: its process, which waits at a socket, is let go on and followed until its
//! program runs.

use std::os::fd::AsFd;

use oci::Status;
use runtime::Progress;
use rustix::event::{PollFd, PollFlags, poll};
use sys::Errno;
use sys::socket::FdSocket;

use crate::context::Context;
use crate::create::{Made, send_listener, state};
use crate::error::{Doing, Error, Result};
use crate::store::{Place, Record};
use crate::{alive, destroy, hooks};

/// Starts a created container.
///
/// # Errors
/// [`Error::State`] for one that is not waiting, [`Error::Start`] with the reason its program does not run.
pub(crate) fn start(context: &Context, id: &str) -> Result<()> {
    let place = context.store.open(id)?;
    let record = place.load()?;
    match alive::status(&place, &record)? {
        // It would take the connection and not answer, and the gate would be gone.
        Status::Created if record.group.is_frozen() => {
            return Err(Error::State("cannot start a paused container; resume it first".to_owned()));
        }
        Status::Created => {}
        Status::Stopped => return Err(Error::State("cannot start a container that has stopped".to_owned())),
        Status::Creating => return Err(Error::State("cannot start a container that is being created".to_owned())),
        Status::Running | Status::Paused => {
            return Err(Error::State("cannot start an already running container".to_owned()));
        }
    }
    let gate = place.claim_gate()?;
    let socket =
        FdSocket::connect(&gate).doing(|| "reach the container's process, which waits to be started".to_owned())?;
    let _ = std::fs::remove_file(&gate);
    let mut status = runtime::Status::new(socket);
    loop {
        match status.advance() {
            Progress::Running => break,
            Progress::Failed(failure) => return Err(failure.into()),
            Progress::Waiting | Progress::Held(_) => {}
        }
        if let Some(listener) = status.listener.take() {
            send_listener(&record, &listener, record.pid, Status::Created)?;
        }
    }
    for warning in &status.warnings {
        context.log.warn(warning);
    }
    after_start(&place, &record)
}

/// Lets the process of a container that was made without a gate go on, and follows it until its program runs.
///
/// # Errors
/// [`Error::Start`].
pub(crate) fn go_on(context: &Context, made: &mut Made) -> Result<()> {
    let Made { spawning, record, place } = made;
    spawning.go_on().doing(|| "let the container's process go on".to_owned())?;
    loop {
        let progress = spawning.advance();
        if let Some(listener) = spawning.status.listener.take() {
            send_listener(record, &listener, record.pid, Status::Created)?;
        }
        match progress {
            Progress::Running => break,
            Progress::Failed(failure) => return Err(failure.into()),
            Progress::Waiting | Progress::Held(_) => {}
        }
        match poll(&mut [PollFd::from_borrowed_fd(spawning.status(), PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).doing(|| "wait for the container's process".to_owned()),
        }
    }
    for warning in &spawning.status.warnings {
        context.log.warn(warning);
    }
    after_start(place, record)
}

/// Hooks of a container that runs; one whose hook fails is stopped (runtime-spec, "Lifecycle").
fn after_start(place: &Place, record: &Record) -> Result<()> {
    if record.poststart.is_empty() {
        return Ok(());
    }
    hooks::run("poststart", &record.poststart, &state(record, Status::Running)).map_err(|why| {
        if let Ok(pidfd) = alive::pidfd(record) {
            let _ = sys::process::pidfd_signal(pidfd.as_fd(), 9);
        }
        let _ = destroy::wait_gone(place, record);
        Error::Other(why)
    })
}
