//! The plan of a further process in a running container. Called by exec and by health checks.

use std::os::fd::OwnedFd;

use cgroup::Cgroup;
use docker_types::exec::ExecCreateBody;
use launch::{ExecPlan, Process};
use sys::path::Root;

use super::{Fds, bounding, capabilities, cgroup_handle, environment, io_mode, limits, namespaces, no_new_privileges};
use crate::container::record::Record;
use crate::engine::Inner;
use crate::error::{Error, Result};
use crate::network::legacy_links;

/// Resolve `body` against the running container whose first process is `pid`.
///
/// # Errors
/// In Docker's words for unknown users; Conflict when the container ends meanwhile.
pub(crate) fn exec_plan(
    inner: &Inner,
    record: &Record,
    pid: i32,
    exec_id: &str,
    body: &ExecCreateBody,
    size: [u64; 2],
    cgroup: &Cgroup,
) -> Result<(ExecPlan, Vec<OwnedFd>)> {
    let (config, host) = (&record.config, &record.host_config);
    let root = Root::open(format!("/proc/{pid}/root")).map_err(|e| Error::io("cannot look into the container", e))?;
    let spec = if body.user.is_empty() { &config.user } else { &body.user };
    let user = super::resolve_user(&root, spec, host.group_add.as_deref().unwrap_or_default())?;

    let hostname = namespaces::hostname(inner, record);
    // Not refused where a target does not run, as it is at the start: an exec may be what mends that.
    let linked = legacy_links::variables(inner, record);
    let mut env = environment::environment(&hostname, body.tty, linked, config.env.as_deref().unwrap_or_default());
    environment::overlay(&mut env, body.env.as_deref().unwrap_or_default());

    let caps = if body.privileged { capabilities::ALL & inner.caps_held } else { bounding(inner, record)? };
    let options = host.security_opt.as_deref().unwrap_or_default();
    let seccomp = if body.privileged && !host.privileged {
        None
    } else {
        inner.filters.resolve(options, host.privileged, caps)?
    };
    let cwd = match (body.working_dir.as_str(), config.working_dir.as_str()) {
        ("", "") => "/",
        ("", own) => own,
        (asked, _) => asked,
    };
    let mut fds = Fds::default();
    let mut group = cgroup_handle(cgroup, &mut fds)?;
    group.v1_mounts.clear();
    let plan = ExecPlan {
        exec_id: exec_id.to_owned(),
        process: Process {
            args: body.cmd.iter().flat_map(|c| c.iter()).map(|w| w.clone().into_bytes()).collect(),
            env: environment::with_home(env, &user.home),
            cwd: cwd.to_owned(),
            uid: user.uid,
            gid: user.gid,
            groups: user.groups,
            bounding: caps,
            permitted: caps,
            effective: caps,
            no_new_privileges: no_new_privileges(options, inner.config.no_new_privileges),
            seccomp,
            rlimits: limits::rlimits(host, &inner.config.default_ulimits),
            oom_score_adj: Some(i32::try_from(host.oom_score_adj).unwrap_or(0)),
            umask: 0o022,
            ..Process::default()
        },
        io: io_mode(body.tty, body.attach_stdin, true, size),
        cgroup: group,
        ..ExecPlan::default()
    };
    Ok((plan, fds.into_inner()))
}

/// Whether `spec` can be resolved in the running container now: told when the exec is created.
///
/// # Errors
/// In Docker's words for unknown users.
pub(crate) fn check_user(record: &Record, pid: i32, spec: &str) -> Result<()> {
    let root = Root::open(format!("/proc/{pid}/root")).map_err(|e| Error::io("cannot look into the container", e))?;
    super::resolve_user(&root, spec, record.host_config.group_add.as_deref().unwrap_or_default()).map(drop)
}
