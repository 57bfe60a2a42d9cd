//! The images of `examples/three-tier` for tests and benchmarks, which depend on no image registry: one root file system
//! made from Debian packages holds all three programs, and the real dockerd builds the example's own Dockerfiles on it.
//! What comes out stays there, and lies in `target/fixtures/three-tier.tar` for our daemon to load.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::peers::Peers;
use crate::{fixtures, shell};

const BASE: &str = "three-tier-base:latest";
const IMAGES: [&str; 3] = ["three-tier-db", "three-tier-app", "three-tier-proxy"];

/// All but the packages' files that no program here reads: half of the size. PostgreSQL compiles no expressions here.
const EXCLUDED: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/lib/x86_64-linux-gnu/libLLVM*"];

/// Makes what is missing or older than the example.
pub fn make(peers: &Peers) -> Result<()> {
    let fixtures = shell::target().join("fixtures");
    let base = fixtures.join("three-tier-base.tar");
    fixtures::once(&base, debian)?;
    let docker = |args: &[&str]| {
        let mut command = shell::command(peers.docker.to_str().unwrap_or("docker"), ["-H", &peers.socket]);
        command.args(args);
        command
    };
    if !shell::succeeds(&mut docker(&["image", "inspect", BASE])) {
        let mut import = docker(&["import", "-c", fixtures::IMAGE_PATH]);
        shell::run(import.arg(&base).arg(BASE).stdout(Stdio::null()))?;
    }
    let mut build = docker(&["compose", "--progress", "quiet", "--file"]);
    build.arg(directory().join("compose.yaml")).arg("build").stdout(Stdio::null());
    for base in ["DB_BASE", "APP_BASE", "PROXY_BASE"] {
        build.env(base, BASE);
    }
    // Builds of dockerd's own builder, as every installation has it.
    build.env("BUILDX_BUILDER", "default").env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1");
    shell::run(with_compose(&mut build, peers)?).context("the images of examples/three-tier could not be built")?;

    let [archive, record] = ["three-tier.tar", "three-tier.ids"].map(|name| fixtures.join(name));
    let ids = shell::output(docker(&["image", "inspect", "--format", "{{.Id}}"]).args(IMAGES))?;
    if archive.exists() && fs::read_to_string(&record).is_ok_and(|known| known == ids) {
        return Ok(());
    }
    eprintln!("making {}", archive.display());
    let half = archive.with_extension("tar.part");
    shell::run(docker(&["save", "--output"]).arg(&half).args(IMAGES))?;
    fs::rename(&half, &archive)?;
    fs::write(&record, ids).context("cannot keep the images' ids")
}

/// Where the example is.
pub fn directory() -> PathBuf {
    shell::root().join("examples/three-tier")
}

/// Gives a docker client its Compose and its builder from the peers' root, and nobody's settings.
pub fn with_compose<'a>(docker: &'a mut Command, peers: &Peers) -> Result<&'a mut Command> {
    let config = shell::target().join("docker-config");
    let links = config.join("cli-plugins");
    fs::create_dir_all(&links)?;
    for plugin in ["docker-compose", "docker-buildx"] {
        let (link, program) = (links.join(plugin), peers.home.join("sid/usr/libexec/docker/cli-plugins").join(plugin));
        if fs::read_link(&link).ok().as_ref() != Some(&program) {
            let _ = fs::remove_file(&link);
            symlink(&program, &link).with_context(|| format!("cannot link {}", link.display()))?;
        }
    }
    Ok(docker.env("DOCKER_CONFIG", config))
}

fn debian(out: &Path) -> Result<()> {
    let mut mmdebstrap = shell::command("mmdebstrap", ["--quiet", "--format=tar", "--variant=essential"]);
    mmdebstrap.args(EXCLUDED.map(|path| format!("--dpkgopt=path-exclude={path}")));
    // The cluster that the package makes is not the example's.
    mmdebstrap.arg("--customize-hook=rm -rf \"$1\"/var/lib/postgresql/* \"$1\"/etc/postgresql/*");
    shell::run(mmdebstrap.arg("--include=postgresql,nodejs,node-pg,nginx-light,curl").arg("bookworm").arg(out))
}
