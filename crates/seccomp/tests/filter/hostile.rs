//! Documents nobody writes on purpose: none may panic, hang, take memory without bound or become a program the
//! kernel refuses.

use std::io::Read;

use crate::machine::Program;
use crate::profiles::{NATIVE, calls, context};
use crate::reading::Reading;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use seccomp::{Action, Arch, Arg, Error, Op, Profile, Rule, check, compile, known};
use serde_json::{Value, json};

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec(("\\PC{0,4}", inner), 0..4).prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

/// Mostly `right`, now and then anything.
fn mostly(right: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    prop_oneof![60 => right, 1 => anything()].boxed()
}

fn word(words: impl IntoIterator<Item = &'static str>) -> BoxedStrategy<Value> {
    mostly(select(words.into_iter().map(Value::from).collect::<Vec<_>>()))
}

fn number(max: u64) -> BoxedStrategy<Value> {
    mostly(prop_oneof![20 => 0..=max, 1 => any::<u64>()].prop_map(Value::from))
}

fn list(entry: BoxedStrategy<Value>, most: usize) -> BoxedStrategy<Value> {
    mostly(vec(entry, 0..most).prop_map(Value::from))
}

/// An object with some of the fields given.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let field = |(name, value): (&'static str, BoxedStrategy<Value>)| {
        proptest::option::weighted(0.8, value).prop_map(move |value| value.map(|value| (name.to_owned(), value)))
    };
    let fields: Vec<_> = fields.into_iter().map(field).collect();
    mostly(fields.prop_map(|fields| fields.into_iter().flatten().collect::<Value>()))
}

fn conditions() -> BoxedStrategy<Value> {
    object(vec![
        ("caps", list(word(["CAP_SYS_ADMIN", "CAP_BPF", "SYS_ADMIN"]), 3)),
        ("arches", list(word(["amd64", "arm64", "s390x", "x32"]), 3)),
        ("minKernel", word(["4.8", "6.18", "99.1", "4.8.1", "x"])),
    ])
}

fn document() -> impl Strategy<Value = Value> {
    let arches = || word(known::architectures());
    let arg = object(vec![
        ("index", number(5)),
        ("value", number(300)),
        ("valueTwo", number(300)),
        ("op", word(known::OPERATORS)),
    ]);
    let names: Vec<&'static str> = seccomp::syscall::names().chain(["no_such_call"]).collect();
    let rule = object(vec![
        ("names", list(word(names), 12)),
        ("action", word(known::ACTIONS)),
        ("errnoRet", number(4095)),
        ("args", list(arg, 5)),
        ("includes", conditions()),
        ("excludes", conditions()),
        ("comment", anything().boxed()),
    ]);
    let map = object(vec![("architecture", arches()), ("subArchitectures", list(arches(), 4))]);
    object(vec![
        ("defaultAction", word(known::ACTIONS)),
        ("defaultErrnoRet", number(4095)),
        ("architectures", list(arches(), 5)),
        ("archMap", prop_oneof![4 => Just(Value::Null), 1 => list(map, 3)].boxed()),
        ("flags", list(word(known::FLAGS), 3)),
        ("listenerPath", word(["/run/agent.sock", ""])),
        ("listenerMetadata", word(["", "x"])),
        ("syscalls", list(rule, 40)),
    ])
}

/// A document is refused, or checked and then compiled to programs that the kernel takes.
fn survives(text: &str) {
    let Ok(profile) = serde_json::from_str::<Profile>(text) else { return };
    let checked = check(&profile);
    for arch in NATIVE {
        match compile(&profile, &context(arch, 1 << 21)) {
            Ok(program) if program.is_empty() => assert!(profile.is_off()),
            Ok(program) => assert!(Program::new(&program, arch).is_clear()),
            Err(error @ Error::TooLarge { .. }) => assert!(error.to_string().contains("too large")),
            Err(error) => assert_eq!(checked, Err(error), "compiling finds no more than checking"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn documents_of_the_right_shape(document in document()) {
        survives(&document.to_string());
    }

    #[test]
    fn documents_with_bytes_changed(document in document(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        let mut bytes = document.to_string().into_bytes();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn documents_of_any_shape(document in anything()) {
        survives(&document.to_string());
    }
}

/// An opening, then one piece without end. A reader of it must give up by itself.
struct Endless {
    opening: Vec<u8>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        assert!(self.at < 64 << 20, "read on and on");
        for byte in &mut *into {
            let beyond = self.at.checked_sub(self.opening.len());
            *byte = beyond.map_or_else(|| self.opening[self.at], |n| self.piece[n % self.piece.len()]);
            self.at += 1;
        }
        Ok(into.len())
    }
}

#[test]
fn endless_documents_are_refused_while_they_are_read() {
    let rule = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", "#;
    for (opening, piece) in [
        (r#"{"syscalls": ["#.to_owned(), r#"{"action": "SCMP_ACT_ALLOW"},"#),
        (r#"{"syscalls": ["#.to_owned(), r#"{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},"#),
        (format!(r#"{rule} "names": ["#), r#""read","#),
        (format!(r#"{rule} "args": ["#), r#"{"index": 0, "value": 5, "op": "SCMP_CMP_EQ"},"#),
        (format!(r#"{rule} "includes": {{"caps": ["#), r#""CAP_BPF","#),
        (format!(r#"{rule} "excludes": {{"arches": ["#), r#""amd64","#),
        (r#"{"architectures": ["#.to_owned(), r#""SCMP_ARCH_X86","#),
        (r#"{"flags": ["#.to_owned(), r#""SECCOMP_FILTER_FLAG_LOG","#),
        (r#"{"archMap": ["#.to_owned(), r#"{"architecture": "SCMP_ARCH_X86", "subArchitectures": ["a", "b"]},"#),
        (r#"{"archMap": [{"architecture": "SCMP_ARCH_X86", "subArchitectures": ["#.to_owned(), r#""a","#),
    ] {
        let endless = Endless { opening: opening.clone().into_bytes(), piece: piece.as_bytes().to_vec(), at: 0 };
        let error = serde_json::from_reader::<_, Profile>(endless).unwrap_err().to_string();
        assert!(error.contains("too large"), "{opening} {piece}: {error}");
    }
}

fn rule(name: &'static str, action: Action, args: Vec<Arg>) -> Rule {
    Rule {
        names: vec![name.into()],
        name: None,
        action,
        errno_ret: None,
        args,
        includes: Default::default(),
        excludes: Default::default(),
    }
}

fn masked(index: u32, value: u64) -> Arg {
    Arg { index, value: u64::MAX >> 1, value_two: value, op: Op::MaskedEqual }
}

fn profile(syscalls: Vec<Rule>) -> Profile {
    Profile { default_action: Some(Action::Errno), syscalls, ..Profile::default() }
}

#[test]
fn oversized_profiles_are_refused_not_built() {
    let native = context(Arch::X86_64, 0);
    let too_large = |profile: &Profile, what: &str| match compile(profile, &native) {
        Err(Error::TooLarge { what: got, count, limit }) => {
            assert!(got.contains(what) && count > limit, "{got} {count}")
        }
        other => panic!("{what}: {other:?}"),
    };
    let one = || rule("read", Action::Allow, vec![masked(0, 5)]);
    too_large(&profile(vec![one(); 1_000_000]), "names and comparisons");
    too_large(&profile(vec![one(); 5000]), "for one call");
    too_large(&profile(vec![one(); 4000]), "BPF instructions");
    // Each call stays below its own limit.
    let mut many = one();
    many.names = seccomp::syscall::names().map(Into::into).collect();
    too_large(&profile(vec![many; 100]), "rules with comparisons");
    // One rule that stands for one per comparison.
    let repeated = rule("read", Action::Allow, (0..50_000).map(|n| masked(0, n)).collect());
    too_large(&profile(vec![repeated]), "for one call");
}

/// Programs near the limit, whose jumps are too far for one instruction.
#[test]
fn large_programs_answer_rightly() {
    let names = ["read", "clone", "socket", "keyctl", "mount", "shmget"];
    for actions in [&[Action::Allow][..], &[Action::Allow, Action::Log, Action::Trap, Action::KillThread]] {
        let rules = (0..380u64).map(|n| {
            let name = names[(n * n % 6) as usize];
            let args = vec![masked((n % 5) as u32, n), Arg { index: 5, value: n * 3, value_two: 0, op: Op::Greater }];
            rule(name, actions[n as usize % actions.len()], args)
        });
        let mut profile = profile(rules.collect());
        profile.syscalls.push(Profile::docker_default().syscalls[0].clone());
        profile.syscalls.last_mut().unwrap().names.retain(|name| !names.contains(&name.as_ref()));
        for arch in [Arch::X86_64, Arch::S390x] {
            let context = context(arch, 0);
            let program = Program::new(&compile(&profile, &context).unwrap(), arch);
            assert!(program.len() > 2000, "{}", program.len());
            let reading = Reading::new(&profile, &context);
            let mut n = 0;
            calls(&reading, |call| {
                n += 1;
                // The naive reading of hundreds of rules is slow: every number, and a part of the arguments.
                if reading.meant(&call).is_none_or(|(arch, nr)| reading.demands(arch, nr).len() < 9) || n % 199 == 0 {
                    assert_eq!(program.answer(&call), reading.expect(&call), "{call:x?}");
                }
            });
        }
    }
}

#[test]
fn the_json_of_a_million_rules_is_refused() {
    let rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"}).to_string();
    let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{}]}}"#, vec![rule; 1_000_000].join(","));
    let error = serde_json::from_str::<Profile>(&text).unwrap_err().to_string();
    assert!(error.contains("too large"), "{error}");
}
