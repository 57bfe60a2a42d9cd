//! A25: control groups written to from inside: `release_agent`, which the kernel runs as root on the host, limits, and
//! membership (CVE-2022-0492, CVE-2023-25809).

use oci_tests::{Bundle, CAPABILITIES, Canary, Environment, Output, Runtime};
use serde_json::json;

/// Tries to write to every file of every hierarchy, to make groups, and to mount hierarchies anew and write there, then
/// all of it again after asking for the mounts to be writable. What a file would be given is what it holds, so that a
/// success changes nothing. A line that begins with FAULT is something written.
const WRITE: &str = "
    try() {
        [ -e $1 ] || return
        if (: >> $1) 2> /tmp/error; then
            old=$(cat $1 2> /tmp/error)
            if echo \"$old\" 2> /tmp/error > $1; then echo FAULT wrote to $1; else echo opened $1; fi
        fi
    }
    everything() {
        for name in release_agent notify_on_release tasks cgroup.procs memory.limit_in_bytes cpu.shares cpuset.cpus \\
            devices.allow devices.deny freezer.state pids.max cgroup.subtree_control cgroup.max.depth cgroup.freeze \\
            memory.max cpu.max; do
            for file in $(find $1 -name $name 2> /tmp/error); do try $file; done
        done
        for dir in $(find $1 -type d 2> /tmp/error); do
            # A tmpfs that the container could have made as well holds the hierarchies' directories.
            [ \"$(stat -f -c %T $dir)\" = tmpfs ] && continue
            if mkdir $dir/new 2> /tmp/error; then echo FAULT made $dir/new; rmdir $dir/new; fi
        done
    }
    everything /sys/fs/cgroup
    mkdir -p /tmp/m
    for what in memory devices pids cpu cpuset freezer blkio none,name=systemd none,name=new; do
        if mount -t cgroup -o $what x /tmp/m 2> /tmp/error; then
            echo mounted $what
            everything /tmp/m
            umount /tmp/m
        fi
    done
    if mount -t cgroup2 x /tmp/m 2> /tmp/error; then
        echo mounted cgroup2
        everything /tmp/m
        umount /tmp/m
    fi
    for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
        if mount -o remount,rw,bind $dir 2> /tmp/error; then echo remounted $dir; fi
    done
    everything /sys/fs/cgroup
    echo tried everything";

#[track_caller]
fn assert_unwritten(output: &Output) {
    assert!(output.stdout.contains("tried everything"), "{output}");
    assert!(!output.stdout.contains("FAULT"), "{output}");
}

#[test]
fn groups_cannot_be_written_to() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let output = runtime.run(&Bundle::new().shell(WRITE)).ok();
    assert_unwritten(&output);
    assert!(!output.stdout.contains("mounted"), "{output}");
    let namespace = Bundle::new().namespace("cgroup", None).shell(WRITE);
    let output = runtime.run(&namespace).ok();
    assert_unwritten(&output);
    assert!(!output.stdout.contains("mounted"), "{output}");
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    assert_unwritten(&container.shell(WRITE).ok());
}

/// The same without the filter of system calls: it is not what the groups depend on.
#[test]
fn groups_cannot_be_written_to_without_a_filter() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let output = runtime.run(&Bundle::new().without_seccomp().shell(WRITE)).ok();
    assert_unwritten(&output);
    assert!(!output.stdout.contains("mounted"), "{output}");
}

/// Root of a user namespace may make its own mounts writable and mount what its cgroup namespace shows, for both belong
/// to the namespace. The files belong to the host's root, whom the namespace does not map: no write gets through.
#[test]
fn groups_of_a_user_namespace_cannot_be_written_to() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let all: Vec<&str> =
        CAPABILITIES.iter().copied().chain(["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_ADMIN"]).collect();
    for own in [false, true] {
        let bundle = Bundle::new().user_namespace(200_000).capabilities(&all).without_seccomp().shell(WRITE);
        let bundle = if own { bundle.namespace("cgroup", None) } else { bundle };
        let output = runtime.run(&bundle);
        assert!(!own || output.stdout.contains("remounted"), "the mounts were not even writable: {output}");
        // A runtime that cannot show groups to a user namespace says so.
        if crate::started_or_refused(&output) {
            eprintln!("{}", output.stdout);
            assert_unwritten(&output);
        }
    }
}

/// The test finds what can be written to: with a writable mount and the capability it does.
#[test]
fn groups_given_for_writing_are_found() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new()
        .set("/mounts/4/options", json!(["rw", "nosuid", "noexec", "nodev"]))
        .namespace("cgroup", None)
        .shell(
            "for file in /sys/fs/cgroup/memory/cgroup.procs /sys/fs/cgroup/cgroup.procs; do
            [ -e $file ] || continue
            if (: >> $file); then echo writable; fi
        done",
        );
    assert!(runtime.run(&bundle).ok().stdout.contains("writable"));
}
