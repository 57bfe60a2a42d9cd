//! `system df`: what takes up space.

use types::{human_size, human_size_with_precision};

use super::{images, ps, short_id, volume};
use crate::{
    Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value, time},
    session::Session,
    term::output::print,
};

pub(super) static DF: Command = Command {
    paths: &["system df"],
    synopsis: "[OPTIONS]",
    about: "Show what takes up space",
    flags: &[&[super::FORMAT, Flag::switch("verbose", "Show every object").short('v')]],
    arity: Arity::None,
    interspersed: true,
    run: df,
};

const HEADINGS: &[Column] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];

/// The usage of one kind of object.
#[derive(Debug, Default, PartialEq, Eq)]
struct Usage {
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
}

impl Usage {
    fn row(&self, kind: &str) -> Value {
        let mut reclaimable = human_size(self.reclaimable as f64);
        if self.size > 0 && kind != "Build Cache" {
            reclaimable.push_str(&format!(" ({}%)", i128::from(self.reclaimable) * 100 / i128::from(self.size)));
        }
        let text = Value::Text;
        Value::Map(vec![
            ("Active".into(), text(self.active.to_string())),
            ("Reclaimable".into(), text(reclaimable)),
            ("Size".into(), text(human_size(self.size as f64))),
            ("TotalCount".into(), text(self.total.to_string())),
            ("Type".into(), text(kind.to_owned())),
        ])
    }
}

fn df(parsed: &Parsed, session: &Session) -> Result<u8> {
    let usage: Value = session.client()?.get("/system/df").flag("verbose", parsed.on("verbose")).send()?.json()?;
    if parsed.on("verbose") && parsed.text("format").is_empty() {
        print(&verbose(&usage)?)?;
        return Ok(0);
    }
    if parsed.on("verbose") && parsed.text("format") == "json" {
        print(&(usage.to_json() + "\n"))?;
        return Ok(0);
    }
    let rows = [
        image_usage(&usage).row("Images"),
        container_usage(&usage).row("Containers"),
        volume_usage(&usage).row("Local Volumes"),
        cache_usage(&usage).row("Build Cache"),
    ];
    let columns = ["Type", "TotalCount", "Active", "Size", "Reclaimable"];
    print(
        &Listing { headings: HEADINGS, columns: &columns, format: parsed.text("format"), quiet: None }.render(&rows)?,
    )?;
    Ok(0)
}

/// The totals an engine of API 1.52 or later gives by itself.
fn summary(usage: &Value, key: &str) -> Option<Usage> {
    let found = usage.find(key)?;
    let count = |key: &str| usize::try_from(found.int(key)).unwrap_or(0);
    Some(Usage {
        total: count("TotalCount"),
        active: count("ActiveCount"),
        size: found.int("TotalSize"),
        reclaimable: found.int("Reclaimable"),
    })
}

/// Objects of a kind, from the place either generation of the API has them in.
fn objects<'a>(usage: &'a Value, legacy: &str, summary: &str) -> &'a [Value] {
    match usage.get(legacy) {
        Value::List(items) => items,
        _ => usage.at(&[summary, "Items"]).items(),
    }
}

fn image_usage(usage: &Value) -> Usage {
    if let Some(found) = summary(usage, "ImageUsage").or_else(|| summary(usage, "ImagesDiskUsage")) {
        return found;
    }
    let list = objects(usage, "Images", "ImageUsage");
    let active = list.iter().filter(|image| image.int("Containers") > 0);
    let size = usage.int("LayersSize");
    let used: i64 = active
        .clone()
        .filter(|image| image.int("Size") >= 0 && image.int("SharedSize") >= 0)
        .map(|image| image.int("Size") - image.int("SharedSize"))
        .sum();
    Usage { total: list.len(), active: active.count(), size, reclaimable: (size - used).max(0) }
}

fn container_usage(usage: &Value) -> Usage {
    if let Some(found) = summary(usage, "ContainerUsage").or_else(|| summary(usage, "ContainersDiskUsage")) {
        return found;
    }
    let list = objects(usage, "Containers", "ContainerUsage");
    let is_active = |one: &Value| matches!(one.str("State"), "running" | "paused" | "restarting");
    let size = |active: bool| list.iter().filter(|one| active || !is_active(one)).map(|one| one.int("SizeRw")).sum();
    Usage {
        total: list.len(),
        active: list.iter().filter(|one| is_active(one)).count(),
        size: size(true),
        reclaimable: size(false),
    }
}

fn volume_usage(usage: &Value) -> Usage {
    if let Some(found) = summary(usage, "VolumeUsage").or_else(|| summary(usage, "VolumesDiskUsage")) {
        return found;
    }
    let list = objects(usage, "Volumes", "VolumeUsage");
    let data = |one: &Value, key: &str| one.get("UsageData").int(key);
    let size = |all: bool| {
        list.iter().filter(|one| all || data(one, "RefCount") == 0).map(|one| data(one, "Size").max(0)).sum()
    };
    Usage {
        total: list.len(),
        active: list.iter().filter(|one| data(one, "RefCount") > 0).count(),
        size: size(true),
        reclaimable: size(false),
    }
}

fn cache_usage(usage: &Value) -> Usage {
    if let Some(found) = summary(usage, "BuildCacheUsage").or_else(|| summary(usage, "BuildCacheDiskUsage")) {
        return found;
    }
    let list = objects(usage, "BuildCache", "BuildCacheUsage");
    let size = |all: bool| {
        list.iter().filter(|one| !one.bool("Shared") && (all || !one.bool("InUse"))).map(|one| one.int("Size")).sum()
    };
    Usage {
        total: list.len(),
        active: list.iter().filter(|one| one.bool("InUse")).count(),
        size: size(true),
        reclaimable: size(false),
    }
}

fn verbose(usage: &Value) -> Result<String> {
    let table = |headings: &[Column], columns: &[&str], rows: &[Value]| {
        Listing { headings, columns, format: "", quiet: None }.render(rows)
    };
    let image_rows: Vec<Value> =
        objects(usage, "Images", "ImageUsage").iter().flat_map(|image| images::rows(image, true, false)).collect();
    let image_columns = ["Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers"];
    let image_headings = [
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("ID", "IMAGE ID"),
        ("CreatedSince", "CREATED"),
        ("Size", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
        ("Containers", "CONTAINERS"),
    ];
    let mut out = format!("Images space usage:\n\n{}", table(&image_headings, &image_columns, &image_rows)?);
    let container_rows: Vec<Value> =
        objects(usage, "Containers", "ContainerUsage").iter().map(|one| ps::row(one, true, false)).collect();
    let container_headings = [
        ("ID", "CONTAINER ID"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("LocalVolumes", "LOCAL VOLUMES"),
        ("Size", "SIZE"),
        ("RunningFor", "CREATED"),
        ("Status", "STATUS"),
        ("Names", "NAMES"),
    ];
    let container_columns = ["ID", "Image", "Command", "LocalVolumes", "Size", "RunningFor", "Status", "Names"];
    out.push_str(&format!(
        "\nContainers space usage:\n\n{}",
        table(&container_headings, &container_columns, &container_rows)?
    ));
    let volume_rows: Vec<Value> = objects(usage, "Volumes", "VolumeUsage").iter().map(volume::row).collect();
    let volume_headings = [("Name", "VOLUME NAME"), ("Links", "LINKS"), ("Size", "SIZE")];
    out.push_str(&format!(
        "\nLocal Volumes space usage:\n\n{}",
        table(&volume_headings, &["Name", "Links", "Size"], &volume_rows)?
    ));
    let cache_rows: Vec<Value> = objects(usage, "BuildCache", "BuildCacheUsage").iter().map(cache_row).collect();
    let cache_headings = [
        ("ID", "CACHE ID"),
        ("Type", "CACHE TYPE"),
        ("Size", "SIZE"),
        ("Created", "CREATED"),
        ("Used", "LAST USED"),
        ("Count", "USAGE"),
        ("Shared", "SHARED"),
    ];
    let cache_columns = ["ID", "Type", "Size", "Created", "Used", "Count", "Shared"];
    let size = human_size(cache_usage(usage).size as f64);
    out.push_str(&format!("\nBuild cache usage: {size}\n\n{}", table(&cache_headings, &cache_columns, &cache_rows)?));
    Ok(out)
}

fn cache_row(one: &Value) -> Value {
    let since = |key: &str| time::parse_rfc3339(one.str(key)).map(time::ago).unwrap_or_default();
    Value::Map(vec![
        ("ID".into(), Value::text_of(short_id(one.str("ID")))),
        ("Type".into(), one.get("Type").clone()),
        ("Size".into(), Value::Text(human_size_with_precision(one.int("Size") as f64, 3))),
        ("Created".into(), Value::Text(since("CreatedAt"))),
        ("Used".into(), Value::Text(since("LastUsedAt"))),
        ("Count".into(), Value::Int(one.int("UsageCount"))),
        ("Shared".into(), Value::Bool(one.bool("Shared"))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_generations_of_the_api_are_understood() {
        let old: Value = serde_json::from_str(
            r#"{"LayersSize":100,"Images":[{"Containers":1,"Size":60,"SharedSize":20},{"Containers":0,"Size":40,"SharedSize":0}],
                "Containers":[{"State":"running","SizeRw":5},{"State":"exited","SizeRw":7}],"Volumes":[{"UsageData":{"RefCount":0,"Size":9}}],"BuildCache":null}"#,
        )
        .unwrap();
        assert_eq!(image_usage(&old), Usage { total: 2, active: 1, size: 100, reclaimable: 60 });
        assert_eq!(container_usage(&old), Usage { total: 2, active: 1, size: 12, reclaimable: 7 });
        assert_eq!(volume_usage(&old), Usage { total: 1, active: 0, size: 9, reclaimable: 9 });
        let new: Value =
            serde_json::from_str(r#"{"ImageUsage":{"TotalCount":3,"ActiveCount":1,"TotalSize":10,"Reclaimable":4}}"#)
                .unwrap();
        assert_eq!(image_usage(&new), Usage { total: 3, active: 1, size: 10, reclaimable: 4 });
    }
}
