//! The program inside the virtual machine, in three parts: `/init` of the initial RAM disk, process
//! 1 of the plain guest, and the runner of the tests. It trusts its disks, which the host has just made.
//! Started by the kernel and, as the runner, by itself or by systemd.

#![allow(clippy::print_stderr, reason = "standard error is the machine's console")]

mod boot;
mod harness;
mod init;
mod mounts;
mod report;
mod run;

use anyhow::{Result, bail};

fn main() {
    if let Err(error) = dispatch() {
        eprintln!("vm-guest: {error:#}");
        std::process::exit(1);
    }
}

fn dispatch() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        // The kernel starts `/init` without arguments of ours.
        None if std::process::id() == 1 => boot::boot(),
        Some("init") if std::process::id() == 1 => init::init(),
        Some("run") => run::run(),
        _ => bail!("this program is for the virtual machines of `cargo xtask vm-test`"),
    }
}
