//! A hand-driven shim: plans as the daemon makes them, over the real protocol and the real binary.
//! Every test owns a temporary directory with a busybox root; a container left over is killed on drop.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::print_stderr, reason = "a skipped test says why")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use launch::*;
use sys::socket::FdSocket;

pub const ALL_CAPS: u64 = 0x1ff_ffff_ffff;
/// Docker's default fourteen.
pub const DEFAULT_CAPS: u64 = 0xa804_25fb;

pub struct Shim {
    pub dir: tempfile::TempDir,
    pub child: std::process::Child,
    pub socket: FdSocket,
    pub events: Vec<Event>,
    seq: u64,
    pub pid: i32,
}

impl Drop for Shim {
    fn drop(&mut self) {
        if self.pid > 0 {
            let _ = sys::process::kill_child(self.pid, 9);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A root with busybox, or nothing where the package is missing or we are not root.
pub fn rootfs(dir: &Path) -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: needs root and the busybox-static package");
        return None;
    }
    let root = dir.join("rootfs");
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in [
        "sh", "echo", "cat", "ls", "sleep", "id", "mount", "head", "tr", "stty", "kill", "readlink", "stat", "true",
        "seq", "hostname", "ps", "wc", "tty", "yes", "grep", "umount", "touch", "ip", "dd", "nc", "ln", "mkdir",
    ] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    Some(root)
}

fn fs(fstype: &str, target: &str, attrs: u64, options: &[(&str, &str)]) -> Mount {
    let options = options
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (!value.is_empty()).then(|| (*value).to_owned())))
        .collect();
    let kind = MountKind::Fs { fstype: fstype.to_owned(), source: fstype.to_owned(), options };
    Mount { attrs, ..Mount::new(kind, target) }
}

pub fn process(args: &[&str]) -> Process {
    Process {
        args: args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/bin:/usr/bin".to_vec(), b"HOME=/root".to_vec(), b"BROKEN".to_vec()],
        cwd: "/".to_owned(),
        uid: 0,
        gid: 0,
        groups: vec![0],
        bounding: DEFAULT_CAPS,
        permitted: DEFAULT_CAPS,
        effective: DEFAULT_CAPS,
        no_new_privileges: false,
        seccomp: None,
        rlimits: Vec::new(),
        oom_score_adj: Some(0),
        umask: 0o022,
        ..Process::default()
    }
}

pub const PIPES: IoMode = IoMode::Pipes { stdin: false, stdin_once: false };
pub const PIPES_STDIN: IoMode = IoMode::Pipes { stdin: true, stdin_once: true };
pub const TERMINAL: IoMode = IoMode::Terminal(Terminal { rows: 30, cols: 90, stdin: true, stdin_once: true });

/// Docker's defaults as far as they matter here.
pub fn plan(dir: &Path, root: &Path, io: IoMode, args: &[&str]) -> LaunchPlan {
    let run_dir = dir.join("run");
    std::fs::create_dir_all(&run_dir).unwrap();
    let device =
        |path: &str, major, minor| DeviceNode { path: path.to_owned(), mode: 0o020_666, major, minor, uid: 0, gid: 0 };
    LaunchPlan {
        container_id: "c0ffee".repeat(11)[..64].to_owned(),
        run_dir: run_dir.to_str().unwrap().to_owned(),
        namespaces: NamespaceSet {
            net: NamespaceSource::New,
            pid: NamespaceSource::New,
            ipc: NamespaceSource::New,
            uts: NamespaceSource::New,
            ..NamespaceSet::default()
        },
        rootfs: RootFs::Directory(root.to_str().unwrap().to_owned()),
        mounts: vec![
            fs("proc", "/proc", 0xe, &[]),
            fs("tmpfs", "/dev", 0x22, &[("mode", "755"), ("size", "65536k")]),
            fs("devpts", "/dev/pts", 0xa, &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")]),
            fs("sysfs", "/sys", 0xf, &[]),
            fs("mqueue", "/dev/mqueue", 0xe, &[]),
            fs("tmpfs", "/dev/shm", 0xe, &[("mode", "1777"), ("size", "65536k")]),
        ],
        devices: vec![
            device("/dev/null", 1, 3),
            device("/dev/zero", 1, 5),
            device("/dev/full", 1, 7),
            device("/dev/random", 1, 8),
            device("/dev/urandom", 1, 9),
            device("/dev/tty", 5, 0),
        ],
        masked_paths: ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware", "/proc/nosuch"]
            .map(str::to_owned)
            .to_vec(),
        readonly_paths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
            .map(str::to_owned)
            .to_vec(),
        readonly_rootfs: false,
        sysctls: vec![Sysctl {
            key: "net.ipv4.ip_unprivileged_port_start".to_owned(),
            value: "0".to_owned(),
            optional: true,
        }],
        hostname: "vessel".to_owned(),
        domainname: String::new(),
        cgroup: CgroupHandle::default(),
        process: process(args),
        io,
        log: LogConfig::JsonFile {
            path: dir.join("json.log").to_str().unwrap().to_owned(),
            max_size: 0,
            max_files: 1,
            attrs_json: String::new(),
        },
        init: false,
        ..LaunchPlan::default()
    }
}

impl Shim {
    /// A shim that has been asked for nothing yet.
    pub fn start(dir: tempfile::TempDir) -> Self {
        // Another build of the shim, the static one of a release above all, can be put to the same tests.
        let path = std::env::var_os("DHOW_SHIM_UNDER_TEST");
        let path = path.unwrap_or_else(|| env!("CARGO_BIN_EXE_dhow-shim").into());
        let program = sys::spawn::Program::open(path.as_ref()).unwrap();
        let (ours, theirs) = FdSocket::pair().unwrap();
        let none: [&str; 0] = [];
        let child = program.start(&none, theirs.into()).unwrap();
        Self { dir, child, socket: ours, events: Vec::new(), seq: 0, pid: 0 }
    }

    /// Starts the plan, which must succeed.
    pub fn launch(dir: tempfile::TempDir, plan: &LaunchPlan, fds: &[BorrowedFd<'_>]) -> Self {
        let mut shim = Self::start(dir);
        shim.started(plan, fds);
        shim
    }

    pub fn started(&mut self, plan: &LaunchPlan, fds: &[BorrowedFd<'_>]) {
        match self.try_launch(plan, fds) {
            Response::Started { pid, warnings, .. } => {
                self.pid = pid;
                assert!(warnings.is_empty(), "{warnings:?}");
            }
            other => panic!("not started: {other:?}"),
        }
    }

    pub fn try_launch(&mut self, plan: &LaunchPlan, fds: &[BorrowedFd<'_>]) -> Response {
        let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
        let mut all = vec![memfd.as_fd()];
        all.extend_from_slice(fds);
        self.request(Request::Launch { version: WIRE_VERSION }, &all).0
    }

    pub fn exec(&mut self, id: &str, process: Process, io: IoMode, streams: Streams) -> (Response, Option<UnixStream>) {
        let plan = ExecPlan { exec_id: id.to_owned(), process, io, ..ExecPlan::default() };
        let memfd = sys::memfd::sealed("plan", &plan.encode().unwrap()).unwrap();
        let (response, fd) = self.request(Request::Exec { attach: Some(streams) }, &[memfd.as_fd()]);
        (response, fd.map(UnixStream::from))
    }

    pub fn request(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> (Response, Option<OwnedFd>) {
        self.seq += 1;
        self.socket.send(&RequestFrame { seq: self.seq, request }.encode().unwrap(), fds).unwrap();
        loop {
            match self.next_frame() {
                (ReplyFrame::Response { seq, response }, fd) if seq == self.seq => return (response, fd),
                (ReplyFrame::Event(event), _) => self.events.push(event),
                (other, _) => panic!("unexpected {other:?}"),
            }
        }
    }

    fn next_frame(&mut self) -> (ReplyFrame, Option<OwnedFd>) {
        let mut buffer = vec![0; MAX_MESSAGE];
        let mut got = self.socket.recv(&mut buffer).unwrap();
        assert!(got.len > 0, "the shim has gone");
        (ReplyFrame::decode(&buffer[..got.len]).unwrap(), got.fds.pop())
    }

    pub fn attach(&mut self, stdin: bool) -> UnixStream {
        let streams = Streams { stdin, stdout: true, stderr: true };
        let (response, fd) = self.request(Request::Attach { streams }, &[]);
        assert_eq!(response, Response::Attached);
        UnixStream::from(fd.unwrap())
    }

    pub fn wait_event(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            if let Some(at) = self.events.iter().position(&wanted) {
                return self.events.remove(at);
            }
            match self.next_frame() {
                (ReplyFrame::Event(event), _) => self.events.push(event),
                (other, _) => panic!("unexpected {other:?}"),
            }
        }
    }

    /// Waits for the container's end.
    pub fn wait(&mut self) -> ExitRecord {
        let Event::Exited(record) = self.wait_event(|event| matches!(event, Event::Exited(_))) else { unreachable!() };
        self.pid = 0;
        record
    }

    pub fn forget(&mut self) {
        assert_eq!(self.request(Request::Forget, &[]).0, Response::Done);
        assert!(self.child.wait().unwrap().success());
    }

    /// What the log holds: stream and text of each line, unescaped as far as the tests need.
    pub fn log(&self) -> Vec<(String, String)> {
        let content = std::fs::read_to_string(self.dir.path().join("json.log")).unwrap();
        content
            .lines()
            .map(|line| {
                let rest = line.strip_prefix("{\"log\":\"").unwrap();
                let (text, rest) = rest.split_once("\",\"stream\":\"").unwrap();
                let (stream, rest) = rest.split_once("\",\"time\":\"").unwrap();
                assert!(rest.ends_with("Z\"}"), "{line}");
                (stream.to_owned(), text.replace("\\n", "\n").replace("\\r", "\r"))
            })
            .collect()
    }

    pub fn stdout(&self) -> String {
        self.log().into_iter().filter(|(stream, _)| stream == "stdout").map(|(_, text)| text).collect()
    }
}

/// Runs to the end and gives the log's text and the exit code.
pub fn run(args: &[&str]) -> Option<(String, i32)> {
    run_with(args, |_| {})
}

pub fn run_with(args: &[&str], change: impl FnOnce(&mut LaunchPlan)) -> Option<(String, i32)> {
    let dir = tempfile::tempdir().unwrap();
    let root = rootfs(dir.path())?;
    let mut plan = plan(dir.path(), &root, PIPES, args);
    change(&mut plan);
    let mut shim = Shim::launch(dir, &plan, &[]);
    let record = shim.wait();
    let text: String = shim.log().into_iter().map(|(_, text)| text).collect();
    shim.forget();
    Some((text, record.code))
}

/// Reads a stdcopy stream to its end: standard output and standard error.
pub fn demultiplex(mut stream: UnixStream) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut rest = &bytes[..];
    while let Some((header, tail)) = rest.split_at_checked(8) {
        let len = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
        let (data, tail) = tail.split_at(len);
        match header[0] {
            1 => out.extend_from_slice(data),
            2 => err.extend_from_slice(data),
            other => panic!("stream {other}"),
        }
        rest = tail;
    }
    assert!(rest.is_empty());
    (out, err)
}

/// Reads from a raw stream until `wanted` has come.
pub fn read_until(stream: &mut UnixStream, wanted: &str) -> String {
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let begin = Instant::now();
    while !text.contains(wanted) {
        let len = stream.read(&mut buffer).unwrap_or_else(|e| panic!("{e} after {text:?} ({:?})", begin.elapsed()));
        assert!(len > 0, "end after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..len]));
    }
    text
}

pub fn say(stream: &mut UnixStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}
