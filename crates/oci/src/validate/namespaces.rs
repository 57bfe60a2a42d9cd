//! Rules of namespaces and of what needs one of the container's own (runtime-spec, config-linux.md).

use super::text::{absolute, fault};
use super::{Warnings, mappings};
use crate::fault::shown;
use crate::{Fault, Linux, NamespaceKind, Spec};

pub(super) fn check(spec: &Spec, linux: &Linux, warnings: &mut Warnings) -> Result<(), Fault> {
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
    users(spec, linux, warnings)?;
    time(spec, linux)
}

fn users(spec: &Spec, linux: &Linux, warnings: &mut Warnings) -> Result<(), Fault> {
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
        // Engines that join the namespace of another container give a map because older runtimes insisted on one.
        Some(_) => {
            for (path, _) in given.iter().filter(|(_, is)| *is) {
                warnings.push(path, "is passed over: the user namespace joined has its own");
            }
        }
    }
    Ok(())
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
