//! Attacks from inside a container, and by what a plan may carry, on the real shim binary: each test is
//! one trick that must not work, and fails when its guard is taken away.
//! Needs root, `/bin/busybox` and a C compiler that links statically; says so and passes where they are missing.

#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::*;
use launch::*;
use rustix::fs::{Mode, OFlags};

const CAP_SYS_PTRACE: u64 = 1 << 19;

/// What busybox cannot do.
const SOURCE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Makes the parent, which is the shim, a tracer, and stops under it. */
static int traceme(void) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0)) return 1;
    raise(SIGURG);
    puts("untouched");
    fflush(stdout);
    sleep(1);
    return 5;
}

/* Gives the shim children it never made. */
static int siblings(int count) {
    sleep(1);
    for (int i = 0; i < count; i++) {
        long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) syscall(SYS_exit_group, 7);
        if (pid < 0) return 1;
    }
    return 3;
}

/* Looks into every process of the container for what came from outside. */
static int spy(void) {
    puts("spying");
    fflush(stdout);
    for (;;)
        for (int pid = 2; pid < 400; pid++)
            for (int fd = 2; fd < 24; fd++) {
                char path[64], target[256];
                if (fd == 2) snprintf(path, sizeof path, "/proc/%d/exe", pid);
                else snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
                ssize_t len = readlink(path, target, sizeof target - 1);
                if (len < 0) { if (fd == 2) break; else continue; }
                target[len] = 0;
                if (strstr(target, "shim") || strstr(target, "socket:") || strstr(target, "memfd:")) {
                    printf("caught %s\n", target);
                    return 9;
                }
            }
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "traceme")) return traceme();
    if (argc > 2 && !strcmp(argv[1], "siblings")) return siblings(atoi(argv[2]));
    if (argc > 1 && !strcmp(argv[1], "spy")) return spy();
    return 99;
}
"#;

/// Puts the program above into the root.
fn arm(root: &Path) -> bool {
    let source = root.join("tmp/attack.c");
    std::fs::write(&source, SOURCE).unwrap();
    let built = std::process::Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(root.join("bin/attack"))
        .arg(&source)
        .stderr(std::process::Stdio::null())
        .status();
    let built = built.is_ok_and(|status| status.success());
    if !built {
        eprintln!("skipped: no C compiler that links statically");
    }
    built
}

const OUTPUT: Streams = Streams { stdin: false, stdout: true, stderr: true };

fn exec_output(shim: &mut Shim, id: &str, process: Process, io: IoMode) -> String {
    let (response, stream) = shim.exec(id, process, io, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    let stream = stream.unwrap();
    let (mut text, error) = if matches!(io, IoMode::Terminal(_)) {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut { stream }, &mut bytes).unwrap();
        (bytes, Vec::new())
    } else {
        demultiplex(stream)
    };
    text.extend(error);
    shim.wait_event(|event| matches!(event, Event::ExecExited { exec_id, .. } if exec_id == id));
    String::from_utf8(text).unwrap()
}

#[test]
fn a_traced_stop_does_not_pass_for_the_end() {
    for init in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        if !arm(&root) {
            return;
        }
        let mut plan = plan(dir.path(), &root, PIPES, &["/bin/attack", "traceme"]);
        plan.init = init;
        let mut shim = Shim::launch(dir, &plan, &[]);
        assert_eq!(shim.wait().code, 5);
        assert_eq!(shim.stdout(), "untouched\n");
        shim.forget();
    }
}

#[test]
fn an_execs_traced_stop_does_not_pass_for_its_end_either() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    if !arm(&root) {
        return;
    }
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    let (response, stream) = shim.exec("traced", process(&["/bin/attack", "traceme"]), PIPES, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }));
    let ended = shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
    assert_eq!(ended, Event::ExecExited { exec_id: "traced".to_owned(), code: 5 });
    assert_eq!(demultiplex(stream.unwrap()).0, b"untouched\n");
}

#[test]
fn children_foisted_on_the_shim_are_reaped_and_mean_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    if !arm(&root) {
        return;
    }
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    let path = format!("/proc/{0}/task/{0}/children", shim.child.id());
    let (response, _stream) = shim.exec("bomb", process(&["/bin/attack", "siblings", "3000"]), PIPES, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }));
    // All of them at once, so that more are there than are taken in one go.
    let shim_pid = i32::try_from(shim.child.id()).unwrap();
    sys::process::kill_child(shim_pid, 19).unwrap();
    for _ in 0..500 {
        std::thread::sleep(std::time::Duration::from_millis(10));
        if std::fs::read_to_string(&path).unwrap().split_whitespace().count() > 3000 {
            break;
        }
    }
    sys::process::kill_child(shim_pid, 18).unwrap();
    let ended = shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
    assert_eq!(ended, Event::ExecExited { exec_id: "bomb".to_owned(), code: 3 });
    // The last of them may end after their maker.
    let mut children = String::new();
    for _ in 0..200 {
        children = std::fs::read_to_string(&path).unwrap();
        if children.split_whitespace().count() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let left: Vec<&str> = children.split_whitespace().collect();
    assert_eq!(left.len(), 2, "only the container and what makes execs are left");
    assert!(left.contains(&shim.pid.to_string().as_str()));
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!((state.pid, state.exit), (shim.pid, None));
}

#[test]
fn nothing_of_the_host_shows_in_a_process_on_its_way_in() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    if !arm(&root) {
        return;
    }
    let spy = plan(dir.path(), &root, PIPES, &["/bin/attack", "spy"]);
    let mut shim = Shim::launch(dir, &spy, &[]);
    for round in 0..100 {
        let io = if round % 4 == 0 { TERMINAL } else { PIPES };
        let (response, _) = shim.exec(&format!("e{round}"), process(&["true"]), io, OUTPUT);
        if !matches!(response, Response::ExecStarted { .. }) {
            break;
        }
    }
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!(shim.stdout(), "spying\n");
    assert_eq!(state.exit, None);
}

#[test]
fn standard_input_is_not_the_hosts_null_device() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let host = std::fs::metadata("/dev/null").unwrap();
    let identity = format!("{}:{}", host.dev(), host.ino());
    let script = "stat -L -c %d:%i /proc/self/fd/0; readlink /proc/self/fd/0; cat; echo x >/proc/self/fd/0; sleep 1000";
    let first = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(false);
    shim.started(&first, &[]);
    let text = read_until(&mut client, "/dev/null\n");
    assert!(text.contains(':') && !text.contains(&identity), "{text}");
    let process = process(&["stat", "-L", "-c", "%d:%i", "/proc/self/fd/0"]);
    let text = exec_output(&mut shim, "second", process, PIPES);
    assert!(text.contains(':') && !text.contains(&identity), "{text}");
    // Nobody reads the output of this one, so that it goes to a null device too.
    let plan = ExecPlan {
        exec_id: "third".to_owned(),
        process: common::process(&["sh", "-c", "stat -L -c %d:%i /proc/self/fd/1 /proc/self/fd/2 > /tmp/third"]),
        io: PIPES,
        ..ExecPlan::default()
    };
    let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
    assert!(matches!(shim.request(Request::Exec { attach: None }, &[memfd.as_fd()]).0, Response::ExecStarted { .. }));
    shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
    let text = std::fs::read_to_string(shim.dir.path().join("rootfs/tmp/third")).unwrap();
    assert!(text.contains(':') && !text.contains(&identity), "{text}");
}

#[test]
fn the_program_starts_only_when_init_has_nothing_left_to_take() {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Work for the processors, so that init is often late.
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let mut failure = None;
        for _ in 0..40 {
            let caps = DEFAULT_CAPS | CAP_SYS_PTRACE;
            let outcome = run_with(&["sh", "-c", "ls /proc/1/fd; grep CapEff /proc/1/status"], |plan| {
                plan.init = true;
                plan.process.bounding = caps;
                plan.process.permitted = caps;
                plan.process.effective = caps;
            });
            let Some((text, _)) = outcome else { break };
            if text != format!("CapEff:\\u0009{caps:016x}\n") {
                failure = Some(text);
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failure, None);
    });
}

#[test]
fn the_binary_behind_init_can_be_neither_seen_nor_written() {
    for (caps, answer) in
        [(DEFAULT_CAPS, "Permission denied"), (DEFAULT_CAPS | CAP_SYS_PTRACE, "Read-only file system")]
    {
        let Some((text, _)) = run_with(&["sh", "-c", "echo x > /proc/1/exe"], |plan| {
            plan.init = true;
            plan.process.bounding = caps;
            plan.process.permitted = caps;
            plan.process.effective = caps;
        }) else {
            return;
        };
        assert!(text.contains(answer), "{text}");
    }
}

#[test]
fn a_bounding_set_that_cannot_be_shrunk_is_not_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES, &["grep", "CapBnd", "/proc/self/status"]);
    // prctl(PR_CAPBSET_READ) and prctl(PR_CAPBSET_DROP) answer EPERM, everything else passes.
    let filter: Vec<u8> = [
        (0x20u16, 0u8, 0u8, 0u32),
        (0x15, 0, 4, 157),
        (0x20, 0, 0, 16),
        (0x15, 1, 0, 23),
        (0x15, 0, 1, 24),
        (0x06, 0, 0, 0x0005_0001),
        (0x06, 0, 0, 0x7fff_0000),
    ]
    .iter()
    .flat_map(|(code, jt, jf, k)| [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()].concat())
    .collect();
    plan.process.seccomp = Some(filter);
    let response = Shim::start(dir).try_launch(&plan, &[]);
    assert!(matches!(response, Response::Failed { stage: FailureStage::Capability, .. }), "{response:?}");
}

#[test]
fn nothing_of_the_host_is_set_through_a_plan() {
    let own = std::fs::File::open("/proc/self/ns/net").unwrap();
    let current = |key: &str| std::fs::read_to_string(Path::new("/proc/sys").join(key)).unwrap().trim().to_owned();
    let port = "net/ipv4/ip_unprivileged_port_start";
    // Every value is the one there is, so that nothing changes even if a guard fails.
    let cases: [(&str, NamespaceSource, NamespaceSource); 6] = [
        (port, NamespaceSource::Host, NamespaceSource::New),
        (port, NamespaceSource::Join(0), NamespaceSource::New),
        ("kernel/shmmni", NamespaceSource::New, NamespaceSource::Host),
        ("kernel/pid_max", NamespaceSource::New, NamespaceSource::New),
        ("vm/swappiness", NamespaceSource::New, NamespaceSource::New),
        ("hostname", NamespaceSource::New, NamespaceSource::New),
    ];
    for (key, net, ipc) in cases {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        let mut plan = plan(dir.path(), &root, PIPES, &["true"]);
        (plan.namespaces.net, plan.namespaces.ipc) = (net, ipc);
        plan.sysctls.clear();
        let stage = if key == "hostname" {
            plan.namespaces.uts = NamespaceSource::Host;
            plan.hostname = current("kernel/hostname");
            FailureStage::Hostname
        } else {
            plan.sysctls.push(Sysctl { key: key.to_owned(), value: current(key), optional: false });
            FailureStage::Sysctl
        };
        match Shim::start(dir).try_launch(&plan, &[own.as_fd()]) {
            Response::Failed { stage: failed, detail, .. } => assert_eq!(failed, stage, "{key}: {detail}"),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn the_score_for_a_lack_of_memory_is_not_inherited() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "cat /proc/self/oom_score_adj; sleep 1000"]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(false);
    std::fs::write(format!("/proc/{}/oom_score_adj", shim.child.id()), "500").unwrap();
    shim.started(&plan, &[]);
    let text = read_until(&mut client, "\n");
    assert_eq!(&text[8..], "0\n");
    let text = exec_output(&mut shim, "second", process(&["cat", "/proc/self/oom_score_adj"]), PIPES);
    assert_eq!(text, "0\n");
}

#[test]
fn no_descriptor_comes_along() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    // The last is that of the listing itself.
    let first = plan(dir.path(), &root, PIPES, &["sh", "-c", "ls /proc/self/fd; sleep 1000"]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(false);
    shim.started(&first, &[]);
    assert_eq!(&read_until(&mut client, "3\n")[8..], "0\n1\n2\n3\n");
    for (id, io) in [("pipes", PIPES_STDIN), ("terminal", TERMINAL)] {
        let text = exec_output(&mut shim, id, process(&["ls", "-1", "/proc/self/fd"]), io);
        assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    }
}

#[test]
fn no_descriptor_is_a_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    // A directory of the host among the descriptors of the plan, as a control group's is.
    let host = rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    for number in 3..40 {
        let mut plan = ExecPlan {
            exec_id: format!("e{number}"),
            process: process(&["ls", "../etc"]),
            io: PIPES,
            ..ExecPlan::default()
        };
        plan.process.cwd = format!("/proc/self/fd/{number}");
        let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
        let (response, _) =
            shim.request(Request::Exec { attach: Some(OUTPUT) }, &[memfd.as_fd(), host.as_fd(), host.as_fd()]);
        // A descriptor of the container's own root may be entered, from where `..` stays inside.
        match response {
            Response::Failed { stage: FailureStage::Cwd, .. } => {}
            other => panic!("{number}: {other:?}"),
        }
    }
}

#[test]
fn a_link_swapped_in_for_proc_never_gets_the_mount() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    std::fs::create_dir(root.join("tmp/fake")).unwrap();
    std::os::unix::fs::symlink("/tmp/fake", root.join("link")).unwrap();
    let stop = AtomicBool::new(false);
    let here = rustix::fs::open(&root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = rustix::fs::renameat_with(&here, "proc", &here, "link", rustix::fs::RenameFlags::EXCHANGE);
            }
        });
        let mut failure = None;
        let mut started = 0;
        for _ in 0..80 {
            let own = tempfile::tempdir().unwrap();
            let mut plan = plan(own.path(), &root, PIPES, &["true"]);
            plan.process.args[0] = b"sleep".to_vec();
            plan.process.args.push(b"1000".to_vec());
            plan.mounts.truncate(1);
            plan.devices.clear();
            plan.masked_paths.clear();
            plan.readonly_paths.clear();
            let mut shim = Shim::start(own);
            match shim.try_launch(&plan, &[]) {
                Response::Started { pid, .. } => {
                    shim.pid = pid;
                    started += 1;
                    let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
                    if mounts.contains("/tmp/fake") {
                        failure = Some(mounts);
                    }
                }
                Response::Failed { stage: FailureStage::Mount, .. } => {}
                other => failure = Some(format!("{other:?}")),
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failure, None);
        assert!(started > 0, "the race is won at times");
    });
}

#[test]
fn floods_of_output_cost_the_shim_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let script = "yes '' | head -n 1000000; dd if=/dev/zero bs=1M count=16 2>/dev/null; yes x | head -n 100000 >&2";
    let plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    let mut shim = Shim::launch(dir, &plan, &[]);
    assert_eq!(shim.wait().code, 0);
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 16 * 1024, "{peak} KiB");
    let log = std::fs::read(shim.dir.path().join("json.log")).unwrap();
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, 1_000_000 + 1024 + 100_000);
    shim.forget();
}

#[test]
fn an_idle_container_holds_no_more_of_the_pipe_allowance_than_any_program() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let shim = Shim::launch(dir, &sleeper, &[]);
    let path = format!("/proc/{}/fd/1", shim.pid);
    let pipe = rustix::fs::open(path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).unwrap();
    assert!(rustix::pipe::fcntl_getpipe_size(&pipe).unwrap() <= 64 * 1024);
}

#[test]
fn answers_fit_into_a_message_whatever_a_plan_says() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut long = plan(dir.path(), &root, PIPES, &["true"]);
    let LogConfig::JsonFile { path, .. } = &mut long.log else { panic!() };
    *path = format!("/{}", "x".repeat(2 * MAX_MESSAGE));
    let response = Shim::start(dir).try_launch(&long, &[]);
    assert!(matches!(response, Response::Failed { stage: FailureStage::Log, .. }), "{response:?}");
}

/// Gives the options of the v2 hierarchy back as they were.
struct Delegation;

impl Drop for Delegation {
    fn drop(&mut self) {
        // A mount without options, from the host's namespace, clears them.
        let _ = sys::mount::new_fs("cgroup2", "cgroup2", &[], 0);
    }
}

#[test]
#[ignore = "changes an option of the host's v2 hierarchy for a moment"]
fn the_hosts_v2_hierarchy_keeps_its_options() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| Path::new(path).join("cgroup.controllers").exists());
    let Some(unified) = unified else { return };
    let delegates = || {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        mounts.lines().any(|line| line.starts_with("cgroup2 ") && line.contains("nsdelegate"))
    };
    let _back = (!delegates()).then_some(Delegation);
    assert!(
        std::process::Command::new("mount").args(["-o", "remount,nsdelegate", unified]).status().unwrap().success()
    );
    let directory = std::fs::File::open(unified).unwrap();
    let mut plan =
        plan(dir.path(), &root, PIPES, &["sh", "-c", "cat /sys/fs/cgroup/cgroup.controllers; mkdir /sys/fs/cgroup/x"]);
    plan.cgroup.v2_dir = Some(0);
    plan.mounts.push(Mount { attrs: 0xf, ..Mount::new(MountKind::Cgroup, "/sys/fs/cgroup") });
    let mut shim = Shim::launch(dir, &plan, &[directory.as_fd()]);
    shim.wait();
    let text: String = shim.log().into_iter().map(|(_, text)| text).collect();
    assert!(text.contains("Read-only file system"), "{text}");
    assert!(delegates());
}
