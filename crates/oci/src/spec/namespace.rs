//! Namespaces (runtime-spec, config-linux.md "Namespaces"). Opened by `oci-runtime`.

use serde::Deserialize;

use crate::parse;
use crate::words::words;

/// A namespace to make or to join.
#[derive(Debug, Clone, Deserialize)]
pub struct Namespace {
    /// Of which kind.
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// File that refers to the one to join; none makes a new one.
    #[serde(default, deserialize_with = "parse::text")]
    pub path: Option<String>,
}

words! {
    /// A kind of namespace (namespaces(7)).
    NamespaceKind: /// Its file below `/proc/PID/ns`.
    file -> &'static str {
        Mount = "mount" => "mnt",
        Network = "network" => "net",
        Pid = "pid" => "pid",
        Ipc = "ipc" => "ipc",
        Uts = "uts" => "uts",
        Cgroup = "cgroup" => "cgroup",
        User = "user" => "user",
        Time = "time" => "time",
    }
}
