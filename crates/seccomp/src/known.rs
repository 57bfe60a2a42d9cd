//! Every word a profile may use, as lists for whoever prints what the runtime supports (`features`). Each is
//! sorted bytewise and complete: what is listed is accepted, what is not is refused.

use crate::Arch;
use crate::arch::FOREIGN;

/// Values of `defaultAction` and `action`.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Values of `op`.
pub const OPERATORS: [&str; 7] =
    ["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// Values of `flags`.
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Values of `architectures`. Those without a system call table here ([`has_table`]) are accepted and need
/// none: no kernel runs them beside an architecture that has one.
pub fn architectures() -> Vec<&'static str> {
    let mut all: Vec<_> = Arch::ALL.into_iter().map(Arch::scmp_name).chain(FOREIGN).collect();
    all.sort_unstable();
    all
}

/// Whether filters are made for the architecture of this name.
pub fn has_table(architecture: &str) -> bool {
    Arch::from_scmp(architecture).is_some()
}

/// Whether `name` is one of [`architectures`].
pub(crate) fn is_architecture(name: &str) -> bool {
    has_table(name) || FOREIGN.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_without_repeats() {
        for list in [&ACTIONS[..], &OPERATORS, &FLAGS, &architectures()] {
            assert!(list.windows(2).all(|w| w[0] < w[1]), "{list:?}");
        }
    }

    #[test]
    fn architectures_of_the_specification_are_known() {
        for name in ["X86", "X86_64", "MIPS64N32", "PPC64LE", "S390", "PARISC64", "RISCV64", "LOONGARCH64"] {
            assert!(is_architecture(&format!("SCMP_ARCH_{name}")), "{name}");
        }
        assert!(!is_architecture("SCMP_ARCH_VAX"));
        assert!(has_table("SCMP_ARCH_S390X") && !has_table("SCMP_ARCH_MIPS"));
    }
}
