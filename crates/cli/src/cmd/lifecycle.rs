//! Commands that tell containers one thing: stop, restart, kill, pause, unpause, rm, rename.

use super::{container_path, parallel::each};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    session::Session,
};

const STOP_FLAGS: &[Flag] = &[
    Flag::text("signal", "Signal to send").short('s'),
    Flag::int("timeout", "Seconds to wait before killing").short('t'),
    Flag::int("time", "").hidden(),
];

pub(super) static STOP: Command = Command {
    paths: &["container stop", "stop"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Stop running containers",
    flags: &[STOP_FLAGS],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| stop(parsed, session, "/stop"),
};

pub(super) static RESTART: Command = Command {
    paths: &["container restart", "restart"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Restart containers",
    flags: &[STOP_FLAGS],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| stop(parsed, session, "/restart"),
};

fn stop(parsed: &Parsed, session: &Session, action: &str) -> Result<u8> {
    let client = session.client()?;
    let seconds = parsed.opt("timeout").or(parsed.opt("time"));
    each(&parsed.args, |name| {
        client
            .post(container_path(name, action))
            .query_opt("signal", parsed.opt("signal"))
            .query_opt("t", seconds)
            .send_discard()?;
        Ok(Some(name.to_owned()))
    })
}

pub(super) static KILL: Command = Command {
    paths: &["container kill", "kill"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Send a signal to running containers",
    flags: &[&[Flag::text("signal", "Signal to send; KILL when not given").short('s')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let client = session.client()?;
        each(&parsed.args, |name| {
            client.post(container_path(name, "/kill")).query_opt("signal", parsed.opt("signal")).send_discard()?;
            Ok(Some(name.to_owned()))
        })
    },
};

pub(super) static PAUSE: Command = Command {
    paths: &["container pause", "pause"],
    synopsis: "CONTAINER [CONTAINER...]",
    about: "Freeze all processes of containers",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| simple(parsed, session, "/pause"),
};

pub(super) static UNPAUSE: Command = Command {
    paths: &["container unpause", "unpause"],
    synopsis: "CONTAINER [CONTAINER...]",
    about: "Let the processes of containers go on",
    flags: &[],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| simple(parsed, session, "/unpause"),
};

fn simple(parsed: &Parsed, session: &Session, action: &str) -> Result<u8> {
    let client = session.client()?;
    each(&parsed.args, |name| {
        client.post(container_path(name, action)).send_discard()?;
        Ok(Some(name.to_owned()))
    })
}

pub(super) static RM: Command = Command {
    paths: &["container rm", "container remove", "rm"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Remove containers",
    flags: &[&[
        Flag::switch("force", "Kill running containers first").short('f'),
        Flag::switch("link", "Remove the link of this name").short('l'),
        Flag::switch("volumes", "Remove the anonymous volumes too").short('v'),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let client = session.client()?;
        let force = parsed.on("force");
        each(&parsed.args, |name| {
            let trimmed = name.trim_start_matches('/');
            if trimmed.is_empty() {
                return Err(crate::Error::new("container name cannot be empty"));
            }
            let sent = client
                .delete(container_path(trimmed, ""))
                .flag("v", parsed.on("volumes"))
                .flag("link", parsed.on("link"))
                .flag("force", force)
                .send_discard();
            match sent {
                // What is to be gone and is gone is no failure of a forced removal, but it is worth a word.
                Err(error) if force && error.is_not_found() => {
                    crate::term::output::warn(&error.to_string());
                    Ok(None)
                }
                Err(error) => Err(error.into()),
                Ok(()) => Ok(Some(name.to_owned())),
            }
        })
    },
};

pub(super) static RENAME: Command = Command {
    paths: &["container rename", "rename"],
    synopsis: "CONTAINER NEW_NAME",
    about: "Rename a container",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |parsed, session| {
        let sent = session
            .client()?
            .post(container_path(&parsed.args[0], "/rename"))
            .query("name", &parsed.args[1])
            .send_discard();
        sent.map_err(|error| {
            Error::new(format!("{error}\nError: failed to rename container named {}", parsed.args[0]))
        })?;
        Ok(0)
    },
};
