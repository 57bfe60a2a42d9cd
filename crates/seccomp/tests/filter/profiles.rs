//! Random profiles, and the calls worth asking about for one.

use crate::machine::Call;
use crate::reading::{ARM_PRIVATE, X32, covered, default_of, demands, rules};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use seccomp::{Action, Arch, Arg, Context, KernelVersion, Op, Profile, Rule};

/// Docker's fourteen default capabilities.
pub const DOCKER_CAPS: u64 = 0xa80425fb;

/// Kernels of their own, that is not only beside another.
pub const NATIVE: [Arch; 6] =
    [Arch::X86_64, Arch::Aarch64, Arch::Riscv64, Arch::Loongarch64, Arch::Ppc64le, Arch::S390x];

pub fn context(arch: Arch, caps: u64) -> Context {
    Context { caps, arch, kernel: KernelVersion { major: 6, minor: 18 } }
}

pub fn some_action() -> impl Strategy<Value = Action> {
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

/// An action with a value that it may have.
fn some_outcome() -> impl Strategy<Value = (Action, Option<u32>)> {
    (some_action(), option::of(prop_oneof![0..40u32, 0..4096u32, Just(4095)]), 0..0x1_0000u32).prop_map(
        |(action, errno, message)| match action {
            Action::Trace => (action, errno.map(|_| message)),
            _ => (action, errno),
        },
    )
}

pub fn some_value() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => 0..4u64,
        2 => 0..64u64,
        1 => (0..64u32).prop_map(|bit| 1 << bit),
        1 => select(vec![
            0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0001, 0x2_0000_0000,
            u64::MAX, u64::MAX - 1, u64::MAX << 32, 0x7e02_0000,
        ]),
        1 => any::<u64>(),
    ]
}

pub fn some_arg(ops: &'static [Op]) -> impl Strategy<Value = Arg> {
    (0..6u32, some_value(), some_value(), select(ops), any::<bool>(), any::<bool>()).prop_map(
        |(index, value, two, op, anywhere, fits)| Arg {
            index: if anywhere { index } else { index % 2 },
            value,
            value_two: if fits { two & value } else { two },
            op,
        },
    )
}

pub const OPS: &[Op] =
    &[Op::NotEqual, Op::Less, Op::LessOrEqual, Op::Equal, Op::GreaterOrEqual, Op::Greater, Op::MaskedEqual];

/// Calls of several tables, private and multiplexed ones among them, and none.
const NAMES: [&str; 28] = [
    "read",
    "open",
    "close",
    "stat",
    "socket",
    "socketcall",
    "accept",
    "accept4",
    "sendmmsg",
    "shmget",
    "semop",
    "ipc",
    "personality",
    "clone",
    "clone3",
    "execve",
    "set_tls",
    "cacheflush",
    "waitpid",
    "s390_sthyi",
    "exit",
    "setns",
    "keyctl",
    "arch_prctl",
    "mount",
    "restart_syscall",
    "arm_sync_file_range",
    "not_a_call",
];

fn some_rule(ops: &'static [Op], outcome: impl Strategy<Value = (Action, Option<u32>)>) -> impl Strategy<Value = Rule> {
    let args = prop_oneof![
        2 => Just(Vec::new()),
        5 => vec(some_arg(ops), 1..2),
        3 => vec(some_arg(ops), 2..5),
    ];
    (subsequence(NAMES.to_vec(), 1..6), outcome, args).prop_map(|(names, (action, errno_ret), args)| Rule {
        names: names.into_iter().map(Into::into).collect(),
        name: None,
        action,
        errno_ret,
        args,
        includes: Default::default(),
        excludes: Default::default(),
    })
}

/// A rule without comparisons about many calls, as most of any real profile is.
fn broad_rule(outcome: impl Strategy<Value = (Action, Option<u32>)>) -> impl Strategy<Value = Rule> {
    let names: Vec<&'static str> = seccomp::syscall::names().collect();
    (subsequence(names, 20..200), outcome).prop_map(|(names, (action, errno_ret))| Rule {
        names: names.into_iter().map(Into::into).collect(),
        name: None,
        action: if action == Action::Notify { Action::Log } else { action },
        errno_ret,
        args: Vec::new(),
        includes: Default::default(),
        excludes: Default::default(),
    })
}

fn some_profile_of(rules: impl Strategy<Value = Vec<Rule>>) -> impl Strategy<Value = Profile> {
    let default = some_outcome().prop_filter("refused", |(action, _)| *action != Action::Notify);
    let arches = subsequence(Arch::ALL.to_vec(), 0..Arch::ALL.len());
    (default, rules, arches).prop_map(|((action, errno), syscalls, arches)| Profile {
        default_action: Some(action),
        default_errno_ret: errno,
        syscalls,
        architectures: arches.iter().map(|a| a.scmp_name().into()).collect(),
        listener_path: Some("/run/agent.sock".into()),
        ..Profile::default()
    })
}

/// A profile whose rules all have one action, so that their order cannot matter: a list of what is allowed,
/// or of what is not.
pub fn uniform_profile() -> impl Strategy<Value = Profile> {
    let rules = (some_outcome(), any::<bool>()).prop_flat_map(|(outcome, broad)| {
        let narrow = vec(some_rule(OPS, Just(outcome)), 0..24);
        let broad = vec(broad_rule(Just(outcome)), usize::from(broad)..=usize::from(broad));
        (broad, narrow).prop_map(|(broad, narrow)| broad.into_iter().chain(narrow).collect())
    });
    some_profile_of(rules)
}

/// A profile of rules with any actions, compared by `ops`.
pub fn mixed_profile(ops: &'static [Op]) -> impl Strategy<Value = Profile> {
    some_profile_of(vec(some_rule(ops, some_outcome()), 0..24))
}

/// Deterministic, good enough for picking arguments (Steele, Lea, Flood: SplitMix).
pub struct Picker(pub u64);

impl Picker {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[(self.next() % list.len() as u64) as usize]
    }
}

/// Every number of every table, with what lies between and beyond them.
fn numbers() -> impl Iterator<Item = u32> {
    let around = |at: u32| at.wrapping_sub(2)..at.wrapping_add(3);
    (0..=600)
        .chain(ARM_PRIVATE - 2..ARM_PRIVATE + 10)
        .chain(X32 - 2..X32 + 601)
        .chain([1000, 4095, 0xffff, 0x10_0000])
        .chain(around(0x8000_0000))
        .chain(around(0xc000_0000))
        .chain(u32::MAX - 2..=u32::MAX)
}

/// Calls worth asking about: every number of every covered architecture and of two that are not; where arguments
/// matter, values around every constant they are compared with.
pub fn calls(profile: &Profile, context: &Context, mut each: impl FnMut(Call)) {
    let mut picker = Picker(1);
    for audit in [0, 0xC000_0032] {
        for nr in [0, 1, 59, 102, X32, u32::MAX] {
            each(Call { audit, nr, args: [0; 6] });
        }
    }
    let covered = covered(profile, context);
    let rules = rules(profile, context);
    let (default, _) = default_of(profile);
    for &arch in &covered {
        if arch == Arch::X32 && covered.contains(&Arch::X86_64) {
            continue;
        }
        let audit = arch.audit();
        for nr in numbers() {
            each(Call { audit, nr, args: [0; 6] });
            each(Call { audit, nr, args: [u64::MAX; 6] });
            let (arch, bare) = if arch == Arch::X86_64 && nr >= X32 { (Arch::X32, nr - X32) } else { (arch, nr) };
            let demands = demands(&rules, default, arch, bare);
            let args: Vec<Arg> = demands.iter().flat_map(|d| &d.args).copied().collect();
            if args.is_empty() {
                continue;
            }
            let mut values = vec![0, u64::MAX, 0xffff_ffff, 1 << 32];
            for arg in &args {
                let (a, b) = (arg.value, arg.value_two);
                values.extend([
                    a.wrapping_sub(1),
                    a,
                    a.wrapping_add(1),
                    a ^ 1 << 32,
                    a | u64::MAX << 32,
                    a as u32 as u64,
                ]);
                if arg.op == Op::MaskedEqual {
                    values.extend([b & a, b & a | !a, b, a & !b]);
                }
            }
            values.sort_unstable();
            values.dedup();
            let indices: Vec<usize> = args.iter().map(|a| a.index as usize).collect();
            // Each value in each place that is compared, in surroundings that satisfy some rule or none.
            for &value in &values {
                for index in 0..6 {
                    if indices.contains(&index) {
                        let mut args = satisfying(&mut picker, &demands, &values);
                        args[index] = value;
                        each(Call { audit, nr, args });
                    }
                }
            }
            for _ in 0..16 * demands.len().min(32) {
                each(Call { audit, nr, args: satisfying(&mut picker, &demands, &values) });
            }
        }
    }
}

/// Arguments from `values` of which those compared by one of `demands` mostly satisfy it.
fn satisfying(picker: &mut Picker, demands: &[crate::reading::Demand], values: &[u64]) -> [u64; 6] {
    let mut args = [0; 6].map(|_: u64| picker.of(values));
    let demand = &demands[(picker.next() % demands.len() as u64) as usize];
    for arg in &demand.args {
        args[arg.index as usize] = match arg.op {
            Op::Equal => arg.value,
            Op::NotEqual => arg.value.wrapping_add(1),
            Op::Less => arg.value.wrapping_sub(1),
            Op::LessOrEqual | Op::GreaterOrEqual => arg.value,
            Op::Greater => arg.value.wrapping_add(1),
            Op::MaskedEqual => arg.value_two & arg.value | picker.of(values) & !arg.value,
        };
    }
    if picker.next().is_multiple_of(4) {
        args[(picker.next() % 6) as usize] = picker.of(values);
    }
    args
}
