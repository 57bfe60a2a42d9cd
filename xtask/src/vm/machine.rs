//! One boot of QEMU: the kernel's console goes to a file, the report comes down the second serial
//! line. However it goes, QEMU has ended when this returns, and ends with this program.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use vm_guest::{Guest, RESULT};

use crate::shell;

pub struct Boot<'a> {
    /// `old-plain`: names the files of the report and the console.
    pub name: &'a str,
    pub kernel: &'a Path,
    pub ram_disk: &'a Path,
    pub root: &'a Path,
    pub payload: &'a Path,
    pub guest: Guest,
    /// After that the machine is ended, whatever it does.
    pub limit: Duration,
}

/// Ends QEMU on every way out.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Boots, follows the report and returns its last line.
///
/// # Errors
/// When a test failed, the machine ended or hung without a result, or its kernel panicked.
pub fn run(home: &Path, boot: &Boot<'_>, verbose: bool) -> Result<String> {
    let logs = home.join("log");
    fs::create_dir_all(&logs)?;
    let console = logs.join(format!("{}.console", boot.name));
    let mut report = File::create(logs.join(format!("{}.report", boot.name)))?;
    let begin = Instant::now();
    let mut qemu = Running(command(boot, &console).spawn().context("cannot start qemu-system-x86_64")?);
    let output = BufReader::new(qemu.0.stdout.take().context("no pipe to QEMU")?);
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });

    let mut result = None;
    loop {
        let left = boot.limit.saturating_sub(begin.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                let line = line.trim_end();
                writeln!(report, "{line}")?;
                if verbose || !["ok   ", "skip "].iter().any(|quiet| line.starts_with(quiet)) {
                    println!("  {}: {line}", boot.name);
                }
                if let Some(text) = line.strip_prefix(RESULT) {
                    result = Some(text.trim().to_owned());
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("still running after {} s: ended\n{}", boot.limit.as_secs(), last_words(&console))
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let Some(result) = result else {
        bail!("the machine ended without a result\n{}", last_words(&console));
    };
    if fs::read_to_string(&console).is_ok_and(|text| text.contains("Kernel panic")) {
        bail!("the kernel panicked\n{}", last_words(&console));
    }
    if !result.contains(", 0 failed,") || result.starts_with("0 passed") {
        bail!("{result}");
    }
    Ok(result)
}

fn command(boot: &Boot<'_>, console: &Path) -> Command {
    let drive = |disk: &Path| format!("if=virtio,format=raw,snapshot=on,cache=unsafe,file={}", disk.display());
    // A panic or an oops ends the machine at once; the rest saves time under emulation.
    let line = format!(
        "console=ttyS0 quiet panic=-1 oops=panic mitigations=off nowatchdog systemd.show_status=0 dhow.guest={}",
        boot.guest.name()
    );
    // The kernel kills QEMU when this program is killed.
    let mut qemu = shell::command("setpriv", ["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    // Both processors of the machine in one thread: with two, a kernel that patches its own code now and then runs half
    // of an instruction under emulation, and panics.
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048"])
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-device", "virtio-rng-pci"])
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .args(["-serial", "stdio"])
        .arg("-kernel")
        .arg(boot.kernel)
        .arg("-initrd")
        .arg(boot.ram_disk)
        .args(["-append", &line, "-drive", &drive(boot.root), "-drive", &drive(boot.payload)]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped());
    qemu
}

fn last_words(console: &Path) -> String {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().rev().take(40).collect();
    format!("last lines of {}:\n{}", console.display(), lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
