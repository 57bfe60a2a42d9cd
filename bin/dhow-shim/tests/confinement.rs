//! What a shim is once its container runs: under its filter, without the host's file system, with a second process
//! that makes the processes of execs. Built with debug assertions the shim is killed by any call that is not on its
//! list, so everything it does is done here once more under it.
//! Needs root and `/bin/busybox`; says so and passes where they are missing.

mod common;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use common::*;
use launch::*;
use sys::socket::FdSocket;

const OUTPUT: Streams = Streams { stdin: false, stdout: true, stderr: true };

fn sleeper() -> Option<Shim> {
    let dir = tempfile::tempdir().unwrap();
    let root = rootfs(dir.path())?;
    let plan = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    Some(Shim::launch(dir, &plan, &[]))
}

/// The process execs are born from.
fn zygote(shim: &Shim) -> i32 {
    let path = format!("/proc/{0}/task/{0}/children", shim.child.id());
    let children = std::fs::read_to_string(path).unwrap();
    let comm = |pid: &&str| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "dhow-shim-exec\n");
    // It names itself a moment after it is there.
    for _ in 0..500 {
        if let Some(pid) = children.split_whitespace().find(comm) {
            return pid.parse().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("no zygote among {children}");
}

fn status(pid: i32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_else(|| panic!("no {key} in {text}"));
    line.trim_start_matches(':').trim().to_owned()
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists() && !status(pid, "State").starts_with('Z')
}

fn gone(pid: i32) -> bool {
    (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(5));
        !is_there(pid)
    })
}

fn failed(response: &Response) -> &str {
    match response {
        Response::Failed { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_shim_is_confined_and_its_zygote_is_not() {
    let Some(mut shim) = sleeper() else { return };
    let pid = i32::try_from(shim.child.id()).unwrap();
    assert_eq!((status(pid, "Seccomp"), status(pid, "NoNewPrivs")), ("2".to_owned(), "1".to_owned()));
    assert_eq!(std::fs::read_link(format!("/proc/{pid}/root")).unwrap(), shim.dir.path());
    let zygote = zygote(&shim);
    assert_eq!((status(zygote, "Seccomp"), status(zygote, "NoNewPrivs")), ("0".to_owned(), "0".to_owned()));
    assert_eq!(std::fs::read_link(format!("/proc/{zygote}/root")).unwrap(), Path::new("/"));
    // Neither the container's namespaces nor its groups.
    for name in ["mnt", "net", "pid", "pid_for_children", "ipc", "uts", "cgroup", "user"] {
        let of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(of(zygote), of(pid), "{name}");
        let shared = matches!(name, "cgroup" | "user");
        assert_eq!(of(zygote) == of(shim.pid), shared, "{name}");
    }
    let groups = |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    assert_eq!(groups(zygote), groups(pid));
    // Its socket and the container's pidfd, beside the null device three times.
    let held = |pid: i32| {
        let mut held: Vec<String> = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap().display().to_string())
            .map(|target| target.split(':').next().unwrap().to_owned())
            .collect();
        held.sort();
        held
    };
    assert_eq!(held(zygote), ["/dev/null", "/dev/null", "/dev/null", "anon_inode", "socket"]);
    // An exec leaves nothing behind in it, and is itself as free as ever.
    let (response, stream) =
        shim.exec("e", process(&["grep", "-E", "^(Seccomp|NoNewPrivs):", "/proc/self/status"]), PIPES, OUTPUT);
    let Response::ExecStarted { pid: born } = response else { panic!("{response:?}") };
    assert_ne!(born, zygote);
    let text = String::from_utf8(demultiplex(stream.unwrap()).0).unwrap();
    assert_eq!(text, "NoNewPrivs:\t0\nSeccomp:\t0\n");
    shim.wait_event(|event| matches!(event, Event::ExecExited { code: 0, .. }));
    assert_eq!(held(zygote).len(), 5);
    assert!(gone(born), "the shim reaps it");
}

#[test]
fn a_container_sees_neither_and_cannot_look_into_them() {
    let Some(mut shim) = sleeper() else { return };
    let (response, stream) = shim.exec("ps", process(&["ps", "-o", "comm"]), PIPES, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    let text = String::from_utf8(demultiplex(stream.unwrap()).0).unwrap();
    assert!(!text.contains("dhow") && text.contains("sleep"), "{text}");

    // With the host's processes in sight, and as the same user.
    let dir = tempfile::tempdir().unwrap();
    let root = rootfs(dir.path()).unwrap();
    let mut plan = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    plan.namespaces.pid = NamespaceSource::Host;
    let mut shim = Shim::launch(dir, &plan, &[]);
    let (pid, zygote) = (shim.child.id(), zygote(&shim));
    let script =
        format!("for p in {pid} {zygote}; do for f in fd/0 exe root; do readlink /proc/$p/$f || echo no; done; done");
    let (response, stream) = shim.exec("spy", process(&["sh", "-c", &script]), PIPES, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    assert_eq!(String::from_utf8(demultiplex(stream.unwrap()).0).unwrap(), "no\n".repeat(6));
}

#[test]
fn without_its_zygote_a_shim_says_that_exec_is_not_available() {
    let Some(mut shim) = sleeper() else { return };
    let zygote = zygote(&shim);
    sys::process::kill_child(zygote, 9).unwrap();
    assert!(gone(zygote));
    for number in 0..2 {
        let (response, _) = shim.exec(&format!("e{number}"), process(&["true"]), PIPES, OUTPUT);
        let text = failed(&response);
        assert!(text.starts_with("exec is not available: ") && text.contains("restart the container"), "{text}");
    }
    // Everything else goes on.
    assert_eq!(shim.request(Request::Signal { exec_id: String::new(), signal: 9 }, &[]).0, Response::Done);
    assert_eq!(shim.wait().code, 137);
    shim.forget();
}

#[test]
fn a_zygote_that_hangs_holds_up_nothing_but_execs() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let plan = plan(dir.path(), &root, PIPES_STDIN, &["cat"]);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(true);
    shim.started(&plan, &[]);
    let zygote = zygote(&shim);
    sys::process::kill_child(zygote, 19).unwrap();
    let second = FdSocket::connect(&shim.dir.path().join("run/shim.sock")).unwrap();
    let plan = ExecPlan {
        exec_id: "late".to_owned(),
        process: process(&["sh", "-c", "exit 7"]),
        io: PIPES,
        ..ExecPlan::default()
    };
    let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
    let request = RequestFrame { seq: 1, request: Request::Exec { attach: None } };
    second.send(&request.encode().unwrap(), &[memfd.as_fd()]).unwrap();
    say(&mut client, "still served\n");
    read_until(&mut client, "still served\n");
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!((state.pid, state.execs), (shim.pid, Vec::new()));
    sys::process::kill_child(zygote, 18).unwrap();
    let ended = shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
    assert_eq!(ended, Event::ExecExited { exec_id: "late".to_owned(), code: 7 });
}

#[test]
fn a_zygote_dies_with_its_shim() {
    for stopped in [false, true] {
        let Some(mut shim) = sleeper() else { return };
        let zygote = zygote(&shim);
        if stopped {
            sys::process::kill_child(zygote, 19).unwrap();
        }
        shim.child.kill().unwrap();
        shim.child.wait().unwrap();
        assert!(gone(zygote));
        assert!(is_there(shim.pid));
    }
}

#[test]
fn the_zygote_leaves_when_the_container_does() {
    let Some(mut shim) = sleeper() else { return };
    let zygote = zygote(&shim);
    sys::process::kill_child(shim.pid, 9).unwrap();
    assert_eq!(shim.wait().code, 137);
    assert!(gone(zygote));
    let (response, _) = shim.exec("late", process(&["true"]), PIPES, OUTPUT);
    assert!(failed(&response).contains("not running"), "{response:?}");
    shim.forget();
    // The record has been taken over.
    assert_eq!(std::fs::read(shim.dir.path().join("run/exit")).unwrap(), b"");
}

#[test]
fn no_end_of_many_short_execs_is_lost() {
    let Some(mut shim) = sleeper() else { return };
    let path = shim.dir.path().join("run/shim.sock");
    let socket = FdSocket::connect(&path).unwrap();
    const MANY: u64 = 150;
    for number in 0..MANY {
        let script = format!("exit {}", number % 120);
        let plan = ExecPlan {
            exec_id: format!("e{number}"),
            process: process(&["sh", "-c", &script]),
            io: PIPES,
            ..ExecPlan::default()
        };
        let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
        let request = RequestFrame { seq: number, request: Request::Exec { attach: None } };
        socket.send(&request.encode().unwrap(), &[memfd.as_fd()]).unwrap();
    }
    let (mut started, mut codes) = (0, BTreeMap::new());
    let mut buffer = vec![0; MAX_MESSAGE];
    while started < MANY || codes.len() < MANY as usize {
        let got = socket.recv(&mut buffer).unwrap();
        assert!(got.len > 0, "the shim has gone after {started} starts and {} ends", codes.len());
        match ReplyFrame::decode(&buffer[..got.len]).unwrap() {
            ReplyFrame::Response { response: Response::ExecStarted { .. }, .. } => started += 1,
            ReplyFrame::Event(Event::ExecExited { exec_id, code }) => {
                codes.insert(exec_id, code);
            }
            other => panic!("{other:?}"),
        }
    }
    for number in 0..MANY {
        assert_eq!(codes[&format!("e{number}")], i32::try_from(number % 120).unwrap());
    }
    let (Response::State(state), _) = shim.request(Request::State, &[]) else { panic!() };
    assert_eq!(state.execs, Vec::new());
}

/// A process that holds a user namespace with one id in it.
struct UserNamespace(std::process::Child);

impl UserNamespace {
    fn make() -> Option<Self> {
        let mut child = std::process::Command::new("unshare")
            .args(["--user", "--map-root-user", "sh", "-c", "echo; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = [0u8; 1];
        std::io::Read::read_exact(child.stdout.as_mut()?, &mut line).ok()?;
        Some(Self(child))
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_exec_enters_the_containers_user_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let user = UserNamespace::make().expect("a user namespace can be made");
    let namespace = std::fs::File::open(format!("/proc/{}/ns/user", user.0.id())).unwrap();
    let mut plan = plan(dir.path(), &root, PIPES, &["sleep", "1000"]);
    (plan.namespaces.user, plan.namespaces.cgroup) = (NamespaceSource::Join(0), NamespaceSource::New);
    // A single group is mapped.
    plan.mounts.retain(|mount| mount.target != "/dev/pts");
    plan.process.groups.clear();
    let mut shim = Shim::launch(dir, &plan, &[namespace.as_fd()]);
    let before = zygote(&shim);
    for number in 0..3 {
        let plan = ExecPlan {
            exec_id: format!("e{number}"),
            process: Process { groups: Vec::new(), ..process(&["sh", "-c", "readlink /proc/self/ns/user; exit 6"]) },
            io: PIPES,
            user_namespace: true,
            ..ExecPlan::default()
        };
        let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
        let (response, stream) = shim.request(Request::Exec { attach: Some(OUTPUT) }, &[memfd.as_fd()]);
        assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
        let (out, _) = demultiplex(stream.unwrap().into());
        let there = std::fs::read_link(format!("/proc/{}/ns/user", user.0.id())).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().trim(), there.to_str().unwrap());
        let ended = shim.wait_event(|event| matches!(event, Event::ExecExited { .. }));
        assert_eq!(ended, Event::ExecExited { exec_id: format!("e{number}"), code: 6 });
    }
    // The processes in between have been reaped.
    let path = format!("/proc/{0}/task/{0}/children", shim.child.id());
    let left = || std::fs::read_to_string(&path).unwrap().split_whitespace().count();
    assert!((0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        left() == 2
    }));
    assert_eq!(zygote(&shim), before);
}

/// Everything a shim is asked for in its life, on one container.
#[test]
fn a_life_under_the_filter() {
    let dir = tempfile::tempdir().unwrap();
    let Some(root) = rootfs(dir.path()) else { return };
    let mut plan = plan(dir.path(), &root, PIPES_STDIN, &["sh"]);
    let LogConfig::JsonFile { max_size, max_files, .. } = &mut plan.log else { unreachable!() };
    (*max_size, *max_files) = (50_000, 3);
    let mut shim = Shim::start(dir);
    let mut client = shim.attach(true);
    shim.started(&plan, &[]);
    // More than fits into a pipe, so that it grows, and into three files of the log.
    say(&mut client, "seq 60000; echo all\n");
    read_until(&mut client, "all\n");
    let path = shim.dir.path().join("json.log");
    for name in ["json.log", "json.log.1", "json.log.2"] {
        let len = std::fs::metadata(shim.dir.path().join(name)).unwrap().len();
        assert!((1..60_000).contains(&len), "{name}: {len}");
    }
    assert!(!shim.dir.path().join("json.log.3").exists());
    std::fs::rename(&path, shim.dir.path().join("taken")).unwrap();
    assert_eq!(shim.request(Request::ReopenLog, &[]).0, Response::Done);
    say(&mut client, "echo reopened\n");
    read_until(&mut client, "reopened\n");
    assert!(std::fs::read_to_string(&path).unwrap().contains("reopened"));
    // Clients that come and go, one of them far behind.
    let mut behind = shim.attach(false);
    for _ in 0..20 {
        drop(shim.attach(false));
    }
    say(&mut client, "seq 600000; echo far\n");
    read_until(&mut client, "far\n");
    read_until(&mut behind, "far\n");
    drop(behind);
    // Idle for long enough that memory goes back.
    std::thread::sleep(Duration::from_millis(1500));
    for number in 0..5 {
        let io = if number % 2 == 0 { TERMINAL } else { PIPES };
        let id = format!("e{number}");
        let (response, stream) = shim.exec(&id, process(&["sh", "-c", "stty size; sleep 1000"]), io, OUTPUT);
        assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
        if number % 2 == 0 {
            read_until(&mut stream.unwrap(), "30 90");
            let resized = Request::Resize { exec_id: id.clone(), rows: 7, cols: 8 };
            assert_eq!(shim.request(resized, &[]).0, Response::Done);
        }
        assert_eq!(shim.request(Request::Signal { exec_id: id.clone(), signal: 9 }, &[]).0, Response::Done);
        shim.wait_event(|event| matches!(event, Event::ExecExited { code: 137, .. }));
    }
    let (response, _) = shim.exec("none", process(&["/nowhere"]), PIPES, OUTPUT);
    assert!(matches!(response, Response::Failed { stage: FailureStage::Exec, .. }), "{response:?}");
    // Another daemon.
    let first = std::mem::replace(&mut shim.socket, FdSocket::connect(&shim.dir.path().join("run/shim.sock")).unwrap());
    drop(first);
    let (response, stream) = shim.exec("later", process(&["echo", "later"]), PIPES, OUTPUT);
    assert!(matches!(response, Response::ExecStarted { .. }), "{response:?}");
    assert_eq!(demultiplex(stream.unwrap()).0, b"later\n");
    std::thread::sleep(Duration::from_millis(1500));
    say(&mut client, "exit 9\n");
    assert_eq!(shim.wait().code, 9);
    shim.forget();
}
