//! config-linux.md "Control groups": where the group is, its limits on v1 and v2, and its end.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use oci_tests::{Bundle, Environment, Runtime, eventually};
use serde_json::{Value, json};

use crate::{place, refused_for};

fn resources(pointer: &str, value: Value) -> Bundle {
    Bundle::new().idle().set(&format!("/linux/resources/{pointer}"), value)
}

/// Starts the container and looks at one of its control files.
#[track_caller]
fn control(bundle: &Bundle, controller: &str, v1: &str, v2: &str) -> Option<String> {
    let runtime = Runtime::new();
    let container = runtime.start(bundle);
    place::control(container.pid(), controller, v1, v2)
}

#[test]
fn the_group_is_where_the_path_says_and_ends_with_the_container() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let path = format!("/{}/own", runtime.parent_group());
    let bundle = Bundle::new().idle().set("/linux/cgroupsPath", json!(path));
    let container = runtime.create(&bundle);
    let dir = place::group(container.pid(), "pids").expect("a group of the controller pids");
    assert!(dir.ends_with(path.trim_start_matches('/')), "{}", dir.display());
    container.start();
    container.kill();
    assert!(dir.exists(), "the group is there until delete");
    container.delete();
    assert!(!dir.exists(), "the group outlived the container");
}

#[test]
fn a_relative_path_and_none_are_places_too() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let relative =
        Bundle::new().idle().set("/linux/cgroupsPath", json!(format!("{}/relative", runtime.parent_group())));
    let container = runtime.start(&relative);
    assert!(place::group(container.pid(), "pids").expect("a group").exists());
    drop(container);
    let none = Bundle::new().idle().set("/linux/cgroupsPath", json!(null));
    let container = runtime.start(&none);
    let dir = place::group(container.pid(), "pids").expect("a group");
    assert!(dir.ends_with(none.id()), "{}", dir.display());
    drop(container);
    assert!(!dir.exists());
}

#[test]
fn every_process_is_in_the_group() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = Bundle::new().shell("sleep 1000 & sleep 1000 & wait");
    let container = runtime.start(&bundle);
    let dir = place::group(container.pid(), "pids").expect("a group of the controller pids");
    let count = || fs::read_to_string(dir.join("cgroup.procs")).expect("processes").lines().count();
    eventually(30, "three processes", || count() == 3);
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    for path in ["/a/../../b", "..", "/a\nb"] {
        refused_for(runtime.run(&Bundle::new().set("/linux/cgroupsPath", json!(path))), &["cgroupsPath"]);
    }
}

#[test]
fn memory_is_limited() {
    let Some(_) = Environment::get() else { return };
    let limit = resources("memory", json!({ "limit": 67_108_864, "reservation": 33_554_432 }));
    if let Some(text) = control(&limit, "memory", "memory.limit_in_bytes", "memory.max") {
        assert_eq!(text, "67108864");
        let text = control(&limit, "memory", "memory.soft_limit_in_bytes", "memory.low");
        assert_eq!(text.as_deref(), Some("33554432"));
    }
    let unlimited = resources("memory", json!({ "limit": -1 }));
    if let Some(text) = control(&unlimited, "memory", "memory.limit_in_bytes", "memory.max") {
        assert!(text == "max" || text.parse::<u64>().is_ok_and(|limit| limit > 1 << 60), "{text}");
    }
}

/// The limit of memory and swap together, which v2 has as one of swap alone.
#[test]
fn swap_is_limited() {
    let Some(_) = Environment::get() else { return };
    let bundle = resources("memory", json!({ "limit": 67_108_864, "swap": 100_663_296 }));
    let runtime = Runtime::new();
    let container = runtime.start(&bundle);
    let Some(dir) = place::group(container.pid(), "memory") else { return };
    let v1 = fs::read_to_string(dir.join("memory.memsw.limit_in_bytes"));
    let v2 = fs::read_to_string(dir.join("memory.swap.max"));
    match (v1, v2) {
        (Ok(text), _) => assert_eq!(text.trim(), "100663296"),
        (_, Ok(text)) => assert_eq!(text.trim(), "33554432"),
        _ => eprintln!("left out: this kernel does not count swap"),
    }
    drop(container);
    let below = resources("memory", json!({ "limit": 67_108_864, "swap": 1024 }));
    refused_for(runtime.run(&below), &["linux.resources.memory.swap"]);
}

#[test]
fn a_container_over_its_limit_is_killed() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let bundle = resources("memory", json!({ "limit": 16_777_216, "swap": 16_777_216 })).shell("exec tail /dev/zero");
    let output = runtime.run(&bundle);
    assert_eq!(output.code, Some(137), "{output}");
}

#[test]
fn cpu_time_is_limited() {
    let Some(_) = Environment::get() else { return };
    let bundle = resources("cpu", json!({ "quota": 50_000, "period": 100_000, "shares": 512 }));
    let runtime = Runtime::new();
    let container = runtime.start(&bundle);
    let pid = container.pid();
    let Some(quota) = place::control(pid, "cpu", "cpu.cfs_quota_us", "cpu.max") else { return };
    if quota.contains(' ') {
        assert_eq!(quota, "50000 100000");
        let weight: u64 =
            place::control(pid, "cpu", "", "cpu.weight").and_then(|text| text.parse().ok()).expect("a weight");
        assert!((1..100).contains(&weight), "a share of half is below the default: {weight}");
    } else {
        assert_eq!(quota, "50000");
        assert_eq!(place::control(pid, "cpu", "cpu.cfs_period_us", "").as_deref(), Some("100000"));
        assert_eq!(place::control(pid, "cpu", "cpu.shares", "").as_deref(), Some("512"));
    }
}

#[test]
fn cpus_are_chosen() {
    let Some(_) = Environment::get() else { return };
    let bundle = resources("cpu", json!({ "cpus": "0", "mems": "0" }));
    if let Some(text) = control(&bundle, "cpuset", "cpuset.cpus", "cpuset.cpus") {
        assert_eq!(text, "0");
        let runtime = Runtime::new();
        let container = runtime.start(&bundle);
        assert!(container.proc("status").contains("Cpus_allowed_list:\t0\n"));
    }
    refused_for(Runtime::new().run(&resources("cpu", json!({ "cpus": "a-b" }))), &["linux.resources.cpu.cpus"]);
}

#[test]
fn processes_are_counted() {
    let Some(_) = Environment::get() else { return };
    let bundle = resources("pids", json!({ "limit": 4 }));
    if control(&bundle, "pids", "pids.max", "pids.max").is_some_and(|text| text == "4") {
        let bundle = bundle.shell("for i in 1 2 3 4 5 6; do sleep 0.2 & done; wait");
        let output = Runtime::new().run(&bundle);
        assert!(output.stderr.contains("fork"), "more processes than the limit: {output}");
    } else {
        panic!("the limit was not set");
    }
}

#[test]
fn block_devices_are_throttled() {
    let Some(_) = Environment::get() else { return };
    let Some((major, minor)) = disk() else {
        eprintln!("left out: this host has no whole disk to throttle");
        return;
    };
    let rate = json!([{ "major": major, "minor": minor, "rate": 1_048_576 }]);
    let bundle = resources("blockIO", json!({ "throttleReadBpsDevice": rate }));
    let runtime = Runtime::new();
    let container = runtime.start(&bundle);
    let pid = container.pid();
    let text = match place::group(pid, "io") {
        Some(_) if place::is_v2() => place::control(pid, "io", "", "io.max"),
        _ => place::control(pid, "blkio", "blkio.throttle.read_bps_device", ""),
    };
    if let Some(text) = text {
        assert!(text.contains(&format!("{major}:{minor} ")) && text.contains("1048576"), "{text}");
    }
}

fn disk() -> Option<(u32, u32)> {
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|entry| {
        let name = entry.file_name().to_str()?.to_owned();
        if name.starts_with("loop") || name.starts_with("ram") || name.starts_with("zram") {
            return None;
        }
        let numbers = fs::read_to_string(entry.path().join("dev")).ok()?;
        let (major, minor) = numbers.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    })
}

#[test]
fn huge_pages_are_limited() {
    let Some(_) = Environment::get() else { return };
    let size = "2MB";
    let bundle = resources("hugepageLimits", json!([{ "pageSize": size, "limit": 4_194_304 }]));
    let (v1, v2) = ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max");
    let runtime = Runtime::new();
    let probe = Bundle::new().idle();
    let has = {
        let container = runtime.start(&probe);
        let dir = place::group(container.pid(), "hugetlb");
        dir.is_some_and(|dir| dir.join(v1).exists() || dir.join(v2).exists())
    };
    if !has {
        eprintln!("left out: the container's group has no limit of huge pages here");
        return;
    }
    assert_eq!(control(&bundle, "hugetlb", v1, v2).as_deref(), Some("4194304"));
    refused_for(runtime.run(&resources("hugepageLimits", json!([{ "pageSize": "big", "limit": 1 }]))), &["pageSize"]);
}

#[test]
fn unified_limits_are_written_as_they_are() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    if !place::is_v2() {
        // "[…] the runtime MUST generate an error" where there is no v2.
        let _ = runtime.run(&resources("unified", json!({ "memory.high": "1000000" }))).refused();
        return;
    }
    let bundle = resources("unified", json!({ "memory.high": "50331648", "pids.max": "33" }));
    assert_eq!(control(&bundle, "memory", "", "memory.high").as_deref(), Some("50331648"));
    assert_eq!(control(&bundle, "pids", "", "pids.max").as_deref(), Some("33"));
    let _ = runtime.run(&resources("unified", json!({ "nosuch.file": "1" }))).refused();
    let _ = runtime.run(&resources("unified", json!({ "memory.high": "much" }))).refused();
}

#[test]
fn names_that_are_no_control_files_are_refused() {
    let Some(_) = Environment::get() else { return };
    for name in ["../x", "a/b", "", "."] {
        let mut files = serde_json::Map::new();
        files.insert(name.to_owned(), json!("1"));
        refused_for(Runtime::new().run(&resources("unified", Value::Object(files))), &["linux.resources.unified"]);
    }
}

/// What the container made below its group goes with it.
#[test]
fn groups_the_container_made_are_removed_too() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let writable = json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"] });
    let group = if place::is_v2() { "/sys/fs/cgroup/own" } else { "/sys/fs/cgroup/pids/own" };
    let bundle = Bundle::new()
        .namespace("cgroup", None)
        .without_mount("/sys/fs/cgroup")
        .mount(writable)
        .shell(&format!("mkdir {group} && echo made > /made; exec sleep 100000"));
    let container = runtime.start(&bundle);
    eventually(30, "the group", || bundle.path("/made").exists());
    let dir = place::group(container.pid(), "pids").expect("a group");
    assert!(dir.join("own").is_dir());
    let _ = runtime.call(&["delete", "--force", container.id()]).ok();
    assert!(!dir.exists(), "{} is still there", dir.display());
}

/// "Cgroup ownership": on v2, with a namespace of its own and a writable file system, the group is the user's.
#[test]
fn the_group_belongs_to_the_user_who_may_write_to_it() {
    let Some(_) = Environment::get() else { return };
    let mount = |option: &str| json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [option] });
    for (option, uid, expected) in [("rw", 0, 300_000), ("rw", 1000, 301_000), ("ro", 0, 0)] {
        let runtime = Runtime::new();
        let bundle = Bundle::new()
            .user_namespace(300_000)
            .namespace("cgroup", None)
            .user(uid, uid, &[])
            .without_mount("/sys/fs/cgroup")
            .mount(mount(option))
            .idle();
        let container = runtime.start(&bundle);
        let dir = place::group(container.pid(), "pids").expect("a group");
        let expected = if place::is_v2() { expected } else { 0 };
        for file in ["", "cgroup.procs"] {
            assert_eq!(fs::metadata(dir.join(file)).expect("the group").uid(), expected, "{option} {file}");
        }
        if place::is_v2() {
            let limit = fs::metadata(dir.join("pids.max")).expect("the limit").uid();
            assert_eq!(limit, 0, "the container could lift its limits");
            let made = container.shell("mkdir /sys/fs/cgroup/below");
            assert_eq!(made.success(), option == "rw", "{made}");
        }
    }
}

/// A group with processes in it is somebody's: a container that took it would be killed with them.
#[test]
fn a_group_with_processes_is_not_taken() {
    let Some(_) = Environment::get() else { return };
    let runtime = Runtime::new();
    let path = format!("/{}/shared", runtime.parent_group());
    let first = Bundle::new().idle().set("/linux/cgroupsPath", json!(path));
    let second = Bundle::new().idle().set("/linux/cgroupsPath", json!(path));
    let container = runtime.start(&first);
    let _ = runtime
        .finish({
            runtime.prepare(&second);
            runtime.command_on("create", &second, &[])
        })
        .refused();
    assert_eq!(container.status(), "running");
    assert!(Path::new("/proc").join(container.pid().to_string()).exists());
}
