//! `/init` of the initial RAM disk: loads the modules the host has chosen, mounts the two disks,
//! makes the first one the root and hands process 1 over. A real root matters: pivot_root(2)
//! refuses to leave the initial RAM file system.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::mount::MountFlags;
use vm_guest::{Guest, PAYLOAD, PROGRAM};

use crate::mounts::mount;

/// Virtual disks of QEMU are there within milliseconds of their driver.
const PATIENCE: Duration = Duration::from_secs(20);

/// The unit that runs the tests. It is the machine's whole purpose: its end, either way, is the end
/// of the machine.
const UNIT: &str = "\
[Unit]
Description=Tests in a virtual machine
After=basic.target dbus.service systemd-logind.service systemd-user-sessions.service user@1000.service
Wants=dbus.service systemd-logind.service systemd-user-sessions.service user@1000.service
SuccessAction=poweroff-immediate
FailureAction=poweroff-immediate

[Service]
Type=oneshot
Delegate=yes
Environment=HOME=/root
ExecStart=/payload/vm-guest run
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS0
TimeoutStartSec=infinity
";

/// Does not return when all is well.
pub fn boot() -> Result<()> {
    mount("proc", "/proc", "proc", MountFlags::empty(), "")?;
    mount("sysfs", "/sys", "sysfs", MountFlags::empty(), "")?;
    mount("devtmpfs", "/dev", "devtmpfs", MountFlags::NOSUID, "mode=0755")?;
    let guest = chosen_guest()?;
    load_modules()?;
    for (disk, target) in [("/dev/vda", "/root"), ("/dev/vdb", "/root/payload")] {
        wait_for(disk)?;
        mount(disk, target, "ext4", MountFlags::empty(), "")?;
    }
    mount("tmpfs", "/root/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, "mode=0755")?;
    if guest == Guest::Systemd {
        let units = Path::new("/root/run/systemd/system");
        let wanted = units.join("multi-user.target.wants");
        fs::create_dir_all(&wanted)?;
        fs::write(units.join("vm-tests.service"), UNIT)?;
        symlink("../vm-tests.service", wanted.join("vm-tests.service"))?;
    }
    for dir in ["proc", "sys", "dev"] {
        rustix::mount::mount_move(format!("/{dir}"), format!("/root/{dir}"))
            .with_context(|| format!("cannot move /{dir} to the root"))?;
    }
    rustix::process::chdir("/root")?;
    rustix::mount::mount_move(".", "/").context("cannot move the root disk to /")?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")?;
    assert_eq!(Path::new(PROGRAM).parent(), Some(Path::new(PAYLOAD)));
    let mut next = match guest {
        Guest::Plain => Command::new(PROGRAM),
        Guest::Systemd => Command::new("/sbin/init"),
    };
    if guest == Guest::Plain {
        next.arg("init");
    }
    let error = next.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").exec();
    Err(anyhow!(error).context(format!("cannot hand over to {next:?}")))
}

fn chosen_guest() -> Result<Guest> {
    let line = fs::read_to_string("/proc/cmdline")?;
    let wanted = line.split_whitespace().find_map(|word| word.strip_prefix("dhow.guest="));
    let guest = Guest::ALL.into_iter().find(|guest| Some(guest.name()) == wanted);
    guest.with_context(|| format!("dhow.guest= is {wanted:?} on the kernel's command line"))
}

/// The host lists the modules with each after those it needs.
fn load_modules() -> Result<()> {
    let list = fs::read_to_string("/modules/order").context("cannot read the list of modules")?;
    for name in list.lines() {
        let module = fs::File::open(Path::new("/modules").join(name)).with_context(|| format!("no module {name}"))?;
        match rustix::system::finit_module(&module, c"", 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            // A driver for hardware that is not there is no reason to stop.
            Err(error) => eprintln!("vm-guest: module {name}: {error}"),
        }
    }
    Ok(())
}

fn wait_for(path: &str) -> Result<()> {
    let begin = Instant::now();
    while !Path::new(path).exists() {
        if begin.elapsed() > PATIENCE {
            bail!("{path} did not appear");
        }
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
