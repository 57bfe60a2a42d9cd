//! What benchmarks of the engine share: a client on a daemon, our daemon, and a row of the table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::sample::{Sample, ratio};
use crate::shell;

/// One client on one daemon.
#[derive(Clone)]
pub struct Side {
    pub client: PathBuf,
    pub socket: String,
}

impl Side {
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["-H", &self.socket]).args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    pub fn run(&self, args: &[&str]) -> Result<()> {
        let output = self.command(args).output().with_context(|| format!("cannot run {}", self.client.display()))?;
        ensure!(
            output.status.success(),
            "{} {} failed: {}",
            self.client.display(),
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    pub fn output(&self, args: &[&str]) -> Result<String> {
        shell::output(self.command(args).stdout(Stdio::piped())).map(|text| text.trim().to_owned())
    }
}

/// A row of the table that is printed at the end.
pub struct Row {
    pub work: String,
    pub goal: String,
    pub peer: String,
    pub ours: String,
    pub ratio: String,
}

/// The daemon under test; stopped and cleaned up when dropped.
pub struct Dhowd {
    pub child: Child,
    pub side: Side,
    dir: PathBuf,
}

impl Dhowd {
    pub fn start(programs: &Path, flags: &[&str]) -> Result<Self> {
        Self::start_on(&shell::target().join("bench"), programs, flags)
    }

    /// With its files below `place`.
    pub fn start_on(place: &Path, programs: &Path, flags: &[&str]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = place.join(format!("{}-{number}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let socket = format!("unix://{}/dhow.sock", dir.display());
        let log = fs::File::create(dir.join("dhowd.log"))?;
        let child = Command::new(programs.join("dhowd"))
            .args(["--host", &socket])
            .args(flags)
            .arg("--pidfile")
            .arg(dir.join("dhowd.pid"))
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start dhowd")?;
        let daemon = Self { child, side: Side { client: programs.join("dhow"), socket }, dir };
        for _ in 0..200 {
            if daemon.side.run(&["version"]).is_ok() {
                return Ok(daemon);
            }
            sleep(Duration::from_millis(25));
        }
        bail!("dhowd did not answer: {}", fs::read_to_string(daemon.dir.join("dhowd.log")).unwrap_or_default());
    }
}

impl Dhowd {
    /// Its data root.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }
}

impl Drop for Dhowd {
    fn drop(&mut self) {
        if let Ok(ids) = self.side.output(&["ps", "-aq"]) {
            for id in ids.lines() {
                let _ = self.side.run(&["rm", "-f", id]);
            }
        }
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn row(work: &str, goal: f64, peer: &Sample, ours: &Sample) -> Row {
    row_beside("dockerd", work, goal, peer, ours)
}

/// A row that also says on the way what came out.
pub fn row_beside(name: &str, work: &str, goal: f64, peer: &Sample, ours: &Sample) -> Row {
    let ratio = ratio(peer, ours);
    let verdict = if ratio >= goal { "met" } else { "not met" };
    eprintln!("  {work}: {name} {}, dhow {}, {ratio:.1}×", peer.shown(), ours.shown());
    Row {
        work: work.to_owned(),
        goal: format!("{goal}×"),
        peer: peer.shown(),
        ours: ours.shown(),
        ratio: format!("{ratio:.1}× ({verdict})"),
    }
}

/// The table, as SPECIFICATION.md has it.
pub fn table(name: &str, rows: &[Row]) {
    println!(
        "\n| work | goal | {name}, median (middle half) | dhow, median (middle half) | ratio |\n|---|---|---|---|---|"
    );
    for row in rows {
        println!("| {} | {} | {} | {} | {} |", row.work, row.goal, row.peer, row.ours, row.ratio);
    }
}
