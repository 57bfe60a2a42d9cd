//! The control group of a container as the kernel tells it, in whichever hierarchies this host has.

use std::fs;
use std::path::PathBuf;

use e2e::Client;

/// Where a container's files are.
pub struct Group {
    membership: String,
}

/// Does this host have the controllers on v2?
pub fn is_v2() -> bool {
    fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|text| text.contains("memory"))
}

impl Group {
    pub fn of(client: &Client, container: &str) -> Self {
        let pid = client.inspect(container)["State"]["Pid"].as_u64().expect("a pid");
        let membership = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the container runs");
        Self { membership }
    }

    /// The directory in the hierarchy of the v1 controller, or in v2's.
    fn directory(&self, controller: &str) -> PathBuf {
        let path = self.membership.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            let mine = if is_v2() { controllers.is_empty() } else { controllers.split(',').any(|c| c == controller) };
            mine.then(|| path.trim_start_matches('/').to_owned())
        });
        let path = path.unwrap_or_else(|| panic!("no {controller} in {}", self.membership));
        let base =
            if is_v2() { PathBuf::from("/sys/fs/cgroup") } else { PathBuf::from("/sys/fs/cgroup").join(controller) };
        base.join(path)
    }

    /// What a file says: `v1` of the controller there, `v2` of the one group here.
    #[track_caller]
    pub fn read(&self, controller: &str, v1: &str, v2: &str) -> String {
        let path = self.directory(controller).join(if is_v2() { v2 } else { v1 });
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        text.trim().to_owned()
    }

    pub fn exists(&self) -> bool {
        self.directory("memory").exists()
    }
}
