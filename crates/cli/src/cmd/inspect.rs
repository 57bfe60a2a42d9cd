//! `inspect` of containers, images, volumes and networks: what the daemon sent, indented, or a template over it.

use client::{Client, escape_segment};
use serde_json::value::RawValue;

use super::INSPECT_FORMAT;
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Value, json, template::Template},
    session::Session,
    term::output::{print, warn},
};

const SIZE: Flag = Flag::switch("size", "Show sizes of containers").short('s');

/// Kinds of objects in the order a bare name is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Container,
    Image,
    Network,
    Volume,
}

impl Kind {
    fn path(self, name: &str) -> String {
        let name = escape_segment(name);
        match self {
            Self::Container => format!("/containers/{name}/json"),
            Self::Image => format!("/images/{name}/json"),
            Self::Network => format!("/networks/{name}"),
            Self::Volume => format!("/volumes/{name}"),
        }
    }
}

pub(super) static INSPECT: Command = Command {
    paths: &["inspect"],
    synopsis: "[OPTIONS] NAME|ID [NAME|ID...]",
    about: "Show the details of containers, images, networks or volumes",
    flags: &[&[INSPECT_FORMAT, SIZE, Flag::text("type", "Look only for this: container, image, network or volume")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| {
        let kinds = match parsed.opt("type") {
            None => vec![Kind::Container, Kind::Image, Kind::Network, Kind::Volume],
            Some("container") => vec![Kind::Container],
            Some("image") => vec![Kind::Image],
            Some("network") => vec![Kind::Network],
            Some("volume") => vec![Kind::Volume],
            Some(other) => {
                return Err(Error::new(format!(
                    "unknown type: {other:?}: must be one of \"container\", \"image\", \"network\", \"volume\""
                )));
            }
        };
        inspect(parsed, session, &kinds)
    },
};

pub(super) static CONTAINER: Command = Command {
    paths: &["container inspect"],
    synopsis: "[OPTIONS] CONTAINER [CONTAINER...]",
    about: "Show the details of containers",
    flags: &[&[INSPECT_FORMAT, SIZE]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| inspect(parsed, session, &[Kind::Container]),
};

pub(super) static IMAGE: Command = Command {
    paths: &["image inspect"],
    synopsis: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Show the details of images",
    flags: &[&[INSPECT_FORMAT, Flag::text("platform", "Platform of a multi-platform image to show")]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| inspect(parsed, session, &[Kind::Image]),
};

pub(super) static VOLUME: Command = Command {
    paths: &["volume inspect"],
    synopsis: "[OPTIONS] VOLUME [VOLUME...]",
    about: "Show the details of volumes",
    flags: &[&[INSPECT_FORMAT]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| inspect(parsed, session, &[Kind::Volume]),
};

pub(super) static NETWORK: Command = Command {
    paths: &["network inspect"],
    synopsis: "[OPTIONS] NETWORK [NETWORK...]",
    about: "Show the details of networks",
    flags: &[&[INSPECT_FORMAT, Flag::switch("verbose", "Show more").short('v')]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |parsed, session| inspect(parsed, session, &[Kind::Network]),
};

fn inspect(parsed: &Parsed, session: &Session, kinds: &[Kind]) -> Result<u8> {
    let client = session.client()?;
    let has = |flag: &str| parsed.command.all_flags().any(|known| known.long == flag);
    let size = has("size") && parsed.on("size");
    let platform = if has("platform") { parsed.opt("platform").map(platform_json).transpose()? } else { None };
    let verbose = has("verbose") && parsed.on("verbose");
    let template = match parsed.text("format") {
        "" | "json" => None,
        text => Some(
            Template::parse(&crate::format::unescape(text))
                .map_err(|error| Error::new(format!("template parsing error: {error}")))?,
        ),
    };
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for name in &parsed.args {
        match look(client, kinds, name, size, platform.as_deref(), verbose) {
            Ok(text) => found.push(text),
            Err(error) => failures.push(error.to_string()),
        }
    }
    let mut out = String::new();
    match (template, parsed.text("format")) {
        (Some(template), _) => {
            for text in &found {
                let value: Value = serde_json::from_str(text.get()).map_err(client::Error::from)?;
                match template.run(&value) {
                    Ok(line) => out.push_str(&(line + "\n")),
                    Err(error) => {
                        print(&(out + "\n"))?;
                        return Err(Error::new(format!("template parsing error: {error}")));
                    }
                }
            }
            if found.is_empty() {
                out.push('\n');
            }
        }
        (None, "json") => {
            let joined: Vec<&str> = found.iter().map(|text| text.get().trim()).collect();
            out = format!("[{}]\n", joined.join(","));
        }
        (None, _) => {
            let joined: Vec<String> =
                found.iter().map(|text| format!("    {}", json::indent(text.get(), "    "))).collect();
            out = if joined.is_empty() { "[]\n".into() } else { format!("[\n{}\n]\n", joined.join(",\n")) };
        }
    }
    print(&out)?;
    if failures.is_empty() {
        return Ok(0);
    }
    for failure in failures {
        warn(&failure);
    }
    Err(Error::Silent(1))
}

/// `linux/arm64/v8` as the JSON the API takes.
fn platform_json(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let (os, arch, variant) = match parts.as_slice() {
        [os] => (*os, "", ""),
        [os, arch] => (*os, *arch, ""),
        [os, arch, variant] => (*os, *arch, *variant),
        _ => return Err(Error::new(format!("invalid platform {text:?}: write os[/arch[/variant]]"))),
    };
    Ok(serde_json::json!({"os": os, "architecture": arch, "variant": variant}).to_string())
}

fn look(
    client: &Client,
    kinds: &[Kind],
    name: &str,
    size: bool,
    platform: Option<&str>,
    verbose: bool,
) -> Result<Box<RawValue>> {
    for kind in kinds {
        let request = client
            .get(kind.path(name))
            .flag("size", size && *kind == Kind::Container)
            .flag("verbose", verbose)
            .query_opt("platform", platform.filter(|_| *kind == Kind::Image));
        match request.send() {
            Ok(answer) => return Ok(answer.json()?),
            // With several kinds a name that is none of one kind may be one of the next, and one that cannot be.
            Err(error) if kinds.len() > 1 && matches!(error.status(), Some(400 | 404)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(format!("Error: No such object: {name}")))
}
