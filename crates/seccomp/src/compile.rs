//! From policy to program: architecture check, then per architecture a binary search over ranges of
//! call numbers with equal verdict, then argument comparisons where a verdict depends on them.
//!
//! A range search costs the kernel some seven comparisons a call where a linear list costs hundreds; and
//! since verdicts without arguments look at nothing but architecture and number, the kernel's own
//! per-call cache of "always allowed" covers them.

use crate::arch::X32_BIT;
use crate::assembler::{Assembler, Label, MAX_INSTRUCTIONS, Test};
use crate::policy::{ArchPolicy, Conditional, List, Policy, RET_KILL_PROCESS, Verdict};
use crate::profile::{Arg, Context, Op, Profile};
use crate::{Arch, Error};

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const OFFSET_ARGS: u32 = 16;

/// Compiles `profile` for a container with `context` into an array of `struct sock_filter` in the byte
/// order of `context.arch`, for `SECCOMP_SET_MODE_FILTER` of seccomp(2). Empty when [`Profile::is_off`].
///
/// Calls of an architecture the profile does not cover kill the process. (runc leaves libseccomp's default,
/// which kills the thread and may leave the rest of a process waiting for it.)
///
/// # Errors
/// Every [`Error`]: what [`check`](crate::check) finds wrong with the profile, or that it is too large.
pub fn compile(profile: &Profile, context: &Context) -> Result<Vec<u8>, Error> {
    if profile.is_off() {
        return Ok(Vec::new());
    }
    let policy = Policy::resolve(profile, context)?;
    let mut asm = Assembler::default();
    let big_endian = context.arch.is_big_endian();
    let covered: Vec<Arch> = policy.arches.iter().map(|p| p.arch).collect();
    let with_x32 = covered.contains(&Arch::X86_64) && covered.contains(&Arch::X32);
    let (default, unknown, lists) = (policy.default, policy.unknown, policy.lists);
    let mut x32 = None;
    let mut checks = Vec::new();
    // Sub-architectures go to the far end; the native one stays within reach of the first jump.
    for arch in policy.arches.into_iter().rev() {
        let name = arch.arch;
        let segments = segments(arch, default, unknown);
        let segments = match name {
            // x32 shares the architecture value of x86_64 and is told apart by the number.
            Arch::X32 if with_x32 => {
                x32 = Some(segments);
                continue;
            }
            Arch::X32 => x86_64_segments(None, Some(segments), default),
            Arch::X86_64 => x86_64_segments(Some(segments), x32.take(), default),
            _ => segments,
        };
        let tree = number_search(&mut asm, &segments, &lists, default, big_endian)?;
        checks.push((name.audit(), asm.load(OFFSET_NR, tree)));
    }
    let mut entry = asm.ret(RET_KILL_PROCESS);
    for (audit, code) in checks {
        entry = asm.branch(Test::Equal, audit, code, entry);
    }
    entry = asm.load(OFFSET_ARCH, entry);
    if asm.len() > MAX_INSTRUCTIONS {
        return Err(too_long(asm.len()));
    }
    Ok(asm.finish(entry, big_endian))
}

fn too_long(count: usize) -> Error {
    Error::TooLarge { what: "number of BPF instructions", count, limit: MAX_INSTRUCTIONS }
}

/// Ranges of call numbers, each from its number to the next one's; the first starts at 0.
type Segments = Vec<(u32, Verdict)>;

fn append(segments: &mut Segments, from: u32, verdict: Verdict) {
    while segments.last().is_some_and(|(start, _)| *start == from) {
        segments.pop();
    }
    if segments.last().is_none_or(|(_, last)| *last != verdict) {
        segments.push((from, verdict));
    }
}

fn segments(arch: ArchPolicy, default: u32, unknown: u32) -> Segments {
    let mut out = Segments::with_capacity(arch.calls.len() + 2);
    let unknown_from = arch.unknown_from.unwrap_or(u32::MAX);
    let between = |nr: u32| Verdict::Always(if nr >= unknown_from { unknown } else { default });
    append(&mut out, 0, between(0));
    let mut tail_open = arch.unknown_from.is_some();
    let mut calls = arch.calls.into_iter().peekable();
    while let Some((nr, verdict)) = calls.next() {
        if tail_open && nr > unknown_from {
            append(&mut out, unknown_from, between(unknown_from));
            tail_open = false;
        }
        append(&mut out, nr, verdict);
        if calls.peek().is_none_or(|(next, _)| *next != nr + 1) {
            append(&mut out, nr + 1, between(nr + 1));
        }
    }
    if tail_open {
        append(&mut out, unknown_from, between(unknown_from));
    }
    out
}

/// One search over both tables of x86_64: plain numbers, then those with the x32 bit. -1, which a tracer
/// puts there to skip a call, is no x32 call where there are none.
fn x86_64_segments(plain: Option<Segments>, x32: Option<Segments>, default: u32) -> Segments {
    let refused = || vec![(0, Verdict::Always(RET_KILL_PROCESS))];
    let without_x32 = x32.is_none();
    let mut out = plain.unwrap_or_else(refused);
    for (start, verdict) in x32.unwrap_or_else(refused) {
        append(&mut out, X32_BIT | start, verdict);
    }
    if without_x32 {
        append(&mut out, u32::MAX, Verdict::Always(default));
    }
    out
}

/// Code that finds the verdict for the number in the accumulator, and decides.
fn number_search(
    asm: &mut Assembler,
    segments: &Segments,
    lists: &[List],
    default: u32,
    big_endian: bool,
) -> Result<Label, Error> {
    let mut made: Vec<Option<Label>> = vec![None; lists.len()];
    let mut labels = Vec::with_capacity(segments.len());
    for (start, verdict) in segments {
        let label = match *verdict {
            Verdict::Always(value) => asm.ret(value),
            Verdict::Depends(list) => *made[list].get_or_insert_with(|| {
                let List { narrow, rules } = &lists[list];
                conditional(asm, rules, default, Words { narrow: *narrow, big_endian })
            }),
        };
        if asm.len() > MAX_INSTRUCTIONS {
            return Err(too_long(asm.len()));
        }
        labels.push((*start, label));
    }
    // Returns repeated for reach are different labels of one verdict; make them one again.
    for ((_, label), (_, verdict)) in labels.iter_mut().zip(segments) {
        if let Verdict::Always(value) = verdict {
            *label = asm.ret(*value);
        }
    }
    Ok(search(asm, &labels))
}

/// How arguments lie in `struct seccomp_data`: 64-bit words of the kernel's byte order, of which
/// narrow architectures mean the lower half.
#[derive(Debug, Clone, Copy)]
struct Words {
    narrow: bool,
    big_endian: bool,
}

impl Words {
    /// Where an argument's high or low half is.
    fn offset(self, index: u32, high: bool) -> u32 {
        OFFSET_ARGS + 8 * index + if high != self.big_endian { 4 } else { 0 }
    }

    /// The greatest value an argument may have.
    fn max(self) -> u64 {
        if self.narrow { u32::MAX.into() } else { u64::MAX }
    }
}

/// Binary search of the accumulator over ranges; the first starts at 0.
fn search(asm: &mut Assembler, ranges: &[(u32, Label)]) -> Label {
    match ranges {
        [(_, only)] => *only,
        // One odd value between equal neighbours needs one comparison, not two.
        [(_, around), (value, inside), (next, after)] if around == after && value.checked_add(1) == Some(*next) => {
            asm.branch(Test::Equal, *value, *inside, *around)
        }
        _ => {
            // With odd length the cut falls between groups "odd value, neighbour" of the case above.
            let middle = (ranges.len() / 2) | 1;
            let middle = if middle < ranges.len() { middle } else { ranges.len() / 2 };
            let (low, high) = ranges.split_at(middle);
            let high_code = search(asm, high);
            let low_code = search(asm, low);
            asm.branch(Test::GreaterOrEqual, high[0].0, high_code, low_code)
        }
    }
}

/// The first rule that holds decides, else `default`.
fn conditional(asm: &mut Assembler, rules: &[Conditional], default: u32, words: Words) -> Label {
    let mut next = asm.ret(default);
    let mut end = rules.len();
    while end > 0 {
        let index = range_index(&rules[end - 1]);
        let mut start = end - 1;
        if index.is_some() {
            while start > 0 && range_index(&rules[start - 1]) == index {
                start -= 1;
            }
        }
        next = match index {
            Some(index) => {
                let alternatives: Vec<(Arg, Label)> =
                    rules[start..end].iter().map(|r| (r.args[0], asm.ret(r.action))).collect();
                argument_search(asm, index, &alternatives, next, words)
            }
            None => {
                let mut yes = asm.ret(rules[start].action);
                for arg in rules[start].args.iter().rev() {
                    yes = match arg.op {
                        Op::MaskedEqual => masked_equal(asm, arg, yes, next, words),
                        _ => argument_search(asm, arg.index, &[(*arg, yes)], next, words),
                    };
                }
                yes
            }
        };
        end = start;
    }
    next
}

/// The argument, if the rule is about one range of one argument.
fn range_index(rule: &Conditional) -> Option<u32> {
    match rule.args.as_slice() {
        [arg] if arg.op != Op::MaskedEqual => Some(arg.index),
        _ => None,
    }
}

/// Goes to the label of the first alternative that holds for argument `index`, else to `otherwise`.
fn argument_search(
    asm: &mut Assembler,
    index: u32,
    alternatives: &[(Arg, Label)],
    otherwise: Label,
    words: Words,
) -> Label {
    // Every value at which some comparison may change its answer.
    let mut cuts = vec![0u64];
    for (arg, _) in alternatives {
        cuts.push(arg.value);
        cuts.extend((arg.value < words.max()).then(|| arg.value + 1));
    }
    cuts.sort_unstable();
    cuts.dedup();
    let mut ranges: Vec<(u64, Label)> = Vec::with_capacity(cuts.len());
    for cut in cuts {
        let label = alternatives.iter().find(|(arg, _)| arg.matches(cut)).map_or(otherwise, |(_, l)| *l);
        if ranges.last().is_none_or(|(_, last)| *last != label) {
            ranges.push((cut, label));
        }
    }
    let mut high_ranges: Vec<(u32, Label)> = Vec::new();
    let mut before = ranges[0].1;
    let mut at = 0;
    while at < ranges.len() {
        let high = (ranges[at].0 >> 32) as u32;
        let mut end = at;
        while end < ranges.len() && (ranges[end].0 >> 32) as u32 == high {
            end += 1;
        }
        // The low halves within this high half; the range before reaches in unless one starts at 0.
        let mut low_ranges: Vec<(u32, Label)> = Vec::with_capacity(end - at + 1);
        if ranges[at].0 as u32 != 0 {
            low_ranges.push((0, before));
        }
        low_ranges.extend(ranges[at..end].iter().map(|(value, label)| (*value as u32, *label)));
        let after = ranges[end - 1].1;
        let code = match low_ranges.as_slice() {
            [(_, only)] => *only,
            _ => {
                let tree = search(asm, &low_ranges);
                asm.load(words.offset(index, false), tree)
            }
        };
        high_ranges.push((high, code));
        let next_high = ranges.get(end).map(|(value, _)| (*value >> 32) as u32);
        if let Some(follow) = high.checked_add(1).filter(|_| !words.narrow)
            && next_high != Some(follow)
            && code != after
        {
            high_ranges.push((follow, after));
        }
        before = after;
        at = end;
    }
    if high_ranges.len() == 1 {
        return high_ranges[0].1;
    }
    let tree = search(asm, &high_ranges);
    asm.load(words.offset(index, true), tree)
}

/// Whether the argument has the value under the mask; the resolver sees to it that there is some.
fn masked_equal(asm: &mut Assembler, arg: &Arg, yes: Label, no: Label, words: Words) -> Label {
    let mut code = yes;
    for high in [false, true] {
        let half = |word: u64| if high { (word >> 32) as u32 } else { word as u32 };
        let mask = half(arg.value);
        if mask == 0 {
            continue;
        }
        code = asm.branch(Test::Equal, half(arg.value_two), code, no);
        if mask != u32::MAX {
            code = asm.and(mask, code);
        }
        code = asm.load(words.offset(arg.index, high), code);
    }
    code
}

impl Arg {
    /// Whether `value` satisfies the comparison.
    fn matches(&self, value: u64) -> bool {
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
