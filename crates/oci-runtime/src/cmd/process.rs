//! exec.

use std::path::PathBuf;

use super::lifecycle::wishes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::exec::{self, Asked};
use crate::flags::{Flag, Given, option, switch};

pub(crate) const EXEC: &[Flag] = &[
    option("process", Some('p'), "FILE", "the process as a JSON document of the specification"),
    option("cwd", None, "DIR", "working directory"),
    option("env", Some('e'), "KEY=VALUE", "one more environment variable; may be repeated"),
    switch("tty", Some('t'), "give the process a terminal"),
    option("user", Some('u'), "UID[:GID]", "user and group, as numbers"),
    option("additional-gids", Some('g'), "GID", "one more group; may be repeated"),
    switch("detach", Some('d'), "leave the process alone once it runs"),
    option("pid-file", None, "FILE", "file to write the process's number to"),
    option("console-socket", None, "PATH", "UNIX socket that gets the process's terminal"),
    option("pidfd-socket", None, "PATH", "UNIX socket that gets a pidfd of the process"),
    option("process-label", None, "LABEL", "SELinux label"),
    option("apparmor", None, "PROFILE", "AppArmor profile"),
    switch("no-new-privs", None, "never gain privileges by execve"),
    option("cap", Some('c'), "CAP", "one more capability; may be repeated"),
    option("preserve-fds", None, "N", "pass N further descriptors, from 3 on"),
    option("cgroup", None, "PATH", "group below the container's to run in"),
    switch("ignore-paused", None, "also in a paused container"),
];

pub(crate) fn exec(context: &Context, given: &Given) -> Result<u8> {
    let groups = given
        .all("additional-gids")
        .map(|gid| gid.parse().map_err(|_| Error::Usage(format!("--additional-gids takes a number, not {gid:?}"))));
    let asked = Asked {
        document: given.value("process").map(PathBuf::from),
        args: given.words.get(1..).unwrap_or_default().to_vec(),
        cwd: given.value("cwd").map(str::to_owned),
        env: given.all("env").map(str::to_owned).collect(),
        tty: given.has("tty"),
        user: given.value("user").map(str::to_owned),
        groups: groups.collect::<Result<_>>()?,
        label: given.value("process-label").map(str::to_owned),
        apparmor: given.value("apparmor").map(str::to_owned),
        no_new_privileges: given.has("no-new-privs"),
        capabilities: given.all("cap").map(str::to_owned).collect(),
        group: given.value("cgroup").map(str::to_owned),
        ignore_paused: given.has("ignore-paused"),
        wishes: wishes(given)?,
    };
    exec::exec(context, given.id()?, &asked)
}
