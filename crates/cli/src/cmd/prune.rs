//! The prune commands. Each asks before it removes anything, unless told not to.

use client::Client;
use types::human_size;

use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::Value,
    session::Session,
    term::output::{print, stdin_is_terminal, warn},
};

const FORCE: Flag = Flag::switch("force", "Do not ask").short('f');
const FILTER: Flag = Flag::list("filter", "Condition the removed must meet (key=value)").value("filter");

pub(super) static CONTAINER: Command = Command {
    paths: &["container prune"],
    synopsis: "[OPTIONS]",
    about: "Remove all stopped containers",
    flags: &[&[FILTER, FORCE]],
    arity: Arity::None,
    interspersed: true,
    run: |parsed, session| {
        confirm(parsed, "WARNING! This will remove all stopped containers.")?;
        let filters = super::filters(parsed.list("filter"))?;
        finish(containers(session.client()?, filters.as_deref())?)
    },
};

pub(super) static IMAGE: Command = Command {
    paths: &["image prune"],
    synopsis: "[OPTIONS]",
    about: "Remove unused images",
    flags: &[&[
        Flag::switch("all", "Remove every image no container uses, not only untagged ones").short('a'),
        FILTER,
        FORCE,
    ]],
    arity: Arity::None,
    interspersed: true,
    run: |parsed, session| {
        let all = parsed.on("all");
        confirm(parsed, if all { ALL_IMAGES } else { DANGLING })?;
        let dangling = format!("dangling={}", !all);
        let filters = super::filters(parsed.list("filter").chain([dangling.as_str()]))?;
        finish(images(session.client()?, filters.as_deref())?)
    },
};

pub(super) static VOLUME: Command = Command {
    paths: &["volume prune"],
    synopsis: "[OPTIONS]",
    about: "Remove volumes no container uses",
    flags: &[&[Flag::switch("all", "Remove named volumes too").short('a'), FILTER, FORCE]],
    arity: Arity::None,
    interspersed: true,
    run: |parsed, session| {
        let all = parsed.on("all");
        let what = if all { "all local volumes" } else { "anonymous local volumes" };
        confirm(parsed, &format!("WARNING! This will remove {what} not used by at least one container."))?;
        let filters = super::filters(parsed.list("filter").chain(all.then_some("all=true")))?;
        finish(volumes(session.client()?, filters.as_deref())?)
    },
};

pub(super) static NETWORK: Command = Command {
    paths: &["network prune"],
    synopsis: "[OPTIONS]",
    about: "Remove networks no container uses",
    flags: &[&[FILTER, FORCE]],
    arity: Arity::None,
    interspersed: true,
    run: |parsed, session| {
        confirm(parsed, "WARNING! This will remove all custom networks not used by at least one container.")?;
        let filters = super::filters(parsed.list("filter"))?;
        print(&networks(session.client()?, filters.as_deref())?)?;
        Ok(0)
    },
};

pub(super) static SYSTEM: Command = Command {
    paths: &["system prune"],
    synopsis: "[OPTIONS]",
    about: "Remove everything that is not used",
    flags: &[&[
        Flag::switch("all", "Remove every image no container uses, not only untagged ones").short('a'),
        FILTER,
        FORCE,
        Flag::switch("volumes", "Remove anonymous volumes too"),
    ]],
    arity: Arity::None,
    interspersed: true,
    run: system,
};

const ALL_IMAGES: &str = "WARNING! This will remove all images without at least one container associated to them.";
const DANGLING: &str = "WARNING! This will remove all dangling images.";

/// Asks on the terminal; anything but "y" means no.
fn confirm(parsed: &Parsed, warning: &str) -> Result<()> {
    if parsed.on("force") {
        return Ok(());
    }
    print(&format!("{warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y") {
        return Ok(());
    }
    if !stdin_is_terminal() {
        print("\n")?;
    }
    Err(Error::new("operation has been cancelled; give --force to remove without being asked"))
}

fn finish((text, bytes): (String, i64)) -> Result<u8> {
    print(&format!("{text}Total reclaimed space: {}\n", human_size(bytes as f64)))?;
    Ok(0)
}

fn prune(client: &Client, path: &str, filters: Option<&str>) -> Result<Value> {
    Ok(client.post(path).query_opt("filters", filters).send()?.json()?)
}

fn listing(heading: &str, names: &Value) -> String {
    let items = names.items();
    if items.is_empty() {
        return String::new();
    }
    format!("{heading}\n{}\n", items.iter().map(|name| format!("{}\n", name.as_str())).collect::<String>())
}

fn containers(client: &Client, filters: Option<&str>) -> Result<(String, i64)> {
    let report = prune(client, "/containers/prune", filters)?;
    Ok((listing("Deleted Containers:", report.get("ContainersDeleted")), report.int("SpaceReclaimed")))
}

fn volumes(client: &Client, filters: Option<&str>) -> Result<(String, i64)> {
    let report = prune(client, "/volumes/prune", filters)?;
    Ok((listing("Deleted Volumes:", report.get("VolumesDeleted")), report.int("SpaceReclaimed")))
}

fn networks(client: &Client, filters: Option<&str>) -> Result<String> {
    let report = prune(client, "/networks/prune", filters)?;
    Ok(listing("Deleted Networks:", report.get("NetworksDeleted")))
}

fn images(client: &Client, filters: Option<&str>) -> Result<(String, i64)> {
    let report = prune(client, "/images/prune", filters)?;
    let mut out = String::new();
    for one in report.get("ImagesDeleted").items() {
        if !one.str("Untagged").is_empty() {
            out.push_str(&format!("untagged: {}\n", one.str("Untagged")));
        } else {
            out.push_str(&format!("deleted: {}\n", one.str("Deleted")));
        }
    }
    let out = if out.is_empty() { out } else { format!("Deleted Images:\n{out}\n") };
    Ok((out, report.int("SpaceReclaimed")))
}

fn system(parsed: &Parsed, session: &Session) -> Result<u8> {
    let (all, with_volumes) = (parsed.on("all"), parsed.on("volumes"));
    if with_volumes && parsed.list("filter").any(|filter| filter.starts_with("until=")) {
        return Err(Error::new("ERROR: The \"until\" filter is not supported with \"--volumes\""));
    }
    let mut warning =
        "WARNING! This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n"
            .to_owned();
    if with_volumes {
        warning.push_str("  - all anonymous volumes not used by at least one container\n");
    }
    warning.push_str(if all {
        "  - all images without at least one container associated to them\n"
    } else {
        "  - all dangling images\n"
    });
    warning.push_str("  - unused build cache\n");
    confirm(parsed, &warning)?;
    let client = session.client()?;
    let filters = super::filters(parsed.list("filter"))?;
    let dangling = format!("dangling={}", !all);
    let image_filters = super::filters(parsed.list("filter").chain([dangling.as_str()]))?;
    let mut total = 0;
    // In this order, so that what a container held is free when its turn comes.
    let (text, bytes) = containers(client, filters.as_deref())?;
    print(&text)?;
    total += bytes;
    print(&networks(client, filters.as_deref())?)?;
    if with_volumes {
        let (text, bytes) = volumes(client, filters.as_deref())?;
        print(&text)?;
        total += bytes;
    }
    let (text, bytes) = images(client, image_filters.as_deref())?;
    print(&text)?;
    total += bytes;
    match client.post("/build/prune").flag("all", all).query_opt("filters", filters.as_deref()).send() {
        Ok(answer) => {
            let report: Value = answer.json()?;
            print(&listing("Deleted build cache objects:", report.get("CachesDeleted")))?;
            total += report.int("SpaceReclaimed");
        }
        // An engine without a builder has no cache to prune.
        Err(error) if matches!(error.status(), Some(404 | 501)) => {}
        Err(error) => warn(&error.to_string()),
    }
    finish((String::new(), total))
}
