//! Rules of namespaces and of what needs one of the container's own (runtime-spec, config-linux.md).

use super::mappings;
use super::text::{absolute, fault};
use crate::fault::shown;
use crate::{Fault, IdMapping, Linux, NamespaceKind, Spec};

pub(super) fn check(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    for (at, namespace) in linux.namespaces.iter().enumerate() {
        if let Some(before) = linux.namespaces[..at].iter().position(|other| other.kind == namespace.kind) {
            let reason = format!(
                "{} is named by linux.namespaces[{before}] already; keep one of the entries",
                namespace.kind.name()
            );
            return fault(format_args!("linux.namespaces[{at}].type"), reason);
        }
        if let Some(path) = &namespace.path {
            absolute(format_args!("linux.namespaces[{at}].path"), path)?;
        }
    }
    users(spec, linux)?;
    time(spec, linux)
}

fn users(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    const UIDS: &str = "linux.uidMappings";
    const GIDS: &str = "linux.gidMappings";
    mappings::check(UIDS, &linux.uid_mappings)?;
    mappings::check(GIDS, &linux.gid_mappings)?;
    let given = [(UIDS, !linux.uid_mappings.is_empty()), (GIDS, !linux.gid_mappings.is_empty())];
    match spec.namespace(NamespaceKind::User) {
        None => {
            if let Some((path, _)) = given.iter().find(|(_, is)| *is) {
                let reason = "needs a user namespace; add {\"type\": \"user\"} to linux.namespaces or take it out";
                return fault(path, reason);
            }
        }
        Some(namespace) if namespace.path.is_none() => {
            if let Some((path, _)) = given.iter().find(|(_, is)| !*is) {
                return fault(path, "is missing; a new user namespace needs its user and group ids mapped");
            }
        }
        // Engines that join the namespace of another container give that container's map beside. It is not written
        // again but serves for mounts with mapped owners, and so needs no word.
        Some(_) => return Ok(()),
    }
    ids_of_process(spec, linux)
}

/// The ids the process is to have must be there; setresuid(2) says no more than EINVAL.
fn ids_of_process(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    let Some(process) = spec.process.as_ref().filter(|_| spec.namespace(NamespaceKind::User).is_some()) else {
        return Ok(());
    };
    let mapped = |path: std::fmt::Arguments<'_>, id: u32, list: &str, maps: &[IdMapping]| {
        // The sums were looked at with the mappings.
        if maps.iter().any(|map| (map.container_id..map.container_id + map.size).contains(&id)) {
            return Ok(());
        }
        fault(path, format!("{id} is not mapped by linux.{list}; map it there or choose another"))
    };
    let user = &process.user;
    mapped(format_args!("process.user.uid"), user.uid, "uidMappings", &linux.uid_mappings)?;
    mapped(format_args!("process.user.gid"), user.gid, "gidMappings", &linux.gid_mappings)?;
    user.additional_gids.iter().enumerate().try_for_each(|(at, gid)| {
        mapped(format_args!("process.user.additionalGids[{at}]"), *gid, "gidMappings", &linux.gid_mappings)
    })
}

fn time(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    for (clock, offset) in &linux.time_offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            let reason = format!("{} is no clock with an offset; write monotonic or boottime", shown(clock));
            return fault("linux.timeOffsets", reason);
        }
        if offset.nanosecs >= 1_000_000_000 {
            let reason = format!("{} is a second or more; write 0 to 999999999", offset.nanosecs);
            return fault(format_args!("linux.timeOffsets.{clock}.nanosecs"), reason);
        }
    }
    let new = spec.namespace(NamespaceKind::Time).is_some_and(|namespace| namespace.path.is_none());
    if !linux.time_offsets.is_empty() && !new {
        return fault(
            "linux.timeOffsets",
            "needs a new time namespace; add {\"type\": \"time\"} to linux.namespaces, without path, or take it out",
        );
    }
    Ok(())
}
