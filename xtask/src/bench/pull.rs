//! `cargo xtask bench pull`: images from and to a registry on the same machine, beside a real dockerd.
//!
//! The large image is Debian with Node.js, npm, nginx, PostgreSQL and Python: a layer of 37,000 files over a
//! small one. It is built once by the peer and kept, with the registry that has it, below the target directory.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::disk::{Disk, Dockerd};
use super::sample::Sample;
use super::side::{self, Dhowd, Row, Side, row};
use super::{list, update};
use crate::binaries::{self, Profile};
use crate::peers::{self, Peers};
use crate::{fixtures, shell};

const SMALL_FILES: usize = 30_000;
/// Layers of the large image that are made anew once they are not kept.
const LAYERS: usize = 4;
const DOCKERFILE: &str = "FROM debian:bookworm
RUN rm -f /etc/apt/sources.list
COPY debian.sources /etc/apt/sources.list.d/
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm nginx postgresql python3 \
 && rm -rf /var/lib/apt/lists/*
";

/// Debian's registry over a directory, on a port of its own.
pub struct Registry {
    child: Child,
    pub address: String,
}

impl Registry {
    pub fn start(root: &Path) -> Result<Self> {
        fs::create_dir_all(root)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let config = root.join("config.yml");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\nhttp: {{addr: \"{address}\"}}\n",
            root.display()
        );
        fs::write(&config, text)?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().context("cannot start docker-registry")?, address };
        for _ in 0..200 {
            if TcpStream::connect(&registry.address).is_ok() {
                return Ok(registry);
            }
            sleep(Duration::from_millis(25));
        }
        bail!("docker-registry did not answer")
    }

    pub fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    pub fn has(&self, image: &str) -> bool {
        let (repository, tag) = image.split_once(':').unwrap_or((image, "latest"));
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.v2+json";
        let status = Command::new("curl").args(["-fsI", "-H", accept, &url]).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(rounds: usize) -> Result<()> {
    shell::require_root("bench")?;
    shell::require_packages(&[("docker-registry", "docker-registry"), ("curl", "curl")])?;
    let fixtures = fixtures::make()?;
    let programs = binaries::build(Profile::Release)?;
    let _guest = peers::Guest::arrive()?;
    let peers = peers::up()?;
    let docker = Side { client: peers.docker.clone(), socket: peers.socket.clone() };
    let registry = Registry::start(&shell::target().join("bench/registry"))?;
    fill(&registry, &docker, &fixtures, &peers)?;
    update::fill(&registry, &docker, &peers)?;

    let (dockerd, disk) = (Dockerd::start(&peers)?, Disk::make("dhow")?);
    let docker = &dockerd.side;
    let start = |flags: &[&str]| Dhowd::start_on(&disk.mount, &programs, &[&["--bridge", "none"], flags].concat());
    let mut rows = Vec::new();
    for (image, what) in [
        ("big:1", "pull of the large image, gzip"),
        ("big:zstd", "the same, zstd"),
        ("small:1", "pull of 30,000 small files in one layer"),
    ] {
        let name = registry.name(image);
        let (mut peer, mut indexed, mut unpacked) = (Sample::default(), Sample::default(), Sample::default());
        let (mut peer_gone, mut indexed_gone, mut unpacked_gone) =
            (Sample::default(), Sample::default(), Sample::default());
        let mut memory = 0;
        for _ in 0..rounds {
            once(docker, &name, &mut peer, &mut peer_gone)?;
            for (driver, pulled, gone) in
                [("erofs", &mut indexed, &mut indexed_gone), ("overlay2", &mut unpacked, &mut unpacked_gone)]
            {
                let daemon = start(&["--storage-driver", driver])?;
                once(&daemon.side, &name, pulled, gone)?;
                memory = memory.max(peak_kib(daemon.child.id())?);
            }
        }
        rows.push(row(&format!("{what}, indexed layers"), 8.0, &peer, &indexed));
        rows.push(row(&format!("{what}, directories"), 4.0, &peer, &unpacked));
        rows.push(row(&format!("its removal, indexed layers ({what})"), 1.0, &peer_gone, &indexed_gone));
        rows.push(row(&format!("its removal, directories ({what})"), 1.0, &peer_gone, &unpacked_gone));
        rows.push(Row {
            work: format!("peak memory of the daemon ({what})"),
            goal: "≤ 64 MiB".into(),
            peer: String::new(),
            ours: format!("{:.1} MiB", memory as f64 / 1024.0),
            ratio: if memory <= 64 << 10 { "met".into() } else { "not met".into() },
        });
    }
    let name = registry.name("big:1");
    docker.run(&["pull", "-q", &name])?;
    for (after, what) in
        [("1h", "push of the large image to an empty registry"), ("1s", "the same, its gzip made anew")]
    {
        let option = format!("compressed-after={after}");
        let daemon = start(&["--storage-opt", &option])?;
        daemon.side.run(&["pull", "-q", &name])?;
        // Compressing what is to be made anew takes a while.
        let recipes = daemon.data().join("content/recipes");
        for _ in 0..600 {
            if after == "1h" || fs::read_dir(&recipes)?.count() >= LAYERS {
                break;
            }
            sleep(Duration::from_millis(500));
        }
        let (mut peer, mut ours) = (Sample::default(), Sample::default());
        for _ in 0..rounds {
            push(docker, &name, &mut peer)?;
            push(&daemon.side, &name, &mut ours)?;
        }
        rows.push(row(what, if after == "1h" { 3.0 } else { 1.0 }, &peer, &ours));
    }
    docker.run(&["rmi", "-f", &name])?;
    rows.extend(update::run(&registry, docker, &start, rounds)?);
    rows.push(list::run(&start(&[])?, rounds)?);
    side::table("dockerd", &rows);
    Ok(())
}

/// Pull cold and remove. What the disk still has to write of others is not counted.
fn once(side: &Side, name: &str, pulled: &mut Sample, gone: &mut Sample) -> Result<()> {
    let _ = side.run(&["rmi", "-f", name]);
    shell::run(&mut shell::command("sync", [] as [&str; 0]))?;
    pulled.measure(|| side.run(&["pull", "-q", name]))?;
    gone.measure(|| side.run(&["rmi", name]))
}

fn push(side: &Side, name: &str, pushed: &mut Sample) -> Result<()> {
    let root = tempfile::tempdir_in(shell::target())?;
    let empty = Registry::start(root.path())?;
    let target = empty.name("big:1");
    side.run(&["tag", name, &target])?;
    shell::run(&mut shell::command("sync", [] as [&str; 0]))?;
    pushed.measure(|| side.run(&["push", "-q", &target]))?;
    side.run(&["rmi", &target])
}

/// Puts the images into the registry that are not there yet.
fn fill(registry: &Registry, docker: &Side, fixtures: &Path, peers: &Peers) -> Result<()> {
    if !registry.has("big:1") {
        eprintln!("building the large image");
        let debian = fixtures.join("debian.tar");
        let debian = debian.to_str().context("the target directory's name is not UTF-8")?;
        docker.run(&["import", "-c", "CMD [\"bash\"]", "-c", fixtures::IMAGE_PATH, debian, "debian:bookworm"])?;
        let context = tempfile::tempdir()?;
        fs::copy("/etc/apt/sources.list.d/debian.sources", context.path().join("debian.sources"))
            .context("the image is built from the packages this machine is configured for")?;
        fs::write(context.path().join("Dockerfile"), DOCKERFILE)?;
        let name = registry.name("big:1");
        let path = context.path().to_str().context("a temporary directory's name is not UTF-8")?;
        let mut build = docker.command(&["build", "-q", "-t", &name, path]);
        let output = build.env("DOCKER_BUILDKIT", "0").output()?;
        ensure!(output.status.success(), "docker build failed: {}", String::from_utf8_lossy(&output.stderr));
        docker.run(&["push", "-q", &name])?;
        docker.run(&["rmi", "-f", &name])?;
    }
    if !registry.has("big:zstd") {
        let (from, to) = (registry.name("big:1"), registry.name("big:zstd"));
        let (from, to) = (format!("docker://{from}"), format!("docker://{to}"));
        let tls = ["--src-tls-verify=false", "--dest-tls-verify=false"];
        let format = ["--format", "oci", "--dest-compress-format", "zstd", "--dest-force-compress-format"];
        // Older ones cannot compress again what is compressed.
        shell::run(&mut peers.command(&[&["skopeo", "copy"], &tls[..], &format[..], &[&from, &to]].concat()))?;
    }
    if !registry.has("small:1") {
        let dir = tempfile::tempdir()?;
        for at in 0..SMALL_FILES {
            let below: PathBuf = dir.path().join(format!("{}", at / 100));
            fs::create_dir_all(&below)?;
            fs::write(below.join(format!("{at}")), format!("{at}\n").repeat(at % 200))?;
        }
        let archive = tempfile::NamedTempFile::new()?;
        let out = archive.path().to_str().context("a temporary file's name is not UTF-8")?;
        let tree = dir.path().to_str().context("a temporary directory's name is not UTF-8")?;
        shell::run(&mut shell::command("tar", ["-C", tree, "-cf", out, "."]))?;
        let name = registry.name("small:1");
        docker.run(&["import", out, &name])?;
        docker.run(&["push", "-q", &name])?;
        docker.run(&["rmi", "-f", &name])?;
    }
    Ok(())
}

/// Most memory a process has had, in KiB.
fn peak_kib(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse()?)
}
