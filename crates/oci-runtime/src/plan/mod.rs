//! From a validated configuration to a launch plan: every name becomes a number, what the kernel is to be asked for is
//! spelled out, and what only the caller may open is opened here.

mod devices;
mod mounts;
mod namespaces;
mod options;
pub(crate) mod process;

use std::os::fd::OwnedFd;

use launch::{Clock, FdIndex, IoMode, LaunchPlan, LogConfig, NamespaceSource, RootFs, Sysctl, Terminal, TimeOffset};
use oci::{Process, Spec};

pub(crate) use options::Options;

use crate::bundle::Bundle;
use crate::caller;
use crate::create::Wishes;
use crate::error::{Doing, Result};
use crate::filter::Filter;
use crate::network::Network;

/// Descriptors that go with a plan.
#[derive(Debug, Default)]
pub(crate) struct Fds(Vec<OwnedFd>);

impl Fds {
    pub(crate) fn push(&mut self, fd: OwnedFd) -> FdIndex {
        self.0.push(fd);
        // The limit of open files is far below.
        FdIndex::try_from(self.0.len() - 1).unwrap_or(FdIndex::MAX)
    }

    pub(crate) fn into_inner(self) -> Vec<OwnedFd> {
        self.0
    }
}

/// A plan, its descriptors, and what the parent has to do for a child that may not.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) plan: LaunchPlan,
    pub(crate) fds: Fds,
    pub(crate) limits: ParentLimits,
    /// The network namespace, which the plan does not name yet.
    pub(crate) network: Option<Network>,
}

/// Limits of a process in a user namespace, which cannot raise its own.
#[derive(Debug, Default)]
pub(crate) struct ParentLimits {
    rlimits: Vec<launch::Rlimit>,
    oom_score_adj: Option<i32>,
}

impl ParentLimits {
    /// Sets them for the child `pid`, which waits.
    ///
    /// # Errors
    /// What prlimit(2) and `/proc/PID/oom_score_adj` (proc(5)) say.
    pub(crate) fn apply(&self, pid: i32) -> Result<()> {
        for limit in &self.rlimits {
            sys::process::set_rlimit_of(pid, limit.resource, limit.soft, limit.hard)
                .doing(|| format!("set resource limit {} to {}:{}", limit.resource, limit.soft, limit.hard))?;
        }
        if let Some(score) = self.oom_score_adj {
            std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string())
                .doing(|| format!("set oom_score_adj {score}"))?;
        }
        Ok(())
    }
}

/// Builds the plan, but for the control group, which is made later. Nothing is changed by it.
///
/// # Errors
/// What cannot be opened, and what this host or runtime cannot do, by name.
pub(crate) fn assemble(
    id: &str,
    bundle: &Bundle,
    process: &Process,
    filter: Filter,
    wishes: &Wishes,
) -> Result<Assembled> {
    let spec = &bundle.spec;
    let mut fds = Fds::default();
    let namespaces = namespaces::resolve(spec, &mut fds)?;
    let in_user_namespace = namespaces.user != NamespaceSource::Host;
    // What the container's root may not reach is opened by who may.
    let opened_by_us = in_user_namespace && rustix::process::geteuid().is_root();
    let mounts = mounts::mounts(bundle, in_user_namespace, opened_by_us, &mut fds)?;
    let mut launch = process::process(process, filter.program, filter.flags, &bundle.rootfs);
    launch.preserve_fds = wishes.preserve_fds.saturating_add(wishes.listen_fds);
    if wishes.listen_fds > 0 {
        launch.env.push(format!("LISTEN_FDS={}", wishes.listen_fds).into_bytes());
        launch.env.push(b"LISTEN_PID=1".to_vec());
    }
    // "Not applicable for the container's init process" (runtime-spec, `execCPUAffinity`).
    (launch.initial_cpus, launch.final_cpus) = (None, None);
    launch.personality = spec.personality();
    launch.memory_policy = process::memory_policy(spec);
    let mut limits = ParentLimits::default();
    if namespaces.user == NamespaceSource::New {
        limits.rlimits = std::mem::take(&mut launch.rlimits);
        limits.oom_score_adj = launch.oom_score_adj.take();
    }
    let root = bundle.rootfs.display().to_string();
    let hooks = spec.hooks();
    let needs_place =
        !(hooks.prestart.is_empty() && hooks.create_runtime.is_empty() && hooks.create_container.is_empty());
    let rootfs = if opened_by_us && !needs_place {
        let tree = sys::mount::clone_tree(rustix::fs::CWD, &bundle.rootfs, true)
            .doing(|| format!("open the root file system {root:?}"))?;
        RootFs::DetachedLast(fds.push(tree))
    } else {
        RootFs::Directory(root)
    };
    let plan = LaunchPlan {
        container_id: id.to_owned(),
        namespaces,
        rootfs,
        no_pivot: wishes.no_pivot,
        root_propagation: options::root_propagation(spec.rootfs_propagation()),
        time_offsets: time_offsets(spec),
        shared_keyring: wishes.no_new_keyring,
        devices: devices::nodes(spec),
        bind_devices: caller::is_mapped(),
        masked_paths: spec.masked_paths().to_vec(),
        readonly_paths: spec.readonly_paths().to_vec(),
        readonly_rootfs: spec.root.as_ref().is_some_and(|root| root.readonly),
        sysctls: sysctls(spec),
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        mounts,
        process: launch,
        io: io(process),
        log: LogConfig::None,
        ..LaunchPlan::default()
    };
    // Last: to map the ids of a mount takes a process of its own, and so a caller without threads.
    Ok(Assembled { plan, fds, limits, network: Network::begin(spec) })
}

fn io(process: &Process) -> IoMode {
    if process.terminal {
        IoMode::Terminal(Terminal { rows: 0, cols: 0, stdin: true, stdin_once: false })
    } else {
        IoMode::default()
    }
}

fn time_offsets(spec: &Spec) -> Vec<TimeOffset> {
    let offsets = spec.linux.as_ref().map(|linux| &linux.time_offsets);
    let offset = |(name, offset): (&String, &oci::TimeOffset)| TimeOffset {
        clock: if name == "monotonic" { Clock::Monotonic } else { Clock::Boottime },
        seconds: offset.secs,
        nanoseconds: offset.nanosecs,
    };
    offsets.into_iter().flatten().map(offset).collect()
}

fn sysctls(spec: &Spec) -> Vec<Sysctl> {
    let sysctls = spec.linux.as_ref().map(|linux| &linux.sysctl);
    sysctls
        .into_iter()
        .flatten()
        .map(|(key, value)| Sysctl { key: key.clone(), value: value.clone(), optional: false })
        .collect()
}
