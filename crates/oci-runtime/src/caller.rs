//! Who calls: root of the host, or somebody who must make do with what was delegated.

use std::sync::OnceLock;

/// Whether the caller is somebody other than the host's root: another user, or root of a user namespace alone
/// (user_namespaces(7)), as a rootless podman is.
pub(crate) fn is_rootless() -> bool {
    !rustix::process::geteuid().is_root() || is_mapped()
}

/// Whether the ids of this process are not the host's. Where nothing is known of namespaces of users there are none.
pub(crate) fn is_mapped() -> bool {
    static MAPPED: OnceLock<bool> = OnceLock::new();
    *MAPPED.get_or_init(|| std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_identity(&map)))
}

/// The host's own map has every id but the last, which stands for none.
fn is_identity(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_map_is_told_from_others() {
        for (map, expected) in [
            ("         0          0 4294967295\n", true),
            ("         0       1000          1\n", false),
            ("0 0 4294967294\n", false),
            ("0 0 10\n10 10 4294967285\n", false),
            ("", false),
        ] {
            assert_eq!(is_identity(map), expected, "{map:?}");
        }
    }
}
