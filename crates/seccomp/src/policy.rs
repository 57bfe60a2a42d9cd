//! From profile to policy: which rules hold in a context, and what each call number of each
//! architecture gets. The semantics are those of Docker's profile loader followed by runc:
//!
//! - a rule that does what the default does is dropped;
//! - several rules about one call are alternatives; an unconditional one beats conditional ones,
//!   otherwise the first whose comparisons all hold decides;
//! - a rule that compares one argument twice stands for one rule per comparison;
//! - numbers above every call the profile knows of fail with ENOSYS if the default forbids, so that
//!   a libc newer than the profile falls back instead of giving up.

use std::collections::BTreeMap;

use crate::profile::{Action, Arg, Conditions, Context, MAX_ERRNO, Op, Profile, Rule};
use crate::{Arch, Error, caps, syscall};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// `SECCOMP_RET_KILL_PROCESS`: what a call of an uncovered architecture gets.
pub(crate) const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ENOSYS: u32 = RET_ERRNO | ENOSYS;

/// Most (rule, name) pairs a profile may have: Docker's has some 450.
const MAX_NAMES: usize = 100_000;
/// Most conditional rules for one call: each costs at least one instruction of the kernel's 4096.
const MAX_CONDITIONAL: usize = 4096;

/// A rule with comparisons, reduced to what code is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditional {
    /// Filter return value.
    pub(crate) action: u32,
    /// Comparisons, of distinct arguments.
    pub(crate) args: Vec<Arg>,
}

/// What a call gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same always.
    Always(u32),
    /// The first that holds, else the default.
    Depends(Vec<Conditional>),
}

/// Verdicts of one architecture.
#[derive(Debug)]
pub(crate) struct ArchPolicy {
    pub(crate) arch: Arch,
    /// By call number, without the x32 bit.
    pub(crate) calls: BTreeMap<u32, Verdict>,
    /// First number the profile cannot know of; numbers from here fail with ENOSYS.
    pub(crate) unknown_from: Option<u32>,
}

/// The whole policy.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Filter return value for calls without a verdict.
    pub(crate) default: u32,
    /// Filter return value from `unknown_from` on.
    pub(crate) unknown: u32,
    /// Native architecture first.
    pub(crate) arches: Vec<ArchPolicy>,
}

impl Policy {
    pub(crate) fn resolve(profile: &Profile, context: &Context) -> Result<Policy, Error> {
        let action = profile.default_action.ok_or(Error::NoDefaultAction)?;
        let default = ret(action, profile.default_errno_ret)?;
        check(profile)?;
        let mut held = Vec::new();
        for rule in profile.syscalls.iter().filter(|r| holds(r, context)) {
            held.push((ret(rule.action, rule.errno_ret)?, rule));
        }
        let mut arches = Vec::new();
        for arch in architectures(profile, context.arch)? {
            let mut policy = resolve_arch(arch, default, &held)?;
            if matches!(action, Action::Allow | Action::Log | Action::Trace) || default == RET_ENOSYS {
                policy.unknown_from = None;
            }
            arches.push(policy);
        }
        Ok(Policy { default, unknown: RET_ENOSYS, arches })
    }
}

fn resolve_arch(arch: Arch, default: u32, held: &[(u32, &Rule)]) -> Result<ArchPolicy, Error> {
    let mut calls = BTreeMap::<u32, Verdict>::new();
    let mut last = None;
    for &(action, rule) in held {
        for name in rule.names.iter().chain(&rule.name) {
            let Some(nr) = syscall::number(arch, name) else { continue };
            if nr < syscall::ARM_PRIVATE {
                last = last.max(Some(nr));
            }
            if action == default {
                continue;
            }
            if rule.args.is_empty() {
                let verdict = calls.entry(nr).or_insert(Verdict::Always(action));
                if let Verdict::Depends(_) = verdict {
                    *verdict = Verdict::Always(action);
                }
                continue;
            }
            let Verdict::Depends(list) = calls.entry(nr).or_insert_with(|| Verdict::Depends(Vec::new())) else {
                continue;
            };
            if repeats_an_index(&rule.args) {
                list.extend(rule.args.iter().map(|arg| Conditional { action, args: vec![*arg] }));
            } else {
                list.push(Conditional { action, args: rule.args.clone() });
            }
            if list.len() > MAX_CONDITIONAL {
                return Err(Error::TooLarge { what: "rules for one call", count: list.len(), limit: MAX_CONDITIONAL });
            }
        }
    }
    Ok(ArchPolicy { arch, calls, unknown_from: last.map(|n| n + 1) })
}

fn repeats_an_index(args: &[Arg]) -> bool {
    let mut seen = 0u8;
    args.iter().any(|arg| {
        let bit = 1 << arg.index;
        let again = seen & bit != 0;
        seen |= bit;
        again
    })
}

/// Everything wrong with a profile whatever the context, so that a bad one fails at once and everywhere.
fn check(profile: &Profile) -> Result<(), Error> {
    let mut names = 0;
    for (at, rule) in profile.syscalls.iter().enumerate() {
        match (rule.names.len(), &rule.name) {
            (0, None) => return Err(Error::NoNames { rule: at }),
            (0, Some(_)) | (1.., None) => {}
            (1.., Some(_)) => return Err(Error::NameAndNames { rule: at }),
        }
        names += rule.names.len().max(1);
        if names > MAX_NAMES {
            return Err(Error::TooLarge { what: "number of names", count: names, limit: MAX_NAMES });
        }
        if let Some(arg) = rule.args.iter().find(|a| a.index > 5) {
            return Err(Error::ArgumentIndex { rule: at, index: arg.index });
        }
        ret(rule.action, rule.errno_ret)?;
    }
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Error::ArchitecturesAndArchMap);
    }
    Ok(())
}

fn architectures(profile: &Profile, native: Arch) -> Result<Vec<Arch>, Error> {
    let mut all = vec![native];
    let mut add = |name: &str| -> Result<(), Error> {
        // What cannot run on this kernel needs no code: the architecture check refuses it.
        let family = |a: Arch| matches!(a, Arch::Aarch64 | Arch::Arm);
        if let Some(arch) = Arch::from_scmp(name)?
            && family(arch) == family(native)
            && !all.contains(&arch)
        {
            all.push(arch);
        }
        Ok(())
    };
    for name in &profile.architectures {
        add(name)?;
    }
    for entry in &profile.arch_map {
        if Arch::from_scmp(&entry.architecture)? == Some(native) {
            for name in &entry.sub_architectures {
                add(name)?;
            }
        }
    }
    Ok(all)
}

fn holds(rule: &Rule, context: &Context) -> bool {
    let Conditions { caps: with, arches: on, min_kernel: from } = &rule.includes;
    let Conditions { caps: without, arches: not_on, min_kernel: until } = &rule.excludes;
    let arch = context.arch.docker_name();
    (on.is_empty() || on.iter().any(|a| a == arch))
        && !not_on.iter().any(|a| a == arch)
        && with.iter().all(|c| caps::contains(context.caps, c))
        && !without.iter().any(|c| caps::contains(context.caps, c))
        && from.is_none_or(|v| context.kernel >= v)
        && until.is_none_or(|v| context.kernel < v)
}

/// The filter return value of an action (linux/seccomp.h, `SECCOMP_RET_*`).
fn ret(action: Action, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    if data > MAX_ERRNO {
        return Err(Error::Errno(data));
    }
    Ok(match action {
        Action::Allow => 0x7fff_0000,
        Action::Log => 0x7ffc_0000,
        Action::Trace => 0x7ff0_0000 | data,
        Action::Notify => 0x7fc0_0000,
        Action::Errno => RET_ERRNO | data,
        Action::Trap => 0x0003_0000,
        Action::KillThread => 0,
        Action::KillProcess => RET_KILL_PROCESS,
    })
}

impl Arg {
    /// Whether `value` satisfies the comparison.
    pub(crate) fn matches(&self, value: u64) -> bool {
        match self.op {
            Op::NotEqual => value != self.value,
            Op::Less => value < self.value,
            Op::LessOrEqual => value <= self.value,
            Op::Equal => value == self.value,
            Op::GreaterOrEqual => value >= self.value,
            Op::Greater => value > self.value,
            Op::MaskedEqual => value & self.value == self.value_two,
        }
    }
}
