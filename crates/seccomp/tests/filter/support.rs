//! Two independent answers to "what happens to this call": [`interpret`] runs the compiled program as
//! the kernel would, [`expect`] reads the profile naively. Used by the tests beside this file.

use seccomp::{Action, Arch, Arg, Context, Op, Profile, Rule};

/// A call as the filter sees it.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    pub audit: u32,
    pub nr: u32,
    pub args: [u64; 6],
}

impl Call {
    fn word(&self, offset: u32) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&self.nr.to_ne_bytes());
        data[4..8].copy_from_slice(&self.audit.to_ne_bytes());
        for (i, arg) in self.args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_ne_bytes());
        }
        assert!(offset.is_multiple_of(4) && offset <= 60, "load of {offset}: the kernel refuses it");
        let at = offset as usize;
        u32::from_ne_bytes(data[at..at + 4].try_into().unwrap())
    }
}

/// Runs `program` on `call`: return value and instructions executed. Panics where the kernel's checker
/// would refuse the program.
pub fn interpret(program: &[u8], call: &Call) -> (u32, usize) {
    assert!(program.len().is_multiple_of(8) && !program.is_empty() && program.len() / 8 <= 4096);
    let (mut pc, mut a, mut steps) = (0usize, 0u32, 0usize);
    loop {
        let i = &program[pc * 8..pc * 8 + 8];
        let code = u16::from_ne_bytes(i[0..2].try_into().unwrap());
        let (jt, jf) = (i[2] as usize, i[3] as usize);
        let k = u32::from_ne_bytes(i[4..8].try_into().unwrap());
        pc += 1;
        steps += 1;
        match code {
            0x20 => a = call.word(k),
            0x54 => a &= k,
            0x05 => pc += k as usize,
            0x15 => pc += if a == k { jt } else { jf },
            0x35 => pc += if a >= k { jt } else { jf },
            0x06 => return (k, steps),
            other => panic!("unexpected instruction {other:#x}"),
        }
    }
}

fn value(action: Action, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1);
    match action {
        Action::Allow => 0x7fff0000,
        Action::Log => 0x7ffc0000,
        Action::Trace => 0x7ff00000 + data,
        Action::Notify => 0x7fc00000,
        Action::Errno => 0x50000 + data,
        Action::Trap => 0x30000,
        Action::KillThread => 0,
        Action::KillProcess => 0x80000000,
    }
}

fn holds(arg: &Arg, args: &[u64; 6]) -> bool {
    let a = args[arg.index as usize];
    match arg.op {
        Op::NotEqual => a != arg.value,
        Op::Less => a < arg.value,
        Op::LessOrEqual => a <= arg.value,
        Op::Equal => a == arg.value,
        Op::GreaterOrEqual => a >= arg.value,
        Op::Greater => a > arg.value,
        Op::MaskedEqual => (a & arg.value) == arg.value_two,
    }
}

const CAPS: &[(&str, u64)] = &[
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_SYS_MODULE", 16),
    ("CAP_SYS_RAWIO", 17),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_PACCT", 20),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_SYS_BOOT", 22),
    ("CAP_SYS_NICE", 23),
    ("CAP_SYS_TIME", 25),
    ("CAP_SYS_TTY_CONFIG", 26),
    ("CAP_SYSLOG", 34),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

fn has(context: &Context, cap: &str) -> bool {
    CAPS.iter().any(|(name, bit)| *name == cap && context.caps >> bit & 1 == 1)
}

fn applies(rule: &Rule, context: &Context) -> bool {
    let arch = context.arch.docker_name();
    let (i, e) = (&rule.includes, &rule.excludes);
    if !i.arches.is_empty() && !i.arches.iter().any(|a| a == arch) {
        return false;
    }
    if e.arches.iter().any(|a| a == arch) || e.caps.iter().any(|c| has(context, c)) {
        return false;
    }
    if i.caps.iter().any(|c| !has(context, c)) {
        return false;
    }
    i.min_kernel.is_none_or(|v| (context.kernel.major, context.kernel.minor) >= (v.major, v.minor))
        && e.min_kernel.is_none_or(|v| (context.kernel.major, context.kernel.minor) < (v.major, v.minor))
}

/// The architectures a profile covers, native first.
pub fn covered(profile: &Profile, context: &Context) -> Vec<Arch> {
    let mut names = vec![context.arch.scmp_name().to_string()];
    names.extend(profile.architectures.iter().map(|a| a.to_string()));
    for entry in &profile.arch_map {
        if entry.architecture == context.arch.scmp_name() {
            names.extend(entry.sub_architectures.iter().map(|a| a.to_string()));
        }
    }
    Arch::ALL.into_iter().filter(|a| names.iter().any(|n| n == a.scmp_name())).collect()
}

/// What the profile says about `call`.
pub fn expect(profile: &Profile, context: &Context, call: &Call) -> u32 {
    let covered = covered(profile, context);
    let Some(mut arch) = covered.iter().copied().find(|a| a.audit() == call.audit) else { return 0x80000000 };
    let mut nr = call.nr;
    if call.audit == Arch::X86_64.audit() {
        arch = Arch::X86_64;
        if nr >= 0x40000000 && nr != u32::MAX {
            if !covered.contains(&Arch::X32) {
                return 0x80000000;
            }
            arch = Arch::X32;
            nr -= 0x40000000;
        }
    }
    let default = value(profile.default_action.unwrap(), profile.default_errno_ret);
    let rules: Vec<&Rule> = profile.syscalls.iter().filter(|r| applies(r, context)).collect();
    let number = |name: &str| seccomp::syscall::number(arch, name);
    let named = |r: &Rule| r.names.iter().chain(&r.name).any(|n| number(n) == Some(nr));
    let mine: Vec<&&Rule> = rules.iter().filter(|r| named(r) && value(r.action, r.errno_ret) != default).collect();
    if let Some(r) = mine.iter().find(|r| r.args.is_empty()) {
        return value(r.action, r.errno_ret);
    }
    let named_at_all = !mine.is_empty();
    for r in mine {
        let repeats = r.args.iter().enumerate().any(|(n, a)| r.args[..n].iter().any(|b| b.index == a.index));
        let hit = if repeats {
            r.args.iter().any(|a| holds(a, &call.args))
        } else {
            r.args.iter().all(|a| holds(a, &call.args))
        };
        if hit {
            return value(r.action, r.errno_ret);
        }
    }
    let last = rules
        .iter()
        .flat_map(|r| r.names.iter().chain(&r.name))
        .filter_map(|n| number(n.as_ref()))
        .filter(|n| *n < 0xf0000)
        .max();
    let lenient = matches!(profile.default_action, Some(Action::Allow | Action::Log | Action::Trace));
    match last {
        Some(last) if nr > last && !lenient && !named_at_all => 0x50026,
        _ => default,
    }
}
