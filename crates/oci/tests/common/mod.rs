//! Documents the tests begin with: a small one that is right, and one with every field of the specification.

use serde_json::{Value, json};

/// What a bundle needs and the namespaces most rules are about.
#[must_use]
pub fn small() -> Value {
    json!({
        "ociVersion": "1.2.1",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["sh"], "env": ["PATH=/bin"], "cwd": "/"},
        "root": {"path": "rootfs"},
        "linux": {"namespaces": [
            {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"},
            {"type": "cgroup"}, {"type": "time"},
        ]},
    })
}

/// Every field of versions up to 1.3.0 that is about Linux.
#[must_use]
pub fn full() -> Value {
    let mapping = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    let hook = json!([{"path": "/bin/hook", "args": ["hook", "x"], "env": ["A=b"], "timeout": 5}]);
    let rates = json!([{"major": 8, "minor": 0, "rate": 600}]);
    json!({
        "ociVersion": "1.3.0",
        "process": {
            "terminal": true,
            "consoleSize": {"height": 25, "width": 80},
            "user": {"uid": 1, "gid": 2, "umask": 63, "additionalGids": [5, 6], "username": "x"},
            "args": ["sh", "-c", "true"],
            "commandLine": "windows only",
            "env": ["PATH=/bin", "EMPTY="],
            "cwd": "/work",
            "capabilities": {
                "bounding": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_CHOWN"],
                "permitted": ["CAP_CHOWN"],
                "ambient": ["CAP_CHOWN"],
            },
            "rlimits": [
                {"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 512},
                {"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0},
            ],
            "noNewPrivileges": true,
            "apparmorProfile": "acme_secure_profile",
            "oomScoreAdj": 100,
            "scheduler": {
                "policy": "SCHED_DEADLINE", "nice": 0, "priority": 0,
                "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"],
                "runtime": 10_000, "deadline": 20_000, "period": 30_000,
            },
            "selinuxLabel": "system_u:system_r:svirt_lxc_net_t:s0:c124,c675",
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4},
            "execCPUAffinity": {"initial": "0-3,7", "final": "64"},
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "slartibartfast",
        "domainname": "foobarbaz.test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/data", "type": "bind", "source": "/volumes/data", "options": ["rbind", "rro", "idmap"],
             "uidMappings": mapping, "gidMappings": mapping},
        ],
        "hooks": {
            "prestart": hook, "createRuntime": hook, "createContainer": hook,
            "startContainer": hook, "poststart": hook, "poststop": hook,
        },
        "annotations": {"com.example.gpu-cores": "2"},
        "linux": {
            "uidMappings": mapping,
            "gidMappings": mapping,
            "sysctl": {"net.ipv4.ip_forward": "1", "net/core/somaxconn": "256", "kernel.shmmax": "1"},
            "resources": {
                "devices": [
                    {"allow": false, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 10, "minor": -1, "access": "rw"},
                ],
                "memory": {
                    "limit": 536_870_912, "reservation": 1, "swap": -1, "kernel": -1, "kernelTCP": -1,
                    "swappiness": 0, "disableOOMKiller": false, "useHierarchy": true, "checkBeforeUpdate": true,
                },
                "cpu": {
                    "shares": 1024, "quota": 1_000_000, "burst": 1_000_000, "period": 500_000,
                    "realtimeRuntime": 950_000, "realtimePeriod": 1_000_000, "cpus": "2-3", "mems": "0-7", "idle": 0,
                },
                "pids": {"limit": 32_771},
                "blockIO": {
                    "weight": 10, "leafWeight": 1000,
                    "weightDevice": [{"major": 8, "minor": 0, "weight": 500, "leafWeight": 300}],
                    "throttleReadBpsDevice": rates, "throttleWriteBpsDevice": rates,
                    "throttleReadIOPSDevice": rates, "throttleWriteIOPSDevice": rates,
                },
                "hugepageLimits": [{"pageSize": "2MB", "limit": 9_223_372_036_854_772_000_u64}],
                "network": {"classID": 1_048_577, "priorities": [{"name": "eth0", "priority": 500}]},
                "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10_000}},
                "unified": {"io.max": "259:0 rbps=2097152 wiops=120\n253:0 rbps=2097152", "hugetlb.1GB.max": "1"},
            },
            "cgroupsPath": "/myRuntime/myContainer",
            "namespaces": [
                {"type": "pid", "path": "/proc/1234/ns/pid"}, {"type": "network", "path": "/var/run/netns/neta"},
                {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "user"}, {"type": "cgroup"},
                {"type": "time"},
            ],
            "devices": [
                {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 438, "uid": 0, "gid": 0},
                {"path": "/dev/pipe", "type": "p"},
            ],
            "netDevices": {"eth0": {"name": "container_eth0"}, "ens4": {}},
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/listener.sock",
                "listenerMetadata": "x",
                "syscalls": [
                    {"names": ["getcwd", "chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38,
                     "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]},
                    {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
                ],
            },
            "rootfsPropagation": "rslave",
            "maskedPaths": ["/proc/kcore"],
            "readonlyPaths": ["/proc/sys"],
            "mountLabel": "system_u:object_r:svirt_sandbox_file_t:s0:c715,c811",
            "intelRdt": {
                "closID": "guaranteed_group", "l3CacheSchema": "L3:0=7f0;1=1f", "memBwSchema": "MB:0=20;1=70",
                "schemata": ["L2:0=f"], "enableCMT": true, "enableMBM": true, "enableMonitoring": true,
            },
            "memoryPolicy": {"mode": "MPOL_INTERLEAVE", "nodes": "0-1,65", "flags": ["MPOL_F_STATIC_NODES"]},
            "personality": {"domain": "LINUX32", "flags": []},
            "timeOffsets": {"monotonic": {"secs": 172_800, "nanosecs": 999_999_999}, "boottime": {"secs": -1}},
        },
        "windows": {"layerFolders": ["C:\\"]},
        "vm": {"kernel": {"path": "/vmlinuz"}},
        "somethingNewer": [1, {"a": null}],
    })
}
