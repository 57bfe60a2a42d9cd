//! From profile to policy: which rules hold in a context, and what each call number of each
//! architecture gets. The semantics are those of Docker's profile loader followed by runc and libseccomp:
//!
//! - a rule that does what the default does is dropped;
//! - several rules about one call are alternatives; an unconditional one beats conditional ones, the first
//!   such wins; conditional ones are tried in the order [`order`] tells;
//! - a rule that compares one argument twice stands for one rule per comparison;
//! - arguments of 32-bit architectures have 32 bits, and so have the values they are compared with;
//! - a rule about a call that is also made through socketcall(2) or ipc(2) holds there too, whatever it
//!   says about the first argument, which then tells which call is meant;
//! - numbers above every call the profile knows of fail with ENOSYS if the default forbids, so that
//!   a libc newer than the profile falls back instead of giving up.

use crate::profile::{Action, Arg, Conditions, Context, Op, Profile, Rule};
use crate::{Arch, Error, caps, check, order, syscall};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// `SECCOMP_RET_KILL_PROCESS`: what a call of an uncovered architecture gets.
pub(crate) const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_ENOSYS: u32 = RET_ERRNO | ENOSYS;

/// Most conditional rules for one call: each costs at least one instruction of the kernel's 4096.
const MAX_CONDITIONAL: usize = 4096;
/// Most conditional rules of one architecture. More than the kernel's 4096, since some become one range.
const MAX_CONDITIONAL_IN_ALL: usize = 16_384;

/// A rule with comparisons, reduced to what code is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conditional {
    /// Filter return value.
    pub(crate) action: u32,
    /// Comparisons, of distinct arguments in ascending order.
    pub(crate) args: Vec<Arg>,
}

/// What a call gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The same always.
    Always(u32),
    /// What the list of this position in [`Policy::lists`] makes of the arguments.
    Depends(usize),
}

/// Conditional rules of which the first that holds decides, else the default.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct List {
    /// Whether only the lower halves of arguments count.
    pub(crate) narrow: bool,
    /// In the order they are tried.
    pub(crate) rules: Vec<Conditional>,
}

/// Verdicts of one architecture.
#[derive(Debug)]
pub(crate) struct ArchPolicy {
    pub(crate) arch: Arch,
    /// By ascending call number, without the x32 bit; never the default.
    pub(crate) calls: Vec<(u32, Verdict)>,
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
    /// No two are equal.
    pub(crate) lists: Vec<List>,
}

impl Policy {
    pub(crate) fn resolve(profile: &Profile, context: &Context) -> Result<Policy, Error> {
        check(profile)?;
        let action = profile.default_action.ok_or(Error::NoDefaultAction)?;
        let default = ret(action, profile.default_errno_ret);
        let permissive = matches!(action, Action::Allow | Action::Log | Action::Trace);
        let rules = Rules::held(profile, context);
        let mut lists = Vec::new();
        let arches = architectures(profile, context.arch)
            .into_iter()
            .map(|arch| {
                Resolver { arch, default, rules: &rules, lists: &mut lists, conditional: 0 }.resolve(permissive)
            })
            .collect::<Result<_, _>>()?;
        Ok(Policy { default, unknown: RET_ENOSYS, arches, lists })
    }
}

/// The rules that hold in a context, by the table's row for the call they name: names are looked up once,
/// not once per architecture.
struct Rules<'a> {
    held: Vec<(u32, &'a Rule)>,
    /// Positions in `held`, ascending within a row.
    by_row: Vec<u32>,
    /// Where each row begins in `by_row`, and the end of the last.
    starts: Vec<u32>,
}

impl<'a> Rules<'a> {
    fn held(profile: &'a Profile, context: &Context) -> Rules<'a> {
        let mut held = Vec::new();
        let mut named = Vec::new();
        let mut starts = vec![0; syscall::ROWS + 2];
        for rule in profile.syscalls.iter().filter(|r| holds(r, context)) {
            for row in rule.names.iter().chain(&rule.name).filter_map(|name| syscall::row(name)) {
                named.push((row, held.len() as u32));
                starts[row + 2] += 1;
            }
            held.push((ret(rule.action, rule.errno_ret), rule));
        }
        // Counting sort: `starts[row + 1]` moves from the begin of the row to its end, the next one's begin.
        for row in 1..starts.len() {
            starts[row] += starts[row - 1];
        }
        let mut by_row = vec![0; named.len()];
        for (row, position) in named {
            by_row[starts[row + 1] as usize] = position;
            starts[row + 1] += 1;
        }
        Rules { held, by_row, starts }
    }

    fn of(&self, row: usize) -> &[u32] {
        &self.by_row[self.starts[row] as usize..self.starts[row + 1] as usize]
    }
}

/// Ordinary numbers, ascending, then ARM's private ones, with the rows of calls that have them.
const PLACES: usize = 1024;
const PRIVATE_PLACES: usize = PLACES - 24;

fn place(nr: u32) -> usize {
    let nr = nr as usize;
    nr.checked_sub(syscall::ARM_PRIVATE as usize).map_or(nr, |private| PRIVATE_PLACES + private)
}

/// The work for one architecture.
struct Resolver<'a> {
    arch: Arch,
    default: u32,
    rules: &'a Rules<'a>,
    lists: &'a mut Vec<List>,
    /// Conditional rules so far.
    conditional: usize,
}

impl Resolver<'_> {
    fn resolve(mut self, permissive: bool) -> Result<ArchPolicy, Error> {
        const NONE: u16 = u16::MAX;
        // Rows by number, as chains, since an architecture may know one call by two names.
        let mut first = [NONE; PLACES];
        let mut chain = [NONE; syscall::ROWS];
        let mut last = None;
        for (row, link) in chain.iter_mut().enumerate() {
            let Some(nr) = syscall::number_at(self.arch, row) else { continue };
            if self.rules.of(row).is_empty() && !self.is_multiplexer(nr) {
                continue;
            }
            let place = place(nr);
            *link = first[place];
            first[place] = row as u16;
            // A zero is what runc takes for "names no call".
            if nr < syscall::ARM_PRIVATE && (nr > 0 || self.arch == Arch::X32) && !self.rules.of(row).is_empty() {
                last = last.max(Some(nr));
            }
        }
        let unknown_from = last.filter(|_| !permissive && self.default != RET_ENOSYS).map(|nr| nr + 1);
        let mut calls = Vec::new();
        if unknown_from.is_some() && matches!(self.arch, Arch::S390x | Arch::S390) {
            // The number of a call that came in a register and that the kernel does not know.
            calls.push((0, Verdict::Always(RET_ENOSYS)));
        }
        let mut alternatives = Vec::new();
        for row in first {
            let Some(nr) = (row != NONE).then(|| syscall::number_at(self.arch, row.into())).flatten() else { continue };
            alternatives.clear();
            let mut next = row;
            while next != NONE {
                alternatives.extend(self.rules.of(next.into()).iter().map(|&position| (position, None)));
                next = chain[usize::from(next)];
            }
            for &(name, sub) in self.multiplexed(nr) {
                let row = syscall::row(name).map_or(&[][..], |row| self.rules.of(row));
                alternatives.extend(row.iter().map(|&position| (position, Some(sub))));
            }
            if !alternatives.is_sorted_by_key(|(position, _)| *position) {
                alternatives.sort_by_key(|(position, _)| *position);
            }
            if let Some(verdict) = self.verdict(&alternatives)? {
                calls.push((nr, verdict));
            }
        }
        Ok(ArchPolicy { arch: self.arch, calls, unknown_from })
    }

    fn is_multiplexer(&self, nr: u32) -> bool {
        self.arch.multiplexers().is_some_and(|m| nr == m.socketcall || nr == m.ipc)
    }

    /// The calls made through call `nr`, each with the first argument that means it.
    fn multiplexed(&self, nr: u32) -> &'static [(&'static str, u32)] {
        match self.arch.multiplexers() {
            Some(m) if nr == m.socketcall => &syscall::SOCKETCALL,
            Some(m) if nr == m.ipc => &syscall::IPC,
            _ => &[],
        }
    }

    /// What rules (by position, with the first argument that a multiplexed call has) make of a call; `None`
    /// if they leave it to the default.
    fn verdict(&mut self, alternatives: &[(u32, Option<u32>)]) -> Result<Option<Verdict>, Error> {
        let mut rules = Vec::new();
        for &(position, sub) in alternatives {
            let (action, rule) = self.rules.held[position as usize];
            if action == self.default {
                continue;
            }
            let parts = if repeats_an_index(&rule.args) { rule.args.chunks(1) } else { rule.args.chunks(usize::MAX) };
            // A rule without comparisons has no part, and is one all the same.
            let whole = rule.args.is_empty().then_some(&[][..]);
            for part in whole.into_iter().chain(parts) {
                let args = self.comparisons(part, sub);
                if args.is_empty() {
                    return Ok(Some(Verdict::Always(action)));
                }
                rules.push(Conditional { action, args });
                self.conditional += 1;
                let limits = [
                    ("rules with comparisons for one call", rules.len(), MAX_CONDITIONAL),
                    ("rules with comparisons", self.conditional, MAX_CONDITIONAL_IN_ALL),
                ];
                if let Some((what, count, limit)) = limits.into_iter().find(|(_, count, limit)| count > limit) {
                    return Err(Error::TooLarge { what, count, limit });
                }
            }
        }
        let Some(first) = rules.first() else { return Ok(None) };
        let narrow = self.arch.is_narrow();
        if rules.iter().any(|rule| rule.action != first.action) {
            order::sort(&mut rules, narrow);
        }
        let list = List { narrow, rules };
        let known = self.lists.iter().position(|known| *known == list).unwrap_or_else(|| {
            self.lists.push(list);
            self.lists.len() - 1
        });
        Ok(Some(Verdict::Depends(known)))
    }

    /// Comparisons that must all hold: by argument, as wide as arguments are, without those that always hold.
    fn comparisons(&self, args: &[Arg], sub: Option<u32>) -> Vec<Arg> {
        let told = sub.map(|sub| Arg { index: 0, value: sub.into(), value_two: 0, op: Op::Equal });
        let mut all = Vec::with_capacity(args.len() + usize::from(told.is_some()));
        all.extend(told);
        for arg in args.iter().filter(|arg| told.is_none() || arg.index != 0) {
            let mut arg = *arg;
            if self.arch.is_narrow() {
                arg.value &= u64::from(u32::MAX);
            }
            if arg.op == Op::MaskedEqual {
                if arg.value == 0 {
                    continue;
                }
                arg.value_two &= arg.value;
            }
            all.push(arg);
        }
        all.sort_by_key(|arg| arg.index);
        all
    }
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

fn architectures(profile: &Profile, native: Arch) -> Vec<Arch> {
    let mut all = vec![native];
    let here = profile.arch_map.iter().filter(|entry| entry.architecture == native.scmp_name());
    for name in profile.architectures.iter().chain(here.flat_map(|entry| &entry.sub_architectures)) {
        // What cannot run on this kernel needs no code: the architecture check refuses it.
        if let Some(arch) = Arch::from_scmp(name)
            && arch.runs_on(native)
            && !all.contains(&arch)
        {
            all.push(arch);
        }
    }
    all
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
fn ret(action: Action, errno: Option<u32>) -> u32 {
    let data = errno.unwrap_or(EPERM);
    match action {
        Action::Allow => 0x7fff_0000,
        Action::Log => 0x7ffc_0000,
        Action::Trace => 0x7ff0_0000 | data,
        Action::Notify => 0x7fc0_0000,
        Action::Errno => RET_ERRNO | data,
        Action::Trap => 0x0003_0000,
        Action::KillThread => 0,
        Action::KillProcess => RET_KILL_PROCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own_order() {
        for arch in Arch::ALL {
            let mut numbers: Vec<u32> = (0..syscall::ROWS).filter_map(|row| syscall::number_at(arch, row)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            let places: Vec<usize> = numbers.iter().map(|nr| place(*nr)).collect();
            assert!(places.windows(2).all(|w| w[0] < w[1]) && places.iter().all(|p| *p < PLACES), "{arch:?}");
        }
    }
}
