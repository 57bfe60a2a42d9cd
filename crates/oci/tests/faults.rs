//! Documents that are wrong in one place each: the message names that place exactly.

mod common;

use oci::{Process, Resources, Spec};
use serde_json::{Value, json};

/// Puts `value` at a JSON pointer, making objects on the way.
fn put(document: &mut Value, pointer: &str, value: Value) {
    let mut place = document;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/");
        place = match place {
            Value::Array(list) => {
                let at: usize = part.parse().unwrap();
                if list.len() == at {
                    list.push(Value::Null);
                }
                &mut list[at]
            }
            other => {
                if other.is_null() {
                    *other = json!({});
                }
                other.as_object_mut().unwrap().entry(part).or_insert(Value::Null)
            }
        };
    }
    *place = value;
}

fn judge(document: &Value) -> Result<Vec<String>, String> {
    let spec = Spec::parse(document.to_string().as_bytes()).map_err(|fault| fault.to_string())?;
    spec.validate().map_err(|fault| fault.to_string())
}

/// Each change alone makes the document wrong at the path.
fn refused(cases: Vec<(&str, Value, &str)>) {
    for (pointer, value, path) in cases {
        let mut document = common::small();
        put(&mut document, pointer, value.clone());
        let said = judge(&document).expect_err(&format!("{pointer} = {value} is taken"));
        assert!(said.starts_with(&format!("config.json: {path}: ")), "{pointer} = {value}: {said}");
        assert!(!said.contains(['\n', '\0']), "{said}");
    }
}

fn warned(cases: Vec<(&str, Value, &str)>) {
    for (pointer, value, path) in cases {
        let mut document = common::small();
        put(&mut document, pointer, value.clone());
        let said = judge(&document).unwrap();
        assert!(said.len() == 1 && said[0].starts_with(&format!("config.json: {path}: ")), "{pointer}: {said:?}");
    }
}

#[test]
fn the_documents_the_cases_start_from_are_right() {
    assert_eq!(judge(&common::small()).unwrap(), [""; 0]);
    assert_eq!(judge(&common::full()).unwrap(), [""; 0]);
}

#[test]
fn version_root_and_names() {
    refused(vec![
        ("/ociVersion", json!(null), "ociVersion"),
        ("/ociVersion", json!("1.0"), "ociVersion"),
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("0.9.0"), "ociVersion"),
        ("/root", json!(null), "root"),
        ("/root", json!({}), "root.path"),
        ("/root/path", json!("root\0fs"), "root.path"),
        ("/hostname", json!("a\0b"), "hostname"),
        ("/hostname", json!("x".repeat(65)), "hostname"),
        ("/domainname", json!("a\nb"), "domainname"),
        ("/annotations", json!({"": "x"}), "annotations"),
    ]);
    warned(vec![("/ociVersion", json!("1.9.0"), "ociVersion")]);
    for name in ["hostname", "domainname"] {
        let mut document = common::small();
        document[name] = json!("box");
        document["linux"]["namespaces"].as_array_mut().unwrap().remove(3);
        assert!(judge(&document).unwrap_err().starts_with(&format!("config.json: {name}: ")));
    }
}

#[test]
fn process() {
    refused(vec![
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(null), "process.args"),
        ("/process/args/0", json!(""), "process.args[0]"),
        ("/process/args/1", json!("a\0"), "process.args[1]"),
        ("/process/cwd", json!("work"), "process.cwd"),
        ("/process/cwd", json!(""), "process.cwd"),
        ("/process/cwd", json!("/a\0"), "process.cwd"),
        ("/process/env/1", json!("A=\0"), "process.env[1]"),
        ("/process/user/uid", json!(u32::MAX), "process.user.uid"),
        ("/process/user/gid", json!(u32::MAX), "process.user.gid"),
        ("/process/user/additionalGids", json!([1, u32::MAX]), "process.user.additionalGids[1]"),
        ("/process/user/additionalGids", json!(vec![1; 65_537]), "process.user.additionalGids"),
        ("/process/user/umask", json!(512), "process.user.umask"),
        ("/process/capabilities", json!({"effective": ["CAP_KILL"]}), "process.capabilities.effective"),
        ("/process/apparmorProfile", json!("a\nb"), "process.apparmorProfile"),
        ("/process/selinuxLabel", json!("a\0b"), "process.selinuxLabel"),
        ("/process/oomScoreAdj", json!(1001), "process.oomScoreAdj"),
        ("/process/oomScoreAdj", json!(-1001), "process.oomScoreAdj"),
    ]);
    warned(vec![
        ("/process/env/1", json!("NAME"), "process.env[1]"),
        ("/process/env/1", json!("=value"), "process.env[1]"),
        ("/process/capabilities", json!({"bounding": ["CAP_KILL", "CAP_FLY"]}), "process.capabilities.bounding[1]"),
        ("/process/capabilities", json!({"effective": ["cap_kill"]}), "process.capabilities.effective[0]"),
        (
            "/process/capabilities",
            json!({"ambient": ["CAP_KILL"], "inheritable": ["CAP_KILL"]}),
            "process.capabilities.ambient",
        ),
    ]);
}

#[test]
fn the_size_of_a_terminal_matters_where_there_is_one() {
    for (size, field) in [(json!({"height": 65_536}), "height"), (json!({"width": 65_536}), "width")] {
        let mut document = common::small();
        document["process"]["consoleSize"] = size;
        assert_eq!(judge(&document).unwrap(), [""; 0]);
        document["process"]["terminal"] = json!(true);
        assert!(judge(&document).unwrap_err().starts_with(&format!("config.json: process.consoleSize.{field}: ")));
    }
}

#[test]
fn rlimits() {
    let limit = |kind: &str, soft: u64, hard: u64| json!({"type": kind, "soft": soft, "hard": hard});
    refused(vec![
        ("/process/rlimits", json!([limit("RLIMIT_CPU", 2, 1)]), "process.rlimits[0].soft"),
        ("/process/rlimits", json!([limit("RLIMIT_CPU", 1, 1), limit("RLIMIT_CPU", 1, 1)]), "process.rlimits[1].type"),
        ("/process/rlimits", json!([limit("RLIMIT_LIFE", 1, 1)]), "process.rlimits[0].type"),
        ("/process/rlimits", json!([{"soft": 1, "hard": 1}]), "process.rlimits[0]"),
        (
            "/process/rlimits",
            json!([limit("RLIMIT_CPU", 1, 1), {"type": "RLIMIT_AS", "soft": -1}]),
            "process.rlimits[1].soft",
        ),
    ]);
}

#[test]
fn scheduling() {
    let policy = |policy: &str, more: Value| {
        let mut scheduler = more;
        scheduler["policy"] = json!(policy);
        scheduler
    };
    let at = "/process/scheduler";
    refused(vec![
        (at, policy("SCHED_TURTLE", json!({})), "process.scheduler.policy"),
        (at, policy("SCHED_ISO", json!({})), "process.scheduler.policy"),
        (at, json!({"nice": 1}), "process.scheduler"),
        (at, policy("SCHED_OTHER", json!({"nice": 20})), "process.scheduler.nice"),
        (at, policy("SCHED_OTHER", json!({"nice": -21})), "process.scheduler.nice"),
        (at, policy("SCHED_FIFO", json!({"priority": 100})), "process.scheduler.priority"),
        (at, policy("SCHED_FIFO", json!({"priority": -1})), "process.scheduler.priority"),
        (at, policy("SCHED_RR", json!({})), "process.scheduler.priority"),
        (at, policy("SCHED_BATCH", json!({"priority": 1})), "process.scheduler.priority"),
        (at, policy("SCHED_OTHER", json!({"runtime": 1024})), "process.scheduler.runtime"),
        (at, policy("SCHED_OTHER", json!({"deadline": 1024})), "process.scheduler.deadline"),
        (at, policy("SCHED_OTHER", json!({"period": 1024})), "process.scheduler.period"),
        (at, policy("SCHED_DEADLINE", json!({"runtime": 1, "deadline": 1024})), "process.scheduler.runtime"),
        (at, policy("SCHED_DEADLINE", json!({"runtime": 2048, "deadline": 1024})), "process.scheduler.runtime"),
        (at, policy("SCHED_DEADLINE", json!({"runtime": 1024})), "process.scheduler.deadline"),
        (
            at,
            policy("SCHED_DEADLINE", json!({"runtime": 1024, "deadline": 4096, "period": 2048})),
            "process.scheduler.deadline",
        ),
        (
            at,
            policy("SCHED_OTHER", json!({"flags": ["SCHED_FLAG_RECLAIM", "SCHED_FLAG_X"]})),
            "process.scheduler.flags[1]",
        ),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 8}), "process.ioPriority.priority"),
        ("/process/ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": -1}), "process.ioPriority.priority"),
        ("/process/ioPriority", json!({"class": "BE"}), "process.ioPriority.class"),
        ("/process/execCPUAffinity", json!({"initial": "0-"}), "process.execCPUAffinity.initial"),
        ("/process/execCPUAffinity", json!({"final": "8192"}), "process.execCPUAffinity.final"),
    ]);
}

#[test]
fn mounts() {
    let mount = |destination: &str, kind: &str| json!([{"destination": destination, "type": kind, "source": "/x"}]);
    let map = json!([{"containerID": 0, "hostID": 1, "size": 1}]);
    let mapped = |name: &str| json!([{"destination": "/a", "type": "bind", "source": "/x", name: map}]);
    refused(vec![
        ("/mounts", mount("", "tmpfs"), "mounts[0].destination"),
        ("/mounts", mount("/a\0", "tmpfs"), "mounts[0].destination"),
        ("/mounts", mount("/a", "tm\0pfs"), "mounts[0].type"),
        ("/mounts", mount("/a", ""), "mounts[0].type"),
        ("/mounts", json!([{"destination": "/a", "type": "bind"}]), "mounts[0].source"),
        ("/mounts", json!([{"destination": "/a", "type": "bind", "source": "\0"}]), "mounts[0].source"),
        ("/mounts", json!([{"destination": "/a", "type": "tmpfs", "options": ["ro", "\0"]}]), "mounts[0].options[1]"),
        ("/mounts", mount("/proc", "tmpfs"), "mounts[0].type"),
        ("/mounts", mount("/x/../proc//", "tmpfs"), "mounts[0].type"),
        ("/mounts", mount("proc", "sysfs"), "mounts[0].type"),
        ("/mounts", mount("/proc/sys", "bind"), "mounts[0].destination"),
        ("/mounts", mount("//proc/./self/attr", "tmpfs"), "mounts[0].destination"),
        ("/mounts", mount("/proc/meminfo/../sys", "bind"), "mounts[0].destination"),
        ("/mounts", json!([{"destination": "/a", "type": "tmpfs", "options": ["idmap"]}]), "mounts[0]"),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "tmpfs", "uidMappings": map, "gidMappings": map}]),
            "mounts[0]",
        ),
        (
            "/mounts",
            json!([{"destination": "/a", "type": "bind", "source": "/x", "options": ["ridmap"]}]),
            "mounts[0].uidMappings",
        ),
        ("/mounts", mapped("uidMappings"), "mounts[0].gidMappings"),
        ("/mounts", mapped("gidMappings"), "mounts[0].uidMappings"),
    ]);
    warned(vec![("/mounts", mount("a/b", "tmpfs"), "mounts[0].destination")]);
    for destination in
        ["/proc", "/proc/meminfo", "/proc/sys/crypto/fips_enabled", "/proc/net//dev", "/process", "/a/proc/b"]
    {
        let mut document = common::small();
        document["mounts"] = mount(destination, "bind");
        assert_eq!(judge(&document).unwrap(), [""; 0], "{destination}");
    }
}

#[test]
fn too_many_mounts() {
    let mut document = common::small();
    document["mounts"] = Value::Array(vec![json!({}); 100_001]);
    let said = judge(&document).unwrap_err();
    assert!(said.starts_with("config.json: mounts: has 100001 entries"), "{said}");
}

#[test]
fn namespaces() {
    refused(vec![
        ("/linux/namespaces/7", json!({"type": "pid"}), "linux.namespaces[7].type"),
        ("/linux/namespaces/7", json!({"type": "space"}), "linux.namespaces[7].type"),
        ("/linux/namespaces/7", json!({"path": "/x"}), "linux.namespaces[7]"),
        ("/linux/namespaces/1/path", json!("proc/1/ns/pid"), "linux.namespaces[1].path"),
        ("/linux/namespaces/1/path", json!("/proc\0"), "linux.namespaces[1].path"),
        ("/linux/timeOffsets", json!({"realtime": {"secs": 1}}), "linux.timeOffsets"),
        ("/linux/timeOffsets", json!({"boottime": {"nanosecs": 1_000_000_000}}), "linux.timeOffsets.boottime.nanosecs"),
    ]);
    for path in [json!(null), json!("/proc/1/ns/time")] {
        let mut document = common::small();
        document["linux"]["timeOffsets"] = json!({"boottime": {"secs": 1}});
        if path.is_null() {
            document["linux"]["namespaces"].as_array_mut().unwrap().pop();
        } else {
            document["linux"]["namespaces"][6]["path"] = path;
        }
        assert!(judge(&document).unwrap_err().starts_with("config.json: linux.timeOffsets: "));
    }
}

#[test]
fn mappings() {
    let one = |container: u32, host: u32, size: u32| json!({"containerID": container, "hostID": host, "size": size});
    let mapped = |uids: Value, gids: Value| {
        let mut document = common::small();
        put(&mut document, "/linux/namespaces/7", json!({"type": "user"}));
        document["linux"]["uidMappings"] = uids;
        document["linux"]["gidMappings"] = gids;
        judge(&document)
    };
    let good = json!([one(0, 1000, 1)]);
    assert!(mapped(good.clone(), good.clone()).is_ok());
    assert!(mapped(json!([one(0, u32::MAX - 1, 1)]), good.clone()).is_ok());
    assert!(mapped(json!([one(0, 0, 10), one(10, 10, 10)]), good.clone()).is_ok());
    let many = |count: u32| Value::Array((0..count).map(|n| one(n, n, 1)).collect());
    assert!(mapped(many(340), good.clone()).is_ok());
    for (uids, path) in [
        (json!([]), "linux.uidMappings"),
        (many(341), "linux.uidMappings"),
        (json!([one(0, 1, 0)]), "linux.uidMappings[0].size"),
        (json!([one(u32::MAX, 1, 1)]), "linux.uidMappings[0].containerID"),
        (json!([one(1, u32::MAX - 1, 2)]), "linux.uidMappings[0].hostID"),
        (json!([one(0, 100, 10), one(9, 300, 1)]), "linux.uidMappings[1]"),
        (json!([one(0, 100, 10), one(20, 109, 1)]), "linux.uidMappings[1]"),
        (json!([one(5, 100, 10), one(0, 300, 100)]), "linux.uidMappings[1]"),
    ] {
        let said = mapped(uids, good.clone()).unwrap_err();
        assert!(said.starts_with(&format!("config.json: {path}: ")), "{said}");
    }
    assert!(mapped(good.clone(), json!(null)).unwrap_err().starts_with("config.json: linux.gidMappings: "));
    let said = mapped(json!([one(0, 100, 10), one(9, 300, 1)]), good.clone()).unwrap_err();
    assert_eq!(
        said,
        "config.json: linux.uidMappings[1]: overlaps linux.uidMappings[0] in the ids of the container; map each id once"
    );

    // Without a user namespace there is nothing to map; one that is joined has a map.
    refused(vec![("/linux/gidMappings", good.clone(), "linux.gidMappings")]);
    let mut joined = common::small();
    put(&mut joined, "/linux/namespaces/7", json!({"type": "user", "path": "/proc/1/ns/user"}));
    assert_eq!(judge(&joined).unwrap(), [""; 0]);
    joined["linux"]["uidMappings"] = good.clone();
    joined["linux"]["gidMappings"] = good.clone();
    joined["process"]["user"]["uid"] = json!(7);
    assert_eq!(judge(&joined).unwrap(), [""; 0]);

    // In a new one the process has ids that are mapped.
    for (field, value, path) in
        [("uid", json!(1), "uid"), ("gid", json!(1), "gid"), ("additionalGids", json!([0, 1]), "additionalGids[1]")]
    {
        let mut document = common::small();
        put(&mut document, "/linux/namespaces/7", json!({"type": "user"}));
        document["linux"]["uidMappings"] = good.clone();
        document["linux"]["gidMappings"] = good.clone();
        document["process"]["user"][field] = value;
        let said = judge(&document).unwrap_err();
        assert!(said.starts_with(&format!("config.json: process.user.{path}: 1 is not mapped by")), "{said}");
    }
}

#[test]
fn sysctls() {
    let bad = |key: &str| (key.to_owned(), "linux.sysctl".to_owned());
    let host = |key: &str| (key.to_owned(), format!("linux.sysctl.{key}"));
    for (key, path) in [
        bad(""),
        bad("net"),
        bad("net."),
        bad(".net"),
        bad("net..ipv4"),
        bad("net/../kernel/core_pattern"),
        bad("net/./x"),
        bad("net.ipv4.conf./../x"),
        bad("net.ipv4/../x"),
        bad("net.x\0"),
        host("kernel.core_pattern"),
        host("kernel/core_pattern"),
        host("fs.file-max"),
        host("fs.mqueuex.y"),
        host("netx.y"),
        host("kernel.shmmaxx"),
        host("vm.overcommit_memory"),
    ] {
        // A name without parts is none of a namespace's, either.
        let path = if key == "net" { "linux.sysctl.net".to_owned() } else { path };
        let mut document = common::small();
        document["linux"]["sysctl"] = json!({key.as_str(): "1"});
        let said = judge(&document).expect_err(&key);
        assert!(said.starts_with(&format!("config.json: {path}: ")), "{key}: {said}");
    }
    refused(vec![
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1\n2"}), "linux.sysctl.net.ipv4.ip_forward"),
        ("/linux/sysctl", json!({"net.ipv4.ip_forward": "1\0"}), "linux.sysctl.net.ipv4.ip_forward"),
    ]);
    for (key, at) in [
        ("kernel.msgmax", 2),
        ("kernel/sem", 2),
        ("fs.mqueue.msg_max", 2),
        ("kernel.domainname", 3),
        ("kernel.hostname", 3),
        ("net.ipv4.conf.eth0/100.rp_filter", 4),
        ("net/ipv4/conf/eth0.100/rp_filter", 4),
    ] {
        let mut document = common::small();
        document["linux"]["sysctl"] = json!({ key: "1" });
        assert_eq!(judge(&document).unwrap(), [""; 0], "{key}");
        document["linux"]["namespaces"].as_array_mut().unwrap().remove(at);
        let said = judge(&document).expect_err(key);
        assert!(said.starts_with(&format!("config.json: linux.sysctl.{key}: ")), "{said}");
    }
    let mut document = common::small();
    document["hostname"] = json!("one");
    document["linux"]["sysctl"] = json!({"kernel.hostname": "two"});
    assert!(judge(&document).unwrap_err().starts_with("config.json: linux.sysctl.kernel.hostname: contradicts"));
    let mut document = common::small();
    document["linux"]["sysctl"] = json!({"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"});
    let said = judge(&document).unwrap_err();
    assert!(said.starts_with("config.json: linux.sysctl.net/ipv4/ip_forward: is the same parameter as"), "{said}");
}

#[test]
fn devices() {
    let device = |more: Value| {
        let mut device = json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3});
        for (name, value) in more.as_object().unwrap() {
            device[name] = value.clone();
        }
        json!([device])
    };
    refused(vec![
        ("/linux/devices", device(json!({"type": "d"})), "linux.devices[0].type"),
        ("/linux/devices", device(json!({"type": null})), "linux.devices[0].type"),
        ("/linux/devices", device(json!({"path": "dev/x"})), "linux.devices[0].path"),
        ("/linux/devices", device(json!({"path": "/dev/\0"})), "linux.devices[0].path"),
        ("/linux/devices", device(json!({"path": "/"})), "linux.devices[0].path"),
        ("/linux/devices", device(json!({"path": "/dev/../x"})), "linux.devices[0].path"),
        ("/linux/devices", device(json!({"major": -1})), "linux.devices[0].major"),
        ("/linux/devices", device(json!({"type": "b", "minor": -1})), "linux.devices[0].minor"),
        ("/linux/devices", device(json!({"major": 4096})), "linux.devices[0].major"),
        ("/linux/devices", device(json!({"minor": 1_048_576})), "linux.devices[0].minor"),
        ("/linux/devices", device(json!({"uid": u32::MAX})), "linux.devices[0].uid"),
        ("/linux/devices", device(json!({"gid": u32::MAX})), "linux.devices[0].gid"),
        ("/linux/resources", json!({"devices": [{"type": "p", "access": "r"}]}), "linux.resources.devices[0].type"),
        ("/linux/resources", json!({"devices": [{"type": "c", "access": "rx"}]}), "linux.resources.devices[0].access"),
        ("/linux/resources", json!({"devices": [{"type": "c", "access": "rr"}]}), "linux.resources.devices[0].access"),
        ("/linux/resources", json!({"devices": [{"type": "c"}]}), "linux.resources.devices[0].access"),
        ("/linux/resources", json!({"devices": [{"major": -2, "access": "r"}]}), "linux.resources.devices[0].major"),
        ("/linux/netDevices", json!({"a b": {}}), "linux.netDevices"),
        ("/linux/netDevices", json!({"eth0": {"name": "a/b"}}), "linux.netDevices.eth0.name"),
        ("/linux/netDevices", json!({"eth0": {"name": "sixteen-letters!"}}), "linux.netDevices.eth0.name"),
        ("/linux/netDevices", json!({"eth0": {"name": "x"}, "eth1": {"name": "x"}}), "linux.netDevices.eth1.name"),
    ]);
    let mut document = common::small();
    document["linux"]["netDevices"] = json!({"eth0": {}});
    document["linux"]["namespaces"].as_array_mut().unwrap().remove(4);
    assert!(judge(&document).unwrap_err().starts_with("config.json: linux.netDevices: "));
}

#[test]
fn hooks() {
    for point in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"] {
        for (hook, field) in [
            (json!({"path": "bin/x"}), "path"),
            (json!({"path": ""}), "path"),
            (json!({"path": "/x", "timeout": 0}), "timeout"),
            (json!({"path": "/x", "timeout": -1}), "timeout"),
            (json!({"path": "/x", "args": ["\0"]}), "args[0]"),
            (json!({"path": "/x", "env": ["a\0"]}), "env[0]"),
        ] {
            let mut document = common::small();
            document["hooks"] = json!({point: [{"path": "/ok"}, hook]});
            let said = judge(&document).unwrap_err();
            assert!(said.starts_with(&format!("config.json: hooks.{point}[1].{field}: ")), "{said}");
        }
    }
}

#[test]
fn linux() {
    let policy = |mode: &str, nodes: &str, flags: &[&str]| json!({"mode": mode, "nodes": nodes, "flags": flags});
    let at = "/linux/memoryPolicy";
    refused(vec![
        ("/linux/cgroupsPath", json!("/a/../b"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/a\0"), "linux.cgroupsPath"),
        ("/linux/cgroupsPath", json!("/a\nb"), "linux.cgroupsPath"),
        ("/linux/rootfsPropagation", json!("sideways"), "linux.rootfsPropagation"),
        ("/linux/maskedPaths", json!(["/a", "b"]), "linux.maskedPaths[1]"),
        ("/linux/readonlyPaths", json!(["/a", "/b\0"]), "linux.readonlyPaths[1]"),
        ("/linux/mountLabel", json!("\0"), "linux.mountLabel"),
        ("/linux/intelRdt", json!({"closID": ".."}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"closID": "a/b"}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"closID": "a\nb"}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"closID": "x".repeat(256)}), "linux.intelRdt.closID"),
        ("/linux/intelRdt", json!({"schemata": ["x", "\0"]}), "linux.intelRdt.schemata[1]"),
        ("/linux/intelRdt", json!({"schemata": ["L3:0=f\nL3:1=f"]}), "linux.intelRdt.schemata[0]"),
        ("/linux/intelRdt", json!({"memBwSchema": "L3:0=f"}), "linux.intelRdt.memBwSchema"),
        ("/linux/intelRdt", json!({"l3CacheSchema": "\0"}), "linux.intelRdt.l3CacheSchema"),
        ("/linux/intelRdt", json!({"memBwSchema": "\0"}), "linux.intelRdt.memBwSchema"),
        ("/linux/personality", json!({"domain": "BSD"}), "linux.personality.domain"),
        (at, policy("MPOL_BEST", "0", &[]), "linux.memoryPolicy.mode"),
        (at, policy("MPOL_BIND", "0", &["MPOL_F_X"]), "linux.memoryPolicy.flags[0]"),
        (at, policy("MPOL_BIND", "a", &[]), "linux.memoryPolicy.nodes"),
        (at, policy("MPOL_BIND", "", &[]), "linux.memoryPolicy.nodes"),
        (at, policy("MPOL_BIND", "1024", &[]), "linux.memoryPolicy.nodes"),
        (at, policy("MPOL_LOCAL", "0", &[]), "linux.memoryPolicy.nodes"),
        (at, policy("MPOL_DEFAULT", "", &["MPOL_F_STATIC_NODES"]), "linux.memoryPolicy.flags"),
        (at, policy("MPOL_BIND", "0", &["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]), "linux.memoryPolicy.flags"),
        (at, policy("MPOL_INTERLEAVE", "0", &["MPOL_F_NUMA_BALANCING"]), "linux.memoryPolicy.flags"),
    ]);
    warned(vec![("/linux/personality", json!({"domain": "LINUX", "flags": ["X"]}), "linux.personality.flags")]);
    // The default class of service has a name no directory can have.
    let mut document = common::small();
    document["linux"]["intelRdt"] = json!({"closID": "/", "l3CacheSchema": "L3:0=f\nL3:1=f"});
    assert_eq!(judge(&document).unwrap(), [""; 0]);
    for list in ["maskedPaths", "readonlyPaths"] {
        let mut document = common::small();
        document["linux"][list] = json!(["/a"]);
        assert_eq!(judge(&document).unwrap(), [""; 0]);
        document["linux"]["namespaces"].as_array_mut().unwrap().remove(0);
        assert!(
            judge(&document).unwrap_err().starts_with(&format!("config.json: linux.{list}: would change the host"))
        );
    }
}

#[test]
fn seccomp_filters() {
    let rule = |more: Value| {
        let mut rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"});
        for (name, value) in more.as_object().unwrap() {
            rule[name] = value.clone();
        }
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})
    };
    let profile = |name: &str, value: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", name: value});
    let at = "/linux/seccomp";
    refused(vec![
        (at, json!({}), "linux.seccomp.defaultAction"),
        (at, json!({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}), "linux.seccomp.defaultAction"),
        (at, json!({"defaultAction": "ALLOW"}), "linux.seccomp.defaultAction"),
        (at, json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}), "linux.seccomp.defaultErrnoRet"),
        (at, profile("architectures", json!(["SCMP_ARCH_X86", "VAX"])), "linux.seccomp.architectures[1]"),
        (at, profile("flags", json!(["SECCOMP_FILTER_FLAG_LOG", "X"])), "linux.seccomp.flags[1]"),
        (at, profile("listenerPath", json!("x")), "linux.seccomp.listenerPath"),
        (at, profile("listenerMetadata", json!("x")), "linux.seccomp.listenerPath"),
        (at, rule(json!({"names": []})), "linux.seccomp.syscalls[0]"),
        (at, rule(json!({"errnoRet": 4096})), "linux.seccomp.syscalls[0].errnoRet"),
        (at, rule(json!({"action": "X"})), "linux.seccomp.syscalls[0].action"),
        (at, rule(json!({"action": "SCMP_ACT_NOTIFY"})), "linux.seccomp.syscalls[0].action"),
        (at, rule(json!({"names": [""]})), "linux.seccomp.syscalls[0].names[0]"),
        (at, rule(json!({"args": [{"index": 6, "op": "SCMP_CMP_EQ"}]})), "linux.seccomp.syscalls[0].args[0].index"),
        (at, rule(json!({"args": [{"index": 1, "op": "X"}]})), "linux.seccomp.syscalls[0].args[0].op"),
    ]);
}

/// What would make the process wait for the listener that it is about to hand over.
#[test]
fn seccomp_notifications() {
    for (call, at) in [("sendmsg", "action"), ("write", "names[0]")] {
        let mut document = common::small();
        document["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/listener",
            "syscalls": [{"names": [call], "action": "SCMP_ACT_NOTIFY"}],
        });
        let said = judge(&document).unwrap_err();
        let start = format!("config.json: linux.seccomp.syscalls[0].{at}: SCMP_ACT_NOTIFY cannot be used for");
        assert!(said.starts_with(&start), "{said}");
    }
}

#[test]
fn limits() {
    let block = |name: &str, value: Value| json!({"blockIO": {name: value}});
    for (document, path) in [
        (json!({"memory": {"limit": -2}}), "memory.limit"),
        (json!({"memory": {"reservation": -2}}), "memory.reservation"),
        (json!({"memory": {"swap": -2}}), "memory.swap"),
        (json!({"memory": {"kernel": -2}}), "memory.kernel"),
        (json!({"memory": {"kernelTCP": -2}}), "memory.kernelTCP"),
        (json!({"memory": {"limit": 2, "swap": 1}}), "memory.swap"),
        (json!({"memory": {"swappiness": 101}}), "memory.swappiness"),
        (json!({"memory": {"limit": "1"}}), "memory.limit"),
        (json!({"cpu": {"period": 999}}), "cpu.period"),
        (json!({"cpu": {"period": 1_000_001}}), "cpu.period"),
        (json!({"cpu": {"quota": 999}}), "cpu.quota"),
        (json!({"cpu": {"quota": -2}}), "cpu.quota"),
        (json!({"cpu": {"quota": 1000, "burst": 1001}}), "cpu.burst"),
        (json!({"cpu": {"realtimeRuntime": -2}}), "cpu.realtimeRuntime"),
        (json!({"cpu": {"realtimeRuntime": 2, "realtimePeriod": 1}}), "cpu.realtimeRuntime"),
        (json!({"cpu": {"idle": 2}}), "cpu.idle"),
        (json!({"cpu": {"cpus": "0-"}}), "cpu.cpus"),
        (json!({"cpu": {"mems": "3-1"}}), "cpu.mems"),
        (json!({"cpu": {"cpus": "all"}}), "cpu.cpus"),
        (json!({"cpu": {"mems": "0\n1"}}), "cpu.mems"),
        (block("weight", json!(9)), "blockIO.weight"),
        (block("leafWeight", json!(1001)), "blockIO.leafWeight"),
        (block("weightDevice", json!([{"major": -1}])), "blockIO.weightDevice[0].major"),
        (block("weightDevice", json!([{"major": 8}])), "blockIO.weightDevice[0]"),
        (block("weightDevice", json!([{"weight": 1001}])), "blockIO.weightDevice[0].weight"),
        (block("weightDevice", json!([{"leafWeight": 5}])), "blockIO.weightDevice[0].leafWeight"),
        (block("throttleReadBpsDevice", json!([{"minor": -1}])), "blockIO.throttleReadBpsDevice[0].minor"),
        (block("throttleWriteBpsDevice", json!([{"minor": -1}])), "blockIO.throttleWriteBpsDevice[0].minor"),
        (block("throttleReadIOPSDevice", json!([{"minor": -1}])), "blockIO.throttleReadIOPSDevice[0].minor"),
        (block("throttleWriteIOPSDevice", json!([{"rate": -1}])), "blockIO.throttleWriteIOPSDevice[0].rate"),
        (json!({"hugepageLimits": [{"pageSize": "2MiB", "limit": 1}]}), "hugepageLimits[0].pageSize"),
        (json!({"hugepageLimits": [{"pageSize": "MB"}]}), "hugepageLimits[0].pageSize"),
        (json!({"hugepageLimits": [{"pageSize": "../2MB"}]}), "hugepageLimits[0].pageSize"),
        (json!({"hugepageLimits": [{"pageSize": "2MB"}, {"pageSize": "2MB"}]}), "hugepageLimits[1].pageSize"),
        (json!({"network": {"priorities": [{"name": ""}]}}), "network.priorities[0].name"),
        (json!({"rdma": {"a b": {}}}), "rdma"),
        (json!({"rdma": {"a": {"hcaHandles": -1}}}), "rdma.a.hcaHandles"),
        (json!({"rdma": {"a": {}}}), "rdma.a"),
        (json!({"unified": {"cgroup.procs": "1"}}), "unified.cgroup.procs"),
        (json!({"unified": {"../memory.max": "1"}}), "unified"),
        (json!({"unified": {"": "1"}}), "unified"),
        (json!({"unified": {"memory.max": "\0"}}), "unified.memory.max"),
    ] {
        // In a bundle, and as the document of an update.
        refused(vec![("/linux/resources", document.clone(), &format!("linux.resources.{path}"))]);
        let text = document.to_string();
        let said = match Resources::parse(text.as_bytes()) {
            Err(fault) => fault.to_string(),
            Ok(limits) => limits.validate().unwrap_err().to_string(),
        };
        assert!(said.starts_with(&format!("resources: {path}: ")), "{said}");
    }
    warned(vec![
        ("/linux/resources", json!({"cpu": {"shares": 1}}), "linux.resources.cpu.shares"),
        ("/linux/resources", json!({"cpu": {"shares": 262_145}}), "linux.resources.cpu.shares"),
    ]);
}

#[test]
fn the_process_of_an_exec_is_a_document_of_its_own() {
    let said = Process::parse(br#"{"args": ["sh", 5]}"#).unwrap_err().to_string();
    assert!(said.starts_with("process: args[1]: invalid type: integer `5`, expected a string"), "{said}");
    let mut document = common::small()["process"].clone();
    document["cwd"] = json!("x");
    let said = Process::parse(document.to_string().as_bytes()).unwrap().validate().unwrap_err().to_string();
    assert_eq!(said, "process: cwd: \"x\" is not absolute; begin it with /");
    document["cwd"] = json!("/");
    document["capabilities"] = json!({"bounding": ["CAP_FLY"]});
    let mut process = Process::parse(document.to_string().as_bytes()).unwrap();
    assert!(process.validate().unwrap()[0].starts_with("process: capabilities.bounding[0]: "));
    process.add_capabilities(&["CAP_KILL".to_owned(), "CAP_SWIM".to_owned()]).unwrap();
    assert_eq!(process.unknown_capabilities(), ["CAP_FLY", "CAP_SWIM"]);
    assert_eq!((process.bounding(), process.capabilities().ambient), (1 << 5, 0));
}

#[test]
fn what_is_no_document_is_told_in_one_line() {
    for (text, start) in [
        ("", "config.json: EOF while parsing"),
        ("{", "config.json: EOF while parsing"),
        ("null", "config.json: "),
        ("{} x", "config.json: trailing characters"),
        ("{\"root\": {\"path\": 1}}", "config.json: root.path: invalid type"),
        ("{\"root\": {}, \"root\": {}}", "config.json: "),
        ("{\"linux\": {\"sysctl\": {\"a\\nb\": 1}}}", "config.json: linux.sysctl.a\\nb: invalid type"),
    ] {
        let said = Spec::parse(text.as_bytes()).expect_err(text).to_string();
        assert!(said.starts_with(start) && !said.contains('\n'), "{text}: {said}");
    }
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    assert!(Spec::parse(deep.as_bytes()).unwrap_err().to_string().contains("EOF while parsing"));
    let long = format!("{{\"linux\": {:?}}}", "x".repeat(1_000_000));
    assert!(Spec::parse(long.as_bytes()).unwrap_err().to_string().len() < 500);
    let large = vec![b' '; 16 * 1024 * 1024 + 1];
    assert!(Spec::parse(&large).unwrap_err().to_string().starts_with("config.json: is larger than"));
}
