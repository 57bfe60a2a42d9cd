//! What every command of one call shares: where containers are remembered, where words go, how groups are made.

use std::path::PathBuf;

use crate::caller;
use crate::error::{Doing, Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::log::{Format, Log};
use crate::store::Store;

/// Flags before the command.
pub(crate) const GLOBAL: &[Flag] = &[
    switch("debug", None, "more words in the log"),
    option("log", None, "FILE", "append what goes wrong to FILE"),
    option("log-format", None, "text|json", "form of the log (default text)"),
    option("root", None, "DIR", "directory of the containers' state, on a file system that ends with the host"),
    option("criu", None, "FILE", "accepted; criu is found on PATH"),
    switch("systemd-cgroup", None, "make control groups through systemd; cgroupsPath is slice:prefix:name"),
    option("rootless", None, "auto|true|false", "accepted; what the caller may do is found out"),
    switch("version", Some('v'), "print the version"),
    switch("help", Some('h'), "print this help"),
];

/// One call of the program.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) store: Store,
    pub(crate) log: Log,
    pub(crate) systemd: bool,
}

impl Context {
    /// From the flags before the command.
    ///
    /// # Errors
    /// [`Error::Usage`] for a log format that is none.
    pub(crate) fn new(given: &Given) -> Result<Self> {
        let root = given.value("root").map_or_else(default_root, PathBuf::from);
        let root = std::path::absolute(root).doing(|| "find the working directory".to_owned())?;
        let format = match given.value("log-format") {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => return Err(Error::Usage(format!("--log-format is text or json, not {other:?}"))),
        };
        let file = given.value("log").filter(|file| !file.is_empty() && *file != "/dev/stderr").map(PathBuf::from);
        Ok(Self {
            store: Store::at(root),
            log: Log { file, format, debug: given.has("debug") },
            systemd: given.has("systemd-cgroup"),
        })
    }
}

/// Root keeps state in `/run`, which ends with the host's uptime as containers do; others in their own part of it.
///
/// Root of a user namespace is another, unless it calls itself root: then it has its own `/run` as well.
fn default_root() -> PathBuf {
    let others = !rustix::process::geteuid().is_root()
        || caller::is_mapped() && std::env::var_os("USER").is_none_or(|user| user != "root");
    match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(dir) if others => PathBuf::from(dir).join("dhow-oci"),
        _ => PathBuf::from("/run/dhow-oci"),
    }
}
