//! Real engines that drive the OCI runtime under test, each in a sandbox of its own: dockerd,
//! podman as root or as a user, and containerd. Each knows where its containers' control groups and
//! the runtime's state lie, and can tell whether anything was left behind.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::clients::{self, Client, Output};
use crate::sandbox::Sandbox;

const IMAGE_PATH: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// dockerd with the runtime under test as its default one, under the name `dhow`.
#[derive(Debug)]
pub struct Dockerd {
    pub sandbox: Sandbox,
    flags: Vec<String>,
}

impl Dockerd {
    /// Running and holding `busybox`.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Option<Self> {
        let sandbox = Sandbox::start()?;
        sandbox.add_users();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        let dockerd = Self { sandbox, flags };
        dockerd.launch();
        let archive = dockerd.sandbox.environment.fixtures.join("busybox.tar");
        let archive = archive.to_str().expect("a UTF-8 path");
        dockerd.docker().run(&["import", "-c", "CMD [\"sh\"]", "-c", IMAGE_PATH, archive, "busybox:latest"]);
        Some(dockerd)
    }

    /// Start the daemon (again) and wait until it answers.
    #[track_caller]
    pub fn launch(&self) {
        let sandbox = &self.sandbox;
        let (host, data, exec) = (self.host(), sandbox.text("data"), sandbox.text("exec"));
        let (pid, runtime) = (sandbox.text("dockerd.pid"), format!("dhow={}", sandbox.runtime()));
        let mut args = vec!["dockerd", "-H", &host, "--data-root", &data, "--exec-root", &exec, "--pidfile", &pid];
        args.extend(["--cgroup-parent", &sandbox.cgroup_parent, "--add-runtime", &runtime]);
        args.extend(["--default-runtime", "dhow"]);
        args.extend(self.flags.iter().map(String::as_str));
        let _ = fs::remove_file(&pid);
        sandbox.service("dockerd", &args);
        answers("dockerd", || self.docker().try_run(&["version"]).code == 0);
    }

    fn host(&self) -> String {
        format!("unix://{}", self.sandbox.text("docker.sock"))
    }

    /// The unmodified docker client, outside of the sandbox.
    pub fn docker(&self) -> Client {
        let docker = self.sandbox.peers().docker.clone();
        Client { program: docker, host: self.host(), config: self.sandbox.path("config") }
    }

    /// The daemon's process id inside.
    pub fn pid(&self) -> String {
        fs::read_to_string(self.sandbox.path("dockerd.pid")).expect("dockerd wrote its pid").trim().to_owned()
    }

    /// What a run must not add to. A first container has brought up what the daemon keeps.
    #[track_caller]
    pub fn baseline(&self) -> BTreeSet<String> {
        self.docker().run(&["run", "--rm", "busybox", "true"]);
        // Refused where user namespaces are in use.
        self.docker().try_run(&["run", "--rm", "--network", "host", "busybox", "true"]);
        sleep(Duration::from_millis(500));
        self.sandbox.traces(&self.directories())
    }

    /// Take every container away and wait until nothing is left of them.
    #[track_caller]
    pub fn settles(&self, baseline: &BTreeSet<String>) {
        let docker = self.docker();
        let ids = docker.run(&["ps", "-aq"]);
        let mut args = vec!["rm", "-f", "-v"];
        args.extend(ids.lines());
        if args.len() > 3 {
            docker.run(&args);
        }
        self.sandbox.settles(baseline, &self.directories());
    }

    /// The runtime's own state of docker's containers, and containerd's bundles.
    fn directories(&self) -> Vec<PathBuf> {
        let exec = self.sandbox.path("exec");
        let roots = fs::read_dir(&exec).into_iter().flatten().flatten().map(|entry| entry.path());
        let runtimes = roots.filter(|path| path.to_string_lossy().contains("/runtime-")).map(|path| path.join("moby"));
        runtimes.chain([exec.join("containerd/daemon/io.containerd.runtime.v2.task/moby")]).collect()
    }
}

/// podman with the runtime under test; as root unless told otherwise.
#[derive(Debug)]
pub struct Podman {
    pub sandbox: Sandbox,
    rootless: bool,
}

impl Podman {
    #[track_caller]
    pub fn start() -> Option<Self> {
        Self::start_as(false)
    }

    /// As a user without privileges.
    #[track_caller]
    pub fn rootless() -> Option<Self> {
        Self::start_as(true)
    }

    #[track_caller]
    fn start_as(rootless: bool) -> Option<Self> {
        let sandbox = Sandbox::start()?;
        sandbox.add_users();
        let podman = Self { sandbox, rootless };
        let archive = podman.sandbox.path("busybox.tar");
        fs::copy(podman.sandbox.environment.fixtures.join("busybox.tar"), &archive).expect("a copy inside");
        let archive = archive.to_str().expect("a UTF-8 path");
        podman.run(&["import", "-q", "-c", "CMD [\"sh\"]", "-c", IMAGE_PATH, archive, "busybox:latest"]);
        Some(podman)
    }

    /// The program with the flags that keep it to its sandbox.
    pub fn words(&self) -> Vec<String> {
        let mut words = vec!["podman".to_owned()];
        for (flag, value) in [("--root", "podman/root"), ("--runroot", "podman/run"), ("--tmpdir", "podman/tmp")] {
            if !self.rootless {
                words.extend([flag.to_owned(), self.sandbox.text(value)]);
            }
        }
        words.extend(["--cgroup-manager", "cgroupfs", "--events-backend", "file"].map(str::to_owned));
        words.extend(["--runtime".to_owned(), self.sandbox.runtime().to_owned()]);
        words
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let words = self.words();
        let all: Vec<&str> = words.iter().map(String::as_str).chain(args.iter().copied()).collect();
        let mut command = if self.rootless { self.sandbox.command_as_user(&all) } else { self.sandbox.command(&all) };
        // podman 5 asks who still runs cgroups v1 to acknowledge it.
        command.env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").current_dir("/");
        command
    }

    pub fn try_run(&self, args: &[&str]) -> Output {
        clients::finish(self.command(args), args, None)
    }

    pub fn try_run_with(&self, args: &[&str], input: &[u8]) -> Output {
        clients::finish(self.command(args), args, Some(input))
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).expect_code(0).stdout.trim_end_matches('\n').to_owned()
    }

    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.run(args);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?} printed no JSON: {error}\n{text}"))
    }

    /// `run` in the sandbox's control groups, which podman must be told each time.
    pub fn with_parent<'a>(&'a self, verb: &'a str, args: &[&'a str]) -> Vec<&'a str> {
        let mut all = vec![verb];
        if !self.rootless {
            all.extend(["--cgroup-parent", &self.sandbox.cgroup_parent]);
        }
        all.extend(args);
        all
    }

    #[track_caller]
    pub fn baseline(&self) -> BTreeSet<String> {
        let network = if self.rootless { "none" } else { "bridge" };
        self.run(&self.with_parent("run", &["--rm", "--network", network, "busybox", "true"]));
        sleep(Duration::from_millis(300));
        self.sandbox.traces(&self.directories())
    }

    #[track_caller]
    pub fn settles(&self, baseline: &BTreeSet<String>) {
        self.run(&["pod", "rm", "-a", "-f", "-t", "0"]);
        self.run(&["rm", "-a", "-f", "-t", "0"]);
        // podman removes a pod's own group from the hierarchies that it made it in; the runtime, which
        // makes a container's group in all of them, cannot know that the level above was a pod's.
        let pods: Vec<String> = self.sandbox.traces(&[]).into_iter().filter(|trace| pods_own(trace)).collect();
        let baseline = baseline.iter().cloned().chain(pods).collect();
        self.sandbox.settles(&baseline, &self.directories());
    }

    /// Where a runtime keeps its state when nobody says where.
    fn directories(&self) -> Vec<PathBuf> {
        let name = self.sandbox.runtime.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let run = if self.rootless { format!("/run/user/{}", crate::sandbox::USER) } else { "/run".to_owned() };
        vec![self.sandbox.inside(&format!("{run}/{name}"))]
    }
}

/// containerd and its own client `ctr`, on a root file system without an image.
#[derive(Debug)]
pub struct Containerd {
    pub sandbox: Sandbox,
}

impl Containerd {
    #[track_caller]
    pub fn start() -> Option<Self> {
        let sandbox = Sandbox::start()?;
        let config = format!(
            "version = 3\nroot = \"{0}/root\"\nstate = \"{0}/state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.runtime\", \"io.containerd.cri.v1.images\"]\n\
             [grpc]\n  address = \"{0}/containerd.sock\"\n",
            sandbox.dir.path().display()
        );
        fs::write(sandbox.path("config.toml"), config).expect("the configuration is written");
        let rootfs = sandbox.path("rootfs");
        fs::create_dir(&rootfs).expect("a directory");
        let archive = sandbox.environment.fixtures.join("busybox.tar");
        let tar = Command::new("tar").arg("-C").arg(&rootfs).arg("-xf").arg(archive).status();
        assert!(tar.is_ok_and(|status| status.success()), "the root file system is unpacked");
        let containerd = Self { sandbox };
        containerd.sandbox.service("containerd", &["containerd", "-c", &containerd.sandbox.text("config.toml")]);
        answers("containerd", || containerd.try_run(&["version"]).code == 0);
        Some(containerd)
    }

    pub fn words(&self) -> Vec<String> {
        vec!["ctr".to_owned(), "-a".to_owned(), self.sandbox.text("containerd.sock")]
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let words = self.words();
        self.sandbox.command(&words.iter().map(String::as_str).chain(args.iter().copied()).collect::<Vec<_>>())
    }

    pub fn try_run(&self, args: &[&str]) -> Output {
        clients::finish(self.command(args), args, None)
    }

    pub fn try_run_with(&self, args: &[&str], input: &[u8]) -> Output {
        clients::finish(self.command(args), args, Some(input))
    }

    #[track_caller]
    pub fn run(&self, args: &[&str]) -> String {
        self.try_run(args).expect_code(0).stdout.trim_end_matches('\n').to_owned()
    }

    /// `ctr run FLAGS ROOTFS ID ARGS` with the runtime under test.
    pub fn container(&self, flags: &[&str], id: &str, args: &[&str]) -> Vec<String> {
        let mut words: Vec<String> = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary"]
            .iter()
            .map(|&word| word.to_owned())
            .collect();
        words.extend([self.sandbox.runtime().to_owned(), "--runc-root".to_owned(), self.sandbox.text("runtime")]);
        words.extend(["--cgroup".to_owned(), format!("{}/{id}", self.sandbox.cgroup_parent), "--rootfs".to_owned()]);
        words.extend(flags.iter().map(|&flag| flag.to_owned()));
        words.extend([self.sandbox.text("rootfs"), id.to_owned()]);
        words.extend(args.iter().map(|&arg| arg.to_owned()));
        words
    }

    #[track_caller]
    pub fn baseline(&self) -> BTreeSet<String> {
        let words = self.container(&["--rm"], "first", &["/bin/true"]);
        self.run(&words.iter().map(String::as_str).collect::<Vec<_>>());
        sleep(Duration::from_millis(300));
        self.sandbox.traces(&self.directories())
    }

    #[track_caller]
    pub fn settles(&self, baseline: &BTreeSet<String>) {
        self.sandbox.settles(baseline, &self.directories());
    }

    fn directories(&self) -> Vec<PathBuf> {
        vec![self.sandbox.path("runtime/default"), self.sandbox.path("state/io.containerd.runtime.v2.task/default")]
    }
}

/// The group of a pod in a hierarchy without a controller that podman uses.
fn pods_own(trace: &str) -> bool {
    let elsewhere = ["group /sys/fs/cgroup/systemd/", "group /sys/fs/cgroup/unified/"];
    elsewhere.iter().any(|start| trace.starts_with(start)) && !trace.contains("/libpod-") && !trace.ends_with("conmon")
}

#[track_caller]
fn answers(what: &str, mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(30), "{what} does not answer");
        sleep(Duration::from_millis(50));
    }
}
