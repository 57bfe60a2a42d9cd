//! Docker's default profile: against the naive reading for every number, against what Docker is known to
//! answer, and its size.

use crate::machine::{Call, Program};
use crate::profiles::{DOCKER_CAPS, NATIVE, calls, context};
use crate::reading::expect;
use seccomp::{Arch, Profile, compile};

#[test]
fn agrees_with_its_reading_for_every_number() {
    let profile = Profile::docker_default();
    for arch in NATIVE {
        for caps in [0, DOCKER_CAPS, 1 << 21, u64::MAX] {
            let context = context(arch, caps);
            let program = Program::new(&compile(&profile, &context).unwrap(), arch);
            calls(&profile, &context, |call| {
                let (got, want) = (program.answer(&call), expect(&profile, &context, &call));
                assert_eq!(got, want, "{context:x?} {call:x?}: got {got:#x}, want {want:#x}");
            });
        }
    }
}

#[test]
fn answers_as_docker_does() {
    let profile = Profile::docker_default();
    let ask = |caps: u64, arch: Arch, name: &str, arg: u64| {
        let native = if arch == Arch::S390x { arch } else { Arch::X86_64 };
        let context = context(native, caps);
        let program = Program::new(&compile(&profile, &context).unwrap(), native);
        let nr = seccomp::syscall::number(arch, name).unwrap_or_else(|| panic!("{name}"));
        program.answer(&Call { audit: arch.audit(), nr, args: [arg; 6] })
    };
    const ALLOW: u32 = 0x7fff_0000;
    const EPERM: u32 = 0x5_0001;
    let admin = DOCKER_CAPS | 1 << 21;
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "read", 0), ALLOW);
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "chroot", 0), ALLOW);
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "ptrace", 0), ALLOW);
    assert_eq!(ask(DOCKER_CAPS, Arch::X86, "socketcall", 0), ALLOW);
    for name in ["mount", "unshare", "setns", "bpf", "keyctl", "add_key", "userfaultfd", "io_uring_setup", "kexec_load"]
    {
        assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, name, 0), EPERM, "{name}");
    }
    assert_eq!(ask(admin, Arch::X86_64, "mount", 0), ALLOW);
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "clone3", 0), 0x5_0026);
    assert_eq!(ask(admin, Arch::X86_64, "clone3", 0), ALLOW);
    for arch in [Arch::X86_64, Arch::S390x] {
        assert_eq!(ask(DOCKER_CAPS, arch, "clone", 0x11), ALLOW);
        assert_eq!(ask(DOCKER_CAPS, arch, "clone", 0x1000_0011), EPERM);
        assert_eq!(ask(admin, arch, "clone", 0x1000_0011), ALLOW);
    }
    for family in [1, 2, 10, 16, 17] {
        assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "socket", family), ALLOW, "family {family}");
    }
    // The kernel looks at the low 32 bits of the family: setting higher ones must not open AF_ALG.
    for family in [38, 40, 38 | 1 << 32, 40 | 1 << 40] {
        assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "socket", family), EPERM, "family {family}");
    }
    // Newer than the profile: libc must see "not implemented".
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "file_setattr", 0), 0x5_0026);
}

#[test]
fn stays_small() {
    let profile = Profile::docker_default();
    let size = |profile: &Profile, arch| compile(profile, &context(arch, DOCKER_CAPS)).unwrap().len() / 8;
    let mut alone = profile.clone();
    alone.arch_map.clear();
    let bounds = [
        ("x86_64 alone", size(&alone, Arch::X86_64), 160),
        ("x86_64 with x86 and x32", size(&profile, Arch::X86_64), 360),
        ("aarch64 with arm", size(&profile, Arch::Aarch64), 290),
        ("s390x with s390", size(&profile, Arch::S390x), 290),
        ("riscv64", size(&profile, Arch::Riscv64), 130),
    ];
    for (what, size, bound) in bounds {
        assert!(size <= bound, "{what}: {size} instructions");
    }
}

#[test]
fn a_call_costs_few_instructions() {
    let profile = Profile::docker_default();
    let program = Program::new(&compile(&profile, &context(Arch::X86_64, DOCKER_CAPS)).unwrap(), Arch::X86_64);
    for nr in 0..470 {
        let (_, steps) = program.run(&Call { audit: Arch::X86_64.audit(), nr, args: [u64::MAX; 6] });
        assert!(steps <= 24, "call {nr} takes {steps} instructions");
    }
}
