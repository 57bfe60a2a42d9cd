//! Builds: our client and Docker's on our daemon, beside Docker's on a real dockerd, and buildah where the peers' root runs it.
//!
//! All build the same directories, alternately; steps have no network on any side. What is kept of earlier rounds is what
//! each keeps by itself, so a first build gets a directory of a new name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::disk::{Disk, Dockerd};
use super::sample::{Sample, ratio};
use super::side::{Dhowd, Side};
use crate::peers::{self, Peers};
use crate::{fixtures, shell, three_tier};

/// Name of what is built.
const TAG: &str = "dhow-bench-build";

/// Makes the command that builds a directory with these flags.
type Make<'a> = dyn Fn(&[&str], &Path) -> Result<Command> + 'a;

/// Who builds.
struct Builder<'a> {
    name: &'static str,
    command: Box<Make<'a>>,
    out: bool,
}

/// What is built.
struct Case {
    work: &'static str,
    /// For our client, in milliseconds; where there is one.
    goal: Option<f64>,
    dockerfile: String,
    /// Files of the context, and bytes of each.
    files: (usize, usize),
    flags: &'static [&'static str],
    /// A file of the context is another one in every round.
    change: bool,
    /// The directory has another name in every round.
    first: bool,
    /// Most rounds.
    rounds: usize,
}

fn cases() -> Vec<Case> {
    let steps = |count: usize, letter: char| -> String {
        (0..count).map(|number| format!("RUN echo {number} > /{letter}{number}\n")).collect()
    };
    let four = "FROM busybox\nRUN echo a > /a\nRUN echo b > /b\nCOPY files /files\nRUN echo c > /c\n".to_owned();
    let case = Case {
        work: "",
        goal: None,
        dockerfile: four,
        files: (10, 100),
        flags: &[],
        change: false,
        first: false,
        rounds: usize::MAX,
    };
    let twenty_five = format!("FROM busybox\n{}COPY files /files\n{}", steps(12, 'a'), steps(12, 'b'));
    let stages = "FROM busybox AS one\nRUN sleep 2 && echo > /one\nFROM busybox AS two\nRUN sleep 2 && echo > /two\n\
                  FROM busybox\nCOPY --from=one /one /\nCOPY --from=two /two /\n";
    vec![
        Case { work: "4 steps, nothing changed", goal: Some(15.0), dockerfile: case.dockerfile.clone(), ..case },
        Case {
            work: "25 steps, 5,000 files, nothing changed",
            goal: Some(25.0),
            dockerfile: twenty_five,
            files: (5000, 100),
            ..case
        },
        Case {
            work: "4 steps, one file changed",
            goal: Some(40.0),
            dockerfile: case.dockerfile.clone(),
            change: true,
            ..case
        },
        Case {
            work: "4 steps, nothing known",
            dockerfile: case.dockerfile.clone(),
            flags: &["--no-cache"],
            rounds: 10,
            ..case
        },
        Case {
            work: "100 times `RUN true`, nothing known",
            dockerfile: format!("FROM busybox\n{}", "RUN true\n".repeat(100)),
            flags: &["--no-cache"],
            rounds: 3,
            ..case
        },
        Case {
            work: "500 MB in 20,000 files, first build",
            dockerfile: "FROM busybox\nCOPY files /files\n".to_owned(),
            files: (20_000, 25_000),
            flags: &["--no-cache"],
            first: true,
            rounds: 3,
            ..case
        },
        Case {
            work: "two stages of 2 s that do not need each other",
            dockerfile: stages.to_owned(),
            flags: &["--no-cache"],
            rounds: 3,
            ..case
        },
    ]
}

/// Measures all, or the cases whose names contain `only`, and prints the table.
pub fn run(programs: &Path, peers: &Peers, rounds: usize, only: Option<&str>) -> Result<()> {
    // Disks of the same kind, on which what was removed before does not slow what is made.
    let (dockerd, disk) = (Dockerd::start(peers)?, Disk::make("dhow-build")?);
    let daemon = Dhowd::start_on(&disk.mount, programs, &["--bridge", "none"])?;
    let busybox = fixtures::make()?.join("busybox.tar");
    let busybox = busybox.to_str().context("the target directory's name is not UTF-8")?;
    for side in [&daemon.side, &dockerd.side] {
        side.run(&["import", busybox, "busybox:latest"])?;
    }
    // In /tmp, which the peers' root shares.
    let scratch = tempfile::Builder::new().prefix("dhow-bench-").tempdir_in("/tmp")?;
    let mut builders = builders(&daemon, &dockerd, peers);
    probe(&mut builders, peers, busybox, scratch.path());
    let names: Vec<&str> = builders.iter().filter(|builder| !builder.out).map(|builder| builder.name).collect();
    let mut rows = Vec::new();
    for case in cases().iter().filter(|case| only.is_none_or(|only| case.work.contains(only))) {
        eprintln!("measuring: {}", case.work);
        rows.push(measure(case, &builders, scratch.path(), rounds.clamp(1, case.rounds))?);
    }
    println!("\n| work | goal | rounds | {} | dockerd : dhow |", names.join(" | "));
    println!("|---|---|---|{}---|", "---|".repeat(names.len()));
    rows.iter().for_each(|row| println!("{row}"));
    clean(&builders);
    Ok(())
}

fn builders<'a>(daemon: &'a Dhowd, dockerd: &'a Dockerd<'_>, peers: &'a Peers) -> Vec<Builder<'a>> {
    let build = |side: Side, args: &[&str], dir: &Path| {
        let words = [&["build", "-q", "--network", "none", "-t", TAG], args].concat();
        let mut command = side.command(&words);
        command.arg(dir);
        command
    };
    let ours = daemon.side.clone();
    let docker = |socket: &str| Side { client: peers.docker.clone(), socket: socket.to_owned() };
    let (on_ours, on_theirs) = (docker(&daemon.side.socket), docker(&dockerd.side.socket));
    let with_buildx = move |side: Side, args: &[&str], dir: &Path| {
        let mut command = build(side, args, dir);
        three_tier::with_compose(command.env("BUILDX_BUILDER", "default"), peers)?;
        Ok(command)
    };
    vec![
        Builder { name: "dhow", command: Box::new(move |args, dir| Ok(build(ours.clone(), args, dir))), out: false },
        Builder {
            name: "docker on dhow",
            command: Box::new(move |args, dir| with_buildx(on_ours.clone(), args, dir)),
            out: false,
        },
        Builder {
            name: "docker on dockerd",
            command: Box::new(move |args, dir| with_buildx(on_theirs.clone(), args, dir)),
            out: false,
        },
        Builder {
            name: "buildah",
            command: Box::new(move |args, dir| {
                let dir = dir.to_str().context("a name that is not UTF-8")?;
                let words = [
                    &[
                        "buildah",
                        "build",
                        "--layers",
                        "-q",
                        "--ulimit",
                        "nofile=1024:1024",
                        "--network",
                        "none",
                        "-t",
                        TAG,
                    ],
                    args,
                    &[dir],
                ];
                let mut command = peers.command(&words.concat());
                command.stdout(Stdio::null()).stderr(Stdio::piped());
                Ok(command)
            }),
            out: false,
        },
    ]
}

/// Leaves out whoever cannot build here, and says so.
fn probe(builders: &mut [Builder<'_>], peers: &Peers, busybox: &str, scratch: &Path) {
    let dir = scratch.join("probe");
    // Podman keeps images where buildah finds them; the archive has to be where both see it.
    let archive = scratch.join("busybox.tar");
    let ready = fs::create_dir(&dir)
        .and_then(|()| fs::write(dir.join("Dockerfile"), "FROM busybox\nRUN true\n"))
        .and_then(|()| fs::copy(busybox, &archive));
    if let (Ok(_), Some(archive)) = (ready, archive.to_str()) {
        let import = peers.command(&["podman", "import", "-q", archive, "localhost/busybox:latest"]).output();
        drop(import);
    }
    for builder in builders {
        let built = (builder.command)(&[], &dir).and_then(finish);
        if let Err(error) = built {
            eprintln!("  {} is left out: {error:#}", builder.name);
            builder.out = true;
        }
    }
}

fn finish(mut command: Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn measure(case: &Case, builders: &[Builder<'_>], scratch: &Path, rounds: usize) -> Result<String> {
    let mut dir = scratch.join("context");
    let _ = fs::remove_dir_all(&dir);
    context(case, &dir)?;
    let builders: Vec<&Builder<'_>> = builders.iter().filter(|builder| !builder.out).collect();
    let mut samples: Vec<Sample> = builders.iter().map(|_| Sample::default()).collect();
    // The first time each gets to know the directory.
    if !case.first {
        builders.iter().try_for_each(|builder| finish((builder.command)(case.flags, &dir)?))?;
    }
    for round in 0..rounds {
        for ((number, builder), sample) in builders.iter().enumerate().zip(&mut samples) {
            if case.change {
                fs::write(dir.join("files/00/0"), format!("{round} {number}"))?;
            }
            if case.first {
                let next: PathBuf = scratch.join(format!("context-{round}-{number}"));
                fs::rename(&dir, &next)?;
                dir = next;
            }
            let command = (builder.command)(case.flags, &dir)?;
            sample.measure(|| finish(command))?;
        }
    }
    fs::remove_dir_all(&dir)?;
    let place = |name: &str| builders.iter().position(|builder| builder.name == name);
    let ratio = match (place("docker on dockerd").and_then(|at| samples.get(at)), samples.first()) {
        (Some(theirs), Some(ours)) => format!("{:.1}×", ratio(theirs, ours)),
        _ => String::new(),
    };
    let shown: Vec<String> = samples.iter().map(Sample::shown).collect();
    let goal = case.goal.map_or(String::new(), |goal| {
        let met = samples.first().is_some_and(|ours| ours.median().as_secs_f64() * 1e3 <= goal);
        format!("≤ {goal} ms ({})", if met { "met" } else { "not met" })
    });
    let row = format!("| {} | {goal} | {rounds} | {} | {ratio} |", case.work, shown.join(" | "));
    eprintln!("  {row}");
    Ok(row)
}

fn context(case: &Case, dir: &Path) -> Result<()> {
    fs::create_dir(dir)?;
    fs::write(dir.join("Dockerfile"), &case.dockerfile)?;
    let (count, size) = case.files;
    let mut state = 1_u64;
    for number in 0..count {
        let place = dir.join(format!("files/{:02}", number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&place)?;
        }
        // No two are the same, and none is compressed to nothing.
        let content: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33).to_le_bytes()
        })
        .flatten()
        .take(size)
        .collect();
        fs::write(place.join((number % 100).to_string()), content)?;
    }
    Ok(())
}

fn clean(builders: &[Builder<'_>]) {
    // Those who build with Docker's or our client remove with it; the image may be gone with the daemon already.
    for builder in builders.iter().filter(|builder| !builder.out) {
        let Ok(build) = (builder.command)(&[], Path::new(".")) else { continue };
        let words: Vec<&std::ffi::OsStr> = build.get_args().collect();
        let Some(at) = words.iter().position(|word| *word == "build") else { continue };
        let mut remove = Command::new(build.get_program());
        remove.args(words.into_iter().take(at)).args(["rmi", TAG]).stdout(Stdio::null()).stderr(Stdio::null());
        let _ = remove.status();
    }
}

/// With release binaries unless others are given.
pub fn begin(rounds: usize, programs: &Path, only: Option<&str>) -> Result<()> {
    shell::require_root("bench")?;
    let _guest = peers::Guest::arrive()?;
    let peers = peers::up()?;
    run(programs, &peers, rounds, only)
}
