//! `stats`: a table of what containers use, refreshed as the numbers come.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
    sync::mpsc,
    time::{Duration, Instant},
};

use client::Client;
use types::{bytes_size, human_size_with_precision};

use super::{FORMAT, NO_TRUNC, container_path, short_id};
use crate::{
    Error, Result,
    flags::{Arity, Command, Flag, Parsed},
    format::{Column, Listing, Value},
    session::Session,
    term::output::{print, stdout_is_terminal},
};

pub(super) static STATS: Command = Command {
    paths: &["container stats", "stats"],
    synopsis: "[OPTIONS] [CONTAINER...]",
    about: "Show what containers use, as it changes",
    flags: &[&[
        Flag::switch("all", "Show stopped containers too").short('a'),
        FORMAT,
        Flag::switch("no-stream", "Show the first numbers and end"),
        NO_TRUNC,
    ]],
    arity: Arity::AtLeast(0),
    interspersed: true,
    run: stats,
};

const HEADINGS: &[Column] = &[
    ("ID", "CONTAINER ID"),
    ("Container", "CONTAINER"),
    ("Name", "NAME"),
    ("CPUPerc", "CPU %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("MemPerc", "MEM %"),
    ("NetIO", "NET I/O"),
    ("NetLimit", "NET LIMIT"),
    ("BlockIO", "BLOCK I/O"),
    ("PIDs", "PIDS"),
];
const COLUMNS: [&str; 8] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"];
/// With what the traffic is held to, for when there is such a limit.
const WITH_LIMITS: [&str; 9] = ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "NetLimit", "BlockIO", "PIDs"];
const NO_LIMITS: &str = "-- / --";

/// Time between two pictures of the table.
const REFRESH: Duration = Duration::from_millis(500);
/// Longest sample accepted, in bytes.
const MAX_SAMPLE: u64 = 4 * 1024 * 1024;

/// What a reader says about one container.
enum News {
    Sample(Value),
    Ended(Option<String>),
}

fn stats(parsed: &Parsed, session: &Session) -> Result<u8> {
    let client = session.client()?;
    let once = parsed.on("no-stream");
    let follow_all = parsed.args.is_empty();
    let (sender, news) = mpsc::channel();
    let mut rows: BTreeMap<String, Option<Value>> = BTreeMap::new();
    let mut order = Vec::new();
    let watch = |name: String, rows: &mut BTreeMap<String, Option<Value>>, order: &mut Vec<String>| {
        if rows.insert(name.clone(), None).is_none() {
            order.push(name.clone());
            let (client, sender) = (client.clone(), sender.clone());
            std::thread::spawn(move || {
                let end =
                    read(&client, &name, once, |sample| sender.send((name.clone(), News::Sample(sample))).is_ok());
                // The table may be gone by now, and with it whoever would hear of the end.
                let _ = sender.send((name.clone(), News::Ended(end.err().map(|error| error.to_string()))));
            });
        }
    };
    let names = if follow_all { running(client, parsed.on("all"))? } else { parsed.args.clone() };
    for name in names {
        watch(name, &mut rows, &mut order);
    }
    let mut open = order.len();
    let mut drawn = Instant::now();
    let mut listed = Instant::now();
    let clear = !once && stdout_is_terminal();
    let mut complete = false;
    loop {
        match news.recv_timeout(REFRESH) {
            Ok((name, News::Sample(sample))) => drop(rows.insert(name, Some(sample))),
            Ok((name, News::Ended(problem))) => {
                open -= 1;
                if let Some(problem) = problem.filter(|_| !follow_all) {
                    return Err(Error::new(problem));
                }
                if !once {
                    rows.remove(&name);
                    order.retain(|one| *one != name);
                }
            }
            Err(_) => {}
        }
        if once {
            if open == 0 {
                print(&table(parsed, &rows, &order)?)?;
                return Ok(0);
            }
            continue;
        }
        if follow_all && listed.elapsed() >= 2 * REFRESH {
            for name in running(client, parsed.on("all"))? {
                if !rows.contains_key(&name) {
                    open += 1;
                    watch(name, &mut rows, &mut order);
                }
            }
            listed = Instant::now();
        }
        let all_known = rows.values().all(Option::is_some);
        if drawn.elapsed() >= REFRESH || (all_known && !complete) {
            complete = all_known;
            let text = table(parsed, &rows, &order)?;
            // Home, then each line cleared to its end: the picture never flickers.
            let text = if clear { format!("\x1b[H{}\x1b[J", text.replace('\n', "\x1b[K\n")) } else { text };
            print(&text)?;
            drawn = Instant::now();
        }
        if !follow_all && open == 0 {
            return Ok(0);
        }
    }
}

fn running(client: &Client, all: bool) -> Result<Vec<String>> {
    let list: Value = client.get("/containers/json").flag("all", all).send()?.json()?;
    Ok(list.items().iter().map(|one| one.str("Id").to_owned()).collect())
}

/// Reads samples of one container until it ends or `take` has enough.
fn read(client: &Client, name: &str, once: bool, mut take: impl FnMut(Value) -> bool) -> Result<()> {
    let body =
        client.get(container_path(name, "/stats")).query("stream", if once { "0" } else { "1" }).send()?.into_body();
    let mut reader = BufReader::new(body);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader).take(MAX_SAMPLE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let sample: Value = serde_json::from_slice(&line).map_err(client::Error::from)?;
        if !take(sample) || once {
            return Ok(());
        }
    }
}

fn table(parsed: &Parsed, rows: &BTreeMap<String, Option<Value>>, order: &[String]) -> Result<String> {
    let shown: Vec<Value> = order
        .iter()
        .filter_map(|name| rows.get(name).map(|sample| row(name, sample.as_ref(), !parsed.on("no-trunc"))))
        .collect();
    let limited = shown.iter().any(|row| row.str("NetLimit") != NO_LIMITS);
    let columns: &[&str] = if limited { &WITH_LIMITS } else { &COLUMNS };
    Listing { headings: HEADINGS, columns, format: parsed.text("format"), quiet: None }.render(&shown)
}

fn row(name: &str, sample: Option<&Value>, shorten: bool) -> Value {
    let cell = |key: &str, text: String| (key.to_owned(), Value::Text(text));
    let Some(sample) = sample else {
        return Value::Map(vec![
            cell("BlockIO", "-- / --".into()),
            cell("CPUPerc", "--".into()),
            cell("Container", name.into()),
            cell("ID", short_id(name).into()),
            cell("MemPerc", "--".into()),
            cell("MemUsage", "-- / --".into()),
            cell("Name", "--".into()),
            cell("NetIO", "-- / --".into()),
            cell("NetLimit", NO_LIMITS.into()),
            cell("PIDs", "--".into()),
        ]);
    };
    let (used, limit) = memory(sample);
    let size = |bytes: i64| human_size_with_precision(bytes as f64, 3);
    let (received, sent) = sample
        .get("networks")
        .entries()
        .iter()
        .fold((0, 0), |(received, sent), (_, card)| (received + card.int("rx_bytes"), sent + card.int("tx_bytes")));
    let block = |op: &str| -> i64 {
        sample
            .at(&["blkio_stats", "io_service_bytes_recursive"])
            .items()
            .iter()
            .filter(|entry| entry.str("op").eq_ignore_ascii_case(op))
            .map(|entry| entry.int("value"))
            .sum()
    };
    let id = if sample.str("id").is_empty() { name } else { sample.str("id") };
    let percent = if limit > 0 { used as f64 / limit as f64 * 100.0 } else { 0.0 };
    Value::Map(vec![
        cell("BlockIO", format!("{} / {}", size(block("read")), size(block("write")))),
        cell("CPUPerc", format!("{:.2}%", cpu(sample))),
        cell("Container", name.into()),
        cell("ID", if shorten { short_id(id) } else { id }.into()),
        cell("MemPerc", format!("{percent:.2}%")),
        cell("MemUsage", format!("{} / {}", bytes_size(used as f64), bytes_size(limit as f64))),
        cell("Name", sample.str("name").trim_start_matches('/').into()),
        cell("NetIO", format!("{} / {}", size(received), size(sent))),
        cell("NetLimit", net_limit(sample)),
        cell("PIDs", sample.at(&["pids_stats", "current"]).as_int().to_string()),
    ])
}

/// What may come in and go out; with several networks, of all of them together, and none when one of them has none.
fn net_limit(sample: &Value) -> String {
    let networks = sample.get("networks");
    let limit = |key: &str| -> Option<i64> {
        let limits: Vec<i64> = networks.entries().iter().map(|(_, card)| card.int(key)).collect();
        (!limits.is_empty() && limits.iter().all(|limit| *limit > 0)).then(|| limits.iter().sum())
    };
    let text = |key| limit(key).map_or_else(|| "--".to_owned(), bits);
    format!("{} / {}", text("rx_rate_limit"), text("tx_rate_limit"))
}

/// Bits per second as `tc` writes them.
fn bits(rate: i64) -> String {
    let units = [(1_000_000_000, "gbit"), (1_000_000, "mbit"), (1_000, "kbit")];
    let (size, unit) = units.into_iter().find(|(size, _)| rate >= *size).unwrap_or((1, "bit"));
    let digits = format!("{:.2}", rate as f64 / size as f64);
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Memory in use without the page cache that can be dropped, and the limit.
fn memory(sample: &Value) -> (i64, i64) {
    let stats = sample.get("memory_stats");
    let (usage, limit) = (stats.int("usage"), stats.int("limit"));
    // cgroup v1 says `total_inactive_file`, v2 `inactive_file`.
    let cache = match stats.at(&["stats", "total_inactive_file"]) {
        Value::Null => stats.at(&["stats", "inactive_file"]).as_int(),
        found => found.as_int(),
    };
    (if cache < usage { usage - cache } else { usage }, limit)
}

/// CPU time used between two samples, in percent of one CPU.
fn cpu(sample: &Value) -> f64 {
    let (now, before) = (sample.get("cpu_stats"), sample.get("precpu_stats"));
    let used = now.at(&["cpu_usage", "total_usage"]).as_int() - before.at(&["cpu_usage", "total_usage"]).as_int();
    let system = now.int("system_cpu_usage") - before.int("system_cpu_usage");
    let cpus = match now.int("online_cpus") {
        0 => now.at(&["cpu_usage", "percpu_usage"]).items().len() as i64,
        count => count,
    };
    if used > 0 && system > 0 { used as f64 / system as f64 * cpus as f64 * 100.0 } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_sample() {
        let sample: Value = serde_json::from_str(
            r#"{"id":"0123456789abcdef","name":"/web","pids_stats":{"current":3},
                "cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
                "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},
                "memory_stats":{"usage":3145728,"limit":4194304,"stats":{"total_inactive_file":1048576}},
                "networks":{"eth0":{"rx_bytes":1000,"tx_bytes":20,"rx_rate_limit":2500000}},
                "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":5},{"op":"write","value":6}]}}"#,
        )
        .unwrap();
        let row = row("web", Some(&sample), true);
        assert_eq!(row.str("CPUPerc"), "40.00%");
        assert_eq!((row.str("MemUsage"), row.str("MemPerc")), ("2MiB / 4MiB", "50.00%"));
        assert_eq!((row.str("NetIO"), row.str("BlockIO"), row.str("PIDs")), ("1kB / 20B", "5B / 6B", "3"));
        assert_eq!(row.str("NetLimit"), "2.5mbit / --");
        assert_eq!(
            (bits(1), bits(10_000), bits(100_000_000), bits(3_000_000_000)),
            ("1bit".into(), "10kbit".into(), "100mbit".into(), "3gbit".into())
        );
        assert_eq!((row.str("ID"), row.str("Name")), ("0123456789ab", "web"));
    }
}
