//! `images`: images as a table.

use types::human_size_with_precision;

use super::{FILTER, FORMAT, NO_TRUNC, short_id};
use crate::{
    Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, time},
    session::Session,
    term::output::print,
};

pub(super) static IMAGES: Command = Command {
    paths: &["image ls", "image list", "images"],
    synopsis: "[OPTIONS] [REPOSITORY[:TAG]]",
    about: "List images",
    flags: &[&[
        Flag::switch("all", "Show intermediate images too").short('a'),
        Flag::switch("digests", "Show digests"),
        FILTER,
        FORMAT,
        NO_TRUNC,
        Flag::switch("quiet", "Show IDs only").short('q'),
        Flag::switch("tree", "Show the platforms of each image below it"),
    ]],
    arity: Arity::AtMost(1),
    interspersed: true,
    run: images,
};

const HEADINGS: &[Column] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
    ("VirtualSize", "SIZE"),
];

fn images(parsed: &Parsed, session: &Session) -> Result<u8> {
    let reference = (!parsed.first().is_empty()).then(|| format!("reference={}", parsed.first()));
    let filters = super::filters(parsed.list("filter").chain(reference.as_deref()))?;
    if parsed.on("tree") {
        return super::tree::show(parsed, session, filters.as_deref());
    }
    let format = match parsed.opt("format") {
        Some(format) => format.to_owned(),
        None if parsed.on("quiet") => String::new(),
        None => session.config()?.text("imagesFormat").unwrap_or_default().to_owned(),
    };
    let list: Value = session
        .client()?
        .get("/images/json")
        .flag("all", parsed.on("all"))
        .flag("digests", parsed.on("digests"))
        .query_opt("filters", filters.as_deref())
        .send()?
        .json()?;
    let digests = parsed.on("digests") || format.contains(".Digest");
    let mut sorted: Vec<&Value> = list.items().iter().collect();
    // The newest first; the daemon's order decides between images of the same second.
    sorted.sort_by_key(|image| std::cmp::Reverse(image.int("Created")));
    let shorten = !parsed.on("no-trunc");
    let rows: Vec<Value> = sorted.into_iter().flat_map(|image| rows(image, shorten, digests)).collect();
    let mut columns = vec!["Repository", "Tag"];
    if parsed.on("digests") {
        columns.push("Digest");
    }
    columns.extend(["ID", "CreatedSince", "Size"]);
    let quiet = parsed.on("quiet").then_some("ID");
    print(&Listing { headings: HEADINGS, columns: &columns, format: &format, quiet }.render(&rows)?)?;
    Ok(0)
}

/// One row per tag; one per repository that is known by digest only; one for an image without any name.
pub(super) fn rows(image: &Value, shorten: bool, digests: bool) -> Vec<Value> {
    let split_digest = |text: &str| text.split_once('@').map(|(name, digest)| (name.to_owned(), digest.to_owned()));
    let known: Vec<(String, String)> =
        image.get("RepoDigests").items().iter().filter_map(|one| split_digest(one.as_str())).collect();
    let mut names = Vec::new();
    for tag in image.get("RepoTags").items() {
        let Some((name, tag)) = tag.as_str().rsplit_once(':') else { continue };
        if name == "<none>" {
            continue;
        }
        let found: Vec<&String> =
            known.iter().filter(|(repository, _)| repository == name).map(|(_, digest)| digest).collect();
        match found.as_slice() {
            [] => names.push((name.to_owned(), tag.to_owned(), "<none>".to_owned())),
            // A tag is shown once, with digests once for each.
            [_, ..] if !digests => names.push((name.to_owned(), tag.to_owned(), "<none>".into())),
            all => names.extend(all.iter().map(|digest| (name.to_owned(), tag.to_owned(), (*digest).clone()))),
        }
    }
    if names.is_empty() {
        for (name, digest) in &known {
            names.push((name.clone(), "<none>".into(), digest.clone()));
        }
    }
    if names.is_empty() {
        names.push(("<none>".into(), "<none>".into(), "<none>".into()));
    }
    let (id, created) = (image.str("Id"), image.int("Created"));
    let size = |key: &str, precision: usize| match image.get(key) {
        Value::Int(bytes) if *bytes >= 0 => human_size_with_precision(*bytes as f64, precision),
        _ => "N/A".into(),
    };
    let unique = match (image.int("Size"), image.int("SharedSize")) {
        (all, shared) if shared >= 0 && !image.get("SharedSize").is_null() => {
            human_size_with_precision((all - shared).max(0) as f64, 4)
        }
        _ => "N/A".into(),
    };
    let containers = match image.get("Containers") {
        Value::Int(count) if *count >= 0 => count.to_string(),
        _ => "N/A".into(),
    };
    names
        .into_iter()
        .map(|(repository, tag, digest)| {
            let text = Value::Text;
            Value::Map(vec![
                ("Containers".into(), text(containers.clone())),
                ("CreatedAt".into(), text(time::go_local(created))),
                ("CreatedSince".into(), text(if created > 0 { time::ago(created) } else { "N/A".into() })),
                ("Digest".into(), text(digest)),
                ("ID".into(), text(if shorten { short_id(id) } else { id }.to_owned())),
                ("Repository".into(), text(repository)),
                ("SharedSize".into(), text(size("SharedSize", 4))),
                ("Size".into(), text(size("Size", 3))),
                ("Tag".into(), text(tag)),
                ("UniqueSize".into(), text(unique.clone())),
                ("VirtualSize".into(), text(size("Size", 4))),
            ])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_rows() {
        let image: Value = serde_json::from_str(
            r#"{"Id":"sha256:0123456789abcdef","RepoTags":["reg:5000/a:1","b:2"],"RepoDigests":["b@sha256:x","b@sha256:y"],"Size":1500,"SharedSize":-1,"Containers":-1}"#,
        )
        .unwrap();
        let plain = rows(&image, true, false);
        let cells: Vec<_> =
            plain.iter().map(|row| (row.str("Repository"), row.str("Tag"), row.str("Digest"))).collect();
        assert_eq!(cells, [("reg:5000/a", "1", "<none>"), ("b", "2", "<none>")]);
        assert_eq!(rows(&image, true, true).len(), 3);
        assert_eq!(
            (plain[0].str("ID"), plain[0].str("Size"), plain[0].str("UniqueSize")),
            ("0123456789ab", "1.5kB", "N/A")
        );
        let bare = serde_json::from_str(r#"{"Id":"sha256:ab","RepoTags":null}"#).unwrap();
        assert_eq!(rows(&bare, true, false)[0].str("Repository"), "<none>");
    }
}
