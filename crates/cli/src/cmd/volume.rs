//! `volume create`, `volume ls`, `volume rm`.

use client::escape_segment;
use serde_json::{Map, json};

use super::{FILTER, FORMAT, parallel::each};
use crate::{
    Result,
    create::pair,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value},
    session::Session,
    term::output::{print, print_line, warn},
};

pub(super) static CREATE: Command = Command {
    paths: &["volume create"],
    synopsis: "[OPTIONS] [VOLUME]",
    about: "Create a volume",
    flags: &[&[
        Flag::text("driver", "Driver of the volume").short('d').default("local"),
        Flag::list("label", "Label (key=value)"),
        Flag::text("name", "").hidden(),
        Flag::list("opt", "Option of the driver (key=value)").short('o').value("map"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: create,
};

pub(super) static LS: Command = Command {
    paths: &["volume ls", "volume list"],
    synopsis: "[OPTIONS]",
    about: "List volumes",
    flags: &[&[FILTER, FORMAT, Flag::switch("quiet", "Show names only").short('q')]],
    arity: Arity::None,
    interspersed: true,
    run: ls,
};

pub(super) static RM: Command = Command {
    paths: &["volume rm", "volume remove"],
    synopsis: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Remove volumes no container uses",
    flags: &[&[Flag::switch("force", "Take a volume that is not there for removed").short('f')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let client = session.client()?;
        let force = parsed.on("force");
        each(&parsed.args, |name| {
            client.delete(format!("/volumes/{}", escape_segment(name))).flag("force", force).send_discard()?;
            Ok(Some(name.to_owned()))
        })
    },
};

fn create(parsed: &Parsed, session: &Session) -> Result<u8> {
    let map = |flag: &str| -> Map<String, serde_json::Value> {
        parsed.list(flag).map(pair).map(|(key, value)| (key, json!(value))).collect()
    };
    let name = if parsed.first().is_empty() { parsed.text("name") } else { parsed.first() };
    let body = json!({"Name": name, "Driver": parsed.text("driver"), "DriverOpts": map("opt"), "Labels": map("label")});
    let created: Value = session.client()?.post("/volumes/create").json(&body)?.send()?.json()?;
    print_line(created.str("Name"))?;
    Ok(0)
}

const HEADINGS: &[Column] = &[
    ("Driver", "DRIVER"),
    ("Name", "VOLUME NAME"),
    ("Scope", "SCOPE"),
    ("Mountpoint", "MOUNTPOINT"),
    ("Labels", "LABELS"),
    ("Links", "LINKS"),
    ("Size", "SIZE"),
    ("Availability", "AVAILABILITY"),
    ("Group", "GROUP"),
    ("Status", "STATUS"),
];

fn ls(parsed: &Parsed, session: &Session) -> Result<u8> {
    let filters = super::filters(parsed.list("filter"))?;
    let answer: Value = session.client()?.get("/volumes").query_opt("filters", filters.as_deref()).send()?.json()?;
    for warning in answer.get("Warnings").items() {
        warn(&format!("WARNING: {}", warning.as_str()));
    }
    let mut volumes: Vec<&Value> = answer.get("Volumes").items().iter().collect();
    volumes.sort_by(|a, b| a.str("Name").cmp(b.str("Name")));
    let rows: Vec<Value> = volumes.into_iter().map(row).collect();
    let quiet = parsed.on("quiet").then_some("Name");
    print(
        &Listing { headings: HEADINGS, columns: &["Driver", "Name"], format: parsed.text("format"), quiet }
            .render(&rows)?,
    )?;
    Ok(0)
}

/// The placeholders of one volume.
pub(super) fn row(volume: &Value) -> Value {
    let mut labels: Vec<String> =
        volume.get("Labels").entries().iter().map(|(key, value)| format!("{key}={}", value.as_str())).collect();
    labels.sort();
    let usage = volume.get("UsageData");
    let text = |value: String| Value::Text(value);
    let known = |value: &Value, show: &dyn Fn(i64) -> String| match value {
        Value::Int(number) if *number >= 0 => show(*number),
        _ => "N/A".to_owned(),
    };
    Value::Map(vec![
        ("Availability".into(), text("N/A".into())),
        ("Driver".into(), text(volume.str("Driver").into())),
        ("Group".into(), text("N/A".into())),
        ("Labels".into(), text(labels.join(","))),
        ("Links".into(), text(known(usage.get("RefCount"), &|count| count.to_string()))),
        ("Mountpoint".into(), text(volume.str("Mountpoint").into())),
        ("Name".into(), text(volume.str("Name").into())),
        ("Scope".into(), text(volume.str("Scope").into())),
        ("Size".into(), text(known(usage.get("Size"), &|bytes| types::human_size(bytes as f64)))),
        ("Status".into(), text("N/A".into())),
    ])
}
