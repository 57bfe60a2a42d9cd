//! Architectures a filter can cover. The discriminant is the column in the system call table;
//! `audit` values are `AUDIT_ARCH_*` of linux/audit.h, which the kernel puts in `seccomp_data.arch`.

use crate::Error;

/// Bit that marks an x32 call on an x86_64 kernel (`__X32_SYSCALL_BIT`).
pub(crate) const X32_BIT: u32 = 0x4000_0000;

/// An architecture with a system call table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64 = 0,
    /// 32-bit x86 (i386).
    X86 = 1,
    /// The x32 ABI of x86_64: told apart by a bit in the call number.
    X32 = 2,
    /// 64-bit ARM.
    Aarch64 = 3,
    /// 32-bit ARM, EABI.
    Arm = 4,
}

impl Arch {
    /// Every architecture known, in table order.
    pub const ALL: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

    /// The architecture this program was built for; `None` where no filter can be made.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "x86" => Some(Arch::X86),
            "aarch64" => Some(Arch::Aarch64),
            "arm" => Some(Arch::Arm),
            _ => None,
        }
    }

    /// `seccomp_data.arch` of a call of this architecture (linux/audit.h).
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xC000_003E,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xC000_00B7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// Name in `includes.arches` and `excludes.arches` of Docker profiles.
    pub fn docker_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::X32 => "x32",
            Arch::Aarch64 => "arm64",
            Arch::Arm => "arm",
        }
    }

    /// Name in `architectures` and `archMap`.
    pub fn scmp_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
        }
    }

    /// Reads a `SCMP_ARCH_` name; `Ok(None)` for a real architecture that can never run beside ours.
    pub fn from_scmp(name: &str) -> Result<Option<Arch>, Error> {
        const FOREIGN: [&str; 17] = [
            "LOONGARCH64",
            "M68K",
            "MIPS",
            "MIPS64",
            "MIPS64N32",
            "MIPSEL",
            "MIPSEL64",
            "MIPSEL64N32",
            "PARISC",
            "PARISC64",
            "PPC",
            "PPC64",
            "PPC64LE",
            "RISCV64",
            "S390",
            "S390X",
            "SH",
        ];
        if let Some(arch) = Arch::ALL.into_iter().find(|a| a.scmp_name() == name) {
            return Ok(Some(arch));
        }
        match name.strip_prefix("SCMP_ARCH_") {
            Some(rest) if FOREIGN.contains(&rest) => Ok(None),
            _ => Err(Error::UnknownArchitecture(name.chars().take(64).collect())),
        }
    }
}
