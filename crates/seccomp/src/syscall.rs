//! Names and numbers of system calls. Called by the policy resolver, and by whoever wants to print a
//! call number from an audit record or a notification.

mod table;

use crate::Arch;
use table::TABLE;

/// Lowest of ARM's private calls (`__ARM_NR_BASE`), far above the ordinary table.
pub(crate) const ARM_PRIVATE: u32 = 0x0f_0000;

/// Number of `name` on `arch` (x32: without the x32 bit), or `None` if the architecture lacks it.
pub fn number(arch: Arch, name: &str) -> Option<u32> {
    let row = TABLE.binary_search_by(|(n, _)| (*n).cmp(name)).ok()?;
    u32::try_from(TABLE[row].1[arch as usize]).ok()
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
    fn numbers_of_well_known_calls() {
        assert_eq!(number(Arch::X86_64, "clone3"), Some(435));
        assert_eq!(number(Arch::X86_64, "execve"), Some(59));
        assert_eq!(number(Arch::X86, "execve"), Some(11));
        assert_eq!(number(Arch::X32, "execve"), Some(520));
        assert_eq!(number(Arch::Aarch64, "execve"), Some(221));
        assert_eq!(number(Arch::Arm, "set_tls"), Some(0x0f_0005));
        assert_eq!(number(Arch::Aarch64, "open"), None);
        assert_eq!(number(Arch::X86_64, "no_such_call"), None);
        assert_eq!(name(Arch::X32, 0x4000_0000 | 520), Some("execve"));
        assert_eq!(name(Arch::X86_64, 100_000), None);
    }
}
