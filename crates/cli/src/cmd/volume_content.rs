//! `volume export`, `import`, `clone`, `snapshot` and `rollback`: what is in a volume, out and in.

use std::{
    fs::File,
    io::{self},
    path::Path,
};

use client::escape_segment;
use serde_json::{Map, json};

use super::load::{send, to_file_or_stdout};
use crate::{
    Error, Result,
    create::pair,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::{self, print_line},
};

pub(super) static EXPORT: Command = Command {
    paths: &["volume export"],
    synopsis: "[OPTIONS] VOLUME",
    about: "Write everything in a volume to an archive",
    flags: &[&[Flag::text("output", "File to write instead of standard output, which is -").short('o')]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: export,
};

pub(super) static IMPORT: Command = Command {
    paths: &["volume import"],
    synopsis: "VOLUME [FILE|-]",
    about: "Replace what is in a volume by an archive; makes the volume when there is none",
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: import,
};

const LABEL: Flag = Flag::list("label", "Label of the new volume (key=value)");

pub(super) static CLONE: Command = Command {
    paths: &["volume clone"],
    synopsis: "[OPTIONS] VOLUME NEW",
    about: "Make a new volume with what is in another",
    flags: &[&[LABEL]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |parsed, session| copy(parsed, session, "clone"),
};

pub(super) static SNAPSHOT: Command = Command {
    paths: &["volume snapshot"],
    synopsis: "[OPTIONS] VOLUME [NAME]",
    about: "Keep what is in a volume now as another volume",
    flags: &[&[LABEL]],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: |parsed, session| copy(parsed, session, "snapshot"),
};

pub(super) static ROLLBACK: Command = Command {
    paths: &["volume rollback"],
    synopsis: "VOLUME SNAPSHOT",
    about: "Put back what a snapshot of the volume kept",
    flags: &[],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: |parsed, session| {
        let path = format!("/volumes/{}/rollback", escape_segment(parsed.first()));
        let request = session.client()?.post(path).query_opt("to", parsed.args.get(1).map(String::as_str));
        let volume: Value = request.send()?.json()?;
        print_line(volume.str("Name"))?;
        Ok(0)
    },
};

fn export(parsed: &Parsed, session: &Session) -> Result<u8> {
    let target = parsed.opt("output").filter(|path| *path != "-");
    if target.is_none() && output::stdout_is_terminal() {
        return Err(Error::new("cowardly refusing to export to a terminal. Use the -o flag or redirect"));
    }
    let path = format!("/volumes/{}/export", escape_segment(parsed.first()));
    to_file_or_stdout(session.client()?.get(path), target)
}

fn import(parsed: &Parsed, session: &Session) -> Result<u8> {
    let path = format!("/volumes/{}/import", escape_segment(parsed.first()));
    let request = session.client()?.post(path);
    let answer = match parsed.args.get(1).map(String::as_str) {
        Some(path) if path != "-" => {
            let path = Path::new(path);
            let mut file = File::open(path).map_err(Error::file("open", path))?;
            send(request, &mut file)?
        }
        _ if output::stdin_is_terminal() => {
            return Err(Error::new("the archive is read from standard input, which is a terminal: name a file"));
        }
        _ => send(request, &mut io::stdin().lock())?,
    };
    let volume: Value = answer.json()?;
    print_line(volume.str("Name"))?;
    Ok(0)
}

fn copy(parsed: &Parsed, session: &Session, how: &str) -> Result<u8> {
    let labels: Map<String, serde_json::Value> =
        parsed.list("label").map(pair).map(|(key, value)| (key, json!(value))).collect();
    let name = parsed.args.get(1).map(String::as_str).unwrap_or_default();
    let path = format!("/volumes/{}/{how}", escape_segment(parsed.first()));
    let body = json!({"Name": name, "Labels": labels});
    let made: Value = session.client()?.post(path).json(&body)?.send()?.json()?;
    print_line(made.str("Name"))?;
    Ok(0)
}
