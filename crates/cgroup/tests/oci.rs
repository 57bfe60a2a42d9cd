//! What an OCI runtime asks of groups, against the kernel: needs root and v1 controllers (a v1 or hybrid host).

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use cgroup::{
    Cgroup, DeviceRule, Error, Existing, HugepageLimit, Mode, NetPriority, RdmaLimit, Resources, WeightDevice,
};
use common::{Inmate, Nest};

fn exists(dirs: &[PathBuf]) -> usize {
    dirs.iter().filter(|dir| dir.is_dir()).count()
}

#[test]
fn groups_are_made_with_those_above_and_unmade() {
    let Some(nest) = Nest::new(1) else { return };
    let path = format!("{}/pods.slice/a:b@c\\d/leaf", nest.parent);
    let group = Cgroup::at(&nest.hierarchy, &path).unwrap();
    let hierarchies = group.v1_mounts().len() + usize::from(nest.hierarchy.mode() == Mode::Hybrid);
    let made = group.make(Existing::Empty).unwrap();
    // The nest's own directory, two between, the leaf: in each hierarchy.
    assert_eq!(made.dirs().len(), 4 * hierarchies);
    let inmate = Inmate::start(&group, "exec sleep 1000");
    let pid = i32::try_from(inmate.0.id()).unwrap();
    assert_eq!(Cgroup::of_process(&nest.hierarchy, pid).unwrap(), group, "cpusets were inherited, or none could join");
    assert_eq!(Cgroup::from_paths(&nest.hierarchy, &group.paths()).unwrap(), group);
    let sibling = Cgroup::at(&nest.hierarchy, &format!("{}/pods.slice/other", nest.parent)).unwrap();
    let second = sibling.make(Existing::Empty).unwrap();
    assert_eq!(second.dirs().len(), hierarchies);
    drop(inmate);
    made.undo();
    let leaf = nest.file("memory", "pods.slice", "a:b@c\\d");
    assert!(!leaf.exists());
    assert!(sibling.exists(), "what is in use by others stays");
    second.undo();
    assert!(!sibling.exists());
}

#[test]
fn a_group_that_cannot_be_made_leaves_nothing() {
    let Some(nest) = Nest::new(1) else { return };
    let group = Cgroup::at(&nest.hierarchy, &format!("{}/x/y", nest.parent)).unwrap();
    let dirs: Vec<PathBuf> = group.paths().into_values().collect();
    // The last hierarchy takes no group below this depth.
    let Some(v2) = group.paths().get("").cloned() else { return };
    let _ = nest.group("first");
    let depth = v2.parent().unwrap().parent().unwrap().join("cgroup.max.depth");
    fs::write(&depth, "0").unwrap();
    assert!(matches!(group.make(Existing::Empty), Err(Error::Io { .. })));
    assert_eq!(exists(&dirs), 0);
    let above: Vec<PathBuf> = dirs.iter().map(|d| d.parent().unwrap().to_owned()).collect();
    assert_eq!(exists(&above), 0, "nor the groups made on the way");
    assert!(nest.file("memory", "first", "").is_dir(), "what was there before stays");
}

#[test]
fn groups_that_are_there() {
    let Some(nest) = Nest::new(1) else { return };
    let group = Cgroup::at(&nest.hierarchy, &format!("{}/there", nest.parent)).unwrap();
    let _ = group.make(Existing::Empty).unwrap();
    group.apply(&Resources { pids_limit: Some(7), ..Resources::default() }).unwrap();
    let again = group.make(Existing::Empty).unwrap();
    assert!(again.dirs().is_empty());
    assert_eq!(nest.read("pids", "there", "pids.max"), "7", "an empty group is used with its limits");
    group.freeze().unwrap();
    let error = group.make(Existing::Empty).unwrap_err();
    assert!(error.to_string().starts_with("container's cgroup unexpectedly frozen"), "{error}");
    assert!(group.exists());
    group.thaw().unwrap();
    let mut inmate = Inmate::start(&group, "exec sleep 1000");
    for policy in [Existing::Empty, Existing::Replace] {
        let error = group.make(policy).unwrap_err();
        assert!(matches!(error, Error::Busy { processes: 1.., .. }), "{error}");
        assert!(error.to_string().starts_with("container's cgroup is not empty: 1 process(es) found"), "{error}");
    }
    assert!(group.make(Existing::Join).unwrap().dirs().is_empty());
    group.signal_all(15).unwrap();
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(15));
    assert!(group.signal_all(0).is_err() && group.signal_all(65).is_err());
    let _ = group.make(Existing::Replace).unwrap();
    assert_eq!(nest.read("pids", "there", "pids.max"), "max");
}

#[test]
fn processes_join_a_group_and_one_below_it() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("outer");
    let below = group.below("inner/most").unwrap();
    let _ = below.make(Existing::Empty).unwrap();
    let elsewhere = nest.group("elsewhere");
    let mut inmate = Inmate::start(&elsewhere, "exec sleep 1000");
    let pid = i32::try_from(inmate.0.id()).unwrap();
    below.add_process(pid).unwrap();
    assert_eq!(elsewhere.pids().unwrap(), [0; 0]);
    assert_eq!(group.pids().unwrap(), [pid], "processes of groups below count");
    assert_eq!(Cgroup::of_process(&nest.hierarchy, pid).unwrap().path(), below.path());
    group.kill().unwrap();
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
    assert!(!below.exists());
    let gone = below.add_process(1).unwrap_err();
    assert!(gone.to_string().contains("cgroup.procs"), "{gone}");
}

#[test]
fn relative_paths_are_below_the_own_group() {
    let Some(nest) = Nest::new(1) else { return };
    let own = Cgroup::of_process(&nest.hierarchy, i32::try_from(std::process::id()).unwrap()).unwrap();
    let group = Cgroup::at(&nest.hierarchy, "dhow-relative").unwrap();
    for (controller, dir) in group.paths() {
        assert_eq!(dir, own.paths()[&controller].join("dhow-relative"));
    }
}

#[test]
fn cpu_settings_of_the_specification() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("c");
    let of = |r: &Resources| group.apply(r);
    let base = Resources::default;
    // The burst fits the quota that comes with it, not the one before; and the other way about.
    of(&Resources { cpu_quota: Some(20_000), cpu_period: Some(50_000), cpu_burst: Some(20_000), ..base() }).unwrap();
    assert_eq!(nest.read("cpu", "c", "cpu.cfs_burst_us"), "20000");
    of(&Resources { cpu_quota: Some(5_000), cpu_burst: Some(1_000), ..base() }).unwrap();
    assert_eq!(nest.read("cpu", "c", "cpu.cfs_burst_us"), "1000");
    assert_eq!(nest.read("cpu", "c", "cpu.cfs_quota_us"), "5000");
    assert_eq!(nest.read("cpu", "c", "cpu.cfs_period_us"), "50000", "what is not given stays");
    let error = of(&Resources { cpu_burst: Some(6_000), ..base() }).unwrap_err();
    assert!(error.to_string().contains("at most the quota"), "{error}");
    of(&Resources { cpu_shares: Some(0), cpu_quota: Some(0), memory: Some(0), blkio_weight: Some(0), ..base() })
        .unwrap();
    assert_eq!(nest.read("cpu", "c", "cpu.cfs_quota_us"), "5000", "0 leaves what is there");
    for (shares, word) in [(1, "minimum"), (262_145, "maximum")] {
        let error = of(&Resources { cpu_shares: Some(shares), ..base() }).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
    of(&Resources { cpu_idle: Some(1), ..base() }).unwrap();
    assert_eq!(nest.read("cpu", "c", "cpu.idle"), "1");
    let error = of(&Resources { cpu_idle: Some(2), ..base() }).unwrap_err();
    assert!(error.to_string().contains("0 or 1"), "{error}");
}

#[test]
fn memory_limits_in_any_order_and_under_use() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("m");
    let mib = 1 << 20;
    // Each step needs the other order of the two writes than the one before, or neither.
    for (memory, both) in [(64, 128), (256, 512), (16, 32), (32, 32), (-1, -1), (8, -1), (300, 300)] {
        let bytes = |n: i64| if n < 0 { -1 } else { n * mib };
        let r = Resources { memory: Some(bytes(memory)), memory_swap: Some(bytes(both)), ..Resources::default() };
        group.apply(&r).unwrap();
        let read = |name| nest.read("memory", "m", name).parse::<i64>().unwrap();
        let want = |n: i64| if n < 0 { i64::MAX & !4095 } else { n * mib };
        assert_eq!(read("memory.limit_in_bytes"), want(memory));
        assert_eq!(read("memory.memsw.limit_in_bytes"), want(both));
    }
    let script = "x=$(head -c 4000000 /dev/zero | tr '\\0' a); echo ready; sleep 1000";
    let mut inmate = Inmate::start(&group, script);
    let mut ready = [0u8; 6];
    std::io::Read::read_exact(inmate.0.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let checked = Resources { memory: Some(100_000), memory_check_before_update: true, ..Resources::default() };
    let error = group.apply(&checked).unwrap_err();
    assert!(matches!(error, Error::MemoryInUse { limit: 100_000, usage } if usage > 4_000_000), "{error}");
    assert_eq!(nest.read("memory", "m", "memory.limit_in_bytes"), (300 * mib).to_string());
}

#[test]
fn what_the_kernel_has_dropped_is_named() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("k");
    let old = Resources {
        kernel_memory: Some(64 << 20),
        kernel_memory_tcp: Some(64 << 20),
        memory_use_hierarchy: Some(false),
        blkio_leaf_weight: Some(100),
        blkio_weight_device: vec![WeightDevice { major: 8, minor: 0, weight: None, leaf_weight: Some(100) }],
        ..Resources::default()
    };
    // This kernel may have some of it. Each setting is either in its file or in a sentence.
    let said = group.apply_lenient(&old).unwrap();
    let told = |word: &str| said.iter().any(|s| s.starts_with(word));
    let holds = |controller: &str, name: &str, value: &str| {
        fs::read_to_string(nest.file(controller, "k", name)).is_ok_and(|t| t.trim() == value)
    };
    let bytes = (64u64 << 20).to_string();
    assert_ne!(told("kernel memory is"), holds("memory", "memory.kmem.limit_in_bytes", &bytes), "{said:?}");
    assert_ne!(told("kernel memory for TCP"), holds("memory", "memory.kmem.tcp.limit_in_bytes", &bytes), "{said:?}");
    assert_ne!(told("hierarchical"), holds("memory", "memory.use_hierarchy", "0"), "{said:?}");
    assert_ne!(told("block I/O leaf weight"), holds("blkio", "blkio.leaf_weight", "100"), "{said:?}");
    if let Some(sentence) = said.first() {
        let error = group.apply(&old).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{sentence}: {error}");
    }
    group.apply(&Resources { memory_use_hierarchy: Some(true), ..Resources::default() }).unwrap();
    for r in [
        Resources { net_class_id: Some(0x10_0001), ..Resources::default() },
        Resources { net_priorities: vec![NetPriority { interface: "lo".into(), priority: 3 }], ..Resources::default() },
        Resources {
            rdma: vec![RdmaLimit { device: "mlx5_1".into(), hca_handles: Some(3), hca_objects: None }],
            ..Resources::default()
        },
    ] {
        let applied = group.apply_lenient(&r);
        let mounted = ["net_cls", "net_prio", "rdma"].iter().any(|c| group.paths().contains_key(*c));
        assert!(mounted || matches!(applied, Err(Error::Unsupported { .. })), "{applied:?}");
    }
}

/// Puts the root's list of controllers for groups back.
struct RootControllers(PathBuf, String);

impl RootControllers {
    fn keep(root: &Path) -> RootControllers {
        let path = root.join("cgroup.subtree_control");
        let now = fs::read_to_string(&path).unwrap();
        RootControllers(path, now)
    }
}

impl Drop for RootControllers {
    fn drop(&mut self) {
        let now = fs::read_to_string(&self.0).unwrap_or_default();
        for added in now.split_whitespace().filter(|c| !self.1.split_whitespace().any(|old| old == *c)) {
            let written = fs::write(&self.0, format!("-{added}"));
            if !std::thread::panicking() {
                written.unwrap();
            }
        }
    }
}

#[test]
fn v2_beside_v1_carries_what_it_has() {
    // Dropped last: a controller is taken away when no group uses it.
    let kept;
    let Some(nest) = Nest::new(1) else { return };
    let root = Path::new("/sys/fs/cgroup/unified");
    let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if nest.hierarchy.mode() != Mode::Hybrid || !offered.split_whitespace().any(|c| c == "hugetlb") {
        return;
    }
    kept = RootControllers::keep(root);
    let group = nest.group("h");
    let dir = group.paths()[""].clone();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let limit = |size: &str, limit| HugepageLimit { page_size: size.into(), limit };
    let pages = |list| Resources { hugepages: list, ..Resources::default() };
    group.apply(&pages(vec![limit("2MB", 4 << 20)])).unwrap();
    assert_eq!(read("hugetlb.2MB.max"), (4 << 20).to_string());
    assert_eq!(read("hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
    for bad in ["3MB", "2mb", "2", "MB", "../x", "2MB.max"] {
        assert!(matches!(group.apply(&pages(vec![limit(bad, 1)])), Err(Error::Invalid { .. })), "{bad}");
    }
    let stats = group.full_stats().unwrap();
    assert!(stats.hugepages.iter().any(|h| h.page_size == "2MB" && h.usage == 0), "{:?}", stats.hugepages);

    let unified = |key: &str, value: &str| {
        group.apply(&Resources { unified: vec![(key.into(), value.into())], ..Resources::default() })
    };
    unified("hugetlb.2MB.max", "max\n").unwrap();
    assert_eq!(read("hugetlb.2MB.max"), "max");
    unified("cgroup.max.depth", "3").unwrap();
    assert_eq!(read("cgroup.max.depth"), "3");
    let error = unified("memory.max", "5").unwrap_err();
    assert!(error.to_string().contains("controller \"memory\" not available"), "{error}");
    for bad in [
        "a/b.c",
        "../memory.max",
        "memory",
        ".max",
        "memory.",
        "cgroup.procs",
        "cgroup.kill",
        "cgroup.freeze",
        "cgroup.subtree_control",
        "cgroup.type",
    ] {
        // A value that no file takes: were the key not refused, the kernel would refuse the write.
        assert!(matches!(unified(bad, "x"), Err(Error::Invalid { .. })), "{bad}");
    }
    group.remove().unwrap();
    drop(nest);
    drop(kept);
}

#[test]
fn device_rules_of_the_specification() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("d");
    let spec = |allow, kind, major, minor, access| {
        DeviceRule::from_spec(allow, Some(kind), Some(major), Some(minor), Some(access)).unwrap()
    };
    let deny_all = DeviceRule::from_spec(false, None, None, None, Some("rwm")).unwrap();
    let set = |rules: Vec<DeviceRule>| group.apply(&Resources { devices: Some(rules), ..Resources::default() });
    let list = || nest.read("devices", "d", "devices.list").lines().map(str::to_owned).collect::<Vec<_>>();
    let mut rules =
        vec![deny_all, spec(true, "c", 1, 3, "r"), spec(true, "c", 1, 3, "w"), spec(true, "b", 8, -1, "rm")];
    set(rules.clone()).unwrap();
    assert_eq!(list(), ["c 1:3 rw", "b 8:* rm"]);
    rules.push(spec(false, "b", -1, -1, "m"));
    rules.extend(DeviceRule::runtime_defaults());
    set(rules.clone()).unwrap();
    assert!(list().contains(&"c 1:3 rwm".to_owned()) && list().contains(&"b 8:* r".to_owned()), "{:?}", list());
    assert!(!list().iter().any(|l| l.starts_with("c 10:200")), "tun is no default");
    rules.push(spec(false, "c", 136, 0, "rw"));
    let error = set(rules).unwrap_err();
    assert!(error.to_string().contains("c 136:0 rw") && error.to_string().contains("c 136:* rwm"), "{error}");
    // Everything but one.
    set(vec![DeviceRule::allow_all(), spec(false, "c", 1, 5, "rwm")]).unwrap();
    let out = Inmate::start(
        &group,
        "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/urandom >/dev/null && echo random",
    );
    assert_eq!(out.output(), "random\n");
}

#[test]
fn statistics_of_every_controller() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("s");
    group
        .apply(&Resources {
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0".into()),
            memory: Some(64 << 20),
            ..Resources::default()
        })
        .unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000";
    let mut inmate = Inmate::start(&group, script);
    std::io::Read::read_exact(inmate.0.stdout.as_mut().unwrap(), &mut [0u8; 5]).unwrap();
    group.freeze().unwrap();
    let stats = group.full_stats().unwrap();
    group.thaw().unwrap();
    assert_eq!((stats.cpuset.cpus.as_slice(), stats.cpuset.mems.as_slice()), (&[0][..], &[0][..]));
    assert_eq!((stats.cpuset.sched_load_balance, stats.cpuset.sched_relax_domain_level), (1, -1));
    assert_eq!(stats.cpu.percpu_user_ns.len(), stats.cpu.percpu_ns.len());
    assert!(stats.cpu.percpu_user_ns[0] + stats.cpu.percpu_system_ns[0] > 0);
    let memory = stats.memory.unwrap();
    let with_swap = memory.with_swap.unwrap();
    assert!(with_swap.usage >= memory.usage && with_swap.max_usage >= with_swap.usage);
    assert_eq!((memory.use_hierarchy, memory.kernel_tcp.unwrap().usage), (true, 0));
    assert!(memory.stats.iter().any(|(key, _)| key == "total_rss"));
    assert!(memory.stats.len() > memory.docker().count(), "all of memory.stat, not Docker's choice");
    assert!(memory.numa.iter().any(|n| n.kind == "total" && n.total == n.nodes.iter().map(|(_, pages)| pages).sum()));
    assert_eq!(stats.pids.current, 1);
    assert!(stats.misc.is_empty() && stats.cpu.pressure.is_none());
}

#[test]
fn the_v2_group_is_handed_to_a_user() {
    use std::os::unix::fs::MetadataExt;
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("o");
    let Some(dir) = group.paths().get("").cloned() else { return };
    group.give_to(12_345).unwrap();
    let owner = |path: &Path| fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&dir), 12_345);
    for name in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        assert_eq!(owner(&dir.join(name)), 12_345, "{name}");
    }
    assert_eq!(owner(&dir.join("cgroup.max.depth")), 0, "limits of the group stay out of the user's hands");
}

#[test]
fn root_may_make_groups_everywhere() {
    let Some(nest) = Nest::new(1) else { return };
    let delegation = nest.hierarchy.delegation();
    assert!(delegation.iter().all(|d| d.refusal.is_none()), "{delegation:?}");
    let group = Cgroup::at(&nest.hierarchy, &format!("{}/g", nest.parent)).unwrap();
    assert_eq!(group.clone().keep_delegated(&delegation), group);
}

#[test]
fn processes_that_are_in_v1_only_are_killed() {
    let Some(nest) = Nest::new(1) else { return };
    let group = nest.group("half");
    let mut inmate = Inmate::start(&group, "exec sleep 1000");
    // Out of the reach of v2's order to kill.
    if let Some(dir) = group.paths().get("") {
        fs::write(dir.ancestors().nth(2).unwrap().join("cgroup.procs"), inmate.0.id().to_string()).unwrap();
    }
    group.kill().unwrap();
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(9));
}
