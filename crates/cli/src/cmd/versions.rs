//! `image log` and `image rollback`: the versions of a tag.

use client::escape_segment;
use types::{Reference, human_size_with_precision};

use super::{FORMAT, NO_TRUNC, pull::registry_auth, short_id};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, time},
    session::Session,
    term::output::print,
    term::progress::{self, Show},
};

pub(super) static LOG: Command = Command {
    paths: &["image log"],
    synopsis: "[OPTIONS] NAME[:TAG]",
    about: "Show what a tag pointed at, latest first",
    flags: &[&[FORMAT, NO_TRUNC, Flag::switch("quiet", "Show IDs only").short('q')]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: log,
};

pub(super) static ROLLBACK: Command = Command {
    paths: &["image rollback"],
    synopsis: "NAME[:TAG] [STEPS|ID]",
    about: "Point a tag back at what it pointed at before",
    flags: &[],
    arity: Arity::Between(1, 2),
    interspersed: true,
    run: rollback,
};

const HEADINGS: &[Column] = &[
    ("ID", "IMAGE ID"),
    ("CreatedSince", "SINCE"),
    ("CreatedAt", "SINCE"),
    ("Action", "BY"),
    ("Size", "SIZE"),
    ("State", "STATE"),
];

fn log(parsed: &Parsed, session: &Session) -> Result<u8> {
    let path = format!("/images/{}/log", escape_segment(parsed.first()));
    let list: Value = session.client()?.get(path).send()?.json()?;
    let shorten = !parsed.on("no-trunc");
    let rows: Vec<Value> = list
        .items()
        .iter()
        .map(|version| {
            let text = Value::Text;
            let (id, created) = (version.str("Id"), version.str("Created"));
            let since = time::parse_rfc3339(created).map_or_else(String::new, time::ago);
            let state = match (id.is_empty(), version.bool("Current"), version.bool("Available")) {
                (true, ..) => "no image",
                (_, true, _) => "current",
                (_, _, true) => "here",
                (_, _, false) => "to be fetched",
            };
            let size = match version.int("Size") {
                0 => String::new(),
                size => human_size_with_precision(size as f64, 3),
            };
            Value::Map(vec![
                ("ID".into(), text(if shorten { short_id(id) } else { id }.to_owned())),
                ("CreatedSince".into(), text(since)),
                ("CreatedAt".into(), text(created.to_owned())),
                ("Action".into(), text(version.str("Action").to_owned())),
                ("Size".into(), text(size)),
                ("State".into(), text(state.to_owned())),
            ])
        })
        .collect();
    let quiet = parsed.on("quiet").then_some("ID");
    let columns = ["ID", "CreatedSince", "Action", "Size", "State"];
    print(&Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet }.render(&rows)?)?;
    Ok(0)
}

fn rollback(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = Reference::parse(parsed.first()).map_err(|error| Error::new(error.to_string()))?;
    let mut request = session
        .client()?
        .post(format!("/images/{}/rollback", escape_segment(parsed.first())))
        .query_opt("to", parsed.args.get(1).map(String::as_str));
    if let Some(auth) = registry_auth(session, &name)? {
        request = request.header("X-Registry-Auth", &auth);
    }
    progress::show(request.send()?.into_body(), Show::Stdout, |_| {})?;
    Ok(0)
}
