//! Rules of kernel parameters: only those that belong to a namespace of the container, by a name that cannot lead
//! anywhere else than to its own file.

use std::collections::BTreeMap;

use super::text::{fault, one_line};
use crate::fault::shown;
use crate::{Fault, Linux, NamespaceKind, Spec};

/// Parameters of System V IPC that belong to the IPC namespace (ipc_namespaces(7)).
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

pub(super) fn check(spec: &Spec, linux: &Linux) -> Result<(), Fault> {
    let mut seen = BTreeMap::new();
    for (key, value) in &linux.sysctl {
        let path = format_args!("linux.sysctl.{key}");
        // Between any two separators of either kind there is something: nothing is `.` or `..` or a directory itself.
        if key.contains(['\0', '\n']) || key.split(['.', '/']).any(str::is_empty) {
            let reason = format!("{} is not a name of a kernel parameter; write it as net.ipv4.ip_forward", shown(key));
            return fault("linux.sysctl", reason);
        }
        one_line(path, value)?;
        let Some(kind) = namespace(&dotted(key)) else {
            return fault(path, "is not separate for each container and would change the host; take it out");
        };
        if spec.namespace(kind).is_none() {
            let reason = format!(
                "would change the host; add {{\"type\": \"{}\"}} to linux.namespaces or take it out",
                kind.name()
            );
            return fault(path, reason);
        }
        if let Some(before) = seen.insert(dotted(key), key) {
            let reason = format!("is the same parameter as linux.sysctl.{before}; keep one of the two");
            return fault(path, reason);
        }
        for (parameter, field, name) in
            [("kernel.hostname", "hostname", &spec.hostname), ("kernel.domainname", "domainname", &spec.domainname)]
        {
            if dotted(key) == parameter && !name.is_empty() && name != value {
                let reason = format!("contradicts {field}, which is {}; keep one of the two", shown(name));
                return fault(path, reason);
            }
        }
    }
    Ok(())
}

/// The name with dots between its parts; the first separator says which of the two it was written with (sysctl(8)).
fn dotted(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('/') => key
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => key.to_owned(),
    }
}

/// The namespace a parameter belongs to.
fn namespace(name: &str) -> Option<NamespaceKind> {
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        Some(NamespaceKind::Ipc)
    } else if name.starts_with("net.") {
        Some(NamespaceKind::Network)
    } else if matches!(name, "kernel.hostname" | "kernel.domainname") {
        Some(NamespaceKind::Uts)
    } else {
        None
    }
}
