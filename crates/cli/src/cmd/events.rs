//! `events`: what happens in the engine, as it happens.

use std::io::{BufRead, BufReader, Read};

use super::{FILTER, filters};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Value, template::Template, time},
    session::Session,
    term::output::print,
};

pub(super) static EVENTS: Command = Command {
    paths: &["system events", "events"],
    synopsis: "[OPTIONS]",
    about: "Show events of the engine as they happen",
    flags: &[&[
        FILTER,
        Flag::text("format", "'json' or a Go template"),
        Flag::text("since", "Show events since this time"),
        Flag::text("until", "Show events until this time, then end"),
    ]],
    arity: Arity::None,
    interspersed: true,
    run: events,
};

/// Longest event accepted, in bytes.
const MAX_EVENT: u64 = 4 * 1024 * 1024;

fn events(parsed: &Parsed, session: &Session) -> Result<u8> {
    let moment = |flag: &str| match parsed.opt(flag) {
        None | Some("") => Ok(None),
        Some(text) => {
            time::moment(text).map(Some).map_err(|why| Error::new(format!("invalid value for \"{flag}\": {why}")))
        }
    };
    let template = match parsed.text("format") {
        "" => None,
        "json" => Some(None),
        text => Some(Some(
            Template::parse(&crate::format::unescape(text))
                .map_err(|error| Error::with_code(format!("Error parsing format: {error}"), 64))?,
        )),
    };
    let filters = filters(parsed.list("filter"))?;
    let body = session
        .client()?
        .get("/events")
        .query_opt("since", moment("since")?.as_deref())
        .query_opt("until", moment("until")?.as_deref())
        .query_opt("filters", filters.as_deref())
        .send()?
        .into_body();
    let mut reader = BufReader::with_capacity(64 * 1024, body);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_EVENT).read_until(b'\n', &mut line)? == 0 {
            return Ok(0);
        }
        // Sequences of RFC 7464 begin each event with a record separator.
        let text = line.trim_ascii().trim_ascii_start();
        let text = text.strip_prefix(b"\x1e").unwrap_or(text);
        if text.is_empty() {
            continue;
        }
        let event: Value = serde_json::from_slice(text).map_err(client::Error::from)?;
        match &template {
            None => print(&plain(&event))?,
            Some(None) => print(&(event.to_json() + "\n"))?,
            Some(Some(template)) => {
                print(&(template.run(&event).map_err(|error| Error::new(error.to_string()))? + "\n"))?
            }
        }
    }
}

/// `TIME TYPE ACTION ID (key=value, …)`.
fn plain(event: &Value) -> String {
    let nanos = match event.int("timeNano") {
        0 => event.int("time").saturating_mul(1_000_000_000),
        nanos => nanos,
    };
    let mut out = format!(
        "{} {} {} {}",
        time::rfc3339_nano(nanos),
        event.str("Type"),
        event.str("Action"),
        event.at(&["Actor", "ID"]).as_str()
    );
    let mut attributes: Vec<String> = event
        .at(&["Actor", "Attributes"])
        .entries()
        .iter()
        .map(|(key, value)| format!("{key}={}", value.as_str()))
        .collect();
    attributes.sort();
    if !attributes.is_empty() {
        out.push_str(&format!(" ({})", attributes.join(", ")));
    }
    out + "\n"
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn the_line_of_an_event() {
        let event = serde_json::from_str(r#"{"Type":"container","Action":"die","Actor":{"ID":"abc","Attributes":{"name":"x","exitCode":"1"}},"timeNano":1500000001}"#).unwrap();
        let line = plain(&event);
        assert!(line.ends_with(" container die abc (exitCode=1, name=x)\n"), "{line}");
    }
}
