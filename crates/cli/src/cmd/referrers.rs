//! `image referrers`: what refers to an image at its registry.

use client::escape_segment;
use types::{Reference, human_size_with_precision};

use super::{FORMAT, NO_TRUNC, pull::registry_auth, short_id};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value},
    session::Session,
    term::output::print,
};

pub(super) static REFERRERS: Command = Command {
    paths: &["image referrers"],
    synopsis: "[OPTIONS] NAME[:TAG|@DIGEST]",
    about: "Show what refers to an image at its registry",
    flags: &[&[
        FORMAT,
        NO_TRUNC,
        Flag::switch("quiet", "Show digests only").short('q'),
        Flag::text("type", "Artifacts of this type only"),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: referrers,
};

const HEADINGS: &[Column] = &[
    ("Digest", "DIGEST"),
    ("ArtifactType", "TYPE"),
    ("Size", "SIZE"),
    ("MediaType", "MEDIA TYPE"),
    ("Annotations", "ANNOTATIONS"),
];

fn referrers(parsed: &Parsed, session: &Session) -> Result<u8> {
    let name = Reference::parse(parsed.first()).map_err(|error| Error::new(error.to_string()))?;
    let mut request = session
        .client()?
        .get(format!("/images/{}/referrers", escape_segment(parsed.first())))
        .query_opt("artifactType", parsed.opt("type"));
    if let Some(auth) = registry_auth(session, &name)? {
        request = request.header("X-Registry-Auth", &auth);
    }
    let answer: Value = request.send()?.json()?;
    let whole = parsed.on("no-trunc") || parsed.on("quiet");
    let rows: Vec<Value> = answer
        .get("Referrers")
        .items()
        .iter()
        .map(|referrer| {
            let text = |text: &str| Value::Text(printable(text));
            let digest = referrer.str("Digest");
            Value::Map(vec![
                ("Digest".into(), text(if whole { digest } else { short_id(digest) })),
                ("ArtifactType".into(), text(referrer.str("ArtifactType"))),
                ("Size".into(), text(&human_size_with_precision(referrer.int("Size") as f64, 3))),
                ("MediaType".into(), text(referrer.str("MediaType"))),
                ("Annotations".into(), text(&referrer.get("Annotations").to_json())),
            ])
        })
        .collect();
    let quiet = parsed.on("quiet").then_some("Digest");
    let columns = ["Digest", "ArtifactType", "Size"];
    print(&Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet }.render(&rows)?)?;
    Ok(0)
}

/// Words of whoever pushed it: what would move the cursor is not shown.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
