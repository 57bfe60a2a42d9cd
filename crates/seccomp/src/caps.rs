//! Capability names of profiles. Bit numbers are those of linux/capability.h.

const NAMES: [&str; 41] = [
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

/// Whether `name` (`CAP_SYS_ADMIN`) is a bit of `set`; a name no kernel has is in no set.
pub(crate) fn contains(set: u64, name: &str) -> bool {
    let Some(short) = name.strip_prefix("CAP_") else { return false };
    NAMES.iter().position(|n| *n == short).is_some_and(|bit| set & (1 << bit) != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_follow_the_kernel_header() {
        assert!(contains(1 << 21, "CAP_SYS_ADMIN"));
        assert!(contains(1 << 39, "CAP_BPF"));
        assert!(contains(1 << 40, "CAP_CHECKPOINT_RESTORE"));
        assert!(!contains(u64::MAX, "CAP_MADE_UP"));
        assert!(!contains(u64::MAX, "SYS_ADMIN"));
    }
}
