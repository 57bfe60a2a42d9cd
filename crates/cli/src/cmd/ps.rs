//! `ps`: containers as a table.

use types::human_size_with_precision;

use super::{FILTER, FORMAT, NO_TRUNC, filters, short_id};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, time},
    session::Session,
    term::output::{print, warn},
};

pub(super) static PS: Command = Command {
    paths: &["container ls", "container list", "container ps", "ps"],
    synopsis: "[OPTIONS]",
    about: "List containers",
    flags: &[&[
        Flag::switch("all", "Show stopped containers too").short('a'),
        FILTER,
        FORMAT,
        Flag::int("last", "Show this many of the last created containers, in any state").short('n').default("-1"),
        Flag::switch("latest", "Show the last created container, in any state").short('l'),
        NO_TRUNC,
        Flag::switch("quiet", "Show IDs only").short('q'),
        Flag::switch("size", "Show sizes").short('s'),
    ]],
    arity: Arity::None,
    interspersed: true,
    run: ps,
};

const HEADINGS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("Ports", "PORTS"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Size", "SIZE"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("Mounts", "MOUNTS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Networks", "NETWORKS"),
    ("Platform", "PLATFORM"),
];

/// Longest command shown unless asked for whole, in characters.
const COMMAND_WIDTH: usize = 20;

fn ps(parsed: &Parsed, session: &Session) -> Result<u8> {
    if parsed.on("quiet") && parsed.given("format") {
        warn("WARNING: Ignoring custom format, because both --format and --quiet are set.");
    }
    let format = match parsed.opt("format").filter(|_| !parsed.on("quiet")) {
        Some(format) => format.to_owned(),
        None if parsed.on("quiet") => String::new(),
        None => session.config()?.text("psFormat").unwrap_or_default().to_owned(),
    };
    let last = if parsed.on("latest") { 1 } else { parsed.int("last") };
    // Sizes are costly to find out: they are asked for when something will show them.
    let size = parsed.on("size") || format.contains(".Size") || format.contains("json .}}");
    let limit = (last > 0).then(|| last.to_string());
    let filters = filters(parsed.list("filter"))?;
    let list: Value = session
        .client()?
        .get("/containers/json")
        .flag("all", parsed.on("all"))
        .query_opt("limit", limit.as_deref())
        .flag("size", size)
        .query_opt("filters", filters.as_deref())
        .send()?
        .json()?;
    if !matches!(list, Value::List(_)) {
        return Err(Error::new("the daemon's list of containers is none"));
    }
    let rows: Vec<Value> = list.items().iter().map(|one| row(one, !parsed.on("no-trunc"), true)).collect();
    let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
    if parsed.on("size") {
        columns.push("Size");
    }
    let quiet = parsed.on("quiet").then_some("ID");
    print(&Listing { headings: HEADINGS, columns: &columns, format: &format, quiet }.render(&rows)?)?;
    Ok(0)
}

/// The placeholders of one container; `whole`: its size with that of its image.
pub(super) fn row(one: &Value, shorten: bool, whole: bool) -> Value {
    let id = one.str("Id");
    let mut command = one.str("Command").to_owned();
    if shorten && command.chars().count() > COMMAND_WIDTH {
        command = command.chars().take(COMMAND_WIDTH - 1).collect::<String>() + "…";
    }
    let names: Vec<&str> = one
        .get("Names")
        .items()
        .iter()
        .map(|name| name.as_str().trim_start_matches('/'))
        // Names with a slash are those of links, seen from the container that has them.
        .filter(|name| !shorten || !name.contains('/'))
        .collect();
    let mut image = one.str("Image").to_owned();
    if image.is_empty() {
        image = "<no image>".into();
    } else if shorten
        && image.strip_prefix("sha256:").unwrap_or(&image).len() == 64
        && one.str("ImageID").contains(&*image)
    {
        image = short_id(&image).to_owned();
    }
    let mut labels: Vec<String> =
        one.get("Labels").entries().iter().map(|(key, value)| format!("{key}={}", value.as_str())).collect();
    labels.sort();
    let mounts: Vec<String> = one
        .get("Mounts")
        .items()
        .iter()
        .map(|mount| {
            let name = if mount.str("Name").is_empty() { mount.str("Source") } else { mount.str("Name") };
            if shorten && name.chars().count() > 15 {
                name.chars().take(14).collect::<String>() + "…"
            } else {
                name.to_owned()
            }
        })
        .collect();
    let local = one.get("Mounts").items().iter().filter(|mount| mount.str("Driver") == "local").count();
    let mut networks: Vec<&str> =
        one.at(&["NetworkSettings", "Networks"]).entries().iter().map(|(name, _)| name.as_str()).collect();
    networks.sort_unstable();
    let created = one.int("Created");
    let text = Value::Text;
    Value::Map(vec![
        ("Command".into(), text(format!("{command:?}"))),
        ("CreatedAt".into(), text(time::go_local(created))),
        ("ID".into(), text(if shorten { short_id(id) } else { id }.to_owned())),
        ("Image".into(), text(image)),
        ("Labels".into(), text(labels.join(","))),
        ("LocalVolumes".into(), text(local.to_string())),
        ("Mounts".into(), text(mounts.join(","))),
        ("Names".into(), text(names.join(","))),
        ("Networks".into(), text(networks.join(","))),
        ("Platform".into(), one.get("Platform").clone()),
        ("Ports".into(), text(ports(one.get("Ports")))),
        ("RunningFor".into(), text(time::ago(created))),
        ("Size".into(), text(size(one, whole))),
        ("State".into(), text(one.str("State").to_owned())),
        ("Status".into(), text(one.str("Status").to_owned())),
    ])
}

fn size(one: &Value, whole: bool) -> String {
    let (own, all) = (one.int("SizeRw") as f64, one.int("SizeRootFs"));
    let shown = human_size_with_precision(own, 3);
    if all > 0 && whole { format!("{shown} (virtual {})", human_size_with_precision(all as f64, 3)) } else { shown }
}

/// One published port or range of equal offset, `0.0.0.0:80-81->80-81/tcp`.
pub(super) fn ports(list: &Value) -> String {
    let mut all: Vec<(i64, String, i64, String)> = list
        .items()
        .iter()
        .map(|port| {
            (port.int("PrivatePort"), port.str("IP").to_owned(), port.int("PublicPort"), port.str("Type").to_owned())
        })
        .collect();
    // By container port, then protocol, address and host port, so that neighbours can be joined.
    all.sort_by(|a, b| (a.0, &a.3, &a.1, a.2).cmp(&(b.0, &b.3, &b.1, b.2)));
    struct Range {
        first: i64,
        last: i64,
        ip: String,
        public: i64,
        protocol: String,
    }
    let mut ranges: Vec<Range> = Vec::new();
    for (port, ip, public, protocol) in all {
        let joined = ranges.iter_mut().find(|range| {
            range.ip == ip
                && range.protocol == protocol
                && port == range.last + 1
                && if public > 0 {
                    range.public > 0 && public == range.public + (port - range.first)
                } else {
                    range.public == 0
                }
        });
        match joined {
            Some(range) => range.last = port,
            None => ranges.push(Range { first: port, last: port, ip, public, protocol }),
        }
    }
    let span = |first: i64, last: i64| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let shown: Vec<String> = ranges
        .iter()
        .map(|range| {
            let inner = span(range.first, range.last);
            if range.public == 0 {
                return format!("{inner}/{}", range.protocol);
            }
            let ip = if range.ip.contains(':') { format!("[{}]", range.ip) } else { range.ip.clone() };
            format!("{ip}:{}->{inner}/{}", span(range.public, range.public + range.last - range.first), range.protocol)
        })
        .collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn ports_are_joined_into_ranges() {
        let list = value(
            r#"[{"IP":"0.0.0.0","PrivatePort":81,"PublicPort":8001,"Type":"tcp"},{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8000,"Type":"tcp"},
                {"PrivatePort":90,"Type":"udp"},{"PrivatePort":91,"Type":"udp"},{"IP":"::","PrivatePort":80,"PublicPort":8000,"Type":"tcp"}]"#,
        );
        assert_eq!(ports(&list), "0.0.0.0:8000-8001->80-81/tcp, [::]:8000->80/tcp, 90-91/udp");
    }

    #[test]
    fn a_row_has_every_placeholder() {
        let one = value(
            r#"{"Id":"0123456789abcdef","Names":["/web","/other/alias"],"Command":"sh -c 'echo a long command'","Image":"busybox"}"#,
        );
        let row = row(&one, true, true);
        for (name, _) in HEADINGS {
            assert!(row.entries().iter().any(|(key, _)| key == name), "{name}");
        }
        assert_eq!(
            (row.str("ID"), row.str("Names"), row.str("Command")),
            ("0123456789ab", "web", "\"sh -c 'echo a long …\"")
        );
    }
}
