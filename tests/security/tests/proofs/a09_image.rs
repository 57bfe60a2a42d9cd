//! A9: what the image holds steers the host or the runtime: users, groups, home directories, the working directory, the
//! environment (CVE-2024-40635, CVE-2026-46680, CVE-2016-3697, CVE-2026-30892, CVE-2026-47262, CVE-2024-9676,
//! CVE-2026-55686, CVE-2026-57231).

use std::fs;
use std::os::unix::fs::symlink;

use oci_tests::{Bundle, Canary, Environment, Runtime};
use rustix::fs::{FileType, Mode};
use security::Swapper;
use serde_json::{Value, json};

use crate::{SHOW_MOUNTS, assert_inside, started_or_refused};

/// Prints the ids of the process, as the kernel has them.
const IDS: &str = "grep -E '^(Uid|Gid|Groups):' /proc/self/status";

#[test]
fn users_are_numbers_and_nothing_else() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let wrong: [Value; 8] = [
        json!(-1),
        json!(4_294_967_296_u64),
        json!(18_446_744_073_709_551_615_u64),
        json!(1.5),
        json!("0"),
        json!("root"),
        json!([0]),
        json!(true),
    ];
    for field in ["/process/user/uid", "/process/user/gid", "/process/user/additionalGids/0"] {
        for value in &wrong {
            let bundle = Bundle::new().user(1000, 1000, &[7]).set(field, value.clone()).shell(IDS);
            let refused = runtime.run(&bundle).refused();
            assert!(refused.stdout.is_empty(), "{refused}");
        }
    }
    // The kernel's "no id", with which setresuid(2) changes nothing and leaves root.
    for field in ["/process/user/uid", "/process/user/gid"] {
        let output = runtime.run(&Bundle::new().set(field, json!(u32::MAX)).shell(IDS));
        let _ = output.refused();
    }
    let largest = Bundle::new().user(4_294_967_294, 4_294_967_294, &[]).shell(IDS);
    assert!(runtime.run(&largest).ok().stdout.contains("Uid:\t4294967294\t4294967294\t4294967294\t4294967294"));
}

/// A name that looks like a number is a number: `1000` in the image's passwd file is somebody else.
#[test]
fn users_of_an_exec_are_numbers_and_nothing_else() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let passwd = "root:x:0:0:root:/root:/bin/sh\n1000:x:0:0::/:/bin/sh\nadmin:x:0:0::/:/bin/sh\n-1:x:0:0::/:/bin/sh\n";
    let bundle = Bundle::new().idle().file("/etc/passwd", passwd, 0o644).file("/etc/group", "1000:x:0:\n", 0o644);
    let container = runtime.start(&bundle);
    for user in [
        "-1",
        "4294967296",
        "4294967295",
        "0x0",
        "00x1",
        "1e3",
        " 1",
        "",
        ":",
        "1000:",
        "1000:-1",
        "root",
        "admin",
        "1000:root",
        "1000:4294967296",
        "1:2:3",
        "²",
    ] {
        let refused = container.exec_with(&["--user", user], &["/bin/sh", "-c", IDS]);
        assert!(!refused.success() && refused.stdout.is_empty(), "user {user:?}: {refused}");
    }
    let output = container.exec_with(&["--user", "1000"], &["/bin/sh", "-c", IDS]).ok();
    assert!(output.stdout.contains("Uid:\t1000\t1000\t1000\t1000"), "{output}");
    let output = container.exec_with(&["--user", "1000:1000"], &["/bin/sh", "-c", IDS]).ok();
    assert!(output.stdout.contains("Gid:\t1000\t1000\t1000\t1000"), "{output}");
}

/// Files of a size or a kind that would fill the runtime's memory or keep it waiting.
#[test]
fn passwd_and_group_of_any_size_and_kind_cost_nothing() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    // A bound on the memory of the runtime's own: generous for a program, nothing for a file of a gigabyte.
    let runtime = Runtime::new().wrapped(["prlimit", "--data=268435456"]);
    let line = "x:x:9:9::/elsewhere:/bin/sh\n";
    let huge = |name: &str| {
        let bundle = Bundle::new().file(name, line, 0o644);
        let file = fs::File::options().append(true).open(bundle.path(name)).expect("the file");
        file.set_len(1 << 30).expect("a sparse file");
        bundle
    };
    let pipe = |name: &str| {
        let bundle = Bundle::new();
        fs::remove_file(bundle.path(name)).expect("the file");
        let kind = (FileType::Fifo, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, bundle.path(name), kind.0, kind.1, 0).expect("a pipe");
        bundle
    };
    let endless = |name: &str| {
        let bundle = Bundle::new();
        fs::remove_file(bundle.path(name)).expect("the file");
        let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o666));
        rustix::fs::mknodat(rustix::fs::CWD, bundle.path(name), kind, mode, rustix::fs::makedev(1, 5)).expect("a node");
        bundle
    };
    let long_line = |name: &str| Bundle::new().file(name, "x".repeat(64 << 20), 0o644);
    for name in ["/etc/passwd", "/etc/group"] {
        for bundle in [huge(name), pipe(name), endless(name), long_line(name)] {
            let bundle = bundle.user(7, 7, &[]).shell(&format!("{IDS}; echo home $HOME"));
            let output = runtime.run(&bundle).ok();
            assert!(output.stdout.contains("Uid:\t7\t7\t7\t7") && output.stdout.contains("home /\n"), "{output}");
            let bundle = bundle.idle();
            let container = runtime.start(&bundle);
            let output = container.exec_with(&["--user", "8:8"], &["/bin/sh", "-c", IDS]).ok();
            assert!(output.stdout.contains("Uid:\t8\t8\t8\t8"), "{output}");
        }
    }
}

#[test]
fn homes_are_looked_up_in_the_image_alone() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let hosts = tempfile::NamedTempFile::new().expect("a file of the host");
    fs::write(hosts.path(), "host:x:7:7::/of/the/host:/bin/sh\n").expect("a file of the host");
    let path = hosts.path().display();
    for target in [
        format!("{path}"),
        format!("../../../../../../../../..{path}"),
        "/proc/self/fd/0".to_owned(),
        "/proc/1/environ".to_owned(),
    ] {
        let bundle = Bundle::new().user(7, 7, &[]).link("/etc/passwd", &target).shell("echo home $HOME");
        let output = runtime.run(&bundle).ok();
        assert_eq!(output.stdout, "home /\n", "{output}");
    }
    // A link that stays inside is the image's own affair.
    let bundle = Bundle::new().user(7, 7, &[]).file("/usr/lib/passwd", "a:x:7:7::/mine:/bin/sh\n", 0o644);
    let bundle = bundle.link("/etc/passwd", "../usr/lib/passwd").shell("echo home $HOME");
    assert!(["home /mine\n", "home /\n"].contains(&runtime.run(&bundle).ok().stdout.as_str()));
    // A home with a newline or a sign of assignment adds no variable.
    let bundle = Bundle::new().file("/etc/passwd", "r:x:0:0::/a=b\0LD_PRELOAD=/x:/bin/sh\n", 0o644).shell("env");
    let output = runtime.run(&bundle).ok();
    assert!(!output.stdout.contains("LD_PRELOAD"), "{output}");
    drop(canary);
}

/// The working directory is made when it is missing: as root, and inside whatever links the image has on the way.
#[test]
fn working_directories_are_made_inside_only() {
    let Some(environment) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let out = canary.dir();
    for (link, cwd) in
        [("/place", "/place"), ("/place", "/place/new"), ("/place", "/place/d/new/deep"), ("/a/b", "/a/b/../new")]
    {
        for target in [
            out.display().to_string(),
            format!("../../../../../../../..{}", out.display()),
            "/proc/self/root".to_owned(),
            "/proc/1/cwd".to_owned(),
        ] {
            let bundle = Bundle::new().link(link, &target).cwd(cwd).shell(SHOW_MOUNTS);
            assert_inside(&runtime.run(&bundle), &canary);
        }
    }
    let volume = tempfile::tempdir().expect("a volume");
    fs::create_dir(volume.path().join("d")).expect("a directory");
    symlink(out, volume.path().join("l")).expect("a link");
    let _swapper = Swapper::start(&volume.path().join("d"), &volume.path().join("l"));
    // Each start looks up the directory to find it missing, its parent, and the directory again to enter it.
    let (mut started, attempts) = (0, environment.attempts(2000) / 3);
    let mut bundle = Bundle::new().bind(volume.path(), "/vol", &[]).shell("echo alive; pwd -P; ls -a ..");
    for attempt in 0..attempts {
        bundle = bundle.cwd(&format!("/vol/d/new{attempt}"));
        let output = runtime.run(&bundle);
        assert_inside(&output, &canary);
        assert!(!output.stdout.contains("secret"), "the working directory is the host's: {output}");
        started += usize::from(output.success());
    }
    eprintln!("{started} of {attempts} started");
    assert!(started > 0, "no container started: nothing was raced");
}

#[test]
fn the_environment_is_the_configurations_alone() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new().wrapped([
        "env",
        "OF_THE_HOST=secret",
        "HOME=/of/the/host",
        "PATH=/bin:/usr/bin:/sbin:/usr/sbin",
    ]);
    let items = json!(["PATH=/bin", "OF_THE_HOST", "HOME", "", "=x", "A=1", "=", "B"]);
    let bundle = Bundle::new().set("/process/env", items).args(&["/bin/cat", "/proc/self/environ"]);
    let output = runtime.run(&bundle);
    if started_or_refused(&output) {
        assert!(!output.stdout.contains("secret") && !output.stdout.contains("/of/the/host"), "{output}");
        for item in output.stdout.split('\0').filter(|item| !item.is_empty()) {
            assert!(item.contains('='), "an item without a value reached the program: {item:?}");
        }
    }
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    let output = container.exec_with(&["--env", "OF_THE_HOST", "--env", "HOME"], &["/bin/cat", "/proc/self/environ"]);
    if started_or_refused(&output) {
        assert!(!output.stdout.contains("secret") && !output.stdout.contains("/of/the/host"), "{output}");
    }
    let output = container.exec(&["/bin/cat", "/proc/1/environ"]).ok();
    assert!(!output.stdout.contains("OF_THE_HOST") && !output.stdout.contains("OCI_TESTS"), "{output}");
}
