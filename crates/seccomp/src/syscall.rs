//! Names and numbers of system calls. Called by the policy resolver, and by whoever wants to print a
//! call number from an audit record or a notification.

mod table;

use crate::Arch;
pub(crate) use table::ROWS;
use table::TABLE;

/// Lowest of ARM's private calls (`__ARM_NR_BASE`), far above the ordinary table.
pub(crate) const ARM_PRIVATE: u32 = 0x0f_0000;

/// Calls made through socketcall(2), with its first argument (linux/net.h, `SYS_*`).
pub(crate) const SOCKETCALL: [(&str, u32); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// Calls made through ipc(2), with its first argument (linux/ipc.h).
pub(crate) const IPC: [(&str, u32); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// Slots of [`INDEX`]; a power of two, and so many that few names share one.
const SLOTS: usize = 2048;

/// Open hash index over the table: row plus one, 0 for an empty slot. A profile names hundreds of
/// calls and is compiled for every `run`, so that looking them up must cost next to nothing.
static INDEX: [u16; SLOTS] = index();

const fn index() -> [u16; SLOTS] {
    let mut slots = [0; SLOTS];
    let mut row = 0;
    while row < ROWS {
        let mut slot = hash(TABLE[row].0.as_bytes());
        while slots[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        row += 1;
        slots[slot] = row as u16;
    }
    slots
}

/// FNV-1a, reduced to a slot.
const fn hash(name: &[u8]) -> usize {
    let mut hash = 0x811c_9dc5_u32;
    let mut at = 0;
    while at < name.len() {
        hash = (hash ^ name[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    (hash ^ (hash >> 15)) as usize % SLOTS
}

/// The table's row for `name`.
pub(crate) fn row(name: &str) -> Option<usize> {
    let mut slot = hash(name.as_bytes());
    loop {
        let row = usize::from(INDEX[slot]).checked_sub(1)?;
        if TABLE[row].0 == name {
            return Some(row);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Number of the call in `row` on `arch`.
pub(crate) fn number_at(arch: Arch, row: usize) -> Option<u32> {
    u32::try_from(TABLE[row].1[arch as usize]).ok()
}

/// Number of `name` on `arch` (x32: without the x32 bit), or `None` if the architecture lacks it.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    number_at(arch, row(name)?)
}

/// Name of call `nr` on `arch` (x32: with or without the x32 bit). Linear in the table; not for hot paths.
pub fn name(arch: Arch, nr: u32) -> Option<&'static str> {
    let nr = if arch == Arch::X32 { nr & !crate::arch::X32_BIT } else { nr };
    let nr = i32::try_from(nr).ok()?;
    TABLE.iter().find(|(_, row)| row[arch as usize] == nr).map(|(n, _)| *n)
}

/// Every name known, in bytewise order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|(n, _)| *n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_without_repeats() {
        assert!(TABLE.windows(2).all(|w| w[0].0 < w[1].0));
    }

    #[test]
    fn every_name_is_found_and_no_other() {
        for (at, (name, _)) in TABLE.iter().enumerate() {
            assert_eq!(row(name), Some(at), "{name}");
            assert_eq!(row(&format!("{name}_")), None);
        }
        assert_eq!(row(""), None);
    }

    #[test]
    fn numbers_of_well_known_calls() {
        assert_eq!(number(Arch::X86_64, "clone3"), Some(435));
        assert_eq!(number(Arch::X86_64, "execve"), Some(59));
        assert_eq!(number(Arch::X86, "execve"), Some(11));
        assert_eq!(number(Arch::X32, "execve"), Some(520));
        assert_eq!(number(Arch::Aarch64, "execve"), Some(221));
        assert_eq!(number(Arch::Riscv64, "execve"), Some(221));
        assert_eq!(number(Arch::Loongarch64, "execve"), Some(221));
        assert_eq!(number(Arch::Ppc64le, "swapcontext"), Some(249));
        assert_eq!(number(Arch::S390x, "s390_sthyi"), Some(380));
        assert_eq!(number(Arch::S390, "getuid32"), Some(199));
        assert_eq!(number(Arch::Arm, "set_tls"), Some(0x0f_0005));
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::X86_64, "no_such_call"), None);
        assert_eq!(name(Arch::X32, 0x4000_0000 | 520), Some("execve"));
        assert_eq!(name(Arch::X86_64, 100_000), None);
    }
}
