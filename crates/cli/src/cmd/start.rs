//! `start`, with and without attaching.

use super::{DETACH_KEYS, container_path, parallel::each, run, wait};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::{
        attach::{Attach, Ended},
        detach::DetachKeys,
        output::stdin_is_terminal,
        signals,
    },
};

pub(super) static START: Command = Command {
    paths: &["container start", "start"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Start stopped containers",
    flags: &[&[
        Flag::switch("attach", "Attach to the output and pass signals on").short('a'),
        DETACH_KEYS,
        Flag::switch("interactive", "Attach our standard input").short('i'),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: start,
};

fn start(parsed: &Parsed, session: &Session) -> Result<u8> {
    let client = session.client()?;
    if parsed.on("attach") || parsed.on("interactive") {
        let [name] = parsed.args.as_slice() else {
            return Err(Error::new("you cannot start and attach multiple containers at once"));
        };
        return attached(parsed, session, name);
    }
    let failed = std::sync::Mutex::new(std::collections::BTreeSet::new());
    let outcome = each(&parsed.args, |name| {
        let started = client.post(container_path(name, "/start")).send_discard();
        if started.is_err() {
            failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(name.to_owned());
        }
        started?;
        Ok(Some(name.to_owned()))
    });
    if outcome.is_err() {
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let failed: Vec<&str> = parsed.args.iter().map(String::as_str).filter(|name| failed.contains(*name)).collect();
        crate::term::output::warn(&format!("Error: failed to start containers: {}", failed.join(", ")));
    }
    outcome
}

fn attached(parsed: &Parsed, session: &Session, name: &str) -> Result<u8> {
    let client = session.client()?;
    let info: Value = client.get(container_path(name, "/json")).send()?.json()?;
    let id = info.str("Id").to_owned();
    let tty = info.get("Config").bool("Tty");
    let stdin = parsed.on("interactive") && info.get("Config").bool("OpenStdin");
    if stdin && tty && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a TTY"));
    }
    let keys = DetachKeys::parse(&run::detach_keys(parsed, session)?)?;
    if !tty {
        signals::forward(client, &id);
    }
    let connection = client
        .post(container_path(&id, "/attach"))
        .flag("stderr", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stream", true)
        .query_opt("detachKeys", parsed.opt("detach-keys"))
        .start_hijack()?;
    let condition = if info.get("HostConfig").bool("AutoRemove") { "removed" } else { "next-exit" };
    let waited = client.post(container_path(&id, "/wait")).query("condition", condition).start()?;
    let (connection, waited) = (connection.receive_hijacked()?, waited.receive()?);
    let copying = Attach { stdin, tty, keys };
    let raw = copying.raw_mode()?;
    client.post(container_path(&id, "/start")).send_discard()?;
    if tty {
        signals::follow_window(client, signals::Resizable::Container(id));
    }
    let ended = copying.copy(connection)?;
    drop(raw);
    if ended == Ended::Detached {
        return Ok(0);
    }
    let answer: Value = waited.json()?;
    Ok(u8::try_from(wait::status(&answer)? & 0xff).unwrap_or(1))
}
