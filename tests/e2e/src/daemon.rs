//! A `dhowd` for one test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::environment::Peers;
use crate::{Client, Environment};

/// How the daemon differs from the plain one.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Make a bridge; without it the daemon runs with `--bridge none`.
    pub network: bool,
    /// No docker client and no dockerd are needed, nor used.
    pub alone: bool,
    /// Further flags.
    pub flags: Vec<String>,
    /// Data root in the place of one beside the socket.
    pub data: Option<PathBuf>,
    /// A process in whose network namespace the daemon runs, for tests that change what a host has.
    pub host: Option<u32>,
}

#[derive(Debug)]
pub struct Daemon {
    pub environment: &'static Environment,
    pub dir: tempfile::TempDir,
    pub bridge: String,
    options: Options,
    child: Option<Child>,
}

impl Daemon {
    /// A daemon without network, or None when the environment was not prepared.
    pub fn start() -> Option<Self> {
        Self::start_with(Options::default())
    }

    pub fn with_network() -> Option<Self> {
        Self::start_with(Options { network: true, ..Options::default() })
    }

    pub fn start_with(options: Options) -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let environment = if options.alone { Environment::alone()? } else { Environment::get()? };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // At most 15 bytes: IFNAMSIZ less the terminating zero.
        let bridge = format!("dht{}x{number}", std::process::id() % 1_000_000);
        let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir().expect("a temporary directory");
        let mut daemon = Self { environment, dir, bridge, options, child: None };
        daemon.launch();
        Some(daemon)
    }

    pub fn socket_path(&self) -> PathBuf {
        self.dir.path().join("dhow.sock")
    }

    pub fn host(&self) -> String {
        format!("unix://{}", self.socket_path().display())
    }

    pub fn data_root(&self) -> PathBuf {
        self.options.data.clone().unwrap_or_else(|| self.dir.path().join("data"))
    }

    pub fn exec_root(&self) -> PathBuf {
        self.dir.path().join("exec")
    }

    /// Control groups of this daemon's containers lie below it.
    pub fn cgroup_parent(&self) -> String {
        format!("/dhow-{}", self.bridge)
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the daemon runs").id()
    }

    /// The command line of this daemon, for tests that start a second one.
    pub fn program(&self) -> Command {
        let program = self.environment.programs.join("dhowd");
        let mut command = match self.options.host {
            None => Command::new(program),
            Some(pid) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/proc/{pid}/ns/net")).arg(program);
                command
            }
        };
        command
            .args(["--host", &self.host(), "--debug"])
            .arg("--data-root")
            .arg(self.data_root())
            .arg("--exec-root")
            .arg(self.exec_root())
            .arg("--pidfile")
            .arg(self.dir.path().join("dhowd.pid"))
            .args(["--cgroup-parent", &self.cgroup_parent()])
            .args(["--bridge", if self.options.network { &self.bridge } else { "none" }])
            .args(&self.options.flags)
            // The host's firewalld is not to learn of bridges in namespaces of tests.
            .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.dir.path().join("no-bus").display()))
            .stdin(Stdio::null());
        command
    }

    /// Start (again) and wait until it answers.
    #[track_caller]
    pub fn launch(&mut self) {
        let log =
            File::options().create(true).append(true).open(self.dir.path().join("dhowd.log")).expect("a log file");
        let mut command = self.program();
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(command.spawn().expect("dhowd starts"));
        let begin = Instant::now();
        loop {
            if self.dhow().try_run(&["version"]).code == 0 {
                return;
            }
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            assert!(ended.is_none(), "dhowd ended with {ended:?}:\n{}", self.log());
            assert!(begin.elapsed() < Duration::from_secs(30), "dhowd does not answer:\n{}", self.log());
            sleep(Duration::from_millis(20));
        }
    }

    /// As a crash: SIGKILL, nothing else.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("dhowd can be killed");
            child.wait().expect("dhowd can be waited for");
        }
    }

    /// As an administrator: SIGTERM and wait.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let begin = Instant::now();
            while child.try_wait().ok().flatten().is_none() {
                if begin.elapsed() > Duration::from_secs(20) {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("dhowd did not end within 20 s of SIGTERM:\n{}", self.log());
                }
                sleep(Duration::from_millis(10));
            }
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("dhowd.log")).unwrap_or_default()
    }

    fn client(&self, program: PathBuf) -> Client {
        Client { program, host: self.host(), config: self.dir.path().join("config") }
    }

    /// Our own client on this daemon.
    pub fn dhow(&self) -> Client {
        self.client(self.environment.programs.join("dhow"))
    }

    /// The unmodified docker client on this daemon.
    pub fn docker(&self) -> Client {
        self.client(self.peers().docker.clone())
    }

    /// Both clients: what one can do the other must be able to do.
    pub fn clients(&self) -> [Client; 2] {
        [self.docker(), self.dhow()]
    }

    /// The unmodified docker client on the real dockerd.
    pub fn twin(&self) -> Client {
        Client { host: self.peers().dockerd.clone(), ..self.docker() }
    }

    fn peers(&self) -> &'static Peers {
        self.environment.peers.as_ref().expect("a test with `alone` uses our own programs only")
    }

    /// Import `busybox:latest` as the peers' dockerd has it.
    #[track_caller]
    pub fn busybox(&self) -> &Self {
        self.import("busybox.tar", "CMD [\"sh\"]", "busybox:latest")
    }

    /// Import `debian:bookworm`.
    #[track_caller]
    pub fn debian(&self) -> &Self {
        self.import("debian.tar", "CMD [\"bash\"]", "debian:bookworm")
    }

    #[track_caller]
    fn import(&self, archive: &str, cmd: &str, name: &str) -> &Self {
        let archive = self.environment.fixtures.join(archive);
        let path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let client = if self.options.alone { self.dhow() } else { self.docker() };
        client.run(&["import", "-c", cmd, "-c", path, archive.to_str().expect("a UTF-8 path"), name]);
        self
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the daemon's last words:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        // Containers survive their daemon, so a dead one is brought back to take them down.
        let dead = self.child.as_mut().is_none_or(|child| child.try_wait().ok().flatten().is_some());
        if dead {
            match self.program().stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
                Ok(child) => self.child = Some(child),
                Err(_) => return,
            }
            for _ in 0..200 {
                if self.dhow().try_run(&["version"]).code == 0 {
                    break;
                }
                sleep(Duration::from_millis(20));
            }
        }
        let ids = self.dhow().try_run(&["ps", "-aq"]).stdout;
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(ids.lines());
        if args.len() > 3 {
            let _ = self.dhow().try_run(&args);
        }
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
            let ended = (0..500).any(|_| {
                sleep(Duration::from_millis(20));
                child.try_wait().ok().flatten().is_some()
            });
            if !ended {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        // It outlives its daemon where containers do; nothing of a test may.
        let _ = dataplane::Client::dismiss(&self.exec_root().join("net.sock"), true);
    }
}
