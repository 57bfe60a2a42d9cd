//! `image diff`: what differs between two images.

use client::escape_segment;
use types::human_size_with_precision;

use super::short_id;
use crate::{
    Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::print,
};

pub(super) static DIFF: Command = Command {
    paths: &["image diff"],
    synopsis: "[OPTIONS] IMAGE IMAGE",
    about: "Show what differs between two images",
    flags: &[&[
        Flag::text("format", "'json' for programs"),
        Flag::switch("files", "List every file that differs, not only how many"),
    ]],
    arity: Arity::Exactly(2),
    interspersed: true,
    run: diff,
};

fn diff(parsed: &Parsed, session: &Session) -> Result<u8> {
    let answer: Value = session
        .client()?
        .get(format!("/images/{}/diff", escape_segment(parsed.first())))
        .query("with", &parsed.args[1])
        .send()?
        .json()?;
    if parsed.text("format") == "json" {
        print(&(answer.to_json() + "\n"))?;
        return Ok(0);
    }
    let mut out = format!("{} -> {}\n", short_id(answer.str("From")), short_id(answer.str("To")));
    let size =
        |text: &str| text.parse::<u64>().map_or_else(|_| text.to_owned(), |n| human_size_with_precision(n as f64, 3));
    out.push_str(&format!("Layers: {} shared\n", answer.int("SharedLayers")));
    for layer in answer.get("Layers").items() {
        let bytes = size(if layer.str("From").is_empty() { layer.str("To") } else { layer.str("From") });
        out.push_str(&format!("  {} {} {bytes}\n", sign(layer), short_id(layer.str("Name"))));
    }
    for (title, key) in [("Configuration", "Config"), ("Packages", "Packages")] {
        let items = answer.get(key).items();
        if !items.is_empty() {
            out.push_str(&format!("{title}:\n"));
        }
        for item in items {
            let (from, to) = (printable(item.str("From")), printable(item.str("To")));
            let what = match item.str("Change") {
                "added" => to,
                "removed" => from,
                _ => format!("{from} -> {to}"),
            };
            out.push_str(&format!("  {} {} {what}\n", sign(item), printable(item.str("Name"))));
        }
    }
    let files = answer.get("Files").items();
    let count = |change: &str| files.iter().filter(|file| file.str("Change") == change).count();
    out.push_str(&format!(
        "Files: {} added, {} removed, {} modified\n",
        count("added"),
        count("removed"),
        count("modified")
    ));
    if parsed.on("files") {
        for file in files {
            out.push_str(&format!("  {} {}\n", sign(file), printable(file.str("Name"))));
        }
    }
    print(&out)?;
    Ok(0)
}

fn sign(item: &Value) -> char {
    match item.str("Change") {
        "added" => '+',
        "removed" => '-',
        _ => '~',
    }
}

/// An image's words: what would move the cursor is not shown.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
