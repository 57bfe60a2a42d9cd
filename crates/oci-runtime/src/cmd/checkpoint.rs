//! checkpoint and restore, through CRIU.

use std::path::PathBuf;

use oci::{Spec, Status};

use super::lifecycle::{CONSOLE, NO_KEYRING, NO_PIVOT, PID_FILE, wishes};
use crate::bundle::read_document;
use crate::context::Context;
use crate::create;
use crate::criu::{self, Images};
use crate::error::{Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::foreground::Signals;
use crate::{alive, destroy, foreground};

const IMAGES: Flag = option("image-path", None, "DIR", "directory of the images (default: checkpoint)");
const WORK: Flag = option("work-path", None, "DIR", "directory of criu's log (default: that of the images)");
const TCP: Flag = switch("tcp-established", None, "with open TCP connections");
const UNIX: Flag = switch("ext-unix-sk", None, "with UNIX sockets whose other end is outside");
const SHELL: Flag = switch("shell-job", None, "with a terminal that is not the container's own");
const LOCKS: Flag = switch("file-locks", None, "with file locks");
const GROUPS: Flag =
    option("manage-cgroups-mode", None, "MODE", "what criu does about control groups (default ignore)");
const EMPTY: Flag = option("empty-ns", None, "network", "make the namespace empty instead of restoring what is in it");
const DEDUP: Flag = switch("auto-dedup", None, "keep each memory page once");

pub(crate) const CHECKPOINT: &[Flag] = &[
    IMAGES,
    WORK,
    option("parent-path", None, "DIR", "earlier images, relative to the new ones, to save only the difference"),
    switch("leave-running", None, "let the container go on"),
    TCP,
    switch("tcp-skip-in-flight", None, "without TCP connections that are being made"),
    switch("link-remap", None, "with files that have been removed but are open"),
    UNIX,
    SHELL,
    option("page-server", None, "ADDRESS:PORT", "send memory to a page server"),
    LOCKS,
    switch("pre-dump", None, "save memory only, and let the container go on"),
    GROUPS,
    EMPTY,
    DEDUP,
];
pub(crate) const RESTORE: &[Flag] = &[
    IMAGES,
    WORK,
    TCP,
    UNIX,
    SHELL,
    LOCKS,
    GROUPS,
    EMPTY,
    DEDUP,
    CONSOLE,
    PID_FILE,
    NO_PIVOT,
    NO_KEYRING,
    option("bundle", Some('b'), "DIR", "directory with config.json (default: the working directory)"),
    switch("detach", Some('d'), "leave the container alone once it runs"),
    switch("no-subreaper", None, "do not adopt processes the container leaves behind"),
    option("lsm-profile", None, "TYPE:NAME", "security label instead of the one saved"),
    option("lsm-mount-context", None, "CONTEXT", "SELinux context of mounts instead of the one saved"),
];

fn images(given: &Given) -> Result<Images> {
    let absolute = |flag: &str, default: Option<&str>| -> Result<Option<PathBuf>> {
        let path = given.value(flag).or(default).map(std::path::absolute).transpose();
        path.map_err(|error| Error::Usage(format!("--{flag}: {error}")))
    };
    let mut flags: Vec<String> =
        ["tcp-established", "ext-unix-sk", "shell-job", "file-locks", "link-remap", "auto-dedup"]
            .into_iter()
            .filter(|flag| given.has(flag))
            .map(|flag| format!("--{flag}"))
            .collect();
    if given.has("tcp-skip-in-flight") {
        flags.push("--skip-in-flight".to_owned());
    }
    match given.value("empty-ns") {
        None => {}
        Some("network") => flags.extend(["--empty-ns".to_owned(), "net".to_owned()]),
        Some(other) => return Err(Error::Usage(format!("--empty-ns is for network, not {other:?}"))),
    }
    if let Some(server) = given.value("page-server") {
        let (address, port) = server
            .rsplit_once(':')
            .ok_or_else(|| Error::Usage(format!("--page-server takes ADDRESS:PORT, not {server:?}")))?;
        let more = ["--page-server", "--address", address, "--port", port];
        flags.extend(more.map(str::to_owned));
    }
    for flag in ["lsm-profile", "lsm-mount-context"] {
        if let Some(value) = given.value(flag) {
            flags.extend([format!("--{flag}"), value.to_owned()]);
        }
    }
    let groups = given.value("manage-cgroups-mode").unwrap_or("ignore");
    if !["soft", "full", "strict", "ignore"].contains(&groups) {
        return Err(Error::Usage(format!("--manage-cgroups-mode is soft, full, strict or ignore, not {groups:?}")));
    }
    Ok(Images {
        dir: absolute("image-path", Some("checkpoint"))?.unwrap_or_default(),
        work: absolute("work-path", None)?,
        parent: given.value("parent-path").map(str::to_owned),
        flags,
        groups: groups.to_owned(),
    })
}

pub(crate) fn checkpoint(context: &Context, given: &Given) -> Result<u8> {
    let mut place = context.store.open(given.id()?)?;
    let record = place.load()?;
    match alive::status(&place, &record)? {
        Status::Running | Status::Paused => {}
        status => {
            return Err(Error::State(format!("cannot checkpoint a container that is {}", status.name())));
        }
    }
    let spec = Spec::parse(&read_document(&record.bundle.join("config.json"))?)?;
    refuse_terminal(&spec)?;
    let (pre, leave) = (given.has("pre-dump"), given.has("leave-running"));
    criu::dump(&record, &spec, &images(given)?, pre, leave)?;
    if !pre && !leave {
        destroy::wait_gone(&place, &record)?;
        destroy::destroy(context, &mut place, &record)?;
    }
    Ok(0)
}

/// The other end of a terminal is with whoever shows it, whom CRIU cannot save.
fn refuse_terminal(spec: &Spec) -> Result<()> {
    if spec.process.as_ref().is_some_and(|process| process.terminal) {
        return Err(Error::State(
            "containers with a terminal cannot be checkpointed; run them with process.terminal false".to_owned(),
        ));
    }
    Ok(())
}

pub(crate) fn restore(context: &Context, given: &Given) -> Result<u8> {
    let images = images(given)?;
    let wishes = wishes(given)?;
    let signals = if wishes.detach { None } else { Some(Signals::catch()?) };
    let mut made = create::restore(context, given.id()?, &wishes, &images)?;
    let Some(signals) = signals else { return Ok(0) };
    let ended = foreground::attend(&mut made.spawning, &signals);
    destroy::destroy(context, &mut made.place, &made.record)?;
    ended
}
