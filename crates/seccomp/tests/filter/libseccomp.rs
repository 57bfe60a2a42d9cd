//! libseccomp behind a small C program, fed as runc feeds it: the program beside this file is compiled by the
//! first test that asks. Where the library is not installed the comparison is left out, except under
//! `cargo xtask test`, which installs it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use crate::machine::Program;
use crate::reading::{KILL_PROCESS, covered, default_of, rules, value};
use seccomp::{Arch, Arg, Context, Op, Profile};

/// What libseccomp answered.
#[derive(Debug)]
pub enum Answer {
    /// A program, and how long one building took, ns.
    Program(Vec<u8>, u64),
    /// It refuses the rules, or takes seconds over them.
    Refused,
}

/// A running helper.
#[derive(Debug)]
pub struct Libseccomp {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Drop for Libseccomp {
    fn drop(&mut self) {
        // The end of its input ends it.
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

fn helper() -> Option<&'static PathBuf> {
    static HELPER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compile = || {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/filter/libseccomp.c");
        let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("libseccomp-helper");
        let mine = program.with_extension(std::process::id().to_string());
        let output = Command::new("cc").args(["-O2", "-Wall", "-o"]).arg(&mine).args([source, "-lseccomp"]).output();
        match output {
            Ok(output) if output.status.success() => {
                // Another run of the tests may be using it.
                std::fs::rename(mine, &program).unwrap();
                Some(program)
            }
            failure => {
                let reason = failure.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
                assert!(
                    std::env::var_os("DHOW_TEST_PROGRAMS").is_none(),
                    "cargo xtask test installs libseccomp-dev, yet: {reason:?}"
                );
                eprintln!(
                    "the comparison with libseccomp is left out: libseccomp-dev or a C compiler is not installed"
                );
                None
            }
        }
    };
    HELPER.get_or_init(compile).as_ref()
}

impl Libseccomp {
    /// Starts the helper; `None` where libseccomp is not installed.
    pub fn start() -> Option<Libseccomp> {
        let mut child = Command::new(helper()?).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let requests = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Libseccomp { child, requests, answers })
    }

    fn ask(&mut self, request: &str) -> String {
        self.requests.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "libseccomp's helper died of {request}");
        line.trim_end().to_owned()
    }

    /// Whether it has a table for `arch`.
    pub fn knows(&mut self, arch: Arch) -> bool {
        self.number(arch, "read").is_some()
    }

    /// The number of `name`, negative where `arch` has none or reaches it through another call; `None` if it has
    /// never heard of it.
    pub fn number(&mut self, arch: Arch, name: &str) -> Option<i32> {
        let answer = self.ask(&format!("number {} {name}\n", lower(arch)));
        (answer != "none").then(|| answer.parse().unwrap())
    }

    /// The name of call `nr`.
    pub fn name(&mut self, arch: Arch, nr: i32) -> Option<String> {
        let answer = self.ask(&format!("name {} {nr}\n", lower(arch)));
        (answer != "none").then_some(answer)
    }

    /// Its program for what holds of `profile` in `context`, the way runc asks for it: redundant rules are
    /// dropped, a rule that compares an argument twice becomes several, and the binary tree is asked for above 32
    /// rules unless `optimize` decides.
    ///
    /// One thing is different from runc, as it is here: calls of other architectures kill the process.
    pub fn filter(&mut self, profile: &Profile, context: &Context, optimize: Option<u32>, times: u32) -> Answer {
        let default = default_of(profile);
        let mut lines = Vec::new();
        let mut calls = 0;
        for rule in rules(profile, context) {
            for name in rule.names.iter().chain(&rule.name) {
                calls += 1;
                let action = value(rule.action, rule.errno_ret);
                if action == default {
                    continue;
                }
                let counts = |n: u32| rule.args.iter().filter(|a| a.index == n).count();
                let parts: Vec<&[Arg]> =
                    if (0..6).any(|n| counts(n) > 1) { rule.args.chunks(1).collect() } else { vec![&rule.args] };
                for part in parts {
                    let mut line = format!("rule {action:x} {name} {}", part.len());
                    for arg in part {
                        line += &format!(" {} {} {:x} {:x}", arg.index, operator(arg.op), arg.value, arg.value_two);
                    }
                    lines.push(line);
                }
            }
        }
        let optimize = optimize.unwrap_or(if calls > 32 { 2 } else { 1 });
        let arches = covered(profile, context);
        let mut request =
            format!("filter {default:x} {KILL_PROCESS:x} {optimize} {times} {} {}\n", arches.len(), lines.len());
        for arch in arches {
            request += &format!("arch {}\n", lower(arch));
        }
        for line in lines {
            request += &line;
            request.push('\n');
        }
        let answer = self.ask(&request);
        let words: Vec<&str> = answer.split(' ').collect();
        match words[..] {
            ["program", length, time] => {
                let mut bytes = vec![0; length.parse().unwrap()];
                self.answers.read_exact(&mut bytes).unwrap();
                Answer::Program(bytes, time.parse().unwrap())
            }
            // EEXIST: the same comparisons with another action.
            ["refused", "17", _] | ["exhausted"] => Answer::Refused,
            _ => panic!("{answer}"),
        }
    }

    /// The program, or `None` where it refuses the rules.
    pub fn program(&mut self, profile: &Profile, context: &Context) -> Option<Program> {
        match self.filter(profile, context, None, 1) {
            Answer::Program(mut bytes, _) => {
                if context.arch.is_big_endian() && cfg!(target_endian = "little") {
                    swap_back(&mut bytes, profile);
                }
                Some(Program::new(&bytes, context.arch))
            }
            Answer::Refused => None,
        }
    }
}

/// For a kernel of the other byte order libseccomp swaps the value of a return once more when it repeats the
/// return for reach. A real s390x host swaps nothing.
fn swap_back(bytes: &mut [u8], profile: &Profile) {
    let mut values: Vec<u32> = profile.syscalls.iter().map(|rule| value(rule.action, rule.errno_ret)).collect();
    values.extend([default_of(profile), KILL_PROCESS]);
    for instruction in bytes.as_chunks_mut::<8>().0 {
        let [_, code, _, _, k @ ..] = instruction;
        if *code == 0x06 && !values.contains(&u32::from_be_bytes(*k)) {
            k.reverse();
        }
    }
}

fn lower(arch: Arch) -> String {
    arch.scmp_name().trim_start_matches("SCMP_ARCH_").to_lowercase()
}

fn operator(op: Op) -> u32 {
    match op {
        Op::NotEqual => 1,
        Op::Less => 2,
        Op::LessOrEqual => 3,
        Op::Equal => 4,
        Op::GreaterOrEqual => 5,
        Op::Greater => 6,
        Op::MaskedEqual => 7,
    }
}
