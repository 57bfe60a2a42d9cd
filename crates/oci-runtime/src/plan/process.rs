//! `process` of the configuration as the launch plan has it.

use std::path::Path;

use launch::Rlimit;
use oci::Process;

use crate::home;

/// The process, with the filter compiled for it.
pub(crate) fn process(process: &Process, filter: Option<Vec<u8>>, flags: u32, rootfs: &Path) -> launch::Process {
    let capabilities = process.capabilities();
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
        oom_score_adj: process.oom_score_adj,
        umask: process.user.umask.unwrap_or(0o022),
        apparmor: text(&process.apparmor_profile),
        selinux: text(&process.selinux_label),
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
