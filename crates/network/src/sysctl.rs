//! Kernel settings of the network namespace a thread is in, through `/proc/sys/net`.
//!
//! Names are built from constants and an interface name that `BridgeConfig` has checked, so they cannot lead
//! elsewhere. See the kernel's `Documentation/networking/ip-sysctl.rst`.

use std::io;

use crate::{Error, Result};

/// Where forwarding between links is switched.
pub(crate) const IP_FORWARD: &str = "ipv4/ip_forward";

/// Reads a setting, without the line's end.
pub(crate) fn read(name: &str) -> io::Result<String> {
    Ok(std::fs::read_to_string(path(name))?.trim_end().to_owned())
}

/// Sets a value. Nothing is written when it holds already, since `/proc/sys` may be read-only in a container.
pub(crate) fn set(name: &str, value: &str) -> Result<()> {
    if read(name).is_ok_and(|present| present == value) {
        return Ok(());
    }
    std::fs::write(path(name), value).map_err(Error::io(format!("set sysctl net/{name} to {value}")))
}

/// As [`set`], for settings the kernel may lack (IPv6 switched off).
pub(crate) fn set_if_present(name: &str, value: &str) -> Result<()> {
    match set(name, value) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn path(name: &str) -> String {
    format!("/proc/sys/net/{name}")
}

/// Where forwarding of IPv6 between links is switched.
pub(crate) const IPV6_FORWARD: &str = "ipv6/conf/all/forwarding";

/// Makes links that learn their IPv6 routes from router advertisements go on doing so when the host becomes a router,
/// which by itself would cut the host off (`accept_ra` in `ip-sysctl.rst`).
pub(crate) fn keep_router_advertisements() {
    if read(IPV6_FORWARD).is_ok_and(|value| value == "1") {
        return;
    }
    for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !matches!(*name, "all" | "default" | "lo")) else { continue };
        let setting = format!("ipv6/conf/{name}/accept_ra");
        if read(&setting).is_ok_and(|value| value == "1")
            && let Err(error) = set(&setting, "2")
        {
            tracing::warn!(link = name, %error, "a link may lose the routes it learns from router advertisements");
        }
    }
}
