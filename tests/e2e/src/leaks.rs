//! A census of everything a container engine can leave behind on a host.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::Daemon;

/// Counts by kind; two censuses of a daemon at rest must be equal.
pub type Census = BTreeMap<&'static str, usize>;

/// Count what belongs to this daemon.
pub fn census(daemon: &Daemon) -> Census {
    let exec_root = daemon.exec_root();
    let data_root = daemon.data_root();
    let pid = daemon.pid();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mine =
        |line: &&str| [&exec_root, &data_root].iter().any(|root| line.contains(root.to_str().expect("a UTF-8 path")));
    let links = output("ip", &["-o", "link", "show", "master", &daemon.bridge]);
    let rules = output("nft", &["list", "table", "inet", &format!("dhow-{}", daemon.bridge)]);
    let shims = shims(daemon);
    let data_entries = |name: &str| fs::read_dir(data_root.join(name)).map_or(0, Iterator::count);
    let exec_entries = |name: &str| fs::read_dir(exec_root.join(name)).map_or(0, Iterator::count);
    BTreeMap::from([
        ("mounts", mounts.lines().filter(mine).count()),
        ("bridge ports", links.lines().count()),
        ("lines of nft rules", rules.lines().filter(|line| !line.contains("counter")).count()),
        ("shims", shims),
        ("cgroups", cgroups(&daemon.cgroup_parent())),
        ("daemon's children", children(pid)),
        ("container directories", data_entries("containers")),
        ("run directories", exec_entries("c")),
    ])
}

/// Descriptors of the daemon; pools and caches make it a bound, not an equality.
pub fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).map_or(0, Iterator::count)
}

fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Shims that hold a file of this daemon's open: each has its container's log.
fn shims(daemon: &Daemon) -> usize {
    let data_root = daemon.data_root();
    let holds = |process: &fs::DirEntry| {
        let shim = fs::read_to_string(process.path().join("comm")).is_ok_and(|name| name.starts_with("dhow-shim"));
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        shim && open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path.starts_with(&data_root))
    };
    fs::read_dir("/proc").into_iter().flatten().flatten().filter(holds).count()
}

fn children(pid: u32) -> usize {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .map(|task| fs::read_to_string(task.path().join("children")).map_or(0, |text| text.split_whitespace().count()))
        .sum()
}

/// Groups below the daemon's own in every hierarchy.
fn cgroups(parent: &str) -> usize {
    let mut count = 0;
    for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
        let ours = hierarchy.path().join(parent.trim_start_matches('/'));
        count += fs::read_dir(ours).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()).count();
    }
    count
}
