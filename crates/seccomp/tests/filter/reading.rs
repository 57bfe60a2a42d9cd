//! The naive reading of a profile: what it says about one call, without a program. It shares nothing with the
//! compiler but the table of numbers, and is slow.

use crate::machine::Call;
use seccomp::{Action, Arch, Arg, Context, Op, Profile, Rule};

pub const ENOSYS: u32 = 0x5_0026;
pub const KILL_PROCESS: u32 = 0x8000_0000;
pub const X32: u32 = 0x4000_0000;
pub const ARM_PRIVATE: u32 = 0xf_0000;

/// Filter return value of an action.
pub fn value(action: Action, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(1);
    match action {
        Action::Allow => 0x7fff0000,
        Action::Log => 0x7ffc0000,
        Action::Trace => 0x7ff00000 + data,
        Action::Notify => 0x7fc00000,
        Action::Errno => 0x50000 + data,
        Action::Trap => 0x30000,
        Action::KillThread => 0,
        Action::KillProcess => KILL_PROCESS,
    }
}

pub fn narrow(arch: Arch) -> bool {
    matches!(arch, Arch::X86 | Arch::X32 | Arch::Arm | Arch::S390)
}

fn holds(arg: &Arg, args: &[u64; 6], arch: Arch) -> bool {
    let mask = if narrow(arch) { 0xffff_ffff } else { u64::MAX };
    let (a, v) = (args[arg.index as usize] & mask, arg.value & mask);
    match arg.op {
        Op::NotEqual => a != v,
        Op::Less => a < v,
        Op::LessOrEqual => a <= v,
        Op::Equal => a == v,
        Op::GreaterOrEqual => a >= v,
        Op::Greater => a > v,
        Op::MaskedEqual => (a & v) == (arg.value_two & v),
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

/// The rules of a profile that hold in a context.
pub fn rules<'a>(profile: &'a Profile, context: &Context) -> Vec<&'a Rule> {
    profile.syscalls.iter().filter(|r| applies(r, context)).collect()
}

/// The architectures a profile covers that run on the context's kernel, native first.
pub fn covered(profile: &Profile, context: &Context) -> Vec<Arch> {
    let mut names = vec![context.arch.scmp_name().to_string()];
    names.extend(profile.architectures.iter().map(|a| a.to_string()));
    for entry in &profile.arch_map {
        if entry.architecture == context.arch.scmp_name() {
            names.extend(entry.sub_architectures.iter().map(|a| a.to_string()));
        }
    }
    let family: &[Arch] = match context.arch {
        Arch::X86_64 | Arch::X86 | Arch::X32 => &[Arch::X86_64, Arch::X86, Arch::X32],
        Arch::Aarch64 | Arch::Arm => &[Arch::Aarch64, Arch::Arm],
        Arch::S390x | Arch::S390 => &[Arch::S390x, Arch::S390],
        Arch::Riscv64 => &[Arch::Riscv64],
        Arch::Loongarch64 => &[Arch::Loongarch64],
        Arch::Ppc64le => &[Arch::Ppc64le],
    };
    family.iter().copied().filter(|a| names.iter().any(|n| n == a.scmp_name())).collect()
}

/// Which covered architecture a call is of, and its number there.
pub fn meant(covered: &[Arch], call: &Call) -> Option<(Arch, u32)> {
    let arch = covered.iter().copied().find(|a| a.audit() == call.audit)?;
    if call.audit != Arch::X86_64.audit() || call.nr < X32 {
        return Some((arch, call.nr));
    }
    match (covered.contains(&Arch::X32), call.nr) {
        (true, nr) => Some((Arch::X32, nr - X32)),
        (false, u32::MAX) => Some((arch, u32::MAX)),
        (false, _) => None,
    }
}

const SOCKETCALL: [&str; 20] = [
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

/// The first argument by which ipc(2) or socketcall(2), number `nr`, means the call `name`.
fn multiplexed(arch: Arch, nr: u32, name: &str) -> Option<u64> {
    if !matches!(arch, Arch::X86 | Arch::Ppc64le | Arch::S390x | Arch::S390) {
        return None;
    }
    match (nr, name) {
        (102, _) => SOCKETCALL.iter().position(|n| *n == name).map(|n| n as u64 + 1),
        (117, "semop") => Some(1),
        (117, "semget") => Some(2),
        (117, "semctl") => Some(3),
        (117, "semtimedop") => Some(4),
        (117, "msgsnd") => Some(11),
        (117, "msgrcv") => Some(12),
        (117, "msgget") => Some(13),
        (117, "msgctl") => Some(14),
        (117, "shmat") => Some(21),
        (117, "shmdt") => Some(22),
        (117, "shmget") => Some(23),
        (117, "shmctl") => Some(24),
        _ => None,
    }
}

/// What a rule demands of a call's arguments to have its action.
#[derive(Debug, Clone)]
pub struct Demand {
    pub action: u32,
    pub args: Vec<Arg>,
}

/// Demands about call `nr` of `arch` in the order of the document, those for the default action left out.
pub fn demands(rules: &[&Rule], default: u32, arch: Arch, nr: u32) -> Vec<Demand> {
    let mut all = Vec::new();
    for rule in rules.iter().filter(|r| value(r.action, r.errno_ret) != default) {
        let action = value(rule.action, rule.errno_ret);
        for name in rule.names.iter().chain(&rule.name) {
            let sub = multiplexed(arch, nr, name);
            if sub.is_none() && seccomp::syscall::number(arch, name) != Some(nr) {
                continue;
            }
            let repeats = rule.args.iter().enumerate().any(|(n, a)| rule.args[..n].iter().any(|b| b.index == a.index));
            let parts: Vec<Vec<Arg>> =
                if repeats { rule.args.iter().map(|a| vec![*a]).collect() } else { vec![rule.args.clone()] };
            for mut args in parts {
                if let Some(sub) = sub {
                    args.retain(|a| a.index != 0);
                    args.push(Arg { index: 0, value: sub, value_two: 0, op: Op::Equal });
                }
                let mask = if narrow(arch) { 0xffff_ffff } else { u64::MAX };
                args.retain(|a| a.op != Op::MaskedEqual || a.value & mask != 0);
                args.sort_by_key(|a| a.index);
                all.push(Demand { action, args });
            }
        }
    }
    all
}

/// The default action and whether it leaves calls of the future to the kernel.
pub fn default_of(profile: &Profile) -> (u32, bool) {
    let action = profile.default_action.unwrap();
    let default = value(action, profile.default_errno_ret);
    (default, matches!(action, Action::Allow | Action::Log | Action::Trace) || default == ENOSYS)
}

/// First number that no rule can know of.
pub fn unknown_from(rules: &[&Rule], arch: Arch) -> Option<u32> {
    rules
        .iter()
        .flat_map(|r| r.names.iter().chain(&r.name))
        .filter_map(|n| seccomp::syscall::number(arch, n))
        .filter(|n| *n < ARM_PRIVATE && (*n > 0 || arch == Arch::X32))
        .max()
        .map(|n| n + 1)
}

/// What the profile says about `call`.
pub fn expect(profile: &Profile, context: &Context, call: &Call) -> u32 {
    let Some((arch, nr)) = meant(&covered(profile, context), call) else { return KILL_PROCESS };
    let (default, permissive) = default_of(profile);
    if arch == Arch::X86_64 && nr == u32::MAX {
        // With the x32 bit set it is beyond what runc calls unknown.
        return default;
    }
    let rules = rules(profile, context);
    let demands = demands(&rules, default, arch, nr);
    if let Some(unconditional) = demands.iter().find(|d| d.args.is_empty()) {
        return unconditional.action;
    }
    if let Some(from) = unknown_from(&rules, arch).filter(|_| !permissive) {
        let unread = nr == 0 && matches!(arch, Arch::S390x | Arch::S390);
        if unread || (nr >= from && demands.is_empty()) {
            return ENOSYS;
        }
    }
    let nodes = |d: &Demand| d.args.iter().flat_map(|a| nodes(a, arch)).collect::<Vec<_>>();
    let tree = demands.iter().enumerate().map(|(n, d)| (nodes(d), n)).collect();
    let hit = walk(tree).into_iter().find(|n| demands[*n].args.iter().all(|a| holds(a, &call.args, arch)));
    hit.map_or(default, |n| demands[n].action)
}

/// A comparison in libseccomp's tree: its place among its neighbours (greatest first) and what tells it
/// from those of the same place.
type Node = ((u32, u32, u32), (&'static str, u32));

fn nodes(arg: &Arg, arch: Arch) -> Vec<Node> {
    let low = (2 * arg.index, arg.value as u32, arg.value_two as u32);
    let high = (2 * arg.index + 1, (arg.value >> 32) as u32, (arg.value_two >> 32) as u32);
    let halves = if narrow(arch) { vec![(low, false)] } else { vec![(high, true), (low, false)] };
    let node = |((level, value, two), high): ((u32, u32, u32), bool)| match arg.op {
        Op::Equal | Op::NotEqual => ((level, 3, value), ("==", 0)),
        Op::MaskedEqual => ((level, 3, two & value), ("&", value)),
        Op::Less => ((level, 2, u32::MAX - value), if high { (">", 0) } else { (">=", 0) }),
        Op::LessOrEqual => ((level, 2, u32::MAX - value), (">", 0)),
        Op::Greater => ((level, 1, value), (">", 0)),
        Op::GreaterOrEqual => ((level, 1, value), if high { (">", 0) } else { (">=", 0) }),
    };
    halves.into_iter().map(node).collect()
}

/// Numbers of demands in the order in which libseccomp's tree has them.
fn walk(demands: Vec<(Vec<Node>, usize)>) -> Vec<usize> {
    let mut out = Vec::new();
    let mut groups: Vec<(Node, Vec<(Vec<Node>, usize)>)> = Vec::new();
    for (mut nodes, n) in demands {
        if nodes.is_empty() {
            out.push(n);
            continue;
        }
        let first = nodes.remove(0);
        match groups.iter_mut().find(|(node, _)| *node == first) {
            Some((_, group)) => group.push((nodes, n)),
            None => groups.push((first, vec![(nodes, n)])),
        }
    }
    groups.sort_by_key(|(node, _)| std::cmp::Reverse(node.0));
    out.extend(groups.into_iter().flat_map(|(_, group)| walk(group)));
    out
}
