//! Process 1 of the plain guest: a pure cgroup v2 host with every controller handed down and
//! nothing else running. Reaps whatever the tests leave, and switches the machine off at their end.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::mount::MountFlags;
use rustix::process::WaitOptions;
use rustix::system::RebootCommand;
use vm_guest::PROGRAM;

use crate::mounts::mount;

/// Never returns when the machine can be switched off.
pub fn init() -> Result<()> {
    // The kernel panics when process 1 ends, and the host reads that; it says why just before.
    prepare()?;
    let runner = Command::new(PROGRAM).arg("run").spawn().context("cannot start the runner")?;
    let runner = i32::try_from(runner.id())?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == runner => {
                eprintln!("vm-guest: the runner ended with {status:?}");
                break;
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => bail!("cannot wait for the runner: {error}"),
        }
    }
    rustix::fs::sync();
    rustix::system::reboot(RebootCommand::PowerOff).context("cannot switch the machine off")
}

fn prepare() -> Result<()> {
    let safe = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // The options systemd uses.
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", safe, "nsdelegate,memory_recursiveprot")?;
    mount("securityfs", "/sys/kernel/security", "securityfs", safe, "")?;
    mount("bpf", "/sys/fs/bpf", "bpf", safe, "mode=0700")?;
    mount("devpts", "/dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, "gid=5,mode=620,ptmxmode=000")?;
    mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=1777")?;
    mount("mqueue", "/dev/mqueue", "mqueue", safe, "")?;
    // A shared root, as under systemd: what containers must cope with.
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::SHARED | rustix::mount::MountPropagationFlags::REC,
    )?;
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
    for controller in controllers.split_whitespace() {
        fs::write("/sys/fs/cgroup/cgroup.subtree_control", format!("+{controller}"))
            .with_context(|| format!("cannot hand down the controller {controller}"))?;
    }
    rustix::system::sethostname(b"vm")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("cannot run ip")?;
    if !up.success() {
        bail!("the loopback interface cannot be brought up: {up}");
    }
    Ok(())
}
