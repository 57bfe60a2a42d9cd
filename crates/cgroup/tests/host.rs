//! Against the kernel: needs root and v1 controllers (a v1 or hybrid host). Each test has a parent group of
//! its own with a random name, removed with everything in it whatever happens.

mod common;

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;

use cgroup::{Access, Cgroup, DeviceKind, DeviceRule, Error, FreezerState, Resources, ThrottleDevice};
use common::{Inmate, Nest};

#[test]
fn life_of_a_group() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("one");
    assert!(group.exists());
    assert_eq!(group.path(), format!("{}/one", nest.parent));
    assert_eq!(group.pids().unwrap(), []);
    let inmate = Inmate::start(&group, "sleep 1000 & sleep 1000");
    let leader = i32::try_from(inmate.0.id()).unwrap();
    assert!(group.pids().unwrap().contains(&leader));
    // Every hierarchy has it: the process is in the group wherever it looks.
    let membership = fs::read_to_string(format!("/proc/{leader}/cgroup")).unwrap();
    for line in membership.lines() {
        assert!(line.ends_with(group.path()), "{line}");
    }
    assert!(matches!(Cgroup::create(&nest.hierarchy, &nest.parent, "one"), Err(Error::Busy { .. })));
    assert!(group.exists(), "a refused second creation leaves the first alone");
    let again = Cgroup::open(&nest.hierarchy, &nest.parent, "one").unwrap();
    assert_eq!(again.pids().unwrap(), group.pids().unwrap());
    group.kill().unwrap();
    let mut inmate = inmate;
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
    assert!(!group.exists());
    group.remove().unwrap();
    assert_eq!(group.pids().unwrap(), []);
}

#[test]
fn an_empty_group_left_behind_is_replaced_with_its_limits() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("stale");
    group.apply(&Resources { pids_limit: Some(3), ..Resources::default() }).unwrap();
    fs::create_dir(nest.file("pids", "stale", "below")).unwrap();
    drop(nest.group("stale"));
    assert_eq!(nest.read("pids", "stale", "pids.max"), "max");
    assert!(!nest.file("pids", "stale", "below").exists());
}

#[test]
fn limits_arrive() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("l");
    let mib = 1 << 20;
    group
        .apply(&Resources {
            memory: Some(64 * mib),
            memory_swap: Some(128 * mib),
            memory_reservation: Some(32 * mib),
            memory_swappiness: Some(10),
            cpu_shares: Some(512),
            nano_cpus: Some(500_000_000),
            cpuset_cpus: Some("0".into()),
            cpuset_mems: Some("0".into()),
            pids_limit: Some(50),
            ..Resources::default()
        })
        .unwrap();
    assert_eq!(nest.read("memory", "l", "memory.limit_in_bytes"), (64 * mib).to_string());
    assert_eq!(nest.read("memory", "l", "memory.memsw.limit_in_bytes"), (128 * mib).to_string());
    assert_eq!(nest.read("memory", "l", "memory.soft_limit_in_bytes"), (32 * mib).to_string());
    assert_eq!(nest.read("memory", "l", "memory.swappiness"), "10");
    assert_eq!(nest.read("cpu", "l", "cpu.shares"), "512");
    assert_eq!(nest.read("cpu", "l", "cpu.cfs_quota_us"), "50000");
    assert_eq!(nest.read("cpu", "l", "cpu.cfs_period_us"), "100000");
    assert_eq!(nest.read("cpuset", "l", "cpuset.cpus"), "0");
    assert_eq!(nest.read("pids", "l", "pids.max"), "50");

    // Raise both above the old pair, then lower both below the new one: each order of writes is needed once.
    for both in [512, 20] {
        group
            .apply(&Resources { memory: Some(both * mib), memory_swap: Some(both * mib), ..Resources::default() })
            .unwrap();
        assert_eq!(nest.read("memory", "l", "memory.limit_in_bytes"), (both * mib).to_string());
        assert_eq!(nest.read("memory", "l", "memory.memsw.limit_in_bytes"), (both * mib).to_string());
    }
    let error = group.apply(&Resources { memory: Some(64 * mib), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("raised at the same time"), "{error}");
    group
        .apply(&Resources { memory: Some(-1), pids_limit: Some(-1), cpu_quota: Some(-1), ..Resources::default() })
        .unwrap();
    assert_eq!(nest.read("pids", "l", "pids.max"), "max");
    assert_eq!(nest.read("cpu", "l", "cpu.cfs_quota_us"), "-1");
    assert!(group.stats().unwrap().memory.unwrap().limit > 1 << 60);
}

#[test]
fn refusals_name_file_and_value() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("r");
    let error = group.apply(&Resources { cpuset_cpus: Some("4000".into()), ..Resources::default() }).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("cpuset.cpus") && text.contains("\"4000\"") && text.contains("online"), "{text}");
    let error = group.apply(&Resources { cpu_period: Some(1), ..Resources::default() }).unwrap_err();
    assert!(error.to_string().contains("1000 to 1000000"), "{error}");
    assert!(group.apply(&Resources { memory_swappiness: Some(101), ..Resources::default() }).is_err());
}

fn disk() -> Option<(u32, u32)> {
    let text = fs::read_to_string("/proc/partitions").ok()?;
    text.lines().skip(2).find_map(|line| {
        let mut fields = line.split_whitespace();
        let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let name = fields.nth(1)?;
        fs::metadata(format!("/sys/block/{name}")).ok()?;
        Some((major, minor))
    })
}

#[test]
fn block_io_limits_arrive() {
    let Some(nest) = Nest::new() else { return };
    let Some((major, minor)) = disk() else { return };
    let group = nest.group("b");
    let support = nest.hierarchy.support();
    if support.blkio_throttle {
        let rate = |rate| vec![ThrottleDevice { major, minor, rate }];
        group
            .apply(&Resources { blkio_read_bps: rate(1 << 20), blkio_write_iops: rate(100), ..Resources::default() })
            .unwrap();
        assert_eq!(nest.read("blkio", "b", "blkio.throttle.read_bps_device"), format!("{major}:{minor} 1048576"));
        assert_eq!(nest.read("blkio", "b", "blkio.throttle.write_iops_device"), format!("{major}:{minor} 100"));
        group.apply(&Resources { blkio_read_bps: rate(0), ..Resources::default() }).unwrap();
        assert_eq!(nest.read("blkio", "b", "blkio.throttle.read_bps_device"), "");
    }
    let weigh = group.apply(&Resources { blkio_weight: Some(300), ..Resources::default() });
    assert_eq!(weigh.is_ok(), nest.hierarchy.support().blkio_weight, "{weigh:?}");
}

/// Allows `nodes` only, on the version that `apply` uses.
fn only(nodes: &[(u32, u32)]) -> Resources {
    let rule =
        |&(major, minor): &(u32, u32)| DeviceRule::allow(DeviceKind::Char, Some(major), Some(minor), Access::ALL);
    Resources { devices: Some(nodes.iter().map(rule).collect()), ..Resources::default() }
}

const TRY_DEVICES: &str =
    "head -c 1 /dev/zero >/dev/null && echo zero; head -c 1 /dev/urandom >/dev/null && echo random; echo end";

#[test]
fn devices_are_denied_unless_allowed() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("d");
    group.apply(&only(&[(1, 3), (1, 5)])).unwrap();
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "zero\nend\n");
    // Replaced as a whole: what the second list does not name is gone.
    group.apply(&only(&[(1, 3), (1, 9)])).unwrap();
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "random\nend\n");
    group.apply(&Resources { devices: Some(vec![DeviceRule::allow_all()]), ..Resources::default() }).unwrap();
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "zero\nrandom\nend\n");
    group.apply(&Resources { devices: Some(DeviceRule::container_defaults()), ..Resources::default() }).unwrap();
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "zero\nrandom\nend\n");
    assert!(nest.read("devices", "d", "devices.list").lines().any(|l| l == "c 136:* rwm"));
}

#[test]
fn the_kernel_takes_the_v2_device_program() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("e");
    let Some(dir) = group.dir_fd().unwrap() else { return };
    let attach = |resources: &Resources| {
        let rules = resources.devices.as_deref().unwrap();
        let program: OwnedFd = sys::bpf::load_cgroup_device(&cgroup::device_program(rules)).unwrap();
        sys::bpf::replace_cgroup_device(&dir, &program).unwrap();
    };
    attach(&only(&[(1, 3), (1, 5)]));
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "zero\nend\n");
    attach(&only(&[(1, 3), (1, 9)]));
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "random\nend\n");
    let mut read_only = only(&[(1, 3)]);
    let readable = DeviceRule::allow(DeviceKind::Char, Some(1), Some(5), Access::READ);
    read_only.devices.as_mut().unwrap().push(readable);
    attach(&read_only);
    let script = "head -c 1 /dev/zero >/dev/null && echo read; (echo x >/dev/zero) && echo written; echo end";
    assert_eq!(Inmate::start(&group, script).output(), "read\nend\n");
    attach(&Resources { devices: Some(DeviceRule::container_defaults()), ..Resources::default() });
    assert_eq!(Inmate::start(&group, TRY_DEVICES).output(), "zero\nrandom\nend\n");
}

#[test]
fn freezing_and_killing_what_is_frozen() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("f");
    let mut inmate = Inmate::start(&group, "while :; do :; done");
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Thawed);
    group.freeze().unwrap();
    group.freeze().unwrap();
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Frozen);
    let used = || group.stats().unwrap().cpu.total_ns;
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_eq!(used(), before, "a frozen group uses no processor");
    group.thaw().unwrap();
    assert_eq!(group.freezer_state().unwrap(), FreezerState::Thawed);
    group.freeze().unwrap();
    group.kill().unwrap();
    assert_eq!(inmate.0.wait().unwrap().signal(), Some(9));
    group.remove().unwrap();
}

#[test]
fn statistics() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("s");
    group.apply(&Resources { memory: Some(64 << 20), pids_limit: Some(20), ..Resources::default() }).unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo done; exec sleep 1000";
    let mut inmate = Inmate::start(&group, script);
    let mut line = [0u8; 5];
    inmate.0.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    // Frozen, so that the counters stand still between one file and the next.
    group.freeze().unwrap();
    let stats = group.stats().unwrap();
    group.thaw().unwrap();
    assert!(stats.cpu.total_ns > 0 && stats.cpu.user_ns + stats.cpu.system_ns > 0);
    assert_eq!(stats.cpu.percpu_ns.iter().sum::<u64>(), stats.cpu.total_ns);
    assert_eq!(stats.pids.current, 1);
    assert_eq!(stats.pids.limit, Some(20));
    let memory = stats.memory.unwrap();
    assert!(memory.usage > 0 && memory.max_usage.unwrap() >= memory.usage);
    assert_eq!(memory.limit, 64 << 20);
    let names: Vec<&str> = memory.docker().map(|(k, _)| k).collect();
    // The names in a recorded answer of Docker's daemon on this kind of host.
    let recorded = "active_anon active_file cache dirty hierarchical_memory_limit hierarchical_memsw_limit \
        inactive_anon inactive_file mapped_file pgfault pgmajfault pgpgin pgpgout rss rss_huge total_active_anon \
        total_active_file total_cache total_dirty total_inactive_anon total_inactive_file total_mapped_file \
        total_pgfault total_pgmajfault total_pgpgin total_pgpgout total_rss total_rss_huge total_unevictable \
        total_writeback unevictable writeback";
    assert_eq!(names, recorded.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn out_of_memory_is_counted() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("o");
    let mut oom = fs::File::from(group.oom_fd().unwrap().unwrap());
    group.apply(&Resources { memory: Some(8 << 20), memory_swap: Some(8 << 20), ..Resources::default() }).unwrap();
    assert_eq!(group.oom_kills().unwrap(), 0);
    Inmate::start(&group, "x=$(head -c 60000000 /dev/zero | tr '\\0' a); echo alive").output();
    assert!(group.oom_kills().unwrap() > 0);
    let mut text = String::new();
    oom.read_to_string(&mut text).unwrap();
    assert!(text.lines().any(|l| l.starts_with("oom_kill ") && l != "oom_kill 0"), "{text}");
}

#[test]
fn mounts_for_the_container() {
    let Some(nest) = Nest::new() else { return };
    let group = nest.group("m");
    let mounts = group.v1_mounts();
    assert_eq!(group.tasks_fds().unwrap().len(), mounts.len());
    let (dir, name) = mounts.iter().find(|(_, name)| name.split(',').any(|n| n == "memory")).unwrap();
    assert_eq!(dir, &PathBuf::from(format!("/sys/fs/cgroup/{name}{}/m", nest.parent)));
    assert!(dir.is_dir());
}
