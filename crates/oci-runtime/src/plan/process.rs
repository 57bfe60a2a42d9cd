//! `process` of the configuration as the launch plan has it.

use std::path::Path;

use launch::{MemoryPolicy, Rlimit, Scheduler};
use oci::{CpuList, Process, Spec};

use crate::{caller, home};

/// The process, with the filter compiled for it.
pub(crate) fn process(process: &Process, filter: Option<Vec<u8>>, flags: u32, rootfs: &Path) -> launch::Process {
    let capabilities = process.capabilities();
    let affinity = process.exec_cpu_affinity.as_ref();
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    launch::Process {
        args: process.args.iter().map(|arg| arg.as_bytes().to_vec()).collect(),
        env: environment(process, rootfs),
        cwd: process.cwd.clone(),
        uid: process.user.uid,
        gid: process.user.gid,
        groups: process.user.additional_gids.clone(),
        bounding: capabilities.bounding,
        permitted: capabilities.permitted,
        effective: capabilities.effective,
        inheritable: capabilities.inheritable,
        ambient: capabilities.ambient,
        no_new_privileges: process.no_new_privileges,
        seccomp: filter,
        seccomp_flags: flags,
        rlimits: process
            .rlimits
            .iter()
            .map(|limit| Rlimit { resource: limit.kind.number(), soft: limit.soft, hard: limit.hard, optional: false })
            .collect(),
        oom_score_adj: process.oom_score_adj.map(allowed_oom_score),
        umask: process.user.umask.unwrap_or(0o022),
        apparmor: text(&process.apparmor_profile),
        selinux: text(&process.selinux_label),
        scheduler: process.scheduler.as_ref().map(|scheduler| Scheduler {
            policy: scheduler.policy.number(),
            nice: scheduler.nice,
            priority: u32::try_from(scheduler.priority).unwrap_or(0),
            flags: scheduler.flag_bits(),
            runtime: scheduler.runtime,
            deadline: scheduler.deadline,
            period: scheduler.period,
        }),
        io_priority: process.io_priority.as_ref().map(oci::IoPriority::value),
        initial_cpus: affinity.and_then(|affinity| affinity.initial.as_ref()).map(CpuList::words),
        final_cpus: affinity.and_then(|affinity| affinity.final_.as_ref()).map(CpuList::words),
        ..launch::Process::default()
    }
}

/// The environment, with a home directory where it names none.
fn environment(process: &Process, rootfs: &Path) -> Vec<Vec<u8>> {
    let mut env: Vec<Vec<u8>> = process.env.iter().map(|item| item.as_bytes().to_vec()).collect();
    if !process.env.iter().any(|item| item.starts_with("HOME=")) {
        env.push(format!("HOME={}", home::of(process.user.uid, rootfs)).into_bytes());
    }
    env
}

/// Where memory is to be taken from, of `linux.memoryPolicy`.
pub(crate) fn memory_policy(spec: &Spec) -> Option<MemoryPolicy> {
    let policy = spec.linux.as_ref()?.memory_policy.as_ref()?;
    Some(MemoryPolicy { mode: policy.number(), nodes: policy.node_words() })
}

/// Only the host's root may be spared more than it is; for others the score stays then, as with other runtimes.
fn allowed_oom_score(wanted: i32) -> i32 {
    if !caller::is_rootless() {
        return wanted;
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok());
    own.map_or(wanted, |own: i32| own.max(wanted))
}
