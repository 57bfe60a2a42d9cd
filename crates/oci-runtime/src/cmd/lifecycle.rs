//! From birth to removal: create, start, run, kill, delete.

use std::os::fd::AsFd;
use std::path::PathBuf;

use oci::Status;
use types::Signal;

use crate::context::Context;
use crate::create::{self, Wishes};
use crate::error::{Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::foreground::{self, Signals};
use crate::{alive, destroy, start as starting};

const BUNDLE: Flag = option("bundle", Some('b'), "DIR", "directory with config.json (default: the working directory)");
pub(super) const CONSOLE: Flag =
    option("console-socket", None, "PATH", "UNIX socket that gets the container's terminal");
const PIDFD: Flag = option("pidfd-socket", None, "PATH", "UNIX socket that gets a pidfd of the container's process");
pub(super) const PID_FILE: Flag = option("pid-file", None, "FILE", "file to write the process's number to");
pub(super) const NO_PIVOT: Flag =
    switch("no-pivot", None, "move the root instead of pivoting into it; for hosts on an initramfs");
pub(super) const NO_KEYRING: Flag = switch("no-new-keyring", None, "stay in the caller's session keyring");
const PRESERVE: Flag = option("preserve-fds", None, "N", "pass N further descriptors, from 3 on");

pub(crate) const CREATE: &[Flag] = &[BUNDLE, CONSOLE, PIDFD, PID_FILE, NO_PIVOT, NO_KEYRING, PRESERVE];
pub(crate) const RUN: &[Flag] = &[
    BUNDLE,
    CONSOLE,
    PIDFD,
    PID_FILE,
    NO_PIVOT,
    NO_KEYRING,
    PRESERVE,
    switch("detach", Some('d'), "leave the container alone once it runs"),
    switch("keep", None, "do not delete the container when it has ended"),
    switch("no-subreaper", None, "do not adopt processes the container leaves behind"),
];
pub(crate) const KILL: &[Flag] = &[switch("all", Some('a'), "send the signal to every process of the container")];
pub(crate) const DELETE: &[Flag] =
    &[switch("force", Some('f'), "kill the container first if it runs; no container is no error")];

/// What the flags that every start has in common say.
pub(crate) fn wishes(given: &Given) -> Result<Wishes> {
    let path = |flag: &str| given.value(flag).filter(|path| !path.is_empty()).map(PathBuf::from);
    // The bundle becomes the working directory: what was meant from here is found from there.
    let absolute = |flag: &str| {
        path(flag).map(std::path::absolute).transpose().map_err(|error| Error::Usage(format!("--{flag}: {error}")))
    };
    Ok(Wishes {
        bundle: given.value("bundle").map(str::to_owned),
        pid_file: absolute("pid-file")?,
        console_socket: absolute("console-socket")?,
        pidfd_socket: absolute("pidfd-socket")?,
        no_pivot: given.has("no-pivot"),
        no_new_keyring: given.has("no-new-keyring"),
        preserve_fds: given.number("preserve-fds")?.unwrap_or(0),
        listen_fds: 0,
        detach: given.has("detach"),
    })
}

/// How many sockets of a service manager this process was started with: those of another, whose variables it has
/// only inherited, are none of its own (sd_listen_fds(3)).
fn listen_fds() -> u32 {
    fn number(name: &str) -> Option<u32> {
        std::env::var(name).ok()?.parse().ok()
    }
    if number("LISTEN_PID") == Some(std::process::id()) { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

/// How many descriptors after the standard streams are to reach the container's process.
pub(crate) fn passed(given: &Given) -> u32 {
    given.number("preserve-fds").ok().flatten().unwrap_or(0u32).saturating_add(listen_fds())
}

pub(crate) fn create(context: &Context, given: &Given) -> Result<u8> {
    let wishes = Wishes { detach: true, listen_fds: listen_fds(), ..wishes(given)? };
    let made = create::make(context, given.id()?, &wishes, true)?;
    if made.spawning.go_on().is_err() {
        let _ = destroy::delete(context, given.id()?, true);
        return Err(Error::Start("the container's process died before it could be started".to_owned()));
    }
    Ok(0)
}

pub(crate) fn start(context: &Context, given: &Given) -> Result<u8> {
    starting::start(context, given.id()?).map(|()| 0)
}

pub(crate) fn run(context: &Context, given: &Given) -> Result<u8> {
    let wishes = Wishes { listen_fds: listen_fds(), ..wishes(given)? };
    let id = given.id()?;
    let signals = if wishes.detach { None } else { Some(Signals::catch()?) };
    if !wishes.detach && !given.has("no-subreaper") {
        let _ = sys::process::become_subreaper();
    }
    let mut made = create::make(context, id, &wishes, false)?;
    if let Err(error) = starting::go_on(context, &mut made) {
        let _ = sys::process::pidfd_signal(made.spawning.pidfd.as_fd(), 9);
        let _ = sys::process::wait_for(made.spawning.pid);
        let _ = destroy::destroy(context, &mut made.place, &made.record);
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    let ended = foreground::attend(&mut made.spawning, &signals);
    if !given.has("keep") {
        destroy::destroy(context, &mut made.place, &made.record)?;
    }
    ended
}

pub(crate) fn kill(context: &Context, given: &Given) -> Result<u8> {
    let place = context.store.open(given.id()?)?;
    let record = place.load()?;
    let name = given.words.get(1).map_or("SIGTERM", String::as_str);
    // 0 only asks whether the process is there (kill(2)).
    let signal = match name {
        "0" => 0,
        name => name.parse::<Signal>().map_err(|error| Error::Usage(error.to_string()))?.number(),
    };
    let all = given.has("all");
    match alive::status(&place, &record)? {
        Status::Stopped | Status::Creating if !all => return Err(Error::NotRunning),
        _ => {}
    }
    // Processes that share a pid namespace do not die with the first one, which for SIGKILL is what is meant.
    if all || signal == 9 && !record.own_pid_namespace {
        record.group.signal_all(signal)?;
        return Ok(0);
    }
    let pidfd = alive::pidfd(&record).map_err(|_| Error::NotRunning)?;
    match sys::process::pidfd_signal(pidfd.as_fd(), signal) {
        Ok(()) => {}
        Err(sys::Errno::SRCH) => return Err(Error::NotRunning),
        Err(errno) => return Err(Error::System { what: format!("send signal {signal}"), errno }),
    }
    // On v1 a frozen process does not even die; a paused container that is killed is not paused any more.
    if signal == 9 {
        record.group.thaw();
    }
    Ok(0)
}

pub(crate) fn delete(context: &Context, given: &Given) -> Result<u8> {
    destroy::delete(context, given.id()?, given.has("force")).map(|()| 0)
}
