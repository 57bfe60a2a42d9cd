//! A13: capabilities, groups and users other than those of the configuration (CVE-2022-24769, CVE-2022-29162,
//! CVE-2022-27649, CVE-2025-27612, CVE-2022-36109, CVE-2023-25173, CVE-2022-2989).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use oci_tests::{Bundle, Canary, Environment, Output, Runtime};
use security::Attack;
use serde_json::json;

/// The 14 default capabilities as a set: bits of linux/capability.h.
const DEFAULT: u64 = 0xa804_25fb;

fn status(output: &Output, name: &str) -> String {
    output.after(&format!("{name}:")).unwrap_or_else(|| panic!("no {name} in {output}")).to_owned()
}

fn set(output: &Output, name: &str) -> u64 {
    u64::from_str_radix(&status(output, name), 16).expect("a set of capabilities")
}

#[track_caller]
fn assert_sets(output: &Output, bounding: u64, permitted: u64, effective: u64) {
    assert_eq!(set(output, "CapInh"), 0, "{output}");
    assert_eq!(set(output, "CapAmb"), 0, "{output}");
    assert_eq!(set(output, "CapBnd"), bounding, "{output}");
    assert_eq!(set(output, "CapPrm"), permitted, "{output}");
    assert_eq!(set(output, "CapEff"), effective, "{output}");
}

const STATUS: &[&str] = &["/bin/cat", "/proc/self/status"];

/// A caller that has everything a caller can hand down by mistake: inheritable and ambient capabilities, and groups.
fn generous() -> Runtime {
    Runtime::new().wrapped([
        "setpriv",
        "--groups=4242,4343",
        "--inh-caps=+chown,+net_admin,+sys_admin,+setuid",
        "--ambient-caps=+chown,+net_admin,+sys_admin",
    ])
}

#[test]
fn capabilities_are_those_of_the_configuration() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    for runtime in [Runtime::new(), generous()] {
        let root = Bundle::new().args(STATUS);
        let output = runtime.run(&root).ok();
        assert_sets(&output, DEFAULT, DEFAULT, DEFAULT);
        assert_eq!(status(&output, "NoNewPrivs"), "0");
        let user = Bundle::new().user(1000, 1000, &[]).args(STATUS);
        // A user who is not root loses them by the change of user, unless they are ambient, as execve(2) has it.
        assert_sets(&runtime.run(&user).ok(), DEFAULT, 0, 0);
        let none = Bundle::new().capabilities(&[]).args(STATUS);
        assert_sets(&runtime.run(&none).ok(), 0, 0, 0);
        let missing = Bundle::new().remove("/process/capabilities").args(STATUS);
        assert_sets(&runtime.run(&missing).ok(), 0, 0, 0);
    }
}

#[test]
fn capabilities_of_an_exec_are_those_of_the_configuration() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    for runtime in [Runtime::new(), generous()] {
        let bundle = Bundle::new().idle();
        let container = runtime.start(&bundle);
        assert_sets(&container.exec(STATUS).ok(), DEFAULT, DEFAULT, DEFAULT);
        assert_sets(&container.exec_with(&["--user", "1000:1000"], STATUS).ok(), DEFAULT, 0, 0);
        let output = container.exec_with(&["--no-new-privs"], STATUS).ok();
        assert_eq!(status(&output, "NoNewPrivs"), "1");
        // The container's own first process.
        let first = container.exec(&["/bin/cat", "/proc/1/status"]).ok();
        assert_sets(&first, DEFAULT, DEFAULT, DEFAULT);
    }
}

/// What a set-user-ID program of the image may become is bounded by the bounding set, and by nothing at all when new
/// privileges are off.
#[test]
fn set_user_id_programs_gain_the_bounding_set_at_most() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let bundle = || {
        let bundle = Attack::build("show").into_bundle(Bundle::new(), "/show");
        fs::set_permissions(bundle.path("/show"), fs::Permissions::from_mode(0o4755)).expect("a mode");
        bundle.user(1000, 1000, &[]).args(&["/show", "/proc/self/status"])
    };
    let output = runtime.run(&bundle()).ok();
    assert_sets(&output, DEFAULT, DEFAULT, DEFAULT);
    let output = runtime.run(&bundle().set("/process/noNewPrivileges", json!(true))).ok();
    assert_sets(&output, DEFAULT, 0, 0);
    assert_eq!(status(&output, "NoNewPrivs"), "1");
}

#[test]
fn groups_are_those_of_the_configuration() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    for runtime in [Runtime::new(), generous()] {
        for (uid, gid, more) in [(0, 0, &[][..]), (1000, 1001, &[]), (0, 5, &[10, 20]), (1000, 1001, &[2000, 3000])] {
            let expected = more.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
            let bundle = Bundle::new().user(uid, gid, more).args(STATUS);
            let output = runtime.run(&bundle).ok();
            check_ids(&output, uid, gid, &expected);
            let bundle = bundle.idle();
            let container = runtime.start(&bundle);
            check_ids(&container.exec(STATUS).ok(), uid, gid, &expected);
            let one = container.exec_with(&["--user", "7:8"], STATUS).ok();
            check_ids(&one, 7, 8, &expected);
            let ids = container.exec(&["/bin/id", "-G"]).ok();
            assert!(
                ids.stdout.split_whitespace().any(|id| id == gid.to_string()),
                "the primary group is missing: {ids}"
            );
        }
    }
}

#[track_caller]
fn check_ids(output: &Output, uid: u32, gid: u32, groups: &str) {
    assert_eq!(status(output, "Uid"), format!("{uid}\t{uid}\t{uid}\t{uid}"), "{output}");
    assert_eq!(status(output, "Gid"), format!("{gid}\t{gid}\t{gid}\t{gid}"), "{output}");
    assert_eq!(status(output, "Groups"), groups, "{output}");
}

/// A file that everybody may read but the members of a group: who drops the group gains by it (CVE-2022-2989).
#[test]
fn negative_permissions_hold() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let bundle = |gid: u32, more: &[u32]| {
        let bundle =
            Bundle::new().file("/file", "readable\n", 0o604).user(1000, gid, more).args(&["/bin/cat", "/file"]);
        std::os::unix::fs::chown(bundle.path("/file"), Some(0), Some(2000)).expect("a group");
        bundle
    };
    assert_eq!(runtime.run(&bundle(1000, &[])).ok().stdout, "readable\n");
    for (gid, more) in [(2000, &[][..]), (1000, &[2000]), (2000, &[2000, 3000])] {
        let denied = bundle(gid, more);
        let output = runtime.run(&denied).refused();
        assert!(output.stderr.contains("denied"), "{output}");
        let denied = denied.idle();
        let container = runtime.start(&denied);
        let output = container.exec(&["/bin/cat", "/file"]).refused();
        assert!(output.stderr.contains("denied"), "{output}");
    }
}
