//! Real engines to compare with and to be driven by: a private root of Debian sid made by
//! mmdebstrap, entered in a mount namespace of its own (a chroot would break `docker exec` and
//! `docker cp`), with a dockerd on a socket inside that root; and podman, containerd and the other
//! OCI runtimes beside it. Nothing is installed on the host but mmdebstrap. Our own runtime lies at
//! `/usr/local/bin/dhow-oci` of that root as it was last built.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{fixtures, shell, three_tier};

/// A program of each package that tests or benchmarks use, and the package.
const PACKAGES: &[(&str, &str)] = &[
    ("usr/sbin/update-ca-certificates", "ca-certificates"),
    ("usr/sbin/iptables", "iptables"),
    ("usr/sbin/nft", "nftables"),
    ("usr/bin/ip", "iproute2"),
    ("usr/bin/ps", "procps"),
    ("usr/sbin/dockerd", "docker.io"),
    ("usr/bin/docker", "docker-cli"),
    ("usr/libexec/docker/cli-plugins/docker-compose", "docker-compose"),
    ("usr/libexec/docker/cli-plugins/docker-buildx", "docker-buildx"),
    ("usr/bin/ctr", "containerd"),
    ("usr/sbin/runc", "runc"),
    ("usr/bin/crun", "crun"),
    ("usr/bin/podman", "podman"),
    ("usr/bin/buildah", "buildah"),
    ("usr/bin/skopeo", "skopeo"),
    ("usr/bin/conmon", "conmon"),
    ("usr/lib/podman/netavark", "netavark"),
    ("usr/lib/podman/aardvark-dns", "aardvark-dns"),
    ("usr/bin/fuse-overlayfs", "fuse-overlayfs"),
    ("usr/bin/newuidmap", "uidmap"),
    ("usr/sbin/criu", "criu"),
    ("usr/bin/strace", "strace"),
];

/// Where it is written that the peers stay up.
const KEPT: &str = "kept";

pub struct Peers {
    /// `unix://…` of the real dockerd.
    pub socket: String,
    /// The unmodified docker client.
    pub docker: PathBuf,
    /// The directory that holds the root and the record of who keeps its mount namespace.
    pub home: PathBuf,
    holder: u32,
}

impl Peers {
    /// A program in the private root, on the host's network and processes.
    pub fn command(&self, args: &[&str]) -> Command {
        inside(self.holder, args)
    }

    /// Puts a build of our runtime where the engines in the root can name it.
    pub fn install(&self, runtime: &Path) -> Result<()> {
        let bin = self.home.join("sid/usr/local/bin");
        let temporary = bin.join(".dhow-oci.new");
        fs::copy(runtime, &temporary).with_context(|| format!("cannot copy {}", runtime.display()))?;
        // A rename, because the old file may be running.
        fs::rename(&temporary, bin.join("dhow-oci")).context("cannot move the runtime into place")
    }
}

fn inside(holder: u32, args: &[&str]) -> Command {
    let holder = holder.to_string();
    let mut words = vec!["-t", &holder, "-m", "--"];
    words.extend(args);
    shell::command("nsenter", words)
}

pub fn run(args: &[String]) -> Result<()> {
    match args.first().map(String::as_str) {
        Some("up") => {
            let peers = kept()?;
            three_tier::make(&peers)?;
            println!("{}", peers.socket);
            Ok(())
        }
        Some("down") => {
            let _ = fs::remove_file(home().join(KEPT));
            end(&home())
        }
        Some("sock") => {
            println!("{}", socket(&home()));
            Ok(())
        }
        Some("in") if args.len() > 1 => {
            let words: Vec<&str> = args[1..].iter().map(String::as_str).collect();
            let status = kept()?.command(&words).stdin(Stdio::inherit()).status()?;
            std::process::exit(status.code().unwrap_or(1));
        }
        _ => bail!("usage: cargo xtask peers up|down|sock|in PROGRAM…"),
    }
}

fn home() -> PathBuf {
    std::env::var_os("DHOW_PEERS").map_or_else(|| std::env::temp_dir().join("dhow-peers"), PathBuf::from)
}

fn socket(home: &Path) -> String {
    format!("unix://{}/sid/run/docker.sock", home.display())
}

/// Up, and not to be taken down by those who use them besides.
fn kept() -> Result<Peers> {
    fs::create_dir_all(home())?;
    File::create(home().join(KEPT))?;
    up()
}

/// Sets up what is missing and returns when dockerd answers and holds the two test images.
pub fn up() -> Result<Peers> {
    let home = home();
    let root = home.join("sid");
    if !root.join("usr/sbin/dockerd").exists() {
        eprintln!("making a private root with dockerd in {}", root.display());
        fs::create_dir_all(&home)?;
        shell::run(
            shell::command(
                "mmdebstrap",
                ["--quiet", "--variant=minbase", "--aptopt=APT::Install-Recommends \"false\""],
            )
            // A mirror of an unstable suite may be older than its index promises to be good for.
            .arg("--aptopt=Acquire::Check-Valid-Until \"false\"")
            .arg(format!("--include={}", missing(&root).join(",")))
            .arg("sid")
            .arg(&root)
            .arg(format!("deb [trusted=yes] {} sid main", mirror()?)),
        )?;
    }
    let docker = shell::on_path("docker").unwrap_or_else(|| root.join("usr/bin/docker"));
    let socket = socket(&home);
    let holder = hold(&home, &root)?;
    let missing = missing(&root);
    if !missing.is_empty() {
        eprintln!("adding {} to the private root", missing.join(" "));
        let mut install = vec!["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
        install.extend(&missing);
        for words in [&["apt-get", "update", "-qq"][..], &install] {
            shell::run(inside(holder, words).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null()))?;
        }
    }
    if !answers(&docker, &socket) {
        let _ = fs::remove_file(root.join("run/docker.pid"));
        let log = File::create(home.join("dockerd.log"))?;
        shell::command(
            "setsid",
            ["nsenter", "-t", &holder.to_string(), "-m", "--", "dockerd", "-H", "unix:///run/docker.sock"],
        )
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
        wait_for("dockerd", || answers(&docker, &socket))?;
    }
    let fixtures = fixtures::make()?;
    for (image, archive, cmd) in [("busybox:latest", "busybox.tar", "sh"), ("debian:bookworm", "debian.tar", "bash")] {
        if !shell::succeeds(shell::command(path(&docker), ["-H", &socket, "image", "inspect", image]).env_clear()) {
            let cmd = format!("CMD [\"{cmd}\"]");
            let mut import =
                shell::command(path(&docker), ["-H", &socket, "import", "-c", &cmd, "-c", fixtures::IMAGE_PATH]);
            shell::run(import.arg(fixtures.join(archive)).arg(image).stdout(Stdio::null()))?;
        }
    }
    Ok(Peers { socket, docker, home, holder })
}

/// Somebody who uses the peers. The last to leave takes them down, unless they are to be kept.
pub struct Guest {
    users: File,
    home: PathBuf,
}

impl Guest {
    /// To be made before [`up`].
    pub fn arrive() -> Result<Self> {
        let home = home();
        fs::create_dir_all(&home)?;
        // The kernel takes back the lock of whoever is killed.
        let users = File::create(home.join("users"))?;
        users.lock_shared()?;
        Ok(Self { users, home })
    }

    fn leave(&self) -> Result<()> {
        self.users.unlock()?;
        // Not the last, or somebody arrived just now.
        if self.users.try_lock().is_err() || self.home.join(KEPT).exists() {
            return Ok(());
        }
        end(&self.home)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            eprintln!("the peers are still up: {error:#}");
        }
    }
}

/// Ends everything that runs in the private root, and unmounts it. What it holds is kept for the next time.
fn end(home: &Path) -> Result<()> {
    // A daemon gets to stop its containers, for which it needs those behind it.
    let is_daemon = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|of| of == "dockerd\n");
    members(home).into_iter().filter(is_daemon).for_each(|pid| kill(pid, Signal::TERM));
    let _ = wait_for("the end of dockerd", || !members(home).iter().any(is_daemon));
    wait_for("the end of what runs in the private root", || {
        let left = members(home);
        left.iter().for_each(|pid| kill(*pid, Signal::KILL));
        left.is_empty()
    })?;
    let _ = fs::remove_file(home.join("holder"));
    let root = home.join("sid");
    // In the pairs that were mounted: the root may lie on a disk of its own.
    while is_mount(&root.join("run")) {
        for mount in [&root.join("run"), &root] {
            shell::run(shell::command("umount", ["--"]).arg(mount))?;
        }
    }
    Ok(())
}

/// Processes that have the private root for their own, in mount namespaces apart from ours.
fn members(home: &Path) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_member(home, *pid)).collect()
}

fn is_member(home: &Path, pid: u32) -> bool {
    let place = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let root = place(Path::new(&format!("/proc/{pid}/root")));
    root.is_some() && root == place(&home.join("sid")) && namespace(&pid.to_string()) != namespace("self")
}

fn is_mount(path: &Path) -> bool {
    shell::succeeds(shell::command("mountpoint", ["-q"]).arg(path))
}

fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Packages of which the root has nothing; a link counts, whatever it points to inside.
fn missing(root: &Path) -> Vec<&'static str> {
    let lacks = |program: &str| root.join(program).symlink_metadata().is_err();
    PACKAGES.iter().filter(|(program, _)| lacks(program)).map(|(_, package)| *package).collect()
}

fn path(program: &Path) -> &str {
    program.to_str().unwrap_or("docker")
}

/// The mirror this machine already uses, from apt's own lists in either format.
pub fn mirror() -> Result<String> {
    let mut lists = vec![PathBuf::from("/etc/apt/sources.list")];
    lists.extend(fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten().flatten().map(|entry| entry.path()));
    let texts = lists.iter().filter_map(|list| fs::read_to_string(list).ok());
    let words: Vec<String> = texts
        .flat_map(|text| {
            let lines = text.lines().filter(|line| line.starts_with("URIs:") || line.starts_with("deb "));
            lines.flat_map(str::split_whitespace).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let debian =
        words.into_iter().find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"));
    debian.context("apt's lists under /etc/apt name no Debian mirror to make the private root from")
}

fn answers(docker: &Path, socket: &str) -> bool {
    shell::succeeds(&mut shell::command(path(docker), ["-H", socket, "version"]))
}

/// The process that keeps the private root's mount namespace, if there is one.
fn holder(home: &Path) -> Option<u32> {
    let pid: u32 = fs::read_to_string(home.join("holder")).ok()?.trim().parse().ok()?;
    // Its number may be another's by now.
    is_member(home, pid).then_some(pid)
}

/// The process whose mount namespace has the private root as its root.
fn hold(home: &Path, root: &Path) -> Result<u32> {
    let record = home.join("holder");
    let alive = || holder(home);
    if let Some(pid) = alive() {
        return Ok(pid);
    }
    let _ = fs::remove_file(&record);
    let run = root.join("run");
    if !is_mount(&run) {
        shell::run(shell::command("mount", ["--bind"]).arg(root).arg(root))?;
        shell::run(shell::command("mount", ["-t", "tmpfs", "tmpfs"]).arg(&run))?;
    }
    fs::create_dir_all(root.join("oldroot"))?;
    let script = format!(
        "exec 3>{record}; cd {root} && mount --make-rprivate / && mount -t proc proc proc && mount --rbind /sys sys && \
         mount --rbind /dev dev && mount --rbind /tmp tmp && pivot_root . oldroot && umount -l /oldroot && \
         echo $$ >&3 && exec sleep infinity 3>&-",
        record = record.display(),
        root = root.display(),
    );
    shell::command("setsid", ["unshare", "-m", "sh", "-c", &script])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    wait_for("the peers' mount namespace", || alive().is_some())?;
    alive().context("the peers' mount namespace went away again")
}

fn wait_for(what: &str, ready: impl Fn() -> bool) -> Result<()> {
    for _ in 0..300 {
        if ready() {
            return Ok(());
        }
        sleep(Duration::from_millis(100));
    }
    bail!("{what}: nothing within 30 s")
}
