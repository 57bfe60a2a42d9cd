//! config-linux.md "Devices", "Default Devices" and "Allowed Device list", and "/dev symbolic links" of runtime-linux.md.

use oci_tests::{Bundle, Environment, Output, Runtime};
use serde_json::{Value, json};

use crate::refused_for;

fn run(bundle: Bundle, script: &str) -> Output {
    Runtime::new().run(&bundle.shell(script))
}

fn device(path: &str, kind: &str, major: i64, minor: i64) -> Value {
    json!({ "path": path, "type": kind, "major": major, "minor": minor })
}

#[test]
fn default_devices_are_there_and_work() {
    let Some(_) = Environment::get() else { return };
    let output = run(
        Bundle::new(),
        "for d in null zero full random urandom tty; do stat -c '%F %t:%T %a %u' /dev/$d; done
         head -c 4 /dev/zero | od -An -tx1 | tr -d ' '; echo x > /dev/null && head -c 3 /dev/urandom | wc -c
         echo x > /dev/full || echo full",
    )
    .ok();
    let expected =
        ["1:3", "1:5", "1:7", "1:8", "1:9", "5:0"].map(|numbers| format!("character special file {numbers} 666 0"));
    assert_eq!(output.stdout.lines().take(6).collect::<Vec<_>>(), expected);
    assert_eq!(output.stdout.lines().skip(6).collect::<Vec<_>>(), ["00000000", "3", "full"]);
}

#[test]
fn links_of_dev_are_there() {
    let Some(_) = Environment::get() else { return };
    let output =
        run(Bundle::new(), "for l in fd stdin stdout stderr; do readlink /dev/$l; done; readlink /dev/ptmx").ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[..4], ["/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"]);
    assert!(lines[4].ends_with("pts/ptmx"), "{output}");
}

#[test]
fn devices_are_made_as_they_are_described() {
    let Some(_) = Environment::get() else { return };
    let mut zero = device("/dev/deep/nil", "c", 1, 5);
    zero["fileMode"] = json!(0o640);
    zero["uid"] = json!(7);
    zero["gid"] = json!(8);
    let bundle = Bundle::new()
        .push("/linux/devices", zero)
        .push("/linux/devices", device("/dev/pipe", "p", 0, 0))
        .push("/linux/devices", device("/dev/disk", "b", 7, 99))
        .push("/linux/devices", device("/dev/plain", "u", 1, 3));
    let output =
        run(bundle, "stat -c '%F %t:%T %a %u:%g' /dev/deep/nil /dev/disk; stat -c %F /dev/pipe /dev/plain").ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "character special file 1:5 640 7:8");
    assert!(lines[1].starts_with("block special file 7:63 "), "{output}");
    assert_eq!(lines[2..], ["fifo", "character special file"]);
}

#[test]
fn devices_that_are_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let with = |device| Bundle::new().push("/linux/devices", device);
    refused_for(runtime.run(&with(device("dev/x", "c", 1, 3))), &["linux.devices[0].path"]);
    refused_for(runtime.run(&with(device("/dev/x", "q", 1, 3))), &["linux.devices[0].type"]);
    refused_for(runtime.run(&with(device("/dev/x", "c", -1, 3))), &["linux.devices[0].major"]);
}

/// "The runtime MUST apply entries in the listed order", and nothing is allowed that no entry allows.
#[test]
fn devices_not_allowed_cannot_be_opened() {
    let Some(_) = Environment::get() else { return };
    // The kernel's log, which nothing allows by default and the capability lets one open; /dev/zero, which is allowed.
    let with = |rules: Value| {
        let node = device("/dev/kmsg1", "c", 1, 11);
        run(
            Bundle::new()
                .capabilities(&["CAP_SYSLOG"])
                .push("/linux/devices", node)
                .set("/linux/resources/devices", rules),
            "(: < /dev/kmsg1) 2>&1 && echo opened; head -c 1 /dev/zero | wc -c",
        )
    };
    let deny = json!({ "allow": false, "access": "rwm" });
    let allow = |access: &str| json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": access });
    let output = with(json!([deny]));
    assert!(output.stdout.contains("peration not permitted") && output.stdout.ends_with("1\n"), "{output}");
    assert_eq!(with(json!([deny, allow("rwm")])).ok().stdout, "opened\n1\n");
    let output = with(json!([deny, allow("w")]));
    assert!(output.stdout.contains("peration not permitted"), "read with a permission to write: {output}");
    let last_denies = json!([allow("rwm"), { "allow": false, "type": "c", "major": 1, "minor": 11, "access": "r" }]);
    let output = with(last_denies);
    assert!(output.stdout.contains("peration not permitted"), "the later entry holds: {output}");
    let output = with(json!([deny, { "allow": true, "type": "c", "major": 1, "access": "r" }]));
    assert_eq!(output.ok().stdout, "opened\n1\n", "a number left out stands for all");
}

#[test]
fn nodes_of_devices_not_allowed_cannot_be_used_when_made_by_the_container() {
    let Some(_) = Environment::get() else { return };
    let output = run(Bundle::new(), "mknod /tmp/disk b 7 0; (: < /tmp/disk) 2>&1; mknod /tmp/nil c 1 3; : < /tmp/nil");
    assert!(output.stdout.contains("peration not permitted") && output.success(), "{output}");
}
