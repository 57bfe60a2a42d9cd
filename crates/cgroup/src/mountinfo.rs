//! `/proc/self/mountinfo` (proc(5)) as far as control groups go. Pure: text in, mounts out.

use std::path::PathBuf;

/// A mounted control group hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    /// What of the hierarchy is mounted: `/` unless a subtree is.
    pub(crate) root: String,
    /// Where.
    pub(crate) point: PathBuf,
    /// `cgroup2`, otherwise `cgroup`.
    pub(crate) v2: bool,
    /// Controllers of a v1 mount, and its `name=` if it has one.
    pub(crate) controllers: Vec<String>,
}

/// Mount options of a v1 hierarchy that are not controllers (cgroups(7)).
const NOT_CONTROLLERS: [&str; 14] = [
    "rw",
    "ro",
    "none",
    "noprefix",
    "clone_children",
    "xattr",
    "cpuset_v2_mode",
    "favordynmods",
    "nofavordynmods",
    "release_agent",
    "nsdelegate",
    "memory_localevents",
    "relatime",
    "all",
];

/// Every control group mount in `text`, in order. A later mount over the same point replaces the earlier.
pub(crate) fn parse(text: &str) -> Vec<CgroupMount> {
    let mut mounts: Vec<CgroupMount> = Vec::new();
    for line in text.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut fields = before.split(' ').skip(3);
        let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
        let mut fields = after.split(' ');
        let (kind, options) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        let point = PathBuf::from(unescape(point));
        mounts.retain(|m| m.point != point);
        let v2 = match kind {
            "cgroup2" => true,
            "cgroup" => false,
            _ => continue,
        };
        let controllers = if v2 {
            Vec::new()
        } else {
            options
                .split(',')
                .filter(|o| {
                    let key = o.split_once('=').map_or(*o, |(k, _)| k);
                    !key.is_empty() && !NOT_CONTROLLERS.contains(&key)
                })
                .map(str::to_owned)
                .collect()
        };
        mounts.push(CgroupMount { root: unescape(root), point, v2, controllers });
    }
    mounts
}

/// Blank, tab, newline and backslash are written as three octal digits.
fn unescape(field: &str) -> String {
    let mut out = Vec::with_capacity(field.len());
    let bytes = field.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'\\'
            && let Some(digits) = bytes.get(at + 1..at + 4)
            && digits.iter().all(|d| (b'0'..=b'7').contains(d))
        {
            let value = digits.iter().fold(0u32, |v, d| v * 8 + u32::from(d - b'0'));
            out.push(u8::try_from(value).unwrap_or(b'?'));
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_mounts() {
        let text = "\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:7 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
broken line
";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 3);
        assert_eq!(mounts[0].controllers, ["cpu", "cpuacct"]);
        assert_eq!(mounts[1].controllers, ["name=systemd"]);
        assert!(mounts[2].v2 && mounts[2].controllers.is_empty());
    }

    #[test]
    fn escapes_subtrees_and_covered_mounts() {
        let text = "\
1 0 0:1 /docker/ab /a\\040b\\134c rw - cgroup2 cgroup2 rw
2 0 0:2 / /sys/fs/cgroup rw - cgroup cgroup rw,pids
3 0 0:3 / /sys/fs/cgroup rw - tmpfs none rw
";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!(mounts[0].root, "/docker/ab");
        assert_eq!(mounts[0].point, PathBuf::from("/a b\\c"));
    }
}
