//! Documents that are written: their names are those that other programs read.

use std::process::Command;

use oci::features::{self, Features};
use oci::stats::{self, Event, EventKind};
use oci::{Spec, State, Status};
use serde_json::{Value, json};

/// Names and forms of a document, without its values.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), shape(field))).collect(),
        Value::Array(items) => items.first().map(shape).into_iter().collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!(0),
        other => other.clone(),
    }
}

#[test]
fn configurations_to_begin_with_are_right() {
    for document in [oci::default_spec(), oci::rootless_spec(1000, 100)] {
        let spec = Spec::parse(document.to_string().as_bytes()).unwrap();
        assert_eq!(spec.validate().unwrap(), [""; 0]);
        assert_eq!(spec.oci_version, oci::VERSION);
    }
    let mine = Spec::parse(oci::rootless_spec(1000, 100).to_string().as_bytes()).unwrap().linux.unwrap();
    assert_eq!((mine.uid_mappings[0].host_id, mine.gid_mappings[0].host_id), (1000, 100));
}

/// Beside runc's own, where it is installed: the same sections, mounts and process but for what newer versions of the
/// specification and of Docker's defaults have added.
#[test]
fn configurations_to_begin_with_are_those_of_runc() {
    for (arguments, mut ours) in
        [(&["spec"][..], oci::default_spec()), (&["spec", "--rootless"], oci::rootless_spec(0, 0))]
    {
        let dir = tempfile::tempdir().unwrap();
        match Command::new("runc").args(arguments).current_dir(dir.path()).status() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            made => assert!(made.unwrap().success()),
        }
        let text = std::fs::read(dir.path().join("config.json")).unwrap();
        let mut theirs: Value = serde_json::from_slice(&text).unwrap();
        for document in [&mut ours, &mut theirs] {
            let fields = document.as_object_mut().unwrap();
            fields.remove("ociVersion");
            fields.remove("hostname");
            document["process"]["capabilities"].as_object_mut().unwrap().remove("ambient");
            let linux = &mut document["linux"];
            linux["namespaces"].as_array_mut().unwrap().retain(|entry| entry["type"] != "cgroup");
            let masked = linux["maskedPaths"].as_array_mut().unwrap();
            masked.retain(|path| path != "/proc/interrupts" && path != "/sys/devices/virtual/powercap");
            masked.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_state_is_that_of_the_specification() {
    let state = State {
        oci_version: "1.2.1".to_owned(),
        id: "box".to_owned(),
        status: Status::Running,
        pid: Some(4422),
        bundle: "/containers/box".to_owned(),
        annotations: [("key".to_owned(), "value".to_owned())].into(),
    };
    let text = serde_json::to_string(&state).unwrap();
    let expected = r#"{"ociVersion":"1.2.1","id":"box","status":"running","pid":4422,"bundle":"/containers/box","annotations":{"key":"value"}}"#;
    assert_eq!(text, expected);
    let again: State = serde_json::from_str(&text).unwrap();
    assert_eq!((again.status, again.pid), (Status::Running, Some(4422)));
    for status in [Status::Creating, Status::Created, Status::Running, Status::Paused, Status::Stopped] {
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
}

#[test]
fn features_are_named_as_the_specification_names_them() {
    let words = || vec!["word".to_owned()];
    let document = Features {
        oci_version_min: "1.0.0".to_owned(),
        oci_version_max: oci::VERSION.to_owned(),
        hooks: words(),
        mount_options: words(),
        linux: Some(features::Linux {
            namespaces: words(),
            capabilities: words(),
            cgroup: Some(features::Cgroup {
                v1: Some(true),
                v2: Some(true),
                systemd: Some(true),
                systemd_user: Some(true),
                rdma: Some(true),
            }),
            seccomp: Some(features::Seccomp {
                enabled: Some(true),
                actions: words(),
                operators: words(),
                archs: words(),
                known_flags: words(),
                supported_flags: words(),
            }),
            apparmor: Some(true.into()),
            selinux: Some(true.into()),
            intel_rdt: Some(features::IntelRdt { enabled: Some(true), ..features::IntelRdt::default() }),
            mount_extensions: Some(features::MountExtensions { idmap: Some(true.into()) }),
            net_devices: Some(true.into()),
            memory_policy: Some(features::MemoryPolicy { modes: words(), flags: words() }),
        }),
        annotations: [("key".to_owned(), "value".to_owned())].into(),
        potentially_unsafe_config_annotations: words(),
    };
    let on = json!({"enabled": true});
    let text = json!(["text"]);
    assert_eq!(
        shape(&serde_json::to_value(&document).unwrap()),
        json!({
            "ociVersionMin": "text", "ociVersionMax": "text", "hooks": text, "mountOptions": text,
            "linux": {
                "namespaces": text, "capabilities": text,
                "cgroup": {"v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true},
                "seccomp": {
                    "enabled": true, "actions": text, "operators": text, "archs": text,
                    "knownFlags": text, "supportedFlags": text,
                },
                "apparmor": on, "selinux": on, "intelRdt": on, "mountExtensions": {"idmap": on},
                "netDevices": on, "memoryPolicy": {"modes": text, "flags": text},
            },
            "annotations": {"key": "text"},
            "potentiallyUnsafeConfigAnnotations": text,
        })
    );
    assert_eq!(serde_json::to_value(Features::default()).unwrap(), json!({"ociVersionMin": "", "ociVersionMax": ""}));
}

#[test]
fn statistics_are_named_as_runc_names_them() {
    let psi = Some(stats::Pressure::default());
    let counter = stats::MemoryEntry { limit: 1, usage: 1, max: 1, failcnt: 1 };
    let io = || vec![stats::BlkioEntry { major: 8, minor: 1, op: "Read".to_owned(), value: 1 }];
    let rdma = || vec![stats::RdmaEntry { device: "mlx5_1".to_owned(), hca_handles: 1, hca_objects: 1 }];
    let data = stats::Stats {
        cpu: stats::Cpu {
            usage: stats::CpuUsage {
                total: 1,
                percpu: vec![1],
                percpu_kernel: vec![1],
                percpu_user: vec![1],
                kernel: 1,
                user: 1,
            },
            throttling: stats::Throttling { periods: 1, throttled_periods: 1, throttled_time: 1 },
            psi,
        },
        cpuset: stats::CpuSet { cpus: vec![1], mems: vec![1], ..stats::CpuSet::default() },
        memory: stats::Memory {
            cache: 1,
            usage: counter,
            swap: counter,
            kernel: counter,
            kernel_tcp: counter,
            raw: [("anon".to_owned(), 1)].into(),
            psi,
        },
        pids: stats::Pids { current: 1, limit: 1 },
        blkio: stats::Blkio {
            io_service_bytes_recursive: io(),
            io_serviced_recursive: io(),
            io_queue_recursive: io(),
            io_service_time_recursive: io(),
            io_wait_time_recursive: io(),
            io_merged_recursive: io(),
            io_time_recursive: io(),
            sectors_recursive: io(),
            psi,
        },
        hugetlb: [("2MB".to_owned(), stats::Hugetlb { usage: 1, max: 1, failcnt: 1 })].into(),
        rdma: Some(stats::Rdma { limit: rdma(), current: rdma() }),
        intel_rdt: stats::IntelRdt {
            l3_cache_info: Some(stats::L3CacheInfo { cbm_mask: "f".to_owned(), min_cbm_bits: 1, num_closids: 1 }),
            l3_cache_schema_root: "x".to_owned(),
            l3_cache_schema: "x".to_owned(),
            mem_bw_info: Some(stats::MemBwInfo {
                bandwidth_gran: 1,
                delay_linear: 1,
                min_bandwidth: 1,
                num_closids: 1,
            }),
            mem_bw_schema_root: "x".to_owned(),
            mem_bw_schema: "x".to_owned(),
            mbm_stats: Some(vec![stats::MbmStats::default()]),
            cmt_stats: Some(vec![stats::CmtStats::default()]),
        },
        network_interfaces: vec![stats::NetworkInterface::default()],
    };
    let event = Event { kind: EventKind::Stats, id: "box".to_owned(), data: Some(Box::new(data)) };
    let line = json!({"avg10": 0, "avg60": 0, "avg300": 0, "total": 0});
    let psi = json!({"some": line, "full": line});
    let counter = json!({"limit": 0, "usage": 0, "max": 0, "failcnt": 0});
    let io = json!([{"major": 0, "minor": 0, "op": "text", "value": 0}]);
    let rdma = json!([{"device": "text", "hcaHandles": 0, "hcaObjects": 0}]);
    assert_eq!(
        shape(&serde_json::to_value(&event).unwrap()),
        json!({"type": "text", "id": "text", "data": {
            "cpu": {
                "usage": {
                    "total": 0, "percpu": [0], "percpu_kernel": [0], "percpu_user": [0], "kernel": 0, "user": 0,
                },
                "throttling": {"periods": 0, "throttledPeriods": 0, "throttledTime": 0},
                "psi": psi,
            },
            "cpuset": {
                "cpus": [0], "cpu_exclusive": 0, "mems": [0], "mem_hardwall": 0, "mem_exclusive": 0,
                "memory_migrate": 0, "memory_spread_page": 0, "memory_spread_slab": 0, "memory_pressure": 0,
                "sched_load_balance": 0, "sched_relax_domain_level": 0,
            },
            "memory": {
                "cache": 0, "usage": counter, "swap": counter, "kernel": counter, "kernelTCP": counter,
                "raw": {"anon": 0}, "psi": psi,
            },
            "pids": {"current": 0, "limit": 0},
            "blkio": {
                "ioServiceBytesRecursive": io, "ioServicedRecursive": io, "ioQueueRecursive": io,
                "ioServiceTimeRecursive": io, "ioWaitTimeRecursive": io, "ioMergedRecursive": io,
                "ioTimeRecursive": io, "sectorsRecursive": io, "psi": psi,
            },
            "hugetlb": {"2MB": {"usage": 0, "max": 0, "failcnt": 0}},
            "rdma": {"limit": rdma, "current": rdma},
            "intel_rdt": {
                "l3_cache_info": {"cbm_mask": "text", "min_cbm_bits": 0, "num_closids": 0},
                "l3_cache_schema_root": "text", "l3_cache_schema": "text",
                "mem_bw_info": {"bandwidth_gran": 0, "delay_linear": 0, "min_bandwidth": 0, "num_closids": 0},
                "mem_bw_schema_root": "text", "mem_bw_schema": "text",
                "mbm_stats": [{"mbm_total_bytes": 0, "mbm_local_bytes": 0}],
                "cmt_stats": [{"llc_occupancy": 0}],
            },
            "network_interfaces": [{
                "Name": "text", "RxBytes": 0, "RxPackets": 0, "RxErrors": 0, "RxDropped": 0,
                "TxBytes": 0, "TxPackets": 0, "TxErrors": 0, "TxDropped": 0,
            }],
        }})
    );
    let killed = Event { kind: EventKind::Oom, id: "box".to_owned(), data: None };
    assert_eq!(serde_json::to_string(&killed).unwrap(), r#"{"type":"oom","id":"box"}"#);
    let idle = serde_json::to_value(stats::Stats::default()).unwrap();
    assert_eq!(
        (&idle["pids"], &idle["blkio"], &idle["cpu"]["usage"]),
        (&json!({}), &json!({}), &json!({"kernel": 0, "user": 0}))
    );
}
