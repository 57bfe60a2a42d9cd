//! Pure v2 against the kernel: needs root on a host with v2 alone, such as the virtual machines of the
//! release tests.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use cgroup::{
    Access, Cgroup, DeviceKind, DeviceRule, Error, Existing, FreezerState, HugepageLimit, Resources, ThrottleDevice,
};
use common::{Inmate, Nest};

#[test]
fn life_of_a_group() {
    let Some(nest) = Nest::new(2) else { return };
    let group = Cgroup::at(&nest.hierarchy, &format!("{}/pod.slice/a:b@c", nest.parent)).unwrap();
    let made = group.make(Existing::Empty).unwrap();
    assert_eq!(made.dirs().len(), 3);
    let controllers = nest.read("", "pod.slice", "a:b@c/cgroup.controllers");
    let offered = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    assert_eq!(controllers, offered.trim(), "every controller was handed down");
    assert!(group.tasks_fds().unwrap().is_empty());
    let mut inmate = Inmate::start(&group, "exec sleep 1000");
    let pid = i32::try_from(inmate.0.id()).unwrap();
    assert_eq!(group.pids().unwrap(), [pid]);
    assert_eq!(Cgroup::of_process(&nest.hierarchy, pid).unwrap(), group);
    assert_eq!(Cgroup::from_paths(&nest.hierarchy, &group.paths()).unwrap(), group);
    let error = group.make(Existing::Empty).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup is not empty: 1 process(es)"), "{error}");
    group.freeze().unwrap();
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Frozen);
    let busy = Cgroup::at(&nest.hierarchy, &format!("{}/other", nest.parent)).unwrap();
    let _ = busy.make(Existing::Empty).unwrap();
    busy.add_process(pid).unwrap();
    assert_eq!(group.pids().unwrap(), [0; 0]);
    assert!(matches!(group.make(Existing::Empty), Err(Error::Frozen { .. })));
    group.thaw().unwrap();
    group.add_process(pid).unwrap();
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(9), "frozen processes are killed too");
    made.undo();
    assert!(!group.exists());
}

#[test]
fn limits_arrive() {
    let Some(nest) = Nest::new(2) else { return };
    let group = nest.group("l");
    let read = |name: &str| nest.read("", "l", name);
    group
        .apply(&Resources {
            memory: Some(64 << 20),
            memory_swap: Some(96 << 20),
            memory_reservation: Some(16 << 20),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpu_burst: Some(20_000),
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0".into()),
            pids_limit: Some(20),
            unified: vec![("memory.high".into(), "50331648".into()), ("cgroup.max.depth".into(), "4".into())],
            ..Resources::default()
        })
        .unwrap();
    assert_eq!((read("memory.max"), read("memory.low")), ((64 << 20).to_string(), (16 << 20).to_string()));
    if nest.file("", "l", "memory.swap.max").exists() {
        assert_eq!(read("memory.swap.max"), (32 << 20).to_string());
    }
    assert_eq!(
        (read("cpu.weight"), read("cpu.max"), read("cpu.max.burst")),
        ("100".into(), "50000 100000".into(), "20000".into())
    );
    assert_eq!(
        (read("cpuset.cpus"), read("pids.max"), read("memory.high")),
        ("0".into(), "20".into(), "50331648".into())
    );
    assert_eq!(read("cgroup.max.depth"), "4");
    // The burst must fit the quota before and after.
    group.apply(&Resources { cpu_quota: Some(10_000), cpu_burst: Some(5_000), ..Resources::default() }).unwrap();
    assert_eq!((read("cpu.max"), read("cpu.max.burst")), ("10000 100000".into(), "5000".into()));
    group
        .apply(&Resources { memory: Some(-1), pids_limit: Some(-1), cpu_quota: Some(-1), ..Resources::default() })
        .unwrap();
    assert_eq!(
        (read("memory.max"), read("pids.max"), read("cpu.max")),
        ("max".into(), "max".into(), "max 100000".into())
    );
    group.apply(&Resources { cpu_idle: Some(1), ..Resources::default() }).unwrap();
    assert_eq!(read("cpu.idle"), "1");
    let error = group.apply(&Resources { cpuset_cpus: Some("4000".into()), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("online"), "{error}");
    for key in ["memory.nonsense", "nonsense.max", "cgroup.procs"] {
        let r = Resources { unified: vec![(key.into(), "x".into())], ..Resources::default() };
        assert!(group.apply(&r).is_err(), "{key}");
    }
    let pages = HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    if nest.file("", "l", "hugetlb.2MB.max").exists() {
        group.apply(&Resources { hugepages: vec![pages], ..Resources::default() }).unwrap();
        assert_eq!(
            (read("hugetlb.2MB.max"), read("hugetlb.2MB.rsvd.max")),
            ((4 << 20).to_string(), (4 << 20).to_string())
        );
    }
    let disk = ThrottleDevice { major: 254, minor: 0, rate: 1 << 20 };
    if fs::metadata("/sys/dev/block/254:0").is_ok() && nest.file("", "l", "io.max").exists() {
        group.apply(&Resources { blkio_read_bps: vec![disk], ..Resources::default() }).unwrap();
        assert!(read("io.max").contains("254:0 rbps=1048576"), "{}", read("io.max"));
    }
}

#[test]
fn memory_runs_out_and_checks_before_it_does() {
    let Some(nest) = Nest::new(2) else { return };
    let group = nest.group("o");
    group.apply(&Resources { memory: Some(64 << 20), memory_swap: Some(64 << 20), ..Resources::default() }).unwrap();
    let mut inmate = Inmate::start(&group, "x=$(head -c 4000000 /dev/zero | tr '\\0' a); echo ready; exec sleep 1000");
    // What the shell reads goes with it; the pages of the files it ran stay charged.
    inmate.0.stdout.as_mut().unwrap().read_exact(&mut [0u8; 6]).unwrap();
    let checked = Resources { memory: Some(1), memory_check_before_update: true, ..Resources::default() };
    assert!(matches!(group.apply(&checked), Err(Error::MemoryInUse { .. })));
    group.apply(&Resources { memory: Some(8 << 20), ..Resources::default() }).unwrap();
    assert_eq!(group.oom_kills().unwrap(), 0);
    Inmate::start(&group, "x=$(head -c 60000000 /dev/zero | tr '\\0' a); echo alive").output();
    assert!(group.oom_kills().unwrap() > 0);
}

const TRY: &str =
    "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/urandom >/dev/null && echo random; echo end";

#[test]
fn device_rules_in_their_order() {
    let Some(nest) = Nest::new(2) else { return };
    let group = nest.group("d");
    let node =
        |allow, minor, access| DeviceRule { allow, ..DeviceRule::allow(DeviceKind::Char, Some(1), minor, access) };
    let deny_all = DeviceRule { allow: false, ..DeviceRule::allow_all() };
    let output = |rules: Vec<DeviceRule>| {
        group.apply(&Resources { devices: Some(rules), ..Resources::default() }).unwrap();
        Inmate::start(&group, TRY).output()
    };
    assert_eq!(
        output(vec![deny_all, node(true, Some(3), Access::ALL), node(true, Some(5), Access::READ)]),
        "zero\nend\n"
    );
    // A part taken out of a wider rule, and given back.
    let mut rules = vec![node(true, None, Access::ALL), node(false, Some(5), Access::READ)];
    assert_eq!(output(rules.clone()), "random\nend\n");
    rules.push(node(true, Some(5), Access::READ));
    assert_eq!(output(rules), "zero\nrandom\nend\n");
    assert_eq!(output(vec![DeviceRule::allow_all(), node(false, Some(9), Access::ALL)]), "zero\nend\n");
    // As many partial rules as fit: the verifier takes them.
    let many = (0..1000).map(|n| DeviceRule::allow(DeviceKind::Block, Some(n), Some(n), Access::READ)).collect();
    assert_eq!(output(many), "end\n");
    assert_eq!(output(DeviceRule::runtime_defaults()), "zero\nrandom\nend\n");
}

#[test]
fn processes_above_keep_controllers_from_groups_below() {
    let Some(nest) = Nest::new(2) else { return };
    let full = Cgroup::at(&nest.hierarchy, &format!("{}/full", nest.parent)).unwrap();
    let _ = full.make(Existing::Empty).unwrap();
    let _inmate = Inmate::start(&full, "exec sleep 1000");
    let below = full.below("leaf").unwrap();
    assert!(below.make(Existing::Replace).unwrap_err().to_string().contains("processes in this group"));
    assert!(!below.exists());
    // An OCI container without limits can be there all the same.
    let _ = below.make(Existing::Empty).unwrap();
    below.apply(&Resources::default()).unwrap();
    let error = below.apply(&Resources { memory: Some(1 << 20), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("'memory' is not enabled"), "{error}");
    below.remove().unwrap();
}

#[test]
fn statistics_of_every_controller() {
    let Some(nest) = Nest::new(2) else { return };
    let group = nest.group("s");
    group.apply(&Resources { memory: Some(64 << 20), pids_limit: Some(20), ..Resources::default() }).unwrap();
    let script = "i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; echo done; exec sleep 1000";
    let mut inmate = Inmate::start(&group, script);
    inmate.0.stdout.as_mut().unwrap().read_exact(&mut [0u8; 5]).unwrap();
    let stats = group.full_stats().unwrap();
    assert!(stats.cpu.total_ns > 0 && stats.cpu.user_ns + stats.cpu.system_ns > 0);
    assert_eq!((stats.pids.current, stats.pids.limit), (1, Some(20)));
    let memory = stats.memory.unwrap();
    assert!(memory.usage > 0 && memory.limit == 64 << 20 && memory.use_hierarchy);
    // The kernel adds up the counters of its processors every two seconds.
    let counted = || group.full_stats().unwrap().memory.unwrap().stats.iter().any(|(key, n)| key == "anon" && *n > 0);
    let end = Instant::now() + Duration::from_secs(10);
    while !counted() {
        assert!(Instant::now() < end, "no anonymous memory is counted");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(memory.stats.len() > memory.docker().count());
    assert!(!stats.cpuset.cpus.is_empty() && !stats.cpuset.mems.is_empty());
    if fs::read_to_string("/proc/pressure/cpu").is_ok() {
        assert!(stats.cpu.pressure.is_some() && memory.pressure.is_some() && stats.blkio.pressure.is_some());
    }
}

#[test]
fn the_group_is_handed_to_a_user_who_makes_groups_below() {
    use std::os::unix::process::CommandExt;
    let Some(nest) = Nest::new(2) else { return };
    let group = nest.group("u");
    group.give_to(12_345).unwrap();
    let dir = group.paths()[""].display().to_string();
    let script = format!(
        "mkdir {dir}/own && echo made; echo 5 > {dir}/pids.max && echo limited; echo +pids > {dir}/cgroup.subtree_control && echo enabled; rmdir {dir}/own"
    );
    let out = std::process::Command::new("/bin/sh").args(["-c", &script]).uid(12_345).gid(12_345).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "made\nenabled\n", "{}", String::from_utf8_lossy(&out.stderr));
    assert!(nest.hierarchy.delegation().iter().all(|d| d.refusal.is_none()), "root is refused nothing");
}
