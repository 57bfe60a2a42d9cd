//! config-linux.md "Seccomp": actions, error numbers, comparisons, architectures, flags, and the listener of
//! "containerProcessState".

use std::fs::File;
use std::io::IoSliceMut;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use oci_tests::{Bundle, Environment, Runtime};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

use crate::{program, refused_for};

/// Numbers on x86-64 and i386.
const MKDIR: u64 = 83;
const MKDIR_32: u32 = 39;
const UMASK: u64 = 95;
const ENOSYS: i32 = 38;
const SIGSYS: i32 = 31;
const ARCHITECTURES: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

fn profile(rules: Value) -> Value {
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ARCHITECTURES, "syscalls": rules })
}

/// A container that calls mkdir(2) with a bad address under the profile.
fn mkdir(profile: &Value) -> Option<Bundle> {
    program::call(Bundle::new().set("/linux/seccomp", profile.clone()), MKDIR, [1, 0, 0])
}

/// EFAULT, what the call ends with when it is made.
const MADE: Option<i32> = Some(14);

#[test]
fn actions_do_what_they_say() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let killed = Some(128 + SIGSYS);
    for (action, expected) in [
        ("SCMP_ACT_ALLOW", MADE),
        ("SCMP_ACT_LOG", MADE),
        ("SCMP_ACT_ERRNO", Some(1)),
        ("SCMP_ACT_TRACE", Some(ENOSYS)),
        ("SCMP_ACT_TRAP", killed),
        ("SCMP_ACT_KILL", killed),
        ("SCMP_ACT_KILL_THREAD", killed),
        ("SCMP_ACT_KILL_PROCESS", killed),
    ] {
        // The default is another action: a rule that says the same as the default is none.
        let default = if action == "SCMP_ACT_ALLOW" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" };
        let mut profile = profile(json!([{ "names": ["mkdir"], "action": action }]));
        profile["defaultAction"] = json!(default);
        let Some(bundle) = mkdir(&profile) else { return };
        let output = runtime.run(&bundle);
        assert_eq!(output.code, expected, "{action} {output}");
    }
}

#[test]
fn error_numbers_are_the_profiles() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for errno in [1, 38, 99, 0] {
        let profile = profile(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]));
        let Some(bundle) = mkdir(&profile) else { return };
        assert_eq!(runtime.run(&bundle).code, Some(errno));
    }
    // Everything but what the program needs, and the runtime on the way to it.
    let needed = ["execve", "exit", "exit_group", "close_range", "sendmsg"];
    let rules = json!([{ "names": needed, "action": "SCMP_ACT_ALLOW" }]);
    let mut strict = profile(rules);
    strict["defaultAction"] = json!("SCMP_ACT_ERRNO");
    for (given, expected) in [(json!(77), 77), (Value::Null, 1)] {
        if !given.is_null() {
            strict["defaultErrnoRet"] = given;
        } else if let Some(fields) = strict.as_object_mut() {
            fields.shift_remove("defaultErrnoRet");
        }
        let Some(bundle) = mkdir(&strict) else { return };
        let output = runtime.run(&bundle.set("/process/noNewPrivileges", json!(true)));
        assert_eq!(output.code, Some(expected), "{output}");
    }
}

#[test]
fn arguments_are_compared() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let wide = (1 << 32) | 10;
    for (op, value, second, matching, others) in [
        ("SCMP_CMP_EQ", 10, 0, &[10][..], &[9, wide][..]),
        ("SCMP_CMP_NE", 10, 0, &[9, wide], &[10]),
        ("SCMP_CMP_LT", wide, 0, &[9, 11, wide - 1], &[wide, wide + 1]),
        ("SCMP_CMP_LE", wide, 0, &[10, wide], &[wide + 1]),
        ("SCMP_CMP_GT", 10, 0, &[11, 1 << 32], &[10, 0]),
        ("SCMP_CMP_GE", wide, 0, &[wide, 2 << 32], &[11, wide - 1]),
        ("SCMP_CMP_MASKED_EQ", 6, 4, &[4, 12, 5], &[6, 0, 2]),
    ] {
        let arg = json!({ "index": 0, "value": value, "valueTwo": second, "op": op });
        let profile =
            profile(json!([{ "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [arg] }]));
        for (values, expected) in [(matching, 77), (others, 0)] {
            for value in values {
                let bundle = Bundle::new().set("/linux/seccomp", profile.clone());
                let Some(bundle) = program::call(bundle, UMASK, [*value, 0, 0]) else { return };
                assert_eq!(runtime.run(&bundle).code, Some(expected), "{op} {value:#x}");
            }
        }
    }
}

/// All arguments of one rule must match; of several rules one is enough.
#[test]
fn arguments_join_and_rules_add_up() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let arg = |index: u32, value: u64| json!({ "index": index, "value": value, "op": "SCMP_CMP_EQ" });
    let rule = |args: Value| json!({ "names": ["umask"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": args });
    let profile = profile(json!([rule(json!([arg(0, 1), arg(1, 2)])), rule(json!([arg(0, 5)]))]));
    for (args, expected) in [([1, 2, 0], 77), ([1, 3, 0], 0), ([5, 0, 0], 77), ([0, 2, 0], 0)] {
        let bundle = Bundle::new().set("/linux/seccomp", profile.clone());
        let Some(bundle) = program::call(bundle, UMASK, args) else { return };
        assert_eq!(runtime.run(&bundle).code, Some(expected), "{args:?}");
    }
}

#[test]
fn programs_of_32_bits_are_filtered_by_the_same_names() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let rules = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }]);
    let call = |bundle: Bundle| program::call32(bundle, MKDIR_32, [1, 0, 0]);
    let Some(plain) = call(Bundle::new().without_seccomp()) else { return };
    let output = runtime.run(&plain);
    if output.code != MADE {
        eprintln!("left out: this kernel runs no programs of 32 bits");
        return;
    }
    let Some(bundle) = call(Bundle::new().set("/linux/seccomp", profile(rules.clone()))) else { return };
    assert_eq!(runtime.run(&bundle).code, Some(99));
    // Of an architecture that the profile does not have, nothing is called.
    let mut narrow = profile(rules);
    narrow["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    let Some(bundle) = call(Bundle::new().set("/linux/seccomp", narrow.clone())) else { return };
    assert_eq!(runtime.run(&bundle).code, Some(128 + SIGSYS));
    // Nor by the numbers of x32, which are those of x86-64 with a bit.
    let bundle = Bundle::new().set("/linux/seccomp", narrow);
    let Some(bundle) = program::call(bundle, MKDIR | program::X32, [1, 0, 0]) else { return };
    let output = runtime.run(&bundle);
    assert!(output.code != MADE && output.code != Some(0), "a call of x32 was made: {output}");
}

#[test]
fn the_mode_of_the_process_says_filter() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let look = |bundle: Bundle| {
        let output = runtime.run(&bundle.args(&["/bin/grep", "Seccomp:", "/proc/self/status"])).ok();
        output.after("Seccomp:").map(str::to_owned)
    };
    assert_eq!(look(Bundle::new()).as_deref(), Some("2"));
    assert_eq!(look(Bundle::new().without_seccomp()).as_deref(), Some("0"));
    for flags in [
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"]),
        json!([]),
    ] {
        assert_eq!(look(Bundle::new().set("/linux/seccomp/flags", flags)).as_deref(), Some("2"));
    }
}

/// Profiles are written for many kernels: names that this one does not have are passed over.
#[test]
fn unknown_calls_are_passed_over() {
    let Some(_) = Environment::get() else { return };
    let profile =
        profile(json!([{ "names": ["mkdir", "call_of_tomorrow"], "action": "SCMP_ACT_ERRNO", "errnoRet": 99 }]));
    let Some(bundle) = mkdir(&profile) else { return };
    assert_eq!(Runtime::new().run(&bundle).code, Some(99));
}

#[test]
fn profiles_that_say_nothing_sensible_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let rule = |field: &str, value: Value| {
        let mut rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" });
        rule[field] = value;
        profile(json!([rule]))
    };
    let mut architecture = profile(json!([]));
    architecture["architectures"] = json!(["SCMP_ARCH_PDP11"]);
    let mut flag = rule("errnoRet", json!(1));
    flag["flags"] = json!(["SECCOMP_FILTER_FLAG_FLAVOUR"]);
    let mut default = rule("errnoRet", json!(1));
    default["defaultAction"] = json!("SCMP_ACT_WHATEVER");
    let mut without = rule("errnoRet", json!(1));
    without.as_object_mut().expect("an object").shift_remove("defaultAction");
    let mut notify = profile(json!([]));
    notify["defaultAction"] = json!("SCMP_ACT_NOTIFY");
    for (profile, word) in [
        (rule("action", json!("SCMP_ACT_SHRUG")), "SCMP_ACT_SHRUG"),
        (rule("args", json!([{ "index": 0, "value": 1, "op": "SCMP_CMP_ABOUT" }])), "SCMP_CMP_ABOUT"),
        (rule("args", json!([{ "index": 9, "value": 1, "op": "SCMP_CMP_EQ" }])), "index"),
        (architecture, "SCMP_ARCH_PDP11"),
        (flag, "SECCOMP_FILTER_FLAG_FLAVOUR"),
        (default, "SCMP_ACT_WHATEVER"),
        (without, "defaultAction"),
        (notify, "SCMP_ACT_NOTIFY"),
    ] {
        refused_for(runtime.run(&Bundle::new().set("/linux/seccomp", profile)), &[word]);
    }
}

#[test]
fn processes_of_exec_have_the_filter() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().set(
        "/linux/seccomp",
        profile(json!([{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122 }])),
    );
    let bundle = bundle.idle();
    let container = runtime.start(&bundle);
    let output = container.exec(&["/bin/mkdir", "/tmp/x"]);
    assert!(!output.success() && output.stderr.contains("uota"), "EDQUOT is what the profile says: {output}");
    assert_eq!(container.exec(&["/bin/grep", "Seccomp:", "/proc/self/status"]).ok().after("Seccomp:"), Some("2"));
}

/// Whoever answers for the calls of a container.
struct Agent {
    _dir: tempfile::TempDir,
    path: String,
    socket: UnixListener,
}

fn waits(fd: impl std::os::fd::AsFd) -> bool {
    let limit = Duration::from_secs(60);
    let timeout = Timespec { tv_sec: i64::try_from(limit.as_secs()).expect("seconds"), tv_nsec: 0 };
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

impl Agent {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("agent.sock");
        let socket = UnixListener::bind(&path).expect("a socket");
        Self { path: path.to_str().expect("UTF-8").to_owned(), _dir: dir, socket }
    }

    /// The state and the listener that a runtime sends.
    fn receive(&self) -> (Value, File) {
        assert!(waits(&self.socket), "nobody connected to the listener's path");
        let (stream, _) = self.socket.accept().expect("a connection");
        let mut text = vec![0u8; 65536];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut iov = [IoSliceMut::new(&mut text)];
        let message =
            rustix::net::recvmsg(&stream, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC).expect("a message");
        let files: Vec<File> = control
            .drain()
            .filter_map(|part| match part {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds.map(File::from).collect::<Vec<_>>()),
                _ => None,
            })
            .flatten()
            .collect();
        let [file] = <[File; 1]>::try_from(files).expect("one descriptor");
        (serde_json::from_slice(&text[..message.bytes]).expect("the state as JSON"), file)
    }

    fn profile(&self) -> Value {
        let mut profile = profile(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]));
        profile["listenerPath"] = json!(self.path);
        profile["listenerMetadata"] = json!("for the agent");
        profile
    }
}

#[test]
fn the_listener_is_sent_with_the_state_and_hears_of_calls() {
    let Some(_) = Environment::get() else { return };
    let (runtime, agent) = (Runtime::new(), Agent::new());
    let Some(bundle) = mkdir(&agent.profile()) else { return };
    let bundle = bundle.set("/annotations/a", json!("b"));
    runtime.prepare(&bundle);
    let (_, end) = runtime.beside(runtime.command_on("run", &bundle, &[]));
    let (state, listener) = agent.receive();
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["metadata"], "for the agent");
    assert_eq!(state["state"]["id"], bundle.id());
    assert_eq!(state["state"]["bundle"], bundle.dir().to_str().expect("UTF-8"));
    assert_eq!(state["state"]["annotations"]["a"], "b");
    assert!(state["ociVersion"].is_string() && state["state"]["ociVersion"].is_string(), "{state}");
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 0), "{state}");
    assert_eq!(state["pid"], state["state"]["pid"]);
    assert!(waits(&listener), "the call did not come to the listener");
    // A call whose listener goes away fails (seccomp_unotify(2)).
    drop(listener);
    assert_eq!(end().code, Some(ENOSYS));
}

#[test]
fn a_process_of_exec_has_a_listener_of_its_own() {
    let Some(_) = Environment::get() else { return };
    let (runtime, agent) = (Runtime::new(), Agent::new());
    let Some(bundle) = mkdir(&agent.profile()) else { return };
    let bundle = bundle.idle();
    let container = runtime.start(&bundle);
    let (first, _kept) = agent.receive();
    let (_, end) = runtime.beside(runtime.command(&["exec", container.id(), program::PATH]));
    let (second, listener) = agent.receive();
    assert_ne!(first["pid"], second["pid"]);
    assert_eq!(second["state"]["pid"], container.pid());
    assert!(waits(&listener), "the call did not come to the listener");
    drop(listener);
    assert_eq!(end().code, Some(ENOSYS));
}

#[test]
fn a_listener_that_cannot_be_sent_is_an_error() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let mut nobody = profile(json!([{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }]));
    refused_for(runtime.run(&Bundle::new().set("/linux/seccomp", nobody.clone())), &["listenerPath"]);
    nobody["listenerPath"] = json!("/no/such/socket");
    refused_for(runtime.run(&Bundle::new().set("/linux/seccomp", nobody)), &["/no/such/socket"]);
}
