//! v2 against a tree of plain files: which file gets which value. The kernel's own judgement is not
//! needed for that; where it is, see the tests that talk to it.

use std::fs;
use std::path::{Path, PathBuf};

use cgroup::{Cgroup, Error, FreezerState, Hierarchy, Mode, Resources, ThrottleDevice, WeightDevice};
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
