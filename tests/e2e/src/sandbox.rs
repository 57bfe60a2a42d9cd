//! Namespaces in which a real engine drives the OCI runtime under test: the peers' private root
//! with a mount, network and pid namespace of the test's own, `/run` and `/etc` that take its
//! changes, and one control group parent. The first process lives as long as a pipe from the test,
//! so that everything inside dies with the test however it ends; dropping it removes the groups.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::clients::{self, Output};
use crate::environment::{Environment, Peers};

/// Runs as the first process of the pid namespace. `/` is shared, as an init system makes it.
const SETUP: &str = "\
set -e
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work overlay /etc
if [ \"$1\" = v1 ]; then umount /sys/fs/cgroup/unified; fi
mount --make-rshared /
ip link set lo up
echo ready
exec docker-init -- cat
";

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A user without privileges in `/etc/passwd` of the sandbox, with subordinate ids.
pub const USER: u32 = 4242;

#[derive(Debug)]
pub struct Sandbox {
    pub environment: &'static Environment,
    /// The same path inside and outside, open to every user to pass through.
    pub dir: tempfile::TempDir,
    /// A copy of the runtime under test.
    pub runtime: PathBuf,
    /// The engine's control groups lie below it: `/dhow-e2e-…`.
    pub cgroup_parent: String,
    child: Child,
    init: u32,
    services: Mutex<Vec<Child>>,
}

impl Sandbox {
    /// None when the environment was not prepared; a missing runtime fails the test.
    pub fn start() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let environment = Environment::get()?;
        let peers = environment.peers.as_ref().expect("an environment with peers");
        let holder = fs::read_to_string(peers.home.join("holder")).expect("the peers' private root is up");
        let under_test = std::env::var_os("DHOW_TEST_OCI").map(PathBuf::from);
        let under_test = under_test.unwrap_or_else(|| environment.programs.join("dhow-oci"));

        let dir = tempfile::Builder::new().prefix("dhow-e2e-").tempdir().expect("a temporary directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).expect("its mode can be set");
        let runtime = dir.path().join(under_test.file_name().expect("the runtime's path has a last part"));
        fs::copy(&under_test, &runtime)
            .unwrap_or_else(|error| panic!("no runtime to test at {}: {error}", under_test.display()));

        let mut child = Command::new("nsenter")
            .args(["-t", holder.trim(), "-m", "--", "unshare", "-m", "-n", "-p", "--fork", "sh", "-c", SETUP, "sh"])
            .arg(layout(&under_test))
            .env_clear()
            .env("PATH", PATH)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("nsenter runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("standard output is piped")).read_line(&mut line).expect("a line");
        assert_eq!(line, "ready\n", "the sandbox did not come up");
        let children = format!("/proc/{0}/task/{0}/children", child.id());
        let init = fs::read_to_string(children).expect("the kernel lists children");
        let init = init.trim().parse().expect("unshare has one child");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cgroup_parent = format!("/dhow-e2e-{}-{number}", std::process::id());
        Some(Self { environment, dir, runtime, cgroup_parent, child, init, services: Mutex::default() })
    }

    pub fn peers(&self) -> &'static Peers {
        self.environment.peers.as_ref().expect("a sandbox is made with peers alone")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The same, for command lines.
    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a UTF-8 path").to_owned()
    }

    pub fn runtime(&self) -> &str {
        self.runtime.to_str().expect("a UTF-8 path")
    }

    /// The words that put a program into the sandbox.
    pub fn entry(&self) -> Vec<String> {
        let init = self.init.to_string();
        ["nsenter", "-t", &init, "-m", "-n", "-p", "--"].map(str::to_owned).to_vec()
    }

    /// A program inside, with a bare environment.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_of(&self.entry(), args)
    }

    /// The same as the unprivileged user, in a home of its own.
    pub fn command_as_user(&self, args: &[&str]) -> Command {
        let id = USER.to_string();
        let mut start = self.entry();
        start.extend(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned));
        let mut command = self.command_of(&start, args);
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", format!("/run/user/{USER}"));
        command
    }

    fn command_of(&self, start: &[String], args: &[&str]) -> Command {
        let mut command = Command::new(&start[0]);
        command.args(&start[1..]).args(args).stdin(Stdio::null()).env_clear();
        command.env("PATH", PATH).env("HOME", "/root").env("TERM", "xterm");
        command
    }

    pub fn try_run(&self, args: &[&str]) -> Output {
        clients::finish(self.command(args), args, None)
    }

    /// Run; anything but exit code 0 fails the test.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).expect_code(0).stdout.trim_end_matches('\n').to_owned()
    }

    /// Start a service that writes to `<name>.log`; it ends with the sandbox.
    pub fn service(&self, name: &str, args: &[&str]) {
        let log = File::options().create(true).append(true).open(self.log(name)).expect("a log file");
        let mut command = self.command(args);
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        self.services.lock().expect("no test thread panics with the list").push(child);
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.log"))
    }

    /// Adds the unprivileged user with its home and its run directory, and subordinate ids for it,
    /// for `root`, and for the name under which podman finds ranges of its own.
    pub fn add_users(&self) {
        let ids = [(USER, "alice", 200_000), (0, "root", 300_000), (USER + 1, "containers", 400_000)];
        let append = |file: &str, line: String| {
            let path = self.inside(&format!("/etc/{file}"));
            let mut text = fs::read_to_string(&path).unwrap_or_default();
            text.push_str(&line);
            fs::write(path, text).expect("/etc of the sandbox takes changes");
        };
        for (id, name, first) in ids {
            if id != 0 {
                append("passwd", format!("{name}:x:{id}:{id}::{}:/bin/sh\n", self.text("home")));
                append("group", format!("{name}:x:{id}:\n"));
            }
            for file in ["subuid", "subgid"] {
                append(file, format!("{name}:{first}:65536\n"));
            }
        }
        let (home, run, user) = (self.text("home"), format!("/run/user/{USER}"), USER.to_string());
        let owner = ["-o", &user, "-g", &user, "-m", "700"];
        self.run(&[&["install", "-d"], owner.as_slice(), &[&home, &run]].concat());
    }

    /// An absolute path of the sandbox as this process sees it.
    pub fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// What is there now: processes, mounts, control groups, and entries of the given directories.
    pub fn traces(&self, directories: &[PathBuf]) -> BTreeSet<String> {
        let mut traces = BTreeSet::new();
        for process in entries(&self.inside("/proc")) {
            // A process that ended while the list was made has no name any more.
            if let Ok(name) = fs::read_to_string(process.join("comm")) {
                traces.insert(format!("process {} {}", last(&process), name.trim()));
            }
        }
        let mounts = fs::read_to_string(self.inside("/proc/1/mountinfo")).expect("mounts can be listed");
        traces.extend(mounts.lines().filter_map(|line| Some(format!("mount {}", line.split(' ').nth(4)?))));
        traces.extend(self.groups().iter().map(|group| format!("group {}", group.display())));
        for directory in directories {
            traces.extend(entries(directory).iter().map(|entry| format!("entry {}", entry.display())));
        }
        traces
    }

    /// Wait until there is nothing more than before.
    #[track_caller]
    pub fn settles(&self, before: &BTreeSet<String>, directories: &[PathBuf]) {
        let begin = Instant::now();
        loop {
            let now = self.traces(directories);
            let surplus: Vec<&String> = now.difference(before).collect();
            if surplus.is_empty() {
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(15), "left behind: {surplus:#?}");
            sleep(Duration::from_millis(50));
        }
    }

    /// Every control group below the parent, deepest first, in every hierarchy.
    fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for top in self.parents() {
            below(&top, &mut found);
        }
        found
    }

    fn parents(&self) -> Vec<PathBuf> {
        let name = self.cgroup_parent.trim_start_matches('/');
        let mount = Path::new("/sys/fs/cgroup");
        let mut tops = entries(mount);
        tops.push(mount.to_path_buf());
        tops.iter().map(|top| top.join(name)).filter(|parent| parent.is_dir()).collect()
    }

    /// A control file of the only group whose path ends with the name: the first of the given
    /// `(controller of v1, file)` or, on a pure v2 host, `("", file)`, that is there.
    #[track_caller]
    pub fn control(&self, name: &str, files: &[(&str, &str)]) -> String {
        for (controller, file) in files {
            let top = Path::new("/sys/fs/cgroup").join(controller).join(self.cgroup_parent.trim_start_matches('/'));
            let mut groups = Vec::new();
            below(&top, &mut groups);
            let found = groups.iter().find(|group| last(group).ends_with(name));
            if let Some(text) = found.and_then(|group| fs::read_to_string(group.join(file)).ok()) {
                return text.trim().to_owned();
            }
        }
        panic!("no group {name} with any of {files:?} among {:#?}", self.groups());
    }

    /// Whether this host withholds the privilege to raise hard limits and to lower OOM scores.
    pub fn lacks_sys_resource() -> bool {
        const CAP_SYS_RESOURCE: u32 = 24;
        let status = fs::read_to_string("/proc/self/status").expect("the process has a status");
        let set = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("it names capabilities");
        u64::from_str_radix(set.trim(), 16).expect("a hexadecimal set") >> CAP_SYS_RESOURCE & 1 == 0
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for log in entries(self.dir.path()).iter().filter(|path| path.extension().is_some_and(|end| end == "log")) {
                let text = fs::read_to_string(log).unwrap_or_default();
                let tail: Vec<&str> = text.lines().rev().take(8).collect();
                eprintln!("{} ends with:\n{}", log.display(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
            }
        }
        // A frozen process of v1 does not even die.
        for group in self.groups() {
            let _ = fs::write(group.join("freezer.state"), "THAWED");
        }
        // The end of its input ends the first process, and with it every other of its namespace.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
        for mut service in self.services.get_mut().map(std::mem::take).unwrap_or_default() {
            let _ = service.wait();
        }
        for _ in 0..100 {
            for group in self.groups().into_iter().chain(self.parents()) {
                let _ = fs::remove_dir(group);
            }
            if self.parents().is_empty() {
                break;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// crun refuses hosts where both versions of control groups are in use, so it sees v1 alone.
fn layout(runtime: &Path) -> &'static str {
    let crun = runtime.file_name().is_some_and(|name| name == "crun");
    if crun || std::env::var_os("DHOW_TEST_PURE_V1").is_some() { "v1" } else { "hybrid" }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn last(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn below(top: &Path, found: &mut Vec<PathBuf>) {
    for entry in entries(top).into_iter().filter(|entry| entry.is_dir()) {
        below(&entry, found);
        found.push(entry);
    }
}
