//! config.md "Linux Process", `capabilities`: five sets, each as it is written.

use oci_tests::{Bundle, CAPABILITIES, Environment, Output, Runtime};
use serde_json::json;

const NET_RAW: u64 = 1 << 13;
const KILL: u64 = 1 << 5;
const CHOWN: u64 = 1;

fn status(bundle: Bundle) -> Output {
    // A shell could change the sets by execve(2) of another.
    Runtime::new().run(&bundle.args(&["/bin/cat", "/proc/self/status"])).ok()
}

#[track_caller]
fn set(output: &Output, name: &str) -> u64 {
    output.after(name).and_then(|text| u64::from_str_radix(text, 16).ok()).expect("a set of capabilities")
}

#[test]
fn no_capabilities_are_none() {
    let Some(_) = Environment::get() else { return };
    let output = status(Bundle::new().remove("/process/capabilities"));
    for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(set(&output, name), 0, "{name} {output}");
    }
    let output = status(Bundle::new().set("/process/capabilities", json!({})));
    assert_eq!(set(&output, "CapEff:") | set(&output, "CapBnd:"), 0, "{output}");
}

#[test]
fn dockers_capabilities_are_those_and_no_more() {
    let Some(_) = Environment::get() else { return };
    let output = status(Bundle::new());
    let expected = 0x0000_0000_a804_25fb;
    assert_eq!(CAPABILITIES.len(), 14);
    assert_eq!(set(&output, "CapBnd:"), expected);
    assert_eq!(set(&output, "CapPrm:"), expected);
    assert_eq!(set(&output, "CapEff:"), expected);
    assert_eq!(set(&output, "CapInh:") | set(&output, "CapAmb:"), 0);
}

#[test]
fn each_set_is_its_own() {
    let Some(_) = Environment::get() else { return };
    // Not root, so that execve(2) computes the sets from what was set and nothing else.
    let sets = json!({
        "bounding": ["CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_NET_RAW"],
        "inheritable": ["CAP_KILL", "CAP_NET_RAW"],
        "effective": ["CAP_KILL", "CAP_NET_RAW"],
        "ambient": ["CAP_NET_RAW"],
    });
    let output = status(Bundle::new().user(1000, 1000, &[]).set("/process/capabilities", sets));
    assert_eq!(set(&output, "CapBnd:"), CHOWN | KILL | NET_RAW);
    assert_eq!(set(&output, "CapInh:"), KILL | NET_RAW);
    // Only ambient ones outlive the execve(2) of a program without capabilities of its file.
    assert_eq!(set(&output, "CapAmb:"), NET_RAW);
    assert_eq!(set(&output, "CapPrm:"), NET_RAW);
    assert_eq!(set(&output, "CapEff:"), NET_RAW);
}

#[test]
fn a_user_without_ambient_capabilities_has_none() {
    let Some(_) = Environment::get() else { return };
    let output = status(Bundle::new().user(1000, 1000, &[]));
    assert_eq!(set(&output, "CapEff:") | set(&output, "CapPrm:"), 0, "{output}");
    assert_ne!(set(&output, "CapBnd:"), 0);
}

/// "Any value which cannot be mapped to a relevant kernel interface […] MUST be logged as a warning by the runtime."
#[test]
fn unknown_capabilities_are_a_warning() {
    let Some(_) = Environment::get() else { return };
    let sets =
        json!({ "bounding": ["CAP_CHOWN", "CAP_OF_TOMORROW"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"] });
    let runtime = Runtime::new().flags(["--debug"]);
    let bundle = Bundle::new().set("/process/capabilities", sets).args(&["/bin/cat", "/proc/self/status"]);
    let output = runtime.run(&bundle).ok();
    assert_eq!(set(&output, "CapBnd:"), CHOWN);
    assert!(output.stderr.contains("CAP_OF_TOMORROW"), "no warning: {output}");
}

#[test]
fn capabilities_do_what_they_say() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let script = "touch /tmp/f; chown 5 /tmp/f && echo changed";
    assert_eq!(runtime.run(&Bundle::new().shell(script)).ok().stdout, "changed\n");
    let output = runtime.run(&Bundle::new().capabilities(&["CAP_KILL"]).shell(script));
    assert!(!output.success(), "{output}");
}
