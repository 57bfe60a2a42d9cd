//! config-linux.md "Offset for Time Namespace".

use oci_tests::{Bundle, Environment, Runtime};
use serde_json::json;

use crate::refused_for;

fn uptime(text: &str) -> f64 {
    text.split(['.', ' ']).next().and_then(|seconds| seconds.parse().ok()).expect("seconds")
}

#[test]
fn clocks_are_offset() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let offsets =
        json!({ "boottime": { "secs": 1_000_000, "nanosecs": 5 }, "monotonic": { "secs": 777, "nanosecs": 1 } });
    let bundle = Bundle::new().namespace("time", None).set("/linux/timeOffsets", offsets).idle();
    let container = runtime.start(&bundle);
    let host = uptime(&std::fs::read_to_string("/proc/uptime").expect("the host's uptime"));
    let inside = uptime(&container.exec(&["/bin/cat", "/proc/uptime"]).ok().stdout);
    assert!(inside - host >= 1_000_000.0 && inside - host < 1_001_000.0, "{inside} against {host}");
    let text = container.proc("timens_offsets");
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words, ["monotonic", "777", "1", "boottime", "1000000", "5"]);
}

#[test]
fn offsets_without_a_place_for_them_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let offset = json!({ "secs": 1 });
    refused_for(runtime.run(&Bundle::new().set("/linux/timeOffsets/boottime", offset.clone())), &["linux.timeOffsets"]);
    let bundle = Bundle::new().namespace("time", None).set("/linux/timeOffsets/realtime", offset);
    refused_for(runtime.run(&bundle), &["linux.timeOffsets", "realtime"]);
    let far = json!({ "secs": 0, "nanosecs": 1_000_000_000 });
    let bundle = Bundle::new().namespace("time", None).set("/linux/timeOffsets/monotonic", far);
    refused_for(runtime.run(&bundle), &["linux.timeOffsets.monotonic.nanosecs"]);
}
