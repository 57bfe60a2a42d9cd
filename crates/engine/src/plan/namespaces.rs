//! Where each namespace of a container comes from: new, the host's, another container's, or the
//! network slot that was prepared. Called by the plan.

use std::os::fd::OwnedFd;

use launch::{NamespaceSet, NamespaceSource};

use super::Fds;
use crate::container::record::Record;
use crate::engine::Inner;
use crate::error::{Result, fail};

pub(super) fn resolve(inner: &Inner, record: &Record, netns: Option<OwnedFd>, fds: &mut Fds) -> Result<NamespaceSet> {
    let host = &record.host_config;
    let mode = |mode: &str, kind: &str, fds: &mut Fds| -> Result<NamespaceSource> {
        match mode {
            "host" => Ok(NamespaceSource::Host),
            other => match other.strip_prefix("container:") {
                Some(donor) => Ok(NamespaceSource::Join(fds.push(open(inner, donor, kind)?))),
                None => Ok(NamespaceSource::New),
            },
        }
    };
    let net = match netns {
        Some(fd) => NamespaceSource::Join(fds.push(fd)),
        None => mode(&host.network_mode, "net", fds)?,
    };
    Ok(NamespaceSet {
        net,
        pid: mode(&host.pid_mode, "pid", fds)?,
        ipc: mode(&host.ipc_mode, "ipc", fds)?,
        uts: mode(&host.uts_mode, "uts", fds)?,
        cgroup: if host.cgroupns_mode == "private" { NamespaceSource::New } else { NamespaceSource::Host },
        ..NamespaceSet::default()
    })
}

/// A namespace of a running container.
fn open(inner: &Inner, donor: &str, kind: &str) -> Result<OwnedFd> {
    let what = match kind {
        "net" => "joining network namespace of container",
        "pid" => "joining PID namespace of container",
        _ => "joining IPC namespace of container",
    };
    let container = inner.containers.get(donor).map_err(|e| e.context(what))?;
    if kind == "ipc" && !matches!(container.record().host_config.ipc_mode.as_str(), "shareable" | "host") {
        return Err(fail!(
            Invalid,
            "failed to join IPC namespace: container {donor}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
        ));
    }
    let pid = container
        .pid()
        .ok_or_else(|| fail!(Conflict, "cannot join network namespace of a non running container: {donor}"))?;
    let path = format!("/proc/{pid}/ns/{kind}");
    let fd = std::fs::File::open(&path).map_err(|e| fail!(Conflict, "{what}: container {donor} is ending: {e}"))?;
    // The process may have ended and its number been taken while we opened the file.
    if container.pid() != Some(pid) {
        return Err(fail!(Conflict, "{what}: container {donor} has ended"));
    }
    Ok(fd.into())
}

/// The name inside: one's own, or that of the container whose network is shared.
pub(super) fn hostname(inner: &Inner, record: &Record) -> String {
    match record.host_config.network_mode.strip_prefix("container:") {
        Some(donor) if record.config.hostname.is_empty() => {
            inner.containers.get(donor).map(|c| c.record().config.hostname.clone()).unwrap_or_default()
        }
        _ => record.config.hostname.clone(),
    }
}
