//! Control groups, filters, mounts from outside, and clients and requests that misbehave.
//! Needs root and `/bin/busybox`; says so and passes where they are missing.
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

mod common;

use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use common::*;
use launch::*;

/// A v1 group of one test, removed with it.
struct Group(PathBuf);

impl Group {
    fn make(controller: &str) -> Option<Self> {
        let base = Path::new("/sys/fs/cgroup").join(controller);
        if !base.join("cgroup.procs").exists() || base.join("cgroup.controllers").exists() {
            eprintln!("skipped: no v1 hierarchy {controller}");
            return None;
        }
        let suffix = tempfile::Builder::new().prefix("dhow-test-").tempfile().unwrap();
        let path = base.join(suffix.path().file_name().unwrap());
        std::fs::create_dir(&path).unwrap();
        Some(Self(path))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group is busy until its last process has been reaped.
        for _ in 0..200 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        eprintln!("left behind: {}", self.0.display());
    }
}

#[test]
fn v1_groups_are_joined_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let (Some(memory), Some(pids)) = (Group::make("memory"), Group::make("pids")) else { return };
    let groups = [("memory", &memory), ("pids", &pids)];
    for namespace in [NamespaceSource::Host, NamespaceSource::New] {
        let dir = tempfile::tempdir().unwrap();
        let root = rootfs(dir.path()).unwrap_or_else(|| root.clone());
        let script = "cat /proc/self/cgroup; cat /sys/fs/cgroup/pids/cgroup.procs; touch /sys/fs/cgroup/x; mkdir /sys/fs/cgroup/memory/x; grep -c cgroup /proc/mounts";
        let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
        plan.namespaces.cgroup = namespace;
        plan.mounts.push(Mount { attrs: 0xf, ..Mount::new(MountKind::Cgroup, "/sys/fs/cgroup") });
        let mut files = Vec::new();
        for (index, (name, group)) in groups.iter().enumerate() {
            files.push(std::fs::OpenOptions::new().write(true).open(group.0.join("cgroup.procs")).unwrap());
            plan.cgroup.v1_tasks.push(index as u16);
            plan.cgroup.v1_mounts.push((group.0.to_str().unwrap().to_owned(), (*name).to_owned()));
        }
        files.push(std::fs::File::open(memory.0.join("memory.oom_control")).unwrap());
        plan.oom_fd = Some(2);
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let mut shim = Shim::launch(dir, &plan, &fds);
        assert!(!shim.wait().oom_killed);
        let text: String = shim.log().into_iter().map(|(_, text)| text).collect();
        let shown = match namespace {
            NamespaceSource::New => ":pids:/\n".to_owned(),
            _ => format!(":pids:/{}\n", pids.0.file_name().unwrap().to_str().unwrap()),
        };
        assert!(text.contains(&shown), "{text}");
        assert!(text.contains("\n1\n"), "its own pid is in its group: {text}");
        assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
        shim.forget();
    }
}

#[test]
fn a_v2_group_is_entered_by_the_clone_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let unified = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .into_iter()
        .find(|path| Path::new(path).join("cgroup.controllers").exists());
    let Some(unified) = unified else {
        eprintln!("skipped: no v2 hierarchy");
        return;
    };
    let name = format!("dhow-test-v2-{}", std::process::id());
    let group = Group(Path::new(unified).join(name));
    std::fs::create_dir(&group.0).unwrap();
    let script = "grep ^0:: /proc/self/cgroup; cat /sys/fs/cgroup/cgroup.procs; mkdir /sys/fs/cgroup/x";
    let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    plan.namespaces.cgroup = NamespaceSource::New;
    plan.cgroup.v2_dir = Some(0);
    plan.mounts.push(Mount { attrs: 0xf, ..Mount::new(MountKind::Cgroup, "/sys/fs/cgroup") });
    let directory = std::fs::File::open(&group.0).unwrap();
    let mut shim = Shim::launch(dir, &plan, &[directory.as_fd()]);
    shim.wait();
    let text: String = shim.log().into_iter().map(|(_, text)| text).collect();
    assert!(text.contains("0::/\n") && text.contains("\n1\n") && text.contains("Read-only file system"), "{text}");
    shim.forget();
}

#[test]
fn a_kill_for_memory_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let Some(memory) = Group::make("memory") else { return };
    std::fs::write(memory.0.join("memory.limit_in_bytes"), "8388608").unwrap();
    let mut plan = plan(dir.path(), &root, PIPES, &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"]);
    let procs = std::fs::OpenOptions::new().write(true).open(memory.0.join("cgroup.procs")).unwrap();
    let oom = std::fs::File::open(memory.0.join("memory.oom_control")).unwrap();
    plan.cgroup.v1_tasks.push(0);
    plan.oom_fd = Some(1);
    let mut shim = Shim::launch(dir, &plan, &[procs.as_fd(), oom.as_fd()]);
    let record = shim.wait();
    assert_eq!((record.code, record.oom_killed), (137, true));
    shim.forget();
}

#[test]
fn the_filter_is_in_force_with_and_without_new_privileges() {
    // mkdir and mkdirat answer EPERM, everything else passes.
    let program: Vec<u8> = [
        (0x20u16, 0u8, 0u8, 0u32),
        (0x15, 1, 0, 83),
        (0x15, 0, 1, 258),
        (0x06, 0, 0, 0x0005_0001),
        (0x06, 0, 0, 0x7fff_0000),
    ]
    .iter()
    .flat_map(|(code, jt, jf, k)| [&code.to_ne_bytes()[..], &[*jt, *jf], &k.to_ne_bytes()].concat())
    .collect();
    for no_new_privileges in [false, true] {
        for init in [false, true] {
            let script = "mkdir /tmp/x; grep Seccomp: /proc/self/status; grep Seccomp: /proc/1/status";
            let Some((text, _)) = run_with(&["sh", "-c", script], |plan| {
                plan.process.seccomp = Some(program.clone());
                plan.process.no_new_privileges = no_new_privileges;
                plan.init = init;
            }) else {
                return;
            };
            assert!(text.contains("Operation not permitted"), "{text}");
            assert_eq!(text.matches("2\n").count(), 2, "{text}");
        }
    }
}

#[test]
fn mounts_from_outside_keep_to_their_options() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let source = dir.path().join("volume");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("file"), "content\n").unwrap();
    std::os::unix::fs::symlink("../run/stub.conf", root.join("etc/resolv.conf")).unwrap();
    let clone = |path: &Path| sys::mount::clone_tree(rustix::fs::CWD, path, true).unwrap();
    let (volume, again, file) = (clone(&source), clone(&source), clone(&source.join("file")));
    let script = "cat /data/file /etc/resolv.conf /run/stub.conf; touch /data/new && echo written; touch /deep/er/x; echo x > /etc/resolv.conf";
    let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", script]);
    let mount = |index, target: &str, attrs, file| Mount {
        attrs,
        tree_attrs: attrs,
        file,
        ..Mount::new(MountKind::Detached(index), target)
    };
    plan.mounts.push(mount(0, "/data", 0, false));
    plan.mounts.push(mount(1, "/deep/er", 1, false));
    plan.mounts.push(mount(2, "/etc/resolv.conf", 1, true));
    let mut shim = Shim::launch(dir, &plan, &[volume.as_fd(), again.as_fd(), file.as_fd()]);
    shim.wait();
    assert_eq!(shim.stdout(), "content\ncontent\ncontent\nwritten\n");
    let errors: String =
        shim.log().into_iter().filter(|(stream, _)| stream == "stderr").map(|(_, text)| text).collect();
    assert_eq!(errors.matches("Read-only file system").count(), 2, "{errors}");
    assert!(source.join("new").exists());
    shim.forget();
}

#[test]
fn a_detached_overlay_is_a_root() {
    for read_only in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        let (upper, work) = (dir.path().join("upper"), dir.path().join("work"));
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let option = |key: &str, path: &Path| (key.to_owned(), Some(path.to_str().unwrap().to_owned()));
        let options = [option("lowerdir", &root), option("upperdir", &upper), option("workdir", &work)];
        let overlay = sys::mount::new_fs("overlay", "overlay", &options, 0).unwrap();
        let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "pwd; touch /made; ls -d /made /../made"]);
        plan.rootfs = RootFs::Detached(0);
        plan.readonly_rootfs = read_only;
        plan.process.cwd = "/srv/new/dir".to_owned();
        let mut shim = Shim::launch(dir, &plan, &[overlay.as_fd()]);
        drop(overlay);
        shim.wait();
        let made = if read_only { "" } else { "/../made\n/made\n" };
        assert_eq!(shim.stdout(), format!("/srv/new/dir\n{made}"));
        assert_eq!(upper.join("made").exists(), !read_only);
        assert!(!root.join("srv").exists(), "the image is as it was");
        shim.forget();
    }
}

#[test]
fn mounts_over_proc_are_refused_but_for_lxcfs() {
    for (target, allowed) in
        [("/proc/self/attr", false), ("/proc/sys", false), ("/link/1", false), ("/proc/uptime", true)]
    {
        let dir = tempfile::tempdir().unwrap();
        let Some(root) = rootfs(dir.path()) else { return };
        std::os::unix::fs::symlink("/proc", root.join("link")).unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "0 0\n").unwrap();
        let source = if allowed { file } else { root.clone() };
        let source = sys::mount::clone_tree(rustix::fs::CWD, &source, false).unwrap();
        let mut plan = plan(dir.path(), &root, PIPES, &["true"]);
        plan.mounts.push(Mount { file: allowed, ..Mount::new(MountKind::Detached(0), target) });
        let response = Shim::start(dir).try_launch(&plan, &[source.as_fd()]);
        match response {
            Response::Started { .. } => assert!(allowed, "{target}"),
            Response::Failed { detail, .. } => {
                assert!(!allowed && detail.contains("inside /proc"), "{target}: {detail}")
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_client_that_never_reads_loses_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES, &["dd", "if=/dev/zero", "bs=65536", "count=320"]);
    plan.log = LogConfig::None;
    let mut shim = Shim::start(dir);
    let mut stalled = shim.attach(false);
    let reading = shim.attach(false);
    shim.started(&plan, &[]);
    let (out, _) = demultiplex(reading);
    assert_eq!(out.len(), 320 * 65536);
    assert_eq!(shim.wait().code, 0);
    // It gets what was buffered before it was given up, and then the end.
    let mut rest = Vec::new();
    stalled.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < out.len());
    shim.forget();
}

#[test]
fn a_grandchild_that_holds_the_pipe_does_not_hold_the_exit() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES, &["sh", "-c", "sleep 4 & echo out; exit 2"]);
    plan.namespaces.pid = NamespaceSource::Host;
    let mut shim = Shim::launch(dir, &plan, &[]);
    assert_eq!(shim.wait().code, 2);
    assert_eq!(shim.stdout(), "out\n");
    shim.forget();
}

#[test]
fn nonsense_ends_its_connection_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    let path = shim.dir.path().join("run/shim.sock");
    for nonsense in [&b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..], &[0], &[7; 60_000]] {
        let other = sys::socket::FdSocket::connect(&path).unwrap();
        other.send(nonsense, &[]).unwrap();
        assert_eq!(other.recv(&mut [0; 64]).map(|got| got.len).unwrap_or(0), 0);
    }
    let output = Streams { stdin: false, stdout: true, stderr: true };
    assert!(matches!(
        shim.request(Request::Exec { attach: None }, &[]).0,
        Response::Failed { stage: FailureStage::Protocol, .. }
    ));
    assert!(matches!(
        shim.request(Request::Launch { version: 99 }, &[]).0,
        Response::Failed { stage: FailureStage::Protocol, .. }
    ));
    assert!(matches!(
        shim.request(Request::Signal { exec_id: "nosuch".to_owned(), signal: 9 }, &[]).0,
        Response::Failed { stage: FailureStage::NoSuchExec, .. }
    ));
    let (response, stream) = shim.exec("after", process(&["echo", "alive"]), PIPES, output);
    assert!(matches!(response, Response::ExecStarted { .. }));
    assert_eq!(demultiplex(stream.unwrap()).0, b"alive\n");
}

#[test]
fn many_execs_leave_no_descriptor_behind() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let sleeper = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    let mut shim = Shim::launch(dir, &sleeper, &[]);
    let count = |shim: &Shim| std::fs::read_dir(format!("/proc/{}/fd", shim.child.id())).unwrap().count();
    let output = Streams { stdin: true, stdout: true, stderr: true };
    // An answered request shows that the shim has put the launch behind it.
    shim.request(Request::State, &[]);
    let before = count(&shim);
    for round in 0..60 {
        let io = if round % 2 == 0 { PIPES_STDIN } else { TERMINAL };
        let args: &[&str] = if round % 3 == 0 { &["nosuch"] } else { &["true"] };
        let (response, stream) = shim.exec(&format!("e{round}"), process(args), io, output);
        if matches!(response, Response::ExecStarted { .. }) {
            shim.wait_event(|event| matches!(event, Event::ExecExited { code: 0, .. }));
        }
        drop(stream);
    }
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert!(state.execs.is_empty());
    assert_eq!(count(&shim), before);
}
