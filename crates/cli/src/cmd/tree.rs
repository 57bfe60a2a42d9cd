//! `images --tree`: every image with the platforms it has, laid out as Docker's client does.
//!
//! On a terminal the first column takes what the others leave, and columns that would leave it too little are
//! not shown; elsewhere a line has 80 cells.

use types::human_size_with_precision;

use super::short_id;
use crate::{
    Error, Result,
    flags::Parsed,
    format::Value,
    session::Session,
    term::{
        output::{print, stdout_is_terminal},
        raw::window_size,
    },
};

const WARNING: &str = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on.";
/// Cells between two columns.
const SPACING: usize = 3;
/// The least that is left for names.
const LEAST: usize = 12;
/// Columns besides the names: title, width, aligned to the right.
const COLUMNS: [(&str, usize, bool); 4] =
    [("ID", 12, false), ("DISK USAGE", 10, true), ("CONTENT SIZE", 12, true), ("EXTRA", 5, false)];
const TITLE: &str = "\u{1b}[39m\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

/// One line: an image, or one of its platforms.
struct Row {
    /// Names; the last one is on the line with the figures.
    names: Vec<String>,
    id: String,
    disk: String,
    content: String,
    used: bool,
    /// Escape sequences of the name and of the figures on a terminal.
    colours: (&'static str, &'static str),
}

/// An image and its platforms.
struct Tree {
    image: Row,
    platforms: Vec<Row>,
}

pub(super) fn show(parsed: &Parsed, session: &Session, filters: Option<&str>) -> Result<u8> {
    for (flag, name) in [("quiet", "quiet"), ("no-trunc", "no-trunc"), ("digests", "show-digest"), ("format", "format")]
    {
        if parsed.given(flag) && (flag == "format" || parsed.on(flag)) {
            return Err(Error::new(format!("--{name} is not yet supported with --tree")));
        }
    }
    let all = parsed.on("all");
    let list: Value = session
        .client()?
        .get("/images/json")
        .flag("all", all)
        .query_opt("filters", filters)
        .flag("manifests", true)
        .send()?
        .json()?;
    let mut images: Vec<&Value> = list.items().iter().filter(|image| all || !is_dangling(image)).collect();
    images.sort_by_key(|image| std::cmp::Reverse(image.int("Created")));
    let terminal = stdout_is_terminal();
    let width = if terminal { window_size().map(|(_, columns)| usize::from(columns)) } else { None };
    let trees: Vec<Tree> = images.into_iter().map(tree).collect();
    print(&render(&trees, width.filter(|width| *width > 0).unwrap_or(80).max(20), terminal))?;
    Ok(0)
}

fn is_dangling(image: &Value) -> bool {
    let none = |key: &str, word: &str| match image.get(key).items() {
        [] => true,
        [one] => one.as_str() == word,
        _ => false,
    };
    none("RepoTags", "<none>:<none>") && none("RepoDigests", "<none>@<none>")
}

fn size(bytes: i64) -> String {
    human_size_with_precision(bytes as f64, 3)
}

fn tree(image: &Value) -> Tree {
    let parts: Vec<&Value> = image.get("Manifests").items().iter().filter(|part| part.str("Kind") == "image").collect();
    let last = parts.len().saturating_sub(1);
    let used = |part: &Value| !part.at(&["ImageData", "Containers"]).items().is_empty();
    let content = |part: &Value| part.get("Size").int("Content");
    let platforms = parts.iter().enumerate().map(|(at, part)| Row {
        names: vec![format!("{}─ {}", if at == last { '└' } else { '├' }, platform(part))],
        id: short_id(part.str("ID")).to_owned(),
        disk: size(part.get("Size").int("Total")),
        content: size(content(part)),
        used: used(part),
        colours: match part.bool("Available") {
            true => ("\u{1b}[39m", "\u{1b}[39m"),
            false => ("\u{1b}[39m\u{1b}[2m", "\u{1b}[39m\u{1b}[2m"),
        },
    });
    let tags: Vec<String> = image.get("RepoTags").items().iter().map(|tag| tag.as_str().to_owned()).collect();
    let (names, colour) = match tags.is_empty() {
        false => (tags, "\u{1b}[34m\u{1b}[1m"),
        true => (vec!["<untagged>".to_owned()], "\u{1b}[39m\u{1b}[2m"),
    };
    Tree {
        platforms: platforms.collect(),
        image: Row {
            names,
            id: short_id(image.str("Id")).to_owned(),
            disk: size(image.int("Size")),
            content: size(parts.iter().map(|part| content(part)).fold(0, i64::saturating_add)),
            used: image.int("Containers") > 0 || parts.iter().any(|part| used(part)),
            colours: (colour, "\u{1b}[39m"),
        },
    }
}

fn platform(part: &Value) -> String {
    let platform = part.at(&["ImageData", "Platform"]);
    let words = ["os", "architecture", "variant"].map(|key| platform.str(key));
    let mut text = format!("{}/{}", if words[0].is_empty() { "unknown" } else { words[0] }, words[1]);
    if !words[2].is_empty() {
        text = format!("{text}/{}", words[2]);
    }
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn render(trees: &[Tree], width: usize, terminal: bool) -> String {
    let (mut names, mut shown) = (width, 0);
    for (_, column, _) in COLUMNS {
        match names.checked_sub(column + SPACING) {
            Some(left) if left >= LEAST => (names, shown) = (left, shown + 1),
            _ => break,
        }
    }
    let rows = trees.iter().flat_map(|tree| std::iter::once(&tree.image).chain(&tree.platforms));
    // In bytes, as Docker's client has it: the branches before a platform take three each.
    let widest = rows.flat_map(|row| &row.names).map(String::len).max();
    let names = names.min(widest.unwrap_or(0).max("IMAGE".len()));

    let colour = |codes: &str, text: &str| match terminal && !codes.is_empty() {
        true => format!("{codes}{text}{RESET}"),
        false => text.to_owned(),
    };
    let mut out = colour("\u{1b}[93m", WARNING) + "\n";
    // The cells of what is read, without the escape sequences.
    let (legend, cells) = match terminal {
        true => (format!("{} {} {}In Use ", info(), "\u{1b}[96mInfo → \u{1b}[0m\u{1b}[0m", chip(true) + " "), 21),
        false => (format!("Info ->  {} In Use ", chip(false)), 18),
    };
    out.push_str(&" ".repeat(width.saturating_sub(cells)));
    out.push_str(&legend);
    out.push_str("\n\n");
    let pad = |text: &str, width: usize| " ".repeat(width.saturating_sub(text.chars().count()));
    // Titles have their escape sequences wherever they are printed, as Docker's have.
    out.push_str(&format!("{TITLE}IMAGE{RESET}{}", pad("IMAGE", names)));
    for (title, column, _) in &COLUMNS[..shown] {
        out.push_str(&format!("{}{TITLE}{title}{RESET}{}", " ".repeat(SPACING), pad(title, *column)));
    }
    out.push('\n');
    let spaced = trees.iter().any(|tree| !tree.platforms.is_empty());
    for tree in trees {
        for row in std::iter::once(&tree.image).chain(&tree.platforms) {
            let (last, above) = row.names.split_last().map_or(("", &[][..]), |(last, above)| (last.as_str(), above));
            for name in above {
                out.push_str(&(colour(row.colours.0, name) + "\n"));
            }
            let name = truncated(last, names);
            out.push_str(&format!("{}{}", colour(row.colours.0, &name), pad(&name, names)));
            for ((text, codes), (_, column, right)) in row.cells(terminal).iter().zip(&COLUMNS[..shown]) {
                let shown = colour(codes, text);
                let space = match codes.is_empty() && !text.is_empty() {
                    true => " ".repeat(column - if terminal { 3 } else { 1 }),
                    false => pad(text, *column),
                };
                let cell = if *right { format!("{space}{shown}") } else { format!("{shown}{space}") };
                out.push_str(&" ".repeat(SPACING));
                out.push_str(&cell);
            }
            out.push('\n');
        }
        if spaced {
            out.push('\n');
        }
    }
    out
}

impl Row {
    /// Text and escape sequences of each column; the mark has its own.
    fn cells(&self, terminal: bool) -> [(String, &'static str); 4] {
        let codes = self.colours.1;
        let mark = if self.used { chip(terminal) } else { String::new() };
        [(self.id.clone(), codes), (self.disk.clone(), codes), (self.content.clone(), codes), (mark, "")]
    }
}

/// The mark of what is in use: three cells on a terminal, one elsewhere.
fn chip(terminal: bool) -> String {
    if terminal { format!("\u{1b}[38;5;0m\u{1b}[48;5;14m U {RESET}") } else { "U".to_owned() }
}

fn info() -> String {
    format!("\u{1b}[1m\u{1b}[106m\u{1b}[30mi{RESET}{RESET}")
}

fn truncated(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
