//! What a machine starts from: the root disk of Debian packages, made once; the disk with test
//! programs and plan, made anew for each run; the initial RAM disk with the kernel's modules.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use vm_guest::{PAYLOAD, PLAN, PROGRAM, Plan};

use crate::vm::kernel::Kernel;
use crate::{peers, shell};

/// systemd and its user sessions, what a stand-in for it is written in, the tools tests compare with, servers of shares,
/// those that make file systems, and a C compiler for the hostile programs some of them build.
const PACKAGES: &[&str] = &[
    "busybox-static",
    "dbus",
    "dbus-user-session",
    "e2fsprogs",
    "gcc",
    "iproute2",
    "iptables",
    "ksmbd-tools",
    "libc6-dev",
    "libpam-systemd",
    "nfs-kernel-server",
    "nftables",
    "procps",
    "python3-dbus",
    "python3-gi",
    "systemd-sysv",
    "uidmap",
    "xfsprogs",
];

/// Units that only cost time in a machine that lives for two minutes.
const UNITS: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "ksmbd.service",
    "nfs-server.service",
    "rpcbind.service",
    "rpcbind.socket",
    "serial-getty@ttyS0.service",
    "systemd-random-seed.service",
    "tmp.mount",
];

/// An unprivileged user with a systemd of its own from the start.
const USER: &str = "sailor";

/// The root disk. It is never written to: each machine works on a copy that ends with it.
pub fn root(home: &Path) -> Result<PathBuf> {
    shell::require_packages(&[("mmdebstrap", "mmdebstrap")])?;
    // The host's own release, because the test programs are linked against its C library.
    let suite = host_release()?;
    let recipe = format!("{suite} {} {} {USER}", PACKAGES.join(","), UNITS.join(","));
    let (disk, made_by) = (home.join("root.ext4"), home.join("root.recipe"));
    if disk.exists() && fs::read_to_string(&made_by).is_ok_and(|text| text == recipe) {
        return Ok(disk);
    }
    eprintln!("making the root of the virtual machines");
    let tree = home.join("root.tree");
    let _ = fs::remove_dir_all(&tree);
    let mut mmdebstrap = shell::command("mmdebstrap", ["--quiet", "--format=directory", "--variant=minbase"]);
    mmdebstrap
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .arg(format!("--customize-hook=chroot \"$1\" useradd --create-home --shell /bin/sh --uid 1000 {USER}"))
        .arg(format!(
            "--customize-hook=mkdir -p \"$1/var/lib/systemd/linger\" && touch \"$1/var/lib/systemd/linger/{USER}\""
        ))
        .arg(format!("--customize-hook=systemctl --quiet --root \"$1\" mask {}", UNITS.join(" ")))
        .arg("--customize-hook=systemd-machine-id-setup --root \"$1\"")
        .arg("--customize-hook=echo vm > \"$1/etc/hostname\"")
        .arg(&suite)
        .arg(&tree)
        .arg(format!("deb {} {suite} main", peers::mirror()?));
    shell::run(mmdebstrap.stdout(Stdio::null()))?;
    let _ = fs::remove_file(&made_by);
    ext4(&tree, &disk, 4096)?;
    fs::remove_dir_all(&tree)?;
    fs::write(&made_by, recipe)?;
    Ok(disk)
}

fn host_release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    Ok(name.context("/etc/os-release names no Debian release")?.trim_matches('"').to_owned())
}

/// The disk with everything that is ours.
pub fn payload(home: &Path, plan: &Plan, files: &[PathBuf], program: &Path) -> Result<PathBuf> {
    let tree = home.join("payload.tree");
    let _ = fs::remove_dir_all(&tree);
    let inside = |path: &str| tree.join(Path::new(path).strip_prefix(PAYLOAD).unwrap_or(Path::new(path)));
    fs::create_dir_all(&tree)?;
    fs::write(inside(PLAN), serde_json::to_vec_pretty(plan)?)?;
    fs::copy(program, inside(PROGRAM))?;
    for file in files {
        let target = tree.join(file.strip_prefix("/").context("a relative path")?);
        fs::create_dir_all(target.parent().unwrap_or(&tree))?;
        // A link, where it can be one: hundreds of megabytes.
        if fs::hard_link(file, &target).is_err() {
            fs::copy(file, &target).with_context(|| format!("cannot copy {}", file.display()))?;
        }
    }
    for suite in &plan.suites {
        fs::create_dir_all(tree.join(suite.directory.strip_prefix("/").context("a relative path")?))?;
    }
    let disk = home.join("payload.ext4");
    ext4(&tree, &disk, 2048)?;
    fs::remove_dir_all(&tree)?;
    Ok(disk)
}

/// A file system of the given size in MiB, of which only what is used takes room.
fn ext4(tree: &Path, disk: &Path, size: u64) -> Result<()> {
    let half = disk.with_extension("part");
    File::create(&half)?.set_len(size << 20)?;
    let mut mkfs = shell::command("mkfs.ext4", ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,nodiscard"]);
    shell::run(mkfs.arg("-d").arg(tree).arg(&half))?;
    fs::rename(&half, disk).with_context(|| format!("cannot move {} into place", disk.display()))
}

/// The kernel's modules and the program that loads them.
pub fn initial_ram_disk(home: &Path, kernel: &Kernel, program: &Path) -> Result<PathBuf> {
    let tree = home.join("ram.tree");
    let _ = fs::remove_dir_all(&tree);
    for dir in ["modules", "proc", "sys", "dev", "root"] {
        fs::create_dir_all(tree.join(dir))?;
    }
    fs::copy(program, tree.join("init"))?;
    let mut order = String::new();
    for module in kernel.load_order()? {
        let name = module.file_name().context("a module without name")?.to_string_lossy().into_owned();
        let plain = name.trim_end_matches(".xz");
        let target = tree.join("modules").join(plain);
        if plain == name {
            fs::copy(&module, &target)?;
        } else {
            let mut xz = shell::command("xz", ["--decompress", "--stdout"]);
            shell::run(xz.arg(&module).stdout(File::create(&target)?))?;
        }
        order.push_str(plain);
        order.push('\n');
    }
    fs::write(tree.join("modules/order"), order)?;
    let disk = home.join(format!("ram-{}.cpio", kernel.name));
    archive(&tree, &disk)?;
    fs::remove_dir_all(&tree)?;
    Ok(disk)
}

/// The format the kernel unpacks: Documentation/driver-api/early-userspace/buffer-format.rst.
fn archive(tree: &Path, out: &Path) -> Result<()> {
    let mut names = shell::command("find", ["."]);
    let mut names = names.current_dir(tree).stdout(Stdio::piped()).spawn()?;
    let mut cpio = shell::command("cpio", ["--create", "--format=newc", "--quiet", "--owner=0:0"]);
    cpio.current_dir(tree).stdin(names.stdout.take().context("no pipe")?).stdout(File::create(out)?);
    shell::run(&mut cpio)?;
    if !names.wait()?.success() {
        bail!("cannot list {}", tree.display());
    }
    Ok(())
}
