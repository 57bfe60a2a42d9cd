//! Our programs against libseccomp's.

use std::cell::RefCell;

use crate::libseccomp::Libseccomp;
use crate::machine::{Call, Program};
use crate::profiles::{DOCKER_CAPS, NATIVE, OPS, calls, context, mixed_profile, uniform_profile};
use crate::reading::{ARM_PRIVATE, Demand, ENOSYS, Reading, default_of, narrow, value};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use seccomp::{Arch, Arg, Context, Op, Profile, compile};

/// What runc's stub before libseccomp's program makes of a call: ENOSYS for numbers above every call the
/// profile names, unless the default permits calls. It is modelled as it is meant, with two differences from
/// what runc does:
///
/// - runc takes a named private call of ARM for the newest, and so has no stub there;
/// - runc does not count calls of x86, POWER and s390 that are also made through socketcall(2) and ipc(2),
///   so that its stub may hide a call that a rule is about.
fn stub(reading: &Reading, call: &Call) -> Option<u32> {
    let (arch, nr) = reading.meant(call)?;
    reading.is_unknown(arch, nr).then_some(ENOSYS)
}

/// Calls that some libseccomp does not know of on one architecture, though it knows the name: the kernel's name
/// for what it calls arm_sync_file_range, and one that was given to x32 later (2.6 has it).
const BEHIND: [(Arch, &str); 2] = [(Arch::Arm, "sync_file_range2"), (Arch::X32, "map_shadow_stack")];

/// Whether libseccomp's `answer` to a call is one of those it gives by accident.
///
/// - A comparison and its opposite are one node of its tree. A rule with more comparisons than another may be
///   dropped for one that holds where it does not, and "greater" may take the place of "less".
/// - On 64-bit architectures it cuts every comparison in two, and all but equality become two ways through the
///   tree, which it merges with those of other rules. Where the tree goes on behind two such comparisons of one
///   argument, a rule may be lost or hold for what another rule compares; where rules with different actions
///   hold, the upper halves may be taken in the order of the document and the lower ones in the tree's.
fn is_unsound(demands: &[Demand], arch: Arch, call: &Call, answer: u32) -> bool {
    let forks = |arg: &Arg| !matches!(arg.op, Op::Equal | Op::MaskedEqual);
    let mask = if narrow(arch) { u32::MAX.into() } else { u64::MAX };
    let opposed = |a: &Arg, b: &Arg| {
        let pair = matches!(
            (a.op, b.op),
            (Op::Equal, Op::NotEqual) | (Op::GreaterOrEqual, Op::Less) | (Op::Greater, Op::LessOrEqual)
        );
        pair && a.index == b.index && a.value & mask == b.value & mask
    };
    let all = || demands.iter().flat_map(|d| d.args.iter().map(|arg| (arg, d.args.len())));
    if all().any(|(a, n)| all().any(|(b, m)| opposed(a, b) && (n != m || a.op != Op::Equal))) {
        return true;
    }
    if narrow(arch) {
        return false;
    }
    let tangled = (0..6).any(|index| {
        let forking = |d: &&Demand| d.args.iter().any(|a| a.index == index && forks(a));
        let goes_on = |d: &Demand| d.args.last().is_some_and(|a| a.index > index);
        demands.iter().filter(forking).count() > 1 && demands.iter().filter(forking).any(goes_on)
    });
    let holding: Vec<&Demand> = demands.iter().filter(|d| d.hold(&call.args, arch)).collect();
    let overlap = holding.iter().any(|d| d.action == answer) && holding.iter().any(|d| d.args.iter().any(forks));
    tangled || overlap
}

/// What came of a comparison.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    /// Profiles that libseccomp refuses, for rules with the same comparisons and different actions.
    refused: usize,
    /// Profiles compared.
    compared: usize,
    /// Calls asked about.
    calls: usize,
    /// Calls about which libseccomp answers by accident, while we take the profile at its word.
    excused: usize,
}

/// Compares all answers about `profile`.
fn compare(libseccomp: &mut Libseccomp, profile: &Profile, context: &Context, tally: &mut Tally) -> Result<(), String> {
    let ours = Program::new(&compile(profile, context).unwrap(), context.arch);
    assert!(ours.is_clear());
    let Some(theirs) = libseccomp.program(profile, context) else {
        tally.refused += 1;
        return Ok(());
    };
    tally.compared += 1;
    let reading = Reading::new(profile, context);
    let mut differences = Vec::new();
    calls(&reading, |call| {
        tally.calls += 1;
        let got = ours.answer(&call);
        let stub = stub(&reading, &call);
        let want = stub.unwrap_or_else(|| theirs.answer(&call));
        if got == want {
            return;
        }
        let meant = reading.meant(&call);
        let unsound = meant.is_some_and(|(arch, nr)| is_unsound(reading.demands(arch, nr), arch, &call, want));
        if stub.is_none() && (unsound || theirs.is_confused_about(&call)) && got == reading.expect(&call) {
            tally.excused += 1;
        } else if differences.len() < 10 {
            differences.push(format!("{meant:?} {call:x?}: ours {got:#x}, theirs {want:#x}"));
        }
    });
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!("{:?}: {}\n{}", context.arch, differences.join("\n"), show(profile)))
}

/// A profile in few words.
fn show(profile: &Profile) -> String {
    let mut text = format!("default {:x} {:?}", default_of(profile), profile.architectures);
    for rule in &profile.syscalls {
        text += &format!("\n{:x} {:?} {:x?}", value(rule.action, rule.errno_ret), rule.names, rule.args);
    }
    text
}

/// The profile without names that the installed libseccomp is too old for, or that it cannot carry from one
/// architecture to another: it does so by numbers, of which some invented ones stand for two names.
fn as_known(libseccomp: &mut Libseccomp, profile: &Profile) -> Profile {
    let native = Arch::native().unwrap();
    let mut known = |name: &str| {
        let Some(nr) = libseccomp.number(native, name) else { return false };
        let back = libseccomp.name(native, nr);
        back.as_deref() == Some(name) && BEHIND.iter().all(|(_, behind)| *behind != name)
    };
    let mut profile = profile.clone();
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| known(name));
    }
    profile.syscalls.retain(|rule| !rule.names.is_empty());
    profile
}

#[test]
fn numbers_are_libseccomps() {
    let Some(mut libseccomp) = Libseccomp::start() else { return };
    for arch in Arch::ALL {
        if !libseccomp.knows(arch) {
            continue;
        }
        let bit = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
        let mut newer = 0;
        for name in seccomp::syscall::names() {
            let ours = seccomp::syscall::number(arch, name);
            let Some(theirs) = libseccomp.number(arch, name) else {
                newer += 1;
                continue;
            };
            match ours {
                // Multiplexed calls get a pseudo number by name: ask the other way round.
                Some(nr) if (-300..-100).contains(&theirs) => {
                    assert_eq!(libseccomp.name(arch, nr as i32).as_deref(), Some(name), "{arch:?} {nr}");
                }
                Some(_) if theirs < 0 && BEHIND.contains(&(arch, name)) => {}
                Some(nr) => assert_eq!(theirs, (nr | bit) as i32, "{arch:?} {name}"),
                None => assert!(theirs < 0, "{arch:?} {name}: {theirs}"),
            }
        }
        assert!(newer < 60, "{arch:?}: {newer} names unknown to libseccomp");
        for nr in (0..1200).chain(ARM_PRIVATE..ARM_PRIVATE + 16) {
            if let Some(theirs) = libseccomp.name(arch, (nr | bit) as i32) {
                let ours = seccomp::syscall::number(arch, &theirs);
                assert_eq!(ours, Some(nr), "{arch:?} {theirs}");
            }
        }
    }
}

#[test]
fn the_default_profile_is_libseccomps() {
    let Some(mut libseccomp) = Libseccomp::start() else { return };
    let profile = as_known(&mut libseccomp, &Profile::docker_default());
    // What rules of the profile ask for, one by one, and usual sets.
    let singly = [2, 16, 17, 18, 19, 20, 21, 22, 23, 25, 26, 34, 38, 39].map(|bit| 1 << bit);
    for arch in NATIVE {
        if !libseccomp.knows(arch) {
            continue;
        }
        for caps in singly.into_iter().chain([0, DOCKER_CAPS, DOCKER_CAPS | 1 << 21, u64::MAX]) {
            let context = context(arch, caps);
            let mut tally = Tally::default();
            compare(&mut libseccomp, &profile, &context, &mut tally)
                .unwrap_or_else(|difference| panic!("{difference}"));
            assert_eq!((tally.compared, tally.excused), (1, 0), "{context:x?}");
        }
    }
}

/// How many random profiles a run takes.
fn cases(few: u32) -> u32 {
    if std::env::var("DHOW_TEST_LONG").is_ok_and(|value| value == "1") { few * 10 } else { few }
}

/// Compares random profiles, the same in every run, on every kernel.
fn random(strategy: impl Strategy<Value = Profile>, cases: u32) -> Option<Tally> {
    let mut libseccomp = Libseccomp::start()?;
    let natives: Vec<Arch> = NATIVE.into_iter().filter(|arch| libseccomp.knows(*arch)).collect();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let state = RefCell::new((libseccomp, Tally::default()));
    let outcome = runner.run(&strategy, |profile| {
        let (libseccomp, tally) = &mut *state.borrow_mut();
        let profile = as_known(libseccomp, &profile);
        for arch in &natives {
            compare(libseccomp, &profile, &context(*arch, 0), tally).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    if let Err(TestError::Fail(reason, _)) = outcome {
        panic!("{reason}");
    }
    Some(state.into_inner().1)
}

#[test]
fn uniform_profiles_are_libseccomps() {
    let Some(tally) = random(uniform_profile(), cases(300)) else { return };
    // What may be excused, as a share of what is compared, lest an excuse becomes the rule.
    assert!(tally.refused * 20 < tally.compared && tally.excused * 200 < tally.calls, "{tally:?}");
}

#[test]
fn mixed_profiles_are_libseccomps() {
    let Some(tally) = random(mixed_profile(OPS), cases(300)) else { return };
    assert!(tally.refused < tally.compared && tally.excused * 200 < tally.calls, "{tally:?}");
}

/// Without comparisons that libseccomp's tree does not keep apart there is nothing to excuse but words it
/// forgets to load.
#[test]
fn mixed_profiles_of_equalities_are_libseccomps() {
    let Some(tally) = random(mixed_profile(&[Op::Equal, Op::MaskedEqual]), cases(200)) else { return };
    assert!(tally.refused < tally.compared && tally.excused * 200 < tally.calls, "{tally:?}");
}
