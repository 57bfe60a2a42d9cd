//! What a runtime can leave on a host: processes, control groups, mounts, state directories. Found by names no other
//! test has, so that tests run side by side.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

/// The environment variable every command of the runtime carries.
pub(crate) const MARK: &str = "OCI_TESTS_MARK";

/// How long what is on its way out may take.
const SETTLE: Duration = Duration::from_secs(10);
/// Groups of tests lie at most so deep.
const MAX_DEPTH: usize = 8;

/// Where to look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traces<'a> {
    /// The mark in the environment of processes, and the name of the parent group.
    pub(crate) name: &'a str,
    /// The state directory.
    pub(crate) root: &'a Path,
}

impl Traces<'_> {
    /// Everything found, when it has stopped becoming less.
    pub(crate) fn settled(&self) -> Vec<String> {
        let end = Instant::now() + SETTLE;
        loop {
            let left = self.find();
            if left.is_empty() || Instant::now() > end {
                return left;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn find(&self) -> Vec<String> {
        let mut found = Vec::new();
        for pid in self.processes() {
            found.push(format!("process {pid} ({})", command_line(pid)));
        }
        // The parent group itself is the runtime's to make and not to remove: others may want it.
        for group in self.groups() {
            for below in directories(&group) {
                found.push(format!("control group {}", below.display()));
            }
        }
        let root = self.root.display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        found.extend(mounts.lines().filter(|line| line.contains(&root)).map(|line| format!("mount {line}")));
        for entry in fs::read_dir(self.root).into_iter().flatten().flatten() {
            found.push(format!("state {}", entry.path().display()));
        }
        found
    }

    /// Processes that carry the mark or are in a group of ours. Zombies are their parents' affair.
    fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.name);
        let carries = |pid: i32| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            let ours = environ.split(|byte| *byte == 0).any(|item| item == mark.as_bytes())
                || groups.lines().any(|line| line.split('/').any(|part| part == self.name));
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            ours && !matches!(state, None | Some('Z' | 'X'))
        };
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let names = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| *pid != own && carries(*pid)).collect()
    }

    /// The parent groups of this runtime, in every hierarchy.
    fn groups(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        search(Path::new("/sys/fs/cgroup"), self.name, MAX_DEPTH, &mut found);
        found
    }

    /// Takes away what is left.
    pub(crate) fn remove(&self) {
        let end = Instant::now() + SETTLE;
        loop {
            let processes = self.processes();
            for pid in &processes {
                if let Some(pid) = Pid::from_raw(*pid) {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            for group in self.groups() {
                remove_group(&group);
            }
            if (processes.is_empty() && self.groups().is_empty()) || Instant::now() > end {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn search(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    for below in directories(dir) {
        if below.file_name().is_some_and(|last| last == name) {
            found.push(below);
        } else if depth > 0 {
            search(&below, name, depth - 1, found);
        }
    }
}

fn directories(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    // A link such as `cpu` to `cpu,cpuacct` leads to what is found anyway.
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Deepest first; one that was frozen is let go on, so that its processes can die.
fn remove_group(group: &Path) {
    let _ = fs::write(group.join("freezer.state"), "THAWED");
    let _ = fs::write(group.join("cgroup.freeze"), "0");
    for below in directories(group) {
        remove_group(&below);
    }
    let _ = fs::remove_dir(group);
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
