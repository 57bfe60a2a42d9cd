//! Rules of mounts (runtime-spec, config.md "Mounts"), among them what may be mounted over `/proc`: there the runtime
//! writes what confines the container, and programs trust what they read.

use super::text::{clean_path, fault, no_nul, no_nuls};
use super::{Warnings, mappings};
use crate::fault::shown;
use crate::{Fault, Mount, NamespaceKind, Spec};

/// Files of `/proc` that may be replaced one by one, as lxcfs and hosts in FIPS mode do.
const PROC_REPLACEABLE: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

pub(super) fn check(spec: &Spec, warnings: &mut Warnings) -> Result<(), Fault> {
    spec.mounts.iter().enumerate().try_for_each(|(at, mount)| {
        one(at, mount, warnings)?;
        owners(at, mount, spec)
    })
}

fn one(at: usize, mount: &Mount, warnings: &mut Warnings) -> Result<(), Fault> {
    let destination = &mount.destination;
    if destination.is_empty() {
        return fault(format_args!("mounts[{at}].destination"), "is empty; write where in the container to mount");
    }
    no_nul(format_args!("mounts[{at}].destination"), destination)?;
    no_nul(format_args!("mounts[{at}].type"), &mount.kind)?;
    no_nul(format_args!("mounts[{at}].source"), &mount.source)?;
    no_nuls(format_args!("mounts[{at}].options"), &mount.options)?;
    if !destination.starts_with('/') {
        warnings.push(
            format_args!("mounts[{at}].destination"),
            format!("{} is not absolute; it is taken as if it began with /", shown(destination)),
        );
    }
    if mount.kind.is_empty() && !mount.is_bind() {
        let reason = "is missing and no option says bind; name the file system";
        return fault(format_args!("mounts[{at}].type"), reason);
    }
    if mount.is_bind() && mount.source.is_empty() {
        return fault(format_args!("mounts[{at}].source"), "is empty; name what to bind");
    }
    below_proc(at, mount)?;
    let uids = format!("mounts[{at}].uidMappings");
    let gids = format!("mounts[{at}].gidMappings");
    mappings::check(&uids, &mount.uid_mappings)?;
    mappings::check(&gids, &mount.gid_mappings)?;
    mappings::both(&uids, &mount.uid_mappings, &gids, &mount.gid_mappings)
}

/// Mapped owners of files: of a bind mount, by mappings of its own or those of the container's user namespace.
fn owners(at: usize, mount: &Mount, spec: &Spec) -> Result<(), Fault> {
    let asked = mount.options.iter().any(|word| word == "idmap" || word == "ridmap");
    let own = !mount.uid_mappings.is_empty();
    if (asked || own) && !mount.is_bind() {
        let reason = "asks for mapped owners, which only a bind mount can have; take idmap and the mappings out";
        return fault(format_args!("mounts[{at}]"), reason);
    }
    if asked && !own && spec.namespace(NamespaceKind::User).is_none() {
        let reason = "is missing, and there is no user namespace whose mappings could be used; give both mappings";
        return fault(format_args!("mounts[{at}].uidMappings"), reason);
    }
    Ok(())
}

fn below_proc(at: usize, mount: &Mount) -> Result<(), Fault> {
    let path = clean_path(&mount.destination);
    if path == "/proc" {
        if mount.kind == "proc" || mount.is_bind() {
            return Ok(());
        }
        let reason = format!("{} may not be mounted at /proc; use proc there, or mount elsewhere", shown(&mount.kind));
        return fault(format_args!("mounts[{at}].type"), reason);
    }
    if path.starts_with("/proc/") && !PROC_REPLACEABLE.contains(&path.as_str()) {
        let reason = format!(
            "{} is inside /proc, where only single files such as /proc/meminfo may be replaced; mount elsewhere",
            shown(&mount.destination)
        );
        return fault(format_args!("mounts[{at}].destination"), reason);
    }
    Ok(())
}
