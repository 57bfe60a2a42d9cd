//! `exec`: a further process in a running container.

use serde_json::json;

use super::{DETACH_KEYS, container_path, run};
use crate::{
    Error, Result, create,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::{
        attach::{Attach, Ended},
        detach::DetachKeys,
        output::stdin_is_terminal,
        raw::window_size,
        signals,
    },
};

pub(super) static EXEC: Command = Command {
    paths: &["container exec", "exec"],
    synopsis: "[OPTIONS] CONTAINER COMMAND [ARG...]",
    about: "Run a command in a running container",
    flags: &[&[
        Flag::switch("detach", "Run in the background").short('d'),
        DETACH_KEYS,
        Flag::list("env", "Environment variable").short('e'),
        Flag::list("env-file", "File of environment variables"),
        Flag::switch("interactive", "Pass our standard input on").short('i'),
        Flag::switch("privileged", "Give the command all privileges"),
        Flag::switch("tty", "Allocate a terminal").short('t'),
        Flag::text("user", "User or UID (name|uid[:group|gid])").short('u'),
        Flag::text("workdir", "Working directory").short('w'),
    ]],
    arity: Arity::AtLeast(2),
    interspersed: false,
    run: exec,
};

fn exec(parsed: &Parsed, session: &Session) -> Result<u8> {
    let detach = parsed.on("detach");
    let (stdin, tty) = (parsed.on("interactive") && !detach, parsed.on("tty"));
    if stdin && tty && !stdin_is_terminal() {
        return Err(Error::new("the input device is not a TTY"));
    }
    let keys_text = run::detach_keys(parsed, session)?;
    let env = create::environment(parsed.list("env-file"), parsed.list("env"), |name| std::env::var(name).ok())?;
    let size = if tty && !detach { window_size() } else { None };
    let body = json!({
        "User": parsed.text("user"), "Privileged": parsed.on("privileged"), "Tty": tty,
        "AttachStdin": stdin, "AttachStdout": !detach, "AttachStderr": !detach, "Detach": detach,
        "DetachKeys": keys_text, "Env": env, "WorkingDir": parsed.text("workdir"), "Cmd": parsed.args[1..],
        "ConsoleSize": size.map(|(height, width)| [height, width]),
    });
    let client = session.client()?;
    let created: Value = client.post(container_path(parsed.first(), "/exec")).json(&body)?.send()?.json()?;
    let id = created.str("Id").to_owned();
    let path = format!("/exec/{}", client::escape_segment(&id));
    let options = json!({"Detach": detach, "Tty": tty, "ConsoleSize": size.map(|(height, width)| [height, width])});
    let request = client.post(format!("{path}/start")).json(&options)?;
    if detach {
        request.send_discard()?;
        return Ok(0);
    }
    let copying = Attach { stdin, tty, keys: DetachKeys::parse(&keys_text)? };
    let connection = request.hijack()?;
    let raw = copying.raw_mode()?;
    if tty {
        signals::follow_window(client, signals::Resizable::Exec(id));
    }
    let ended = copying.copy(connection)?;
    drop(raw);
    if ended == Ended::Detached {
        return Ok(0);
    }
    let state: Value = client.get(format!("{path}/json")).send()?.json()?;
    Ok(u8::try_from(state.int("ExitCode") & 0xff).unwrap_or(1))
}
