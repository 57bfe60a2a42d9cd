//! `attach`: our streams to those of a running container.

use super::{DETACH_KEYS, container_path, run, wait};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::{
        attach::{Attach, Ended},
        detach::DetachKeys,
        output::{stdin_is_terminal, warn},
        signals,
    },
};

pub(super) static ATTACH: Command = Command {
    paths: &["container attach", "attach"],
    synopsis: "[OPTIONS] CONTAINER",
    about: "Attach our standard streams to a running container",
    flags: &[&[
        DETACH_KEYS,
        Flag::switch("no-stdin", "Do not attach standard input"),
        Flag::switch("sig-proxy", "Pass our signals on to the process").default("true"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: attach,
};

fn attach(parsed: &Parsed, session: &Session) -> Result<u8> {
    let client = session.client()?;
    let info: Value = client.get(container_path(parsed.first(), "/json")).send()?.json()?;
    let (state, id) = (info.get("State"), info.str("Id").to_owned());
    for (bad, text) in [
        (!state.bool("Running"), "cannot attach to a stopped container, start it first"),
        (state.bool("Paused"), "cannot attach to a paused container, unpause it first"),
        (state.bool("Restarting"), "cannot attach to a restarting container, wait until it is running"),
    ] {
        if bad {
            return Err(Error::new(text));
        }
    }
    let tty = info.get("Config").bool("Tty");
    let stdin = !parsed.on("no-stdin") && info.get("Config").bool("OpenStdin");
    if stdin && tty && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a TTY"));
    }
    let keys = DetachKeys::parse(&run::detach_keys(parsed, session)?)?;
    let waited = client.post(container_path(&id, "/wait")).start()?;
    let connection = client
        .post(container_path(&id, "/attach"))
        .flag("stderr", true)
        .flag("stdin", stdin)
        .flag("stdout", true)
        .flag("stream", true)
        .query_opt("detachKeys", parsed.opt("detach-keys"))
        .start_hijack()?;
    let (waited, connection) = (waited.receive()?, connection.receive_hijacked()?);
    if parsed.on("sig-proxy") && !tty {
        signals::forward(client, &id);
    }
    let copying = Attach { stdin, tty, keys };
    let raw = copying.raw_mode()?;
    if tty {
        signals::follow_window(client, signals::Resizable::Container(id));
    }
    let ended = copying.copy(connection)?;
    drop(raw);
    if ended == Ended::Detached {
        warn("read escape sequence");
        return Ok(0);
    }
    let answer: Value = waited.json()?;
    Ok(u8::try_from(wait::status(&answer)? & 0xff).unwrap_or(1))
}
