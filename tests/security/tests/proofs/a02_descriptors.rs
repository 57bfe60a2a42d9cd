//! A2: a descriptor of the host that survives into the container, or a working directory that leads out through one
//! (CVE-2024-21626, CVE-2016-9962). The caller of the runtime leaks on purpose: a runtime cannot choose its callers.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_tests::{Bundle, Canary, Container, Environment, Output, Runtime, eventually};

/// Climbs from the working directory and looks for the secret by its path on the host.
fn climb(canary: &Canary) -> String {
    format!(
        "pwd -P; ls -id .; for up in . ../../../../../../../..; do cat $up{}/secret; cat $up/secret; done",
        canary.dir().display()
    )
}

/// Ways to name the descriptor; the number alone is enough where nothing is known to be open.
fn paths(fd: u32, links: &str) -> Vec<String> {
    let plain = format!("/proc/self/fd/{fd}");
    if LEAKED.contains(&fd) { vec![plain.clone(), format!("{plain}/.."), format!("{links}/{fd}")] } else { vec![plain] }
}

/// Numbers under which the caller leaks.
const LEAKED: [u32; 6] = [3, 4, 7, 8, 9, 20];

/// A runtime whose caller has a directory of the host open under some numbers.
fn leaky(dir: &Path) -> Runtime {
    let dir = dir.display();
    let opens: Vec<String> = LEAKED.iter().map(|fd| format!("exec {fd}<{dir};")).collect();
    Runtime::new().wrapped(["bash", "-c", &format!("{} exec \"$0\" \"$@\"", opens.join(" "))])
}

#[track_caller]
fn assert_contained(output: &Output, canary: &Canary) {
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.contains(&canary.secret()), "the host's secret was read: {output}");
        assert!(!text.contains("(unreachable)"), "the working directory is out of the root: {output}");
    }
    if !output.success() {
        let _ = output.clone().refused();
    }
}

#[test]
fn no_working_directory_of_a_run_leads_out_through_a_descriptor() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = leaky(canary.dir());
    for fd in 3..64 {
        for path in paths(fd, "/dev/fd") {
            let bundle = Bundle::new().cwd(&path).shell(&climb(&canary));
            assert_contained(&runtime.run(&bundle), &canary);
        }
    }
}

#[test]
fn no_working_directory_of_an_exec_leads_out_through_a_descriptor() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = leaky(canary.dir());
    // Links of the image, too: what is checked is where one arrives.
    let bundle = (3..64)
        .fold(Bundle::new().idle(), |bundle, fd| bundle.link(&format!("/place/{fd}"), format!("/proc/self/fd/{fd}")));
    let container = runtime.start(&bundle);
    for fd in 3..64 {
        for path in paths(fd, "/place") {
            let output = container.exec_with(&["--cwd", &path], &["/bin/sh", "-c", &climb(&canary)]);
            assert_contained(&output, &canary);
        }
    }
}

#[test]
fn standard_streams_are_all_a_process_is_born_with() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = leaky(canary.dir());
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    assert_eq!(held(container.pid()), [0, 1, 2]);
    assert_eq!(held(exec(&container, &[])), [0, 1, 2]);
}

#[test]
fn preserved_descriptors_are_those_asked_for_and_no_more() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = leaky(canary.dir());
    let bundle = Bundle::new().idle();
    let container = runtime.start_with(&bundle, &["--preserve-fds", "1"]);
    assert_eq!(held(container.pid()), [0, 1, 2, 3]);
    assert_eq!(held(exec(&container, &["--preserve-fds", "2"])), [0, 1, 2, 3, 4]);
}

/// A further process of the container, as the host numbers it.
fn exec(container: &Container<'_>, flags: &[&str]) -> i32 {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("pid");
    let flags: Vec<&str> =
        ["--detach", "--pid-file", file.to_str().expect("UTF-8")].iter().chain(flags).copied().collect();
    let _ = container.exec_with(&flags, &["/bin/sleep", "1000"]).ok();
    crate::text(&file).parse().expect("a process number")
}

/// The descriptors of a process that has become its program, as the host sees them.
#[track_caller]
fn held(pid: i32) -> Vec<u32> {
    // Some runtimes report success a moment before the last execve.
    eventually(10, "the program of the container", || {
        fs::read(format!("/proc/{pid}/comm")).is_ok_and(|name| name == b"sleep\n")
    });
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("the descriptors of the process").flatten();
    let mut numbers: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The runtime's own process on the way into the container keeps nothing of the host's in reach either: between
/// `create` and `start` it waits with its standard streams and the sockets by which it hears of its start.
#[test]
fn the_waiting_process_holds_no_directory_of_the_host() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = leaky(canary.dir());
    let bundle = Bundle::new();
    let container = runtime.create(&bundle);
    let pid = container.pid();
    let root = fs::metadata(format!("/proc/{pid}/root/")).expect("the root of the process");
    let host = fs::metadata("/").expect("the host's root");
    assert!((root.dev(), root.ino()) != (host.dev(), host.ino()), "the waiting process is still in the host's root");
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).expect("the descriptors").flatten() {
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let standard = entry.file_name().to_str().is_some_and(|name| ["0", "1", "2"].contains(&name));
        assert!(
            standard || target.to_string_lossy().starts_with("socket:"),
            "descriptor {} of the waiting process is {target:?}",
            entry.path().display(),
        );
    }
    drop(canary);
}

/// Whether the program is there is told by `create`: not whether it is on the host.
#[test]
fn programs_are_not_looked_for_through_a_descriptor() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let dir = tempfile::tempdir().expect("a directory of the host");
    fs::copy("/bin/true", dir.path().join("tool")).expect("a program of the host");
    let runtime = leaky(dir.path());
    for fd in LEAKED {
        let bundle = Bundle::new().args(&[format!("/proc/self/fd/{fd}/tool")]);
        runtime.prepare(&bundle);
        let output = runtime.finish(runtime.command_on("create", &bundle, &[]));
        let _ = runtime.call(&["delete", "--force", bundle.id()]);
        assert!(!output.success(), "create has found a program of the host: {output}");
    }
}
