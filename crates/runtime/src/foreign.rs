//! What a plan asks to change must belong to the container alone: names and sysctls of a namespace that is the
//! host's are refused before anything exists, whatever the plan says.

use launch::{FailureStage, LaunchPlan, NamespaceSource};
use sys::Errno;

use crate::failure::{At, Failure};
use crate::procfs::sysctl_namespace;
use crate::spawn::Fds;

/// Refuses a host name or sysctl that would change the host.
pub(crate) fn refuse_settings(plan: &LaunchPlan, fds: Fds<'_>) -> Result<(), Failure> {
    if plan.namespaces.mount == NamespaceSource::Host {
        let text = "cannot start without a mount namespace, new or joined: the host's mounts would be changed";
        return Err(Failure::new(FailureStage::Namespace, Errno::INVAL, text));
    }
    let named = !(plan.hostname.is_empty() && plan.domainname.is_empty());
    if named && is_hosts(plan.namespaces.uts, "uts", FailureStage::Hostname, fds)? {
        let text = "cannot set the host name: its namespace is not the container's own";
        return Err(Failure::new(FailureStage::Hostname, Errno::PERM, text));
    }
    for sysctl in &plan.sysctls {
        let stage = FailureStage::Sysctl;
        let refused = match sysctl_namespace(&sysctl.key) {
            Some("net") => is_hosts(plan.namespaces.net, "net", stage, fds)?,
            Some("ipc") => is_hosts(plan.namespaces.ipc, "ipc", stage, fds)?,
            Some("uts") => is_hosts(plan.namespaces.uts, "uts", stage, fds)?,
            _ => true,
        };
        if refused {
            let text = format!("cannot set sysctl {}: it is the host's, not separate per container", sysctl.key);
            return Err(Failure::new(stage, Errno::PERM, text));
        }
    }
    Ok(())
}

/// Whether the namespace is the caller's own.
fn is_hosts(source: NamespaceSource, kind: &str, stage: FailureStage, fds: Fds<'_>) -> Result<bool, Failure> {
    let joined = match source {
        NamespaceSource::New => return Ok(false),
        NamespaceSource::Host => return Ok(true),
        NamespaceSource::Join(index) => fds.get(index)?,
    };
    let what = || format!("look at the {kind} namespace");
    let joined = rustix::fs::fstat(joined).at(stage, what)?;
    let own = rustix::fs::stat(format!("/proc/self/ns/{kind}")).at(stage, what)?;
    Ok((joined.st_dev, joined.st_ino) == (own.st_dev, own.st_ino))
}
