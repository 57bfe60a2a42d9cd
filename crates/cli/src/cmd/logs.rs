//! `logs`. The daemon says in the content type whether the output is framed, so the container need not be asked about
//! first; only daemons older than API 1.42 are.

use client::ApiVersion;

use super::container_path;
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Value, time},
    session::Session,
    term::output::copy_output,
};

pub(super) static LOGS: Command = Command {
    paths: &["container logs", "logs"],
    synopsis: "[OPTIONS] CONTAINER",
    about: "Show the output of a container",
    flags: &[&[
        Flag::switch("details", "Show extra attributes of the log driver"),
        Flag::switch("follow", "Go on with what is written from now on").short('f'),
        Flag::text("since", "Show lines since a time (such as 2013-01-02T13:23:37Z) or duration before now (42m)"),
        Flag::text("tail", "Number of lines from the end").short('n').default("all"),
        Flag::switch("timestamps", "Show when each line was written").short('t'),
        Flag::text("until", "Show lines before a time or duration before now"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: logs,
};

fn logs(parsed: &Parsed, session: &Session) -> Result<u8> {
    let client = session.client()?;
    let moment = |flag: &str| match parsed.opt(flag) {
        None | Some("") => Ok(None),
        Some(text) => {
            time::moment(text).map(Some).map_err(|why| Error::new(format!("invalid value for \"{flag}\": {why}")))
        }
    };
    let (since, until) = (moment("since")?, moment("until")?);
    let answer = client
        .get(container_path(parsed.first(), "/logs"))
        .flag("details", parsed.on("details"))
        .flag("follow", parsed.on("follow"))
        .query_opt("since", since.as_deref())
        .flag("stderr", true)
        .flag("stdout", true)
        .query("tail", parsed.text("tail"))
        .flag("timestamps", parsed.on("timestamps"))
        .query_opt("until", until.as_deref())
        .send()?;
    let framed = match answer.header("Content-Type") {
        Some("application/vnd.docker.multiplexed-stream") => true,
        Some("application/vnd.docker.raw-stream") if client.version() >= (ApiVersion { major: 1, minor: 42 }) => false,
        _ => {
            let info: Value = client.get(container_path(parsed.first(), "/json")).send()?.json()?;
            !info.get("Config").bool("Tty")
        }
    };
    copy_output(&mut answer.into_body(), framed)?;
    Ok(0)
}
