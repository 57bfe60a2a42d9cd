//! A proof for each class of vulnerability that runtimes have had: the attack is made for real, and what it is after
//! must be unharmed. One program, so that it links once; a file a class. Which guard each test guards is written in
//! `docs/adr`.

#![allow(clippy::print_stderr, reason = "tests talk to whoever runs them")]

mod a01_program;
mod a02_descriptors;
mod a03_mount_targets;
mod a04_masks;
mod a05_console;
mod a06_procfs;
mod a09_image;
mod a13_privileges;
mod a14_peers;
mod a22_sysctls;
mod a23_host;
mod a25_groups;
mod a26_kernel;
mod f03_kill;
mod t62_bundles;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use oci_tests::{Canary, MountLine, Output};
use rustix::fs::{FileType, Mode};

/// Errors that refuse a write, as the kernel numbers them: EPERM, EACCES, ETXTBSY, EROFS.
const REFUSALS: [i32; 4] = [1, 13, 26, 30];

/// A file that the container wrote, or nothing.
fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// A start may be refused while its paths are in motion, but then in a sentence.
#[track_caller]
fn started_or_refused(output: &Output) -> bool {
    output.success() || output.clone().refused().code.is_none()
}

/// The mounts in the text of a process's `mountinfo`, whatever else is printed.
fn mount_lines(text: &str) -> Vec<MountLine> {
    text.lines().filter_map(|line| MountLine::parse(line.trim_end())).collect()
}

/// Prints every mount as its process sees it, for [`assert_inside`].
const SHOW_MOUNTS: &str = "echo alive; cat /proc/self/mountinfo";

/// What the container says of its mounts holds nothing of the host's.
#[track_caller]
fn assert_inside(output: &Output, canary: &Canary) {
    if !started_or_refused(output) {
        return;
    }
    assert!(output.stdout.contains("alive"), "{output}");
    let own = canary.dir().file_name().expect("a name").to_string_lossy();
    // A link that is followed within the root leads to a directory of that name there.
    let of_host = |mount: &&MountLine| mount.root.contains(&*own) && !mount.root.contains("/rootfs/");
    let mounts = mount_lines(&output.stdout);
    assert_eq!(mounts.iter().find(of_host), None, "a directory of the host is mounted: {output}");
    assert!(!output.stdout.contains(&canary.secret()), "{output}");
}

/// A `/dev` as an image or a volume may have it: the usual directories and nodes.
fn fill_dev(dev: &Path) {
    for dir in ["pts", "shm", "mqueue"] {
        fs::create_dir_all(dev.join(dir)).expect("a directory");
    }
    for (name, minor) in [("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)] {
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        let number = rustix::fs::makedev(1, minor);
        rustix::fs::mknodat(rustix::fs::CWD, dev.join(name), kind, mode, number).expect("a device node");
    }
    symlink("pts/ptmx", dev.join("ptmx")).expect("a link");
}
