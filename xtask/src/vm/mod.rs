//! `cargo xtask vm-test`: Debian kernels under QEMU with pure cgroup v2, and our tests inside them,
//! so that what a developer's own kernel never walks is walked before a release.
//!
//! Nothing is installed but QEMU and a few Debian tools; kernels and the root come from Debian
//! packages and lie in `target/vm`. A machine that hangs is ended, by a limit and with this program.

mod apt;
mod disk;
mod kernel;
mod machine;
mod tests;

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use vm_guest::Guest;

use crate::binaries::{self, Profile};
use crate::{fixtures, shell};

use kernel::Kernel;

/// One boot with everything in it; many times what it takes on two idle processors.
const LIMIT: Duration = Duration::from_secs(1500);
const LONG_LIMIT: Duration = Duration::from_secs(3600);

const USAGE: &str = "\
usage: cargo xtask vm-test [--kernel old|stable|new|all] [--guest plain|systemd] [--verbose] [--long] [FILTER]...

  --kernel   which kernel to boot; old and new by default
  --guest    what runs as process 1; both by default
  --verbose  print a line for every test, not only for those that fail
  --long     run what takes minutes too
  FILTER     only tests whose `package/target name` contains one of the words";

pub struct Options {
    pub kernels: Vec<&'static kernel::Source>,
    pub guests: Vec<Guest>,
    pub words: Vec<String>,
    pub verbose: bool,
    pub long: bool,
}

impl Options {
    /// What runs as a part of `cargo xtask test`.
    pub fn of_test() -> Self {
        let kernels = kernel::SOURCES.iter().filter(|source| source.usual).collect();
        Self { kernels, guests: Guest::ALL.to_vec(), words: Vec::new(), verbose: false, long: false }
    }

    fn parse(args: &[String]) -> Result<Self> {
        let mut options = Self::of_test();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--verbose" => options.verbose = true,
                "--long" => options.long = true,
                "--kernel" => {
                    let name = args.next().map_or("", String::as_str);
                    options.kernels =
                        kernel::SOURCES.iter().filter(|source| name == "all" || source.name == name).collect();
                    if options.kernels.is_empty() {
                        bail!("there is no kernel `{name}`\n\n{USAGE}");
                    }
                }
                "--guest" => {
                    let name = args.next().map_or("", String::as_str);
                    options.guests = Guest::ALL.into_iter().filter(|guest| guest.name() == name).collect();
                    if options.guests.is_empty() {
                        bail!("there is no guest `{name}`\n\n{USAGE}");
                    }
                }
                flag if flag.starts_with('-') => bail!("there is no option `{flag}`\n\n{USAGE}"),
                word => options.words.push(word.to_owned()),
            }
        }
        Ok(options)
    }
}

pub fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    shell::require_root("vm-test")?;
    run_with(&options)
}

/// Boots every wanted kernel with every wanted guest; fails at the end when one of them did.
pub fn run_with(options: &Options) -> Result<()> {
    shell::require_packages(&[
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("mkfs.ext4", "e2fsprogs"),
        ("depmod", "kmod"),
        ("cpio", "cpio"),
        ("xz", "xz-utils"),
        ("dpkg-deb", "dpkg"),
        ("setpriv", "util-linux"),
    ])?;
    let home = shell::target().join("vm");
    fs::create_dir_all(&home)?;
    let fixtures = fixtures::make()?;
    let kernels = options.kernels.iter().map(|source| Kernel::fetch(&home, source)).collect::<Result<Vec<_>>>()?;
    let root = disk::root(&home)?;
    let programs = binaries::build(Profile::Dev)?;
    let guest_program = binaries::build_static(&["vm-guest"], "dev", "debug")?.join("vm-guest");
    let built = tests::Built::build()?;

    let mut faults = Vec::new();
    for guest in &options.guests {
        let (plan, files) = built.plan(*guest, options, &programs, &fixtures)?;
        if plan.suites.is_empty() {
            continue;
        }
        let payload = disk::payload(&home, &plan, &files, &guest_program)?;
        let ram_disks = kernels
            .iter()
            .map(|kernel| disk::initial_ram_disk(&home, kernel, &guest_program))
            .collect::<Result<Vec<_>>>()?;
        // Each machine keeps one processor busy.
        for pair in kernels.iter().zip(&ram_disks).collect::<Vec<_>>().chunks(2) {
            let (home, root, payload) = (&home, &root, &payload);
            let run = |(kernel, ram_disk): &(&Kernel, &PathBuf)| {
                let name = format!("{}-{}", kernel.name, guest.name());
                println!("{name}: Linux {}", kernel.release);
                let begin = Instant::now();
                let boot = machine::Boot {
                    name: &name,
                    kernel: &kernel.image,
                    ram_disk,
                    root,
                    payload,
                    guest: *guest,
                    limit: if options.long { LONG_LIMIT } else { LIMIT },
                };
                let result = machine::run(home, &boot, options.verbose);
                let seconds = begin.elapsed().as_secs_f64();
                match &result {
                    Ok(result) => println!("{name}: {result}, {seconds:.0} s"),
                    Err(error) => println!("{name}: FAILED, {seconds:.0} s: {error:#}"),
                }
                result.is_err().then_some(name)
            };
            let failed = thread::scope(|scope| {
                let running: Vec<_> = pair.iter().map(|machine| scope.spawn(move || run(machine))).collect();
                running
                    .into_iter()
                    .map(|machine| machine.join().unwrap_or_else(|_| Some("a machine".to_owned())))
                    .collect::<Vec<_>>()
            });
            faults.extend(failed.into_iter().flatten());
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!("tests failed in {}; reports and consoles are in {}", faults.join(", "), home.join("log").display())
}
