//! Architectures a filter can cover. The discriminant is the column in the system call table;
//! `audit` values are `AUDIT_ARCH_*` of linux/audit.h, which the kernel puts in `seccomp_data.arch`.

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
    /// 64-bit RISC-V.
    Riscv64 = 5,
    /// 64-bit LoongArch.
    Loongarch64 = 6,
    /// 64-bit POWER, little-endian.
    Ppc64le = 7,
    /// 64-bit z/Architecture, big-endian.
    S390x = 8,
    /// 31-bit s390 on an s390x kernel.
    S390 = 9,
}

/// Architectures that libseccomp knows and no filter is made for. None of them runs beside one of ours.
pub(crate) const FOREIGN: [&str; 13] = [
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

/// Numbers of the two calls through which old ABIs make several others, told apart by the first argument.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Multiplexers {
    /// socketcall(2)
    pub(crate) socketcall: u32,
    /// ipc(2)
    pub(crate) ipc: u32,
}

impl Arch {
    /// Every architecture known, in table order.
    pub const ALL: [Arch; 10] = [
        Arch::X86_64,
        Arch::X86,
        Arch::X32,
        Arch::Aarch64,
        Arch::Arm,
        Arch::Riscv64,
        Arch::Loongarch64,
        Arch::Ppc64le,
        Arch::S390x,
        Arch::S390,
    ];

    /// The architecture this program was built for; `None` where no filter can be made.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "x86" => Some(Arch::X86),
            "aarch64" => Some(Arch::Aarch64),
            "arm" => Some(Arch::Arm),
            "riscv64" => Some(Arch::Riscv64),
            "loongarch64" => Some(Arch::Loongarch64),
            "powerpc64" if cfg!(target_endian = "little") => Some(Arch::Ppc64le),
            "s390x" => Some(Arch::S390x),
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
            Arch::Riscv64 => 0xC000_00F3,
            Arch::Loongarch64 => 0xC000_0102,
            Arch::Ppc64le => 0xC000_0015,
            Arch::S390x => 0x8000_0016,
            Arch::S390 => 0x0000_0016,
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
            Arch::Riscv64 => "riscv64",
            Arch::Loongarch64 => "loongarch64",
            Arch::Ppc64le => "ppc64le",
            Arch::S390x => "s390x",
            Arch::S390 => "s390",
        }
    }

    /// Name in `architectures` and `archMap`.
    pub const fn scmp_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::X32 => "SCMP_ARCH_X32",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
            Arch::Arm => "SCMP_ARCH_ARM",
            Arch::Riscv64 => "SCMP_ARCH_RISCV64",
            Arch::Loongarch64 => "SCMP_ARCH_LOONGARCH64",
            Arch::Ppc64le => "SCMP_ARCH_PPC64LE",
            Arch::S390x => "SCMP_ARCH_S390X",
            Arch::S390 => "SCMP_ARCH_S390",
        }
    }

    /// Whether the kernel gives filters for this architecture words with the high byte first.
    pub fn is_big_endian(self) -> bool {
        matches!(self, Arch::S390x | Arch::S390)
    }

    /// Whether an argument is a 32-bit word. The kernel shows filters 64 bits all the same, and a 64-bit
    /// program that makes a 32-bit call (`int 0x80`) chooses the upper half freely, although the call
    /// ignores it: a filter must ignore it too. x32 has 32-bit words in 64-bit registers.
    pub(crate) fn is_narrow(self) -> bool {
        matches!(self, Arch::X86 | Arch::X32 | Arch::Arm | Arch::S390)
    }

    /// Where sockets and System V IPC are also reached through one call each.
    pub(crate) fn multiplexers(self) -> Option<Multiplexers> {
        match self {
            Arch::X86 | Arch::Ppc64le | Arch::S390x | Arch::S390 => Some(Multiplexers { socketcall: 102, ipc: 117 }),
            _ => None,
        }
    }

    /// Whether a kernel of `native` runs programs of this architecture.
    pub(crate) fn runs_on(self, native: Arch) -> bool {
        let family = |arch| match arch {
            Arch::X86_64 | Arch::X86 | Arch::X32 => 0,
            Arch::Aarch64 | Arch::Arm => 1,
            Arch::Riscv64 => 2,
            Arch::Loongarch64 => 3,
            Arch::Ppc64le => 4,
            Arch::S390x | Arch::S390 => 5,
        };
        family(self) == family(native)
    }

    /// Reads a `SCMP_ARCH_` name of an architecture with a table.
    pub(crate) fn from_scmp(name: &str) -> Option<Arch> {
        Arch::ALL.into_iter().find(|a| a.scmp_name() == name)
    }
}
