//! The naive reading of a profile: what it says about one call, without a program. It shares nothing with the
//! compiler but the table of numbers, and is slow.

use std::collections::HashMap;

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

impl Demand {
    pub fn hold(&self, args: &[u64; 6], arch: Arch) -> bool {
        self.args.iter().all(|arg| holds(arg, args, arch))
    }
}

/// The demands of one rule on call `nr` of `arch`, which it reaches by `name`.
fn demands_of(rule: &Rule, name: &str, arch: Arch, nr: u32) -> Vec<Demand> {
    let repeats = rule.args.iter().enumerate().any(|(n, a)| rule.args[..n].iter().any(|b| b.index == a.index));
    let parts: Vec<Vec<Arg>> =
        if repeats { rule.args.iter().map(|a| vec![*a]).collect() } else { vec![rule.args.clone()] };
    let mask = if narrow(arch) { 0xffff_ffff } else { u64::MAX };
    let demand = |mut args: Vec<Arg>| {
        if let Some(sub) = multiplexed(arch, nr, name) {
            args.retain(|a| a.index != 0);
            args.push(Arg { index: 0, value: sub, value_two: 0, op: Op::Equal });
        }
        args.retain(|a| a.op != Op::MaskedEqual || a.value & mask != 0);
        args.sort_by_key(|a| a.index);
        Demand { action: value(rule.action, rule.errno_ret), args }
    };
    parts.into_iter().map(demand).collect()
}

/// A profile as read for a context.
#[derive(Debug)]
pub struct Reading {
    pub covered: Vec<Arch>,
    pub default: u32,
    /// Calls of the future are left to the kernel.
    pub permissive: bool,
    /// First number that no rule can know of.
    unknown_from: HashMap<Arch, u32>,
    /// What rules demand about a call, in the order of the document, those for the default action left out.
    demands: HashMap<(Arch, u32), Vec<Demand>>,
}

impl Reading {
    pub fn new(profile: &Profile, context: &Context) -> Reading {
        let covered = covered(profile, context);
        let action = profile.default_action.unwrap();
        let default = default_of(profile);
        let permissive = matches!(action, Action::Allow | Action::Log | Action::Trace) || default == ENOSYS;
        let (mut demands, mut unknown_from) = (HashMap::<_, Vec<_>>::new(), HashMap::new());
        for &arch in &covered {
            for rule in rules(profile, context) {
                for name in rule.names.iter().chain(&rule.name) {
                    let direct = seccomp::syscall::number(arch, name);
                    if let Some(nr) = direct.filter(|nr| *nr < ARM_PRIVATE && (*nr > 0 || arch == Arch::X32)) {
                        let from = unknown_from.entry(arch).or_insert(0);
                        *from = (nr + 1).max(*from);
                    }
                    let through = [102, 117].into_iter().filter(|nr| multiplexed(arch, *nr, name).is_some());
                    if value(rule.action, rule.errno_ret) != default {
                        for nr in direct.into_iter().chain(through) {
                            demands.entry((arch, nr)).or_default().extend(demands_of(rule, name, arch, nr));
                        }
                    }
                }
            }
        }
        Reading { covered, default, permissive, unknown_from, demands }
    }

    /// Which covered architecture a call is of, and its number there.
    pub fn meant(&self, call: &Call) -> Option<(Arch, u32)> {
        let arch = self.covered.iter().copied().find(|a| a.audit() == call.audit)?;
        if call.audit != Arch::X86_64.audit() || call.nr < X32 {
            return Some((arch, call.nr));
        }
        match (self.covered.contains(&Arch::X32), call.nr) {
            (true, nr) => Some((Arch::X32, nr - X32)),
            (false, u32::MAX) => Some((arch, u32::MAX)),
            (false, _) => None,
        }
    }

    pub fn demands(&self, arch: Arch, nr: u32) -> &[Demand] {
        self.demands.get(&(arch, nr)).map_or(&[], Vec::as_slice)
    }

    /// Whether a call is beyond what the profile can know of and the kernel is to be taken for one that has not
    /// got it.
    pub fn is_unknown(&self, arch: Arch, nr: u32) -> bool {
        let Some(from) = self.unknown_from.get(&arch).filter(|_| !self.permissive) else { return false };
        let skipped = arch == Arch::X86_64 && nr == u32::MAX;
        let unread = nr == 0 && matches!(arch, Arch::S390x | Arch::S390);
        unread || (nr >= *from && !skipped && self.demands(arch, nr).is_empty())
    }

    /// What the profile says about `call`.
    pub fn expect(&self, call: &Call) -> u32 {
        let Some((arch, nr)) = self.meant(call) else { return KILL_PROCESS };
        if self.is_unknown(arch, nr) {
            return ENOSYS;
        }
        let demands = self.demands(arch, nr);
        if let Some(unconditional) = demands.iter().find(|d| d.args.is_empty()) {
            return unconditional.action;
        }
        let nodes = |d: &Demand| d.args.iter().flat_map(|a| nodes(a, arch)).collect::<Vec<_>>();
        let tree = demands.iter().enumerate().map(|(n, d)| (nodes(d), n)).collect();
        let hit = walk(tree).into_iter().find(|n| demands[*n].hold(&call.args, arch));
        hit.map_or(self.default, |n| demands[n].action)
    }
}

/// The filter return value of the default action.
pub fn default_of(profile: &Profile) -> u32 {
    value(profile.default_action.unwrap(), profile.default_errno_ret)
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

/// What is left of a demand's comparisons, and its number.
type Numbered = (Vec<Node>, usize);

/// Numbers of demands in the order in which libseccomp's tree has them.
fn walk(demands: Vec<Numbered>) -> Vec<usize> {
    let mut out = Vec::new();
    let mut groups: Vec<(Node, Vec<Numbered>)> = Vec::new();
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
