//! Lines of `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::fs;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MountLine {
    /// What of the file system is shown.
    pub root: String,
    /// Where, from the process's root.
    pub target: String,
    /// Options of the mount.
    pub options: String,
    /// Kind of the file system.
    pub fstype: String,
    /// Where it comes from.
    pub source: String,
}

impl MountLine {
    /// Whether the mount is read-only.
    #[must_use]
    pub fn is_readonly(&self) -> bool {
        self.options.split(',').any(|option| option == "ro")
    }

    /// Reads one line; none when it is something else.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let mut after = after.split(' ');
        Some(Self {
            root: unescape(before.next()?),
            target: unescape(before.next()?),
            options: before.next()?.to_owned(),
            fstype: after.next()?.to_owned(),
            source: unescape(after.next()?),
        })
    }
}

/// The mounts the process sees; none when it is gone.
#[must_use]
pub fn mounts_of(pid: i32) -> Vec<MountLine> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    text.lines().filter_map(MountLine::parse).collect()
}

/// Space, tab, newline and backslash are written as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line = "36 35 98:0 /a\\040b /mnt ro,nosuid master:1 - ext4 /dev/root rw,errors=continue";
        let mount = MountLine::parse(line).expect("a mount");
        assert_eq!((mount.root.as_str(), mount.target.as_str(), mount.fstype.as_str()), ("/a b", "/mnt", "ext4"));
        assert!(mount.is_readonly() && mount.source == "/dev/root");
        assert_eq!(MountLine::parse("nonsense"), None);
    }
}
