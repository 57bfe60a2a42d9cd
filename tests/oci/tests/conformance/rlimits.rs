//! config.md "POSIX process", `rlimits`.

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

/// Names of the specification and of `/proc/PID/limits`, with limits below whatever a host has.
const LIMITS: [(&str, &str, u64, u64); 16] = [
    ("RLIMIT_AS", "Max address space", 1_000_000_000, 1_100_000_000),
    ("RLIMIT_CORE", "Max core file size", 0, 4096),
    ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
    ("RLIMIT_DATA", "Max data size", 500_000_000, 600_000_000),
    ("RLIMIT_FSIZE", "Max file size", 1_000_000, 2_000_000),
    ("RLIMIT_LOCKS", "Max file locks", 100, 200),
    ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
    ("RLIMIT_MSGQUEUE", "Max msgqueue size", 1000, 2000),
    ("RLIMIT_NICE", "Max nice priority", 0, 0),
    ("RLIMIT_NOFILE", "Max open files", 63, 64),
    ("RLIMIT_NPROC", "Max processes", 500, 600),
    ("RLIMIT_RSS", "Max resident set", 100_000_000, 200_000_000),
    ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
    ("RLIMIT_RTTIME", "Max realtime timeout", 1000, 2000),
    ("RLIMIT_SIGPENDING", "Max pending signals", 50, 60),
    ("RLIMIT_STACK", "Max stack size", 4_000_000, 5_000_000),
];

#[test]
fn every_limit_is_set() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let limits: Vec<_> =
        LIMITS.iter().map(|(kind, _, soft, hard)| json!({ "type": kind, "soft": soft, "hard": hard })).collect();
    let bundle = Bundle::new().set("/process/rlimits", json!(limits)).args(&["/bin/cat", "/proc/self/limits"]);
    let output = runtime.run(&bundle).ok();
    for (_, name, soft, hard) in LIMITS {
        let fields: Vec<&str> = output.after(name).expect("a limit").split_whitespace().collect();
        assert_eq!(fields[..2], [soft.to_string(), hard.to_string()], "{name}");
    }
}

#[test]
fn limits_left_out_are_the_callers() {
    let Some(_) = Environment::get() else { return };
    let own = std::fs::read_to_string("/proc/self/limits").expect("one's own limits");
    let output = Runtime::new().run(&Bundle::new().args(&["/bin/cat", "/proc/self/limits"])).ok();
    assert_eq!(output.stdout, own);
}

#[test]
fn limits_that_are_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let with = |limits| Bundle::new().set("/process/rlimits", limits);
    let one = |kind: &str, soft: u64, hard: u64| json!({ "type": kind, "soft": soft, "hard": hard });
    // "If rlimits contains duplicated entries with same type, the runtime MUST generate an error."
    let twice = json!([one("RLIMIT_CORE", 0, 0), one("RLIMIT_CORE", 1, 1)]);
    refused_for(runtime.run(&with(twice)), &["RLIMIT_CORE", "process.rlimits[1]"]);
    refused_for(runtime.run(&with(json!([one("RLIMIT_CORE", 2, 1)]))), &["process.rlimits[0]"]);
    // "The runtime MUST generate an error for any values which cannot be mapped to a relevant kernel interface."
    refused_for(runtime.run(&with(json!([one("RLIMIT_TASTE", 1, 1)]))), &["RLIMIT_TASTE"]);
}
