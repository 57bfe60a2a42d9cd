//! Where traffic goes: another host, which is a namespace behind a wire to this one, and two hosts on a bridge without an
//! engine. Links end with their namespaces, those with processes that the kernel kills when this program ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::shell;

/// This host and the other one, of the documentation's networks (RFC 5737).
pub const HOST: &str = "198.51.100.1";
pub const OUTSIDE: &str = "198.51.100.2";
/// The hosts on the plain bridge.
const NEAR: &str = "192.0.2.1";
pub const FAR: &str = "192.0.2.2";
/// This host's end of the wire.
const WIRE: &str = "dhow-bench-out";
/// The program in containers.
pub const INSIDE: &str = "/load";
/// One measurement, with everything around it.
const PATIENCE: &str = "90";

/// The words before those of the program of traffic that put it where it is to run, and its place there.
#[derive(Clone, Default)]
pub struct Start {
    pub words: Vec<String>,
    /// In a container; else it is the lab's.
    pub contained: bool,
}

impl Start {
    pub fn host() -> Self {
        Self::default()
    }
}

/// A process that ends with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A network namespace.
pub struct Namespace(Running);

impl Namespace {
    fn make() -> Result<Self> {
        let mut holder = shell::command("setpriv", ["--pdeathsig", "KILL", "unshare", "--net", "sleep", "infinity"]);
        let namespace = Self(Running(holder.spawn().context("cannot run setpriv")?));
        let here = fs::read_link("/proc/self/ns/net")?;
        let begin = Instant::now();
        while fs::read_link(format!("/proc/{}/ns/net", namespace.pid())).is_ok_and(|there| there == here) {
            ensure!(begin.elapsed() < Duration::from_secs(10), "no network namespace was made");
            std::thread::sleep(Duration::from_millis(5));
        }
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    fn pid(&self) -> String {
        self.0.0.id().to_string()
    }

    pub fn start(&self) -> Start {
        Start { words: ["nsenter", "-t", &self.pid(), "-n", "--"].map(str::to_owned).to_vec(), contained: false }
    }

    fn ip(&self, words: &[&str]) -> Result<()> {
        shell::run(shell::command("nsenter", ["-t", &self.pid(), "-n", "--", "ip"]).args(words))
    }
}

pub struct Lab {
    pub outside: Namespace,
    pub near: Namespace,
    pub far: Namespace,
    _hub: Namespace,
    servers: Mutex<Vec<Running>>,
    program: PathBuf,
    /// In /tmp, which the peers' private root shows too.
    _dir: tempfile::TempDir,
}

impl Lab {
    pub fn make(load: &Path) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("dhow-bench-").tempdir_in("/tmp")?;
        let program = dir.path().join("load");
        fs::copy(load, &program).with_context(|| format!("cannot copy {}", load.display()))?;
        let [outside, near, far, hub] =
            [Namespace::make()?, Namespace::make()?, Namespace::make()?, Namespace::make()?];
        let host = |words: &[&str]| shell::run(&mut shell::command("ip", words));
        host(&["link", "add", WIRE, "type", "veth", "peer", "name", "eth0", "netns", &outside.pid()])?;
        host(&["address", "add", &format!("{HOST}/24"), "dev", WIRE])?;
        host(&["link", "set", WIRE, "up"])?;
        let address = |namespace: &Namespace, address: &str| {
            namespace.ip(&["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
            namespace.ip(&["link", "set", "eth0", "up"])
        };
        address(&outside, OUTSIDE)?;
        outside.ip(&["route", "add", "default", "via", HOST])?;
        hub.ip(&["link", "add", "br0", "type", "bridge"])?;
        hub.ip(&["link", "set", "br0", "up"])?;
        for (name, namespace, own) in [("near", &near, NEAR), ("far", &far, FAR)] {
            hub.ip(&["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", &namespace.pid()])?;
            hub.ip(&["link", "set", name, "master", "br0", "up"])?;
            address(namespace, own)?;
        }
        Ok(Self { outside, near, far, _hub: hub, servers: Mutex::default(), program, _dir: dir })
    }

    /// Where the program is on this host and in the peers' root.
    pub fn program(&self) -> &str {
        self.program.to_str().unwrap_or_default()
    }

    pub fn serve(&self, start: &Start, address: &str) -> Result<()> {
        self.service(start, &["serve", address])
    }

    pub fn name_server(&self, start: &Start, address: &str) -> Result<()> {
        self.service(start, &["name-server", address])
    }

    fn service(&self, start: &Start, words: &[&str]) -> Result<()> {
        let mut command = self.command(&["setpriv", "--pdeathsig", "KILL"], start);
        let child = command.args(words).stdout(Stdio::piped()).spawn().context("cannot run setpriv")?;
        let mut running = Running(child);
        // It says so when it is there.
        let mut line = String::new();
        BufReader::new(running.0.stdout.take().context("no pipe")?).read_line(&mut line)?;
        ensure!(line == "ready\n", "no server for {}", words.join(" "));
        self.servers.lock().unwrap_or_else(PoisonError::into_inner).push(running);
        Ok(())
    }

    /// The figures of one run.
    pub fn measure(&self, start: &Start, words: &[String]) -> Result<Vec<f64>> {
        let text = shell::output(self.command(&["timeout", PATIENCE], start).args(words))?;
        let figures: Option<Vec<f64>> = text.split_whitespace().map(|figure| figure.parse().ok()).collect();
        figures.filter(|figures| !figures.is_empty()).with_context(|| format!("no figures: {text:?}"))
    }

    fn command(&self, before: &[&str], start: &Start) -> Command {
        let program = if start.contained { INSIDE } else { self.program() };
        let words = before.iter().copied().chain(start.words.iter().map(String::as_str)).chain([program]);
        let mut words = words.map(str::to_owned);
        let first = words.next().unwrap_or_default();
        shell::command(&first, words)
    }
}
