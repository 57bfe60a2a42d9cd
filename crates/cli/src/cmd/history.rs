//! `history` of an image.

use client::escape_segment;
use types::human_size_with_precision;

use super::{FORMAT, NO_TRUNC, short_id};
use crate::{
    Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, time},
    session::Session,
    term::output::print,
};

pub(super) static HISTORY: Command = Command {
    paths: &["image history", "history"],
    synopsis: "[OPTIONS] IMAGE",
    about: "Show how an image was made",
    flags: &[&[
        FORMAT,
        Flag::switch("human", "Show sizes and times in words").short('H').default("true"),
        NO_TRUNC,
        Flag::text("platform", "Platform of a multi-platform image to show"),
        Flag::switch("quiet", "Show IDs only").short('q'),
    ]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: history,
};

const HEADINGS: &[Column] = &[
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

fn history(parsed: &Parsed, session: &Session) -> Result<u8> {
    let platform = match parsed.opt("platform") {
        None => None,
        Some(text) => {
            let platform: types::Platform =
                text.parse().map_err(|error: types::PlatformError| crate::Error::new(error.to_string()))?;
            Some(serde_json::to_string(&platform).map_err(|error| crate::Error::new(error.to_string()))?)
        }
    };
    let list: Value = session
        .client()?
        .get(format!("/images/{}/history", escape_segment(parsed.first())))
        .query_opt("platform", platform.as_deref())
        .send()?
        .json()?;
    let (human, shorten) = (parsed.on("human"), !parsed.on("no-trunc"));
    let rows: Vec<Value> = list
        .items()
        .iter()
        .map(|step| {
            let created = step.int("Created");
            let mut by = step.str("CreatedBy").replace('\t', " ");
            if shorten && by.chars().count() > 45 {
                by = by.chars().take(44).collect::<String>() + "…";
            }
            let comment = step.str("Comment");
            let text = Value::Text;
            let since = if human { time::ago(created) } else { time::rfc3339_local(created) };
            let size = if human {
                human_size_with_precision(step.int("Size") as f64, 3)
            } else {
                step.int("Size").to_string()
            };
            let at = time::rfc3339_local(created);
            Value::Map(vec![
                ("ID".into(), text(if shorten { short_id(step.str("Id")) } else { step.str("Id") }.to_owned())),
                // Go's zero time stands for "not known".
                ("CreatedSince".into(), text(if created <= -62_135_596_800 { "N/A".into() } else { since })),
                ("CreatedAt".into(), text(at)),
                ("CreatedBy".into(), text(by)),
                ("Size".into(), text(size)),
                ("Comment".into(), text(comment.to_owned())),
            ])
        })
        .collect();
    let quiet = parsed.on("quiet").then_some("ID");
    let columns = ["ID", if human { "CreatedSince" } else { "CreatedAt" }, "CreatedBy", "Size", "Comment"];
    print(&Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet }.render(&rows)?)?;
    Ok(0)
}
