//! `docker top`: the processes of a control group in the columns `ps` would print, read from
//! `/proc` without executing anything. `-ef` (the default), `aux`, `-eF`-less subsets and `-o` with
//! known columns are understood; any other argument is refused by name. Called by the facade.

use std::collections::HashMap;
use std::path::Path;

use crate::error::{Result, fail};

/// Titles and one row a process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    pub titles: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    User,
    Uid,
    Group,
    Gid,
    Pid,
    Ppid,
    Pgid,
    Sid,
    C,
    PercentCpu,
    PercentMem,
    Vsz,
    Rss,
    Tty,
    Stat,
    State,
    STime,
    Start,
    Time,
    Etime,
    Etimes,
    Nice,
    Priority,
    Threads,
    Comm,
    Args,
}

/// `-o` name, title, column.
const COLUMNS: &[(&str, &str, Column)] = &[
    ("user", "USER", Column::User),
    ("euser", "EUSER", Column::User),
    ("uname", "USER", Column::User),
    ("ruser", "RUSER", Column::User),
    ("uid", "UID", Column::Uid),
    ("euid", "EUID", Column::Uid),
    ("group", "GROUP", Column::Group),
    ("gid", "GID", Column::Gid),
    ("pid", "PID", Column::Pid),
    ("ppid", "PPID", Column::Ppid),
    ("pgid", "PGID", Column::Pgid),
    ("pgrp", "PGRP", Column::Pgid),
    ("sid", "SID", Column::Sid),
    ("sess", "SESS", Column::Sid),
    ("c", "C", Column::C),
    ("pcpu", "%CPU", Column::PercentCpu),
    ("%cpu", "%CPU", Column::PercentCpu),
    ("pmem", "%MEM", Column::PercentMem),
    ("%mem", "%MEM", Column::PercentMem),
    ("vsz", "VSZ", Column::Vsz),
    ("vsize", "VSZ", Column::Vsz),
    ("rss", "RSS", Column::Rss),
    ("rssize", "RSS", Column::Rss),
    ("tty", "TT", Column::Tty),
    ("tt", "TT", Column::Tty),
    ("tname", "TTY", Column::Tty),
    ("stat", "STAT", Column::Stat),
    ("state", "S", Column::State),
    ("s", "S", Column::State),
    ("stime", "STIME", Column::STime),
    ("start", "STARTED", Column::Start),
    ("start_time", "START", Column::STime),
    ("time", "TIME", Column::Time),
    ("cputime", "TIME", Column::Time),
    ("etime", "ELAPSED", Column::Etime),
    ("etimes", "ELAPSED", Column::Etimes),
    ("ni", "NI", Column::Nice),
    ("nice", "NI", Column::Nice),
    ("pri", "PRI", Column::Priority),
    ("nlwp", "NLWP", Column::Threads),
    ("thcount", "THCNT", Column::Threads),
    ("comm", "COMMAND", Column::Comm),
    ("ucmd", "CMD", Column::Comm),
    ("cmd", "CMD", Column::Args),
    ("args", "COMMAND", Column::Args),
    ("command", "COMMAND", Column::Args),
];

/// The columns of a `ps` argument string, with their titles.
fn parse(arguments: &str) -> Result<Vec<(String, Column)>> {
    let fixed = |list: &[(&str, Column)]| list.iter().map(|(t, c)| ((*t).to_owned(), *c)).collect::<Vec<_>>();
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let refuse = || {
        fail!(
            Invalid,
            "ps arguments \"{arguments}\" are not understood: use -ef, aux, or -o with columns such as pid,ppid,user,stat,time,args"
        )
    };
    let full = [
        ("UID", Column::User),
        ("PID", Column::Pid),
        ("PPID", Column::Ppid),
        ("C", Column::C),
        ("STIME", Column::STime),
        ("TTY", Column::Tty),
        ("TIME", Column::Time),
        ("CMD", Column::Args),
    ];
    let bsd = [
        ("USER", Column::User),
        ("PID", Column::Pid),
        ("%CPU", Column::PercentCpu),
        ("%MEM", Column::PercentMem),
        ("VSZ", Column::Vsz),
        ("RSS", Column::Rss),
        ("TTY", Column::Tty),
        ("STAT", Column::Stat),
        ("START", Column::STime),
        ("TIME", Column::Time),
        ("COMMAND", Column::Args),
    ];
    let short = [("PID", Column::Pid), ("TTY", Column::Tty), ("TIME", Column::Time), ("CMD", Column::Comm)];
    let mut columns: Vec<(String, Column)> = Vec::new();
    let mut chosen: Option<Vec<(String, Column)>> = None;
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word {
            "-ef" | "-fe" | "-Af" | "-f" => chosen = Some(fixed(&full)),
            "aux" | "-aux" | "axu" | "u" => chosen = Some(fixed(&bsd)),
            "-e" | "-A" | "-a" | "a" | "ax" | "-ax" => {
                chosen.get_or_insert_with(|| fixed(&short));
            }
            "-w" | "-ww" | "w" | "ww" => {}
            _ => {
                let list = match word.strip_prefix("-eo").or_else(|| word.strip_prefix("-o")).or(word.strip_prefix('o'))
                {
                    Some("") => words.next().ok_or_else(refuse)?,
                    Some(rest) => rest,
                    None => return Err(refuse()),
                };
                for item in list.split(',').filter(|i| !i.is_empty()) {
                    let (name, title) = item.split_once('=').map_or((item, None), |(n, t)| (n, Some(t)));
                    let known = COLUMNS.iter().find(|(n, _, _)| *n == name).ok_or_else(|| {
                        fail!(Invalid, "ps column \"{name}\" is not known here; try pid, ppid, user, stat, time, args")
                    })?;
                    columns.push((title.unwrap_or(known.1).to_owned(), known.2));
                }
            }
        }
    }
    if columns.is_empty() {
        return Ok(chosen.unwrap_or_else(|| fixed(&full)));
    }
    if !columns.iter().any(|(_, c)| *c == Column::Pid) {
        return Err(fail!(Internal, "Couldn't find PID field in ps output"));
    }
    Ok(columns)
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)), in clock ticks and pages.
#[derive(Debug, Default)]
struct Stat {
    comm: String,
    state: char,
    ppid: i64,
    pgrp: i64,
    session: i64,
    tty: i64,
    foreground: i64,
    ticks: u64,
    priority: i64,
    nice: i64,
    threads: i64,
    start: u64,
    vsize: u64,
    rss: u64,
}

fn parse_stat(text: &str) -> Option<Stat> {
    let open = text.find('(')?;
    // The name may hold anything, parentheses included: the last one ends it.
    let close = text.rfind(')')?;
    let fields: Vec<&str> = text.get(close + 2..)?.split_whitespace().collect();
    let number = |n: usize| fields.get(n - 3).and_then(|f| f.parse::<i64>().ok()).unwrap_or(0);
    Some(Stat {
        comm: text.get(open + 1..close)?.to_owned(),
        state: fields.first()?.chars().next()?,
        ppid: number(4),
        pgrp: number(5),
        session: number(6),
        tty: number(7),
        foreground: number(8),
        ticks: (number(14) + number(15)).max(0) as u64,
        priority: number(18),
        nice: number(19),
        threads: number(20),
        start: number(22).max(0) as u64,
        vsize: number(23).max(0) as u64,
        rss: number(24).max(0) as u64,
    })
}

/// Rows for `pids`, in their order; those that end meanwhile are left out.
pub(crate) fn table(pids: &[i32], arguments: &str) -> Result<Table> {
    let columns = parse(arguments)?;
    let host = Host::read();
    let rows = pids.iter().filter_map(|pid| row(*pid, &columns, &host)).collect();
    Ok(Table { titles: columns.into_iter().map(|(title, _)| title).collect(), rows })
}

/// What rows share: the host's clock, memory and user names.
struct Host {
    now: i64,
    uptime: f64,
    ticks: u64,
    page: u64,
    memory: u64,
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Host {
    fn read() -> Self {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let names = |path: &str| {
            std::fs::read_to_string(path)
                .unwrap_or_default()
                .lines()
                .filter_map(|line| {
                    let mut f = line.split(':');
                    let name = f.next()?;
                    Some((f.nth(1)?.parse().ok()?, name.to_owned()))
                })
                .collect()
        };
        Self {
            now: jiff::Timestamp::now().as_second(),
            uptime: uptime.split_whitespace().next().and_then(|t| t.parse().ok()).unwrap_or(0.0),
            ticks: rustix::param::clock_ticks_per_second().max(1),
            page: rustix::param::page_size() as u64,
            memory: meminfo.split_whitespace().nth(1).and_then(|t| t.parse::<u64>().ok()).unwrap_or(1) * 1024,
            users: names("/etc/passwd"),
            groups: names("/etc/group"),
        }
    }
}

fn row(pid: i32, columns: &[(String, Column)], host: &Host) -> Option<Vec<String>> {
    let dir = format!("/proc/{pid}");
    let read = |name: &str| std::fs::read(Path::new(&dir).join(name)).ok();
    let stat = parse_stat(&String::from_utf8_lossy(&read("stat")?))?;
    let status = String::from_utf8_lossy(&read("status")?).into_owned();
    let id = |field: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(field))
            .and_then(|l| l.split_whitespace().nth(1)?.parse::<u32>().ok())
            .unwrap_or(0)
    };
    let (uid, gid) = (id("Uid:"), id("Gid:"));
    let cmdline = read("cmdline").unwrap_or_default();
    let age = (host.uptime - stat.start as f64 / host.ticks as f64).max(0.0);
    let cpu = stat.ticks / host.ticks;
    let percent = if age > 0.0 { stat.ticks as f64 / host.ticks as f64 / age * 100.0 } else { 0.0 };
    let started = host.now - age as i64;
    let cells = columns.iter().map(|(_, column)| match column {
        Column::User => host.users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        Column::Uid => uid.to_string(),
        Column::Group => host.groups.get(&gid).cloned().unwrap_or_else(|| gid.to_string()),
        Column::Gid => gid.to_string(),
        Column::Pid => pid.to_string(),
        Column::Ppid => stat.ppid.to_string(),
        Column::Pgid => stat.pgrp.to_string(),
        Column::Sid => stat.session.to_string(),
        Column::C => format!("{}", percent.min(99.0) as u64),
        Column::PercentCpu => format!("{percent:.1}"),
        Column::PercentMem => format!("{:.1}", (stat.rss * host.page) as f64 / host.memory.max(1) as f64 * 100.0),
        Column::Vsz => (stat.vsize / 1024).to_string(),
        Column::Rss => (stat.rss * host.page / 1024).to_string(),
        Column::Tty => tty_name(stat.tty),
        Column::State => stat.state.to_string(),
        Column::Stat => {
            let mut text = stat.state.to_string();
            text.push_str(match stat.nice {
                n if n < 0 => "<",
                0 => "",
                _ => "N",
            });
            if stat.session == i64::from(pid) {
                text.push('s');
            }
            if stat.threads > 1 {
                text.push('l');
            }
            if stat.foreground == stat.pgrp {
                text.push('+');
            }
            text
        }
        Column::STime | Column::Start => start_time(started, host.now),
        Column::Time => format!("{:02}:{:02}:{:02}", cpu / 3600, cpu / 60 % 60, cpu % 60),
        Column::Etime => elapsed(age as u64),
        Column::Etimes => (age as u64).to_string(),
        Column::Nice => stat.nice.to_string(),
        Column::Priority => (39 - stat.priority).to_string(),
        Column::Threads => stat.threads.to_string(),
        Column::Comm => stat.comm.clone(),
        Column::Args => {
            if cmdline.is_empty() {
                format!("[{}]", stat.comm)
            } else {
                let words: Vec<_> = cmdline
                    .strip_suffix(b"\0")
                    .unwrap_or(&cmdline)
                    .split(|b| *b == 0)
                    .map(String::from_utf8_lossy)
                    .collect();
                words.join(" ")
            }
        }
    });
    Some(cells.collect())
}

fn tty_name(device: i64) -> String {
    let (major, minor) = (device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xfff00));
    match major {
        0 => "?".into(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".into(),
    }
}

/// `15:04` within a day, else `Jan02`.
fn start_time(started: i64, now: i64) -> String {
    let Ok(time) = jiff::Timestamp::from_second(started) else { return "?".into() };
    let time = time.to_zoned(jiff::tz::TimeZone::system());
    let format = if now - started < 86400 { "%H:%M" } else { "%b%d" };
    time.strftime(format).to_string()
}

fn elapsed(seconds: u64) -> String {
    let (days, hours, minutes, rest) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{rest:02}"),
        (0, _) => format!("{hours:02}:{minutes:02}:{rest:02}"),
        _ => format!("{days}-{hours:02}:{minutes:02}:{rest:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_in_every_form() {
        let pid = std::process::id() as i32;
        let full = table(&[pid, i32::MAX], "").unwrap();
        assert_eq!(full.titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(full.rows.len(), 1);
        assert_eq!(full.rows[0][1], pid.to_string());
        let all = COLUMNS.iter().map(|c| c.0).collect::<Vec<_>>().join(",");
        assert_eq!(table(&[pid], &format!("-o {all}")).unwrap().rows[0].len(), COLUMNS.len());
        assert_eq!(table(&[pid], "-eo pid,args").unwrap().titles, ["PID", "COMMAND"]);
        assert_eq!(table(&[pid], "aux").unwrap().titles.len(), 11);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for bad in ["--forest; rm", "-o nosuch,pid", "-o args", "-Z", "-o"] {
            assert!(table(&[], bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hostile_name_does_not_shift_the_fields() {
        let stat = parse_stat("7 (a) S 1 (b) R 3 4 5 0 -1 0 0 0 0 0 10 5 0 0 20 0 1 0 99 4096 2").unwrap();
        assert_eq!((stat.comm.as_str(), stat.state, stat.ppid), ("a) S 1 (b", 'R', 3));
        assert!(parse_stat("7 )(").is_none());
    }
}
