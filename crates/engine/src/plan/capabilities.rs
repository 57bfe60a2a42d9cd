//! Capability names and the sets a container gets: Docker's fourteen by default, `--cap-add` and
//! `--cap-drop` applied, everything for `--privileged`. Called by validation and by the plan.

use crate::error::{Result, fail};

/// By number, capabilities(7).
const NAMES: &[&str] = &[
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// All capabilities this engine knows.
pub(crate) const ALL: u64 = (1 << NAMES.len()) - 1;

/// CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE
/// SYS_CHROOT KILL AUDIT_WRITE.
pub(crate) const DEFAULT: u64 = 1 << 0
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 5
    | 1 << 6
    | 1 << 7
    | 1 << 8
    | 1 << 10
    | 1 << 13
    | 1 << 18
    | 1 << 27
    | 1 << 29
    | 1 << 31;

/// The form shown by inspect: upper case with `CAP_`, `ALL` left alone.
pub(crate) fn normalise(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") }
}

fn parse(name: &str, field: &str) -> Result<u64> {
    let full = normalise(name);
    if full == "ALL" {
        return Ok(ALL);
    }
    NAMES
        .iter()
        .position(|known| Some(*known) == full.strip_prefix("CAP_"))
        .map(|n| 1 << n)
        .ok_or_else(|| fail!(Invalid, "invalid {field}: unknown capability: \"{full}\""))
}

/// The set for a container before it is cut down to what the daemon holds.
///
/// # Errors
/// Invalid, in Docker's words, for an unknown name.
pub(crate) fn resolve(add: &[String], drop: &[String], privileged: bool) -> Result<u64> {
    let is_all = |list: &[String]| list.iter().any(|n| normalise(n) == "ALL");
    let mut added = 0;
    for name in add {
        added |= parse(name, "CapAdd")?;
    }
    let mut dropped = 0;
    for name in drop {
        let bit = parse(name, "CapDrop")?;
        // Dropping ALL empties the default set; what is named in CapAdd stays.
        if bit != ALL {
            dropped |= bit;
        }
    }
    if privileged {
        return Ok(ALL);
    }
    let base = if is_all(drop) { 0 } else { DEFAULT };
    if is_all(add) {
        return Ok(ALL & !dropped);
    }
    Ok((base & !dropped) | added)
}

/// The daemon's own bounding and permitted sets: what can be handed on at all.
pub(crate) fn held() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
            .unwrap_or(0)
    };
    field("CapBnd:") & field("CapPrm:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(add: &[&str], drop: &[&str]) -> u64 {
        let own = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        resolve(&own(add), &own(drop), false).unwrap()
    }

    #[test]
    fn sets_follow_docker() {
        assert_eq!(DEFAULT.count_ones(), 14);
        assert_eq!(set(&[], &[]), DEFAULT);
        assert_eq!(set(&["net_admin"], &[]), DEFAULT | 1 << 12);
        assert_eq!(set(&[], &["CAP_MKNOD", "all"]), 0);
        assert_eq!(set(&["SYS_ADMIN"], &["ALL"]), 1 << 21);
        assert_eq!(set(&["ALL"], &["SYS_ADMIN"]), ALL & !(1 << 21));
        assert_eq!(resolve(&[], &["ALL".into()], true).unwrap(), ALL);
        let err = resolve(&["CAP_NOPE".into()], &[], false).unwrap_err();
        assert_eq!(err.to_string(), "invalid CapAdd: unknown capability: \"CAP_NOPE\"");
    }
}
