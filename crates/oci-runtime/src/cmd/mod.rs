//! The commands, one file a family; this table is what the command line and its help are made from.

mod checkpoint;
mod describe;
mod inspect;
mod lifecycle;
mod process;
mod resources;

use crate::context::Context;
use crate::error::Result;
use crate::flags::{Flag, Given};

pub(crate) use lifecycle::passed;

/// One command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    /// Arguments, for the help.
    pub(crate) usage: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) flags: &'static [Flag],
    /// After so many words everything is a word, whatever it begins with.
    pub(crate) words: usize,
    /// Exit code of a failure.
    pub(crate) failure: u8,
    pub(crate) run: fn(&Context, &Given) -> Result<u8>,
}

/// A command most of whose failures end with 1.
const fn command(
    name: &'static str,
    usage: &'static str,
    summary: &'static str,
    flags: &'static [Flag],
    run: fn(&Context, &Given) -> Result<u8>,
) -> Command {
    Command { name, usage, summary, flags, words: usize::MAX, failure: 1, run }
}

/// Every command.
pub(crate) const COMMANDS: &[Command] = &[
    command("checkpoint", "ID", "save a running container with criu", checkpoint::CHECKPOINT, checkpoint::checkpoint),
    command("create", "ID", "make a container whose process waits for start", lifecycle::CREATE, lifecycle::create),
    command("delete", "ID", "remove a stopped container", lifecycle::DELETE, lifecycle::delete),
    command(
        "events",
        "ID",
        "print statistics and memory kills, one JSON object a line",
        resources::EVENTS,
        resources::events,
    ),
    // What the command line of the process looks like is its own affair; a failure is told apart from the codes
    // programs end with.
    Command {
        words: 1,
        failure: 255,
        ..command("exec", "ID COMMAND [ARGUMENTS]", "run a process in a container", process::EXEC, process::exec)
    },
    command("features", "", "print what this runtime can do, as JSON", &[], describe::features),
    command("kill", "ID [SIGNAL]", "send a signal (default SIGTERM) to a container", lifecycle::KILL, lifecycle::kill),
    command("list", "", "list the containers below --root", inspect::LIST, inspect::list),
    command("pause", "ID", "freeze every process of a container", &[], resources::pause),
    Command {
        words: 1,
        ..command("ps", "ID [PS OPTIONS]", "list the processes of a container", inspect::PS, inspect::ps)
    },
    command("restore", "ID", "bring back a container from a checkpoint", checkpoint::RESTORE, checkpoint::restore),
    command("resume", "ID", "let a paused container go on", &[], resources::resume),
    command("run", "ID", "create and start a container", lifecycle::RUN, lifecycle::run),
    command("spec", "", "write a config.json to begin with", describe::SPEC, describe::spec),
    command("start", "ID", "start a created container", &[], lifecycle::start),
    command("state", "ID", "print the state of a container as JSON", &[], inspect::state),
    command("update", "ID", "change the limits of a container", resources::UPDATE, resources::update),
];
