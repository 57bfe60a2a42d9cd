//! v2 against a tree of plain files: which file gets which value. The kernel's own judgement is not
//! needed for that; where it is, see the tests that talk to it.

use std::fs;
use std::path::{Path, PathBuf};

use cgroup::{
    Cgroup, Error, Existing, FreezerState, Hierarchy, HugepageLimit, Mode, NetPriority, RdmaLimit, Resources,
    ThrottleDevice, WeightDevice,
};
use tempfile::TempDir;

const FILES: [(&str, &str); 20] = [
    ("cgroup.procs", ""),
    ("cgroup.freeze", "0"),
    ("cgroup.events", "populated 0\nfrozen 0\n"),
    ("cpu.max", "max 100000\n"),
    ("cpu.weight", "100"),
    ("cpuset.cpus", ""),
    ("cpuset.mems", ""),
    ("cpu.stat", "usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n"),
    ("memory.max", "max\n"),
    ("memory.low", "0"),
    ("memory.swap.max", "max"),
    ("memory.current", "4096\n"),
    ("memory.swap.current", "7\n"),
    ("memory.stat", "anon 1\nfile 2\ninactive_file 96\nzswap 5\n"),
    ("memory.events", "oom 1\noom_kill 2\n"),
    ("pids.max", "max"),
    ("pids.current", "3\n"),
    ("io.max", ""),
    ("io.weight", ""),
    ("io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n"),
];

struct Tree {
    root: TempDir,
    hierarchy: Hierarchy,
}

impl Tree {
    fn new() -> Tree {
        let root = tempfile::tempdir().unwrap();
        let put = |dir: &Path| {
            fs::create_dir_all(dir).unwrap();
            fs::write(dir.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
            fs::write(dir.join("cgroup.subtree_control"), "").unwrap();
        };
        put(root.path());
        put(&root.path().join("dhow"));
        let mountinfo = format!("26 25 0:24 / {} rw - cgroup2 cgroup2 rw\n", root.path().display());
        let hierarchy = Hierarchy::parse(&mountinfo, "0::/\n").unwrap();
        Tree { root, hierarchy }
    }

    /// A group with the files a kernel would have made.
    fn group(&self) -> Cgroup {
        let dir = self.dir();
        fs::create_dir_all(&dir).unwrap();
        for (name, content) in FILES {
            fs::write(dir.join(name), content).unwrap();
        }
        Cgroup::open(&self.hierarchy, "/dhow", "g").unwrap()
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("dhow/g")
    }

    /// What was written over the file's beginning: a plain file keeps its old tail.
    fn written(&self, name: &str, want: &str) {
        let text = fs::read_to_string(self.dir().join(name)).unwrap();
        assert!(text.starts_with(want), "{name}: {text:?}, wanted {want:?}");
    }
}

#[test]
fn parents_hand_down_controllers() {
    let tree = Tree::new();
    assert_eq!(tree.hierarchy.mode(), Mode::V2);
    let group = Cgroup::create(&tree.hierarchy, "/dhow", "g").unwrap();
    assert!(tree.dir().is_dir());
    for dir in ["", "dhow"] {
        let text = fs::read_to_string(tree.root.path().join(dir).join("cgroup.subtree_control")).unwrap();
        assert_eq!(text, "+cpuset +cpu +io +memory +pids");
    }
    assert!(group.tasks_fds().unwrap().is_empty());
    assert!(group.dir_fd().unwrap().is_some());
    assert!(group.v1_mounts().is_empty());
    group.remove().unwrap();
    assert!(!tree.dir().exists());
}

#[test]
fn docker_terms_become_v2_values() {
    let tree = Tree::new();
    let group = tree.group();
    group
        .apply(&Resources {
            memory: Some(64 << 20),
            memory_swap: Some(192 << 20),
            memory_reservation: Some(1 << 20),
            cpu_shares: Some(1024),
            nano_cpus: Some(1_500_000_000),
            cpuset_cpus: Some("0-1".into()),
            pids_limit: Some(50),
            blkio_weight: Some(1000),
            blkio_weight_device: vec![],
            blkio_read_bps: vec![ThrottleDevice { major: 8, minor: 0, rate: 1024 }],
            ..Resources::default()
        })
        .unwrap();
    tree.written("memory.max", "67108864");
    tree.written("memory.swap.max", "134217728");
    tree.written("memory.low", "1048576");
    tree.written("cpu.weight", "100");
    tree.written("cpu.max", "150000 100000");
    tree.written("cpuset.cpus", "0-1");
    tree.written("pids.max", "50");
    tree.written("io.weight", "default 10000");
    tree.written("io.max", "8:0 rbps=1024");
    group
        .apply(&Resources {
            memory: Some(-1),
            cpu_quota: Some(-1),
            pids_limit: Some(-1),
            blkio_weight_device: vec![WeightDevice { major: 8, minor: 16, weight: Some(10), leaf_weight: None }],
            blkio_write_iops: vec![ThrottleDevice { major: 8, minor: 0, rate: 0 }],
            ..Resources::default()
        })
        .unwrap();
    tree.written("memory.max", "max");
    tree.written("memory.swap.max", "max");
    tree.written("cpu.max", "max 100000");
    tree.written("pids.max", "max");
    tree.written("io.weight", "8:16 1");
    tree.written("io.max", "8:0 wiops=max");
}

#[test]
fn swap_is_what_the_limits_leave() {
    let tree = Tree::new();
    let group = tree.group();
    group.apply(&Resources { memory: Some(100), memory_swap: Some(100), ..Resources::default() }).unwrap();
    tree.written("memory.swap.max", "0");
    let less = Resources { memory: Some(100), memory_swap: Some(99), ..Resources::default() };
    assert!(matches!(group.apply(&less), Err(Error::Invalid { .. })));
    // Memory is not part of this change: the limit in force counts.
    fs::write(tree.dir().join("memory.max"), "1000\n").unwrap();
    group.apply(&Resources { memory_swap: Some(1500), ..Resources::default() }).unwrap();
    tree.written("memory.swap.max", "500");
}

#[test]
fn what_v2_lacks_is_refused_by_name() {
    let tree = Tree::new();
    let group = tree.group();
    for r in [
        Resources { memory_swappiness: Some(5), ..Resources::default() },
        Resources { oom_kill_disable: Some(true), ..Resources::default() },
        Resources { cpu_rt_runtime: Some(5), ..Resources::default() },
    ] {
        assert!(matches!(group.apply(&r), Err(Error::Unsupported { .. })), "{r:?}");
    }
    fs::remove_file(tree.dir().join("pids.max")).unwrap();
    let error = group.apply(&Resources { pids_limit: Some(5), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("'pids'"), "{error}");
    let mut asked = Resources { memory_swappiness: Some(5), memory: Some(5), ..Resources::default() };
    assert_eq!(asked.discard_unsupported(&tree.hierarchy.support()).len(), 1);
    group.apply(&asked).unwrap();
}

#[test]
fn statistics_are_read_in_docker_units() {
    let tree = Tree::new();
    let group = tree.group();
    let stats = group.stats().unwrap();
    assert_eq!((stats.cpu.total_ns, stats.cpu.user_ns, stats.cpu.system_ns), (30_000, 20_000, 10_000));
    assert_eq!((stats.cpu.periods, stats.cpu.throttled_periods, stats.cpu.throttled_ns), (4, 3, 2_000));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.limit, memory.swap), (4096, u64::MAX, Some(7)));
    assert_eq!(memory.working_set(), 4000);
    assert_eq!((memory.stats.len(), memory.docker().count()), (4, 3));
    assert_eq!((stats.pids.current, stats.pids.limit), (3, None));
    assert_eq!(stats.blkio.service_bytes.len(), 2);
    assert_eq!(group.oom_kills().unwrap(), 2);
}

#[test]
fn freezer_follows_the_kernels_report() {
    let tree = Tree::new();
    let group = tree.group();
    fs::write(tree.dir().join("cgroup.events"), "populated 1\nfrozen 1\n").unwrap();
    group.freeze().unwrap();
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Frozen);
    group.thaw().unwrap();
    tree.written("cgroup.freeze", "0");
    fs::write(tree.dir().join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Thawed);
}

#[test]
fn settings_of_the_specification() {
    let tree = Tree::new();
    let group = tree.group();
    let put = |name: &str, text: &str| fs::write(tree.dir().join(name), text).unwrap();
    for name in ["cpu.max.burst", "cpu.idle", "hugetlb.2MB.max", "hugetlb.1GB.max", "hugetlb.1GB.rsvd.max", "rdma.max"]
    {
        put(name, "");
    }
    put("cgroup.controllers", "cpu memory pids io cpuset hugetlb rdma\n");
    let page = |size: &str, limit| HugepageLimit { page_size: size.into(), limit };
    group
        .apply(&Resources {
            cpu_quota: Some(50_000),
            cpu_burst: Some(10_000),
            cpu_idle: Some(1),
            pids_limit: Some(0),
            hugepages: vec![page("2MB", 4 << 20), page("1GB", 1 << 30)],
            rdma: vec![RdmaLimit { device: "mlx5_1".into(), hca_handles: Some(3), hca_objects: Some(10_000) }],
            unified: vec![("memory.max".into(), "1234".into()), ("io.max".into(), "8:0 rbps=1\n8:16 rbps=2".into())],
            ..Resources::default()
        })
        .unwrap();
    tree.written("cpu.max", "50000 100000");
    tree.written("cpu.max.burst", "10000");
    tree.written("cpu.idle", "1");
    tree.written("pids.max", "1");
    tree.written("hugetlb.2MB.max", "4194304");
    tree.written("hugetlb.1GB.rsvd.max", "1073741824");
    tree.written("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000");
    tree.written("memory.max", "1234");
    // Line by line: in a plain file the last stands over the first.
    tree.written("io.max", "8:16 rbps=2");
    for rdma in [
        RdmaLimit { device: "a b".into(), hca_handles: Some(1), hca_objects: None },
        RdmaLimit { device: "mlx5_1".into(), hca_handles: None, hca_objects: None },
    ] {
        assert!(matches!(
            group.apply(&Resources { rdma: vec![rdma], ..Resources::default() }),
            Err(Error::Invalid { .. })
        ));
    }
    put("cpu.max", "70000 50000\n");
    group.apply(&Resources { cpu_period: Some(20_000), ..Resources::default() }).unwrap();
    tree.written("cpu.max", "70000 20000");
}

#[test]
fn swap_without_a_memory_limit_and_without_accounting() {
    let tree = Tree::new();
    let group = tree.group();
    let limits = |memory, swap| Resources { memory, memory_swap: swap, ..Resources::default() };
    group.apply(&limits(Some(-1), Some(5000))).unwrap();
    tree.written("memory.swap.max", "5000");
    group.apply(&limits(None, Some(6000))).unwrap();
    tree.written("memory.swap.max", "6000");
    group.apply(&limits(Some(0), Some(-1))).unwrap();
    tree.written("memory.swap.max", "max");
    assert!(matches!(group.apply(&limits(Some(5000), Some(-2))), Err(Error::Invalid { .. })));
    fs::remove_file(tree.dir().join("memory.swap.max")).unwrap();
    group.apply(&limits(Some(5000), Some(5000))).unwrap();
    group.apply(&limits(Some(-1), None)).unwrap();
    assert!(matches!(group.apply(&limits(Some(5000), Some(6000))), Err(Error::Unsupported { .. })));
    // 4096 bytes are in use.
    let checked = |memory, swap| Resources { memory_check_before_update: true, ..limits(memory, swap) };
    assert!(matches!(group.apply(&checked(Some(4096), None)), Err(Error::MemoryInUse { .. })));
    assert!(matches!(group.apply(&checked(None, Some(100))), Err(Error::MemoryInUse { .. })));
    group.apply(&checked(Some(4097), None)).unwrap();
}

#[test]
fn weights_with_and_without_bfq() {
    let tree = Tree::new();
    let group = tree.group();
    let device = |weight| WeightDevice { major: 8, minor: 0, weight, leaf_weight: None };
    let r =
        Resources { blkio_weight: Some(500), blkio_weight_device: vec![device(Some(1000))], ..Resources::default() };
    group.apply(&r).unwrap();
    tree.written("io.weight", "8:0 10000");
    fs::write(tree.dir().join("io.bfq.weight"), "").unwrap();
    group.apply(&Resources { blkio_weight_device: vec![device(None)], ..r.clone() }).unwrap();
    tree.written("io.bfq.weight", "default 500");
    group.apply(&r).unwrap();
    tree.written("io.bfq.weight", "8:0 1000");
}

#[test]
fn what_v2_lacks_is_left_out_with_a_word() {
    let tree = Tree::new();
    let group = tree.group();
    let v1_only = Resources {
        memory_swappiness: Some(5),
        oom_kill_disable: Some(true),
        kernel_memory: Some(1),
        kernel_memory_tcp: Some(1),
        cpu_rt_runtime: Some(5),
        blkio_leaf_weight: Some(10),
        net_class_id: Some(1),
        net_priorities: vec![NetPriority { interface: "eth0".into(), priority: 1 }],
        memory_use_hierarchy: Some(false),
        pids_limit: Some(7),
        ..Resources::default()
    };
    let said = group.apply_lenient(&v1_only).unwrap();
    assert_eq!(said.len(), 9, "{said:?}");
    assert!(said.contains(&"memory swappiness is not set: cgroup v2 has no such setting".to_owned()), "{said:?}");
    tree.written("pids.max", "7");
    let harmless =
        Resources { oom_kill_disable: Some(false), memory_use_hierarchy: Some(true), ..Resources::default() };
    assert!(group.apply_lenient(&harmless).unwrap().is_empty());
    // A limit that matters is never left out.
    fs::remove_file(tree.dir().join("pids.max")).unwrap();
    assert!(group.apply_lenient(&v1_only).is_err());
}

#[test]
fn unified_resources_need_v2_and_a_controller() {
    let tree = Tree::new();
    let group = tree.group();
    fs::write(tree.dir().join("cgroup.controllers"), "cpu memory\n").unwrap();
    let unified = |key: &str| Resources { unified: vec![(key.into(), "1".into())], ..Resources::default() };
    let error = group.apply(&unified("misc.max")).unwrap_err().to_string();
    assert!(error.contains("\"misc.max\" can't be set: controller \"misc\" not available"), "{error}");
    let error = group.apply(&unified("memory.nonsense")).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    // Nothing is written if one key is no file name.
    let mixed = Resources {
        pids_limit: Some(9),
        unified: vec![("memory.max".into(), "5".into()), ("../g2/memory.max".into(), "5".into())],
        ..Resources::default()
    };
    assert!(matches!(group.apply(&mixed), Err(Error::Invalid { .. })));
    tree.written("pids.max", "max");
    let v1 = Hierarchy::parse("33 30 0:29 / /x/memory rw - cgroup cgroup rw,memory\n", "3:memory:/\n").unwrap();
    let error = Cgroup::at(&v1, "/g").unwrap().apply(&unified("memory.max")).unwrap_err();
    assert!(error.to_string().contains("cgroup v2"), "{error}");
}

#[test]
fn every_controllers_statistics() {
    let tree = Tree::new();
    let group = tree.group();
    for (name, text) in [
        (
            "cpu.pressure",
            "some avg10=1.71 avg60=2.36 avg300=2.57 total=230548833\nfull avg10=1.00 avg60=1.01 avg300=1.00 total=157622356\n",
        ),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n"),
        ("memory.peak", "9000\n"),
        ("cpuset.cpus.effective", "0-1\n"),
        ("cpuset.mems.effective", "0\n"),
        ("misc.current", "sev 3\nsev_es 0\n"),
        ("misc.events", "sev.max 2\nsev_es.max 0\n"),
        ("rdma.max", "mlx4_0 hca_handle=2 hca_object=max\n"),
        ("rdma.current", "mlx4_0 hca_handle=1 hca_object=20\n"),
        ("hugetlb.2MB.rsvd.current", "4096\n"),
        ("hugetlb.2MB.events", "max 5\n"),
    ] {
        fs::write(tree.dir().join(name), text).unwrap();
    }
    let stats = group.full_stats().unwrap();
    let pressure = stats.cpu.pressure.unwrap();
    assert_eq!((pressure.some.avg10, pressure.some.total, pressure.full.avg60), (1.71, 230_548_833, 1.01));
    assert_eq!((stats.cpuset.cpus, stats.cpuset.mems), (vec![0, 1], vec![0]));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.max_usage, memory.pressure.unwrap().some.total), (Some(9000), 1));
    assert_eq!(memory.with_swap.unwrap().usage, 4103);
    assert_eq!((memory.with_swap.unwrap().limit, memory.swap_alone.unwrap().usage), (u64::MAX, 7));
    assert_eq!(stats.blkio.serviced.iter().map(|e| e.op.as_str()).collect::<Vec<_>>(), ["Read", "Write"]);
    assert!(stats.blkio.pressure.is_none());
    assert_eq!((stats.misc.len(), stats.misc[0].usage, stats.misc[0].events), (2, 3, 2));
    assert_eq!((stats.rdma.limit[0].hca_objects, stats.rdma.current[0].hca_objects), (u32::MAX, 20));
    if Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        assert_eq!((stats.hugepages[0].usage, stats.hugepages[0].failcnt), (4096, 5));
    }
}

#[test]
fn groups_that_are_there() {
    let tree = Tree::new();
    let group = tree.group();
    assert!(group.make(Existing::Empty).unwrap().dirs().is_empty());
    fs::write(tree.dir().join("cgroup.freeze"), "1\n").unwrap();
    assert!(matches!(group.make(Existing::Empty), Err(Error::Frozen { .. })));
    fs::write(tree.dir().join("cgroup.procs"), "5\n6\n").unwrap();
    assert!(matches!(group.make(Existing::Empty), Err(Error::Busy { processes: 2, .. })));
    assert!(group.make(Existing::Join).unwrap().dirs().is_empty());
}
