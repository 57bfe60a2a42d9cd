//! T62: bundles that are malformed or meant to harm. Each is refused before anything is made, with the place in the
//! document and the reason; what a command has left half made can be deleted.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use oci_tests::{Bundle, Canary, Environment, Output, Runtime};
use rustix::fs::{FileType, Mode};
use serde_json::{Value, json};

/// Calls by which a runtime changes anything: its state, groups, mounts, namespaces, or processes. A mount that is never
/// attached, such as the one it executes itself from, is nothing anybody sees.
const CHANGES: &str = "mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,symlink,symlinkat,mknod,mknodat,\
mount,umount2,move_mount,fsopen,fsmount,pivot_root,chroot,clone,clone3,fork,vfork,unshare,setns,bind";

/// A runtime whose changes are written down.
struct Watched {
    runtime: Runtime,
    trace: tempfile::NamedTempFile,
}

impl Watched {
    fn new() -> Self {
        let trace = tempfile::NamedTempFile::new().expect("a file for the trace");
        let file = trace.path().to_str().expect("a UTF-8 path").to_owned();
        // A bound on memory, which documents of any size must not exhaust.
        let words = [
            "prlimit",
            "--data=536870912",
            "strace",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-e",
            "signal=none",
            "-o",
            &file,
            "-e",
        ];
        let changes = format!("trace={CHANGES}");
        Self { runtime: Runtime::new().wrapped(words.into_iter().chain([&*changes])), trace }
    }

    /// The bundle, whose configuration is written, is refused, and nothing was made meanwhile.
    #[track_caller]
    fn refuses_written(&self, bundle: &Bundle, verb: &str) -> Output {
        let refused = self.runtime.finish(self.runtime.command_on(verb, bundle, &[])).refused();
        let trace = fs::read_to_string(self.trace.path()).expect("the trace");
        // Killed by a signal or refused by strace itself is not refused.
        assert!(!refused.stderr.contains("strace:"), "{refused}");
        assert_eq!(trace, "", "something was made before {refused}");
        assert!(refused.stderr.lines().count() == 1, "more or less than a sentence: {refused}");
        refused
    }

    /// What is wrong with the message about the bundle, which is refused.
    #[track_caller]
    fn fault(&self, bundle: &Bundle, verb: &str, place: &str) -> Option<String> {
        self.runtime.prepare(bundle);
        let refused = self.refuses_written(bundle, verb);
        let named = format!("config.json: {place}");
        let Some(at) = refused.stderr.find(&named) else { return Some(format!("{place} is not named: {refused}")) };
        let reason = refused.stderr[at + named.len()..].trim_start_matches([':', ' ']);
        (reason.len() < 10).then(|| format!("no reason: {refused}"))
    }

    #[track_caller]
    fn refuses(&self, bundle: &Bundle, place: &str) {
        for verb in ["create", "run"] {
            assert_eq!(self.fault(bundle, verb, place), None);
        }
    }
}

/// JSON pointer, value, and the place the message names.
fn wrong_values() -> Vec<(&'static str, Value, &'static str)> {
    let mount = |target: &str, kind: &str| json!({ "destination": target, "type": kind, "source": kind });
    let hook = |path: &str| json!([{ "path": path }]);
    let map = |pairs: &[(u64, u64, u64)]| {
        let entry = |(inside, outside, size): &(u64, u64, u64)| json!({ "containerID": inside, "hostID": outside, "size": size });
        pairs.iter().map(entry).collect::<Value>()
    };
    let limit = |kind: &str, soft: Value, hard: Value| json!([{ "type": kind, "soft": soft, "hard": hard }]);
    let rule = |fields: Value| json!([fields]);
    vec![
        // What the kernel shows is mounted over, or reached around.
        ("/mounts/7", mount("/proc/self/attr", "tmpfs"), "mounts[7].destination"),
        ("/mounts/7", mount("/proc/sys", "tmpfs"), "mounts[7].destination"),
        ("/mounts/7", mount("/dev/../proc/./sys/kernel", "tmpfs"), "mounts[7].destination"),
        ("/mounts/7", mount("/proc", "tmpfs"), "mounts[7].type"),
        ("/mounts/7", mount("//proc///", "overlay"), "mounts[7].type"),
        ("/mounts/7", mount("", "tmpfs"), "mounts[7].destination"),
        ("/mounts/7", mount("/a\0b", "tmpfs"), "mounts[7].destination"),
        ("/mounts/7", json!({ "destination": "/x", "options": ["bind"] }), "mounts[7].source"),
        ("/mounts/7", json!({ "destination": "/x" }), "mounts[7].type"),
        ("/mounts/7/destination", json!(7), "mounts[7].destination"),
        // Namespaces that are none.
        ("/linux/namespaces/1/path", json!("/etc/passwd"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/dev/zero"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/proc/self/ns/uts"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/nowhere"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("proc/self/ns/net"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/proc/self/ns/net\0"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/type", json!("galaxy"), "linux.namespaces[1].type"),
        ("/linux/namespaces/1/type", json!("mount"), "linux.namespaces[1].type"),
        ("/linux/namespaces", json!([{ "type": "pid" }, { "type": "uts" }]), "linux.maskedPaths"),
        // Programs that would be run on the host.
        ("/hooks/prestart", hook("bin/true"), "hooks.prestart[0].path"),
        ("/hooks/createRuntime", hook("../bin/true"), "hooks.createRuntime[0].path"),
        ("/hooks/createContainer", hook(""), "hooks.createContainer[0].path"),
        ("/hooks/startContainer", hook("true"), "hooks.startContainer[0].path"),
        ("/hooks/poststart", hook("./true"), "hooks.poststart[0].path"),
        ("/hooks/poststop", hook("~/true"), "hooks.poststop[0].path"),
        ("/hooks/prestart", json!([{ "path": "/bin/true", "timeout": 0 }]), "hooks.prestart[0].timeout"),
        ("/hooks/prestart", json!([{ "path": "/bin/true", "env": ["A=\0"] }]), "hooks.prestart[0].env[0]"),
        // Groups of others.
        ("/linux/cgroupsPath", json!("../.."), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/a/../../b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/a\n/b"), "linux.cgroupsPath"),
        // Users of others.
        ("/linux/uidMappings", map(&[(0, 1000, 1)]), "linux.uidMappings"),
        ("/process/user/uid", json!(4_294_967_295_u64), "process.user.uid"),
        ("/process/user/uid", json!(-1), "process.user.uid"),
        ("/process/user/additionalGids", json!([1, 4_294_967_296_u64]), "process.user.additionalGids[1]"),
        ("/process/user/umask", json!(0o10000), "process.user.umask"),
        // Limits beyond what numbers hold.
        ("/process/rlimits", limit("RLIMIT_NOFILE", json!(2), json!(1)), "process.rlimits[0].soft"),
        ("/process/rlimits", limit("RLIMIT_NOFILE", json!(-1), json!(1)), "process.rlimits[0].soft"),
        ("/process/rlimits", limit("RLIMIT_NOFILE", json!(1), json!(1e20)), "process.rlimits[0].hard"),
        ("/process/rlimits", limit("RLIMIT_EVERYTHING", json!(1), json!(1)), "process.rlimits[0].type"),
        ("/process/oomScoreAdj", json!(-1001), "process.oomScoreAdj"),
        ("/linux/resources/pids", json!({ "limit": "many" }), "linux.resources.pids.limit"),
        ("/linux/resources/cpu", json!({ "cpus": "0-" }), "linux.resources.cpu.cpus"),
        ("/linux/resources/cpu", json!({ "cpus": "1-99999999" }), "linux.resources.cpu.cpus"),
        ("/linux/resources/unified", json!({ "../memory.max": "1" }), "linux.resources.unified"),
        // Programs that are none.
        ("/process", json!(null), "process"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!([""]), "process.args[0]"),
        ("/process/args", json!(["a\0b"]), "process.args[0]"),
        ("/process/args", json!("true"), "process.args"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/env", json!(["A=\0"]), "process.env[0]"),
        ("/process/capabilities/bounding", json!("ALL"), "process.capabilities.bounding"),
        // Filters that filter nothing or too much.
        ("/linux/seccomp/defaultAction", json!("SCMP_ACT_HOPE"), "linux.seccomp.defaultAction"),
        ("/linux/seccomp/defaultAction", json!(null), "linux.seccomp.defaultAction"),
        ("/linux/seccomp/architectures", json!(["SCMP_ARCH_PDP11"]), "linux.seccomp.architectures[0]"),
        (
            "/linux/seccomp/syscalls",
            rule(json!({ "names": ["read"], "action": 7 })),
            "linux.seccomp.syscalls[0].action",
        ),
        (
            "/linux/seccomp/syscalls",
            rule(
                json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }] }),
            ),
            "linux.seccomp.syscalls[0].args[0].index",
        ),
        // Settings of the host.
        ("/linux/sysctl", json!({ "kernel.core_pattern": "|/x" }), "linux.sysctl"),
        ("/linux/sysctl", json!({ "net/../kernel/core_pattern": "|/x" }), "linux.sysctl"),
        ("/hostname", json!("a".repeat(65)), "hostname"),
        ("/hostname", json!("a\nb"), "hostname"),
        // Paths that are none.
        ("/root/path", json!(""), "root.path"),
        ("/root/path", json!("nowhere"), "root.path"),
        ("/root/path", json!("config.json"), "root.path"),
        ("/root", json!(null), "root"),
        ("/linux/maskedPaths", json!(["proc/keys"]), "linux.maskedPaths[0]"),
        ("/linux/readonlyPaths", json!(["/a\0"]), "linux.readonlyPaths[0]"),
        ("/linux/devices", json!([{ "path": "dev/x", "type": "c", "major": 1, "minor": 3 }]), "linux.devices[0].path"),
        ("/linux/devices", json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 3 }]), "linux.devices[0].type"),
        ("/linux/rootfsPropagation", json!("everywhere"), "linux.rootfsPropagation"),
        ("/annotations", json!({ "a": 1 }), "annotations.a"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!(null), "ociVersion"),
        ("/linux", json!("x"), "linux"),
        ("/mounts", json!({}), "mounts"),
    ]
}

#[test]
fn wrong_values_are_refused_by_name_before_anything_exists() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let watched = Watched::new();
    let mut faults = Vec::new();
    for (pointer, value, place) in wrong_values() {
        let mut bundle = Bundle::new();
        // One more mount or none where the list is replaced.
        if pointer.starts_with("/mounts/7") {
            bundle = bundle.mount(json!({ "destination": "/x", "type": "tmpfs", "source": "x" }));
        }
        faults.extend(watched.fault(&bundle.set(pointer, value), "create", place));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn mappings_that_overlap_or_overflow_are_refused() {
    let Some(_) = Environment::get() else { return };
    let watched = Watched::new();
    let map = |entries: &[(u64, u64, u64)]| {
        let entry = |(inside, outside, size): &(u64, u64, u64)| json!({ "containerID": inside, "hostID": outside, "size": size });
        entries.iter().map(entry).collect::<Value>()
    };
    for (entries, place) in [
        (&[(0, 1000, 10), (5, 5000, 10)][..], "linux.uidMappings[1]"),
        (&[(0, 1000, 10), (20, 1005, 10)], "linux.uidMappings[1]"),
        (&[(0, 1000, 0)], "linux.uidMappings[0].size"),
        (&[(0, 4_294_967_290, 100)], "linux.uidMappings[0]"),
        (&[(4_294_967_290, 0, 100)], "linux.uidMappings[0]"),
        (&[(0, 1 << 32, 1)], "linux.uidMappings[0].hostID"),
    ] {
        let bundle = Bundle::new().user_namespace(200_000).set("/linux/uidMappings", map(entries));
        watched.refuses(&bundle, place);
    }
}

/// A root that is a link, or whose way goes through one: whoever may write to the bundle could lead it anywhere.
#[test]
fn roots_behind_links_are_refused() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let watched = Watched::new();
    let bundle = Bundle::new();
    symlink(canary.dir(), bundle.dir().join("link")).expect("a link");
    symlink("rootfs", bundle.dir().join("inner")).expect("a link");
    for path in ["link", "link/d", "inner", "inner/bin", "./rootfs/../inner"] {
        watched.refuses(&Bundle::new().set("/root/path", json!(bundle.dir().join(path))), "root.path");
    }
}

/// Documents of any size cost neither memory nor time out of proportion, which the bounds on both show.
#[test]
fn documents_of_any_size_are_refused() {
    let Some(_) = Environment::get() else { return };
    let watched = Watched::new();
    let mount = json!({ "destination": "/m", "type": "tmpfs", "source": "m" });
    watched.refuses(&Bundle::new().set("/mounts", Value::Array(vec![mount; 100_001])), "mounts");
    let rule = |n: u64| json!({ "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": n, "op": "SCMP_CMP_EQ" }] });
    let rules = |count: u64| (0..count).map(rule).collect::<Value>();
    watched.refuses(&Bundle::new().set("/linux/seccomp/syscalls", rules(50_000)), "linux.seccomp");
    // Beyond what is read at all.
    let huge = Bundle::new().set("/linux/seccomp/syscalls", rules(1_000_000));
    watched.runtime.prepare(&huge);
    let refused = watched.refuses_written(&huge, "create");
    assert!(refused.stderr.contains("config.json") && refused.stderr.contains("larger"), "{refused}");
}

#[test]
fn documents_that_are_none_are_refused() {
    let Some(_) = Environment::get() else { return };
    let watched = Watched::new();
    let bundle = Bundle::new();
    watched.runtime.prepare(&bundle);
    let config = bundle.dir().join("config.json");
    let good = fs::read(&config).expect("the configuration");
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
    let cut = &good[..good.len() / 2];
    let doubled = [&good[..], &good[..]].concat();
    for bytes in [
        b"" as &[u8],
        b"{",
        b"null",
        b"[]",
        b"7",
        b"\xff\xfe{}",
        b"{\"process\": \xc3\x28}",
        deep.as_bytes(),
        cut,
        &doubled,
    ] {
        fs::write(&config, bytes).expect("a document");
        for verb in ["create", "run"] {
            let refused = watched.refuses_written(&bundle, verb);
            assert!(refused.stderr.contains("config.json"), "{refused}");
        }
    }
    // What is no file is neither waited for nor read without end.
    fs::remove_file(&config).expect("to remove the document");
    let refused = watched.refuses_written(&bundle, "create");
    assert!(refused.stderr.contains("config.json"), "{refused}");
    for (kind, number) in [(FileType::Fifo, 0), (FileType::CharacterDevice, rustix::fs::makedev(1, 5))] {
        rustix::fs::mknodat(rustix::fs::CWD, &config, kind, Mode::from_raw_mode(0o644), number).expect("a node");
        let refused = watched.refuses_written(&bundle, "create");
        assert!(refused.stderr.contains("config.json"), "{refused}");
        fs::remove_file(&config).expect("to remove the node");
    }
    fs::create_dir(&config).expect("a directory");
    let refused = watched.refuses_written(&bundle, "create");
    assert!(refused.stderr.contains("config.json"), "{refused}");
}

#[test]
fn ids_that_are_paths_are_refused() {
    let Some(_) = Environment::get() else { return };
    let canary = Canary::new();
    let runtime = Runtime::new();
    let bundle = Bundle::new();
    runtime.prepare(&bundle);
    let dir = bundle.dir().to_str().expect("a UTF-8 path");
    let own = canary.dir().display().to_string();
    let long = "x".repeat(10_000);
    for id in ["..", ".", "", "a/b", "../x", "/", &own, "a\nb", "а", &long] {
        for verb in ["create", "run"] {
            let _ = runtime.call(&[verb, "--bundle", dir, id]).refused();
        }
        for verb in ["start", "state", "pause", "exec"] {
            let _ = runtime.call(&[verb, id, "true"]).refused();
        }
        // Even by force nothing is deleted but containers.
        let _ = runtime.call(&["delete", "--force", id]);
    }
    assert_eq!(canary.changes(), Vec::<String>::new());
}

/// A directory with whatever a killed command, a full disk or another version has left.
#[test]
fn what_is_half_made_can_be_deleted() {
    let Some(_) = Environment::get() else { return };
    let _canary = Canary::new();
    let runtime = Runtime::new();
    let records: [Option<&[u8]>; 8] =
        [None, Some(b""), Some(b"{"), Some(b"{}"), Some(b"null"), Some(b"[]"), Some(b"\xff\xff"), Some(b"{\"id\":7}")];
    for record in records {
        let bundle = Bundle::new();
        let dir = runtime.root().join(bundle.id());
        fs::create_dir(&dir).expect("a directory");
        for name in ["state.json.new", "seccomp", "start.sock", "unknown"] {
            fs::write(dir.join(name), "").expect("a file");
        }
        if let Some(record) = record {
            fs::write(dir.join("state.json"), record).expect("a record");
        }
        let state = runtime.call(&["state", bundle.id()]);
        assert!(state.success() || !state.stderr.is_empty(), "{state}");
        runtime.prepare(&bundle);
        let taken = runtime.finish(runtime.command_on("create", &bundle, &[])).refused();
        assert!(taken.stderr.contains("exists"), "{taken}");
        let _ = runtime.call(&["delete", "--force", bundle.id()]).ok();
        assert_eq!(runtime.leftovers(), Vec::<String>::new());
        let _ = runtime.run(&bundle).ok();
    }
}

/// The number in a record may be somebody else's process by now.
#[test]
fn processes_of_others_are_not_killed_for_a_stale_record() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().idle();
    let container = runtime.start(&bundle);
    container.kill();
    // A number comes round again after thousands of processes, never within the clock tick (10 ms)
    // that proc(5) counts start times in.
    std::thread::sleep(std::time::Duration::from_millis(30));
    let mut sleeper = std::process::Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("a process");
    let path = runtime.root().join(bundle.id()).join("state.json");
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("the record")).expect("JSON");
    record["pid"] = json!(sleeper.id());
    fs::write(&path, record.to_string()).expect("the record");
    let status = container.status();
    let killed = runtime.call(&["kill", bundle.id(), "KILL"]);
    let deleted = runtime.call(&["delete", "--force", bundle.id()]);
    let ended = sleeper.try_wait().expect("the state of the process");
    let _ = sleeper.kill();
    let _ = sleeper.wait();
    assert_eq!(ended, None, "a process of the host was killed: {killed}\n{deleted}");
    assert_eq!(status, "stopped");
    assert!(deleted.success() && !killed.success(), "{killed}\n{deleted}");
}
