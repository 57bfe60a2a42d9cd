//! The compiled program against the naive reading of the profile: every call number of every
//! architecture for Docker's default, and random profiles.

use crate::support::{Call, covered, expect, interpret};
use proptest::prelude::*;
use seccomp::{Action, Arch, ArchMapEntry, Arg, Context, KernelVersion, Op, Profile, Rule, compile};

/// Docker's fourteen default capabilities.
const DOCKER_CAPS: u64 = 0xa80425fb;

fn context(arch: Arch, caps: u64) -> Context {
    Context { caps, arch, kernel: KernelVersion { major: 6, minor: 18 } }
}

fn audits() -> [u32; 6] {
    [Arch::X86_64.audit(), Arch::X86.audit(), Arch::Aarch64.audit(), Arch::Arm.audit(), 0, 0xC000_0016]
}

fn numbers() -> impl Iterator<Item = u32> {
    let low = 0..1200u32;
    let arm = 0xf0000 - 2..0xf0000 + 10;
    let x32 = 0x4000_0000 - 2..0x4000_0000 + 1200;
    low.chain(arm)
        .chain(x32)
        .chain(0x8000_0000 - 2..0x8000_0000 + 600)
        .chain(0xc000_0000 - 2..0xc000_0000 + 600)
        .chain(u32::MAX - 3..=u32::MAX)
}

fn compare(profile: &Profile, context: &Context, program: &[u8], call: Call) {
    let (got, _) = interpret(program, &call);
    let want = expect(profile, context, &call);
    assert_eq!(got, want, "{context:x?} {call:x?}: got {got:#x}, want {want:#x}");
}

#[test]
fn default_profile_agrees_for_every_number() {
    let profile = Profile::docker_default();
    let families: Vec<u64> = (0..60)
        .chain([8, 0x1ffff, 0x20000, 0x20001, 0x20008, 0xfffffffe, 0xffffffff, 0x1_0000_0000])
        .chain([38 | 1 << 32, 40 | 1 << 63, u64::MAX, 0x1000_0000, 0x7e02_0000, 0x0002_0000, 0x8000_0000])
        .collect();
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for caps in [0, DOCKER_CAPS, 1 << 21, u64::MAX] {
            let context = context(arch, caps);
            let program = compile(&profile, &context).unwrap();
            for audit in audits() {
                for nr in numbers() {
                    for arg in [0, 38, 0x1000_0011] {
                        compare(&profile, &context, &program, Call { audit, nr, args: [arg, 0, 0, 0, 0, 0] });
                    }
                }
            }
            for arch in covered(&profile, &context) {
                for name in ["socket", "personality", "clone"] {
                    let Some(nr) = seccomp::syscall::number(arch, name) else { continue };
                    let nr = if arch == Arch::X32 { nr | 0x4000_0000 } else { nr };
                    for &arg in &families {
                        let call = Call { audit: arch.audit(), nr, args: [arg, 7, 7, 7, 7, 7] };
                        compare(&profile, &context, &program, call);
                    }
                }
            }
        }
    }
}

#[test]
fn default_profile_answers_as_docker_does() {
    let profile = Profile::docker_default();
    let ask = |caps: u64, arch: Arch, name: &str, arg: u64| {
        let context = context(Arch::X86_64, caps);
        let program = compile(&profile, &context).unwrap();
        let nr = seccomp::syscall::number(arch, name).unwrap_or_else(|| panic!("{name}"));
        interpret(&program, &Call { audit: arch.audit(), nr, args: [arg; 6] }).0
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
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "clone", 0x11), ALLOW);
    assert_eq!(ask(DOCKER_CAPS, Arch::X86_64, "clone", 0x1000_0011), EPERM);
    assert_eq!(ask(admin, Arch::X86_64, "clone", 0x1000_0011), ALLOW);
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
fn default_profile_stays_small() {
    let profile = Profile::docker_default();
    let full = compile(&profile, &context(Arch::X86_64, DOCKER_CAPS)).unwrap();
    let mut alone = profile.clone();
    alone.arch_map.clear();
    let alone = compile(&alone, &context(Arch::X86_64, DOCKER_CAPS)).unwrap();
    let arm = compile(&profile, &context(Arch::Aarch64, DOCKER_CAPS)).unwrap();
    let (full, alone, arm) = (full.len() / 8, alone.len() / 8, arm.len() / 8);
    assert!(alone <= 160, "x86_64 alone: {alone} instructions");
    assert!(full <= 440, "x86_64 with x86 and x32: {full} instructions");
    assert!(arm <= 330, "aarch64 with arm: {arm} instructions");
}

#[test]
fn a_call_costs_few_instructions() {
    let profile = Profile::docker_default();
    let context = context(Arch::X86_64, DOCKER_CAPS);
    let program = compile(&profile, &context).unwrap();
    for nr in 0..470 {
        let (_, steps) = interpret(&program, &Call { audit: Arch::X86_64.audit(), nr, args: [u64::MAX; 6] });
        assert!(steps <= 24, "call {nr} takes {steps} instructions");
    }
}

fn some_action() -> impl Strategy<Value = Action> {
    prop_oneof![
        4 => Just(Action::Allow),
        4 => Just(Action::Errno),
        1 => Just(Action::KillThread),
        1 => Just(Action::KillProcess),
        1 => Just(Action::Trap),
        1 => Just(Action::Trace),
        1 => Just(Action::Log),
        1 => Just(Action::Notify),
    ]
}

fn some_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..4u64,
        Just(0xffff_fffe),
        Just(0xffff_ffff),
        Just(0x1_0000_0000),
        Just(0x1_0000_0001),
        Just(u64::MAX),
        Just(u64::MAX - 1),
        Just(u64::MAX << 32),
        any::<u64>(),
    ]
}

fn some_arg() -> impl Strategy<Value = Arg> {
    let op = prop_oneof![
        Just(Op::NotEqual),
        Just(Op::Less),
        Just(Op::LessOrEqual),
        Just(Op::Equal),
        Just(Op::GreaterOrEqual),
        Just(Op::Greater),
        Just(Op::MaskedEqual),
    ];
    (0..6u32, some_value(), some_value(), op, any::<bool>()).prop_map(|(index, value, two, op, fits)| Arg {
        index: if fits { index } else { 0 },
        value,
        value_two: if fits { two & value } else { two },
        op,
    })
}

const NAMES: [&str; 14] = [
    "read",
    "write",
    "open",
    "close",
    "stat",
    "socket",
    "personality",
    "clone",
    "clone3",
    "execve",
    "set_tls",
    "file_setattr",
    "waitpid",
    "not_a_call",
];

fn some_rule() -> impl Strategy<Value = Rule> {
    let args = prop_oneof![
        3 => Just(Vec::new()),
        5 => proptest::collection::vec(some_arg(), 1..2),
        2 => proptest::collection::vec(some_arg(), 2..5),
    ];
    (proptest::sample::subsequence(NAMES.to_vec(), 1..6), some_action(), proptest::option::of(0..60u32), args).prop_map(
        |(names, action, errno_ret, args)| Rule {
            names: names.into_iter().map(Into::into).collect(),
            name: None,
            action,
            errno_ret,
            args,
            includes: Default::default(),
            excludes: Default::default(),
        },
    )
}

fn some_profile() -> impl Strategy<Value = Profile> {
    (
        some_action(),
        proptest::option::of(0..60u32),
        proptest::collection::vec(some_rule(), 0..24),
        proptest::sample::subsequence(Arch::ALL.to_vec(), 0..5),
    )
        .prop_map(|(default, errno, syscalls, arches)| Profile {
            default_action: Some(default),
            default_errno_ret: errno,
            syscalls,
            arch_map: [Arch::X86_64, Arch::Aarch64]
                .map(|native| ArchMapEntry {
                    architecture: native.scmp_name().into(),
                    sub_architectures: arches
                        .iter()
                        .filter(|a| matches!(a, Arch::Arm | Arch::Aarch64) == (native == Arch::Aarch64))
                        .map(|a| a.scmp_name().into())
                        .collect(),
                })
                .to_vec(),
            ..Profile::default()
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_profiles_agree(profile in some_profile(), extra in proptest::collection::vec(some_value(), 6)) {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let context = context(arch, 0);
            let program = compile(&profile, &context).unwrap();
            let mut values = extra.clone();
            for arg in profile.syscalls.iter().flat_map(|r| &r.args) {
                values.extend([arg.value.wrapping_sub(1), arg.value, arg.value.wrapping_add(1), arg.value_two,
                    arg.value_two | !arg.value]);
            }
            for audit in audits() {
                let mut numbers: Vec<u32> = vec![0, 468, 470, 471, 999, 0x4000_0000, u32::MAX];
                for arch in Arch::ALL {
                    for name in NAMES {
                        let Some(nr) = seccomp::syscall::number(arch, name) else { continue };
                        numbers.extend([nr, nr + 1, nr | 0x4000_0000]);
                    }
                }
                numbers.sort_unstable();
                numbers.dedup();
                for nr in numbers {
                    for (n, v) in values.iter().enumerate() {
                        let mut args = [*v; 6];
                        args[n % 6] = values[(n * 7 + 1) % values.len()];
                        compare(&profile, &context, &program, Call { audit, nr, args });
                    }
                }
            }
        }
    }
}
