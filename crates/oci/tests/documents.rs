//! Documents that are right: every field arrives where it belongs, what Go programs and runc write is read.

mod common;

use std::process::Command;

use oci::{IoClass, NamespaceKind, Process, Resources, RlimitKind, SchedulerPolicy, Spec};
use serde_json::{Value, json};

fn spec(document: &Value) -> Spec {
    let spec = Spec::parse(document.to_string().as_bytes()).unwrap();
    assert_eq!(spec.validate().unwrap(), [""; 0], "{document}");
    spec
}

#[test]
fn every_field_of_the_process_is_read() {
    let process = spec(&common::full()).process.unwrap();
    assert!(process.terminal && process.no_new_privileges);
    assert_eq!(process.console_size.map(|size| (size.height, size.width)), Some((25, 80)));
    let user = &process.user;
    assert_eq!((user.uid, user.gid, user.umask, user.additional_gids.as_slice()), (1, 2, Some(0o077), &[5, 6][..]));
    assert_eq!(process.args, ["sh", "-c", "true"]);
    assert_eq!(process.env, ["PATH=/bin", "EMPTY="]);
    assert_eq!(process.cwd, "/work");
    let sets = process.capabilities();
    assert_eq!(
        (sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient),
        (0b10_0001, 1, 1, 1, 1)
    );
    let limits: Vec<_> = process.rlimits.iter().map(|limit| (limit.kind, limit.soft, limit.hard)).collect();
    assert_eq!(limits, [(RlimitKind::OpenFiles, 512, 1024), (RlimitKind::Core, 0, u64::MAX)]);
    assert_eq!(process.apparmor_profile, "acme_secure_profile");
    assert_eq!(process.selinux_label, "system_u:system_r:svirt_lxc_net_t:s0:c124,c675");
    assert_eq!(process.oom_score_adj, Some(100));
    let scheduler = process.scheduler.unwrap();
    assert_eq!((scheduler.policy, scheduler.policy.number()), (SchedulerPolicy::Deadline, 6));
    assert_eq!(scheduler.flag_bits(), 5);
    assert_eq!((scheduler.runtime, scheduler.deadline, scheduler.period), (10_000, 20_000, 30_000));
    let io = process.io_priority.unwrap();
    assert_eq!((io.class, io.value()), (IoClass::BestEffort, 2 << 13 | 4));
    let cpus = process.exec_cpu_affinity.unwrap();
    assert_eq!(cpus.initial.unwrap().words(), [0x8f]);
    assert_eq!(cpus.final_.unwrap().words(), [0, 1]);
}

#[test]
fn every_field_beside_the_process_is_read() {
    let spec = spec(&common::full());
    assert_eq!(spec.oci_version, "1.3.0");
    assert_eq!(spec.root.as_ref().map(|root| (root.path.as_str(), root.readonly)), Some(("rootfs", true)));
    assert_eq!((spec.hostname.as_str(), spec.domainname.as_str()), ("slartibartfast", "foobarbaz.test"));
    assert_eq!(spec.mounts[1].options, ["rbind", "rro", "idmap"]);
    assert!(spec.mounts[1].is_bind() && !spec.mounts[0].is_bind());
    assert_eq!((spec.mounts[1].uid_mappings[0].host_id, spec.mounts[1].gid_mappings[0].size), (100_000, 65_536));
    for (point, hooks) in spec.hooks().all() {
        assert_eq!((hooks[0].path.as_str(), hooks[0].timeout), ("/bin/hook", Some(5)), "{point}");
    }
    assert_eq!(spec.annotations["com.example.gpu-cores"], "2");
    assert_eq!(spec.personality(), Some(8));
    assert_eq!(spec.cgroups_path(), "/myRuntime/myContainer");
    assert_eq!(
        (spec.masked_paths(), spec.readonly_paths()),
        (&["/proc/kcore".to_owned()][..], &["/proc/sys".to_owned()][..])
    );
    assert_eq!(spec.rootfs_propagation(), "rslave");
    assert!(spec.seccomp().is_some_and(seccomp::Profile::notifies));
    assert_eq!(spec.namespace(NamespaceKind::Pid).unwrap().path.as_deref(), Some("/proc/1234/ns/pid"));
    assert!(spec.namespace(NamespaceKind::User).unwrap().path.is_none());
    let linux = spec.linux.as_ref().unwrap();
    assert_eq!((linux.uid_mappings.len(), linux.gid_mappings.len(), linux.sysctl.len()), (1, 1, 3));
    assert_eq!(
        (linux.devices[0].file_mode, linux.devices[0].uid, linux.devices[1].kind.as_str()),
        (Some(0o666), Some(0), "p")
    );
    assert_eq!(
        (linux.net_devices["eth0"].name.as_str(), linux.net_devices["ens4"].name.as_str()),
        ("container_eth0", "")
    );
    assert!(linux.mount_label.starts_with("system_u:object_r"));
    let rdt = linux.intel_rdt.as_ref().unwrap();
    assert_eq!((rdt.clos_id.as_str(), rdt.l3_cache_schema.as_str()), ("guaranteed_group", "L3:0=7f0;1=1f"));
    assert_eq!((rdt.mem_bw_schema.as_str(), rdt.schemata.len()), ("MB:0=20;1=70", 1));
    assert!(rdt.enable_cmt && rdt.enable_mbm && rdt.enable_monitoring);
    let policy = linux.memory_policy.as_ref().unwrap();
    assert_eq!((policy.number(), policy.node_words()), (3 | 1 << 15, vec![3, 2]));
    assert_eq!((linux.time_offsets["monotonic"].nanosecs, linux.time_offsets["boottime"].secs), (999_999_999, -1));
}

#[test]
fn every_limit_is_read() {
    let document = common::full()["linux"]["resources"].to_string();
    let limits = Resources::parse(document.as_bytes()).unwrap();
    assert_eq!(limits.validate().unwrap(), [""; 0]);
    assert_eq!((limits.devices[1].kind.as_deref(), limits.devices[1].minor), (Some("c"), Some(-1)));
    let memory = &limits.memory;
    assert_eq!((memory.limit, memory.reservation, memory.swap), (Some(536_870_912), Some(1), Some(-1)));
    assert_eq!((memory.kernel, memory.kernel_tcp, memory.swappiness), (Some(-1), Some(-1), Some(0)));
    assert_eq!(
        (memory.disable_oom_killer, memory.use_hierarchy, memory.check_before_update),
        (Some(false), Some(true), Some(true))
    );
    let cpu = &limits.cpu;
    assert_eq!(
        (cpu.shares, cpu.quota, cpu.burst, cpu.period),
        (Some(1024), Some(1_000_000), Some(1_000_000), Some(500_000))
    );
    assert_eq!((cpu.realtime_runtime, cpu.realtime_period, cpu.idle), (Some(950_000), Some(1_000_000), Some(0)));
    assert_eq!((cpu.cpus.as_str(), cpu.mems.as_str(), limits.pids.limit), ("2-3", "0-7", Some(32_771)));
    let io = &limits.block_io;
    assert_eq!((io.weight, io.leaf_weight), (Some(10), Some(1000)));
    assert_eq!((io.weight_device[0].weight, io.weight_device[0].leaf_weight), (Some(500), Some(300)));
    for list in [
        &io.throttle_read_bps_device,
        &io.throttle_write_bps_device,
        &io.throttle_read_iops_device,
        &io.throttle_write_iops_device,
    ] {
        assert_eq!((list[0].major, list[0].minor, list[0].rate), (8, 0, 600));
    }
    assert_eq!(limits.hugepage_limits[0].page_size, "2MB");
    assert_eq!((limits.network.class_id, limits.network.priorities[0].priority), (Some(1_048_577), 500));
    assert_eq!((limits.rdma["mlx5_1"].hca_handles, limits.rdma["mlx5_1"].hca_objects), (Some(3), Some(10_000)));
    assert_eq!(limits.unified["hugetlb.1GB.max"], "1");
}

#[test]
fn what_is_absent_is_not_zero() {
    let limits = Resources::parse(br#"{"memory": {"limit": 0}, "pids": {}}"#).unwrap();
    assert_eq!((limits.memory.limit, limits.memory.swap, limits.pids.limit), (Some(0), None, None));
    let process = Process::parse(br#"{"oomScoreAdj": 0}"#).unwrap();
    assert_eq!((process.oom_score_adj, process.user.umask), (Some(0), None));
}

/// Puts `null` in place of everything but the fields that say which of several things something is.
fn nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                match name.as_str() {
                    "ociVersion" | "args" | "cwd" | "path" | "type" | "root" | "process" => {}
                    "linux" => nulls(field),
                    _ => *field = Value::Null,
                }
            }
        }
        other => *other = Value::Null,
    }
}

#[test]
fn null_is_absent() {
    let mut document = common::full();
    nulls(&mut document);
    nulls(&mut document["process"]);
    nulls(&mut document["root"]);
    spec(&document);
    for part in ["memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma", "unified", "devices"] {
        Resources::parse(json!({ part: null }).to_string().as_bytes()).unwrap();
    }
    for (part, fields) in common::full()["linux"]["resources"].as_object().unwrap() {
        // There the names are the document's own, and none stands for nothing.
        if matches!(part.as_str(), "rdma" | "unified") {
            continue;
        }
        for name in fields.as_object().into_iter().flatten().map(|(name, _)| name) {
            Resources::parse(json!({ part: { name: null } }).to_string().as_bytes()).unwrap();
        }
    }
}

#[test]
fn an_empty_namespace_path_is_none() {
    let mut document = common::small();
    document["linux"]["namespaces"][1]["path"] = json!("");
    assert!(spec(&document).namespace(NamespaceKind::Pid).unwrap().path.is_none());
}

#[test]
fn what_runc_writes_is_read() {
    for arguments in [&["spec"][..], &["spec", "--rootless"]] {
        let dir = tempfile::tempdir().unwrap();
        let made = match Command::new("runc").args(arguments).current_dir(dir.path()).status() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            made => made.unwrap(),
        };
        assert!(made.success());
        let text = std::fs::read(dir.path().join("config.json")).unwrap();
        assert_eq!(Spec::parse(&text).unwrap().validate().unwrap(), [""; 0], "{arguments:?}");
    }
}
