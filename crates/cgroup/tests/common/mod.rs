//! What tests against the kernel share: a parent group of the test's own with a random name, removed with
//! everything in it whatever happens, and processes that run in its groups. Needs root and v1 controllers (a v1
//! or hybrid host).

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use cgroup::{Cgroup, Hierarchy, Mode};

/// A parent group, its children's directories, and how to get rid of them.
pub struct Nest {
    pub hierarchy: Hierarchy,
    pub parent: String,
}

impl Nest {
    pub fn new() -> Option<Nest> {
        let hierarchy = Hierarchy::detect().unwrap();
        let root = rustix::process::geteuid().is_root();
        if !root || hierarchy.mode() == Mode::V2 || !hierarchy.support().memory {
            let _ = writeln!(std::io::stderr(), "skipped: needs root and writable v1 controllers");
            return None;
        }
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).unwrap();
        Some(Nest { hierarchy, parent: format!("/dhow-test-{:016x}", u64::from_ne_bytes(random)) })
    }

    pub fn group(&self, id: &str) -> Cgroup {
        Cgroup::create(&self.hierarchy, &self.parent, id).unwrap()
    }

    pub fn file(&self, controller: &str, id: &str, name: &str) -> PathBuf {
        PathBuf::from(format!("/sys/fs/cgroup/{controller}{}/{id}/{name}", self.parent))
    }

    pub fn read(&self, controller: &str, id: &str, name: &str) -> String {
        fs::read_to_string(self.file(controller, id, name)).unwrap().trim().to_owned()
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        if let Ok(parent) = Cgroup::open(&self.hierarchy, "/", &self.parent[1..]) {
            let _ = parent.thaw();
            let _ = parent.kill();
            let removed = parent.remove();
            if !std::thread::panicking() {
                removed.unwrap();
            }
        }
    }
}

/// A shell in the group that runs `script` once it is there.
pub struct Inmate(pub Child);

impl Inmate {
    pub fn start(group: &Cgroup, script: &str) -> Inmate {
        let mut child = Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id().to_string();
        for fd in group.tasks_fds().unwrap() {
            fs::File::from(fd).write_all(pid.as_bytes()).unwrap();
        }
        if let Some(dir) = group.dir_fd().unwrap() {
            fs::write(format!("/proc/self/fd/{}/cgroup.procs", dir.as_raw_fd()), &pid).unwrap();
        }
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        Inmate(child)
    }

    pub fn output(mut self) -> String {
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        text
    }
}

impl Drop for Inmate {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
