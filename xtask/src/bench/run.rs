//! `cargo xtask bench run`: the container life cycle and the log path beside a real dockerd.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::sample::Sample;
use super::side::{self, Dhowd, Row, Side, row};
use crate::binaries::{self, Profile};
use crate::{fixtures, peers, shell};

const PARALLEL: usize = 50;
/// A supervisor's memory is measured at rest: what it used a moment ago it gives back after a second.
const REST: Duration = Duration::from_secs(3);
const LOG_LINES: usize = 2_000_000;

pub fn run(rounds: usize) -> Result<()> {
    shell::require_root("bench")?;
    let fixtures = fixtures::make()?;
    let programs = binaries::build(Profile::Release)?;
    let _guest = peers::Guest::arrive()?;
    let peers = peers::up()?;
    let daemon = Dhowd::start(&programs, &["--bridge", "dhowbench0"])?;
    let dhow = daemon.side.clone();
    let docker = Side { client: peers.docker.clone(), socket: peers.socket.clone() };
    let docker_on_dhowd = Side { client: peers.docker.clone(), socket: dhow.socket.clone() };
    let idle = resident_mib(daemon.child.id())?;
    let busybox = fixtures.join("busybox.tar");
    let busybox = busybox.to_str().context("the target directory's name is not UTF-8")?;
    dhow.run(&["import", "-c", "CMD [\"sh\"]", "-c", fixtures::IMAGE_PATH, busybox, "busybox:latest"])?;

    let mut rows = Vec::new();
    let pair = |work: &str, goal: f64, args: &[&str], peer: &Side, ours: &Side| -> Result<Row> {
        alternate(work, goal, rounds, || peer.run(args), || ours.run(args))
    };
    let none = ["run", "--rm", "--network", "none", "busybox", "true"];
    let bridge = ["run", "--rm", "busybox", "true"];
    rows.push(pair("`run --rm --network none busybox true`", 10.0, &none, &docker, &dhow)?);
    rows.push(pair("`run --rm busybox true`, default bridge", 10.0, &bridge, &docker, &dhow)?);
    rows.push(pair("docker CLI on both daemons, bridge", 3.0, &bridge, &docker, &docker_on_dhowd)?);

    for side in [&docker, &dhow] {
        let _ = side.run(&["rm", "-f", "bench-exec"]);
        side.run(&["run", "-d", "--name", "bench-exec", "busybox", "sleep", "3600"])?;
    }
    rows.push(pair("`exec true`", 10.0, &["exec", "bench-exec", "true"], &docker, &dhow)?);
    sleep(REST);
    let alone = supervisor_pss(&dhow, "bench-exec")?;
    for side in [&docker, &dhow] {
        side.run(&["rm", "-f", "bench-exec"])?;
    }
    rows.push(Row {
        work: "idle RSS of the daemon".into(),
        goal: "≤ 25 MiB".into(),
        peer: format!("{:.1} MiB (dockerd + containerd)", dockerd_resident()?),
        ours: format!("{idle:.1} MiB"),
        ratio: "".into(),
    });

    let few = (rounds / 4).max(3);
    let (mut peer_up, mut peer_down, mut our_up, mut our_down) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    let (mut peer_pss, mut our_pss) = (0, 0);
    for _ in 0..few {
        peer_pss = burst(&docker, &mut peer_up, &mut peer_down)?;
        our_pss = burst(&dhow, &mut our_up, &mut our_down)?;
    }
    rows.push(Row {
        work: format!("PSS of one shim among {PARALLEL}"),
        goal: "≤ 250 KiB".into(),
        peer: format!("{peer_pss} KiB"),
        ours: format!("{our_pss} KiB ({alone} KiB when it is the only one)"),
        ratio: "".into(),
    });
    rows.push(row(&format!("{PARALLEL} parallel `run -d`, bridge ({few} rounds)"), 8.0, &peer_up, &our_up));
    rows.push(row(&format!("`rm -f` of the {PARALLEL} ({few} rounds)"), 8.0, &peer_down, &our_down));

    // Below the directory for temporary files, which the peers' private root shares with the host.
    let scratch = tempfile::tempdir()?;
    let lines = scratch.path().join("lines");
    fs::write(&lines, format!("{}\n", "x".repeat(99)).repeat(LOG_LINES))?;
    let (mut peer_write, mut peer_read, mut our_write, mut our_read) =
        (Sample::default(), Sample::default(), Sample::default(), Sample::default());
    for _ in 0..few {
        log_lines(&docker, &lines, &mut peer_write, &mut peer_read)?;
        log_lines(&dhow, &lines, &mut our_write, &mut our_read)?;
    }
    rows.push(row(&format!("{LOG_LINES} log lines of 100 bytes written ({few} rounds)"), 4.0, &peer_write, &our_write));
    rows.push(row(&format!("the same read back with `logs` ({few} rounds)"), 10.0, &peer_read, &our_read));

    side::table("dockerd", &rows);
    Ok(())
}

fn alternate(
    work: &str,
    goal: f64,
    rounds: usize,
    peer: impl Fn() -> Result<()>,
    ours: impl Fn() -> Result<()>,
) -> Result<Row> {
    eprintln!("measuring {work}");
    for _ in 0..3 {
        peer()?;
        ours()?;
    }
    let (mut theirs, mut mine) = (Sample::default(), Sample::default());
    for _ in 0..rounds {
        theirs.measure(&peer)?;
        mine.measure(&ours)?;
    }
    Ok(row(work, goal, &theirs, &mine))
}

/// Starts and removes many containers; gives the median PSS of their supervisors while all run.
fn burst(side: &Side, up: &mut Sample, down: &mut Sample) -> Result<u64> {
    eprintln!("measuring {PARALLEL} parallel starts with {}", side.client.display());
    let names: Vec<String> = (0..PARALLEL).map(|at| format!("bench-burst-{at}")).collect();
    let mut remove: Vec<&str> = vec!["rm", "-f"];
    remove.extend(names.iter().map(String::as_str));
    let _ = side.run(&remove);
    up.measure(|| {
        let mut running = Vec::new();
        for name in &names {
            let mut command = side.command(&["run", "-d", "--name", name, "busybox", "sleep", "3600"]);
            running.push(command.stderr(Stdio::null()).spawn()?);
        }
        for mut client in running {
            ensure!(client.wait()?.success(), "one of the parallel starts failed");
        }
        Ok(())
    })?;
    sleep(REST);
    let mut pss = names.iter().map(|name| supervisor_pss(side, name)).collect::<Result<Vec<u64>>>()?;
    pss.sort_unstable();
    down.measure(|| side.run(&remove))?;
    Ok(pss[pss.len() / 2])
}

fn log_lines(side: &Side, lines: &Path, write: &mut Sample, read: &mut Sample) -> Result<()> {
    eprintln!("measuring logs with {}", side.client.display());
    let _ = side.run(&["rm", "-f", "bench-log"]);
    let volume = format!("{}:/lines:ro", lines.display());
    write.measure(|| {
        side.run(&[
            "run",
            "-d",
            "--name",
            "bench-log",
            "-v",
            &volume,
            "--network",
            "none",
            "busybox",
            "cat",
            "/lines",
        ])?;
        side.run(&["wait", "bench-log"])
    })?;
    read.measure(|| side.run(&["logs", "bench-log"]))?;
    let count = side.command(&["logs", "bench-log"]).stdout(Stdio::piped()).output()?.stdout.len();
    ensure!(count == LOG_LINES * 100, "logs gave {count} bytes, not {}", LOG_LINES * 100);
    side.run(&["rm", "-f", "bench-log"])
}

fn resident_mib(pid: u32) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

fn dockerd_resident() -> Result<f64> {
    let mut sum = 0.0;
    for name in ["dockerd", "containerd"] {
        for pid in shell::output(&mut shell::command("pgrep", ["-x", name])).unwrap_or_default().lines() {
            sum += resident_mib(pid.trim().parse()?)?;
        }
    }
    Ok(sum)
}

/// Proportional set size, in KiB, of the process above a container's first one, and of what it keeps beside it.
fn supervisor_pss(side: &Side, name: &str) -> Result<u64> {
    let pid = side.output(&["inspect", "--format", "{{.State.Pid}}", name])?;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)).context("no parent pid")?;
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let beside = children.split_whitespace().filter(|child| *child != pid);
    let mut sum = 0;
    for process in std::iter::once(parent).chain(beside) {
        let rollup = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss")?;
        sum += line.trim().trim_end_matches(" kB").trim().parse::<u64>()?;
    }
    Ok(sum)
}
