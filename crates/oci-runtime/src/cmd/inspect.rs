//! What there is and what it does: state, list, ps.

use std::io::Write;
use std::process::Command;

use oci::{Listing, Status};

use crate::alive;
use crate::context::Context;
use crate::create;
use crate::error::{Doing, Error, Result};
use crate::flags::{Flag, Given, option, switch};
use crate::store::{Place, Record};

pub(crate) const LIST: &[Flag] = &[
    option("format", Some('f'), "table|json", "form of the list (default table)"),
    switch("quiet", Some('q'), "IDs only"),
];
pub(crate) const PS: &[Flag] = &[option("format", Some('f'), "table|json", "form of the list (default table)")];

pub(crate) fn print(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).doing(|| "write to standard output".to_owned())
}

pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string_pretty(value).map_err(|error| Error::Other(format!("cannot write JSON: {error}")))
}

fn listing(place: &Place, record: &Record) -> Result<Listing> {
    let status = alive::status(place, record)?;
    let mut state = create::state(record, status);
    // runc says 0 for what has stopped.
    state.pid = Some(if status == Status::Stopped { 0 } else { record.pid });
    Ok(Listing {
        state,
        rootfs: record.rootfs.display().to_string(),
        created: record.created.clone(),
        owner: owner(record.owner),
    })
}

/// The name of the user who made the container, which lists show.
fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    name.map_or_else(|| format!("#{uid}"), str::to_owned)
}

pub(crate) fn state(context: &Context, given: &Given) -> Result<u8> {
    let place = context.store.open(given.id()?)?;
    let record = place.load_or_begun()?;
    print(&format!("{}\n", to_json(&listing(&place, &record)?)?))?;
    Ok(0)
}

pub(crate) fn list(context: &Context, given: &Given) -> Result<u8> {
    let mut rows = Vec::new();
    for place in context.store.all()? {
        // One that is just being made or removed is none.
        if let Ok(record) = place.load()
            && let Ok(row) = listing(&place, &record)
        {
            rows.push(row);
        }
    }
    let mut text = String::new();
    if given.has("quiet") {
        rows.iter().for_each(|row| text.push_str(&format!("{}\n", row.state.id)));
        print(&text)?;
        return Ok(0);
    }
    match given.value("format") {
        Some("json") => {
            let rows = if rows.is_empty() { "null".to_owned() } else { to_json(&rows)? };
            print(&format!("{rows}\n"))?;
        }
        None | Some("table") => {
            let line = |cells: [&str; 6]| {
                let [id, pid, status, bundle, created, owner] = cells;
                format!("{id:<24}    {pid:<10}  {status:<10}  {bundle:<40}  {created:<32}  {owner}\n")
            };
            text.push_str(&line(["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]));
            for row in &rows {
                let pid = row.state.pid.unwrap_or(0).to_string();
                let state = &row.state;
                text.push_str(&line([&state.id, &pid, state.status.name(), &state.bundle, &row.created, &row.owner]));
            }
            print(&text)?;
        }
        Some(other) => return Err(Error::Usage(format!("--format is table or json, not {other:?}"))),
    }
    Ok(0)
}

pub(crate) fn ps(context: &Context, given: &Given) -> Result<u8> {
    let record = context.store.open(given.id()?)?.load()?;
    let pids = record.group.pids()?;
    match given.value("format") {
        Some("json") => {
            let pids = serde_json::to_string(&pids).map_err(|error| Error::Other(error.to_string()))?;
            print(&format!("{pids}\n"))?;
            Ok(0)
        }
        None | Some("table") => {
            let options = given.words.get(1..).filter(|words| !words.is_empty());
            let options = options.map_or_else(|| vec!["-ef".to_owned()], <[String]>::to_vec);
            let output = Command::new("ps").args(&options).output().map_err(|error| {
                Error::Other(format!("cannot run ps: {error}; install procps or use --format json"))
            })?;
            if !output.status.success() {
                return Err(Error::Other(format!("ps: {}", String::from_utf8_lossy(&output.stderr).trim())));
            }
            print(&select(&String::from_utf8_lossy(&output.stdout), &pids)?)?;
            Ok(0)
        }
        Some(other) => Err(Error::Usage(format!("--format is table or json, not {other:?}"))),
    }
}

/// The lines about the processes, with the heading.
fn select(table: &str, pids: &[i32]) -> Result<String> {
    let mut lines = table.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::Other("the ps options given print no column PID; add one".to_owned()))?;
    let mut text = format!("{heading}\n");
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|cell| cell.parse().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            text.push_str(&format!("{line}\n"));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_picked_by_the_pid_column() {
        let table = "UID PID PPID CMD\nroot 7 1 sh 8\nroot 8 7 true\nroot 17 7 x\n";
        assert_eq!(select(table, &[7, 17]).unwrap(), "UID PID PPID CMD\nroot 7 1 sh 8\nroot 17 7 x\n");
        assert!(select("CMD\nsh\n", &[7]).is_err());
    }
}
